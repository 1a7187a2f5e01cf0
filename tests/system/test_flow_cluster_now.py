"""The tables of a cluster on the current ClickHouse: the same flows, whatever their definitions are made of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from collector.cluster import loading, tables
from collector.cluster.client import Host
from collector.flows import FLOW
from collector.store import duck, segments
from collector.store.models import SEGMENTS
from tests.flows import mix
from tests.system.chdb_store import Embedded

pytestmark = pytest.mark.system


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    found = Embedded(tmp_path)
    yield found
    found.close()


def test_any_flow_is_there_as_it_was(server: Embedded, tmp_path: Path) -> None:
    assert server.version >= tables.FSYNC_SINCE
    (tmp_path / SEGMENTS).mkdir()
    flows = np.concatenate([mix.anything(2000), mix.flows(500)])
    segment = segments.write(flows, tmp_path / SEGMENTS, duck.connect())
    host = cast(Host, server)
    exporters = loading.send(host, "north", segment, tmp_path / SEGMENTS, 7)
    assert loading.found(host, "north", segment.sha256, 1) is None
    loading.commit(host, loading.line("north", segment, 7, 1, exporters, 1_700_000_000))
    assert loading.found(host, "north", segment.sha256, 1) == (7, 1)
    names = FLOW.names or ()
    found = server.rows(f"SELECT {', '.join(names)} FROM flows_all WHERE load IN (SELECT load FROM loads)")
    assert sorted(found) == sorted(tuple(row) for row in flows.tolist())
    assert sorted(exporters) == sorted({int(number) for number in flows["exporter"]})
    ends = server.rows("SELECT end, end_hi, end_lo, end_port, src_lo, dst_lo FROM ends_all")
    assert sorted(ends) == sorted(ends_of(flows, server))


def ends_of(flows: Any, server: Embedded) -> Iterator[tuple[int, ...]]:
    """All but the client's own, by what the segment takes for it."""
    names = ("src", "dst", "nat_src", "nat_dst")
    chosen = ", ".join(["client_hi", "client_lo", *(f"{end}_{part}" for end in names for part in ("hi", "lo", "port"))])
    for hi, lo, *ends in server.rows(f"SELECT {chosen} FROM flows"):
        for number in range(4):
            its = tuple(ends[3 * number : 3 * number + 3])
            before = tuple(ends[3 * number - 6 : 3 * number - 3]) if number > 1 else ()
            if its[:2] not in ((0, 0), (hi, lo)) and its != before:
                yield (number, *its, ends[1], ends[4])
