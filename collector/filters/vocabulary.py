"""The conditions of the filter language: what stands after each word, and what it means; pure.

`src`, `dst`, `nat`, `in`, `out` and `next` before a word narrow it; without them either side will do.
"""

import difflib
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

from collector.filters.conditions import All, Among, Bits, Either, Everything, Named, Node, Span, net
from collector.filters.names import DIRECTIONS, EVENTS, FLAGS, ICMP_TYPES, PROTOCOLS, SERVICES
from collector.filters.words import Reader, Token

MOST_LISTED = 1000

_U8, _U16, _U32, _U64 = 2**8 - 1, 2**16 - 1, 2**32 - 1, 2**64 - 1
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS_MS = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_COMPARE = {"==": "=", "eq": "=", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_BEFORE = ("src", "dst", "in", "out", "nat", "next")
_SIDES = {"": ("src", "dst"), "src": ("src",), "dst": ("dst",), "next": ("hop",)}
_SIDES |= {"nat": ("nat_src", "nat_dst"), "nat src": ("nat_src",), "nat dst": ("nat_dst",)}
_EITHER = ("", "src", "dst")
_WAY = {"": ("in_if", "out_if"), "in": ("in_if",), "out": ("out_if",)}
_PORTS = {key: tuple(f"{side}_port" for side in _SIDES[key]) for key in _SIDES if key != "next"}

T = TypeVar("T")
Number = Callable[[str], int]  # of a word; raises ValueError


class Kind(NamedTuple):
    """Columns by what may stand before the word, how its number is written, and the largest."""

    columns: dict[str, tuple[str, ...]]
    number: Number
    most: int
    example: str


def condition(reader: Reader) -> Node:
    """Reads one condition; raises UserError."""
    before = []
    while word := reader.took(*_BEFORE):
        before.append(word)
    token = reader.now
    subject = _ALIASES.get(token.word, token.word)
    narrowed = " ".join(sorted(before, key=lambda word: word != "nat"))  # "src nat" is "nat src"
    if subject in _NUMBERS:
        kind = _NUMBERS[subject]
        reader.take()
        columns = _narrowed(reader, token, narrowed, kind.columns)
        return Among(columns, _spans(reader, kind))
    if subject in _WORDS:
        reader.take()
        return _WORDS[subject](reader, token, narrowed)
    if subject in PROTOCOLS and not before:
        reader.take()
        if subject == "icmp" and reader.now.word in ("type", "code"):
            return _icmp(reader, f"icmp-{reader.take().word}")
        return Among(("protocol",), ((PROTOCOLS[subject],) * 2,))
    raise reader.error("a condition", _suggested(token))


def _narrowed(reader: Reader, token: Token, before: str, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if before not in known:
        allowed = [f"{word} {token.word}".strip() for word in known]
        raise reader.error(f"another word after {before!r}", f"there are: {', '.join(allowed)}", token)
    return known[before]


# Numbers


def _whole(text: str) -> int:
    return int(text, 16) if text.lower().startswith("0x") else int(text)


def _scaled(text: str) -> int:
    match = re.fullmatch(r"(\d{1,20})(?:\.(\d{1,9}))?([kmgt]?)b?", text.lower())
    if not match:
        raise ValueError(text)
    whole, part, unit = match.groups("")
    return int(whole) * _SCALE[unit] + int(part.ljust(9, "0")) * _SCALE[unit] // 10**9


def _duration_ms(text: str) -> int:
    match = re.fullmatch(r"(\d{1,12})(ms|s|m|h|)", text.lower())
    if not match:
        raise ValueError(text)
    return int(match[1]) * _UNITS_MS[match[2]]


def _one_of(names: dict[str, int]) -> Number:
    return lambda text: names[text.lower()] if text.lower() in names else _whole(text)


def _mac(text: str) -> int:
    parts = re.split("[:-]", text)
    if len(parts) != 6 or not all(re.fullmatch("[0-9a-fA-F]{1,2}", part) for part in parts):
        raise ValueError(text)
    return int("".join(part.zfill(2) for part in parts), 16)


def _spans(reader: Reader, kind: Kind) -> tuple[Span, ...]:
    """Of `80`, `80-90`, `> 1024` or `in [80, 443, 8000-8100]`."""
    compare = reader.took("=", "!=", "<", "<=", ">", ">=", *_COMPARE)
    compare = _COMPARE.get(compare, compare)
    if not compare and reader.took("in"):
        return _listed(reader, lambda: _span(reader, kind))
    if compare in ("", "="):
        return (_span(reader, kind),)
    value, high = _span(reader, kind, ranges=False)
    below: tuple[Span, ...] = ((0, value - 1),) if value else ()
    spans: dict[str, tuple[Span, ...]] = {
        "!=": (*below, (value + 1, None)),
        ">": ((value + 1, None),),
        ">=": ((value, None),),
        "<": below,
        "<=": ((0, high),),
    }
    return spans[compare]


def _span(reader: Reader, kind: Kind, ranges: bool = True) -> tuple[int, int]:
    token = reader.take()
    low, dash, high = token.text.partition("-")
    for first, last in ((token.text, token.text), (low, high))[: 1 + bool(ranges and dash)]:
        try:
            span = kind.number(first), kind.number(last)
        except ValueError:
            continue
        if 0 <= span[0] <= span[1] <= kind.most:
            return span
        raise reader.error(f"a number from 0 to {kind.most}, the smaller one first,", kind.example, token)
    raise reader.error("a number" + (" or a name" if kind.number not in (_whole, _scaled) else ""), kind.example, token)


def _listed(reader: Reader, read: Callable[[], T]) -> tuple[T, ...]:
    reader.need("[", "a list stands in [ ], as in port in [80, 443]")
    found: list[T] = []
    while not reader.took("]"):
        found.append(read())
        reader.took(",")
        if len(found) > MOST_LISTED:
            raise reader.error("the end of the list", f"at most {MOST_LISTED} stand in one")
    if not found:
        raise reader.error("something in the list", "as in port in [80, 443]")
    return tuple(found)


# Words with conditions of their own


def _address(reader: Reader, token: Token, before: str) -> Node:
    sides = _narrowed(reader, token, before, _SIDES)
    example = "host 10.1.2.3, net 10.0.0.0/8, host in [10.1.2.3, 2001:db8::/32]"
    if reader.took("in"):
        nets = _listed(reader, lambda: _net(reader, sides, example))
        return nets[0] if len(nets) == 1 else Either(nets)
    reader.took("=", "==")
    return _net(reader, sides, example)


def _net(reader: Reader, sides: tuple[str, ...], example: str) -> Node:
    token = reader.take()
    try:
        return net(sides, token.text)
    except ValueError:
        raise reader.error("an address or a network", example, token) from None


def _flags(reader: Reader, token: Token, before: str) -> Node:
    _narrowed(reader, token, before, {"": ()})
    exactly = reader.took("=", "==")
    given = reader.take()
    letters = given.text.upper().replace("X", "UAPRSF")
    if given.kind == "word" and not set(letters) - set(FLAGS):
        mask = 0
        for letter in letters:
            mask |= FLAGS[letter]
    elif given.text.isdecimal() and len(given.text) <= 3 and int(given.text) <= _U8:
        mask = int(given.text)
    else:
        raise reader.error("letters of UAPRSFEC, or a number", "flags S, flags SA, flags = S (only SYN)", given)
    return Among(("flags",), ((mask, mask),)) if exactly or not mask else Bits("flags", mask)


def _icmp(reader: Reader, subject: str) -> Node:
    numbers = _one_of(ICMP_TYPES) if subject == "icmp-type" else _whole
    spans = _spans(reader, Kind({}, numbers, _U8, "icmp type echo, icmp code 3"))
    of_icmp = Among(("protocol",), ((PROTOCOLS["icmp"],) * 2, (PROTOCOLS["icmp6"],) * 2))
    return All((of_icmp, Among((subject.replace("-", "_"),), spans)))


def _icmp_word(reader: Reader, token: Token, before: str) -> Node:
    _narrowed(reader, token, before, {"": ()})
    return _icmp(reader, token.word)


def _family(number: int) -> Callable[[Reader, Token, str], Node]:
    def read(reader: Reader, token: Token, before: str) -> Node:
        _narrowed(reader, token, before, {"": ()})
        return Among(("family",), ((number, number),))

    return read


def _everything(reader: Reader, token: Token, before: str) -> Node:
    _narrowed(reader, token, before, {"": ()})
    return Everything()


def _named(kind: str) -> Callable[[Reader, Token, str], Node]:
    def read(reader: Reader, token: Token, before: str) -> Node:
        _narrowed(reader, token, before, {"": ()})
        if kind == "exporter":
            reader.took("ip")
        reader.took("=", "==")
        given = reader.take()
        if given.kind not in ("word", "quoted") or not given.text:
            raise reader.error(f"the name of an {kind}", f'{kind} "its name"', given)
        return Named(kind, given.text, given.position)

    return read


def _device(reader: Reader, token: Token, before: str) -> Node:
    """A MAC address that RADIUS knows; flows themselves rarely have the guest's."""
    _narrowed(reader, token, before, {"": ()})
    given = reader.take()
    try:
        number = _mac(given.text)
    except ValueError:
        raise reader.error("a MAC address", "device 00:11:22:aa:bb:cc", given) from None
    return Named("device", ":".join(re.findall("..", f"{number:012x}")), given.position)


def _marked(reader: Reader, token: Token, before: str) -> Node:
    _narrowed(reader, token, before, {"": ()})
    given = reader.take()
    if given.word not in MARKS:
        raise reader.error(" or ".join(MARKS), "marked suspect", given)
    return Bits("marks", MARKS[given.word])


def _suggested(token: Token) -> str:
    """What may have been meant."""
    text = token.text
    if not text:
        return "as host 10.1.2.3 or dst port 25"
    if re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?", text) or text.lower() in SERVICES:
        return f"perhaps port {text}"
    try:
        ip_address(text.partition("/")[0])
    except ValueError:
        near = difflib.get_close_matches(token.word, WORDS, n=1)
        return f"perhaps {near[0]}" if near else "as host 10.1.2.3, dst port 25, proto tcp, bytes > 1M"
    return f"perhaps {'net' if '/' in text else 'host'} {text}"


MARKS = {"time": 1, "suspect": 2, "reverse": 4}  # as flows.py has them; that needs numpy
_NUMBERS = {
    "port": Kind(_PORTS, _one_of(SERVICES), _U16, "port 80, port http, port 80-90, port in [80, 443], port > 1023"),
    "proto": Kind({"": ("protocol",)}, _one_of(PROTOCOLS), _U8, "proto tcp, proto 47, proto in [tcp, udp]"),
    "if": Kind(_WAY, _whole, _U32, "if 3, in if 3, out if in [1, 2]"),
    "as": Kind({key: tuple(f"{side}_as" for side in _SIDES[key]) for key in _EITHER}, _whole, _U32, "src as 3320"),
    "mac": Kind(
        {key: tuple(f"{side}_mac" for side in _SIDES[key]) for key in _EITHER}, _mac, 2**48 - 1, "mac 00:11:22:aa:bb:cc"
    ),
    "vlan": Kind({"": ("vlan",)}, _whole, _U16, "vlan 10"),
    "tos": Kind({"": ("tos",)}, _whole, _U8, "tos 0x10"),
    "packets": Kind({"": ("packets",)}, _scaled, _U64, "packets > 10k"),
    "bytes": Kind({"": ("bytes",)}, _scaled, _U64, "bytes > 1M"),
    "duration": Kind({"": ("duration",)}, _duration_ms, 2**62, "duration > 5s, duration < 200ms"),
    "event": Kind(
        dict.fromkeys(("", "nat"), ("nat_event",)), _one_of(EVENTS), _U8, "event create, event delete, event > 0"
    ),
    "direction": Kind({"": ("direction",)}, _one_of(DIRECTIONS), _U8, "direction ingress"),
    "sampling": Kind({"": ("sampling",)}, _scaled, _U32, "sampling > 1"),
    "domain": Kind({"": ("domain",)}, _whole, _U32, "domain 0"),
    **{name: Kind({"": (name,)}, _scaled, _U64, f"{name} > 1k") for name in ("pps", "bps", "bpp")},
}
_WORDS = {
    "host": _address,
    "flags": _flags,
    "icmp-type": _icmp_word,
    "icmp-code": _icmp_word,
    "ipv4": _family(4),
    "ipv6": _family(6),
    "any": _everything,
    "exporter": _named("exporter"),
    "account": _named("account"),
    "device": _device,
    "marked": _marked,
}
_ALIASES = {
    "ip": "host",
    "net": "host",
    "hop": "host",
    "protocol": "proto",
    "interface": "if",
    "inet": "ipv4",
    "inet6": "ipv6",
    "router": "exporter",
    "flowdir": "direction",
    "all": "any",
}
WORDS = (*_NUMBERS, *_WORDS, *_ALIASES, "src", "dst", "nat", "next", "not")
