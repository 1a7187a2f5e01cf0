"""A backup put in place of what is there: read and verified as a whole first, then swapped in."""

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance import age, apply, backup, db, swap
from appliance import config as configuration
from appliance.backup import Entry, Manifest
from appliance.config import Config
from appliance.crypto import key_file
from appliance.errors import UserError
from appliance.files import written

_MAX_SMALL_BYTES = 16 * 2**20  # whatever isn't the database
_ROOM_BYTES = 64 * 2**20  # of free space are left
_DATABASE_ALSO = ("-wal", "-shm")

Steps = Generator[int, bytes, None]


class Place:
    """Where the files of a backup belong, and where they wait until all of them are there."""

    def __init__(self, config: Config, now: datetime) -> None:
        self.config = config
        self.state = config.paths.state
        self.database = db.sqlite_path(config.database_url)
        self._before = f"before-{now:%Y%m%dT%H%M%SZ}"
        self.roots = {self._root(path) for path in (config.file.absolute(), self.state / "keys", self.database) if path}

    def target(self, name: str) -> Path:
        area, _, rest = name.partition("/")
        if name == backup.CONFIG:
            return self.config.file.absolute()
        if name == backup.DATABASE and self.database:
            return self.database
        if kept := backup.databases().get(name):
            return self.state / kept.path
        return (self.config.file.absolute().parent if area == "config" else self.state) / rest

    def staged(self, name: str) -> Path:
        return self._root(self.target(name)) / swap.STAGING / name

    def move(self, name: str) -> swap.Move:
        target = self.target(name)
        root = self._root(target)
        kept = root / self._before / target.relative_to(root)
        also = _DATABASE_ALSO if _is_database(name) else ()
        return swap.Move(str(target), str(kept), str(self.staged(name)), also)

    def kept(self) -> list[str]:
        return [str(root / self._before) for root in sorted(self.roots) if (root / self._before).exists()]

    def is_taken(self) -> bool:
        return key_file(self.state).exists() or (self.database is not None and self.database.exists())

    def _root(self, target: Path) -> Path:
        return self.state if target.is_relative_to(self.state) else target.parent


class _Sink:
    """Takes a stream in whatever pieces it comes, and hands it on in those that `steps` asks for."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._buffer = bytearray()
        self._wanted = next(steps)

    def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= self._wanted:
            piece = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            self._wanted = self._steps.send(piece)


class Restore:
    """`unpack`, then `swap_in`; until then nothing is changed but what lies in the staging folders.

    `file` is where the configuration goes. With `replace` what is there already gives way.
    """

    def __init__(self, file: Path, replace: bool) -> None:
        self._file = file
        self._replace = replace
        self._stack = ExitStack()
        self._complete = False
        self.manifest: Manifest
        self.place: Place | None = None

    def __enter__(self) -> "Restore":
        return self

    def __exit__(self, *_: object) -> None:
        if self.place and not swap.is_pending(self.place.state):
            swap.discard(self.place.roots)
        self._stack.close()

    def unpack(self, source: age.Reader, keys: Sequence[Any]) -> Place:
        """Raises UserError for whatever isn't exactly a backup that this program can use."""
        steps = self._steps()
        try:
            age.decrypt(source, _Sink(steps), keys)
        finally:
            steps.close()
        if self.place is None or not self._complete:
            raise UserError("its end is missing")
        _verify_database(self.place, self.manifest)
        _verify_databases_of_modules(self.place, self.manifest)
        _verify_named_files(self.place, self.manifest)
        return self.place

    def swap_in(self, place: Place) -> None:
        """The configuration first: it says where a plan that was broken off is found."""
        whole = [f"state/{name}" for name in backup.WHOLE]
        single = [e.name for e in self.manifest.entries if not any(_is_below(e.name, name) for name in whole)]
        swap.commit(place.state, [place.move(name) for name in (*single, *whole)])
        swap.finish(place.state)

    def _steps(self) -> Steps:
        """Asks for so many bytes and is sent them."""
        name, size = _header((yield tarfile.BLOCKSIZE))
        if name != backup.MANIFEST or size > _MAX_SMALL_BYTES:
            raise UserError("it is no backup of an appliance")
        self.manifest = parse_manifest((yield size))
        yield -size % tarfile.BLOCKSIZE
        first, *others = self.manifest.entries
        text = bytearray()
        yield from _contents(first, text.extend)
        place = self._open(bytes(text))
        _write(place, first, bytes(text))
        for entry in others:
            path = place.staged(entry.name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if entry.sha256 is None:
                path.mkdir(mode=0o700, exist_ok=True)
                shutil.chown(path, entry.owner, entry.group)
                path.chmod(entry.mode)
                yield from _contents(entry, _nothing)
            else:
                with written(path, entry.mode, entry.owner, entry.group) as out:
                    yield from _contents(entry, out.write)
        self._complete = True
        while True:
            if any((yield tarfile.BLOCKSIZE)):
                raise UserError("it has more than its manifest says")

    def _open(self, text: bytes) -> Place:
        """Empty staging folders for what the configuration says."""
        try:
            config = configuration.parse(text.decode(), self._file)
        except UnicodeDecodeError:
            raise UserError("its configuration is no text") from None
        place = Place(config, datetime.now(UTC))
        if (backup.DATABASE in {e.name for e in self.manifest.entries}) != (place.database is not None):
            raise UserError("its configuration and its database don't belong together")
        if place.is_taken() and not self._replace:
            raise UserError(
                f"{place.state} holds an appliance already: with --yes it gives way, and is kept under a dated name"
            )
        apply.make_users()
        for root in place.roots:
            root.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._stack.enter_context(swap.alone(place.state))
        self.place = place
        for root in place.roots:
            swap.staging(root)
        _verify_room(place, self.manifest)
        for name in backup.WHOLE:
            place.staged(f"state/{name}").mkdir(mode=0o755, parents=True)
        return place


def parse_manifest(text: bytes) -> Manifest:
    """Raises UserError when it wasn't made by `backup`, or by a newer program than this."""
    try:
        values = json.loads(text)
        number, schema = values["format"], values["schema"]
        if type(number) is not int or type(schema) is not int:
            raise ValueError
        known = len(db.migrations("appliance.migrations"))
        if number > backup.FORMAT or schema > known:
            raise UserError(
                f"it was made by a newer program ({str(values.get('product'))[:20]!r}: format {number}, database"
                f" {schema}; this one knows {backup.FORMAT} and {known}): install that first"
            )
        values["entries"] = tuple(Entry(**entry) for entry in values["entries"])
        manifest = Manifest(**values)
        names = [entry.name for entry in manifest.entries]
        if names[0] != backup.CONFIG or len(set(names)) < len(names):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        raise UserError("its manifest can't be read") from None
    for entry in manifest.entries:
        if not _is_good(entry):
            raise UserError(f"{str(entry.name)[:80]!r} doesn't belong into a backup")
    return manifest


def _is_good(entry: Entry) -> bool:
    """Whether it has a place here, and can be nothing but a plain file or a folder in it."""
    if not all(type(value) is str for value in (entry.name, entry.owner, entry.group)):
        return False
    if type(entry.size) is not int or type(entry.mode) is not int or not backup.is_plain(entry.name):
        return False
    below = any(_is_below(entry.name, f"state/{folder}") for folder in backup.WHOLE)
    if entry.sha256 is None:
        return below and entry.size == 0 and 0 <= entry.mode <= 0o777
    single = entry.name.startswith("config/") or _is_database(entry.name) or entry.name in backup.kept_names()
    fits = entry.size <= _MAX_SMALL_BYTES or _is_database(entry.name)
    return (below or single) and fits and entry.size >= 0 and 0 <= entry.mode <= 0o777


def _is_database(name: str) -> bool:
    return name == backup.DATABASE or name in backup.databases()


def _is_below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}/")


def _header(block: bytes) -> tuple[str, int]:
    """Name and size of a plain file or a folder; links, devices and all else that tar knows have no place here."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        raise UserError("it is no backup of an appliance") from None
    if info.type not in (tarfile.REGTYPE, tarfile.DIRTYPE) or info.size < 0:
        raise UserError(f"{info.name!r} is neither a file nor a folder")
    return info.name, info.size


def _contents(entry: Entry, take: Any) -> Steps:
    """An entry's header and bytes; raises UserError when they aren't the manifest's."""
    if _header((yield tarfile.BLOCKSIZE)) != (entry.name, entry.size):
        raise UserError(f"{entry.name} isn't what its manifest says")
    found, left = hashlib.sha256(), entry.size
    while left:
        piece = yield min(left, backup.PIECE_BYTES)
        left -= len(piece)
        found.update(piece)
        take(piece)
    yield -entry.size % tarfile.BLOCKSIZE
    if entry.sha256 is not None and found.hexdigest() != entry.sha256:
        raise UserError(f"{entry.name} isn't what its manifest says")


def _nothing(_: bytes) -> None:
    """A folder has no bytes."""


def _write(place: Place, entry: Entry, content: bytes) -> None:
    path = place.staged(entry.name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with written(path, entry.mode, entry.owner, entry.group) as out:
        out.write(content)


def _verify_room(place: Place, manifest: Manifest) -> None:
    for root in place.roots:
        sizes = [e.size for e in manifest.entries if place.staged(e.name).is_relative_to(root)]
        free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
        if sum(sizes) + _ROOM_BYTES > free:
            raise UserError(f"{root}: {sum(sizes)} bytes are to be written there, {free} are free")


def _verify_database(place: Place, manifest: Manifest) -> None:
    if place.database is not None and _schema(place.staged(backup.DATABASE)) != manifest.schema:
        raise UserError("its database isn't what its manifest says")


def _verify_databases_of_modules(place: Place, manifest: Manifest) -> None:
    for name in {entry.name for entry in manifest.entries} & backup.databases().keys():
        kept, staged = backup.databases()[name], place.staged(name)
        schema, known = _schema(staged), len(db.migrations(kept.migrations))
        if schema > known:
            raise UserError(
                f"{name} was made by a newer program ({schema}; this one knows {known}): install that first"
            )
        for problem in kept.verify(staged):
            raise UserError(f"{name} can't be used: {problem}")


def _schema(staged: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{staged.as_uri()}?immutable=1", uri=True)) as database:
            (schema,) = database.execute("SELECT max(number) FROM schema_version").fetchone()
    except sqlite3.Error as error:
        raise UserError(f"its database can't be used: {error}") from None
    return int(schema or 0)


def _verify_named_files(place: Place, manifest: Manifest) -> None:
    coming = {place.target(entry.name) for entry in manifest.entries}
    for path in backup.named_files(place.config):
        if path not in coming and not path.is_file():
            raise UserError(f"its configuration names {path}, which isn't in it: put that there first")
