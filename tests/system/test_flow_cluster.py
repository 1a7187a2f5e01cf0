"""Flows in a cluster of two real shards: each segment once, whatever dies in between."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from appliance import config as configuration
from collector.cluster import client
from collector.cluster.client import Cluster
from collector.cluster.filling import Filler
from collector.store import duck, loads, segments
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, SEGMENTS, SegmentFile
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
        return Box(self._folder, catalog, cluster, Filler(self._folder, catalog, cluster, SITE))


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
    assert not loads.wanted(box.catalog.segments())
    box.catalog.run("UPDATE segment SET state = 0")
    box.catalog.run("DELETE FROM loaded")
    box.fill()
    assert box.cluster.hosts[0].rows("SELECT count() FROM flows_all") == [(total,)]
