"""Refused logins, written down so that no login waits for it and no flood makes the database grow.

A login that is refused adds to a table in memory; a thread writes it about once a second. Of refusals that differ,
the first BURST are written as they are and then one more a second; the others are counted together, by router and
reason. There is no place here for passwords.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import peewee

from appliance import db

REASONS = {
    "unknown": "no account of this name",
    "password": "wrong password",
    "blocked": "the account is blocked",
    "date": "the account’s last day is over",
    "validity": "the validity since the first login is over",
    "unused voucher": "the voucher was not used in time",
    "window": "outside of the plan’s hours",
    "quota": "the data allowance is used up",
    "simultaneous": "online on too many devices",
    "pool": "no address of the plan’s pool is free",
    "busy": "the database was busy",
    "unread": "the database could not be asked",
    "eap": "WPA-Enterprise ended before a password was asked",
}
DOCTOR = "gatehouse-doctor"  # asks by a name that nobody has, and is nobody to be looked after
MANY = "…"  # the name of refusals that were only counted
MOST_ROWS = 150_000
BURST, A_SECOND = 100, 1.0
_WAITING = 400  # different refusals between two writes
_TOGETHER = 20  # different routers and reasons among those that are only counted
_TOGETHER_EVERY_S = 60
_EVERY_S = 1.0
_BUSY_TIMEOUT_MS = 200
_MAX_TEXT = 253  # RFC 2865, 5
_INSERT = "INSERT INTO refusal (at, name, account, nas, mac, reason, times) VALUES (?, ?, ?, ?, ?, ?, ?)"
_TRIM = "DELETE FROM refusal WHERE id <= (SELECT max(id) FROM refusal) - ?"


class Refusal(NamedTuple):
    """What was typed, whose account that is ("" where there is none), and a key of REASONS."""

    name: str
    account: str
    nas: str
    mac: str
    reason: str


class Book:
    """What waits to be written; pure but for its lock. `now` is in UTC seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Counter[Refusal] = Counter()
        self._together: Counter[tuple[str, str]] = Counter()
        self._left, self._filled_at, self._together_at = float(BURST), 0.0, 0.0

    def note(self, refusal: Refusal) -> None:
        with self._lock:
            if refusal in self._waiting or len(self._waiting) < _WAITING:
                self._waiting[refusal] += 1
            else:
                self._count(refusal, 1)

    def _count(self, refusal: Refusal, times: int) -> None:
        key = (refusal.nas, refusal.reason)
        self._together[key if key in self._together or len(self._together) < _TOGETHER else ("", "")] += times

    def take(self, now: float) -> list[tuple[Refusal, int]]:
        """What is to be written now, and how often each was."""
        with self._lock:
            self._left = min(BURST, self._left + max(0.0, now - self._filled_at) * A_SECOND)
            self._filled_at = now
            rows = []
            for refusal, times in self._waiting.items():
                if self._left >= 1:
                    self._left -= 1
                    rows.append((refusal, times))
                else:
                    self._count(refusal, times)
            self._waiting.clear()
            if abs(now - self._together_at) >= _TOGETHER_EVERY_S and self._together:
                self._together_at = now
                rows += [(Refusal(MANY, "", *_where(key)), times) for key, times in self._together.items()]
                self._together.clear()
        return rows


def _where(key: tuple[str, str]) -> Iterator[str]:
    nas, reason = key
    yield from (nas, "", reason or "unknown")


class Refusals:
    """Of one FreeRADIUS process; its thread begins with the first refusal."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._book = Book()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._unwritten: list[tuple[int, Refusal, int]] = []

    def note(self, name: str, account: str, nas: str, mac: str, reason: str) -> None:
        if name == DOCTOR and reason == "unknown":
            return
        self._book.note(Refusal(name[:_MAX_TEXT], account[:_MAX_TEXT], nas, mac, reason))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        database = db.connect(self._url, _BUSY_TIMEOUT_MS, durable=False)
        ended = False
        while not ended:
            ended = self._ending.wait(_EVERY_S)
            try:
                self._write(database)
            except peewee.PeeweeException:  # the next login meets the same trouble, and tells of it
                database.close()
        database.close()

    def _write(self, database: peewee.Database) -> None:
        if not self._unwritten:
            now = time.time()
            self._unwritten = [(int(now), refusal, times) for refusal, times in self._book.take(now)]
        if not self._unwritten:
            return
        mark = "?" if isinstance(database, peewee.SqliteDatabase) else "%s"
        with database.atomic():
            for at, refusal, times in self._unwritten:
                database.execute_sql(_INSERT.replace("?", mark), (at, *refusal, times))
            database.execute_sql(_TRIM.replace("?", mark), (MOST_ROWS,))
        self._unwritten = []
