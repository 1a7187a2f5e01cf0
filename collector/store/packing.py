"""Flows as a segment keeps them: seen from the client, sorted by it, each column as narrow as its values.

The client is the end with a private address (RFC 1918, RFC 6598, RFC 4193, link-local), behind NAT the one that stands
behind the public address. Where both ends or neither has one, it is the end with the higher port, or the lower address:
the same end for both directions. Such a row is a `twin`: whoever looks for an address has to look at both its ends.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.flows import FLOW
from collector.store import sets
from collector.store.models import Column

Array = NDArray[Any]
Columns = dict[str, Array]

BLOCK = 8192  # rows that are taken apart at once, so that they stay in the processor's cache
ODD_MS = 2 * 86_400_000  # a time farther from the time of receipt is no reason to open a segment

SIDED = ("hi", "lo", "port", "as", "mac")
NAT = ("hi", "lo", "port")
# What the file's columns are called beside FLOW's own; the bits of `same` in the order of SAME.
PAIRS = (
    *((f"src_{n}", f"dst_{n}", f"client_{n}", f"peer_{n}") for n in SIDED),
    ("in_if", "out_if", "client_if", "peer_if"),
    *((f"nat_src_{n}", f"nat_dst_{n}", f"nat_client_{n}", f"nat_peer_{n}") for n in NAT),
)
SAME = tuple(f"{side}_{n}" for n in NAT for side in ("client", "peer"))
ALONE = tuple(
    name
    for name in FLOW.names or ()
    if name not in ("first", "last", "received") and not any(name in pair for pair in PAIRS)
)
_COARSER_BITS = 10  # a second, about
_WIDTHS = {"u": ("u1", "u2", "u4", "u8"), "i": ("i4", "i8")}


@dataclass(frozen=True)
class Packed:
    """`columns` are those that vary; `bounds` has all. `first` is counted from its lower bound."""

    rows: int
    columns: Columns
    bounds: dict[str, Column]
    clients: bytes
    received: tuple[int, int]
    times: tuple[int, int]
    odd: tuple[int, int] | None


def pack(flows: NDArray[np.void]) -> Packed:
    """Of at least one flow."""
    own = _apart(flows)
    columns = _oriented(own)
    columns["lag"] = own["received"] - own["last"]
    columns["duration"] = own["last"] - own["first"]
    columns["first"] = own["first"]
    return settled(columns)


def settled(columns: Columns) -> Packed:
    """Of columns as a file has them, but in any order, and `first` as it is."""
    first = columns["first"]
    last = first + columns["duration"]
    received = last + columns["lag"]
    times, odd = _times(first, last, received)
    clients, order = _clients(columns), _order(columns)
    bounds = {name: Column(int(values.min()), int(values.max())) for name, values in columns.items()}
    low = bounds["first"].low
    varying = {name: values for name, values in columns.items() if bounds[name].low != bounds[name].high}
    if "first" in varying:
        varying["first"] = (first - low).astype(np.uint64)
    narrow = {
        name: _narrow(values, bounds[name], low if name == "first" else 0)[order] for name, values in varying.items()
    }
    return Packed(len(first), narrow, bounds, clients, (int(received.min()), int(received.max())), times, odd)


def dtype_for(low: int, high: int) -> str:
    """The narrowest that holds both."""
    kinds = _WIDTHS["i" if low < 0 else "u"]
    return next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)


def _narrow(values: Array, bounds: Column, base: int) -> Array:
    if values.dtype == np.bool_:
        return values
    return values.astype(dtype_for(bounds.low - base, bounds.high - base), copy=False)


def _apart(flows: NDArray[np.void]) -> Columns:
    """Each field as an array of its own."""
    names = FLOW.names or ()
    columns: Columns = {name: np.empty(len(flows), FLOW[name]) for name in names}
    for start in range(0, len(flows), BLOCK):
        block = flows[start : start + BLOCK]
        for name in names:
            columns[name][start : start + BLOCK] = block[name]
    return columns


def _times(first: Array, last: Array, received: Array) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Bounds of the times that may be, and of those that can't be."""
    far = (np.abs(first - received) > ODD_MS) | (np.abs(last - received) > ODD_MS)
    if not far.any():
        return (int(first.min()), int(last.max())), None
    odd = (int(first[far].min()), int(last[far].max()))
    if far.all():
        return (int(received.min()), int(received.max())), odd
    return (int(first[~far].min()), int(last[~far].max())), odd


def _local(columns: Columns, end: str) -> Array:
    hi, lo = columns[f"{end}_hi"], columns[f"{end}_lo"]
    found = ((lo >> 24) == 10) | ((lo >> 20) == 0xAC1) | ((lo >> 16) == 0xC0A8) | ((lo >> 22) == 0x191)
    found |= (lo >> 16) == 0xA9FE
    if hi.any():
        found &= hi == 0
        found |= ((hi >> 57) == 0x7E) | ((hi >> 54) == 0x3FA)
    return np.asarray(found)


def is_local(family: int, hi: int, low: int, high: int) -> bool:
    """Whether all addresses of a range are ones that make an end the client."""
    ends = np.array([low, high], np.uint64)
    found = _local({"x_hi": np.array([hi, hi], np.uint64), "x_lo": ends}, "x")
    if not found.all():
        return False
    return family == 6 or any(low >> shift == high >> shift for shift in (24, 20, 16, 22) if _net(low, shift))


def _net(address: int, shift: int) -> bool:
    return (address >> shift, shift) in ((10, 24), (0xAC1, 20), (0xC0A8, 16), (0x191, 22), (0xA9FE, 16))


def _oriented(own: Columns) -> Columns:
    """Columns as the file has them, but for times."""
    up, via, twin = _sides(own)
    columns: Columns = {"up": up, "via": via, "twin": twin}
    for a, b, client, peer in PAIRS:
        one, other = own[a], own[b]
        if one.any() or other.any():
            columns[client], columns[peer] = np.where(up, one, other), np.where(up, other, one)
        else:
            columns[client], columns[peer] = one, other
    if via.any():
        for half in ("hi", "lo"):
            outer, inner = columns[f"client_{half}"], columns[f"nat_client_{half}"]
            columns[f"client_{half}"] = np.where(via, inner, outer)
            columns[f"nat_client_{half}"] = np.where(via, outer, inner)
    columns["same"] = _same(columns)
    columns.update({name: own[name] for name in ALONE})
    return columns


def _sides(own: Columns) -> tuple[Array, Array, Array]:
    """Whether the source is the client, whether NAT hides it, and whether whoever looks for an address has to look
    at the other addresses too."""
    src, dst = _local(own, "src"), _local(own, "dst")
    up, twin = src.copy(), src == dst
    via = np.zeros(len(src), np.bool_)
    if own["nat_src_lo"].any() or own["nat_dst_lo"].any():
        nat_src, nat_dst = _local(own, "nat_src"), _local(own, "nat_dst")
        four = (own["dst_hi"] | own["nat_dst_hi"]) == 0
        # Of IPv4 also where the address outside is a private one, behind another NAT.
        inward = nat_dst & np.where(four, own["nat_dst_lo"] != own["dst_lo"], ~src & ~dst & ~nat_src)
        outward = ~src & ~dst & nat_src & ~nat_dst
        via = inward | outward
        up[via] = outward[via]
        twin = np.where(via, src | dst, twin)
    either = twin & ~via
    if either.any():
        ports = own["src_port"].astype(np.int32) - own["dst_port"]
        lower = (own["src_hi"] < own["dst_hi"]) | ((own["src_hi"] == own["dst_hi"]) & (own["src_lo"] <= own["dst_lo"]))
        up[either] = ((ports > 0) | ((ports == 0) & lower))[either]
    return up, via, twin


def _same(columns: Columns) -> Array:
    """Bits of NAT's addresses and ports that are those before it, which are 0 from then on."""
    bits = np.zeros(len(columns["up"]), np.uint8)
    for bit, name in enumerate(SAME):
        nat = columns[f"nat_{name}"]
        if nat.any():
            equal = (nat == columns[name]) & (nat != 0)
            bits |= equal.astype(np.uint8) << bit
            columns[f"nat_{name}"] = np.where(equal, nat.dtype.type(0), nat)
    return bits


def _clients(columns: Columns) -> bytes:
    four, twin = columns["family"] == 4, columns["twin"]
    lo, hi = columns["client_lo"][four], columns["client_hi"][~four]
    if twin.any():
        outer = twin & columns["via"]
        lo = np.concatenate([lo, columns["peer_lo"][four & twin], columns["nat_client_lo"][four & outer]])
        hi = np.concatenate([hi, columns["peer_hi"][~four & twin], columns["nat_client_hi"][~four & outer]])
    return sets.pack(lo, hi)


def _order(columns: Columns) -> Array:
    """By twin, family, client, first."""
    four, twin = columns["family"] == 4, columns["twin"]
    after = (columns["first"] - columns["first"].min()).astype(np.uint64)
    if four.all() and not twin.any():
        return _order_four(columns["client_lo"], after)
    parts = []
    for side in (~twin, twin):
        rows = np.flatnonzero(side & four)
        parts.append(rows[_order_four(columns["client_lo"][rows], after[rows])])
        rows = np.flatnonzero(side & ~four)
        parts.append(rows[np.lexsort((after[rows], columns["client_lo"][rows], columns["client_hi"][rows]))])
    return np.concatenate(parts)


def _order_four(client: Array, after: Array) -> Array:
    """Where both fit beside a row's number into one of 64 bits, times in coarser steps if need be."""
    if not len(client):
        return np.zeros(0, np.int64)
    client = client - client.min()
    after = np.minimum(after, np.uint64(2**32 - 1))
    room = 64 - _bits(client.max()) - _bits(len(client) - 1)
    excess = max(0, _bits(after.max()) - room)
    if room <= 0 or excess > _COARSER_BITS:
        return np.argsort((client << np.uint64(32)) | after)
    return ordered((client << np.uint64(room)) | (after >> np.uint64(excess)), _bits(client.max()) + room)


def ordered(key: Array, bits: int | None = None) -> Array:
    """Rows in the order of a key of so many bits: sorting numbers is many times faster than sorting places by them."""
    mine = _bits(len(key) - 1) if len(key) else 0
    if (_bits(key.max()) if bits is None and len(key) else bits or 0) + mine > 64:
        return np.argsort(key)
    rows = (key << np.uint64(mine)) | np.arange(len(key), dtype=np.uint64)
    rows.sort()
    return (rows & np.uint64((1 << mine) - 1)).astype(np.intp)


def _bits(value: Any) -> int:
    return int(value).bit_length()
