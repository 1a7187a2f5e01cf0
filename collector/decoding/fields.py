"""Information elements of NetFlow v9 and IPFIX that matter, and where a template has them in its records."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

REVERSE = 29305  # the enterprise of RFC 5103: an element of the way back
SCOPE = 0xFFFFFFFF  # stands for the enterprise of v9's scope fields, which are numbered apart
VARIABLE = 65535

# FLOW's column -> elements, the first that isn't 0 counts
NUMBERS: Mapping[str, tuple[int, ...]] = {
    "protocol": (4,),
    "flags": (6,),
    "tos": (5,),
    "src_port": (7, 180, 182),
    "dst_port": (11, 181, 183),
    "packets": (2, 86, 24, 298),
    "bytes": (1, 85, 23, 231),
    "in_if": (10, 252),
    "out_if": (14, 253),
    "src_as": (16,),
    "dst_as": (17,),
    "vlan": (58, 243),
    "src_mac": (56, 81),
    "dst_mac": (80, 57),
    "nat_src_port": (227,),
    "nat_dst_port": (228,),
    "nat_event": (230,),
}
# FLOW's pair of columns -> elements of IPv4, elements of IPv6
ADDRESSES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "src": ((8,), (27,)),
    "dst": ((12,), (28,)),
    "hop": ((15, 18), (62, 63)),
    "nat_src": ((225,), (281,)),
    "nat_dst": ((226,), (282,)),
}
IDENTIFYING = (8, 12, 27, 28, 225, 226, 281, 282, 56, 57, 80, 81)  # a record with none of them is of no flow
OTHERS = (
    *range(150, 164),  # times
    *(21, 22, 258, 322, 323, 324, 325),
    *(32, 139, 176, 177, 178, 179),  # ICMP
    *(34, 35, 48, 49, 50, 302, 304, 305, 306),  # sampling
    *(61, 232, 299),  # direction; the way back in Cisco's manner
)
SAMPLER_IDS = (48, 302)
KNOWN = frozenset(
    [number for numbers in NUMBERS.values() for number in numbers]
    + [number for families in ADDRESSES.values() for family in families for number in family]
    + list(OTHERS)
)
WAY_BACK = {231: 232, 298: 299}  # Cisco's counters of the initiator and of the responder


class Piece(NamedTuple):
    offset: int
    length: int


class Field(NamedTuple):
    number: int
    length: int
    enterprise: int


_FIELD = struct.Struct(">HHI")


def packed(fields: list[Field]) -> bytes:
    """A template's fields as one value that can be kept and compared."""
    return b"".join(_FIELD.pack(*field) for field in fields)


def unpacked(spec: bytes) -> list[Field]:
    return [Field(*field) for field in _FIELD.iter_unpack(spec)]


@dataclass(frozen=True)
class Layout:
    """Where the elements lie in records of `size` octets; of records with variable fields, once those are cut out."""

    size: int
    pieces: Mapping[int, Piece]
    back: "Layout | None"  # the same for the way back, of a template with both ways
    runs: tuple[int, ...] | None  # octets ahead of, between and after variable fields

    @cached_property
    def is_flow(self) -> bool:
        return any(number in self.pieces for number in IDENTIFYING)

    @cached_property
    def has_sampler(self) -> bool:
        return any(number in self.pieces for number in SAMPLER_IDS)

    @property
    def shortest(self) -> int:
        return self.size if self.runs is None else self.size + len(self.runs) - 1


def layout(spec: bytes) -> Layout:
    """Raises nothing; a template of no octets has been refused before."""
    forth: dict[int, Piece] = {}
    reverse: dict[int, Piece] = {}
    runs, offset, start = [], 0, 0
    for number, length, enterprise in _FIELD.iter_unpack(spec):
        if length == VARIABLE:
            runs.append(offset - start)
            start = offset
            continue
        if number in KNOWN and usable(number, length):
            if enterprise == 0:
                forth.setdefault(number, Piece(offset, length))
            elif enterprise == REVERSE:
                reverse.setdefault(number, Piece(offset, length))
        offset += length
    runs.append(offset - start)
    way_back = _way_back(forth, reverse)
    back = Layout(offset, way_back, None, None) if way_back else None
    return Layout(offset, forth, back, tuple(runs) if len(runs) > 1 else None)


def usable(number: int, length: int) -> bool:
    """Addresses are of one length; a number may be of fewer octets than usual (RFC 7011 6.2), a port also of more."""
    if any(number in four for four, _ in ADDRESSES.values()):
        return length == 4
    if any(number in six for _, six in ADDRESSES.values()):
        return length == 16
    return 1 <= length <= 8


def _way_back(forth: Mapping[int, Piece], reverse: Mapping[int, Piece]) -> dict[int, Piece] | None:
    """Elements of the way back in place of those forth; both ways share the key (RFC 5103 section 3)."""
    counters = (*NUMBERS["packets"], *NUMBERS["bytes"])
    shared = {number: piece for number, piece in forth.items() if number not in counters and number != 6}
    if reverse:
        return {**shared, **reverse}
    theirs = {ours: forth[back] for ours, back in WAY_BACK.items() if back in forth}
    return {**shared, **theirs} if theirs else None


def flattened(body: bytes, layout: Layout) -> tuple[bytes, int, bool]:
    """Records without their variable fields, how many, and whether all were whole. Each takes at least an octet."""
    runs = layout.runs or ()
    out: list[bytes] = []
    count, position, end = 0, 0, len(body)
    while end - position >= layout.shortest:
        record = []
        for run in runs[:-1]:
            record.append(body[position : position + run])
            position = after_variable(body, position + run)
        record.append(body[position : position + runs[-1]])
        position += runs[-1]
        if position > end:
            return b"".join(out), count, False
        out += record
        count += 1
    return b"".join(out), count, True


def after_variable(body: bytes, position: int) -> int:
    """Where a variable field ends, beyond the end of the body if that cuts it (RFC 7011 section 7)."""
    if position >= len(body):
        return len(body) + 1
    length = body[position]
    if length < 255:
        return position + 1 + length
    return position + 3 + int.from_bytes(body[position + 1 : position + 3], "big")


def walked(body: bytes, fields: list[Field], most: int) -> Iterator[list[tuple[Field, bytes]]]:
    """Each record's fields, whatever their kind: slow, for options. No more than so many records."""
    position, end = 0, len(body)
    shortest = sum(1 if field.length == VARIABLE else field.length for field in fields)
    while end - position >= shortest > 0 and most > 0:
        record = []
        for field in fields:
            start, stop = position, position + field.length
            if field.length == VARIABLE:
                stop = after_variable(body, position)
                start = position + (1 if body[position : position + 1] != b"\xff" else 3)
            record.append((field, body[start:stop]))
            position = stop
        if position > end:
            return
        yield record
        most -= 1
