"""Flows in a cluster of two real shards: each segment once, whatever dies in between."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from appliance import config as configuration
from appliance.errors import UserError
from collector import clustered, places
from collector.cluster import client, loading
from collector.cluster.client import Away, Cluster, Host
from collector.cluster.filling import SETTLED_MS, Filler
from collector.cluster.tidying import tidy
from collector.store import duck, loads, segments
from collector.store.catalog import Catalog
from collector.store.models import ASKED, BEGUN, CATALOG, HISTORY, LOADED, SEGMENTS, SegmentFile
from collector.store.retention import DAY_MS
from tests.flows import mix
from tests.system import clickhouse
from tests.system.clickhouse import Servers

pytestmark = pytest.mark.system

SITE = "north"
NOW_MS = 1_790_000_000_000


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with clickhouse.servers(tmp_path_factory.mktemp("clickhouse")) as found:
        yield found


class Box(NamedTuple):
    folder: Path
    catalog: Catalog
    cluster: Cluster
    filler: Filler
    text: str

    def add(self, *parts: Any) -> list[SegmentFile]:
        written = [segments.write(flows, self.folder / SEGMENTS, duck.connect()) for flows in parts]
        with self.catalog.transaction():
            for segment in written:
                self.catalog.add(segment)
        return self.catalog.segments()[-len(written) :]

    def fill(self) -> None:
        self.filler.meet()
        while self.filler.step(NOW_MS):
            pass

    def counted(self, sql: str, host: int = 0) -> list[tuple[Any, ...]]:
        """Of what counts, as readers take it."""
        counts = "load GLOBAL NOT IN (SELECT load FROM replaced_all)"
        which = f"load GLOBAL IN (SELECT min(load) FROM loads_all WHERE {counts} GROUP BY site, sha256)"
        return self.cluster.hosts[host].rows(f"{sql} WHERE site = '{SITE}' AND {which}")


@pytest.fixture
def box(servers: Servers, tmp_path: Path) -> Iterator[Box]:
    with boxes(servers, tmp_path) as found:
        yield found


class boxes(ExitStack):
    """An appliance's flows and the way to an empty cluster."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        super().__init__()
        self._servers, self._folder = servers, folder

    def __enter__(self) -> Box:  # type: ignore[override]
        (self._folder / SEGMENTS).mkdir(exist_ok=True)
        text = f'[netflow]\nstore = "{self._servers.url}"\nstore_password_file = "{self._servers.password_file}"\n'
        cluster = self.enter_context(client.opened(configuration.parse(text), answer_s=6))
        catalog = self.enter_context(Catalog(self._folder / CATALOG, write=True))
        for host in cluster.hosts:
            host.create_database()
            host.rows(f"DROP DATABASE {clickhouse.DATABASE}")
            host.close()
        return Box(self._folder, catalog, cluster, Filler(self._folder, catalog, cluster, SITE), text)


def test_all_that_is_kept_is_in_the_cluster_once(box: Box) -> None:
    parts = [mix.anything(3000), mix.flows(70_000), *(mix.flows(50 + 2 * n, seed=n) for n in range(6))]
    box.add(*parts)
    box.fill()
    total = sum(len(part) for part in parts)
    octets = sum(int(part["bytes"][part["bytes"] < 2**40].sum()) for part in parts)
    for host in (0, 1):
        asked = "SELECT count(), sumIf(bytes, bytes < 1099511627776) FROM flows_all"
        assert box.counted(asked, host) == [(total, octets)]
    assert box.counted("SELECT uniqExact(shard) FROM loads_all") == [(2,)]
    assert not box.catalog.in_state(0, 1, 4)
    box.catalog.run("UPDATE segment SET state = 0")
    box.catalog.run("DELETE FROM loaded")
    box.fill()
    assert box.cluster.hosts[0].rows("SELECT count() FROM flows_all") == [(total,)]


# What dies in between

VICTIM = """
import os, signal, sys
from pathlib import Path
from tests.system import test_flow_cluster as here
from collector.cluster import client, filling, loading
from collector.cluster.client import Host
from collector.store import loads
from collector.store.catalog import Catalog

folder, text, step, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
seen = 0

def dying(call):
    def called(*args, **more):
        global seen
        seen += 1
        if seen == step and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(*args, **more)
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return called

Host.insert = dying(Host.insert)
loads.begin, loads.end = dying(loads.begin), dying(loads.end)
here.fill(folder, text)
"""


def fill(folder: Path, text: str) -> None:
    with client.opened(configuration.parse(text), 10) as cluster, Catalog(folder / CATALOG, write=True) as catalog:
        filler = Filler(folder, catalog, cluster, SITE)
        filler.meet()
        while filler.step(NOW_MS):
            pass


def settle(box: Box) -> None:
    """As much later as a lost load takes to be given up."""
    for later in (0, 1, 2, 3):
        box.filler.meet()
        while box.filler.step(NOW_MS + later * SETTLED_MS):
            pass


@pytest.mark.parametrize(("step", "when"), [(1, "before"), *((step, "after") for step in range(1, 7))])
def test_killed_at_any_step_each_flow_counts_once(box: Box, step: int, when: str) -> None:
    """begin, flows, totals, the line, the catalogue, the other shard's copy"""
    parts = [mix.flows(400, seed=step), mix.flows(300, seed=step + 10)]
    box.add(*parts)
    box.filler.meet()
    done = subprocess.run(
        [sys.executable, "-c", VICTIM, box.folder, box.text, str(step), when], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert box.counted("SELECT count() FROM flows_all")[0][0] in (0, 400, 300)
    settle(box)
    assert box.counted("SELECT count() FROM flows_all") == [(700,)]
    whole = box.cluster.hosts[0].rows("SELECT count() FROM flows_all")
    tidy(box.catalog, box.filler.meet(), SITE, 10**4, NOW_MS + 10 * SETTLED_MS)
    eventually(lambda: box.cluster.hosts[0].rows("SELECT count() FROM flows_all") == [(700,)], f"{whole} before")
    assert not loads.begun(box.catalog) + loads.begun(box.catalog, over=True)
    assert not loads.uncopied(box.catalog)
    assert box.cluster.hosts[0].rows("SELECT count() FROM loads") == [(2,)]


def test_two_who_load_the_same_count_once(box: Box, servers: Servers, tmp_path: Path) -> None:
    """As a box and its clone do: each has sent its rows before the other's line is written."""
    flows = mix.flows(500)
    (segment,) = box.add(flows)
    shards = box.filler.meet()
    number = loading.shard_of(segment.sha256, 2)
    for load in (7, 8):
        exporters = loading.send(shards[number], SITE, segment, box.folder / SEGMENTS, load)
        lines = loading.line(SITE, segment, load, number, exporters, NOW_MS // 1000)
        loading.commit(shards[number], lines)
    box.fill()
    assert box.counted("SELECT count(), uniqExact(load) FROM flows_all") == [(500, 1)]
    assert box.catalog.one("SELECT load, state FROM loaded, segment") == (7, LOADED)


def test_a_shard_that_is_down_holds_up_only_its_own(box: Box, servers: Servers) -> None:
    box.filler.meet()
    segments_ = box.add(*(mix.flows(100, seed=n) for n in range(8)))
    its = {n: sum(loading.shard_of(s.sha256, 2) == n for s in segments_) for n in (1, 2)}
    assert all(its.values())
    servers.shards[1].kill()
    try:
        box.fill()
        assert box.filler.missing == [2]
        assert box.catalog.one("SELECT count(*) FROM segment WHERE state = ?", LOADED) == (its[1],)
        assert loads.waiting(box.catalog).files == its[2]
    finally:
        servers.shards[1].start()
    box.fill()
    assert box.counted("SELECT count() FROM flows_all", 1) == [(800,)]
    tidy(box.catalog, box.filler.meet(), SITE, 10**4, NOW_MS)
    assert box.cluster.hosts[1].rows("SELECT uniqExact(load) FROM loads") == [(8,)]


def test_a_shard_that_freezes_may_still_do_what_it_was_sent(box: Box, servers: Servers) -> None:
    """The line lies in its socket when it stops; whoever asked goes on only once it is sure."""
    (segment,) = box.add(mix.flows(100))
    number = loading.shard_of(segment.sha256, 2)
    box.filler.meet()
    shard, commit = servers.shards[number - 1], loading.commit

    def frozen(host: Host, line: dict[str, Any]) -> None:
        shard.freeze()
        commit(host, line)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Away, match=r"answer|broke"):
        patch.setattr(loading, "commit", frozen)
        box.filler.step(NOW_MS)
    assert box.catalog.one("SELECT state FROM segment") == (BEGUN,)
    shard.thaw()
    eventually(lambda: box.counted("SELECT count() FROM flows_all") in ([(0,)], [(100,)]), "it answers")
    settle(box)
    assert box.counted("SELECT count() FROM flows_all") == [(100,)]


def test_by_tls_only_a_server_that_is_known_gets_the_password(box: Box, servers: Servers, tmp_path: Path) -> None:
    box.filler.meet()
    (one, other), file = servers.shards, servers.password_file

    def seen(ca: Path | None) -> Cluster:
        url = f"clickhouse://{clickhouse.USER}@127.0.0.1:{one.secure_port}/{clickhouse.DATABASE}?secure=1"
        text = f'[netflow]\nstore = "{url}{f"&ca={ca}" if ca else ""}"\nstore_password_file = "{file}"\n'
        return client.opened(configuration.parse(text), 10)

    with seen(one.folder / "tls.crt") as cluster:
        assert list(cluster.shards()) == [1]
        cluster.hosts[0].insert("exporters", {"site": ["x"], "exporter": [1], "address": ["192.0.2.1"]})
    for ca in (other.folder / "tls.crt", None):
        with seen(ca) as cluster:
            assert cluster.shards() == {}
            assert "certificate verify failed" in cluster.trouble[f"127.0.0.1:{one.secure_port}"]


def test_a_wrong_password_is_one_line(box: Box, servers: Servers, tmp_path: Path) -> None:
    box.filler.meet()
    file = tmp_path / "password"
    file.write_text("wrong")
    text = f'[netflow]\nstore = "{servers.url}"\nstore_password_file = "{file}"\n'
    with client.opened(configuration.parse(text), 10) as cluster:
        assert cluster.shards() == {}
        (said, _) = cluster.trouble.values()
        assert "password" in said.lower()
        assert "wrong" not in said.lower().replace("wrong password", "")
    file.unlink()
    with pytest.raises(UserError, match="store_password_file"):
        client.opened(configuration.parse(text), 10)


def test_hostile_answers_are_one_line(tmp_path: Path) -> None:
    """Cut at any byte, or anything else at all, as from a port of another program."""
    said = [b"", b"\x00", b"\x00\x0aClickHouse\x12", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x02" + b"\xff" * 60]
    said += [bytes([n]) * 200 for n in (0, 1, 2, 5, 7, 255)]
    for words in said:
        with Liar(words) as port:
            url = f"clickhouse://x@127.0.0.1:{port}/flows"
            with client.opened(configuration.parse(f'[netflow]\nstore = "{url}"\n'), 5) as cluster:
                assert cluster.shards() == {}
                assert list(cluster.trouble) == [f"127.0.0.1:{port}"]
                assert "\n" not in cluster.trouble[f"127.0.0.1:{port}"]


class Liar:
    """Says the same to everybody, and hangs up."""

    def __init__(self, words: bytes) -> None:
        self._words, self._socket = words, socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                with self._socket.accept()[0] as taken:
                    taken.sendall(self._words)
                    taken.recv(1000)


def eventually(so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not so():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def test_the_process_loads_what_comes_and_bears_that_the_cluster_goes(servers: Servers, tmp_path: Path) -> None:
    """With its status, history that is asked for, a broken file, and days that nobody keeps."""
    folder = tmp_path / "data" / places.DISK
    for path in (folder / SEGMENTS, tmp_path / "run" / places.RUN, tmp_path / "state"):
        path.mkdir(parents=True)
    with boxes(servers, folder) as box:
        lines = f'[paths]\ndata = "{tmp_path}/data"\nrun = "{tmp_path}/run"\nstate = "{tmp_path}/state"\n'
        file = tmp_path / "gatehouse.toml"
        file.write_text(f'[site]\nkey = "{SITE}"\n{lines}{box.text}')
        config = configuration.load(file)
        now_ms = int(time.time() * 1000)
        old = box.add(*(mix.flows(200, seed, now_ms - 7_200_000) for seed in (1, 2)))

        def states() -> list[int]:
            return sorted(segment.state for segment in box.catalog.segments())

        with loading_by(file) as log:
            eventually(lambda: states() == [HISTORY, HISTORY], log)
            box.add(mix.flows(300, 3, now_ms - 3_600_000))
            eventually(lambda: states() == [LOADED, HISTORY, HISTORY], log)
            eventually(lambda: list(clustered.problems(config, int(time.time()))) == [], log)
            for shard in servers.shards:
                shard.kill()
            try:
                box.add(mix.flows(400, 4, now_ms - 1_800_000))
                eventually(lambda: "doesn't take flows" in " ".join(clustered.problems(config, int(time.time()))), log)
                assert states() == [0, LOADED, HISTORY, HISTORY]
            finally:
                for shard in servers.shards:
                    shard.start()
            eventually(lambda: states() == [LOADED, LOADED, HISTORY, HISTORY], log)
            spoiled = folder / SEGMENTS / old[0].path
            spoiled.write_bytes(spoiled.read_bytes()[:-9] + bytes(9))
            assert loads.ask(box.catalog, 0, 2**45) == 400
            eventually(lambda: states() == [LOADED, LOADED, LOADED, ASKED], log)
            assert [s.path for s in box.catalog.segments() if s.damaged] == [old[0].path]
        box.filler.meet()
        assert box.counted("SELECT count() FROM flows_all") == [(900,)]


def test_a_day_goes_as_a_whole_when_no_site_keeps_it(box: Box) -> None:
    now_ms = int(time.time() * 1000)
    old = mix.flows(100, 1, now_ms - 30 * DAY_MS)
    (segment, _) = box.add(old, mix.flows(50, 2, now_ms - 2 * DAY_MS))
    box.fill()
    shards, at_ms = box.filler.meet(), segment.received_from_ms
    for host in shards.values():
        row: dict[str, list[Any]] = {
            "site": ["south"],
            "at": [datetime.now(UTC)],
            "keep_days": [90],
            "since_ms": [[]],
            "until_ms": [[]],
        }
        host.insert("keeping", row)
    tidy(box.catalog, shards, SITE, 10, now_ms)
    assert box.counted("SELECT count() FROM flows_all") == [(150,)]
    for host in shards.values():
        host.insert("keeping", row | {"at": [datetime.now(UTC) + timedelta(seconds=5)], "keep_days": [9]})
    box.catalog.run("INSERT INTO hold VALUES (9, ?, ?, 'a case', 'ann', 0, NULL, NULL)", at_ms, at_ms + 1)
    tidy(box.catalog, shards, SITE, 10, now_ms)
    assert box.counted("SELECT count() FROM flows_all") == [(150,)]
    box.catalog.run("UPDATE hold SET released_ms = 1")
    tidy(box.catalog, shards, SITE, 10, now_ms + 10_000)
    for table, left in (("flows_all", 50), ("ends_all", 50), ("loads_all", 2)):
        (found,) = box.cluster.hosts[0].rows(f"SELECT count(), countIf(day < today() - 15) FROM {table}")
        assert found[0] >= left
        assert found[1] == 0, table


def test_a_server_that_lost_its_disk_gets_what_is_still_here(box: Box, servers: Servers) -> None:
    con, parts = duck.connect(), []
    for number in range(8):
        flows = mix.flows(100, number, NOW_MS + number * 1_000_000)
        parts.append(segments.write(flows, box.folder / SEGMENTS, con, (number, number + 1)))
    with box.catalog.transaction():
        for segment in parts:
            box.catalog.add(segment)
    box.fill()
    homes = [loading.shard_of(segment.sha256, 2) for segment in parts]
    assert {1, 2} == set(homes)
    there = [homes.index(1), homes.index(2)]
    its = [segment for segment in box.catalog.segments() if segment.sha256 == parts[there[1]].sha256]
    with box.catalog.transaction():
        box.catalog.remove(its, NOW_MS)  # retention took one of those that are lost
    second = box.cluster.hosts[1]
    second.rows(f"DROP DATABASE {clickhouse.DATABASE}")
    second.close()
    tidy(box.catalog, box.filler.meet(), SITE, 10**4, NOW_MS)
    box.fill()
    tidy(box.catalog, box.filler.meet(), SITE, 10**4, NOW_MS)
    assert box.counted("SELECT count(), uniqExact(load) FROM flows_all") == [(700, 7)]
    (loss,) = box.catalog.losses(0, 2**50)
    assert (loss.flows, loss.cause) == (100, loads.GONE)
    assert second.rows("SELECT uniqExact(load) FROM loads WHERE load NOT IN (SELECT load FROM replaced)") == [(7,)]


def test_a_server_that_answers_oddly_is_one_that_does_not_serve(box: Box) -> None:
    box.filler.meet()
    odd = box.cluster.hosts[0]
    for said in ("toInt64(-5)", "'x'", "NULL", "arrayJoin([1, 2])", "toUInt64(1000000000000)"):
        odd.rows("DROP TABLE shard")
        odd.rows(f"CREATE VIEW shard AS SELECT {said} AS number")
        assert list(box.cluster.shards()) == [2]
        assert "\n" not in box.cluster.trouble[odd.name]


def test_a_clock_that_was_ahead_keeps_no_hold_from_counting(box: Box) -> None:
    now_ms = int(time.time() * 1000)
    (segment,) = box.add(mix.flows(100, 1, now_ms - 30 * DAY_MS))
    box.fill()
    shards, at_ms = box.filler.meet(), segment.received_from_ms
    for host in shards.values():
        ahead: dict[str, list[Any]] = {"site": [SITE], "at": [datetime(2061, 1, 1, tzinfo=UTC)], "keep_days": [10]}
        host.insert("keeping", ahead | {"since_ms": [[]], "until_ms": [[]]})
    box.catalog.run("INSERT INTO hold VALUES (9, ?, ?, 'a case', 'ann', 0, NULL, NULL)", at_ms, at_ms + 1)
    for _ in range(3):
        tidy(box.catalog, shards, SITE, 10, now_ms)
    assert box.counted("SELECT count() FROM flows_all") == [(100,)]
    assert box.cluster.hosts[0].rows("SELECT count() FROM keeping") == [(2,)]
    box.catalog.run("UPDATE hold SET released_ms = 1")
    tidy(box.catalog, shards, SITE, 10, now_ms)
    assert box.counted("SELECT count() FROM flows_all") == [(0,)]


def test_a_load_of_a_clock_that_was_ahead_is_given_up_like_any(box: Box) -> None:
    (segment,) = box.add(mix.flows(100))
    box.filler.meet()
    number = loading.shard_of(segment.sha256, 2)
    load = loads.begin(box.catalog, segment, number, NOW_MS + 2000 * DAY_MS)
    assert load is not None
    loads.absent(box.catalog, load, NOW_MS + 2000 * DAY_MS)
    settle(box)
    assert box.counted("SELECT count() FROM flows_all") == [(100,)]


def test_what_is_decoded_anew_counts_instead_even_if_it_is_the_same(box: Box) -> None:
    flows = mix.flows(100)
    (old,) = box.add(flows)
    box.fill()
    with box.catalog.transaction():
        loads.replace(box.catalog, 0, 0, [old])
        box.catalog.remove([old], NOW_MS)
    (new,) = box.add(flows)
    assert new.sha256 == old.sha256
    box.fill()
    tidy(box.catalog, box.filler.meet(), SITE, 10**4, NOW_MS)
    for host in box.cluster.hosts:
        assert host.rows("SELECT count() FROM replaced") == [(1,)]
        counts = "SELECT count(), uniqExact(load) FROM flows_all WHERE load GLOBAL NOT IN (SELECT load FROM replaced)"
        assert host.rows(counts) == [(100, 1)]
    assert loads.replaced(box.catalog) == []


PROCESS = """
import sys
from appliance import data_disk, process
from collector import loader
data_disk.mounted = lambda path: data_disk.Mounted("7:0", "x", False, 10**10, 10**10)
loader.TICK_S, loader.FIRST_S, loader.LONGEST_S = 0.1, 0.1, 0.5
process.run("loader", "", loader.serve)
"""


@contextmanager
def loading_by(file: Path) -> Iterator[str]:
    """A process, on a data disk that is a folder; yields what its log is called."""
    log = file.with_name("log")
    with log.open("wb") as out:
        running = subprocess.Popen([sys.executable, "-c", PROCESS, "--config", file], stdout=out, stderr=out)
    try:
        yield str(log)
    finally:
        running.terminate()
        assert running.wait(60) == 0, log.read_text()
