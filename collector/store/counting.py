"""The totals of rollups.py for flows that are at hand, as arrays: a fraction of what SQL takes for them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.flows import MARK_SUSPECT
from collector.store import packing
from collector.store.packing import Packed
from collector.store.rollups import GRAINS, MINUTE_MS, REST, Grain, Sums

Array = NDArray[Any]

_PORTS = np.isin(np.arange(256), (6, 17, 33, 132, 136))  # protocols that have ports
_DENSE = 2**21  # of periods and things together, that are counted without sorting
_MOST = 2**42  # of octets and packets of a flow, so that no sum of a segment's overflows
_MOST_SAMPLING = 2**20


class _Groups(NamedTuple):
    """Sums of a kind, in the order of `key`: a number for period and exporter, above 32 bits for the thing."""

    key: Array
    flows: Array
    packets: Array
    bytes: Array
    up_bytes: Array


class _Things(NamedTuple):
    """Which flows have them, 32 bits for each, and what those mean."""

    rows: Any
    numbers: Array
    name: Callable[[Array], list[bytes]]


def count(packed: Packed) -> Sums:
    """Of one segment that is about to be."""
    return _Counting(packed).sums()


class _Counting:
    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._kept: Any = slice(None)
        if packed.bounds["marks"].high >= MARK_SUSPECT:
            self._kept = np.flatnonzero((self._of("marks") & MARK_SUSPECT) == 0)
        received = self._first() + self._of("duration", np.int64) + self._of("lag", np.int64)
        minute = received // MINUTE_MS
        self._minute = int(minute.min()) if len(minute) else 0
        self._exporters, exporter = np.unique(self._of("exporter"), return_inverse=True)
        self._when = (minute - self._minute).astype(np.uint64) * np.uint64(max(1, len(self._exporters)))
        self._when += exporter.astype(np.uint64)
        self._values = [np.minimum(self._of(name), np.uint64(_MOST)).astype(np.int64) for name in ("packets", "bytes")]
        if packed.bounds["sampling"].high > 1:
            times = np.clip(self._of("sampling", np.int64), 1, _MOST_SAMPLING)
            self._values = [np.minimum(values * times, _MOST) for values in self._values]
        self._up = self._of("up").astype(np.bool_)
        self._values.append(np.where(self._up, self._values[1], 0))
        self._exact = all(int(values.max()) * len(values) < 2**53 for values in self._values if len(values))

    def _of(self, name: str, kind: Any = None) -> Array:
        values: Array
        if name in self._packed.columns:
            values = self._packed.columns[name][self._kept]
            return values if kind is None else values.astype(kind, copy=False)
        low = self._packed.bounds[name].low
        values = np.full(self._packed.rows, low, kind or (np.int64 if low < 0 else np.uint64))[self._kept]
        return values

    def _first(self) -> Array:
        low, high = self._packed.bounds["first"]
        return low + self._of("first", np.int64) if low != high else self._of("first", np.int64)

    def sums(self) -> Sums:
        sums: Sums = {grain.table: [] for grain in GRAINS}
        if not len(self._when):
            return sums
        for kind, things in self._kinds():
            groups = self._grouped(things)
            for before, grain in zip((GRAINS[0], *GRAINS), GRAINS, strict=False):
                groups = self._coarser(groups, before, grain)
                sums[grain.table] += self._rows(kind, grain, groups, things.name)
        ways = self._ways()
        for before, grain in zip((GRAINS[0], *GRAINS), GRAINS, strict=False):
            ways = [self._coarser(groups, before, grain) for groups in ways]
            sums[grain.table] += self._interfaces(grain, ways)
        return sums

    def _kinds(self) -> Iterator[tuple[int, _Things]]:
        protocol = self._of("protocol").astype(np.uint32)
        port = np.minimum(self._of("client_port"), self._of("peer_port")).astype(np.uint32)
        numbers = (protocol << np.uint32(16)) | np.where(_PORTS[protocol], port, np.uint32(0))
        yield 0, _Things(slice(None), numbers, _three)
        family = self._of("family")
        four = np.flatnonzero(family != 6)
        six = np.flatnonzero(family == 6)
        for kind, end in ((1, "client"), (2, "peer")):
            hi, lo = self._of(f"{end}_hi"), self._of(f"{end}_lo")
            rows: Any = four if len(six) else slice(None)
            if len(four):
                yield kind, _Things(rows, lo[rows].astype(np.uint32), _four)
            if len(six):
                yield kind, _six(six, hi[six].astype(np.uint64), lo[six].astype(np.uint64))

    def _grouped(self, things: _Things) -> _Groups:
        when, values = self._when[things.rows], [values[things.rows] for values in self._values]
        low, high = int(things.numbers.min()), int(things.numbers.max())
        if (int(when.max()) + 1) * (high - low + 1) <= _DENSE and self._exact:
            return _counted(when, things.numbers, low, high - low + 1, values)
        key = (when << np.uint64(32)) | things.numbers.astype(np.uint64)
        order = packing.ordered(key)
        key, starts = _starts(key[order])
        return _Groups(
            key, np.diff(starts, append=len(order)), *(np.add.reduceat(column[order], starts) for column in values)
        )

    def _coarser(self, fine: _Groups, before: Grain, grain: Grain) -> _Groups:
        """Periods are counted from the one that the first flow is in."""
        if grain is before:
            return fine
        many, span = np.uint64(max(1, len(self._exporters))), grain.span_ms // before.span_ms
        ahead = self._minute * MINUTE_MS // before.span_ms % span
        when = fine.key >> np.uint64(32)
        period = (when // many + np.uint64(ahead)) // np.uint64(span)
        key = ((period * many + when % many) << np.uint64(32)) | (fine.key & np.uint64(0xFFFFFFFF))
        columns: tuple[Array, ...] = fine[1:]
        if (key[1:] < key[:-1]).any():
            order = packing.ordered(key)
            key, columns = key[order], tuple(values[order] for values in columns)
        key, starts = _starts(key)
        return _Groups(key, *(np.add.reduceat(values, starts) for values in columns))

    def _rows(
        self, kind: int, grain: Grain, groups: _Groups, name: Callable[[Array], list[bytes]]
    ) -> list[tuple[Any, ...]]:
        """The largest of each period by name, the others of each exporter together."""
        many, span = max(1, len(self._exporters)), grain.span_ms // MINUTE_MS
        when = (groups.key >> np.uint64(32)).astype(np.int64)
        period, exporter = when // many, self._exporters[when % many]
        at = (self._minute // span + period) * grain.span_ms
        named, rows = _largest(period, groups.bytes, grain.most), []
        names = iter(name((groups.key & np.uint64(0xFFFFFFFF))[named]))
        columns = (at, exporter, groups.flows, groups.packets, groups.bytes, groups.up_bytes)
        for here, e, *values in zip(*(column[named].tolist() for column in columns), strict=True):
            rows.append((kind, here, e, next(names), *values))
        if named.all():
            return rows
        _, starts = _starts(when[~named])
        rest = [np.add.reduceat(column[~named], starts).tolist() for column in columns[2:]]
        places = [column[~named][starts].tolist() for column in columns[:2]]
        return rows + [(kind, here, e, REST, *values) for here, e, *values in zip(*places, *rest, strict=True)]

    def _ways(self) -> list[_Groups]:
        """By the interfaces they came in by, and went out by."""
        one, other = self._of("client_if", np.uint32), self._of("peer_if", np.uint32)
        ways = (np.where(self._up, one, other), np.where(self._up, other, one))
        return [self._grouped(_Things(slice(None), numbers, _four)) for numbers in ways]

    def _interfaces(self, grain: Grain, ways: list[_Groups]) -> list[tuple[Any, ...]]:
        """Octets in, and out as those up."""
        found: dict[tuple[Any, ...], list[int]] = {}
        for out, groups in enumerate(ways):
            for row in self._rows(3, grain, groups, _four):
                flows, packets, octets, _ = row[4:]
                sums = found.setdefault(row[:4], [0, 0, 0, 0])
                for index, value in enumerate((flows, packets, octets, octets * out)):
                    sums[index] += value
        return [(*key, *values) for key, values in found.items()]


def _four(numbers: Array) -> list[bytes]:
    return [int(number).to_bytes(4, "big") for number in numbers]


def _three(numbers: Array) -> list[bytes]:
    return [int(number).to_bytes(3, "big") for number in numbers]


def _counted(when: Array, numbers: Array, low: int, span: int, values: list[Array]) -> _Groups:
    """Without sorting, where the numbers lie close together."""
    code = when.astype(np.int64) * span + (numbers.astype(np.int64) - low)
    flows = np.bincount(code)
    there = np.flatnonzero(flows)
    key = ((there // span).astype(np.uint64) << np.uint64(32)) | (there % span + low).astype(np.uint64)
    sums = (np.bincount(code, weights=column)[there].astype(np.int64) for column in values)
    return _Groups(key, flows[there], *sums)


def _six(rows: Array, hi: Array, lo: Array) -> _Things:
    """IPv6 addresses by their place among those there are."""
    order = np.lexsort((lo, hi))
    hi, lo = hi[order], lo[order]
    new = np.flatnonzero(np.r_[True, (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])])
    place = np.empty(len(order), np.uint32)
    place[order] = np.repeat(np.arange(len(new), dtype=np.uint32), np.diff(new, append=len(order)))
    hi, lo = hi[new], lo[new]
    return _Things(rows, place, lambda n: [(int(hi[x]) << 64 | int(lo[x])).to_bytes(16, "big") for x in n])


def _starts(key: Array) -> tuple[Array, Array]:
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    return key[starts], starts


def _largest(period: Array, size: Array, most: int) -> Array:
    """A mask of the `most` largest of each period; periods are in order."""
    named = np.zeros(len(period), np.bool_)
    _, starts = _starts(period)
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(period)], strict=True):
        if end - start <= most:
            named[start:end] = True
        else:
            named[start + np.argpartition(size[start:end], -most)[-most:]] = True
    return named
