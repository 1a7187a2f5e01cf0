"""Flows that are to go into a cluster, without one: what waits, what stays, what goes, and what is said of it."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import ConfigError, UserError
from collector import cli_kept, clustered, holding, metrics, places
from collector.store import anew, compaction, completeness, keeping, loads, retention, upkeep
from collector.store.catalog import Catalog
from collector.store.models import ASKED, BEGUN, CATALOG, HISTORY, JOURNAL, LOADED, WAITS, Range, SegmentFile
from collector.store.reading import Reading
from collector.store.retention import DAY_MS, Elsewhere, Room
from collector.store.sealing import Sealer
from tests.unit.test_keeping import NOW_MS, ROOMY, day
from tests.unit.test_sealing import flows_of, seal, send

STORE = "clickhouse://box@ch1,ch2:9001/flows?cluster=hotspots"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    from collector.journal import Journal

    Journal(tmp_path / JOURNAL).close()
    yield tmp_path


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for name in ("data/flows", f"run/{places.RUN}"):
        (tmp_path / name).mkdir(parents=True)
    text = f'[paths]\ndata = "{tmp_path}/data"\nrun = "{tmp_path}/run"\n[netflow]\nstore = "{STORE}"\n'
    return configuration.parse(text)


def begin(catalog: Catalog, segment: SegmentFile) -> int:
    load = loads.begin(catalog, segment, 1, NOW_MS)
    assert load is not None
    return load


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://x/flows", "clickhouse://"),
        ("clickhouse://x/", "clickhouse://"),
        ("clickhouse://x/a;b", "clickhouse://"),
        ("clickhouse://box:secret@x/flows", "store_password_file"),
        ("clickhouse://x:0/flows", "no host"),
        ("clickhouse://x,/flows", "no host"),
        ("clickhouse://x/flows?cluster=a'b", "name"),
        ("clickhouse://x/flows?clusters=a", "clusters is unknown"),
        ("clickhouse://x/flows?ca=/etc/ca.pem", "secure=1"),
    ],
)
def test_a_store_that_is_none_is_one_line(url: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        configuration.parse(f'[netflow]\nstore = "{url}"\n')


def test_a_store_has_hosts_and_ports(config: Config) -> None:
    store = config.netflow.cluster
    assert store is not None
    assert (store.hosts, store.user, store.cluster) == ((("ch1", 9000), ("ch2", 9001)), "box", "hotspots")
    text = '[netflow]\nstore = "clickhouse://[2001:db8::1]/f?secure=1"\n'
    assert configuration.parse(text).netflow.cluster == replace(
        store, hosts=(("2001:db8::1", 9440),), user="default", database="f", cluster="", secure=True
    )


def test_a_library_of_the_cluster_is_loaded_by_nobody_without_one() -> None:
    code = (
        "import sys, collector.module, collector.clustered, collector.cli, collector.web_storage, collector.worker;"
        "import collector.loader, collector.questions; print([m for m in sys.modules if 'clickhouse' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_waits_goes_last_and_what_is_loaded_first() -> None:
    cluster = Elsewhere(keep_days=2, wait_days=8, wait_bytes=0)
    states = [WAITS, WAITS, LOADED, HISTORY, BEGUN, LOADED, HISTORY, WAITS, WAITS, LOADED]
    days = [replace(day(number), state=state) for number, state in enumerate(states)]

    def going(bounds: Elsewhere, keep_days: int = 365, room: Room = ROOMY, keep_bytes: int = 0) -> set[str]:
        return {s.path for s in retention.to_go(days, [], keep_days, keep_bytes, room, NOW_MS, bounds)}

    assert going(cluster) == {"0", "1", "2", "5"}
    assert going(replace(cluster, keep_days=365), keep_days=7) == {"0", "1", "2"}
    patient = replace(cluster, wait_days=365, keep_days=365)
    assert going(patient) == set()
    assert going(replace(patient, wait_bytes=350)) == {"0", "1"}
    full = Room(10**12, 10**12 // retention.FREE_SHARE - 450)
    assert going(patient, room=full) == {"2", "5", "9", "3", "6"}
    assert going(patient, keep_bytes=400) == {"2", "5", "9", "3", "6", "0"}


def test_what_waited_for_too_long_is_said_to_be_lost(config: Config) -> None:
    folder = config.paths.data / "flows"
    send(folder, flows_of(500))
    seal(folder)
    with Catalog(folder / CATALOG, write=True) as catalog:
        (segment,) = catalog.segments()
        catalog.keep("store", b"%d" % (segment.received_from_ms - DAY_MS))
        upkept(config, catalog, segment.received_until_ms + 91 * DAY_MS)
        assert catalog.segments() == []
        (loss,) = catalog.losses(0, 2**50)
        assert (loss.flows, loss.cause) == (500, retention.WAITED)


def upkept(config: Config, catalog: Catalog, now_ms: int) -> None:
    catalog.keep("ageing", b"%d" % now_ms)
    retention.apply(config, config.paths.data / "flows", catalog, now_ms)


def test_what_was_kept_without_a_cluster_has_not_waited_for_one(config: Config) -> None:
    """Set for the first time while no loader runs, and set again after it was taken out."""
    folder = config.paths.data / "flows"
    without = replace(config, netflow=replace(config.netflow, store=""))
    send(folder, flows_of(300))
    seal(folder)
    with Catalog(folder / CATALOG, write=True) as catalog:
        (old,) = catalog.segments()
        later_ms = old.received_until_ms + 100 * DAY_MS
        upkept(config, catalog, later_ms)
        assert [s.state for s in catalog.segments()] == [HISTORY]
        catalog.run("UPDATE segment SET state = ?", WAITS)
        upkept(without, catalog, later_ms)
        upkept(config, catalog, later_ms)
        assert [s.state for s in catalog.segments()] == [HISTORY]
        catalog.run("UPDATE segment SET state = ?", BEGUN)
        upkept(config, catalog, later_ms + 80 * DAY_MS)
        assert catalog.segments()
        assert not catalog.losses(0, 2**50)


def test_what_a_hold_covers_is_known_to_be_in_the_cluster_as_long(config: Config) -> None:
    folder = config.paths.data / "flows"
    send(folder, flows_of(300))
    seal(folder)
    with Catalog(folder / CATALOG, write=True) as catalog:
        (segment,) = catalog.segments()
        loads.end(catalog, segment.id, begin(catalog, segment), 1)
        later_ms = segment.received_until_ms + 400 * DAY_MS
        hold = keeping.answer(catalog, holding.Held(segment.first_ms, segment.last_ms, "a case", "ann"), NOW_MS)
        catalog.keep("ageing", b"%d" % later_ms)
        retention.apply(config, folder, catalog, later_ms)
        assert len(catalog.segments()) == len(loads.at_home(catalog, 1)) == 1
        keeping.answer(catalog, holding.Released(hold, "ann"), NOW_MS)
        retention.apply(config, folder, catalog, later_ms)
        assert not catalog.segments()
        assert not loads.at_home(catalog, 1)


def test_compaction_keeps_apart_what_the_cluster_has(folder: Path) -> None:
    for number in range(6):
        send(folder, flows_of(300, seed=number + 1), sequence=300 * number)
        seal(folder)
    with Sealer(folder) as sealer:
        catalog = sealer.catalog
        parts = catalog.segments()
        for part in parts[:2]:
            loads.end(catalog, part.id, begin(catalog, part), 1)
        pinned = begin(catalog, parts[2])
        now_ms = NOW_MS + DAY_MS
        while upkeep.compact(sealer, now_ms):
            pass
        assert sorted((s.rows, s.state) for s in catalog.segments() if s.level) == [(600, LOADED), (900, WAITS)]
        assert catalog.one("SELECT state FROM segment WHERE id = ?", parts[2].id) == (BEGUN,)
        loads.give_up(catalog, pinned)
        assert [one.load for one in loads.begun(catalog, over=True)] == [pinned]
        upkeep.compact(sealer, now_ms)
        assert sorted((s.rows, s.state) for s in catalog.segments()) == [(600, LOADED), (1200, WAITS)]


def test_a_load_that_begins_while_its_segment_is_compacted_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        send(folder, flows_of(300, seed=number + 1), sequence=300 * number)
        seal(folder)
    with Sealer(folder) as sealer:
        first, merge = sealer.catalog.segments()[0], compaction.merge

        def merged(*given: object) -> Iterator[SegmentFile]:
            yield from merge(*given)  # type: ignore[arg-type]
            begin(sealer.catalog, first)

        monkeypatch.setattr(compaction, "merge", merged)
        assert upkeep.compact(sealer, NOW_MS + DAY_MS)
        assert [s.level for s in sealer.catalog.segments()] == [0, 0]
        files = [path.name for path in sealer.segments.iterdir() if path.suffix == ".parquet"]
        assert sorted(files) == sorted(s.path for s in sealer.catalog.segments())


def test_decoding_anew_waits_for_a_load_and_replaces_what_is_loaded(folder: Path) -> None:
    send(folder, flows_of(300))
    seal(folder)
    with Sealer(folder) as sealer:
        (old,) = sealer.catalog.segments()
        load = begin(sealer.catalog, old)
        span = (old.received_from_ms - DAY_MS, old.received_until_ms + DAY_MS)
        assert anew.redecode(sealer, *span) is None
        loads.end(sealer.catalog, old.id, load, 1)
        assert loads.replaced(sealer.catalog) == []
        assert anew.redecode(sealer, *span)
        assert [one.load for one in loads.replaced(sealer.catalog)] == [load]
        assert [s.state for s in sealer.catalog.segments()] == [WAITS]


def test_what_only_a_cluster_has_is_missing_where_none_is_configured(config: Config) -> None:
    folder = config.paths.data / "flows"
    for number in range(2):
        send(folder, flows_of(300, seed=number + 1), sequence=300 * number)
        seal(folder)
    without = replace(config, netflow=replace(config.netflow, store=""))

    def certificate() -> tuple[int, int, list[str]]:
        with Reading(folder) as reading:
            found = reading.certificate(Range(0, 2**50))
            return found.present, found.lost, [loss.cause for loss in found.losses]

    with Catalog(folder / CATALOG, write=True) as catalog:
        first, second = catalog.segments()
        for part in (first, second):
            loads.end(catalog, part.id, begin(catalog, part), 1)
        assert certificate() == (600, 0, [])
        catalog.remove([first], NOW_MS)
        assert certificate() == (300, 300, [completeness.OUT_OF_REACH])
        upkept(without, catalog, second.received_until_ms + 400 * DAY_MS)
        assert certificate() == (0, 0, [])


def test_what_is_damaged_here_does_not_take_away_what_servers_still_have(folder: Path) -> None:
    """A compacted day that can't be loaded again: of two loads one is gone, the other one goes on to count."""
    for number in range(2):
        send(folder, flows_of(300, seed=number + 1), sequence=300 * number)
        seal(folder)
    with Sealer(folder) as sealer:
        catalog, parts = sealer.catalog, sealer.catalog.segments()
        kept, lost = (begin(catalog, part) for part in parts)
        for shard, (part, load) in enumerate(zip(parts, (kept, lost), strict=True), 1):
            loads.end(catalog, part.id, load, shard)
        assert upkeep.compact(sealer, NOW_MS + DAY_MS)
        (day,) = catalog.segments()
        catalog.damage(day, "it isn't as it was written")
        loads.gone(catalog, [lost])
        assert (loads.at_home(catalog, 1), loads.at_home(catalog, 2)) == ([kept], [])
        assert [(loss.flows, loss.cause) for loss in catalog.losses(0, 2**50)] == [(300, loads.GONE)]
        assert [s.state for s in catalog.segments()] == [LOADED]


def test_history_is_loaded_when_somebody_asks(config: Config) -> None:
    folder = config.paths.data / "flows"
    send(folder, flows_of(500))
    seal(folder)
    with Catalog(folder / CATALOG, write=True) as catalog:
        loads.begin_history(catalog, NOW_MS)
        assert loads.waiting(catalog)[:1] == (0,)
        assert "1 files of the time before" in " ".join(clustered.lines(config))
        assert keeping.answer(catalog, holding.Load(0, 10, "ann"), NOW_MS) == 0
        assert keeping.answer(catalog, holding.Load(0, 2**45, "ann"), NOW_MS) == 500
        assert catalog.in_state(ASKED)
        loads.begin_history(catalog, NOW_MS)
        (segment,) = catalog.segments()
        load = begin(catalog, segment)
        loads.give_up(catalog, load)
        assert catalog.in_state(ASKED)
        assert begin(catalog, catalog.segments()[0]) > load


def test_how_the_cluster_is_is_said_everywhere(config: Config) -> None:
    folder, now = config.paths.data / "flows", NOW_MS // 1000
    assert "doesn't say" in " ".join(clustered.problems(config, now))
    said = {"at_ms": NOW_MS, "problem": "", "hosts": {"ch1:9000": "", "ch2:9001": "ch2:9001: refused"}}
    (config.paths.run / places.CLUSTER).write_text(json.dumps(said | {"missing": [2], "shards": 2}))
    assert list(clustered.problems(config, now)) == [
        "the cluster: ch2:9001: refused",
        "the cluster: of shard 2 no host in [netflow] store answers",
    ]
    send(folder, flows_of(500))
    seal(folder)
    shown = cli_kept._storage(None, config)  # type: ignore[arg-type]
    assert "500 flows wait for the cluster" in shown
    assert "ch1:9000 answers" in shown
    found = {metric.name: metric for metric in metrics.Collector(config).read(now)}
    assert [sample.value for sample in found["flow_cluster_waiting_flows"].samples] == [500]
    assert [sample.value for sample in found["flow_cluster_host_up"].samples] == [1, 0]


def test_the_command_follows_the_loader(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The socket in between is tried by test_keeping.py."""
    folder = config.paths.data / "flows"
    send(folder, flows_of(500))
    seal(folder)
    words = argparse.Namespace(begin="3650d ago", end="now", no_wait=True)
    with Catalog(folder / CATALOG, write=True) as catalog:
        loads.begin_history(catalog, NOW_MS)
        monkeypatch.setattr(holding, "_ask", lambda _, request: keeping.answer(catalog, request, NOW_MS))

        def loaded(_: float) -> None:
            (segment,) = catalog.segments()
            loads.end(catalog, segment.id, begin(catalog, segment), 1)

        assert cli_kept._load(words, config) == "500 flows of the history will be loaded"
        monkeypatch.setattr("collector.cli_kept.time.sleep", loaded)
        assert cli_kept._load(argparse.Namespace(**{**vars(words), "no_wait": False}), config).startswith("all of")
    assert "0 of 1 files are in the cluster" in capsys.readouterr().err
    with pytest.raises(UserError, match="store is empty"):
        cli_kept._load(words, replace(config, netflow=replace(config.netflow, store="")))


def test_what_an_earlier_disk_loaded_is_taken_over_but_not_what_is_here(folder: Path) -> None:
    """A disk that was put back from an older copy has some of it: that would count twice."""
    send(folder, flows_of(100))
    seal(folder)
    with Catalog(folder / CATALOG, write=True) as catalog:
        (segment,) = catalog.segments()
        catalog.run("UPDATE segment SET state = ?", HISTORY)
        times = (segment.received_from_ms, segment.received_until_ms, segment.first_ms, segment.last_ms, 1, 0)
        lines = [
            loads.Line(load, sha256, 1, "2026-09-21", 100, *times)
            for load, sha256 in enumerate((segment.sha256, "0" * 64), 5)
        ]
        assert not loads.knows_earlier(catalog)
        assert loads.take_over(catalog, lines, {7: "192.0.2.7"}, NOW_MS) == 1
        assert loads.knows_earlier(catalog)
        assert loads.at_home(catalog, 1) == [6]
        assert catalog.exporter("192.0.2.7") == 7
        assert loads.of_earlier(catalog, 0, 2**60) != [] == loads.of_earlier(catalog, 0, 1)
        assert loads.take_over(catalog, lines, {}, NOW_MS) == 0
