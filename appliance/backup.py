"""Everything a new machine needs to become this one, in one encrypted file.

Inside of the age encryption is a tar archive: `manifest.json` first, then the files that it lists, in its order. Names
begin with where a file belongs: `config/` is the folder of the configuration, `state/` is `paths.state`, and
`database/` has the core database, and those of modules as they were at the same moment. Nothing is ever written
unencrypted but copies of databases, in files without a name that only this process has open; the secrets in them are
sealed with a key that isn't in them.
"""

import hashlib
import json
import os
import socket
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from appliance import age, data_disk, db, modules
from appliance.config import Config
from appliance.errors import UserError
from appliance.service import Database

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG = "config/gatehouse.toml"
DATABASE = "database/core.db"
WHOLE = ("keys", "enabled")  # folders below `paths.state` of which all is taken
PIECE_BYTES = 65_536
_COPIED_AT_ONCE = 1000  # pages


@dataclass(frozen=True)
class Entry:
    """A file, or a folder where `sha256` is None; owner and group by name."""

    name: str
    size: int
    sha256: str | None
    mode: int
    owner: str
    group: str


@dataclass(frozen=True)
class Manifest:
    """`schema` is the core database's version, 0 where it isn't in here; `created_at` in UTC seconds."""

    format: int
    product: str
    schema: int
    host: str
    created_at: int
    entries: tuple[Entry, ...]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def create(config: Config, out: BinaryIO, recipients: Iterable[str]) -> Manifest:
    """Writes the encrypted archive; raises UserError, and OSError where it can't be written."""
    to = age.recipients(list(recipients))
    small = dict(_small_files(config))
    entries = [entry for entry, _ in small.values()]
    with _copied(config) as copies:
        for copy in copies:
            size = os.fstat(copy.file.fileno()).st_size
            of = copy.of
            entries.append(Entry(of.name, size, _hash(_pieces(copy.file)), 0o660, of.owner, of.group))
        manifest = Manifest(
            format=FORMAT,
            product=metadata.version("gatehouse"),
            schema=next((copy.schema for copy in copies if copy.of.name == DATABASE), 0),
            host=socket.gethostname(),
            created_at=int(time.time()),
            entries=tuple(entries),
        )
        stream = _Stream(_archive(manifest, [content for _, content in small.values()], copies))
        age.encrypt(stream, out, to)
    return manifest


def left_out(config: Config) -> list[str]:
    """Lines on what isn't in the backup though the configuration names it."""
    lines = []
    if db.sqlite_path(config.database_url) is None:
        lines.append(
            "the database is PostgreSQL's and isn't in it, nor is a dealers' ledger:"
            " back it up with pg_basebackup or pg_dump there"
        )
    folder = config.file.absolute().parent
    outside = [path for path in named_files(config) if _name_of(config, path) is None]
    return lines + [f"{path} isn't in it: only what lies below {folder} is" for path in outside]


def named_files(config: Config) -> list[Path]:
    """Certificates and their keys that the configuration names, and the file of the database's password."""
    sections = (config.radius, config.portal, config.vault)
    return [path for s in sections for path in (s.certificate, s.key) if path is not None] + [*config.database.files]


def kept_names() -> set[str]:
    """Names of the single files below `state/`: those that modules keep, and which data disk is ours."""
    return {f"state/{data_disk.REMEMBERED}", *(f"state/{name}" for module in modules.MODULES for name in module.keeps)}


def databases() -> dict[str, Database]:
    """Those of modules, by their names in a backup."""
    return {f"database/{Path(kept.path).name}": kept for module in modules.MODULES for kept in module.databases}


def is_plain(name: str) -> bool:
    """Whether a name stays where it belongs: no `..`, nothing absolute or hidden, short enough for a tar header."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return str(path) == name and not (hidden or path.is_absolute()) and name.isprintable() and len(name.encode()) <= 100


# What is in it


def _small_files(config: Config) -> Iterator[tuple[str, tuple[Entry, bytes]]]:
    """By name; read as a whole, so that what is hashed is what is written."""
    text = config.text.encode()
    mode = config.file.stat().st_mode & 0o777 if config.file.exists() else 0o644
    yield CONFIG, (Entry(CONFIG, len(text), _hash([text]), mode, "root", "root"), text)
    state = config.paths.state
    for path in dict.fromkeys(named_files(config)):
        if name := _name_of(config, path):
            yield from _file(name, path)
    for name in WHOLE:
        for path in sorted([state / name, *(state / name).rglob("*")]):
            if not path.name.startswith("."):  # it is being written
                yield from _file(f"state/{path.relative_to(state)}", path)
    for name in sorted(kept_names()):
        yield from _file(name, state / name.removeprefix("state/"))


def _name_of(config: Config, path: Path) -> str | None:
    """What a file that the configuration names is called in a backup; None where it lies elsewhere."""
    folder = config.file.absolute().parent
    name = f"config/{path.relative_to(folder)}" if path.is_relative_to(folder) else ""
    return name if is_plain(name) else None


def _file(name: str, path: Path) -> Iterator[tuple[str, tuple[Entry, bytes]]]:
    """Nothing where it isn't there."""
    if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())) or not is_plain(name):
        raise UserError(f"{path} is no plain file with a short name: put such a one there, so that it can be backed up")
    try:
        content = b"" if path.is_dir() else path.read_bytes()
        status = path.stat()
        owner, group = path.owner(), path.group()
    except FileNotFoundError:
        return
    except KeyError:
        raise UserError(f"{path} belongs to a user or a group without a name: give it to root") from None
    sha256 = None if path.is_dir() else _hash([content])
    yield name, (Entry(name, len(content), sha256, status.st_mode & 0o777, owner, group), content)


class _Source(NamedTuple):
    name: str
    path: Path
    owner: str
    group: str


class _Copy(NamedTuple):
    of: _Source
    file: BinaryIO
    schema: int


def _sources(config: Config) -> Iterator[_Source]:
    """The SQLite databases that there are."""
    for name, kept in databases().items():
        if (path := config.paths.state / kept.path).exists():
            yield _Source(name, path, kept.owner, kept.group)
    if (path_ := db.sqlite_path(config.database_url)) is not None:
        if not path_.exists():
            raise UserError(f"{path_}: there is no database yet: run `gatehouse apply` first")
        yield _Source(DATABASE, path_, "root", "gatehouse-core")


@contextmanager
def _copied(config: Config) -> Iterator[list[_Copy]]:
    """Consistent and sound copies of one moment, in files without a name."""
    with ExitStack() as stack:
        sources = list(_sources(config))
        opened = [(source, stack.enter_context(_opened(source.path))) for source in sources]
        _stand_still(opened)
        yield [stack.enter_context(_copy_of(config, source, database)) for source, database in opened]


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            yield database
    except sqlite3.Error as error:
        raise UserError(f"{path} can't be copied: {error}") from None


def _stand_still(opened: Sequence[tuple[_Source, sqlite3.Connection]]) -> None:
    """Begins a read transaction in each, at one moment: meanwhile nobody can write to those of modules.

    So whatever one of them says of the core database is in this copy of it.
    """
    with ExitStack() as stack:
        for source, _ in opened:
            if source.name != DATABASE:
                stack.enter_context(_opened(source.path)).execute("BEGIN IMMEDIATE")  # ends as it is closed
        for _, database in opened:
            database.execute("BEGIN")
            database.execute("SELECT max(number) FROM schema_version").fetchone()


@contextmanager
def _copy_of(config: Config, source: _Source, database: sqlite3.Connection) -> Iterator[_Copy]:
    handle, name = tempfile.mkstemp(prefix=".backup-", dir=config.paths.state)
    with os.fdopen(handle, "rb") as file:
        try:
            with closing(sqlite3.connect(name)) as copy:
                Path(name).unlink()  # so that nothing of it stays if we are killed
                schema = _copy(database, copy)
        except sqlite3.Error as error:
            Path(name).unlink(missing_ok=True)
            raise UserError(f"{source.path} can't be copied: {error}") from None
        yield _Copy(source, file, schema)


def _copy(source: sqlite3.Connection, copy: sqlite3.Connection) -> int:
    """Its schema version. In steps within one read transaction, so that no commit of a writer makes it begin anew.

    Writers go on meanwhile (https://sqlite.org/isolation.html, https://sqlite.org/backup.html).
    """
    copy.execute("PRAGMA journal_mode = OFF")
    copy.execute("PRAGMA synchronous = OFF")
    (schema,) = source.execute("SELECT max(number) FROM schema_version").fetchone()
    (verdict,) = source.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"it is damaged: {verdict}")
    source.backup(copy, pages=_COPIED_AT_ONCE, sleep=0)
    source.execute("COMMIT")
    return int(schema or 0)


# The archive


class _Stream:
    """What is read from it is made while it is read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int) -> bytes:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = block
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _archive(manifest: Manifest, small: Iterable[bytes], copies: Iterable[_Copy]) -> Iterator[bytes]:
    """The tar archive; the databases come last."""
    text = manifest.to_json()
    yield _header(Entry(MANIFEST, len(text), "", 0o600, "root", "root"), manifest.created_at)
    yield from _padded([text])
    contents: Iterator[Iterable[bytes]] = iter(
        [*([content] for content in small), *(_pieces(copy.file) for copy in copies)]
    )
    for entry, content in zip(manifest.entries, contents, strict=True):
        yield _header(entry, manifest.created_at)
        yield from _padded(content)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(entry: Entry, time_s: int) -> bytes:
    info = tarfile.TarInfo(entry.name)
    info.type = tarfile.DIRTYPE if entry.sha256 is None else tarfile.REGTYPE
    info.size, info.mode, info.mtime, info.uname, info.gname = entry.size, entry.mode, time_s, entry.owner, entry.group
    return info.tobuf(tarfile.GNU_FORMAT)  # has sizes beyond 8 GiB


def _padded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        yield piece


def _hash(pieces: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()
