"""What a search can show, sort and group by: each field as SQL over FLOW's columns, and as the text that people read.

All of it consists of words that stand here and of numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from appliance.errors import UserError
from collector.filters.conditions import COMPUTED
from collector.filters.names import DIRECTIONS, FLAGS, PROTOCOLS, name_of

NUMBER, TIME, TEXT, DURATION, OCTETS = "number", "time", "text", "duration", "octets"

_LAST_MS = 253_402_300_799_999  # the year 9999; a suspect time mustn't end an export


@dataclass(frozen=True)
class Field:
    """`parts` are what is read of a flow, by the name that `shown` calls it; sorting and grouping is by them.

    `shown` is NULL for what the exporter hasn't told. `free` marks text that others may have chosen.
    """

    name: str
    title: str
    parts: tuple[tuple[str, str], ...]
    shown: str
    kind: str = NUMBER
    free: bool = False


@dataclass(frozen=True)
class Clock:
    """A zone's offsets as SQL. `steps` are (from, offset), both in ms; before the first the first one holds."""

    steps: tuple[tuple[int, int], ...] = field(default=((0, 0),))

    def iso(self, column: str) -> str:
        cases = [(since, self._text(column, offset)) for since, offset in self.steps]
        sql = cases[0][1]
        for since, text in cases[1:]:
            sql = f"CASE WHEN {column} >= {since:d} THEN {text} ELSE {sql} END"
        return sql

    def _text(self, column: str, offset_ms: int) -> str:
        sign, minutes = "-" if offset_ms < 0 else "+", abs(offset_ms) // 60_000
        zone = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"
        local = f"least(greatest({column}, 0), {_LAST_MS:d}) + {offset_ms:d}"
        return f"strftime(make_timestamp(({local}) * 1000), '%Y-%m-%dT%H:%M:%S.%g{zone}')"


@lru_cache(maxsize=8)
def clock(zone: tzinfo, since_ms: int, until_ms: int) -> Clock:
    """As it goes in a zone around this period; farther away the nearest offset is used."""
    if zone == UTC:
        return Clock()
    week = 7 * 86_400_000  # no zone changes its clock more often than that
    at, end = max(0, since_ms - week), min(until_ms + week, _LAST_MS - week)
    steps = [(at, _offset_ms(zone, at))]
    while at < end:
        after = min(at + week, end)
        if _offset_ms(zone, after) != steps[-1][1]:
            low, high = at, after  # it changes after low, at the latest at high
            while high - low > 1000:
                middle = (low + high) // 2
                low, high = (low, middle) if _offset_ms(zone, middle) != steps[-1][1] else (middle, high)
            changed = high // 1000 * 1000
            steps.append((changed, _offset_ms(zone, changed)))
        at = after
    return Clock(tuple(steps))


def _offset_ms(zone: tzinfo, at_ms: int) -> int:
    offset = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).utcoffset() or timedelta()
    return int(offset.total_seconds()) // 60 * 60_000


# Text


def _dotted(lo: str) -> str:
    return f"concat_ws('.', {lo} >> 24, ({lo} >> 16) & 255, ({lo} >> 8) & 255, {lo} & 255)"


def _colons(hi: str, lo: str) -> str:
    """RFC 5952: the longest run of zeros, of several the first, becomes `::`."""
    groups = ", ".join(f"(({half} >> {shift}) & 65535)::INTEGER" for half in (hi, lo) for shift in (48, 32, 16, 0))
    plain = ":".join(["%x"] * 8)
    cases = " ".join(
        f"WHEN contains(t, '{':0' * n}:') THEN concat(left(t, strpos(t, '{':0' * n}:') - 1), '::',"
        f" substr(t, strpos(t, '{':0' * n}:') + {2 * n + 1:d}))"
        for n in range(8, 1, -1)
    )
    short = f"list_transform([printf(':{plain}:', {groups})], lambda t: CASE {cases} ELSE t END)[1]"
    # A colon at either end belongs to `::`, or to the frame around the groups
    short = f"regexp_replace(regexp_replace({short}, '^:([^:])', '\\1'), '([^:]):$', '\\1')"
    two = [f"({half} >> {shift}) & {2**32 - 1} = 0" for half in (hi, lo) for shift in (32, 16, 0)]
    run = " OR ".join([*two, f"({hi} & 65535 = 0 AND {lo} >> 48 = 0)"])
    return f"CASE WHEN {run} THEN {short} ELSE printf('{plain}', {groups}) END"


def address(side: str) -> str:
    hi, lo = f"{side}_hi", f"{side}_lo"
    return f"CASE WHEN family = 4 THEN {_dotted(lo)} ELSE {_colons(hi, lo)} END"


def _mac(column: str) -> str:
    octets = [f"substr(printf('%012x', {column}::BIGINT), {place:d}, 2)" for place in range(1, 12, 2)]
    return f"CASE WHEN {column} > 0 THEN concat_ws(':', {', '.join(octets)}) END"


def _listed(texts: Sequence[str], column: str) -> str:
    """NULL where the text is empty, or there is none for the number."""
    return f"[{', '.join(repr(text) if text else 'NULL' for text in texts)}][{column}::INTEGER + 1]"


_PROTOCOL_NAMES = [name_of(PROTOCOLS, number) or str(number) for number in range(256)]
_FLAG_NAMES = ["".join(letter for letter in "CEUAPRSF" if bits & FLAGS[letter]) for bits in range(256)]
_DIRECTION_NAMES = ["", *DIRECTIONS]


def _plain(name: str, title: str, kind: str = NUMBER) -> Field:
    return Field(name, title, ((name, COMPUTED.get(name, name)),), name, kind)


def _address(side: str, title: str, always: bool = False) -> Field:
    parts = (("family", "family"), (f"{side}_hi", f"{side}_hi"), (f"{side}_lo", f"{side}_lo"))
    told = address(side) if always else f"CASE WHEN {side}_hi > 0 OR {side}_lo > 0 THEN {address(side)} END"
    return Field(side, title, parts, told, TEXT)


def _text(name: str, title: str, shown: str) -> Field:
    return Field(name, title, ((name, name),), shown, TEXT)


_EXPORTER = "coalesce((SELECT map(list(id), list(name)) FROM exporter_names)[exporter], exporter::VARCHAR)"
_ALL = (
    _plain("first", "First packet", TIME),
    _plain("last", "Last packet", TIME),
    _plain("duration", "Duration", DURATION),
    _plain("received", "Received", TIME),
    Field("exporter", "Exporter", (("exporter", "exporter"),), _EXPORTER, TEXT, free=True),
    _plain("domain", "Domain"),
    _text("protocol", "Protocol", _listed(_PROTOCOL_NAMES, "protocol")),
    _address("src", "Source", always=True),
    _plain("src_port", "Source port"),
    _address("dst", "Destination", always=True),
    _plain("dst_port", "Destination port"),
    _text("flags", "TCP flags", _listed(_FLAG_NAMES, "flags")),
    _plain("tos", "ToS"),
    _plain("packets", "Packets"),
    _plain("bytes", "Bytes", OCTETS),
    _plain("pps", "Packets/s"),
    _plain("bps", "Bits/s", OCTETS),
    _plain("bpp", "Bytes/packet"),
    _plain("in_if", "In"),
    _plain("out_if", "Out"),
    _plain("src_as", "Source AS"),
    _plain("dst_as", "Destination AS"),
    _plain("vlan", "VLAN"),
    _text("src_mac", "Source MAC", _mac("src_mac")),
    _text("dst_mac", "Destination MAC", _mac("dst_mac")),
    _address("hop", "Next hop"),
    _address("nat_src", "Source after NAT"),
    _plain("nat_src_port", "Source port after NAT"),
    _address("nat_dst", "Destination after NAT"),
    _plain("nat_dst_port", "Destination port after NAT"),
    _text("nat_event", "NAT event", _listed(["", "create", "delete"], "nat_event")),
    _text("direction", "Direction", _listed(_DIRECTION_NAMES, "direction")),
    _plain("sampling", "Sampling"),
    _plain("marks", "Marks"),
    Field("account", "Account", (("account", "account"),), "account", TEXT, free=True),
)
FIELDS = {one.name: one for one in _ALL}
USUAL = ("first", "duration", "protocol", "src", "src_port", "dst", "dst_port", "flags", "packets", "bytes")

# Of a group, as totals have them (rollups.py): times the sampling, and what can't be true is in no sum.
_SUM = "coalesce(sum({0}::HUGEINT * greatest(sampling, 1)) FILTER ((marks & 2) = 0), 0)"
PARTIAL = {
    "sum_flows": "count(*)",
    "sum_packets": _SUM.format("packets"),
    "sum_bytes": _SUM.format("bytes"),
    "sum_first": "min(first)",
    "sum_last": "max(last)",
}


def _sums(flows: str, packets: str, octets: str, first: str, last: str) -> dict[str, Field]:
    bps = f"{octets} * 8000 // greatest(({last} - {first}), 1)"
    all_ = (
        Field("flows", "Flows", (("flows", flows),), "flows"),
        Field("packets", "Packets", (("packets", packets),), "packets"),
        Field("bytes", "Bytes", (("bytes", octets),), "bytes", OCTETS),
        Field("first", "First packet", (("first", first),), "first", TIME),
        Field("last", "Last packet", (("last", last),), "last", TIME),
        Field("avg_bytes", "Bytes/flow", (("avg_bytes", f"{octets} // {flows}"),), "avg_bytes", OCTETS),
        Field("bpp", "Bytes/packet", (("bpp", f"{octets} // greatest({packets}, 1)"),), "bpp"),
        Field("bps", "Bits/s", (("bps", bps),), "bps", OCTETS),
    )
    return {one.name: one for one in all_}


SUMS = _sums(*PARTIAL.values())
TOTALS = _sums("sum(sum_flows)", "sum(sum_packets)", "sum(sum_bytes)", "min(sum_first)", "max(sum_last)")
USUAL_SUMS = ("flows", "packets", "bytes")


def fields(columns: Sequence[str], group: Sequence[str], sums: Mapping[str, Field] = SUMS) -> list[Field]:
    """In this order; raises UserError for one that there isn't. `sums` are SUMS, of flows, or TOTALS, of PARTIAL."""
    known = FIELDS if not group else {**sums, **{name: FIELDS[name] for name in group if name in FIELDS}}
    for name in (*group, *columns):
        if name not in known:
            beside = " beside what is grouped by" if group and name in FIELDS else ""
            raise UserError(
                f"there is no column {name!r}{beside}; there are: {', '.join(known if not beside else SUMS)}"
            )
    return [known[name] for name in columns]


def shown(one: Field, clock: Clock) -> str:
    return clock.iso(one.shown) if one.kind == TIME else one.shown
