"""Conditions, orders and sums in ClickHouse's SQL, as versions from 18.16 on understand it; pure.

Its integers have 64 bits and wrap around silently, so what may be larger is kept in two or three of them.
"""

import re
from collections.abc import Sequence

from collector.filters.conditions import COMPUTED, ENDS, Clients, Span, Words

# By name: what is multiplied by what before it is divided by the duration
_RATES = {"pps": ("packets", 1000), "bps": ("bytes", 8000)}
_LASTED = "toUInt64(greatest(last - first, 1))"
_SHORT = 2**32 - 1

_COMPUTED = {
    "duration": "greatest(last - first, 0)",
    "bpp": "if(packets > 0, intDiv(bytes, greatest(packets, 1)), 0)",
    "icmp_type": "bitShiftRight(dst_port, 8)",
    "icmp_code": "bitAnd(dst_port, 255)",
}


def rate(name: str) -> tuple[str, str, int]:
    """A rate is the first times the last and the second, which is smaller than the last."""
    of, times = _RATES[name]
    whole = f"if(last > first, intDiv({of}, {_LASTED}), 0)"
    rest = f"if(last > first, intDiv(modulo({of}, {_LASTED}) * {times:d}, {_LASTED}), 0)"
    return whole, rest, times


def _spans(column: str, spans: Sequence[Span]) -> str | None:
    if column not in _RATES:
        return None
    whole, rest, times = rate(column)

    def at_least(value: int) -> str:
        over, left = divmod(value, times)
        return f"(({whole}) > {over:d} OR ({whole}) = {over:d} AND ({rest}) >= {left:d})"

    each = [at_least(low) if high is None else f"({at_least(low)} AND NOT {at_least(high + 1)})" for low, high in spans]
    return f"({' OR '.join(each)})" if each else "0"


CLICKHOUSE = Words("1", "0", "bitAnd({column}, {mask:d}) = {mask:d}", "{value:d}", _COMPUTED, _spans)


def keys(name: str) -> list[tuple[str, str]]:
    """What a name is read and grouped by: SQL beside the name of each part."""
    if name in _RATES:
        whole, rest, _ = rate(name)
        return [(whole, f"{name}_whole"), (rest, f"{name}_rest")]
    return [(f"({_COMPUTED[name]})" if name in _COMPUTED else name, f"key_{name}")]


# Tables that go with a question about accounts, and how long a time is that may count as one
ADDRESSES, TIMES, SPAN_MS = "held_addresses", "held_times", 60_000


def coarse_key(name: str) -> list[tuple[str, str]]:
    """The same of an address, which matters only where it is somebody's, or of the time, only where that changes."""
    if name == "first":
        span = f"intDiv(first, {SPAN_MS:d})"
        return [(f"if({span} IN {TIMES}, first, {span} * {SPAN_MS:d})", f"key_{name}")]
    side = name.rpartition("_")[0]
    return [(f"if(({side}_hi, {side}_lo) IN {ADDRESSES}, {name}, 0)", f"key_{name}")]


def read_key(name: str) -> str:
    """The way back, in DuckDB's SQL."""
    if name in _RATES:
        return f"({name}_whole::HUGEINT * {_RATES[name][1]:d} + {name}_rest)"
    kind = "HUGEINT" if name in COMPUTED else ""
    return f"key_{name}::{kind}" if kind else f"key_{name}"


# Sums are as showing.py has them: times the sampling, without what can't be true


def sums() -> list[tuple[str, str]]:
    """Of a group. A sum is the first part, 2**32 times the second and 2**64 times the third."""
    parts = [("count()", "flows"), ("min(first)", "least"), ("max(last)", "most")]
    for name in ("packets", "bytes"):
        low, high = (f"{half} * greatest(sampling, 1)" for half in (_low(name), _high(name)))
        for place, value in enumerate(
            (_low(f"({low})"), f"{_high(f'({low})')} + {_low(f'({high})')}", _high(f"({high})"))
        ):
            parts.append((f"sumIf({value}, bitAnd(marks, 2) = 0)", f"{name}_{place}"))
    return parts


def _low(value: str) -> str:
    return f"bitAnd({value}, {_SHORT:d})"


def _high(value: str) -> str:
    return f"bitShiftRight({value}, 32)"


def read_sum(name: str) -> str:
    """The way back, in DuckDB's SQL."""
    return f"({name}_0::HUGEINT + {name}_1::HUGEINT * {2**32:d} + {name}_2::HUGEINT * {2**64:d}::HUGEINT)"


def _exact(name: str) -> str:
    wide = [f"toDecimal128({name}_{place}, 0)" for place in range(3)]
    return f"({wide[0]} + {wide[1]} * {2**32:d} + {wide[2]} * {2**32:d} * {2**32:d})"


_ORDERS = {
    "flows": "flows",
    "first": "least",
    "last": "most",
    "packets": _exact("packets"),
    "bytes": _exact("bytes"),
    "avg_bytes": f"intDiv({_exact('bytes')}, flows)",
    "bpp": f"intDiv({_exact('bytes')}, if({_exact('packets')} < 1, toDecimal128(1, 0), {_exact('packets')}))",
    "bps": f"intDiv({_exact('bytes')} * 8000, greatest(most - least, 1))",
}


def order(by: Sequence[tuple[str, bool]], group: Sequence[str]) -> str:
    """Over the names that `sums` and `keys` give in a group, over columns otherwise."""
    parts = []
    for name, descending in by:
        if group and name not in group:
            its = [_ORDERS[name]]
        elif group:
            its = [alias for _, alias in keys(name)]
        else:
            its = [sql for sql, _ in keys(name)]
        parts += [f"{one} {'DESC' if descending else 'ASC'}" for one in its]
    return ", ".join(parts)


# Where to look


def within(range_since_ms: int, range_until_ms: int) -> str:
    return f"first < {range_until_ms:d} AND last >= {range_since_ms:d}"


def near(clients: Clients, local: bool) -> str:
    """Flows that can have an end in these ranges, as the table's order can be asked where all of them are `local`:
    they are the client's own addresses then, but for flows of which both ends or neither is local."""
    own = _any("client", clients)
    sides = " OR ".join(_any(side, clients) for side in (*ENDS, "nat_dst"))
    return f"((twin = 0 AND ({own})) OR (twin = 1 AND ({sides})))" if local else f"({sides})"


def _any(side: str, clients: Clients) -> str:
    each = [f"{side}_hi = {hi:d} AND {side}_lo BETWEEN {low:d} AND {high:d}" for hi, low, high in clients]
    return " OR ".join(f"({one})" for one in each) or "0"


def text(value: str) -> str:
    """As a literal. Raises ValueError for what neither a site's key nor a day is."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", value):
        raise ValueError(value)
    return f"'{value}'"
