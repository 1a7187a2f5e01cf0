"""What is asked of a cluster, asked of the current ClickHouse: it has the tables and the words of all versions."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings

from appliance import config as configuration
from collector import search, who
from collector.cluster import client, tables
from collector.cluster.blocks import Block, Table
from collector.cluster.client import Host
from collector.cluster.parted import Load
from collector.cluster.reading import SECONDS, ClusterReading, Limits
from collector.store import loads
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, SEGMENTS, SegmentFile
from collector.store.reading import Range, Reading
from collector.store.unpacking import File
from tests.flows.kept import keep
from tests.flows.stand_in import HOUR_MS, SINCE_MS, random_flows
from tests.system.test_cluster_answers import RANDOM, check, queries

pytestmark = pytest.mark.system

SITE, DATABASE = "south", "flows"
Both = tuple[Reading, Reading]


class Current(ClusterReading):
    """Of a server within this process, which takes no tables with a question: they are made beside it."""

    server: Any
    scratch: Path

    def _look(self) -> None:
        self._hosts = {1: cast(Host, None)}

    def _there(self, loads: Sequence[Load]) -> set[int]:
        return {load.load for load in loads}

    def _asked(
        self,
        ask: Callable[[bool], str],
        given: Sequence[Table],
        seconds: int = SECONDS,
        more: Limits | None = None,
        together: bool = True,
    ) -> Iterator[Block]:
        for table in given:
            types = ", ".join(f"{name} {kind}" for name, kind in table.types.items())
            self.server.query(f"DROP TABLE IF EXISTS {table.name}")
            self.server.query(f"CREATE TABLE {table.name} ({types}) ENGINE = Memory")
            rows = zip(*(values.tolist() for values in table.columns.values()), strict=True)
            values = ", ".join(f"({', '.join(map(str, row))})" for row in rows)
            self.server.query(f"INSERT INTO {table.name} VALUES {values}")
        found = self.server.query(ask(True), "Parquet").bytes()
        if found:
            (self.scratch / "answer").write_bytes(found)
            yield duckdb.connect().execute(f"SELECT * FROM read_parquet('{self.scratch / 'answer'}')").fetchnumpy()


def insert(server: Any, scratch: Path, folder: Path, segment: SegmentFile, load: int) -> None:
    file = File(folder / SEGMENTS / segment.path, segment.columns)
    own = [f"'{SITE}' AS site", f"DATE '{loads.day_of(segment)}' AS day", f"{load}::UBIGINT AS load"]
    own += [f"{file.raw(name, 'UBIGINT')} AS {name}" for name in ("client_hi", "client_lo")]
    own.append(f"CAST({file.raw('twin', 'BOOLEAN')} AS UTINYINT) AS twin")
    own += [f"{file.column(name)} AS {name}" for name in tables.FLOW_TYPES]
    duckdb.connect().execute(f"COPY (SELECT {', '.join(own)} FROM {file.source}) TO '{scratch}/rows' (FORMAT parquet)")
    server.query(f"INSERT INTO flows SELECT {', '.join(tables.columns('flows'))} FROM file('{scratch}/rows', Parquet)")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder, scratch = tmp_path_factory.mktemp("kept"), tmp_path_factory.mktemp("scratch")
    keep(folder, *np.array_split(random_flows(2000), 4), exporters=("192.0.2.1", "192.0.2.2"))
    from chdb import session  # large, so only `make test-system` has it, and `make test` reads this file, too

    server = session.Session()
    server.query(f"CREATE DATABASE {DATABASE}")
    server.query(f"USE {DATABASE}")
    major, minor, *_ = server.query("SELECT version()", "TSV").data().split(".")
    for statement in tables.statements((int(major), int(minor)), DATABASE, "", 1):
        server.query(statement)
    with Catalog(folder / CATALOG, write=True) as catalog:
        for segment in catalog.segments()[:3]:
            load = loads.begin(catalog, segment, 1, SINCE_MS)
            assert load is not None
            insert(server, scratch, folder, segment, load)
            loads.end(catalog, segment.id, load, 1)
    config = configuration.parse('[netflow]\nstore = "clickhouse://127.0.0.1:1/flows"\n')
    current = Current(folder, client.opened(config), SITE, temporary=scratch)
    current.server, current.scratch = server, scratch
    with Reading(folder, temporary=scratch) as one, current as other:
        yield one, other
    server.close()


@settings(max_examples=20, **RANDOM)
@given(queries())
def test_questions_have_the_same_answer(both: Both, query: search.Query) -> None:
    check(both, query)


@pytest.mark.parametrize("port", [None, 443])
@pytest.mark.parametrize("address", ["10.0.0.1", "198.51.100.7", "2001:db8::1"])
def test_who_is_asked_for_the_same_flows(both: Both, address: str, port: int | None) -> None:
    asked = who.Question(who.address_of(address), port, SINCE_MS + HOUR_MS // 2, None, 600_000)
    period = Range(SINCE_MS, SINCE_MS + HOUR_MS)
    one, other = (sorted(who._read(reading, period, asked, 0)) for reading in both)
    assert one == other
    assert one
    one, other = (sorted(who._read(reading, period, asked, 1, 2)) for reading in both)
    assert one == other
    assert [lag[:2] for lag in both[0].lags(period)] == [lag[:2] for lag in both[1].lags(period)]
