"""The lawful question: who was it that had this address, and this port of it, at that time?

A public address with a port leads through NAT to a guest's own address by the flows and NAT events of that moment, and
this to an account by the sessions of RADIUS. Clocks differ: each step says by how much the time would have to be wrong.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from collector import whose
from collector.filters.conditions import All, Among, Either, Node, host, sql
from collector.store.models import Range
from collector.store.reading import Reading
from collector.wanted import Wanted
from collector.whose import Holding

USUAL_SLACK_MS = 5_000
MOST_SLACK_MS = 3_600_000
LOOK_BACK_MS = 86_400_000  # for the beginning of a translation by NAT that hasn't ended
SAMPLE_MS = 900_000  # of flows around the time, to see how the routers' clocks go
LATEST_MS = 1_830_000  # after which a flow of that time has been exported: routers end long ones after half an hour
_MOST_FLOWS = 20_000
_MOST_AHEAD_MS = 600_000
_NONE, _CREATED, _DELETED = 0, 1, 2

FLOW, NAT, EVENT, SESSION = "flow", "flow through NAT", "NAT event", "session"

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Question:
    """`slack_ms` is by how much the time that was asked for may be wrong, our clock and that of sessions included."""

    address: Address
    port: int | None
    at_ms: int
    protocol: int | None = None
    slack_ms: int = USUAL_SLACK_MS


class Trace(NamedTuple):
    """`client` used the address from the first to the last moment, as `how` says; `off_ms` away from the time."""

    client: Address
    port: int
    how: str
    first_ms: int
    last_ms: int
    flows: int
    off_ms: int
    exporters: tuple[int, ...]


class Found(NamedTuple):
    """One who may have been it. `held` is None where no session had the client's address; `off_ms` 0: just then."""

    trace: Trace
    held: Holding | None
    off_ms: int


class ClockError(NamedTuple):
    """How far a router's clock may be: `ahead_ms` of ours at least, `behind_ms` at most; of so many flows."""

    exporter: int
    ahead_ms: int
    behind_ms: int
    flows: int


@dataclass(frozen=True)
class Answer:
    """`found` has the likeliest first; more than one is a doubt that only more facts can end."""

    question: Question
    found: Sequence[Found]
    clocks: Sequence[ClockError]
    slack_ms: int

    @property
    def accounts(self) -> list[str]:
        return list(dict.fromkeys(one.held.account for one in self.found if one.held is not None))


def ask(reading: Reading, question: Question) -> Answer:
    """The core database is open."""
    clocks = _clocks(reading, question)
    ahead = max((clock.ahead_ms for clock in clocks), default=0)
    slack = min(question.slack_ms, MOST_SLACK_MS) + min(ahead, _MOST_AHEAD_MS)
    traces = [*_flows(reading, question, slack), *_events(reading, question, slack)]
    site = reading.site
    found = [one for trace in traces for one in _holders(trace, question, slack, site)]
    found += _own(question, slack, site, {one.held.session for one in found if one.held is not None})
    ordered = sorted(found, key=lambda one: (one.held is None, one.off_ms, -one.trace.flows))
    return Answer(question, _once(ordered), clocks, slack)


def reach(question: Question) -> Range:
    """All times of which flows can be looked at for it."""
    most_ms = MOST_SLACK_MS + _MOST_AHEAD_MS + SAMPLE_MS
    return Range(question.at_ms - LOOK_BACK_MS - most_ms, question.at_ms + most_ms)


def _once(found: Sequence[Found]) -> list[Found]:
    """The best of each session, and of each address that nobody held."""
    kept: dict[Any, Found] = {}
    for one in found:
        kept.setdefault(one.trace.client if one.held is None else one.held.session, one)
    return list(kept.values())


# From the address to the client's


def _matching(question: Question) -> Node:
    parts: list[Node] = []
    for side in ("src", "dst", "nat_src", "nat_dst"):
        its: list[Node] = [host((side,), question.address)]
        if question.port is not None:
            its.append(Among((f"{side}_port",), ((question.port,) * 2,)))
        parts.append(All(tuple(its)))
    whole: Node = Either(tuple(parts))
    return whole if question.protocol is None else All((whole, Among(("protocol",), ((question.protocol,) * 2,))))


_COLUMNS = (
    *("family", "src_hi", "src_lo", "src_port", "dst_hi", "dst_lo", "dst_port"),
    *("nat_src_hi", "nat_src_lo", "nat_src_port", "nat_dst_hi", "nat_dst_lo", "nat_dst_port"),
    *("first", "last", "exporter", "nat_event"),
)
_EARLIEST = (("first", False),)


class _Flow(NamedTuple):
    family: int
    src: tuple[int, int]
    dst: tuple[int, int]
    nat_src: tuple[int, int]
    nat_dst: tuple[int, int]
    first: int
    last: int
    exporter: int
    event: int


def _read(reading: Reading, period: Range, question: Question, *kinds: int) -> Iterator[_Flow]:
    """Addresses as (number, port)."""
    hi, lo = divmod(int(question.address), 1 << 64)
    root = All((Among(("nat_event",), tuple((kind, kind) for kind in kinds)), _matching(question)))
    wanted = Wanted(root, period, _COLUMNS, _EARLIEST, _MOST_FLOWS)
    relation = reading.who(wanted, (hi, lo, question.port), kinds != (_NONE,))
    query = f"SELECT {', '.join(_COLUMNS)} FROM ({relation}) AS flows WHERE {sql(root)}"
    for row in reading.con.execute(f"{query} ORDER BY first LIMIT {_MOST_FLOWS:d}").fetchall():
        ends = [(row[place] << 64 | row[place + 1], row[place + 2]) for place in (1, 4, 7, 10)]
        yield _Flow(row[0], ends[0], ends[1], ends[2], ends[3], *row[13:])


def _client(flow: _Flow, question: Question) -> tuple[Address, int, str]:
    """Who stands behind the address in this flow, on whichever end it is, and how that is known."""
    asked = int(question.address)

    def fits(end: tuple[int, int]) -> bool:
        return end[0] == asked and question.port in (None, end[1])

    for outer, inner in ((flow.nat_src, flow.src), (flow.dst, flow.nat_dst)):
        if fits(outer) and inner[0] and inner[0] != outer[0]:
            return _address(flow.family, inner[0]), inner[1], NAT
    end = next((end for end in (flow.src, flow.dst, flow.nat_src, flow.nat_dst) if fits(end)), flow.src)
    return question.address, end[1], FLOW


def _address(family: int, number: int) -> Address:
    return IPv4Address(number) if family == 4 and number < 2**32 else IPv6Address(number)


def _flows(reading: Reading, question: Question, slack_ms: int) -> Iterator[Trace]:
    period = Range(question.at_ms - slack_ms, question.at_ms + slack_ms + 1)
    by_client: dict[tuple[Address, int, str], list[_Flow]] = defaultdict(list)
    for flow in _read(reading, period, question, _NONE):
        by_client[_client(flow, question)].append(flow)
    for (client, port, how), flows in by_client.items():
        off = min(_off(question.at_ms, flow.first, flow.last) for flow in flows)
        first, last = min(flow.first for flow in flows), max(flow.last for flow in flows)
        yield Trace(client, port, how, first, last, len(flows), off, tuple({flow.exporter for flow in flows}))


def _events(reading: Reading, question: Question, slack_ms: int) -> Iterator[Trace]:
    """Translations that had begun and not ended, as far as their events were told."""
    period = Range(question.at_ms - LOOK_BACK_MS, question.at_ms + slack_ms + 1)
    of: dict[tuple[Address, int, int], list[_Flow]] = defaultdict(list)
    for flow in _read(reading, period, question, _CREATED, _DELETED):
        client, port, how = _client(flow, question)
        if how == NAT:
            of[client, port, flow.exporter].append(flow)
    for (client, port, exporter), events in of.items():
        for begin, end in _spans(events):
            off = _off(question.at_ms, begin, end)
            if off <= slack_ms:
                yield Trace(client, port, EVENT, begin, min(end, question.at_ms + slack_ms), 1, off, (exporter,))


def _spans(events: Sequence[_Flow]) -> Iterator[tuple[int, int]]:
    """From each creation to the deletion after it; one without its creation began before we look back."""
    begin: int | None = None
    for event in events:
        if event.event == _CREATED:
            if begin is not None:
                yield begin, event.first
            begin = event.first
        else:
            yield event.first if begin is None else begin, event.first
            begin = None
    if begin is not None:
        yield begin, whose.FOREVER_MS


def _off(at_ms: int, since_ms: int, until_ms: int) -> int:
    """0 within, else how far outside."""
    return max(since_ms - at_ms, at_ms - until_ms, 0)


# From the client's address to the account


def _holders(trace: Trace, question: Question, slack_ms: int, site: str) -> Iterator[Found]:
    held = whose.overlapping(str(trace.client), question.at_ms - slack_ms, question.at_ms + slack_ms, site)
    for one in held:
        yield Found(trace, one, max(trace.off_ms, _off(question.at_ms, one.since_ms, one.until_ms - 1)))
    if not held:
        yield Found(trace, None, trace.off_ms)


def _own(question: Question, slack_ms: int, site: str, told: set[int]) -> Iterator[Found]:
    """Who had the address itself, whether any flow of it is known or not."""
    since, until = question.at_ms - slack_ms, question.at_ms + slack_ms
    for one in whose.overlapping(str(question.address), since, until, site):
        if one.session not in told:
            off = _off(question.at_ms, one.since_ms, one.until_ms - 1)
            trace = Trace(question.address, 0, SESSION, one.since_ms, one.until_ms, 0, off, ())
            yield Found(trace, one, off)


# Clocks


def _clocks(reading: Reading, question: Question) -> list[ClockError]:
    """No flow ends after it was received, and none is received sooner than its router's clock is behind."""
    period = Range(question.at_ms - SAMPLE_MS, question.at_ms + SAMPLE_MS)
    return [
        ClockError(exporter, max(0, -least), max(0, least), flows) for exporter, least, flows in reading.lags(period)
    ]


def address_of(text: str) -> Address:
    """Raises ValueError."""
    found = ip_address(text)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
