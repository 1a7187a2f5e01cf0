"""One change after the other: manifest first, then the catalogue, and nothing of either where one fails."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import peewee

from appliance.vault import catalog, clock, faults, manifest, objects
from appliance.vault.clock import Clock
from appliance.vault.manifest import Manifest
from appliance.vault.models import Position, Refused, sql, vault_db
from appliance.vault.redo import CONTENT_BYTES, Record, Redo

log = logging.getLogger(__name__)


class Turn:
    """What is added is seen in the catalogue at once, and is true once the turn has ended well."""

    def __init__(self, head: Position, now: clock.Now, has_log: bool) -> None:
        self.head = head
        self.now = now
        self.text = b""
        self.content = b""
        self._has_log = has_log

    def keep(self, content: bytes) -> bool:
        """Whether a small upload's content is on disk as soon as its line is, wherever its file is."""
        if not self._has_log or len(content) > CONTENT_BYTES:
            return False
        self.content = content
        return True

    def add(self, event: str, vault: str, **fields: Any) -> dict[str, Any]:
        head = self.head
        at_ms = max(self.now.at_ms, head.at_ms + 1)
        record: dict[str, Any] = {"n": head.n + 1, "previous": head.sha256, "at": at_ms, "age": head.age_ms}
        record |= {"vault": vault, "event": event, **fields}
        if event in ("store", "unconfirmed"):
            record["version"] = record["n"]
        line = manifest.encode(record)
        self.text += line + b"\n"
        head.n, head.sha256, head.at_ms = record["n"], manifest.digest(line), at_ms
        catalog.apply(record)
        return record


class Turns:
    """All processes take turns by the catalogue's write lock; threads of one by a lock of their own, in order."""

    def __init__(self, disk: Callable[[], Path], clock_: Clock, step: Callable[[str], None]) -> None:
        self._disk = disk
        self._clock = clock_
        self._mine = threading.RLock()
        self._redo = Redo()
        self._step = step

    @contextlib.contextmanager
    def plain(self) -> Iterator[clock.Now]:
        """For what is no event, and needn't outlive a power cut: room that is reserved, and how late it is."""
        with self._mine, _not_waiting(), _catalogue():
            head = Position.read()
            now = clock.advance(head, self._clock)
            head.save()
            yield now

    def check(self, place: Path) -> None:
        """Raises Refused where the disk isn't the one that the catalogue follows from, before anything lands on it."""
        head = Position.read()  # before the file's size: meanwhile both may grow, the file first
        with _disk_errors(place, "the manifest"):
            is_short = manifest.size(place) < head.bytes
        if is_short:
            with self.take():  # what the disk's log has may be missing only
                pass

    @contextlib.contextmanager
    def take(self, follows: bool = False) -> Iterator[Turn]:
        """Raises Refused where the disk fails; then nothing has happened.

        Where all that is done `follows` from the manifest, which is on disk before the catalogue, that needn't be: what
        a power cut takes from it is caught up with.
        """
        with self._mine, _not_waiting() if follows else contextlib.nullcontext():
            place = self._disk()
            with _disk_errors(place, "the manifest"), Manifest(place) as file, self._redo.opened(place) as has_log:
                record = None
                try:
                    with _catalogue():
                        head = Position.read()
                        missed = self._redo.follow(place, file) if has_log else []
                        _catch_up(head, file)
                        put_back(place, missed)
                        has_log = has_log and self._redo.is_to_be_used(place, file)
                        turn = Turn(head, clock.advance(head, self._clock), has_log)
                        yield turn
                        if turn.text:
                            record = Record(head.bytes, turn.text, turn.content)
                            self._write(place, file, record, has_log)
                            head.bytes += len(turn.text)
                        head.save()
                except BaseException:
                    if record is not None:
                        self._take_back(file, record, has_log)
                    raise

    def _write(self, place: Path, file: Manifest, record: Record, has_log: bool) -> None:
        """On disk when it returns: in the log, from which the manifest follows, or in the manifest itself."""
        logged = has_log and self._redo.append(place, file, record)
        self._step("logged")
        if logged:
            file.write(record.lines, record.at)
        else:
            file.append(record.lines, record.at)

    def _take_back(self, file: Manifest, record: Record, has_log: bool) -> None:
        """What can't be is seen at the next turn, and is done then: it was whole, and its object is there."""
        if has_log:
            self._redo.forget()
        with contextlib.suppress(OSError, Refused), _catalogue():
            if Position.read().bytes == record.at:
                if has_log:
                    self._redo.take_back(record)
                file.cut(record.at)


@contextlib.contextmanager
def _not_waiting() -> Iterator[None]:
    """For the disk. In WAL mode that loses the last commits at worst, never the file (https://sqlite.org/wal.html)."""
    if not isinstance(vault_db.obj, peewee.SqliteDatabase) or vault_db.in_transaction():
        yield
        return
    sql("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        sql("PRAGMA synchronous = FULL")


@contextlib.contextmanager
def _catalogue() -> Iterator[None]:
    try:
        with vault_db.atomic():
            yield
    except peewee.PeeweeException as error:
        log.exception("the catalogue can't be written")
        raise Refused(451, f"the catalogue can't be written: {error}") from error


@contextlib.contextmanager
def _disk_errors(place: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise faults.refusal(place, what, error) from error


def put_back(place: Path, missed: Sequence[Record]) -> None:
    """Contents that the log has, as long as they are wanted."""
    for record in missed:
        if record.content and sql("SELECT 1 FROM version WHERE sha256 = ?", record.sha256).fetchone():
            objects.put(place, record.content)


def _check(size: int, head: Position) -> None:
    if size < head.bytes:
        raise Refused(451, "the disk's manifest is shorter than it was: see `gatehouse vault rebuild`")


def _catch_up(head: Position, file: Manifest) -> None:
    """What a crash left between the two: whole lines are done, half of one is cut off."""
    size = file.size
    _check(size, head)
    if size == head.bytes:
        return
    try:
        for line in file.lines(head.bytes, head.sha256, head.n):
            catalog.apply(line.record)
            head.n, head.sha256, head.bytes = line.record["n"], line.sha256, line.end
            head.at_ms = max(head.at_ms, line.record["at"])
            head.age_ms = max(head.age_ms, line.record["age"])
    except manifest.Broken as error:
        raise Refused(451, f"the disk's manifest is broken: {error}") from error
    if head.bytes < file.size:
        log.warning("manifest: %d bytes of an event that was broken off are cut off", file.size - head.bytes)
        file.cut(head.bytes)
