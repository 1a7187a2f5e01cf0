"""Flows in a cluster of two real shards: each segment once, whatever dies in between."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from appliance import config as configuration
from collector.cluster import client, loading
from collector.cluster.client import Away, Cluster, Host
from collector.cluster.filling import SETTLED_MS, Filler
from collector.cluster.tidying import tidy
from collector.store import duck, loads, segments
from collector.store.catalog import Catalog
from collector.store.models import BEGUN, CATALOG, LOADED, SEGMENTS, SegmentFile
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
        which = "load GLOBAL IN (SELECT min(load) FROM loads_all GROUP BY site, sha256)"
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
        (self._folder / SEGMENTS).mkdir()
        text = f'[netflow]\nstore = "{self._servers.url}"\nstore_password_file = "{self._servers.password_file}"\n'
        cluster = self.enter_context(client.opened(configuration.parse(text), answer_s=10))
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
    for later in (1, 2, 3):
        box.filler.meet()
        while box.filler.step(NOW_MS + later * SETTLED_MS):
            pass


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
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
