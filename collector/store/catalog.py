"""The catalogue on the data disk: which segments there are, what is lost, what may not go, and the totals.

What the sealer has learnt lies in it too, and changes in the same transaction that names a new segment: so after a
crash both are as of the same journal row.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import peewee

from appliance import db
from collector.store.models import Column, Hold, Lost, SegmentFile

_BUSY_MS = 20_000
# No mapped pages: one of a disk that was pulled kills the process, where reading it only fails.
_PRAGMAS = {"journal_mode": "wal", "synchronous": "full", "busy_timeout": _BUSY_MS, "mmap_size": 0}
_FIELDS = (
    "path, rows, bytes, sha256, received_from_ms, received_until_ms, first_ms, last_ms, odd_first_ms, odd_last_ms,"
    " columns, clients, level, journal_after, journal_until, parked_bytes, ends_bytes, ends_sha256,"
    " id, damaged, state"
)


class Catalog:
    """One writer; others read. Raises peewee.PeeweeException where the disk fails."""

    def __init__(self, path: Path, write: bool = False) -> None:
        self.path = path
        self._database: Any = _writable(path) if write else _readable(path)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """On disk when it ends."""
        with self._database.atomic("IMMEDIATE"):
            yield

    @contextmanager
    def as_of_now(self) -> Iterator[None]:
        """Several questions about one state of it."""
        with self._database.atomic("DEFERRED"):
            yield

    def run(self, sql: str, *values: object) -> Any:
        return self._database.execute_sql(sql, values)

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._database.cursor().executemany(sql, rows)

    def one(self, sql: str, *values: object) -> Any:
        return self.run(sql, *values).fetchone()

    def rows(self, sql: str, *values: object) -> list[Any]:
        return list(self.run(sql, *values).fetchall())

    # Exporters

    def exporters(self) -> dict[int, str]:
        return dict(self.rows("SELECT id, address FROM exporter"))

    def exporter(self, address: str) -> int:
        """Its number, given at its first datagram: 31 bits of its address's SHA-256, so that a catalogue that is begun
        anew gives the same one, as a cluster knows flows by it; or the next that is free."""
        first = int.from_bytes(hashlib.sha256(address.encode()).digest()[:4]) >> 1
        for number in count(max(1, first)):
            self.know_exporters({number: address})
            if (row := self.one("SELECT id FROM exporter WHERE address = ?", address)) is not None:
                return int(row[0])
        raise AssertionError("numbers don't end")

    def know_exporters(self, addresses: Mapping[int, str]) -> None:
        """By numbers that somebody else gave; those that are taken here, or whose router has one, are left out."""
        self.run_many("INSERT OR IGNORE INTO exporter (id, address) VALUES (?, ?)", addresses.items())

    # What the sealer knows

    def kept(self, name: str) -> bytes | None:
        row = self.one("SELECT value FROM kept WHERE name = ?", name)
        return bytes(row[0]) if row else None

    def keep(self, name: str, value: bytes) -> None:
        self.run("INSERT OR REPLACE INTO kept VALUES (?, ?)", name, value)

    def sealed_until(self) -> int:
        """The last journal row whose flows are in segments."""
        return int(self.kept("sealed") or 0)

    # Segments

    def add(self, segment: SegmentFile) -> None:
        columns = json.dumps({name: list(bounds) for name, bounds in segment.columns.items()}, separators=(",", ":"))
        self.run(
            f"INSERT INTO segment ({_FIELDS}) VALUES ({'?, ' * 18}NULL, ?, ?)",  # noqa: S608
            segment.path, segment.rows, segment.size_bytes, segment.sha256, segment.received_from_ms,
            segment.received_until_ms, segment.first_ms, segment.last_ms, segment.odd_first_ms, segment.odd_last_ms,
            columns, segment.clients, segment.level, segment.journal_after, segment.journal_until,
            segment.parked_bytes, segment.ends_bytes, segment.ends_sha256, segment.damaged, segment.state,
        )  # fmt: skip

    def remove(self, segments: Iterable[SegmentFile], now_ms: int) -> None:
        """Their files go later, when nobody reads them any more."""
        for segment in segments:
            self.run("DELETE FROM segment WHERE id = ?", segment.id)
            self.run("INSERT OR REPLACE INTO gone VALUES (?, ?)", segment.path, now_ms)

    def segments(self, since_ms: int | None = None, until_ms: int | None = None) -> list[SegmentFile]:
        """Those that may have flows of a time, or all, in order of receipt."""
        where, values = "", ()
        if since_ms is not None and until_ms is not None:
            where = " WHERE first_ms < ? AND last_ms >= ? OR odd_first_ms < ? AND odd_last_ms >= ?"
            values = (until_ms, since_ms, until_ms, since_ms)  # type: ignore[assignment]
        order = " ORDER BY received_from_ms, id"
        return [_segment(row) for row in self.rows(f"SELECT {_FIELDS} FROM segment{where}{order}", *values)]  # noqa: S608

    def in_state(self, *states: int) -> list[tuple[int, str]]:
        """Numbers and SHA-256 of those, by state and the oldest first, without what is damaged."""
        among = ", ".join(f"{state:d}" for state in states)
        where = f"state IN ({among}) AND damaged IS NULL ORDER BY state, received_from_ms, id"
        return [(row[0], row[1]) for row in self.rows(f"SELECT id, sha256 FROM segment WHERE {where}")]  # noqa: S608

    def segment(self, id: int) -> SegmentFile | None:
        row = self.one(f"SELECT {_FIELDS} FROM segment WHERE id = ?", id)  # noqa: S608
        return None if row is None else _segment(row)

    def damage(self, segment: SegmentFile, why: str) -> None:
        self.run("UPDATE segment SET damaged = ? WHERE id = ?", why, segment.id)

    # Losses

    def lose(self, losses: Iterable[Lost], journal_until: int) -> None:
        for loss in losses:
            self.run(
                "INSERT INTO loss VALUES (NULL, ?, ?, ?, ?, ?, ?)",
                *loss,
                journal_until,
            )

    def losses(self, since_ms: int, until_ms: int) -> list[Lost]:
        rows = self.rows(
            "SELECT exporter, since_ms, until_ms, flows, cause FROM loss"
            " WHERE until_ms >= ? AND since_ms < ? ORDER BY since_ms, id",
            since_ms,
            until_ms,
        )
        return [Lost._make(row) for row in rows]

    # Holds

    def holds(self, released: bool = False) -> list[Hold]:
        fields = "id, since_ms, until_ms, reason, who, at_ms, released_by, released_ms"
        where = "" if released else " WHERE released_ms IS NULL"
        return [Hold._make(row) for row in self.rows(f"SELECT {fields} FROM hold{where} ORDER BY id")]  # noqa: S608


def _writable(path: Path) -> peewee.SqliteDatabase:
    database = peewee.SqliteDatabase(
        str(path), pragmas=_PRAGMAS, timeout=_BUSY_MS / 1000, thread_safe=False, check_same_thread=False
    )
    try:
        db.migrate(database, db.migrations("collector.store.migrations"))
    except BaseException:
        database.close()
        raise
    return database


def _readable(path: Path) -> peewee.SqliteDatabase:
    """Also for who may write neither the file nor what WAL needs beside it (https://sqlite.org/wal.html#read_only)."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    database = _opened(uri)
    try:
        database.execute_sql("SELECT number FROM schema_version LIMIT 1")
    except peewee.OperationalError:
        database.close()
        if not path.is_file() or path.with_name(f"{path.name}-wal").exists():
            raise
        database = _opened(f"{uri}&immutable=1")
    return database


def _opened(uri: str) -> peewee.SqliteDatabase:
    return peewee.SqliteDatabase(
        uri, uri=True, timeout=_BUSY_MS / 1000, pragmas={"mmap_size": 0}, thread_safe=False, check_same_thread=False
    )


def _segment(row: Sequence[Any]) -> SegmentFile:
    values = list(row)
    values[10] = {name: Column(*bounds) for name, bounds in json.loads(values[10]).items()}
    values[11] = bytes(values[11])
    return SegmentFile(*values)
