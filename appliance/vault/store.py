"""The version store: what a vault's users see as files, of which nothing is overwritten and nothing erased at once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import peewee

from appliance import data_disk
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from appliance.vault import catalog, faults, manifest, objects, paths, quota, routeros
from appliance.vault.clock import Clock
from appliance.vault.models import DROP, READ, Entry, How, Refused, Reservation, Span, Vault, Version, Who, vault_db
from appliance.vault.turns import Turn, Turns
from appliance.vault.upload import Upload

__all__ = ["Store", "Upload"]
_PRESENT = Span.until_ms.is_null()
NOBODY = Who()
REPLICA_MARKER = ".gatehouse-replica"  # of a second disk


class Store:
    """One a process; threads may share it. Methods raise Refused with the code and the words of FTP's reply.

    `disk` gives the data disk's folder, or raises UserError why not.
    """

    def __init__(
        self, config: Config, disk: Callable[[Config], Path] = data_disk.ready, clock: Clock | None = None
    ) -> None:
        self._config, self._disk = config, disk
        catalog.bind(config)
        self.turns = Turns(self.place, clock or Clock(), lambda name: self.step(name))

    def place(self) -> Path:
        """`vault/` on the data disk, to be asked for before each change. Raises Refused where it can't be written."""
        try:
            place = self._disk(self._config) / catalog.DISK
        except Unavailable as error:
            raise Refused(452 if data_disk.FULL in str(error) else 451, str(error)) from None
        except UserError as error:
            raise Refused(451, str(error)) from None
        if not place.is_dir():
            raise Refused(451, "the data disk has no vault yet: run `gatehouse apply`")
        faults.check(place)
        if not (place / manifest.FOLDER).is_dir():
            self._prepare(place)
        return place

    @staticmethod
    def _prepare(place: Path) -> None:
        """A new disk's folders."""
        try:
            objects.make_folders(place)
        except OSError as error:
            raise faults.refusal(place, "its folders", error) from error

    def readable(self) -> Path:
        """The same to read from, also when it is full, read-only or suspect."""
        return self._config.paths.data / catalog.DISK

    @property
    def state(self) -> Path:
        """The folder of the catalogue, and of the key that signs the manifest's head."""
        return self._config.paths.state / catalog.STATE

    def copies(self) -> list[Path]:
        """Second copies that are attached, to mend contents from."""
        place = self._config.vault.replica
        return [place / catalog.DISK] if place is not None and (place / REPLICA_MARKER).is_file() else []

    def recover(self) -> int:
        """At a server's start: folders, what is left of broken uploads, and of an event that was broken off.

        Returns how many uploads were swept away.
        """
        place = self.place()
        self._prepare(place)
        swept = 0
        for name in objects.orphans(place):
            if sha256 := objects.published(place, name):
                self.take_back(place, sha256)
            Reservation.delete().where(Reservation.spool == name).execute()
            swept += 1
        for reservation in list(Reservation.select()):  # of these, as each was made after its file
            if not (place / objects.SPOOL / reservation.spool).exists():
                quota.release(reservation)
        with self.turns.take():
            pass
        return swept

    def take_back(self, place: Path, sha256: str) -> None:
        """A content that an upload brought and no version has, as the upload failed."""
        with self.turns.take():
            if not Version.select().where(Version.sha256 == sha256).exists():
                objects.erase(place, sha256)

    def step(self, name: str) -> None:
        """A test stops here."""

    def proof(self, head: bytes, size: int) -> str:
        """Why a file's own format says that it isn't whole, empty where it doesn't."""
        return routeros.proof(head, size)

    # Uploads

    def begin(
        self,
        vault: Any,
        path: str,
        how: How = How.STORE,
        offset: int = 0,
        expected_bytes: int | None = None,
        who: Who = NOBODY,
    ) -> Upload:
        """For APPEND and RESUME what is there already, up to `offset` when resuming, is in it from the start."""
        where = paths.clean(path)
        place = self.place()
        self.turns.check(place)
        begun = self._begun(vault, where, how, offset)
        try:
            upload = Upload(self, place, vault, where, who, expected_bytes)
        except OSError as error:
            raise faults.refusal(place, "the spool", error) from error
        try:
            upload.begin()
            if begun:
                self._copy(begun, offset if how == How.RESUME else begun.bytes, upload)
        except BaseException:
            upload.abandon()
            raise
        return upload

    def may_store(self, vault: Any, where: str, who: Who) -> Any:
        """The file's present span, None where it is a new one."""
        self._may_write(who)
        if where == paths.ROOT:
            raise Refused(553, "a name is needed")
        for folder in paths.parents(where):
            above = catalog.now_at(vault, folder)
            if above is not None and above.version_id is not None:
                raise Refused(550, f"{folder} is a file")
        span = catalog.now_at(vault, where)
        if span is not None and span.version_id is None:
            raise Refused(550, "that is a folder")
        if span is not None and who.kind == DROP:
            raise Refused(550, "it is there already, and this log-in can't overwrite")
        return span

    @staticmethod
    def _may_write(who: Who) -> None:
        if who.kind == READ:
            raise Refused(550, "this log-in can only read")

    def settle(self, vault: Any, where: str, size: int, who: Who, why: str) -> None:
        """In the last transaction of an upload: whether it is still allowed, now that its room is given back."""
        span = None if why else self.may_store(vault, where, who)
        room, _ = quota.left(vault)
        if room is not None and size > room:
            raise Refused(552, f"the vault has {max(0, room)} bytes left, {size} are needed")
        if not why and span is None:
            self.settle_file(vault, where)

    @staticmethod
    def settle_file(vault: Any, where: str) -> None:
        """Whether there may be a file at a path where none may be yet."""
        names = quota.left(vault)[1]
        if names is not None and names < 1 and catalog.now_at(vault, where) is None:
            raise Refused(552, "the vault may not have more files")

    @staticmethod
    def settle_all(vault: Any) -> None:
        names = quota.left(vault)[1]
        if names is not None and names < 0:
            raise Refused(552, f"the vault had {-names} files more then than it may have now")

    def _begun(self, vault: Any, where: str, how: How, offset: int) -> Any:
        """What an upload goes on with: the last one that broke off, if there was none since, or the present file."""
        if how not in (How.APPEND, How.RESUME):
            return None
        versions = Version.select().where((Version.vault == vault) & (Version.path == where))
        last = versions.order_by(Version.id.desc()).first()
        span = catalog.now_at(vault, where)
        found = self.version(span.version_id) if span and span.version_id else None
        if last is not None and not last.confirmed:
            found = last
        if how == How.RESUME and offset and (found is None or found.bytes < offset):
            raise Refused(554, f"there are {found.bytes if found else 0} bytes to go on from")
        return found

    def _copy(self, version: Any, size: int, upload: Upload) -> None:
        with self.open(version) as file:
            while size and (piece := file.read(min(size, objects.PIECE_BYTES))):
                upload.write(piece)
                size -= len(piece)

    # Reading

    def entries(self, vault: Any, folder: str, at: int | None = None) -> Iterator[Entry]:
        """By name; `at` is in ms. Raises Refused (550) where there is no such folder."""
        where = paths.clean(folder)
        if where != paths.ROOT:
            found = self.entry(vault, where, at)
            if found is None or not found.is_folder:
                raise Refused(550, "there is no such folder")
        query = _seen(at).where((Span.vault == vault) & (Span.folder == where) & (Span.name != ""))
        return map(Entry._make, _rows(query.order_by(Span.name)))

    def entry(self, vault: Any, path: str, at: int | None = None) -> Entry | None:
        where = paths.clean(path)
        if where == paths.ROOT:
            return Entry("", True, 0, vault.created_at, "", 0)
        folder, name = paths.split(where)
        row = _seen(at).where((Span.vault == vault) & (Span.folder == folder) & (Span.name == name)).tuples().first()
        return Entry(*row) if row else None

    def tree(self, vault: Any, at: int | None = None) -> Iterator[tuple[str, Entry]]:
        """All of a vault, as of a time, by path."""
        columns = (Span.folder, *_COLUMNS)
        query = _seen(at, columns).where(Span.vault == vault).order_by(Span.folder, Span.name)
        return ((paths.join(row[0], row[1]), Entry(*row[1:])) for row in query.tuples().iterator())

    def open(self, version: Any) -> BinaryIO:
        """A version, or its number. Of its length is sure that it is right; of its content the scrub is."""
        found = self.version(version) if isinstance(version, int) else version
        try:
            return objects.read(self.readable(), found.sha256, found.bytes)
        except OSError as error:
            raise Refused(550, f"version {found.id} can't be read: {error.strerror or error}") from None

    def version(self, number: int) -> Any:
        found = Version.get_or_none(Version.id == number)
        if found is None:
            raise Refused(550, f"there is no version {number}")
        return found

    def versions(self, vault: Any, path: str) -> list[Any]:
        """All that were ever stored or seen at a path and are kept, the newest first."""
        where = paths.clean(path)
        folder, name = paths.split(where)
        seen = Span.select(Span.version).where(
            (Span.vault == vault) & (Span.folder == folder) & (Span.name == name) & Span.version.is_null(False)
        )
        which = (Version.vault == vault) & ((Version.path == where) | Version.id.in_(seen))
        return list(Version.select().where(which).order_by(Version.id.desc()))

    def space(self, vault: Any) -> int | None:
        """Bytes that can still be stored, None where only the disk says so."""
        return quota.left(vault)[0]

    def fresh(self, vault: Any) -> Any:
        return Vault.get_by_id(vault.id)

    # Changes; each is an event, and erases nothing

    def remove(self, vault: Any, path: str, who: Who = NOBODY) -> None:
        with self.changes(path, who) as (turn, where):
            self._there(vault, where, folder=False)
            turn.add("delete", vault.name, path=where, **changer(who))

    def make_folder(self, vault: Any, path: str, who: Who = NOBODY) -> None:
        with self.changes(path, who) as (turn, where):
            self._free(vault, where)
            turn.add("mkdir", vault.name, path=where, **changer(who))

    def remove_folder(self, vault: Any, path: str, who: Who = NOBODY) -> None:
        with self.changes(path, who) as (turn, where):
            self._there(vault, where, folder=True)
            if Span.select().where((Span.vault == vault) & (Span.folder == where) & _PRESENT).exists():
                raise Refused(550, "the folder isn't empty")
            turn.add("rmdir", vault.name, path=where, **changer(who))

    def rename(self, vault: Any, path: str, target: str, who: Who = NOBODY) -> None:
        to = paths.clean(target)
        with self.changes(path, who) as (turn, where):
            span = catalog.now_at(vault, where)
            if span is None:
                raise Refused(550, "there is no such file or folder")
            if to == where:
                return
            if paths.is_below(to, where):
                raise Refused(553, "a folder can't go into itself")
            there = catalog.now_at(vault, to)
            if there is None or span.version_id is None or there.version_id is None:
                self._free(vault, to)
            turn.add("rename", vault.name, path=where, target=to, **changer(who))

    def set_time(self, vault: Any, path: str, modified_s: int, who: Who = NOBODY) -> None:
        with self.changes(path, who) as (turn, where):
            if catalog.now_at(vault, where) is None:
                raise Refused(550, "there is no such file or folder")
            turn.add("touch", vault.name, path=where, modified=modified_s, **changer(who))

    def changes(self, path: str, who: Who) -> "_Change":
        return _Change(self, path, who)

    @staticmethod
    def _there(vault: Any, where: str, folder: bool) -> None:
        span = catalog.now_at(vault, where)
        if span is None or (span.version_id is None) != folder:
            raise Refused(550, f"there is no such {'folder' if folder else 'file'}")

    def _free(self, vault: Any, where: str) -> None:
        if where == paths.ROOT or catalog.now_at(vault, where) is not None:
            raise Refused(550, "that name is taken")
        self.may_store(vault, where, NOBODY)


class _Change:
    """A turn of somebody who may change things, and the clean path."""

    def __init__(self, store: Store, path: str, who: Who) -> None:
        if who.kind in (READ, DROP):
            raise Refused(550, "this log-in can't change what is there")
        self._where = paths.clean(path)
        self._turn = store.turns.take()

    def __enter__(self) -> tuple[Turn, str]:
        return self._turn.__enter__(), self._where

    def __exit__(self, *what: Any) -> bool | None:
        return self._turn.__exit__(*what)


def changer(who: Who) -> dict[str, str]:
    return {key: value for key, value in (("login", who.login), ("address", who.address)) if value}


_COLUMNS = (
    Span.name,
    Span.version.is_null(),
    peewee.fn.COALESCE(Version.bytes, 0),
    Span.modified_s,
    peewee.fn.COALESCE(Version.sha256, ""),
    peewee.fn.COALESCE(Span.version, 0),
)


def _seen(at: int | None, columns: Any = _COLUMNS) -> Any:
    time_is = _PRESENT if at is None else (Span.from_ms <= at) & (_PRESENT | (Span.until_ms > at))
    return Span.select(*columns).join(Version, peewee.JOIN.LEFT_OUTER).where(time_is)


def _rows(query: Any) -> Iterator[Any]:
    """As the database gives them, which is what these columns are: peewee takes as long for a row as the database."""
    return iter(vault_db.execute_sql(*query.sql()))
