"""A second order of a segment: which of its rows may have an address and port at a time, NAT's among them.

The segment itself is in the order of its clients, and so answers for their own addresses. For all others there is a
Bloom filter of each of its row groups, over (address, port, slot of time), in a file beside it. This only spares
looking: where it is missing or spoiled, all rows are looked at.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.store.packing import SAME, Packed

MOST_SLOTS = 64  # that are asked for at once
_SLOT_BITS = 19  # of ms: nine minutes
_LONGEST = 8  # slots; a longer flow is found at any time
_ANY_TIME, _EVENT = 1 << 32, 1 << 33  # instead of a slot: NAT events are few, and asked for over days
_BITS, _HASHES = 10, 7  # of each member: eight of a thousand row groups are looked at in vain
_HEAD = struct.Struct("<4sII")  # rows of a group, groups; then how large each one's filter is
_MAGIC = b"end1"
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

Array = NDArray[Any]
Span = tuple[int, int]


def pack(packed: Packed, group: int) -> bytes:
    """Of a segment whose row groups have so many rows."""
    filters = [_filter(_Group(packed, slice(at, at + group)).members()) for at in range(0, packed.rows, group)]
    sizes = np.array([len(one) for one in filters], "<u4").tobytes()
    return b"".join([_HEAD.pack(_MAGIC, group, len(filters)), sizes, *filters])


def slots(since_ms: int, until_ms: int) -> list[int] | None:
    """What to look for of flows of a time; None where that is too long for it."""
    first, last = since_ms >> _SLOT_BITS, (until_ms - 1) >> _SLOT_BITS
    if last - first >= MOST_SLOTS:
        return None
    return [*(slot & (_ANY_TIME - 1) for slot in range(first, last + 1)), _ANY_TIME]


EVENTS = [_EVENT]  # what to look for of NAT events


def spans(data: bytes, hi: int, lo: int, port: int, wanted: list[int]) -> list[Span]:
    """First and last rows of each group that may have them. Raises ValueError for what is no such file."""
    try:
        magic, group, count = _HEAD.unpack_from(data)
        sizes = np.frombuffer(data, "<u4", count, _HEAD.size)
    except struct.error as error:
        raise ValueError(error) from None
    if magic != _MAGIC:
        raise ValueError("written by another version")
    asked = _hashes(*(np.array(values, np.uint64) for values in ([hi], [lo], [port], wanted)))
    begins = _HEAD.size + sizes.nbytes + np.cumsum(sizes, dtype=np.int64) - sizes
    among = [
        number
        for number, (begin, size) in enumerate(zip(begins.tolist(), sizes.tolist(), strict=True))
        if size and _has(np.frombuffer(data, np.uint8, size, begin), asked)
    ]
    return [(number * group, (number + 1) * group - 1) for number in among]


class _Group:
    """One row group's columns, as the routers told them."""

    def __init__(self, packed: Packed, rows: slice) -> None:
        self._packed, self._rows = packed, rows
        self._count = len(range(packed.rows)[rows])

    def members(self) -> Array:
        """Hashes of all ends but those with the client's own address."""
        client = self._of("client_hi"), self._of("client_lo")
        outer_port = self._after("client_port")
        if self._packed.bounds["via"].high:
            outer_port = np.where(self._of("via"), self._of("client_port"), outer_port)
        ends = (
            (self._after("client_hi"), self._after("client_lo"), outer_port),
            (self._of("peer_hi"), self._of("peer_lo"), self._of("peer_port")),
            (self._after("peer_hi"), self._after("peer_lo"), self._after("peer_port")),
        )
        slots = list(self._slots())
        found = []
        for hi, lo, port in ends:
            there = ((hi != client[0]) | (lo != client[1])) & ((hi != 0) | (lo != 0))
            for slot, its in slots:
                rows = np.flatnonzero(there & its)
                found.append(_hashes(*(values[rows].astype(np.uint64) for values in (hi, lo, port, slot))))
        return np.concatenate(found)

    def _of(self, name: str) -> Array:
        if name in self._packed.columns:
            values: Array = self._packed.columns[name][self._rows]
            return values
        low = self._packed.bounds[name].low
        return np.broadcast_to(np.array(low, np.int64 if low < 0 else np.uint64), self._count)

    def _after(self, name: str) -> Array:
        """After NAT, which isn't written where it is the same."""
        bit = 1 << SAME.index(name)
        return np.where(self._of("same").astype(np.int64) & bit, self._of(name), self._of(f"nat_{name}"))

    def _slots(self) -> Iterator[tuple[Array, Array]]:
        """For each slot that a flow can be in: its number, and which flows are."""
        low, high = self._packed.bounds["first"]
        first = self._of("first").astype(np.int64) + (low if low != high else 0)
        begin = first >> _SLOT_BITS
        more = np.maximum(((first + self._of("duration").astype(np.int64)) >> _SLOT_BITS) - begin, 0)
        event, long = self._of("nat_event") != 0, more >= _LONGEST
        special = np.where(event, _EVENT, _ANY_TIME)
        yield special, event | long
        for after in range(_LONGEST):
            its = ~event & ~long & (more >= after)
            if its.any():
                yield (begin + after) & (_ANY_TIME - 1), its


def _hashes(hi: Array, lo: Array, port: Array, slot: Array) -> Array:
    one, two, three, four = (np.uint64(number) for number in _MIX)
    mixed = (lo * one) ^ (hi * two)
    mixed = ((mixed ^ (mixed >> np.uint64(32))) + ((port << np.uint64(40)) | slot)) * three
    mixed = (mixed ^ (mixed >> np.uint64(29))) * four
    return np.asarray(mixed ^ (mixed >> np.uint64(32)))


def _places(hashes: Array, bits: int) -> Iterator[Array]:
    place, step = hashes >> np.uint64(32), (hashes & np.uint64(0xFFFFFFFF)) | np.uint64(1)
    for _ in range(_HASHES):
        yield (place % np.uint64(bits)).astype(np.intp)
        place = place + step


def _filter(hashes: Array) -> bytes:
    hashes = np.unique(hashes)
    bits = np.zeros((len(hashes) * _BITS + 7) // 8 * 8, np.bool_)
    for places in _places(hashes, max(1, len(bits))):
        bits[places] = True
    return np.packbits(bits).tobytes()


def _has(bits: Array, hashes: Array) -> bool:
    """Whether any of them."""
    there = np.ones(len(hashes), np.bool_)
    for places in _places(hashes, len(bits) * 8):
        there &= (bits[places >> 3] >> (7 - (places & 7)).astype(np.uint8) & 1).astype(np.bool_)
    return bool(there.any())
