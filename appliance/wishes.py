"""What owners ask for on the admin's pages: written down by the admin's process, which may do little, granted by root.

A wish is one file, `ID.json`, in a folder that the admin's process owns; its answer is one in a folder of root's.
Root takes nothing in a wish for granted: whoever has taken over the admin's process may write any.
"""

import base64
import binascii
import contextlib
import grp
import json
import os
import pwd
import re
import secrets
import shutil
import stat
import time
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import tomlkit
import tomlkit.container
import tomlkit.items

from appliance import config as configuration
from appliance import modules
from appliance.config import Config
from appliance.core import CORE
from appliance.errors import UserError
from appliance.files import written
from appliance.service import ANSWERED, ASKED, Module, Setting, Upload

DEVICES = Path("/sys/class/net")
MAX_BYTES = 2_000_000
AT_ONCE = 32  # the others in the next turn
ANSWERS_KEPT = 100
_T = typing.TypeVar("_T")
_ID = r"[0-9]{19}-[0-9a-f]{8}"


@dataclass(frozen=True)
class Wish:
    """`settings` by `section.key`, None takes the key out; `modules` on or off; `files` by their Upload's name, empty
    ones take it away."""

    who: str
    settings: Mapping[str, object] = field(default_factory=dict)
    modules: Mapping[str, bool] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def settings() -> dict[str, Setting]:
    """All that may be wished for, whichever modules are enabled."""
    return {s.key: s for module in (CORE, *modules.MODULES) for group in module.settings for s in group.settings}


def uploads() -> dict[str, Upload]:
    return {u.name: u for module in (CORE, *modules.MODULES) for group in module.settings for u in group.uploads}


# The admin's process


def wish(
    config: Config,
    who: str,
    settings: Mapping[str, object] | None = None,
    modules: Mapping[str, bool] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> str:
    """Its id. Raises UserError for what root would refuse at first sight."""
    asked = Wish(who, settings or {}, modules or {}, files or {})
    check(asked)
    coded = {name: base64.b64encode(data).decode() for name, data in asked.files.items()}
    text = json.dumps({"who": who, "settings": asked.settings, "modules": asked.modules, "files": coded}).encode()
    if len(text) > MAX_BYTES:
        raise UserError(f"that is too much at once: at most {MAX_BYTES} bytes")
    number = f"{time.time_ns():019d}-{secrets.token_hex(4)}"
    mine = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    with written(config.paths.state / ASKED / f"{number}.json", 0o600, *mine) as file:
        file.write(text)
    return number


def outcome(config: Config, number: str) -> str | None:
    """None while it waits, empty when it is done, else why not, in a line."""
    if not re.fullmatch(_ID, number):
        return "there is no such wish"
    for waits in (config.paths.state / ASKED / f"{number}.json", None):
        if (said := answered(config, number)) is not None:
            return said
        if waits is not None and waits.exists():
            return None
    return "there is no such wish, or it was long ago"


def answered(config: Config, number: str) -> str | None:
    """Root's word; None where there is none (yet, or any more)."""
    if re.fullmatch(_ID, number):
        with contextlib.suppress(FileNotFoundError):
            return (config.paths.state / ANSWERED / number).read_text(encoding="utf-8")
    return None


# Root


@contextmanager
def folder(state: Path) -> Iterator[int]:
    """The folder of wishes, open; whoever owns it can't lead it elsewhere, as what is above it is root's."""
    handle = os.open(state / ASKED, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def waiting(folder: int) -> list[str]:
    """Ids, the oldest first. What bears the name of a wish and can't be one is removed."""
    found = []
    for name in sorted(os.listdir(folder)):
        if re.fullmatch(rf"{_ID}\.json", name):
            found.append(name.removesuffix(".json"))
        elif name.endswith(".json"):
            remove(folder, name)
    return found[:AT_ONCE]


def remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def read(folder: int, number: str) -> Wish:
    """Raises UserError for what is no wish, or not a good one."""
    try:
        given = json.loads(_read(folder, f"{number}.json"))
        wish = Wish(
            _of(str, given["who"])[:100],
            _of(dict, given["settings"]),
            _of(dict, given["modules"]),
            {name: base64.b64decode(text, validate=True) for name, text in _of(dict, given["files"]).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise UserError(f"that wish can't be read: {type(error).__name__}") from None
    check(wish)
    return wish


def _read(folder: int, name: str) -> bytes:
    """A regular file of the folder's own owner, by no other name anywhere; a FIFO doesn't stop us."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=folder), "rb") as file:  # noqa: PTH123 (a handle)
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.fstat(folder).st_uid or found.st_nlink != 1:
            raise ValueError(name)
        data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(name)
        return data


def _of(kind: type[_T], value: object) -> _T:
    if not isinstance(value, kind):
        raise TypeError(kind.__name__)
    return value


def check(wish: Wish) -> None:
    """Raises UserError unless all of it may be wished for."""
    for allowed, asked in ((settings(), wish.settings), (uploads(), wish.files)):
        if strange := sorted(str(name) for name in asked if name not in allowed):
            raise UserError(f"{strange[0][:100]!r} can't be changed on these pages")
    for key, value in wish.settings.items():
        _check_kind(settings()[key], value)
    for name, on in wish.modules.items():
        modules.by_name(name)
        if not isinstance(on, bool):
            raise UserError(f"{name}: true or false is needed")
    for name, data in wish.files.items():
        upload = uploads()[name]
        if len(data) > upload.max_bytes:
            raise UserError(f"{name}: at most {upload.max_bytes} bytes can be taken")
        if data:
            upload.place(data)


def _check_kind(setting: Setting, value: object) -> None:
    """What the configuration's own parser takes, and may not be."""
    if "|" in setting.kind and value is not None and str(value) not in setting.kind.split("|"):
        raise UserError(f"{setting.title}: one of {', '.join(setting.kind.split('|'))} is needed")
    if setting.kind == "device" and value not in (None, *(path.name for path in DEVICES.iterdir())):
        raise UserError(f"{setting.title}: there is no network device {str(value)[:20]!r}")


def wanted(wish: Wish) -> dict[Module, bool]:
    return {modules.by_name(name): on for name, on in wish.modules.items()}


def placed(config: Config, wish: Wish) -> dict[str, object]:
    """The keys that name the files it brings, or takes away."""
    found: dict[str, object] = {}
    for name, data in wish.files.items():
        upload = uploads()[name]
        path = str(config.paths.state / upload.place(data)) if data else None
        found |= dict.fromkeys(upload.sets, path)
    return found


def edited(config: Config, changes: Mapping[str, object]) -> Config:
    """The configuration with these keys changed and all else, comments too, as it was; raises ConfigError."""
    if not changes:
        return config
    document = tomlkit.parse(config.text)
    tables = {name: dict(table) for name, table in tomllib.loads(config.text).items()}
    for name, value in changes.items():
        section, _, key = name.partition(".")
        if value is None:
            if key in tables.get(section, {}):
                del tables[section][key]
                del typing.cast(tomlkit.items.Table, document[section])[key]
            continue
        if section not in document:
            document[section] = tomlkit.table()
        typing.cast(tomlkit.items.Table, document[section])[key] = _inline(value)
        tables.setdefault(section, {})[key] = value
    text = tomlkit.dumps(document)
    if tomllib.loads(text) != tables:
        raise UserError(f"{config.file} is written in a way that these pages can't change: edit it by hand")
    return configuration.parse(text, config.file)


def _inline(value: object) -> object:
    """Texts by language stay on their key's line."""
    if not isinstance(value, dict):
        return value
    table = tomlkit.inline_table()
    table.update(value)
    return table


def answer(state: Path, number: str, text: str) -> None:
    """Root's word; old ones give way."""
    with written(state / ANSWERED / number, 0o640, "root", "gatehouse-admin") as file:
        file.write(text.encode())
    for old in _answers(state)[:-ANSWERS_KEPT]:
        old.unlink(missing_ok=True)


def _answers(state: Path) -> Sequence[Path]:
    return sorted(path for path in (state / ANSWERED).iterdir() if re.fullmatch(_ID, path.name))
