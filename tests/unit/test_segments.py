"""Segments: what is read is what was written, whoever is asked for, and only where it can be."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from collector.filters.conditions import Everything
from collector.flows import FLOW
from collector.store import duck, ends, keeping, packing, segments, sets
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, SEGMENTS, SegmentFile, beside
from collector.store.reading import Range, Reading
from collector.wanted import Wanted
from tests.flows import mix

EVER = Range(-(2**50), 2**50)
Flows = NDArray[np.void]


def rows(reading: Reading, sql: str) -> Flows:
    found = reading.con.execute(sql).fetchnumpy()
    flows = np.zeros(len(found["first"]), FLOW)
    for name in FLOW.names or ():
        flows[name] = found[name]
    return flows


def same(one: Flows, other: Flows) -> bool:
    return len(one) == len(other) and bool((np.sort(one, order=FLOW.names) == np.sort(other, order=FLOW.names)).all())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / SEGMENTS).mkdir()
    Catalog(tmp_path / CATALOG, write=True).close()
    yield tmp_path


def keep(folder: Path, *parts: Flows) -> list[SegmentFile]:
    con = duck.connect()
    written = [segments.write(flows, folder / SEGMENTS, con) for flows in parts]
    with Catalog(folder / CATALOG, write=True) as catalog, catalog.transaction():
        for segment in written:
            catalog.add(segment)
    return written


def test_any_flow_comes_back_as_it_was(folder: Path) -> None:
    flows = mix.anything(5000)
    keep(folder, flows, flows[:1], mix.flows(1000))
    with Reading(folder) as reading:
        assert same(rows(reading, reading.relation(EVER)), np.concatenate([flows, flows[:1], mix.flows(1000)]))


def touches(flows: Flows, hi: int, low: int, high: int) -> NDArray[np.bool_]:
    """At either end, or behind the destination's, which only local ones are."""
    behind = hi == 0 and packing.is_local(4, hi, low, high)
    ends = [
        (flows[f"{end}_hi"] == hi) & (flows[f"{end}_lo"] >= low) & (flows[f"{end}_lo"] <= high)
        for end in ("src", "dst", *(["nat_dst"] if behind else []))
    ]
    return np.asarray(np.logical_or.reduce(ends))


@pytest.mark.parametrize(
    "hi, low, high",
    [
        (0, 10 << 24, (10 << 24) + 99),  # private
        (0, 2**31, 2**32 - 1),  # public
        (0, 9 << 24, (10 << 24) + 99),  # both
        (0, 0, 2**32 - 1),
        ((0xFD << 56) + 7, 0, 2**63),
        (0xFD << 56, 0, 2**63),  # nobody's
    ],
)
def test_a_search_for_addresses_finds_all_of_theirs(folder: Path, hi: int, low: int, high: int) -> None:
    flows = np.concatenate([mix.anything(20_000), mix.flows(1000)])
    keep(folder, flows[:10_000], flows[10_000:])
    with Reading(folder) as reading:
        found = rows(reading, reading.relation(EVER, [(hi, low, high)]))
        assert same(found[touches(found, hi, low, high)], flows[touches(flows, hi, low, high)])
        assert len(np.unique(found)) == len(found), "a flow is found twice"


def test_what_stands_behind_nat_is_found_by_its_own_address(folder: Path) -> None:
    flows = mix.flows(1000)
    back = flows["src_port"] < 1024
    flows["dst_lo"][back], flows["nat_dst_lo"][back] = flows["nat_dst_lo"][back], flows["dst_lo"][back].copy()
    client = int(flows["nat_dst_lo"][back][0])
    keep(folder, flows)
    with Reading(folder) as reading:
        found = rows(reading, reading.relation(EVER, [(0, client, client)]))
    assert same(
        found, flows[(flows["src_lo"] == client) | (flows["dst_lo"] == client) | (flows["nat_dst_lo"] == client)]
    )
    assert (found["nat_dst_lo"] == client).any()


def test_a_search_opens_only_what_can_have_it(folder: Path) -> None:
    days = [mix.flows(2000, seed=day, start_ms=mix.START_MS + day * mix.DAY_MS, clients=10 + day) for day in range(5)]
    written = keep(folder, *days)
    rare = mix.CLIENTS + 13
    with Reading(folder) as reading:
        assert [s.path for s in reading.files(EVER, [(0, rare, rare)])] == [written[4].path]
        day = Range(mix.START_MS + mix.DAY_MS + 60_000, mix.START_MS + 2 * mix.DAY_MS - 60_000)
        assert [s.path for s in reading.files(day)] == [written[1].path]
        found = rows(reading, reading.relation(day))
        whole = days[1]
        assert same(found, whole[(whole["first"] < day.until_ms) & (whole["last"] >= day.since_ms)])


def test_a_flow_of_another_year_is_found_and_hides_no_pruning(folder: Path) -> None:
    flows = mix.flows(1000)
    flows["first"][7] = flows["last"][7] = 5_000
    (segment,) = keep(folder, flows)
    assert segment.first_ms >= mix.START_MS and segment.odd_first_ms == 5_000
    with Reading(folder) as reading:
        assert len(rows(reading, reading.relation(Range(4_000, 6_000)))) == 1
        assert reading.files(Range(10_000, mix.START_MS - 1)) == []


def test_a_damaged_segment_is_named_and_its_flows_are_lost(folder: Path) -> None:
    whole, cut, gone = keep(folder, *(mix.flows(1000, seed=seed) for seed in range(3)))
    with (folder / SEGMENTS / cut.path).open("r+b") as file:
        file.truncate(cut.size_bytes // 2)
    (folder / SEGMENTS / gone.path).unlink()
    with Reading(folder) as reading:
        assert len(rows(reading, reading.relation(EVER))) == 1000
        told = reading.certificate(EVER)
    assert (told.present, told.lost, {loss.cause for loss in told.losses}) == (1000, 2000, {"damaged"})
    assert any(cut.path in note for note in told.notes)
    assert whole.rows == 1000


def test_orphans_are_swept(folder: Path) -> None:
    (segment,) = keep(folder, mix.flows(100))
    segments.write(mix.flows(100), folder / SEGMENTS)
    (folder / SEGMENTS / f"{segments.UNFINISHED}x.parquet").write_bytes(b"half")
    assert len(segments.sweep(folder / SEGMENTS, [segment.path])) == 3
    its = folder / SEGMENTS / segment.path
    assert sorted((folder / SEGMENTS).iterdir()) == [its, beside(its)]


def test_a_set_never_denies_what_it_has() -> None:
    random = np.random.default_rng(1)
    four, six = random.integers(0, 2**32, 50_000, dtype=np.uint64), random.integers(0, 2**64, 5000, dtype=np.uint64)
    packed = sets.pack(four, six)
    assert len(packed) < 40_000
    assert all(sets.may_have(packed, 4, int(a), int(a)) for a in four[:300])
    assert all(sets.may_have(packed, 6, int(a), int(a)) for a in six[:300])
    few = sets.pack(np.array([5, 9], np.uint64), np.zeros(0, np.uint64))
    assert [sets.may_have(few, 4, low, high) for low, high in ((5, 5), (6, 8), (6, 9), (10, 99))] == [1, 0, 1, 0]
    assert not sets.may_have(few, 6, 0, 2**64 - 1)


def test_private_ranges_are_told_from_those_that_only_begin_or_end_so() -> None:
    ten = 10 << 24
    assert packing.is_local(4, 0, ten, ten + 2**24 - 1)
    assert not packing.is_local(4, 0, ten - 1, ten + 5)
    assert not packing.is_local(4, 0, ten, (192 << 24) + (168 << 16))
    assert packing.is_local(6, 0xFD << 56, 0, 2**64 - 1) and not packing.is_local(6, 0x20010DB8 << 32, 0, 5)


def test_a_file_says_what_it_leaves_out(folder: Path) -> None:
    (segment,) = keep(folder, mix.flows(1000))
    path = duck.text(folder / SEGMENTS / segment.path)
    con = duck.connect()
    (names,) = con.execute(f"SELECT list(name) FROM parquet_schema({path})").fetchone() or ([],)
    assert "family" not in names and "first" in names
    (kept,) = con.execute(f"SELECT decode(value) FROM parquet_kv_metadata({path})").fetchone() or ("",)
    assert '"family": [4, 4]' in kept


def test_a_client_behind_two_nats_is_the_client_of_both_ways(folder: Path) -> None:
    flows = np.zeros(2, FLOW)
    flows["family"], flows["protocol"] = 4, 6
    client, outside, server = (10 << 24) + 7, (192 << 24) + (168 << 16) + 2, (5 << 24) + 1
    flows[0]["src_lo"], flows[0]["dst_lo"], flows[0]["nat_src_lo"], flows[0]["nat_dst_lo"] = (
        client, server, outside, server,
    )  # fmt: skip
    flows[1]["src_lo"], flows[1]["dst_lo"], flows[1]["nat_src_lo"], flows[1]["nat_dst_lo"] = (
        server, outside, server, client,
    )  # fmt: skip
    packed = packing.pack(flows)
    assert packed.bounds["client_lo"] == (client, client)
    keep(folder, flows)
    with Reading(folder) as reading:
        for address, count in ((client, 2), (outside, 1), (client + 1, 0)):
            found = rows(reading, reading.relation(EVER, [(0, address, address)]))
            assert int(touches(found, 0, address, address).sum()) == count


SIDES = ("src", "dst", "nat_src", "nat_dst")


def having(flows: Flows, hi: int, lo: int, port: int, period: Range, events: bool) -> Flows:
    """What a look at each of them finds."""
    at = (flows["first"] < period.until_ms) & (flows["last"] >= period.since_ms) & ((flows["nat_event"] != 0) == events)
    ends_ = [(flows[f"{s}_hi"] == hi) & (flows[f"{s}_lo"] == lo) & (flows[f"{s}_port"] == port) for s in SIDES]
    found: Flows = flows[at & np.logical_or.reduce(ends_)]
    return found


def behind_nat() -> Flows:
    """Both ways, with and without other ports; by prefix (RFC 6296); to an address outside that is private; events;
    an exporter that tells the same after as before; clients with public addresses; flows that take long."""
    flows = mix.flows(40_000, clients=300)
    random = np.random.default_rng(3)
    kind = random.integers(0, 8, len(flows))
    back = (flows["src_lo"] >> 24 != 10) & (kind != 5)  # as after NAT: what came back to the public address
    for half in ("lo", "port"):
        inner, outer = flows[f"dst_{half}"].copy(), flows[f"nat_dst_{half}"].copy()
        flows[f"dst_{half}"][back], flows[f"nat_dst_{half}"][back] = outer[back], inner[back]
    flows["nat_event"][kind == 1] = random.integers(1, 3, int((kind == 1).sum()))
    out, prefix, outside = ~back, kind == 2, kind == 3
    for side, hi in (("src", 0xFD << 56), ("dst", 0x20010DB8 << 32), ("nat_src", 0x20010DB9 << 32), ("nat_dst", 1)):
        flows[f"{side}_hi"][prefix & out] = hi
    flows["family"][prefix & out] = 6
    flows["nat_src_lo"][prefix & out] = flows["src_lo"][prefix & out]
    flows["nat_src_lo"][outside & out] = (192 << 24) + (168 << 16) + 2
    for half in ("lo", "port"):
        for side in ("src", "dst"):
            flows[f"nat_{side}_{half}"][kind == 4] = flows[f"{side}_{half}"][kind == 4]
    flows["src_lo"][(kind == 6) & out] = mix.PUBLIC + 9
    flows["last"][kind == 7] += random.choice([600_000, 1_500_000, 9_000_000], int((kind == 7).sum()))
    return flows


@pytest.mark.parametrize("spoiled", ["", "ends", "older"])
def test_who_had_an_address_and_port_is_found_as_by_looking_at_all(folder: Path, spoiled: str) -> None:
    flows = np.concatenate([behind_nat(), mix.anything(20_000)])
    for segment in keep(folder, flows[::2], flows[1::2]):
        if spoiled == "ends":
            beside(folder / SEGMENTS / segment.path).write_bytes(bytes(segment.ends_bytes))
    if spoiled == "older":
        with Catalog(folder / CATALOG, write=True) as catalog:
            catalog.run("UPDATE segment SET ends_bytes = 0, ends_sha256 = ''")
    random = np.random.default_rng(4)
    slow = (flows["last"] - flows["first"] > 1_000_000) & (flows["last"] - flows["first"] < 2_000_000)
    back = (flows["dst_lo"] >> 8 == mix.PUBLIC >> 8) & (flows["dst_port"] != flows["nat_dst_port"])
    kinds = (slow, back, flows["nat_event"] != 0, np.ones(len(flows), np.bool_))
    with Reading(folder) as reading:
        for row in flows[[n for kind in kinds for n in random.choice(np.flatnonzero(kind), 1 if spoiled else 5)]]:
            at = int(random.integers(row["first"], max(row["first"], row["last"]), endpoint=True))
            event = bool(row["nat_event"])
            for side in SIDES:
                hi, lo, port = (int(row[f"{side}_{part}"]) for part in ("hi", "lo", "port"))
                wide = [(Range(at - 9_000_000, at + 9_000_000), events) for events in (False, True)]
                for period, events in ((Range(at, at + 1), event), *(wide if side == "nat_src" else ())):
                    expected = having(flows, hi, lo, port, period, events)
                    found = rows(reading, reading.who(Wanted(Everything(), period, ()), (hi, lo, port), events))
                    assert same(having(found, hi, lo, port, period, events), expected), (side, hi, lo, port)
                    assert len(expected) or events != event or row["last"] < row["first"]


def test_who_looks_only_where_an_address_and_port_may_have_been(folder: Path) -> None:
    (segment,) = keep(folder, mix.flows(100_000, clients=300))
    data = beside(folder / SEGMENTS / segment.path).read_bytes()
    assert len(data) == segment.ends_bytes < 1.5 * segment.rows
    groups = -(-segment.rows // segments.SEALED_ROW_GROUP)
    looked = [
        ends.spans(data, 0, mix.PUBLIC, port, ends.slots(at, at + 10_000) or [])
        for port in range(1, 1000)  # which nobody had
        for at in (mix.START_MS + 40_000_000,)
    ]
    assert sum(map(len, looked)) < 0.05 * groups * len(looked)
    for broken in (b"", data[:9], b"end0" + data[4:]):
        with pytest.raises(ValueError):
            ends.spans(broken, 0, 1, 1, ends.EVENTS)


def test_the_second_order_goes_with_its_segment(folder: Path) -> None:
    (segment,) = keep(folder, mix.flows(100))
    with Catalog(folder / CATALOG, write=True) as catalog:
        catalog.remove(catalog.segments(), 1)
        keeping.take_away_files(catalog, folder / SEGMENTS, 2, at_once=True)
    assert list((folder / SEGMENTS).iterdir()) == []
    assert segment.all_bytes == segment.size_bytes + segment.ends_bytes > segment.size_bytes


def test_a_search_may_open_more_files_than_a_process_usually_may(folder: Path) -> None:
    con = duck.connect()
    parts = [segments.write(mix.flows(20, seed=seed), folder / SEGMENTS, con) for seed in range(80)]
    with Catalog(folder / CATALOG, write=True) as catalog, catalog.transaction():
        for part in parts:
            catalog.add(part)
    code = (
        "from resource import RLIMIT_NOFILE, getrlimit, setrlimit\n"
        "setrlimit(RLIMIT_NOFILE, (64, getrlimit(RLIMIT_NOFILE)[1]))\n"
        "from pathlib import Path; from collector.store.reading import Range, Reading\n"
        f"with Reading(Path({str(folder)!r})) as r:\n"
        "    print(r.con.execute(f'SELECT count(*) FROM ({r.relation(Range(-2**50, 2**50))})').fetchone()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1600\n", "")
