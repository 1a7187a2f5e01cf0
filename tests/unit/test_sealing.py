"""From datagrams in the journal to segments and totals: each flow once, whatever happens between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from collector.journal import Datagram, Journal
from collector.store import anew, compaction, counting, keeping, packing, rollups, segments, upkeep
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, DAY, HOUR, JOURNAL, SEGMENTS, Range
from collector.store.reading import Reading
from collector.store.sealing import Sealer
from tests.flows import bulk, mix
from tests.unit.test_segments import EVER, Flows, rows

START_MS = 1_700_000_000_000
ROUTER = "192.0.2.1"
HOUR_MS = 3_600_000


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    Journal(tmp_path / JOURNAL).close()
    yield tmp_path


def flows_of(count: int, seed: int = 1, start_ms: int = START_MS) -> Flows:
    return bulk.some_flows(count, seed, start_ms)


def send(folder: Path, flows: Flows, at_ms: int | None = None, sequence: int = 0, **more: Any) -> None:
    """As the collector writes them, some rows a call."""
    datagrams = bulk.datagrams_of(flows, sequence=sequence, **more)
    at_ms = at_ms or int(flows["received"][0])
    journal = Journal(folder / JOURNAL)
    for start in range(0, len(datagrams), 25):
        part = datagrams[start : start + 25]
        journal.append([Datagram(at_ms + (start + n), ROUTER, data) for n, data in enumerate(part)])
    journal.close()


def seal(folder: Path) -> int:
    """All there is; how many segments it made."""
    count = 0
    with Sealer(folder) as sealer:
        more = True
        while more:
            more = sealer.gather()
            count += sealer.waits and sealer.seal() is not None
    return count


def ends(flows: Flows) -> list[tuple[int, ...]]:
    names = ["src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port", "bytes", "nat_src_lo", "in_if"]
    return sorted(zip(*(flows[name].tolist() for name in names), strict=True))


def kept(folder: Path) -> Flows:
    with Reading(folder) as reading:
        return rows(reading, reading.relation(EVER))


def test_what_was_received_is_found_once_however_often_it_is_sealed(folder: Path) -> None:
    first, second = flows_of(3000), flows_of(2000, seed=2, start_ms=START_MS + 60_000)
    send(folder, first)
    assert seal(folder) == 1
    assert seal(folder) == 0
    send(folder, second, sequence=3000)
    seal(folder)
    assert ends(kept(folder)) == ends(np.concatenate([first, second]))
    with Reading(folder) as reading:
        told = reading.certificate(EVER)
    assert (told.present, told.lost) == (5000, 0)


def test_losses_are_named(folder: Path) -> None:
    send(folder, flows_of(1200))
    send(folder, flows_of(1200, seed=3, start_ms=START_MS + 5000), sequence=1500)
    journal = Journal(folder / JOURNAL)
    journal.append([], drops=7)
    journal.close()
    seal(folder)
    with Catalog(folder / CATALOG) as catalog:
        losses = {loss.cause: loss.flows for loss in catalog.losses(0, 2**50)}
    assert losses["kernel"] > 7
    assert losses["sequence"] + losses["kernel"] == 300, "what was dropped is missing in the router's count, too"
    seal(folder)
    with Catalog(folder / CATALOG) as catalog:
        assert len(catalog.losses(0, 2**50)) == 2, "a loss is counted again"


def test_totals_are_those_of_all_flows(folder: Path) -> None:
    flows = flows_of(20_000)
    flows["dst_lo"] += np.arange(len(flows), dtype=np.uint64) % 3000  # more than a period has by name
    send(folder, flows)
    seal(folder)
    with Catalog(folder / CATALOG) as catalog:
        for by in rollups.KINDS:
            ways = 2 if by == "interface" else 1
            for grain in rollups.GRAINS:
                sums = catalog.one(
                    f"SELECT sum(flows), sum(bytes), count(*) FROM {grain.table} WHERE kind = ?",
                    rollups.KINDS.index(by),
                )
                assert sums[:2] == (ways * len(flows), ways * int(flows["bytes"].sum()))
                assert sums[2] <= 2 * (grain.most + 1) * 24
        whole = rollups.whole(catalog, Range(START_MS - HOUR_MS, START_MS + HOUR_MS))
        assert (whole.flows, whole.packets) == (len(flows), int(flows["packets"].sum()))
        found = rollups.top(catalog, Range(START_MS - HOUR_MS, START_MS + HOUR_MS), "service", limit=3)
        ports = np.minimum(flows["src_port"], flows["dst_port"])
        most = max(
            ((p, q) for p in (6, 17) for q in (443, 80, 53, 123, 25)),
            key=lambda pq: int(flows["bytes"][(flows["protocol"] == pq[0]) & (ports == pq[1])].sum()),
        )
        assert rollups.label("service", found[0].key) == f"{most[0]}/{most[1]}"
        points = rollups.over_time(catalog, Range(START_MS - HOUR_MS, START_MS + HOUR_MS), 60_000)
        assert sum(point.total.flows for point in points) == len(flows)


def test_routers_that_lie_overflow_no_total(folder: Path) -> None:
    flows = mix.flows(1000)
    flows["bytes"], flows["packets"], flows["sampling"] = 2**64 - 1, 2**63, 2**32 - 1
    sums = counting.count(packing.pack(flows))
    assert all(0 < value < 2**63 for rows in sums.values() for row in rows for value in row[4:7])
    day_ms = mix.START_MS // mix.DAY_MS * mix.DAY_MS
    period = Range(day_ms, day_ms + mix.DAY_MS)
    with Catalog(folder / CATALOG, write=True) as catalog:
        for port in range(1, 7):
            for _ in range(3):
                row = (0, day_ms, 1, rollups.service(6, port), 1, 2**62, 2**62, 2**62)
                rollups.add(catalog, {grain.table: [row] for grain in rollups.GRAINS})
        assert catalog.one("SELECT max(bytes), typeof(max(bytes)) FROM total_day") == (2**61, "integer")
        assert rollups.top(catalog, period, "service")[0].bytes == 2**61
        for found in (rollups.whole(catalog, period), rollups.over_time(catalog, period, mix.DAY_MS)[0].total):
            assert (found.flows, found.bytes) == (18, 2**63 - 1)


def test_hours_and_days_are_made_of_minutes_without_losing_or_doubling_any(folder: Path) -> None:
    parts = [flows_of(700, seed=n, start_ms=START_MS + n * 600_000) for n in range(9)]
    for n, flows in enumerate(parts):
        send(folder, flows, sequence=700 * n)
        seal(folder)
    now_ms = START_MS + 30 * HOUR_MS
    before = kept(folder)
    with Sealer(folder) as sealer:
        assert upkeep.compact(sealer, now_ms)
        assert {s.level for s in sealer.catalog.segments()} == {HOUR, 0}
        while upkeep.compact(sealer, now_ms):
            pass
        assert [s.level for s in sealer.catalog.segments()] == [DAY]
        keeping.take_away_files(sealer.catalog, folder / SEGMENTS, now_ms + 1000)
        assert len(list((folder / SEGMENTS).iterdir())) > 2, "a reader may still have them"
        keeping.take_away_files(sealer.catalog, folder / SEGMENTS, now_ms + 2 * keeping.READERS_MS)
        assert len(list((folder / SEGMENTS).glob("*.parquet"))) == 1
    after = kept(folder)
    assert (np.sort(before, order=before.dtype.names) == np.sort(after, order=after.dtype.names)).all()


def test_what_is_too_much_for_memory_is_compacted_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PORTION", 500)
    for n in range(3):
        flows = flows_of(900, seed=n, start_ms=START_MS + n * 60_000)
        flows["src_lo"][:400] = 10 << 24 | 9  # one client with more than a part
        send(folder, flows, sequence=900 * n)
        seal(folder)
    before = kept(folder)
    with Sealer(folder) as sealer:
        while upkeep.compact(sealer, START_MS + 30 * HOUR_MS):
            pass
        assert len(sealer.catalog.segments()) > 3
    after = kept(folder)
    assert (np.sort(before, order=before.dtype.names) == np.sort(after, order=after.dtype.names)).all()


def test_compaction_notices_and_names_what_is_damaged(folder: Path) -> None:
    for n in range(3):
        send(folder, flows_of(700, seed=n, start_ms=START_MS + n * 600), sequence=700 * n)
        seal(folder)
    with Sealer(folder) as sealer:
        victim = sealer.catalog.segments()[1]
        path = folder / SEGMENTS / victim.path
        path.write_bytes(bytes(len(path.read_bytes())))
        while upkeep.compact(sealer, START_MS + 30 * HOUR_MS):
            pass
        assert sorted(s.damaged is None for s in sealer.catalog.segments()) == [False, True]
    with Reading(folder) as reading:
        told = reading.certificate(EVER)
    assert (told.present, told.lost) == (1400, 700)


def test_a_template_that_came_too_late_is_made_good_from_the_journal(folder: Path) -> None:
    flows = flows_of(2400)
    send(folder, flows[:1200])
    datagrams = bulk.datagrams_of(flows[1200:], sequence=1200)
    journal = Journal(folder / JOURNAL)
    at_ms = int(flows["received"][1200])
    bare = [data for data in datagrams if len(data) > 0 and data[16:18] not in (b"\x00\x02",)]
    journal.append([Datagram(at_ms, "192.0.2.9", data) for data in bare])
    journal.close()
    seal(folder)
    assert len(kept(folder)) == 1200
    send_templates(folder, datagrams, at_ms + 5 * HOUR_MS)
    seal(folder)
    with Sealer(folder) as sealer:
        assert anew.redecode(sealer, at_ms - 60_000, at_ms + 60_000)
        assert ends(kept(folder)) == ends(flows)
        anew.redecode(sealer, at_ms - 60_000, at_ms + 60_000)
    assert ends(kept(folder)) == ends(flows), "twice is not once"
    with Catalog(folder / CATALOG) as catalog:
        assert rollups.whole(catalog, Range(0, 2**50)).flows == len(flows)
        assert catalog.losses(0, 2**50) == []


def send_templates(folder: Path, datagrams: list[bytes], at_ms: int) -> None:
    templates = next(data for data in datagrams if data[16:18] == b"\x00\x02")
    journal = Journal(folder / JOURNAL)
    journal.append([Datagram(at_ms, "192.0.2.9", templates)])
    journal.close()


def test_a_crash_before_the_catalogue_knows_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(folder, flows_of(900))

    class Crash(Exception):
        pass

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as broken:
        broken.setattr(Catalog, "add", crash)
        with pytest.raises(Crash):
            seal(folder)
    assert len(list((folder / SEGMENTS).glob("*.parquet"))) == 1
    assert seal(folder) == 1
    assert len(list((folder / SEGMENTS).glob("*.parquet"))) == 1
    assert len(kept(folder)) == 900
    assert not list((folder / SEGMENTS).glob(f"{segments.UNFINISHED}*"))


def test_what_the_disk_spoils_is_noticed_by_reading_it_now_and_then_and_by_who_searches(folder: Path) -> None:
    for n in range(3):
        send(folder, flows_of(700, seed=n, start_ms=START_MS + n * 600), sequence=700 * n)
        seal(folder)
    with Sealer(folder) as sealer:
        victim = sealer.catalog.segments()[2]
        path = folder / SEGMENTS / victim.path
        path.write_bytes(bytes(len(path.read_bytes())))
        with Reading(folder) as reading:
            with pytest.raises(duckdb.Error):
                rows(reading, reading.relation(EVER))
            assert reading.doubt(EVER)
            assert len(rows(reading, reading.relation(EVER))) == 1400
            assert (reading.certificate(EVER).present, reading.certificate(EVER).lost) == (1400, 700)
            assert not reading.doubt(EVER)
        for _ in range(2):
            upkeep.scrub(sealer)
        assert all(s.damaged is None for s in sealer.catalog.segments())
        upkeep.scrub(sealer)
        assert [s.path for s in sealer.catalog.segments() if s.damaged] == [victim.path]
        upkeep.scrub(sealer)
    assert len(kept(folder)) == 1400
