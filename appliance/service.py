"""What a module is made of: services that run, and files that are rendered for them."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from appliance.config import Config

ASKED, ANSWERED = "wishes", "answers"  # folders of the admin's process and of root, below `paths.state`


def python(module: str) -> list[str]:
    """A module of ours as a process."""
    return [sys.executable, "-m", "appliance.lean", module]


@dataclass(frozen=True)
class Service:
    """One long-running process, started alike by systemd and by supervisor.

    `command` is given the configuration; capabilities are names without `CAP_`; `groups` are supplementary.
    `reads` names the sections of the configuration that the process itself reads: it is restarted when they
    change. `forks` marks a program whose workers outlive a killed parent. `disk` is for who works on the data disk, as
    it comes and goes. A service that isn't `wanted` isn't run:
    one that ran until now is asked by `close` to end what users have going on, and once it is stopped `clear` takes
    away what it leaves in the kernel. Both are root's, and given the configuration that it ran by.
    """

    name: str
    description: str
    user: str
    command: Callable[[Config], list[str]]
    groups: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: Callable[[Config], list[Path]] = lambda config: []
    environment: tuple[tuple[str, str], ...] = ()
    umask: int = 0o007
    forks: bool = False
    disk: bool = False
    wanted: Callable[[Config], bool] = lambda config: True
    close: Callable[[Config], None] | None = None
    clear: Callable[[Config], None] | None = None

    @property
    def unit(self) -> str:
        return f"gatehouse-{self.name}"


@dataclass(frozen=True)
class File:
    """A rendered file below `paths.run`; when its text changes, the services in `restarts` are restarted."""

    path: str
    text: str
    group: str
    restarts: tuple[str, ...]
    owner: str = "root"
    mode: int = 0o640


@dataclass(frozen=True)
class Directory:
    """A directory that services share or own, below `paths.state`, `paths.run` or on the data disk, if it is there.

    The admin's pages write in one that is `written_by_pages`: there is no service between them and what is in it.
    """

    base: Literal["state", "run", "data"]
    path: str
    owner: str
    group: str
    mode: int
    written_by_pages: bool = False


@dataclass(frozen=True)
class Database:
    """A module's own SQLite file below `paths.state`, which a backup has as it was when the core database was so.

    `migrations` is the package of its numbered ones; `verify` yields what is wrong with a file that is to come back.
    With PostgreSQL it is a `schema` beside the core database, where it has one; `check` yields what is wrong with an
    open one.
    """

    path: str
    owner: str
    group: str
    migrations: str
    verify: Callable[[Path], Iterable[str]]
    schema: str = ""
    check: Callable[[Any], Iterable[str]] = lambda database: ()


class Attention(NamedTuple):
    """One line about what somebody should look at, and the page where that is."""

    text: str
    url: str


class Point(NamedTuple):
    """One bar of a chart; `words` are the value as people say it."""

    label: str
    value: int
    words: str


class Tile(NamedTuple):
    """A figure of the first page, and the list behind it; perhaps what it is made of, or how it came about."""

    figure: str
    title: str
    url: str
    parts: Sequence[Attention] = ()
    points: Sequence[Point] = ()


class Hit(NamedTuple):
    """One find of the search, and its page. `exact` is what was typed itself, not only what begins like it.

    `beside` is about what other hits show: whoever typed their exact name is led there all the same.
    """

    group: str
    title: str
    url: str
    note: str = ""
    exact: bool = False
    beside: bool = False


class Search(NamedTuple):
    """`find` yields what fits a text that somebody typed, a few of each kind, by indexes only.

    `taught` says what can be found, and by what, to those who found nothing.
    """

    find: Callable[[Config, str], Iterable[Hit]]
    taught: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Setting:
    """A key of the configuration, `section.key`, that an owner may change on a page, and so by a wish.

    Nothing that could make root do something else: no path, user, command or address that the pages stand on. `kind`
    says how it is typed where its type doesn't: `device`, `zone`, `text` of several lines; or the values there are,
    parted by `|`.
    """

    key: str
    title: str
    help: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Upload:
    """A file that a wish may bring. It lands at one of `paths` below `paths.state`, and takes the others' place.

    `place` says at which, and raises UserError for what it mustn't be. Only root and `group` read it; `sets`
    are keys of the configuration that name it from then on.
    """

    name: str
    title: str
    help: str
    paths: tuple[str, ...]
    max_bytes: int
    place: Callable[[bytes], str]
    group: str = "root"
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Settings on one page, at /settings/NAME."""

    name: str
    title: str
    settings: tuple[Setting, ...]
    uploads: tuple[Upload, ...] = ()


class Step(NamedTuple):
    """A page of the first run; `done` reads the open core database."""

    path: str
    title: str
    done: Callable[[Config], bool]


@dataclass(frozen=True)
class Module:
    """A part of the product that is activated on its own.

    `render` reads the open core database; `verify` raises UserError before anything is installed: the rendered
    files lie below the `paths.run` that it is given. `problems` are lines about what doesn't answer now; where a disk
    or another machine may be to blame, `own_problems` are those that an update is judged by. `lines` are what
    `gatehouse status` says, at once. `sites` are server blocks for nginx.conf. `web` names the Python modules
    whose PAGES join the admin's, `checks` those whose CHECKS join the doctor's.
    `attention` and `tiles` are on its first page. Both read the open core database, at a time in UTC seconds.
    `search` is asked for each text that is typed into the search.
    `beside_pages` names Python modules whose `start(config)` the admin's process calls before it serves pages.
    `api` names the Python modules whose RESOURCES join the API, `metrics` those whose Collector joins /metrics.
    `summary` is what it does, in a sentence. `settings` are the pages of what owners may change without a shell.
    `steps` are those of the first run once it is active, `after_setup` pages (URL, title) to look at afterwards.
    `keeps` are files below `paths.state` that a backup has beside the core database, the keys and what is enabled,
    `databases` those that it copies as they are at one moment with that.
    """

    name: str
    title: str
    chapter: str
    services: tuple[Service, ...]
    directories: tuple[Directory, ...]
    render: Callable[[Config], list[File]]
    verify: Callable[[Config], None]
    problems: Callable[[Config], Iterable[str]]
    own_problems: Callable[[Config], Iterable[str]] | None = None
    lines: Callable[[Config], Iterable[str]] = lambda config: ()
    sites: Callable[[Config], Iterable[str]] = lambda config: ()
    web: tuple[str, ...] = ()
    beside_pages: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    attention: Callable[[Config, int], Iterable[Attention]] = lambda config, now: ()
    tiles: Callable[[Config, int], Iterable[Tile]] = lambda config, now: ()
    search: tuple[Search, ...] = ()
    api: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    summary: str = ""
    settings: tuple[Group, ...] = ()
    steps: tuple[Step, ...] = ()
    after_setup: tuple[tuple[str, str], ...] = ()
    keeps: tuple[str, ...] = ()
    databases: tuple[Database, ...] = ()


def marker(config: Config, module: str) -> Path:
    return config.paths.state / "enabled" / module


def is_enabled(config: Config, module: str) -> bool:
    """For those that mustn't know the module itself."""
    return marker(config, module).exists()
