"""Questions to a cluster of two real shards: the same rows and sums as on one box, and what is missing is said."""

import csv
import io
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from appliance import config as configuration
from appliance import db
from appliance.accounts.database import open_core
from appliance.accounts.models import Session, core_db
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from collector import asking, export, questions, search, who
from collector.cluster import asked, client, loading, setting_up, tidying
from collector.cluster import totals as kept_totals
from collector.cluster.filling import Filler
from collector.cluster.reading import ClusterReading
from collector.filters.language import parse
from collector.periods import Period
from collector.search import Known, Query
from collector.store import compaction, counting, duck, packing, rollups, segments
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, HOUR, LOADED, SEGMENTS, WAITS, Range
from collector.store.reading import Reading
from collector.store.rollups import DAY_MS
from collector.sums import BY, Kept, Sums, Totals, figures
from tests.flows.kept import keep
from tests.flows.stand_in import ADDRESSES, ADDRESSES_6, HOUR_MS, SINCE_MS, random_flows
from tests.system import clickhouse
from tests.system.clickhouse import Servers
from tests.unit.test_flow_search import FILTERS, KNOWN

pytestmark = pytest.mark.system

SITE = "north"
NOW_MS = SINCE_MS + 3 * HOUR_MS
UNTIL_MS = SINCE_MS + 2 * HOUR_MS
PERIOD = Range(SINCE_MS, UNTIL_MS)
FLOWS = random_flows(3000)
SEGMENTS_OF_ALL = 12
LOADED_FIRST = 9


class Box(NamedTuple):
    """One appliance: as it is configured, and as if there were no cluster."""

    config: Config
    alone: Config

    @property
    def folder(self) -> Path:
        return self.config.paths.data / "flows"

    @contextmanager
    def filler(self) -> Iterator[tuple[Catalog, Filler]]:
        with Catalog(self.folder / CATALOG, write=True) as catalog, client.opened(self.config, 20) as cluster:
            filler = Filler(self.folder, catalog, cluster, self.config.site.key)
            filler.meet()
            yield catalog, filler

    def load(self, most: int = 1000) -> None:
        with self.filler() as (catalog, filler):
            for _ in range(most):
                if not filler.step(NOW_MS):
                    break
            tidying.tidy(catalog, filler.meet(), self.config.site.key, 30, NOW_MS)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with clickhouse.servers(tmp_path_factory.mktemp("clickhouse")) as found:
        yield found


@pytest.fixture(scope="module")
def box(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Three quarters of its segments are loaded, the last ones not yet."""
    folder = tmp_path_factory.mktemp("box")
    paths = f'[paths]\nstate = "{folder}/state"\nrun = "{folder}/run"\ndata = "{folder}/data"\n'
    paths += f'[database]\nurl = "sqlite:///{folder}/core.db"\n[site]\nkey = "{SITE}"\n'
    store = f'[netflow]\nstore = "{servers.url}"\nstore_password_file = "{servers.password_file}"\n'
    made = []
    for name, text in (("config", paths + store), ("alone", paths)):
        (folder / f"{name}.toml").write_text(text)
        made.append(configuration.load(folder / f"{name}.toml"))
    box = Box(*made)
    keep(box.folder, *np.array_split(FLOWS, SEGMENTS_OF_ALL), exporters=("192.0.2.1", "192.0.2.2"))
    with Catalog(box.folder / CATALOG, write=True) as catalog:
        for number, segment in enumerate(catalog.segments(), 1):  # rows of the journal, as the sealer would have it
            catalog.run(
                "UPDATE segment SET journal_after = ?, journal_until = ? WHERE id = ?", number - 1, number, segment.id
            )
    with open_core(box.config, create=True):
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
        for number, address in enumerate(("10.0.0.1", "10.0.0.2", "192.168.1.5", "2001:db8::1"), 1):
            Session.create(
                unique_id=str(number), account=f"guest{number}", nas="gw", acct_session_id="1", mac="",
                framed_ip=address, started_at=SINCE_MS // 1000 + 60 * number, updated_at=0, ended_at=None,
            )  # fmt: skip
        with client.opened(box.config, 20) as cluster:
            for host in cluster.hosts:
                host.create_database()
        box.load(LOADED_FIRST)
        yield box


Both = tuple[Reading, Reading]


@contextmanager
def opened(box: Box) -> Iterator[Both]:
    with questions.opened(box.alone) as one, questions.opened(box.config) as other:
        assert isinstance(other, ClusterReading)
        yield one, other


@pytest.fixture(scope="module")
def both(box: Box) -> Iterator[Both]:
    with opened(box) as found:
        yield found


def rows(reading: Reading, query: Query, known: Known = KNOWN) -> list[Any]:
    return list(search.run(reading, query, known).rows)


def as_csv(reading: Reading, query: Query) -> bytes:
    return b"".join(export.csv(search.prepare(reading, query, KNOWN)))


def ask(text: str = "", **other: Any) -> Query:
    return Query(parse(text), SINCE_MS, UNTIL_MS, **{"columns": ("domain",), **other})


@st.composite
def queries(draw: Any) -> Query:
    text, _ = draw(FILTERS)
    since = draw(st.sampled_from((SINCE_MS, SINCE_MS, SINCE_MS + 1_234_567)))
    until = draw(st.sampled_from((UNTIL_MS, UNTIL_MS, SINCE_MS + 2_000_000)))
    group = (
        tuple(draw(st.lists(st.sampled_from(search.COLUMNS), max_size=3, unique=True))) if draw(st.booleans()) else ()
    )
    known = search.SUM_COLUMNS if group else search.COLUMNS
    columns = tuple(draw(st.lists(st.sampled_from(known), min_size=1, max_size=5, unique=True)))
    order = draw(st.sampled_from(("", *(group or columns), *columns)))
    limit = draw(st.sampled_from((None, 1, 7, 100)))
    return Query(parse(text), since, until, order, draw(st.booleans()), limit, columns, group)


def check(both: Both, query: Query) -> None:
    one, other = (rows(reading, query) for reading in both)
    assert len(one) == len(other), query
    if query.order:
        assert one == other, query
    elif query.limit is None:
        assert sorted(one, key=repr) == sorted(other, key=repr), query


RANDOM: dict[str, Any] = {"deadline": None, "database": None, "derandomize": True, "phases": [Phase.generate]}
RANDOM["suppress_health_check"] = list(HealthCheck)


@settings(max_examples=50, **RANDOM)
@given(queries())
def test_questions_have_the_same_answer(both: Both, query: Query) -> None:
    check(both, query)


@pytest.mark.long
@settings(max_examples=200, **RANDOM)
@given(queries())
def test_many_questions_have_the_same_answer(both: Both, query: Query) -> None:
    check(both, query)


def test_the_cluster_was_asked(both: Both) -> None:
    """Else all this would hold without it."""
    local = {
        int(number) for (number,) in both[1].con.execute(f"SELECT domain FROM ({both[1].relation(PERIOD)})").fetchall()
    }
    assert 0 < len(local) < len(FLOWS)
    assert len(rows(both[1], ask())) == len(FLOWS)


@pytest.mark.parametrize("group", [(), ("src", "dst_port"), ("account",)])
def test_csv_is_the_same_to_the_byte(both: Both, group: tuple[str, ...]) -> None:
    columns = search.SUM_COLUMNS if group else search.COLUMNS
    query = ask("tcp or udp", order="bytes", descending=True, columns=columns, group=group)
    one, other = (as_csv(reading, query) for reading in both)
    assert one == other
    assert len(list(csv.reader(io.StringIO(one.decode())))) > 4


@pytest.mark.parametrize(
    "group", [("account",), ("account", "src"), ("first", "account"), ("dst_port", "account", "bps")]
)
@pytest.mark.parametrize("limit", [None, 5])
def test_sums_of_accounts_are_made_by_the_cluster(both: Both, group: tuple[str, ...], limit: int | None) -> None:
    query = ask("not port 53", order="bytes", descending=True, columns=search.SUM_COLUMNS, group=group, limit=limit)
    both[1].con.execute("DROP TABLE IF EXISTS cluster_sums; DROP TABLE IF EXISTS cluster_flows")
    one, other = (rows(reading, query) for reading in both)
    assert one == other
    assert {row[group.index("account")] for row in rows(both[1], replace(query, limit=None))} > {"ben", None}
    tables = {name for (name,) in both[1].con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    assert "cluster_sums" in tables
    assert "cluster_flows" not in tables


def test_csv_comes_in_parts_where_no_order_is_asked(both: Both) -> None:
    one, other = (as_csv(reading, ask(columns=search.COLUMNS)).splitlines() for reading in both)
    assert one[0] == other[0]
    assert sorted(one) == sorted(other)


def test_who_it_was_is_the_same(both: Both) -> None:
    chance = np.random.default_rng(3)
    found = 0
    for number, port in ((ADDRESSES[0], None), (ADDRESSES[4], 443), (ADDRESSES[5], None), (ADDRESSES_6[1], 2048)):
        at_ms = SINCE_MS + int(chance.integers(0, HOUR_MS))
        address = IPv4Address(number) if number in ADDRESSES else IPv6Address(number)
        asked = who.Question(address, port, at_ms, None, 60_000)
        one, other = (who.ask(reading, asked) for reading in both)
        assert set(one.found) == set(other.found), asked
        assert one.accounts == other.accounts
        assert [(c.exporter, c.ahead_ms) for c in one.clocks] == [(c.exporter, c.ahead_ms) for c in other.clocks]
        found += len(one.found)
    assert found > 8


def test_the_certificate_is_the_same(box: Box) -> None:
    for period in (PERIOD, Range(SINCE_MS + 1_000_000, SINCE_MS + 1_500_000)):
        with opened(box) as both:
            one, other = (reading.certificate(period) for reading in both)
        assert one == other
        assert one.present > 300
        assert not one.lost


def everything(config: Config) -> tuple[list[Any], list[Any]]:
    """All flows and their sums."""
    sums = ask(group=("protocol",), columns=("flows", "bytes"), order="bytes")
    with questions.opened(config) as reading:
        return sorted(rows(reading, ask())), rows(reading, sums)


def test_what_was_sent_twice_or_half_counts_once(box: Box) -> None:
    with box.filler() as (catalog, filler):
        first = next(s for s in catalog.segments() if s.state == LOADED)
        host = filler.meet()[loading.shard_of(first.sha256, 2)]
        loading.send(host, SITE, first, box.folder / SEGMENTS, 1)  # nothing says that it counts
        loading.send(host, SITE, first, box.folder / SEGMENTS, 2)
        loading.commit(host, loading.line(SITE, first, 2, 1, [1], 0))  # nor does what this catalogue knows nothing of
        catalog.run("UPDATE segment SET state = ? WHERE id = ?", WAITS, first.id)
        while filler.step(NOW_MS):
            pass
    assert everything(box.config) == everything(box.alone)


def test_what_is_compacted_here_is_not_doubled(box: Box) -> None:
    before = everything(box.alone)
    with box.filler() as (catalog, _):
        parts = [s for s in catalog.segments() if s.state == LOADED][:5]
        new = list(compaction.merge(duck.connect(box.folder), parts, box.folder / SEGMENTS, HOUR))
        with catalog.transaction():
            for segment in new:
                catalog.add(replace(segment, state=LOADED))
            catalog.remove(parts, NOW_MS)
    assert everything(box.config) == everything(box.alone) == before


def test_a_segment_loaded_in_the_middle_of_a_question_counts_once(box: Box) -> None:
    again = FLOWS[:300].copy()
    again["domain"] += 10_000
    with box.filler() as (catalog, _), catalog.transaction():
        written = segments.write(again, box.folder / SEGMENTS)
        catalog.add(replace(written, journal_after=100, journal_until=101))
    with questions.opened(box.config) as reading:
        box.load()
        assert len(rows(reading, ask())) == len(FLOWS) + 300
    assert everything(box.config) == everything(box.alone)


def test_another_site_is_asked_as_the_cluster_has_it(box: Box, tmp_path: Path) -> None:
    """From a place that keeps no flows itself; whose they were is known where that site's database is."""
    box.load()
    text = box.config.text.replace(f'key = "{SITE}"', 'key = "centre"').replace("/data", "/nothing")
    centre = replace(configuration.parse(text), file=tmp_path / "centre.toml")
    with questions.opened(centre, SITE) as reading:
        found = rows(reading, ask(order="bytes", columns=("domain", "exporter", "bytes")))
        told = reading.certificate(PERIOD)
        asked_ = who.ask(reading, who.Question(IPv4Address("10.0.0.1"), None, SINCE_MS + 70_000))
    with questions.opened(box.alone) as reading:
        same = rows(reading, ask(order="bytes", columns=("domain", "exporter", "bytes")))
        assert sorted(found) == sorted(same)  # some are there twice by now
        same_asked = who.ask(reading, asked_.question)
        assert {one.trace for one in asked_.found} == {one.trace for one in same_asked.found}
        assert any(one.held for one in same_asked.found)
        assert not any(one.held for one in asked_.found)
    assert (told.present, told.lost) == (len(found), 0)
    with (
        pytest.raises(UserError, match="no flows of a site 'east'; there are: north"),
        questions.opened(centre, "east"),
    ):
        pass
    alone, not_here = replace(box.alone, site=centre.site), "flows of the site 'north' aren't here"
    with pytest.raises(UserError, match=not_here), questions.opened(alone, SITE):
        pass


SPANS = (
    Period(SINCE_MS, UNTIL_MS),
    Period(SINCE_MS + 7 * 60_000, SINCE_MS + 61 * 60_000),
    Period(SINCE_MS - 40 * DAY_MS, UNTIL_MS + 40 * DAY_MS),
    Period(SINCE_MS - 9 * DAY_MS, SINCE_MS - 8 * DAY_MS),
)


def statistics(totals: Totals, span: Period) -> list[Any]:
    """All that the pages and commands show of a period; the few largest, as one box keeps no more by name."""
    sums = Sums(totals, span)
    tops = [sums.top(by, order, 3) for by in BY for order in ("bytes", "flows")]
    steps = [sums.over_time(step, by) for step in (60_000, HOUR_MS, DAY_MS) for by in (None, "protocol", "exporter")]
    return [*tops, *steps]


def test_a_new_disk_finds_what_the_old_one_had_loaded(box: Box, tmp_path: Path) -> None:
    """Under the same key, its routers heard in another order, and one of the old ones not yet."""

    def begun(name: str) -> Box:
        text = box.config.text.replace(f'key = "{SITE}"', 'key = "attic"').replace("/data", f"/{name}")
        (tmp_path / f"{name}.toml").write_text(text)
        config = configuration.load(tmp_path / f"{name}.toml")
        (config.paths.data / "flows" / SEGMENTS).mkdir(parents=True)
        return Box(config, config)

    def kept(at: Box, flows: Any, *addresses: str) -> None:
        with Catalog(at.folder / CATALOG, write=True) as catalog:
            numbers = [catalog.exporter(address) for address in addresses]
            flows = flows.copy()
            flows["exporter"] = np.array([0, *numbers])[flows["exporter"]]
            catalog.add(segments.write(flows, at.folder / SEGMENTS))
            rollups.add(catalog, counting.count(packing.pack(flows)))

    old, new = begun("old"), begun("new")
    query = ask(order="bytes", columns=("exporter", "bytes", "first"))
    kept(old, FLOWS, "192.0.2.1", "192.0.2.2")
    old.load()
    with kept_totals.opened(new.config, "attic") as there, Catalog(old.folder / CATALOG) as here:
        for span in SPANS:
            assert statistics(there, span) == statistics(Kept(here), span)
        assert there.certificate(PERIOD).lost == 0
        page, same = asking.figures(new.config, "attic", SPANS[0], "bytes"), figures(Kept(here), SPANS[0], "bytes")
        assert page.exporters == same.exporters
        assert page.steps == same.steps != []
        assert page.tables["exporter"] == same.tables["exporter"]
        with pytest.raises(UserError, match="no flows of a site 'east'; there are: attic"):
            asking.figures(new.config, "east", SPANS[0], "bytes")
    period = ("--from", f"{datetime.fromtimestamp(SINCE_MS / 1000, UTC):%Y-%m-%dT%H:%MZ}")
    for words in (("--by", "account"), ("--step", "1h")):
        said = []
        for at, site in ((old, ()), (new, ("--site", "attic"))):
            command = [sys.executable, "-m", "appliance.cli", "--config", str(at.config.file), "flows", "stats"]
            command += [*words, *period, *site, "--json"]
            said.append(subprocess.run(command, capture_output=True, text=True, check=True))
        assert said[0].stdout == said[1].stdout != ""
        assert all(one.stderr.startswith("100 % of flows present: all of 3,000\n") for one in said)
    first = FLOWS[FLOWS["exporter"] == 2][:100]
    with questions.opened(old.config) as reading:
        all_ = rows(reading, query)
    kept(new, first, "192.0.2.9", "192.0.2.2")
    with questions.opened(new.config) as reading:
        assert len(rows(reading, query)) == 100
    new.load()
    with questions.opened(new.config) as reading:
        found, told = rows(reading, query), reading.certificate(PERIOD)
        assert len(rows(reading, ask("exporter 192.0.2.1"))) == np.count_nonzero(FLOWS["exporter"] == 1)
    assert len(found) == len(all_) + 100 and set(found) == set(all_)
    assert (told.present, told.lost) == (len(found), 0)
    assert any("an earlier disk" in note for note in told.notes)
    with client.opened(new.config, 20) as cluster:
        its = "SELECT exporter, uniqExact(address) FROM exporters_all WHERE site = 'attic' GROUP BY exporter"
        assert [count for _, count in cluster.hosts[0].rows(its)] == [1, 1, 1]


def running(box: Box) -> int:
    """Questions of ours that any server still works on."""
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%flows_all%' AND query NOT LIKE '%processes%'"
    with client.opened(box.config, 20) as cluster:
        return sum(int(host.rows(sql)[0][0]) for host in cluster.hosts)


def test_a_question_nobody_waits_for_leaves_nothing(box: Box) -> None:
    with questions.opened(box.config) as reading:
        assert isinstance(reading, ClusterReading)
        assert reading.certificate(PERIOD).present
        slow = "SELECT sleep(0.2) FROM flows_all"
        coming: Any = reading._asked(lambda whole: slow, [], 60, {"max_block_size": 1})
        assert next(coming)
        assert running(box)
        coming.close()
    until = time.monotonic() + 30
    while running(box):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_limits_end_a_question_with_one_line(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "MEMORY_BYTES", 1_000_000)
    query = ask(group=("src", "dst", "src_port", "dst_port", "bytes", "domain"), columns=("flows",))
    gives_up = pytest.raises(UserError, match=r"the cluster gave up .*: ask a shorter")
    with questions.opened(box.config) as reading, gives_up:
        rows(reading, query)


# Servers go from here on, in this order


def test_a_dead_shard_is_read_here_where_it_still_is(box: Box, servers: Servers) -> None:
    with questions.opened(box.config) as reading:
        whole = sorted(rows(reading, ask()))
        servers.shards[1].kill()
        assert sorted(rows(reading, ask(order="domain"))) == whole
        told = reading.certificate(PERIOD)
    assert (told.present, told.lost) == (len(whole), 0)
    assert any("shard 2 of the cluster doesn't answer" in note for note in told.notes)
    assert everything(box.config) == everything(box.alone)
    servers.shards[1].start()


def on_disk(box: Box) -> tuple[int, int]:
    """Flows of loaded segments that are still on the disk, and of all that were loaded."""
    with Catalog(box.folder / CATALOG) as catalog:
        (all_,) = catalog.one("SELECT sum(rows) FROM (SELECT rows FROM loaded GROUP BY sha256)")
        return sum(s.rows for s in catalog.segments() if s.state == LOADED), all_


def test_a_dead_shard_is_said_to_be_missing(box: Box, servers: Servers) -> None:
    """Of what isn't on the disk any more."""
    with Catalog(box.folder / CATALOG, write=True) as catalog, catalog.transaction():
        gone = [s for s in catalog.segments() if s.state == LOADED and s.level < HOUR]
        catalog.remove(gone, NOW_MS)
        hashes = tuple(s.sha256 for s in gone)
        where = f"shard = 2 AND sha256 IN ({', '.join('?' * len(hashes))})"
        (missing,) = catalog.one(
            f"SELECT sum(rows) FROM (SELECT rows FROM loaded WHERE {where} GROUP BY sha256)", *hashes
        )
    assert missing
    with questions.opened(box.config) as reading:
        whole = rows(reading, ask())
        servers.shards[1].kill()
        found = rows(reading, ask(order="domain"))
        told = reading.certificate(PERIOD)
    assert len(whole) - len(found) == missing == told.lost
    assert set(found) < set(whole)
    assert told.present == len(found)
    assert [loss.cause for loss in told.losses] == ["in shard 2 of the cluster, which doesn't answer"]
    with questions.opened(box.config) as reading:
        sums = rows(reading, ask(group=("protocol",), columns=("flows",), order="flows", limit=100))
        assert sum(row[1] for row in sums) == len(found)
        assert reading.certificate(PERIOD) == told
    servers.shards[1].start()
    with questions.opened(box.config) as reading:
        assert sorted(rows(reading, ask())) == sorted(whole)


@pytest.mark.long
def test_a_shard_that_takes_connections_and_never_answers_is_missing(box: Box, servers: Servers) -> None:
    with questions.opened(box.config) as reading:
        whole = rows(reading, ask())
        servers.shards[1].freeze()
        try:
            found = rows(reading, ask(order="first"))
            told = reading.certificate(PERIOD)
        finally:
            servers.shards[1].thaw()
    assert set(found) < set(whole)
    assert told.lost == len(whole) - len(found)
    with questions.opened(box.config) as reading:
        assert sorted(rows(reading, ask())) == sorted(whole)


def test_a_shard_that_came_back_empty_is_not_taken_for_whole(box: Box) -> None:
    with questions.opened(box.config) as reading:
        whole = rows(reading, ask())
    with client.opened(box.config, 20) as cluster:
        cluster.hosts[1].rows(f"DROP DATABASE {clickhouse.DATABASE}")
        cluster.hosts[1].close()
    with client.opened(box.config, 20) as cluster:
        setting_up.tables_on_all(cluster)
        with questions.opened(box.config) as reading:
            found = rows(reading, ask())
            told = reading.certificate(PERIOD)
    assert told.lost == len(whole) - len(found) > 0
    assert told.present == len(found)
    assert [loss.cause for loss in told.losses] == ["in shard 2 of the cluster, which hasn't got them any more"]


def test_an_absent_cluster_leaves_what_is_here(box: Box, servers: Servers) -> None:
    with questions.opened(box.config) as reading:
        assert reading.certificate(PERIOD).present
        for shard in servers.shards:
            shard.kill()
        found = rows(reading, ask(order="domain"))
        told = reading.certificate(PERIOD)
    here, all_ = on_disk(box)
    assert sorted(found) == everything(box.alone)[0]
    assert told.lost == all_ - here > 0
    assert told.present == len(found)
    assert any("the cluster doesn't answer, so this is what is on this disk" in note for note in told.notes)
    centre = replace(box.config, site=replace(box.config.site, key="centre"))
    with pytest.raises(Unavailable, match="the cluster doesn't answer"), questions.opened(centre, SITE):
        pass
    with questions.opened(box.config) as reading, questions.opened(box.alone) as alone:
        assert rows(reading, ask(order="bytes", limit=10)) == rows(alone, ask(order="bytes", limit=10))
        assert who.ask(reading, who.Question(IPv4Address("10.0.0.1"), None, SINCE_MS + 60_000)).found
