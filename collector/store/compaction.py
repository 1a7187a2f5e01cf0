"""Many small segments into few large ones, which searches open faster: those of an hour, then those of a day.

A flow is written at most three times in its life. Segments that are large already stay as they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np

from collector.store import packing, segments
from collector.store.models import ASKED, DAY, HISTORY, HOUR, LOADED, WAITS, Column, SegmentFile
from collector.store.packing import dtype_for
from collector.store.rollups import DAY_MS, HOUR_MS
from collector.store.unpacking import SQL_TYPES, File

MOST_ROWS = 2**21  # that are written anew together: of more, each file would be read in slivers
PORTION = 200_000  # rows in memory at once, and so of one segment, about
SMALL_ROWS = 100_000  # larger ones wait for their day, so that they are written anew only once
LATE_MS = 300_000  # after its end until an hour is looked at, so that its last segment is there

_FLAGS, _TIMES = ("up", "via", "twin"), ("first", "duration", "lag")
_WIDE = ("client_hi", "client_lo", "peer_hi", "peer_lo")


class Slice(NamedTuple):
    """Some clients' flows, by the lower half of their addresses (IPv4) or the upper (IPv6), that began in a time."""

    twin: bool
    family: int
    low: int
    high: int
    first_ms: int
    until_ms: int
    rows: int


def plan(known: Iterable[SegmentFile], now_ms: int) -> Iterator[tuple[int, list[SegmentFile]]]:
    """What to write as one, and its level; pure. What a cluster has isn't mixed with what it hasn't."""
    sound = sorted((s for s in known if not s.damaged), key=lambda s: (s.received_from_ms, s.id))
    for state in (WAITS, LOADED, HISTORY, ASKED):
        yield from _plan([s for s in sound if s.state == state], now_ms)


def _plan(sound: Sequence[SegmentFile], now_ms: int) -> Iterator[tuple[int, list[SegmentFile]]]:
    """Hours first, as days are made of them."""
    small = [s for s in sound if s.level < HOUR and s.rows < SMALL_ROWS]
    taken: set[int] = set()
    for group in _groups(small, HOUR_MS, now_ms):
        taken |= {s.id for s in group}
        yield HOUR, group
    rest = [s for s in sound if s.level < DAY and s.id not in taken]
    yield from ((DAY, group) for group in _groups(rest, DAY_MS, now_ms))


def _groups(parts: Sequence[SegmentFile], span_ms: int, now_ms: int) -> Iterator[list[SegmentFile]]:
    """Of each period that is over; of one that isn't, large ones that are enough already."""
    for period, members in groupby(parts, key=lambda s: s.received_from_ms // span_ms):
        over = (period + 1) * span_ms + LATE_MS <= now_ms
        group: list[SegmentFile] = []
        for part in members:
            if not over and part.rows < SMALL_ROWS:
                continue
            if group and sum(s.rows for s in group) + part.rows > MOST_ROWS:
                if len(group) > 1:
                    yield group
                group = []
            group.append(part)
        if over and len(group) > 1:
            yield group


def merge(
    con: duckdb.DuckDBPyConnection, parts: Sequence[SegmentFile], folder: Path, level: int
) -> Iterator[SegmentFile]:
    """Segments of all their flows, each of some clients'. They stay until the catalogue takes the new ones.

    Raises duckdb.Error where one can't be read.
    """
    journal = min(s.journal_after for s in parts), max(s.journal_until for s in parts)
    parked = max(parts, key=lambda s: s.journal_until).parked_bytes
    for columns in read(con, parts, folder):
        packed = packing.settled(columns)
        with segments.registered(con, packed):
            segment = segments.write_packed(packed, folder, con, journal, level, parked)
            yield replace(segment, state=parts[0].state)


def read(con: duckdb.DuckDBPyConnection, parts: Sequence[SegmentFile], folder: Path) -> Iterator[packing.Columns]:
    """All of them together, some clients at a time."""
    files = [File(folder / part.path, part.columns) for part in parts]
    bounds = {
        name: Column(min(s.columns[name].low for s in parts), max(s.columns[name].high for s in parts))
        for name in parts[0].columns
    }
    for portion in _portions(_slices(con, files)):
        yield _read(con, files, bounds, portion)


def _slices(con: duckdb.DuckDBPyConnection, files: Sequence[File]) -> Iterator[Slice]:
    """Ranges of clients that are small enough together; one client that isn't is cut by time."""
    keys = " UNION ALL ".join(
        f"SELECT {file.raw('twin', 'BOOLEAN')} AS twin, {file.raw('family', 'INTEGER')} AS family,"  # noqa: S608
        f" {_client(file)} AS client, {file.first()} AS f FROM {file.source}"
        for file in files
    )
    found = con.execute(
        "SELECT twin, family, client, count(*) AS rows, min(f) AS f, max(f) AS l"  # noqa: S608
        f" FROM ({keys}) GROUP BY ALL ORDER BY twin, family, client"
    ).fetchnumpy()
    sums = np.cumsum(found["rows"])
    kinds = found["twin"].astype(np.int64) * 2 + (found["family"] == 6)
    begin = 0
    while begin < len(sums):
        before = int(sums[begin - 1]) if begin else 0
        last = int(np.searchsorted(kinds, kinds[begin], side="right")) - 1
        end = min(max(begin, int(np.searchsorted(sums, before + PORTION, side="right")) - 1), last)
        kind, low, high = int(kinds[begin]), int(found["client"][begin]), int(found["client"][end])
        yield from _by_time(kind, low, high, int(sums[end]) - before, int(found["f"][begin : end + 1].min()),
                            int(found["l"][begin : end + 1].max()))  # fmt: skip
        begin = end + 1


def _by_time(kind: int, low: int, high: int, rows: int, first_ms: int, last_ms: int) -> Iterator[Slice]:
    many = max(1, rows // PORTION)
    edges = [first_ms + (last_ms + 1 - first_ms) * index // many for index in range(many + 1)]
    for begin, end in pairwise(edges):
        yield Slice(kind >= 2, 6 if kind % 2 else 4, low, high, begin, end, rows // many)


def _portions(slices: Iterable[Slice]) -> Iterator[list[Slice]]:
    portion: list[Slice] = []
    for part in slices:
        if portion and sum(s.rows for s in portion) + part.rows > PORTION:
            yield portion
            portion = []
        portion.append(part)
    if portion:
        yield portion


def _read(
    con: duckdb.DuckDBPyConnection, files: Sequence[File], bounds: dict[str, Column], portion: Sequence[Slice]
) -> packing.Columns:
    varying = {name: _type(name, bound) for name, bound in bounds.items() if bound.low != bound.high}
    selects = [_select(file, varying, part) for file in files for part in portion]
    found = con.execute(" UNION ALL ".join(selects)).fetchnumpy()
    rows = len(next(iter(found.values())))
    columns: packing.Columns = {}
    for name, bound in bounds.items():
        if name in varying:
            columns[name] = found[name]
        else:
            kind = np.bool_ if name in _FLAGS else np.int64 if name in _TIMES or bound.low < 0 else np.uint64
            columns[name] = np.broadcast_to(np.array(bound.low).astype(kind), rows)
    return columns


def _type(name: str, bounds: Column) -> str:
    """Wide where it is reckoned with."""
    if name in _FLAGS:
        return "BOOLEAN"
    return "BIGINT" if name in _TIMES else "UBIGINT" if name in _WIDE else SQL_TYPES[dtype_for(*bounds)]


def _select(file: File, varying: Mapping[str, str], part: Slice) -> str:
    chosen = [file.first() if name == "first" else file.raw(name, kind) for name, kind in varying.items()]
    named = ", ".join(f"{value} AS {name}" for name, value in zip(varying, chosen, strict=True))
    side = "client_lo" if part.family == 4 else "client_hi"
    conditions = [
        file.within("family", part.family, part.family),
        file.within("twin", part.twin, part.twin) if file.bounds["twin"].low == file.bounds["twin"].high else
        f"twin = {part.twin}",
        file.within(side, part.low, part.high),
        f"{file.first()} >= {part.first_ms} AND {file.first()} < {part.until_ms}",
    ]  # fmt: skip
    where = " AND ".join(condition for condition in conditions if condition)
    return f"SELECT {named or '1 AS nothing'} FROM {file.source} WHERE {where}"  # noqa: S608


def _client(file: File) -> str:
    return (
        f"CASE WHEN {file.raw('family', 'INTEGER')} = 6 THEN {file.raw('client_hi', 'UBIGINT')}"
        f" ELSE {file.raw('client_lo', 'UBIGINT')} END"
    )
