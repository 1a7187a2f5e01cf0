"""Where datagrams go: into the journal on the data disk, or into a bounded spool on the system's while it is away.

The spool is a journal itself. Once the disk is back it is carried over in its order before anything newer is written,
each datagram exactly once, whichever step a crash or a failing disk comes between.
"""

import itertools
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import peewee

from appliance import db
from appliance.errors import UserError
from collector import journal
from collector.journal import Datagram, Dropped, Heard, Journal, Once

NAME = "spool.db"
DRAINED_AT_ONCE = 8 * 2**20  # bytes in a transaction

_FAILURES = (peewee.PeeweeException, sqlite3.Error, OSError)

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What came in a second. `drops` are the kernel's, `lost` others by cause."""

    datagrams: Sequence[Datagram] = ()
    drops: int = 0
    lost: dict[str, int] = {}  # noqa: RUF012 (never changed)
    others: Sequence[Heard] = ()

    def __bool__(self) -> bool:
        return bool(self.datagrams or self.drops or self.lost or self.others)


class Spool(Journal):
    """A journal that forgets its oldest rows when it is full, and counts them as lost.

    What a failing journal may have written nevertheless is noted with the number that it would have been written by.
    """

    STEPS = (
        *Journal.STEPS,
        db.Migration(
            2,
            "spool",
            "CREATE TABLE uncertain (source TEXT NOT NULL, number INTEGER NOT NULL,"
            " after_id INTEGER NOT NULL, last_id INTEGER NOT NULL);\n",
        ),
    )

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path)
        self._max_bytes = max_bytes

    def put(self, batch: Batch, uncertain: Once | None) -> None:
        with self.transaction():
            after = self.last_id()
            self.append(batch.datagrams, batch.drops, batch.lost)
            if uncertain is not None and batch.datagrams:
                self.run("INSERT INTO uncertain VALUES (?, ?, ?, ?)", *uncertain, after, self.last_id())
        self._bound()

    def _bound(self) -> None:
        while ids := self._excess(self._max_bytes, self.last_id()):
            with self.transaction():
                first, last = ids[0], ids[-1]
                since_ms, until_ms, count = self.one(
                    "SELECT min(since_ms), max(until_ms), sum(datagrams) FROM datagrams WHERE id BETWEEN ? AND ?",
                    first,
                    last,
                )
                self.forget(ids)
                self.add([], [Dropped(0, since_ms, until_ms, count, "spool")])

    def drain(self, book: Journal) -> bool:
        """Carries some over; whether nothing is left."""
        rows = list(self.read(0, max_bytes=DRAINED_AT_ONCE))
        done = book.written(self.name)
        new = [row for row in rows if row.id > done and not self._landed(row.id, book)]
        if rows:
            book.add(new, [], once=Once(self.name, rows[-1].id))
            self.forget([row.id for row in rows])
        self._drain_drops(book)
        return self.first_id() is None

    def _landed(self, id_: int, book: Journal) -> bool:
        row = self.one("SELECT source, number FROM uncertain WHERE after_id < ? AND last_id >= ?", id_, id_)
        return bool(row and book.written(row[0]) >= row[1])

    def _drain_drops(self, book: Journal) -> None:
        if drops := self.dropped():
            source = f"{self.name}-dropped"
            done = book.written(source)
            book.add([], [drop for drop in drops if drop.id > done], once=Once(source, drops[-1].id))
            self.run("DELETE FROM dropped WHERE id <= ?", drops[-1].id)

    def finish(self) -> None:
        """When all is carried over."""
        self.run("DELETE FROM uncertain")
        self._shrink()


class Store:
    """`disk` says where the journal's folder is; it raises UserError while nothing can be written there.

    `problem` is what is wrong now, empty while all goes to the disk.
    """

    def __init__(self, disk: Callable[[], Path], spool: Path, spool_bytes: int) -> None:
        self.problem = ""
        self._disk = disk
        self._spool = Spool(spool, spool_bytes)
        self._left = self._spool.first_id() is not None or bool(self._spool.dropped())
        self._book: Journal | None = None
        self._device = -1
        self._source = f"run-{secrets.token_hex(8)}"
        self._numbers = itertools.count(1)
        self._lost = 0

    def write(self, batch: Batch) -> None:
        """On disk when it returns, or counted as lost where both disks fail."""
        uncertain = None
        if self._lost:
            batch = batch._replace(lost=batch.lost | {"spool": self._lost + batch.lost.get("spool", 0)})
        try:
            book = self._opened()
            if self._drained(book):
                if batch:
                    uncertain = Once(self._source, next(self._numbers))
                    book.append(batch.datagrams, batch.drops, batch.lost, batch.others, uncertain)
                    self._lost = 0
                self._say("")
                return
            problem = f"what came while the data disk was away is carried over: {self.spooled_bytes >> 20} MB left"
        except UserError as error:
            self._close()
            problem = str(error)
        except _FAILURES as error:
            self._close()
            problem = f"the journal on the data disk can't be written: {error}"
        if batch:
            problem = self._put(batch, uncertain) or problem
        self._say(problem)

    def _opened(self) -> Journal:
        """The journal, anew where another file system lies at its place now."""
        folder = self._disk()
        device = os.stat(folder).st_dev  # noqa: PTH116 (of a Path it is the same)
        if self._book is None or device != self._device:
            self._close()
            self._book, self._device = Journal(folder / journal.NAME), device
        return self._book

    def _drained(self, book: Journal) -> bool:
        if self._left and self._spool.drain(book):
            self._spool.finish()
            self._left = False
        return not self._left

    def _put(self, batch: Batch, uncertain: Once | None) -> str:
        """What is wrong with the spool itself."""
        try:
            self._spool.put(batch, uncertain)
        except _FAILURES as error:
            self._lost += len(batch.datagrams)
            return f"neither the data disk nor the system's can be written ({error}): datagrams are lost"
        self._left, self._lost = True, 0
        return ""

    def _say(self, problem: str) -> None:
        """Logged when it changes; sizes in it aren't news."""
        if bool(problem) != bool(self.problem) or problem.partition(":")[0] != self.problem.partition(":")[0]:
            log.log(logging.WARNING if problem else logging.INFO, "%s", problem or "the data disk is written to")
        self.problem = problem

    @property
    def spooled_bytes(self) -> int:
        return self._spool.used_bytes() if self._left else 0

    def _close(self) -> None:
        if self._book is not None:
            with suppress(*_FAILURES):
                self._book.close()
        self._book = None

    def close(self) -> None:
        self._close()
        self._spool.close()
