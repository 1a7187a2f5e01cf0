"""The truth of the collector: the datagrams that routers sent, as they came, in an SQLite file of its own.

One exporter's datagrams of one transaction are one row; ids only grow, and are the order of receipt.
"""

import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import peewee
import zstandard

from appliance import db

NAME = "journal.db"
MAX_RAW_BYTES = 4 * 2**20  # of a row before it is packed
MAX_SPAN_MS = 3_600_000  # of a row: a clock that was set begins a new one
READ_BYTES = 32 * 2**20
KEEP_DROPS = 100_000
KEEP_OTHERS = 1000  # senders that aren't collected, the last that were heard: anybody can forge addresses

_HEAD = struct.Struct("<IH")  # ms after the row's `since_ms`, length
_LEVEL = 1
_BUSY_MS = 20_000
_EXPIRED_AT_ONCE = 200  # rows in a transaction, so that the next second's needn't wait
_FREE_PAGES, _FREE_SHARE, _VACUUMED_PAGES = 4096, 8, 1000

_PRAGMAS = {
    "auto_vacuum": "incremental",  # before anything else makes the file
    "journal_mode": "wal",
    "synchronous": "full",
    "mmap_size": 0,  # a mapped page of a disk that was pulled kills the process (SIGBUS), a read only fails
}


class Datagram(NamedTuple):
    """`exporter` is the sender's address as text, IPv4 as such and not mapped."""

    received_ms: int
    exporter: str
    payload: bytes


class Row(NamedTuple):
    """`packed` is zstd over (u32 ms after since, u16 length, payload)*, little-endian."""

    id: int
    exporter: str
    since_ms: int
    until_ms: int
    datagrams: int
    packed: bytes


OTHERS = "others"  # heard too, but too many to be named


class Heard(NamedTuple):
    """What came of an address so far. It is `collected` where its router is switched on."""

    exporter: str
    collected: bool
    datagrams: int
    bytes: int
    first_ms: int
    last_ms: int


class Dropped(NamedTuple):
    """Datagrams that are lost, whose exporter nobody knows; `cause` is kernel, queue or spool."""

    id: int
    since_ms: int
    until_ms: int
    datagrams: int
    cause: str


class Once(NamedTuple):
    """Numbers of one `source` only grow: what says a number that was written already isn't written again."""

    source: str
    number: int


def unpack(row: Row) -> list[Datagram]:
    """Raises ValueError for what no journal wrote."""
    if zstandard.get_frame_parameters(row.packed).content_size > 2 * MAX_RAW_BYTES:
        raise ValueError(f"row {row.id} is too large")
    try:
        raw = zstandard.ZstdDecompressor().decompress(row.packed)
    except zstandard.ZstdError as error:
        raise ValueError(f"row {row.id}: {error}") from None
    found, at = [], 0
    while at < len(raw):
        try:
            after_ms, length = _HEAD.unpack_from(raw, at)
        except struct.error as error:
            raise ValueError(f"row {row.id}: {error}") from None
        at += _HEAD.size
        found.append(Datagram(row.since_ms + after_ms, row.exporter, raw[at : at + length]))
        at += length
    if at != len(raw):
        raise ValueError(f"row {row.id} ends within a datagram")
    return found


def pack(datagrams: Iterable[Datagram]) -> list[Row]:
    """Rows without an id, each exporter's datagrams in their order."""
    by_exporter: dict[str, list[Datagram]] = {}
    for datagram in datagrams:
        by_exporter.setdefault(datagram.exporter, []).append(datagram)
    return [_packed(part) for whole in by_exporter.values() for part in _parts(whole)]


def _parts(datagrams: Sequence[Datagram]) -> Iterator[Sequence[Datagram]]:
    begin, size = 0, 0
    since_ms = until_ms = datagrams[0].received_ms
    for index, datagram in enumerate(datagrams):
        at_ms = datagram.received_ms
        since_ms, until_ms = min(since_ms, at_ms), max(until_ms, at_ms)
        size += _HEAD.size + len(datagram.payload)
        if index > begin and (size > MAX_RAW_BYTES or until_ms - since_ms > MAX_SPAN_MS):
            yield datagrams[begin:index]
            begin, size, since_ms, until_ms = index, _HEAD.size + len(datagram.payload), at_ms, at_ms
    yield datagrams[begin:]


def _packed(datagrams: Sequence[Datagram]) -> Row:
    since_ms = min(datagram.received_ms for datagram in datagrams)
    raw = bytearray()
    for at_ms, _, payload in datagrams:
        raw += _HEAD.pack(at_ms - since_ms, len(payload))
        raw += payload
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(raw)
    until_ms = max(datagram.received_ms for datagram in datagrams)
    return Row(0, datagrams[0].exporter, since_ms, until_ms, len(datagrams), packed)


_STEPS = (
    db.Migration(
        1,
        "journal",
        """
CREATE TABLE datagrams (
    id {id},
    exporter TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    datagrams INTEGER NOT NULL,
    packed BLOB NOT NULL
);
CREATE INDEX datagrams_until ON datagrams (until_ms);
CREATE TABLE heard (
    exporter TEXT NOT NULL PRIMARY KEY,
    collected INTEGER NOT NULL,
    datagrams INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE dropped (
    id {id},
    since_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    datagrams INTEGER NOT NULL,
    cause TEXT NOT NULL
);
CREATE TABLE written (source TEXT NOT NULL PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE own (name TEXT NOT NULL);
""",
    ),
)


class Journal:
    """One writer appends, another expires; any number read, with `write` off also who may only read the file.

    Raises peewee.PeeweeException where the file or its disk can't be used.
    """

    STEPS: tuple[db.Migration, ...] = _STEPS

    def __init__(self, path: Path, write: bool = True) -> None:
        self.path = path
        if write:
            self._database = peewee.SqliteDatabase(
                str(path), pragmas=_PRAGMAS, timeout=_BUSY_MS / 1000, thread_safe=False, check_same_thread=False
            )
            try:
                db.migrate(self._database, self.STEPS)
                self.name = self._own_name()
            except BaseException:
                self._database.close()
                raise
        else:
            uri = f"{path.absolute().as_uri()}?mode=ro"
            self._database = peewee.SqliteDatabase(uri, uri=True, timeout=_BUSY_MS / 1000, pragmas={"mmap_size": 0})

    def _own_name(self) -> str:
        """It is told apart by from another that lay at the same path."""
        with self.transaction():
            row = self.one("SELECT name FROM own")
            if row is None:
                row = (secrets.token_hex(8),)
                self.run("INSERT INTO own VALUES (?)", *row)
        return str(row[0])

    def close(self) -> None:
        self._database.close()

    def append(
        self,
        datagrams: Sequence[Datagram],
        drops: int = 0,
        lost: Mapping[str, int] | None = None,
        others: Iterable[Heard] = (),
        once: Once | None = None,
    ) -> bool:
        """On disk when it returns. `drops` are the kernel's, `lost` others by cause; `others` is about those whose
        datagrams aren't collected. False where `once` was written before."""
        now_ms = int(time.time() * 1000)
        causes = ({"kernel": drops} if drops else {}) | dict(lost or {})
        dropped = [Dropped(0, now_ms - 1000, now_ms, count, cause) for cause, count in causes.items()]
        return self.add(pack(datagrams), dropped, others, once)

    def add(
        self, rows: Sequence[Row], dropped: Sequence[Dropped], others: Iterable[Heard] = (), once: Once | None = None
    ) -> bool:
        """Packed rows, such as those of another journal; their ids are given anew."""
        with self.transaction():
            if once is not None and not self._note(once):
                return False
            for row in rows:
                self.run("INSERT INTO datagrams VALUES (NULL, ?, ?, ?, ?, ?)", *row[1:])
            for drop in dropped:
                self.run("INSERT INTO dropped VALUES (NULL, ?, ?, ?, ?)", *drop[1:])
            if dropped:
                self.run("DELETE FROM dropped WHERE id <= (SELECT max(id) FROM dropped) - ?", KEEP_DROPS)
            for heard in [*(_heard(row) for row in rows), *others]:
                self.run(
                    "INSERT INTO heard VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (exporter) DO UPDATE SET"
                    " collected = excluded.collected, datagrams = datagrams + excluded.datagrams,"
                    " bytes = bytes + excluded.bytes, last_ms = excluded.last_ms",
                    *heard,
                )
            if others:
                self.run(
                    "DELETE FROM heard WHERE NOT collected AND exporter NOT IN"
                    " (SELECT exporter FROM heard WHERE NOT collected ORDER BY last_ms DESC LIMIT ?)",
                    KEEP_OTHERS,
                )
        return True

    def _note(self, once: Once) -> bool:
        if self.written(once.source) >= once.number:
            return False
        self.run("INSERT OR REPLACE INTO written VALUES (?, ?)", *once)
        return True

    def written(self, source: str) -> int:
        """The last number of that source; 0 if it wrote nothing yet."""
        row = self.one("SELECT number FROM written WHERE source = ?", source)
        return int(row[0]) if row else 0

    def read(self, after: int, until: int | None = None, max_bytes: int = READ_BYTES) -> Iterator[Row]:
        """Rows after one id and up to another in order, until they are together about `max_bytes` packed."""
        while max_bytes > 0:
            rows = self._all(
                "SELECT id, exporter, since_ms, until_ms, datagrams, packed FROM datagrams"
                " WHERE id > ? AND (? IS NULL OR id <= ?) ORDER BY id LIMIT 16",
                after,
                until,
                until,
            )
            if not rows:
                return
            for row in map(Row._make, rows):
                if max_bytes <= 0:
                    return
                after, max_bytes = row.id, max_bytes - len(row.packed)
                yield row

    def last_id(self) -> int:
        """Of all rows there ever were."""
        row = self.one("SELECT seq FROM sqlite_sequence WHERE name = 'datagrams'")
        return int(row[0]) if row else 0

    def first_id(self) -> int | None:
        """Of the rows that are still there."""
        (found,) = self.one("SELECT min(id) FROM datagrams") or (None,)
        return found

    def period(self, since_ms: int, until_ms: int) -> tuple[int, int] | None:
        """First and last id of the rows with datagrams of that time, which others may lie between."""
        row = self.one(
            "SELECT min(id), max(id) FROM datagrams WHERE until_ms >= ? AND until_ms < ? AND since_ms < ?",
            since_ms,
            until_ms + MAX_SPAN_MS,
            until_ms,
        )
        return (int(row[0]), int(row[1])) if row and row[0] is not None else None

    def heard(self) -> list[Heard]:
        rows = self._all("SELECT exporter, collected, datagrams, bytes, first_ms, last_ms FROM heard ORDER BY exporter")
        return [Heard(row[0], bool(row[1]), *row[2:]) for row in rows]

    def dropped(self, after: int = 0) -> list[Dropped]:
        rows = self._all("SELECT id, since_ms, until_ms, datagrams, cause FROM dropped WHERE id > ? ORDER BY id", after)
        return [Dropped._make(row) for row in rows]

    def used_bytes(self) -> int:
        """Without pages that are free to be used again."""
        pages, free, size = (self._pragma(name) for name in ("page_count", "freelist_count", "page_size"))
        return (pages - free) * size

    def expire(self, keep_hours: float, keep_bytes: int, sealed_until: int, now_ms: int | None = None) -> int:
        """Deletes what is sealed, up to that id, and too old or too much; returns how many rows."""
        before_ms = (int(time.time() * 1000) if now_ms is None else now_ms) - int(keep_hours * 3_600_000)
        count = 0
        while ids := self._old(before_ms, sealed_until) or self._excess(keep_bytes, sealed_until):
            self.forget(ids)
            count += len(ids)
        self._shrink()
        return count

    def _old(self, before_ms: int, sealed_until: int) -> list[int]:
        rows = self._all(
            "SELECT id FROM datagrams WHERE until_ms < ? AND id <= ? LIMIT ?", before_ms, sealed_until, _EXPIRED_AT_ONCE
        )
        return [row[0] for row in rows]

    def _excess(self, keep_bytes: int, sealed_until: int) -> list[int]:
        """The oldest of what is sealed that make it small enough."""
        excess, ids = self.used_bytes() - keep_bytes, []
        if excess <= 0:
            return []
        for id_, size in self._all(
            "SELECT id, length(packed) FROM datagrams WHERE id <= ? ORDER BY id LIMIT ?", sealed_until, _EXPIRED_AT_ONCE
        ):
            if excess <= 0:
                break
            ids.append(id_)
            excess -= size
        return ids

    def forget(self, ids: Sequence[int]) -> None:
        with self.transaction():
            for id_ in ids:
                self.run("DELETE FROM datagrams WHERE id = ?", id_)

    def _shrink(self) -> None:
        """Gives back what is free beyond what the next hours use again."""
        while self._pragma("freelist_count") > _FREE_PAGES + self._pragma("page_count") // _FREE_SHARE:
            self._all(f"PRAGMA incremental_vacuum({_VACUUMED_PAGES})")

    def _pragma(self, name: str) -> int:
        (value,) = self.one(f"PRAGMA {name}") or (0,)
        return int(value)

    def transaction(self) -> Any:
        return self._database.atomic("IMMEDIATE")

    def run(self, sql: str, *values: object) -> Any:
        return self._database.execute_sql(sql, values)

    def one(self, sql: str, *values: object) -> Any:
        return self.run(sql, *values).fetchone()

    def _all(self, sql: str, *values: object) -> list[Any]:
        return list(self.run(sql, *values).fetchall())


def _heard(row: Row) -> Heard:
    size = zstandard.get_frame_parameters(row.packed).content_size - row.datagrams * _HEAD.size
    return Heard(row.exporter, True, row.datagrams, size, row.since_ms, row.until_ms)
