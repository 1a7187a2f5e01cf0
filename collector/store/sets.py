"""Which addresses a segment has, in few bytes: networks rather than addresses where these would be too many."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

MOST = 4096  # members a set has; more of them share a shorter prefix
_HEAD = struct.Struct("<BBII")  # bits cut off of IPv4 addresses and of IPv6's upper halves, members of each

Addresses = NDArray[np.uint64]


def pack(v4: Addresses, v6_hi: Addresses) -> bytes:
    """Of IPv4 addresses, and the upper halves of IPv6 ones, in any order."""
    return _packed(_bounded(np.unique(v4)), _bounded(np.unique(v6_hi)))


def may_have(packed: bytes, family: int, low: int, high: int) -> bool:
    """Whether an address between the two (IPv6: their upper halves) may be in the set."""
    cut, members = _members(packed, family)
    at = int(np.searchsorted(members, np.uint64(low >> cut)))
    return at < len(members) and int(members[at]) <= high >> cut


def _packed(four: tuple[int, Addresses], six: tuple[int, Addresses]) -> bytes:
    body = _steps(four[1], "<u4") + _steps(six[1], "<u8")
    return _HEAD.pack(four[0], six[0], len(four[1]), len(six[1])) + zlib.compress(body, 6)


def _members(packed: bytes, family: int) -> tuple[int, Addresses]:
    """Bits cut off, and what is left of each member."""
    cut4, cut6, fours, _ = _HEAD.unpack_from(packed)
    body = zlib.decompress(packed[_HEAD.size :])
    steps = np.frombuffer(body, "<u4", fours) if family == 4 else np.frombuffer(body, "<u8", offset=4 * fours)
    return (cut4 if family == 4 else cut6), np.cumsum(steps, dtype=np.uint64)


def _bounded(members: Addresses) -> tuple[int, Addresses]:
    cut = 0
    while len(members) > MOST:
        cut += 1
        members = np.unique(members >> np.uint64(1))
    return cut, members


def _steps(members: Addresses, dtype: str) -> bytes:
    return np.diff(members, prepend=np.uint64(0)).astype(dtype).tobytes()
