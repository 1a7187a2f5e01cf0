"""Searches over flows: what a filter finds, in which order, grouped, and as text; held against plain Python."""

import random
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import UserError
from collector import search, showing
from collector.filters.language import parse
from collector.search import Known, Query
from collector.store.reading import Reading
from collector.whose import FOREVER_MS, Holding
from tests.flows.kept import keep
from tests.flows.stand_in import ADDRESSES, ADDRESSES_6, HOUR_MS, PORTS, SINCE_MS, InMemory, random_flows

FLOWS = random_flows(400)
UNTIL_MS = SINCE_MS + 2 * HOUR_MS
Flow = Any
Test = Callable[[Flow], bool]


@pytest.fixture(scope="module")
def reading() -> Iterator[InMemory]:
    with InMemory(FLOWS) as found:
        yield found


def ask(text: str = "", **other: Any) -> Query:
    query = {"since_ms": SINCE_MS, "until_ms": UNTIL_MS, "columns": ("domain",), **other}
    return Query(parse(text), **query)


def numbers(reading: Reading, query: Query, known: Known = search.UNKNOWN) -> list[Any]:
    return [row[0] for row in search.run(reading, query, known).rows]


def addresses(flow: Flow, side: str) -> IPv4Address | IPv6Address:
    low = int(flow[f"{side}_lo"])
    return IPv4Address(low) if flow["family"] == 4 else IPv6Address(int(flow[f"{side}_hi"]) << 64 | low)


# Conditions as text, beside what they mean


def sided(names: dict[str, tuple[str, ...]]) -> st.SearchStrategy[tuple[str, tuple[str, ...]]]:
    return st.sampled_from(sorted(names.items()))


EITHER = {
    "": ("src", "dst"),
    "src ": ("src",),
    "dst ": ("dst",),
    "nat src ": ("nat_src",),
    "nat ": ("nat_src", "nat_dst"),
}
LOCAL = [ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")]
COMPARE: dict[str, Callable[[int, int], bool]] = {
    "": lambda a, b: a == b,
    "= ": lambda a, b: a == b,
    "!= ": lambda a, b: a != b,
    "> ": lambda a, b: a > b,
    ">= ": lambda a, b: a >= b,
    "< ": lambda a, b: a < b,
    "<= ": lambda a, b: a <= b,
}


@st.composite
def hosts(draw: Any) -> tuple[str, Test]:
    before, sides = draw(sided({**EITHER, "next ": ("hop",)}))
    address = ip_address(draw(st.sampled_from(ADDRESSES + ADDRESSES_6)))
    length = draw(st.sampled_from((8, 24, 31, 32) if address.version == 4 else (16, 48, 63, 64, 96, 128)))
    net = ip_network(f"{address}/{length}", strict=False)
    if not before and any(net.network_address in local and net.prefixlen >= local.prefixlen for local in LOCAL):
        sides = (*sides, "nat_dst")  # what stands behind the destination
    return f"{before}net {net}", lambda flow: any(addresses(flow, side) in net for side in sides)


@st.composite
def ports(draw: Any) -> tuple[str, Test]:
    before, sides = draw(sided(EITHER))
    low, high = sorted(draw(st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS))))
    text, wanted = draw(
        st.sampled_from(
            (
                (f"{low}-{high}", lambda port: low <= port <= high),
                (f"in [{low}, {high}]", lambda port: port in (low, high)),
            )
        )
    )
    return f"{before}port {text}", lambda flow: any(wanted(int(flow[f"{side}_port"])) for side in sides)


def duration(flow: Flow) -> int:
    return int(flow["last"]) - int(flow["first"])


MEASURES: dict[str, Callable[[Flow], int]] = {
    "packets": lambda flow: int(flow["packets"]),
    "bytes": lambda flow: int(flow["bytes"]),
    "duration": duration,
    "bps": lambda flow: int(flow["bytes"]) * 8000 // duration(flow) if duration(flow) else 0,
    "pps": lambda flow: int(flow["packets"]) * 1000 // duration(flow) if duration(flow) else 0,
    "bpp": lambda flow: int(flow["bytes"]) // int(flow["packets"]) if flow["packets"] else 0,
    "tos": lambda flow: int(flow["tos"]),
    "vlan": lambda flow: int(flow["vlan"]),
    "src as": lambda flow: int(flow["src_as"]),
    "event": lambda flow: int(flow["nat_event"]),
    "out if": lambda flow: int(flow["out_if"]),
    "sampling": lambda flow: int(flow["sampling"]),
    "proto": lambda flow: int(flow["protocol"]),
}


@st.composite
def measures(draw: Any) -> tuple[str, Test]:
    name, of = draw(st.sampled_from(sorted(MEASURES.items())))
    compare, holds = draw(st.sampled_from(sorted(COMPARE.items())))
    value = draw(st.sampled_from((0, 1, 2, 6, 10, 16, 100, 184)))
    if name in ("packets", "bytes", "bps", "pps", "duration"):
        value = draw(st.sampled_from((value, 999, 1000, 1001, 60_000, 8_000_000)))
    return f"{name} {compare}{value}", lambda flow: holds(of(flow), value)


FIXED: list[tuple[str, Test]] = [
    ("any", lambda flow: True),
    ("tcp", lambda flow: flow["protocol"] == 6),
    ("flags SA", lambda flow: flow["flags"] & 18 == 18),
    ("flags = S", lambda flow: flow["flags"] == 2),
    ("ipv6", lambda flow: flow["family"] == 6),
    ("if 2", lambda flow: 2 in (flow["in_if"], flow["out_if"])),
    ("mac 00:1b:44:11:3a:b7", lambda flow: 0x001B44113AB7 in (flow["src_mac"], flow["dst_mac"])),
    ("icmp type 8", lambda flow: flow["protocol"] in (1, 58) and flow["dst_port"] // 256 == 8),
    ("icmp code 0", lambda flow: flow["protocol"] in (1, 58) and flow["dst_port"] % 256 == 0),
    ("marked suspect", lambda flow: flow["marks"] & 2),
    ("direction egress", lambda flow: flow["direction"] == 2),
    ("exporter 192.0.2.2", lambda flow: flow["exporter"] == 2),
]


def joined(parts: st.SearchStrategy[tuple[str, Test]]) -> st.SearchStrategy[tuple[str, Test]]:
    two = st.tuples(parts, parts)
    return st.one_of(
        two.map(lambda ab: (f"({ab[0][0]} and {ab[1][0]})", lambda flow: ab[0][1](flow) and ab[1][1](flow))),
        two.map(lambda ab: (f"({ab[0][0]} or {ab[1][0]})", lambda flow: ab[0][1](flow) or ab[1][1](flow))),
        parts.map(lambda a: (f"not {a[0]}", lambda flow: not a[1](flow))),
    )


FILTERS = st.recursive(st.one_of(hosts(), ports(), measures(), st.sampled_from(FIXED)), joined, max_leaves=8)


@settings(max_examples=80, deadline=None)
@given(FILTERS)
def test_a_filter_finds_what_it_says(reading: InMemory, asked: tuple[str, Test]) -> None:
    text, wanted = asked
    expected = [int(flow["domain"]) for flow in FLOWS if wanted(flow)]
    assert sorted(numbers(reading, ask(text))) == expected, text


CAPPED = FLOWS.copy()
CAPPED["bytes"] = np.minimum(CAPPED["bytes"], 2**40)  # so that totals can be made of them


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    """The same flows in segments, where addresses decide what is opened."""
    folder = tmp_path_factory.mktemp("kept")
    keep(folder, CAPPED[:100], CAPPED[100:250], CAPPED[250:], exporters=("192.0.2.1", "192.0.2.2"))
    with Reading(folder) as found:
        yield found


@settings(max_examples=40, deadline=None)
@given(FILTERS)
def test_a_filter_finds_the_same_in_segments(kept: Reading, asked: tuple[str, Test]) -> None:
    text, wanted = asked
    found = [row[0] for row in search.run(kept, ask(text)).rows]
    assert sorted(found) == [int(flow["domain"]) for flow in CAPPED if wanted(flow)], text


def test_only_flows_of_the_period(reading: InMemory) -> None:
    since, until = SINCE_MS + 600_000, SINCE_MS + 1_200_000
    expected = [int(flow["domain"]) for flow in FLOWS if flow["first"] < until and flow["last"] >= since]
    assert sorted(numbers(reading, ask(since_ms=since, until_ms=until))) == expected
    assert 0 < len(expected) < len(FLOWS)


def test_addresses_narrow_down_what_is_opened(reading: InMemory) -> None:
    reading.asked.clear()
    numbers(reading, ask("host 10.0.0.1 and tcp"))
    numbers(reading, ask("not host 10.0.0.1"))
    assert reading.asked == [((0, 0x0A000001, 0x0A000001),), None]


@pytest.mark.parametrize("name", ["first", "bytes", "src", "duration", "bps", "nat_dst", "src_mac"])
@pytest.mark.parametrize("descending", [False, True])
def test_order_by_any_column_and_the_same_each_time(reading: InMemory, name: str, descending: bool) -> None:
    query = ask(order=name, descending=descending, columns=("domain", "bytes"))
    rows = numbers(reading, query)
    assert sorted(rows) == list(range(len(FLOWS)))

    def key(number: int) -> Any:
        flow = FLOWS[number]
        if name in MEASURES:
            return MEASURES[name](flow)
        return (flow["family"], addresses(flow, name)) if name in ("src", "nat_dst") else int(flow[name])

    keys = [key(number) for number in rows]
    assert all((a >= b) if descending else (a <= b) for a, b in pairwise(keys))
    ten = ask(order=name, descending=descending, columns=("domain", "bytes"), limit=10)
    assert numbers(reading, ten) == rows[:10]


def test_text_is_what_people_read(reading: InMemory) -> None:
    zone = ZoneInfo("Europe/Berlin")
    chosen = ("domain", "first", "protocol", "src", "dst", "flags", "src_mac", "hop", "nat_event", "exporter")
    known = Known({"192.0.2.2": "=roof"}, lambda since, until: ())
    for row in search.run(reading, ask(columns=chosen), known, zone).rows:
        flow = FLOWS[row[0]]
        at = datetime.fromtimestamp(int(flow["first"]) / 1000, zone)
        mac = int(flow["src_mac"])
        assert row[1:] == (
            at.isoformat(timespec="milliseconds"),
            {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}[int(flow["protocol"])],
            str(addresses(flow, "src")),
            str(addresses(flow, "dst")),
            letters(int(flow["flags"])) or None,
            "00:1b:44:11:3a:b7" if mac else None,
            str(addresses(flow, "hop")),
            (None, "create", "delete")[int(flow["nat_event"])],
            "192.0.2.1" if flow["exporter"] == 1 else "=roof",
        )


def letters(flags: int) -> str:
    return "".join(letter for letter in "CEUAPRSF" if flags >> "FSRPAUEC".index(letter) & 1)


def test_sums_of_groups(reading: InMemory) -> None:
    sums: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for flow in FLOWS:
        row = sums[str(addresses(flow, "src")), int(flow["dst_port"])]
        row[0] += 1
        if not flow["marks"] & 2:
            row[1] += int(flow["packets"]) * max(int(flow["sampling"]), 1)
            row[2] += int(flow["bytes"]) * max(int(flow["sampling"]), 1)
    query = ask(group=("src", "dst_port"), columns=(), order="bytes", descending=True)
    found = list(search.run(reading, query).rows)
    assert {row[:2]: list(row[2:]) for row in found} == sums
    assert [row[4] for row in found] == sorted((row[2] for row in sums.values()), reverse=True)
    top = ask(group=("src", "dst_port"), columns=(), order="bytes", descending=True, limit=3)
    assert list(search.run(reading, top).rows) == found[:3]


def test_all_columns_and_sums_can_be_shown(reading: InMemory) -> None:
    result = search.run(reading, ask(columns=tuple(name for name in search.COLUMNS)))
    assert len(list(result.rows)) == len(FLOWS)
    for name in search.COLUMNS:
        query = ask(group=(name,), columns=search.SUM_COLUMNS if name not in search.SUM_COLUMNS else ())
        assert list(search.run(reading, query).rows), name


@pytest.mark.parametrize("columns", [("src; DROP",), ("src", "nothing")])
def test_columns_that_there_are_not(reading: InMemory, columns: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="there is no column"):
        search.run(reading, ask(columns=columns))
    with pytest.raises(UserError, match="there is no column"):
        search.run(reading, ask(order=columns[-1]))
    with pytest.raises(UserError, match="beside what is grouped by"):
        search.run(reading, ask(group=("src",), columns=("dst",)))


def test_exporters_by_name(reading: InMemory) -> None:
    known = Known({"192.0.2.2": "roof; DROP TABLE"}, lambda since, until: ())
    found = numbers(reading, ask("exporter 'roof; DROP TABLE'"), known)
    assert sorted(found) == [int(flow["domain"]) for flow in FLOWS if flow["exporter"] == 2]
    with pytest.raises(UserError, match=r"position 10: no exporter is called 'cellar'; there are: 192.0.2.1, roof"):
        numbers(reading, ask("exporter cellar"), known)


A, B = 0x0A000001, 0x0A000002
MIDDLE = SINCE_MS + HOUR_MS // 2
HELD = (
    Holding(A, 4, SINCE_MS, MIDDLE, "'anna'", "aa:00:00:00:00:01", 1, "gw"),
    Holding(A, 4, MIDDLE, FOREVER_MS, "ben", "aa:00:00:00:00:02", 2, "gw"),
    Holding(B, 4, MIDDLE, FOREVER_MS, "'anna'", "aa:00:00:00:00:01", 3, "gw"),
    Holding(0x0A0000FE, 4, SINCE_MS, MIDDLE, "dora", "", 4, "gw"),
)
KNOWN = Known({}, lambda since, until: HELD)


def holder(flow: Flow) -> str | None:
    for side in ("src", "dst", "nat_dst"):
        for held in HELD:
            its = flow["family"] == 4 and flow[f"{side}_hi"] == 0 and flow[f"{side}_lo"] == held.address
            if its and held.since_ms <= flow["first"] < held.until_ms:
                return held.account
    return None


def test_whose_a_flow_was(reading: InMemory) -> None:
    rows = list(search.run(reading, ask(columns=("domain", "account")), KNOWN).rows)
    assert sorted(rows) == [(int(flow["domain"]), holder(flow)) for flow in FLOWS]
    assert {account for _, account in rows} == {None, "'anna'", "ben", "dora"}


@pytest.mark.parametrize("text", ["account \"'anna'\"", "device AA-00-00-00-00-01"])
def test_flows_of_an_account_or_its_device(reading: InMemory, text: str) -> None:
    reading.asked.clear()
    wanted = set()
    for flow in FLOWS:
        for held in HELD[::2]:
            ends = [int(flow[f"{side}_lo"]) for side in ("src", "dst", "nat_dst")] if flow["family"] == 4 else []
            if held.address in ends and held.since_ms <= flow["first"] < held.until_ms:
                wanted.add(int(flow["domain"]))
    assert set(numbers(reading, ask(text), KNOWN)) == wanted
    assert reading.asked == [((0, A, A), (0, B, B))]
    with pytest.raises(UserError, match="position 9: no session of account 'carl' is known in this period"):
        numbers(reading, ask("account carl"), KNOWN)


def test_ipv6_addresses_are_written_as_rfc_5952_says(reading: InMemory) -> None:
    chance = random.Random(1)
    groups = [[chance.choice((0, 0, 0, 1, 0xAB, 0xFFFF)) for _ in range(8)] for _ in range(2000)]
    numbers = [0, 1, 2**127, 2**128 - 1, *(int.from_bytes(struct.pack(">8H", *eight)) for eight in groups)]
    numbers = [one for one in numbers if one >> 32 != 0xFFFF]  # Python writes these in two ways, by its version
    halves = [[one >> 64 for one in numbers], [one & (2**64 - 1) for one in numbers]]
    source = "(SELECT 6 AS family, unnest(?::UBIGINT[]) AS a_hi, unnest(?::UBIGINT[]) AS a_lo)"
    rows = reading.con.execute(f"SELECT {showing.address('a')} FROM {source}", halves).fetchall()
    assert [row[0] for row in rows] == [str(IPv6Address(number)) for number in numbers]


@pytest.mark.parametrize("name", ["Europe/Prague", "America/St_Johns", "Asia/Kolkata", "Africa/Casablanca", "UTC"])
def test_times_on_the_sites_clock(reading: InMemory, name: str) -> None:
    zone, hour = ZoneInfo(name), 3_600_000
    since, until = 1_767_225_600_000, 1_767_225_600_000 + 366 * 24 * hour  # 2026
    at = showing.clock(zone, since, until)
    source = f"(SELECT unnest(range({since}, {until}, {hour})) - 1 AS x)"
    for number, text in reading.con.execute(f"SELECT x, {at.iso('x')} FROM {source}").fetchall():
        assert text == datetime.fromtimestamp(number / 1000, zone).isoformat(timespec="milliseconds")
    for absurd in (-(2**62), 2**62):
        assert reading.con.execute(f"SELECT {at.iso('x')} FROM (SELECT {absurd}::BIGINT AS x)").fetchall()
