"""What a filter means, as a tree; as SQL over the columns of FLOW, and as the addresses that it can be about. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Union

Clients = tuple[tuple[int, int, int], ...]  # (upper 64 bits, lower from, lower to), both ends included
Span = tuple[int, int | None]  # both ends included; None is no upper end

# What a condition may look at besides the columns themselves; nfdump rounds down too.
COMPUTED = {
    "duration": "greatest(last - first, 0)",
    "pps": "CASE WHEN last > first THEN packets::HUGEINT * 1000 // (last - first) ELSE 0 END",
    "bps": "CASE WHEN last > first THEN bytes::HUGEINT * 8000 // (last - first) ELSE 0 END",
    "bpp": "CASE WHEN packets > 0 THEN bytes // packets ELSE 0 END",
    "icmp_type": "dst_port >> 8",
    "icmp_code": "dst_port & 255",
}
ENDS = ("src", "dst")


@dataclass(frozen=True)
class Words:
    """How a database says it. `spans` is for what it computes in a way of its own; None: as any column."""

    true: str
    false: str
    bits: str
    large: str
    computed: Mapping[str, str]
    spans: Callable[[str, Sequence[Span]], str | None] = lambda column, spans: None


DUCKDB = Words("true", "false", "({column} & {mask:d}) = {mask:d}", "{value:d}::UBIGINT", COMPUTED)
# Addresses that NAT hides: of IPv4 the same as packing.is_local
_LOCAL = tuple(
    (int(net.network_address), int(net.broadcast_address))
    for net in map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"))
)
_LARGEST_SIGNED = 2**63 - 1
_LOWER = 2**64 - 1


@dataclass(frozen=True)
class Everything:
    """True of each flow."""


@dataclass(frozen=True)
class Among:
    """One of `columns` lies in one of `spans`."""

    columns: tuple[str, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Bits:
    """All of `mask` are set in `column`."""

    column: str
    mask: int


@dataclass(frozen=True)
class Net:
    """An address of one of `sides` (src, dst, nat_src, nat_dst, hop) lies between the two; `family` is 4 or 6.

    `behind` adds what stands behind the destination, so that a client's way back through NAT is found by its address.
    """

    sides: tuple[str, ...]
    family: int
    first: int
    last: int

    @property
    def behind(self) -> bool:
        return (
            self.family == 4
            and self.sides == ENDS
            and any(low <= self.first and self.last <= high for low, high in _LOCAL)
        )

    @property
    def looked_at(self) -> tuple[str, ...]:
        return (*self.sides, "nat_dst") if self.behind else self.sides


@dataclass(frozen=True)
class Named:
    """An exporter or account by the name that was typed; `resolve` puts what it is in its place."""

    kind: str
    name: str
    position: int


@dataclass(frozen=True)
class Not:
    part: "Node"


@dataclass(frozen=True)
class All:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Either:
    parts: tuple["Node", ...]


Node = Union[Everything, Among, Bits, Net, Named, Not, All, Either]  # noqa: UP007 (it names itself)
NOTHING = Not(Everything())


@dataclass(frozen=True)
class Filter:
    """`text` is what was typed."""

    text: str
    root: Node


def net(sides: tuple[str, ...], text: str) -> Net:
    """Of an address or a network in prefix notation, 10/8 too; raises ValueError."""
    if short := re.fullmatch(r"((?:\d+\.){0,2}\d+)(/\d+)", text):
        text = short[1] + ".0" * (3 - short[1].count(".")) + short[2]
    found = ip_network(text, strict=False)
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    if mapped is not None and found.prefixlen >= 96:
        found = ip_network(f"{mapped}/{found.prefixlen - 96}", strict=False)
    return Net(sides, found.version, int(found.network_address), int(found.broadcast_address))


def host(sides: tuple[str, ...], address: IPv4Address | IPv6Address) -> Net:
    return Net(sides, address.version, int(address), int(address))


def resolve(filter_: Filter, find: Callable[[Named], Node]) -> Filter:
    """With each name replaced by what `find` says of it; that raises UserError for one it doesn't know."""

    def inside(node: Node) -> Node:
        if isinstance(node, Named):
            return find(node)
        if isinstance(node, Not):
            return Not(inside(node.part))
        if isinstance(node, All | Either):
            return replace(node, parts=tuple(inside(part) for part in node.parts))
        return node

    return replace(filter_, root=inside(filter_.root))


def names(node: Node) -> Iterator[Named]:
    if isinstance(node, Named):
        yield node
    elif isinstance(node, Not):
        yield from names(node.part)
    elif isinstance(node, All | Either):
        for part in node.parts:
            yield from names(part)


def sql(node: Node, words: Words = DUCKDB) -> str:
    """A condition over FLOW's columns, of words that stand in this file or in the parser, and of numbers."""
    match node:
        case Everything():
            return words.true
        case Not(part):
            return f"NOT ({sql(part, words)})"
        case All(parts):
            return _joined(" AND ", [sql(part, words) for part in parts])
        case Either(parts):
            return _joined(" OR ", [sql(part, words) for part in parts])
        case Among(columns, spans):
            return _joined(" OR ", [_between(column, spans, words) for column in columns])
        case Bits(column, mask):
            return words.bits.format(column=column, mask=mask)
        case Net(_, family, first, last):
            sides = [_within(side, first, last, words) for side in node.looked_at]
            return f"(family = {family:d} AND {_joined(' OR ', sides)})"
        case Named(kind, name):
            raise ValueError(f"{kind} {name!r} is not resolved")
    raise TypeError(node)


def _joined(word: str, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({word.join(parts)})"


def _between(column: str, spans: Sequence[Span], words: Words) -> str:
    if (own := words.spans(column, spans)) is not None:
        return own
    what = f"({words.computed[column]})" if column in words.computed else column
    single = [low for low, high in spans if low == high]
    parts = [f"{what} IN ({', '.join(_number(one, words) for one in single)})"] if len(single) > 1 else []
    for low, high in spans:
        if low == high:
            parts += [f"{what} = {_number(low, words)}"] if len(single) == 1 else []
        elif high is None:
            parts.append(f"{what} >= {_number(low, words)}")
        else:
            parts.append(f"{what} BETWEEN {_number(low, words)} AND {_number(high, words)}")
    return _joined(" OR ", parts) if parts else words.false


def _within(side: str, first: int, last: int, words: Words) -> str:
    hi, lo, upper = f"{side}_hi", f"{side}_lo", _number(first >> 64, words)
    if first == last:
        return f"({lo} = {_number(first & _LOWER, words)} AND {hi} = {upper})"
    if first >> 64 == last >> 64:
        low, high = _number(first & _LOWER, words), _number(last & _LOWER, words)
        return f"({hi} = {upper} AND {lo} BETWEEN {low} AND {high})"
    return f"({hi} BETWEEN {upper} AND {_number(last >> 64, words)})"  # a prefix of less than 64 bits


def _number(value: int, words: Words) -> str:
    return f"{value:d}" if value <= _LARGEST_SIGNED else words.large.format(value=value)


def clients(node: Node) -> Clients | None:
    """A flow that fits has its source or destination in one of these; None where it may be any.

    Of conditions that all hold, the narrowest one is enough; of those of which one holds, each must say something.
    """
    match node:
        case Net(sides, _, first, last) if set(sides) <= {"src", "dst"} and first >> 64 == last >> 64:
            return ((first >> 64, first & _LOWER, last & _LOWER),)
        case All(parts):
            known = [found for part in parts if (found := clients(part)) is not None]
            return min(known, key=_size, default=None)
        case Either(parts):
            each = [clients(part) for part in parts]
            together = [one for found in each if found is not None for one in found]
            return None if None in each else tuple(sorted(set(together)))
        case Not(Everything()):
            return ()
    return None


def _size(found: Clients) -> tuple[int, int]:
    return sum(last - first + 1 for _, first, last in found), len(found)


def exporters(node: Node) -> tuple[int, ...] | None:
    """The routers a flow that fits can be of; None where it may be any."""
    match node:
        case Among(("exporter",), spans) if all(low == high for low, high in spans):
            return tuple(low for low, _ in spans)
        case All(parts):
            return next((found for part in parts if (found := exporters(part)) is not None), None)
    return None
