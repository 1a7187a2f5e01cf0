"""NetFlow v5 and v1: a header, and records that are all of one kind. Read as if a template had described them."""

import struct
from typing import NamedTuple

from collector.decoding.fields import SCOPE, Field, packed


class Header(NamedTuple):
    exported_ms: int
    uptime_ms: int
    sequence: int  # counts flows, in v5
    engine: int
    sampling: int
    records: int
    spec: bytes
    body: bytes


V5_HEADER = struct.Struct(">HHIIIIHH")
V1_HEADER = struct.Struct(">HHIII")
_RATE, _MODE_BITS = 0x3FFF, 14


def _unused(length: int) -> Field:
    return Field(0, length, SCOPE)


_BOTH = [
    *(Field(8, 4, 0), Field(12, 4, 0), Field(15, 4, 0), Field(10, 2, 0), Field(14, 2, 0), Field(2, 4, 0)),
    *(Field(1, 4, 0), Field(22, 4, 0), Field(21, 4, 0), Field(7, 2, 0), Field(11, 2, 0)),
]
_V5 = packed(
    [
        *(*_BOTH, _unused(1), Field(6, 1, 0), Field(4, 1, 0), Field(5, 1, 0)),
        *(Field(16, 2, 0), Field(17, 2, 0), _unused(4)),
    ]
)
# records of v1 are of 48 octets (softflowd) or of 52 (Cisco's own description)
_V1 = {
    octets: packed([*_BOTH, _unused(2), Field(4, 1, 0), Field(5, 1, 0), Field(6, 1, 0), _unused(octets - 41)])
    for octets in (48, 52)
}


def read(version: int, payload: bytes) -> Header | str:
    """Or why it's refused."""
    layout = V5_HEADER if version == 5 else V1_HEADER
    if len(payload) < layout.size:
        return "short"
    _, count, uptime_ms, seconds, ns, *more = layout.unpack_from(payload)
    sequence, engine, sampling = more or (0, 0, 0)
    octets = 52 if version == 1 and len(payload) - layout.size == 52 * count else 48
    end = layout.size + count * octets
    if count == 0 or end > len(payload):
        return "count"  # says that it has more records than it has octets for, or none
    ms = seconds * 1000 + (ns // 1_000_000 if ns < 1_000_000_000 else 0)
    rate = sampling & _RATE if sampling >> _MODE_BITS else 0
    spec = _V5 if version == 5 else _V1[octets]
    return Header(ms, uptime_ms, sequence, engine, rate, count, spec, payload[layout.size : end])
