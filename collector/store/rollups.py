"""Totals by minute, hour and day, by service, client, destination and interface. Nothing here opens flows.

A flow counts in the minute in which it was received, so that a period that is over stays as it is. Each keeps the
largest things by name, up to a bound, and the rest of each exporter as one: their sums are always those of all flows,
but for suspect ones. Packets and octets are times the sampling.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple

from collector.store.catalog import Catalog
from collector.store.models import Range

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
REST = b""  # the thing of what isn't kept by name
KINDS = ("service", "client", "destination", "interface")

_MOST = 2**61  # what a total stops at: routers that lie may not overflow it
_VALUES = ("flows", "packets", "bytes", "up_bytes")
_ADD = (
    "INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, at, exporter, thing) DO UPDATE SET "  # noqa: S608
    + ", ".join(f"{name} = min({name} + excluded.{name}, {_MOST})" for name in _VALUES)
)
# Of several totals: sum() ends the question where it overflows. Exact up to 2**53, nine petabytes.
_SUMS = ", ".join(f"CAST(total({name}) AS INTEGER)" for name in _VALUES)


@dataclass(frozen=True)
class Grain:
    """How fine, how long it is kept, and how many things of a kind a period has by name: `most` when they are
    brought down, up to twice that in between."""

    table: str
    span_ms: int
    keep_ms: int | None
    most: int


GRAINS = (
    Grain("total_minute", MINUTE_MS, 2 * DAY_MS, 64),
    Grain("total_hour", HOUR_MS, 90 * DAY_MS, 256),
    Grain("total_day", DAY_MS, None, 1024),
)


class Total(NamedTuple):
    """`up_bytes` are those from the client, or out of the interface. `key` is what `label` is the text of."""

    key: bytes
    flows: int
    packets: int
    bytes: int
    up_bytes: int


class Point(NamedTuple):
    at_ms: int
    total: Total


# Things, as the tables have them


def service(protocol: int, port: int) -> bytes:
    return struct.pack(">BH", protocol, port)


def label(kind: str, key: bytes) -> str:
    """`6/443`, an address, or an interface's number; empty for the rest."""
    if not key:
        return ""
    if kind == "service":
        protocol, port = struct.unpack(">BH", key)
        return f"{protocol}/{port}"
    return str(ip_address(key)) if kind != "interface" else str(int.from_bytes(key, "big"))


# Adding


Sums = dict[str, list[tuple[Any, ...]]]  # by table: rows as they have them


def add(catalog: Catalog, sums: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    """Within the transaction that names the segment they are of."""
    for grain in GRAINS:
        rows = sums.get(grain.table, ())
        catalog.run_many(_ADD.format(table=grain.table), rows)
        for kind, at in {(row[0], row[1]) for row in rows}:
            _bound(catalog, grain, kind, at)


def taken_away(sums: Sums) -> Sums:
    """What to add when those flows are replaced."""
    return {table: [(*row[:4], *(-value for value in row[4:])) for row in rows] for table, rows in sums.items()}


def _bound(catalog: Catalog, grain: Grain, kind: int, at: int) -> None:
    """Into the rest: what is too small to be kept by name, and what is owed because it was in the rest before."""
    where = f"FROM {grain.table} WHERE kind = ? AND at = ?"
    count, owed = catalog.one(f"SELECT count(*), min(flows) < 0 {where}", kind, at)
    which, offset = ("AND flows < 0", 0) if owed else ("", grain.most)
    if count <= 2 * grain.most and not owed:
        return
    small = catalog.rows(
        f"SELECT exporter, thing, flows, packets, bytes, up_bytes {where} AND thing <> x'' {which}"
        " ORDER BY bytes DESC LIMIT -1 OFFSET ?",
        kind, at, offset,
    )  # fmt: skip
    catalog.run_many(
        f"DELETE {where} AND exporter = ? AND thing = ?",
        [(kind, at, row[0], bytes(row[1])) for row in small],
    )
    catalog.run_many(_ADD.format(table=grain.table), [(kind, at, row[0], REST, *row[2:]) for row in small])


def expire(catalog: Catalog, now_ms: int) -> None:
    for grain in GRAINS:
        if grain.keep_ms is not None:
            for kind in range(len(KINDS)):
                catalog.run(f"DELETE FROM {grain.table} WHERE kind = ? AND at < ?", kind, now_ms - grain.keep_ms)  # noqa: S608


# Asking


def top(
    catalog: Catalog,
    range: Range,
    by: str,
    order: str = "bytes",
    limit: int = 10,
    exporters: Iterable[int] | None = None,
) -> list[Total]:
    """The largest things of a kind; what lies below the bound of a period is in the last one, REST, if any does."""
    if order not in Total._fields[1:]:
        raise ValueError(f"no order by {order}")
    source, values = _source(catalog, range, by, exporters, "thing")
    largest = f"WHERE key <> x'' GROUP BY key ORDER BY total({order}) DESC, key LIMIT ?"
    rows = catalog.rows(f"SELECT key, {_SUMS} FROM {source} {largest}", *values, limit)  # noqa: S608
    named = [Total(bytes(row[0]), *row[1:]) for row in rows]
    all_ = catalog.one(f"SELECT {_SUMS} FROM {source}", *values)  # noqa: S608
    rest = [(value or 0) - sum(taken) for value, *taken in zip(all_, *(total[1:] for total in named), strict=True)]
    return named + ([Total(REST, *rest)] if any(rest) else [])


def whole(catalog: Catalog, range: Range, exporters: Iterable[int] | None = None) -> Total:
    """Of all flows of a time."""
    source, values = _source(catalog, range, "service", exporters, "x''")
    return Total(REST, *(value or 0 for value in catalog.one(f"SELECT {_SUMS} FROM {source}", *values)))  # noqa: S608


def over_time(
    catalog: Catalog,
    range: Range,
    step_ms: int,
    by: str | None = None,
    only: Iterable[bytes] | None = None,
    exporters: Iterable[int] | None = None,
) -> list[Point]:
    """One point for each step that has flows, and for each thing, with `by`; counted from the epoch."""
    grain, part = steps(range, step_ms)
    kind, thing = KINDS.index(by or "service"), "thing" if by else "x''"
    condition, values = _among("exporter", exporters)
    keys, key_values = _among("thing", only)
    rows = catalog.rows(
        f"SELECT at / {step_ms:d} * {step_ms:d} AS step, {thing} AS key, {_SUMS}"  # noqa: S608
        f" FROM {grain.table} WHERE kind = ? AND at >= ? AND at < ?{condition}{keys}"
        " GROUP BY step, key ORDER BY step, key",
        kind, part.since_ms, part.until_ms, *values, *key_values,
    )  # fmt: skip
    return [Point(row[0], Total(bytes(row[1]), *row[2:])) for row in rows]


def steps(range: Range, step_ms: int) -> tuple[Grain, Range]:
    """What points so far apart are made of, and the periods of it that a range reaches into."""
    grain = [GRAINS[0], *(g for g in GRAINS if g.span_ms <= step_ms and step_ms % g.span_ms == 0)][-1]
    return grain, Range(range.since_ms // grain.span_ms * grain.span_ms, range.until_ms)


def spans(range: Range, kept_since: Mapping[str, int]) -> Iterator[tuple[Grain, Range]]:
    """A range as days, hours and minutes, each where it fits and is still kept; else the coarser one around it."""
    yield from _split(range, list(reversed(GRAINS)), kept_since)


def _split(range: Range, grains: Sequence[Grain], kept_since: Mapping[str, int]) -> Iterator[tuple[Grain, Range]]:
    grain, finer = grains[0], grains[1:]
    if range.since_ms >= range.until_ms:
        return
    begin, end = -(-range.since_ms // grain.span_ms) * grain.span_ms, range.until_ms // grain.span_ms * grain.span_ms
    if not finer or range.since_ms < kept_since.get(finer[0].table, 0):
        begin = range.since_ms // grain.span_ms * grain.span_ms
    if not finer:
        end = -(-range.until_ms // grain.span_ms) * grain.span_ms
    if begin >= end:
        yield from _split(range, finer, kept_since)
        return
    yield grain, Range(begin, end)
    if finer:
        yield from _split(Range(range.since_ms, begin), finer, kept_since)
        yield from _split(Range(end, range.until_ms), finer, kept_since)


def _source(
    catalog: Catalog, range: Range, by: str, exporters: Iterable[int] | None, thing: str
) -> tuple[str, list[Any]]:
    """SQL of a kind's rows of a time, as (key, flows, packets, bytes, up_bytes), and its values."""
    kind, wanted = KINDS.index(by), None if exporters is None else list(exporters)
    condition, values = _among("exporter", wanted)
    parts, all_values = ["SELECT x'' AS key, 0 AS flows, 0 AS packets, 0 AS bytes, 0 AS up_bytes WHERE false"], []
    for grain, part in spans(range, _kept_since(catalog)):
        parts.append(
            f"SELECT {thing} AS key, flows, packets, bytes, up_bytes FROM {grain.table}"  # noqa: S608
            f" WHERE kind = ? AND at >= ? AND at < ?{condition}"
        )
        all_values += [kind, part.since_ms, part.until_ms, *values]
    return f"({' UNION ALL '.join(parts)})", all_values


def _kept_since(catalog: Catalog) -> dict[str, int]:
    """The first period of each grain that is still there."""
    found = {}
    for grain in GRAINS:
        (at,) = catalog.one(f"SELECT min(at) FROM {grain.table} WHERE kind = 0")  # noqa: S608
        found[grain.table] = int(at or 0)
    return found


def _among(column: str, values: Iterable[Any] | None) -> tuple[str, list[Any]]:
    if values is None:
        return "", []
    chosen = list(values)
    return f" AND {column} IN ({', '.join('?' * len(chosen))})", chosen
