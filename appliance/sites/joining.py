"""How a box comes to its site: a sealed file with all that it needs, good for one box and for some days.

In it are the database's URL with the files that it names, the key that passwords are sealed with, and a token. The
database knows the token's SHA-256, and forgets it with the first box that brings it.
"""

import base64
import contextlib
import hashlib
import json
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peewee

from appliance import age, db, wishes
from appliance import apply as applying
from appliance.accounts.database import bind_core, open_core
from appliance.accounts.models import Account, core_db
from appliance.config import Config
from appliance.config_database import Database
from appliance.crypto import key_file
from appliance.errors import UserError
from appliance.files import written
from appliance.nas.models import GATEWAY, Nas
from appliance.sites import registry
from appliance.sites.models import Site

FORMAT = 1
MAX_FILE_BYTES = 200_000
MIN_PASSPHRASE = 10
GROUP = "gatehouse-core"


@dataclass(frozen=True)
class Join:
    """What is in a file. `files` by their paths."""

    key: str
    title: str
    url: str
    token: str
    password_key: bytes
    files: Mapping[str, bytes]


def offer(config: Config, site: Any, hours: int, url: str = "") -> Join:
    """What a new file carries; one from before is no longer good. `url` is the database's as the site is to have it."""
    if not 1 <= hours <= 720:
        raise UserError("a file may be good for 1 to 720 hours")
    url = url or config.database.url
    if not url.startswith("postgresql://"):
        raise UserError("the database of many sites is a PostgreSQL: postgresql://…")
    files, token = dict(_named(url)), secrets.token_urlsafe(24)
    site.join_token, site.join_until = _digest(token), registry.database_now() + hours * 3600
    site.save(only=[Site.join_token, Site.join_until])
    return Join(site.key, site.title, url, token, key_file(config.paths.state).read_bytes(), files)


def sealed(join: Join, passphrase: str) -> bytes:
    if len(passphrase) < MIN_PASSPHRASE:
        raise UserError(f"a passphrase here needs {MIN_PASSPHRASE} characters or more")
    content = {
        "format": FORMAT,
        "key": join.key,
        "title": join.title,
        "url": join.url,
        "token": join.token,
        "password_key": base64.b64encode(join.password_key).decode(),
        "files": {path: base64.b64encode(data).decode() for path, data in join.files.items()},
    }
    return age.seal(json.dumps(content).encode(), passphrase)


def _named(url: str) -> Iterator[tuple[str, bytes]]:
    for path in _paths(url):
        try:
            yield str(path), path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}, which the database's URL names, can't be read: {error.strerror}") from None


def _paths(url: str) -> tuple[Path, ...]:
    """Of the files that it names, as libpq reads it. Raises UserError for one that no appliance can use."""
    try:
        return Database(url).files
    except ValueError as error:
        raise UserError(f"the database's {error}") from None


def read(sealed: bytes, passphrase: str) -> Join:
    """Raises UserError."""
    try:
        found = json.loads(age.unseal(sealed, passphrase))
        if found["format"] != FORMAT:
            raise UserError("that file is of another version of the program: make it with this box's version")
        files = {str(path): base64.b64decode(data) for path, data in found["files"].items()}
        key = base64.b64decode(found["password_key"])
        return Join(str(found["key"]), str(found["title"]), str(found["url"]), str(found["token"]), key, files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"that is no file to join by: {type(error).__name__}") from None


def take(config: Config, join: Join, leave_behind: bool) -> None:
    """Root's. Afterwards this box is the site's; raises UserError, and then all files are as before."""
    applying.must_be_root()
    if config.fleet and config.site.key != join.key:
        raise UserError(f"this box is the site {config.site.key!r} of a database already: begin with an empty one")
    after = wishes.edited(config, {"database.url": join.url, "site.key": join.key, **_called(config, join)})
    applying.make_users()
    key_file(config.paths.state).parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    _verify_key(config, join, leave_behind)
    with _placed([*_files(config, join), *_keys(config, join), (config.file, after.text.encode(), 0o644)]):
        with _reached(after):
            claim(after, join)
        with _left_behind(config) if leave_behind else contextlib.nullcontext():
            applying.apply(after)


@contextmanager
def _left_behind(config: Config) -> Iterator[None]:
    """The database that was this box's own, beside its place."""
    own = db.sqlite_path(config.database_url)
    moves = [(Path(f"{own}{more}"), Path(f"{own}.alone{more}")) for more in ("", "-wal", "-shm")] if own else []
    moved = [(here, there) for here, there in moves if here.exists()]
    for here, there in moved:
        here.rename(there)
    try:
        yield
    except BaseException:
        for here, there in moved:
            there.rename(here)
        raise


def _called(config: Config, join: Join) -> dict[str, object]:
    return {"site.name": join.title} if join.title and config.site == Config().site else {}


def _verify_key(config: Config, join: Join, leave_behind: bool) -> None:
    """A box that has worked alone has things that only its own key opens."""
    own = key_file(config.paths.state)
    if leave_behind or config.fleet or not own.exists() or own.read_bytes() == join.password_key:
        return
    try:
        with open_core(config):
            counts = Account.select().count(), Nas.select().where(Nas.kind != GATEWAY).count()
    except (UserError, peewee.PeeweeException):
        return  # there is nothing yet
    if any(counts):
        raise UserError(
            f"this box seals with a key of its own, and has {counts[0]} accounts and {counts[1]} routers sealed so:"
            " they stay behind; say --leave-behind if they may"
        )


@contextmanager
def _reached(after: Config) -> Iterator[None]:
    bind_core(after)
    try:
        with core_db.connection_context():
            if db.version(core_db.obj) == 0:
                raise UserError("that database is empty: it isn't the one of the appliance that made the file")
            yield
    except peewee.OperationalError as error:
        raise UserError(f"the database can't be reached from here: {' '.join(str(error).split())}") from None


def claim(config: Config, join: Join) -> None:
    """The site's key for this box. A box that has taken it already may take it again."""
    machine, mine = registry.own_machine(config.paths.state), registry.fingerprint(config.paths.state)
    site = Site.get_or_none(Site.key == join.key)
    if site is None:
        raise UserError(f"the site {join.key!r} was removed")
    if site.machine == machine:
        return
    if Site.select().where(Site.fingerprint.not_in(("", mine))).exists():
        raise UserError("the other sites seal with another key by now: make a new file")
    now = registry.database_now()
    good = (Site.key == join.key) & (Site.join_token == _digest(join.token)) & (Site.join_until > now)
    values = {"machine": machine, "fingerprint": mine, "joined_at": now, "reported_at": None, "join_token": None}
    if Site.update(**values).where(good).execute():
        return
    if site.join_token == _digest(join.token):
        raise UserError("that file isn't good any more, its time is over: make a new one")
    raise UserError("that file was used already, or a newer one was made")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _keys(config: Config, join: Join) -> Iterator[tuple[Path, bytes, int]]:
    """Another one that was there is kept: what was left behind is sealed by it."""
    key = key_file(config.paths.state)
    if key.exists() and (old := key.read_bytes()) != join.password_key:
        yield key.with_name(f"{key.name}.alone"), old, 0o600
    yield key, join.password_key, 0o640


def _files(config: Config, join: Join) -> Iterator[tuple[Path, bytes, int]]:
    """Those that the URL names, beside the configuration: whoever makes such a file is root on another box, not here.

    Another place is one for a file that is there already. Raises UserError.
    """
    folder = config.file.parent.resolve()
    for path in _paths(join.url):
        if (data := join.files.get(str(path))) is None or (path.is_file() and path.read_bytes() == data):
            continue
        if not path.resolve().is_relative_to(folder) or path.resolve() == config.file.resolve():
            raise UserError(f"{path}: that file may bring others into {folder} only: let the URL name them there")
        yield path, data, 0o640


@contextmanager
def _placed(files: Sequence[tuple[Path, bytes, int]]) -> Iterator[None]:
    before = {path: path.read_bytes() if path.exists() else None for path, _, _ in files}
    modes = {path: stat.S_IMODE(path.stat().st_mode) if path.exists() else mode for path, _, mode in files}
    try:
        for path, data, _ in files:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            with written(path, modes[path], "root", GROUP) as file:
                file.write(data)
        yield
    except BaseException:
        for path, old in before.items():
            if old is None:
                path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(OSError), written(path, modes[path], "root", GROUP) as file:
                file.write(old)
        raise
