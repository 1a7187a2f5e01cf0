"""One change after the other: manifest first, then the catalogue, and nothing of either where one fails."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peewee

from appliance.vault import catalog, clock, faults, manifest
from appliance.vault.clock import Clock
from appliance.vault.manifest import Manifest
from appliance.vault.models import Head, Refused, sql, vault_db

log = logging.getLogger(__name__)


class Turn:
    """What is added is seen in the catalogue at once, and is true once the turn has ended well."""

    def __init__(self, head: Any, now: clock.Now) -> None:
        self.head = head
        self.now = now
        self.text = b""

    def add(self, event: str, vault: str, **fields: Any) -> dict[str, Any]:
        head = self.head
        at_ms = max(self.now.at_ms, head.at_ms + 1)
        record = {"n": head.n + 1, "previous": head.sha256, "at": at_ms, "age": head.age_ms}
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

    def __init__(self, disk: Callable[[], Path], clock_: Clock) -> None:
        self._disk = disk
        self._clock = clock_
        self._mine = threading.RLock()

    @contextlib.contextmanager
    def plain(self) -> Iterator[clock.Now]:
        """For what is no event, and needn't outlive a power cut: room that is reserved, and how late it is."""
        with self._mine, _not_waiting(), _catalogue():
            head = Head.get_by_id(1)
            now = clock.advance(head, self._clock)
            head.save()
            yield now

    def check(self, place: Path) -> None:
        """Raises Refused where the disk isn't the one that the catalogue follows from, before anything lands on it."""
        with _disk_errors(place, "the manifest"), Manifest(place) as file:
            head = Head.get_by_id(1)  # before the file's size: meanwhile both may grow, the file first
            _check(file.size, head)

    @contextlib.contextmanager
    def take(self) -> Iterator[Turn]:
        """Raises Refused where the disk fails; then nothing has happened."""
        with self._mine:
            place = self._disk()
            with _disk_errors(place, "the manifest"), Manifest(place) as file:
                size = None
                try:
                    with _catalogue():
                        head = Head.get_by_id(1)
                        _catch_up(head, file)
                        turn = Turn(head, clock.advance(head, self._clock))
                        yield turn
                        if turn.text:
                            size = head.bytes
                            file.append(turn.text, size)
                            head.bytes += len(turn.text)
                        head.save()
                except BaseException:
                    if size is not None:
                        _take_back(file, size)
                    raise


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
        with vault_db.atomic("IMMEDIATE"):
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


def _take_back(file: Manifest, size: int) -> None:
    """What can't be is seen at the next turn, and is done then: it was whole, and its object is there."""
    with contextlib.suppress(OSError):
        file.cut(size)


def _check(size: int, head: Any) -> None:
    if size < head.bytes:
        raise Refused(451, "the disk's manifest is shorter than it was: see `gatehouse vault rebuild`")


def _catch_up(head: Any, file: Manifest) -> None:
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
