"""Flows on one machine, and on two shards of ClickHouse that share its cores: loading, searches, statistics, bytes.

Segments are written and compacted as the sealer does it; Debian's ClickHouse 18.16, each shard with a bounded memory.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from appliance.config import Config
from collector import questions, search
from collector.cluster import client
from collector.cluster.filling import Filler
from collector.filters.language import parse
from collector.journal import Journal
from collector.search import Query
from collector.store import counting, duck, packing, rollups, segments, upkeep
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, JOURNAL, SEGMENTS
from collector.store.sealing import BATCH, Sealer
from tests.bench.collector_run import configured, on_disk
from tests.bench.flow_traffic import CLIENTS, Traffic
from tests.bench.processes import usage_of
from tests.bench.report import Comparison, progress
from tests.system import clickhouse
from tests.system.clickhouse import Servers

FLOWS = 50_000_000
DAYS = 10
ROUNDS = 7
DAY_MS = 86_400_000
SITE = "north"
START_MS = 1_790_000_000_000 // DAY_MS * DAY_MS


def comparisons() -> list[Comparison]:
    """FLOWS=… how many, 50 million by default."""
    flows = int(os.environ.get("FLOWS", FLOWS))
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "box").mkdir()
        _, config = configured(folder / "box", 2055)
        servers = stack.enter_context(clickhouse.servers(folder / "clickhouse"))
        store = replace(config.netflow, store=servers.url, store_password_file=servers.password_file)
        clustered = replace(config, netflow=store, site=replace(config.site, key=SITE))
        _keep(config, flows)
        loaded = _load(clustered, servers, flows)
        _compact(config)
        disk = on_disk(config.paths.data / "flows")
        progress(f"embedded: {disk / flows:.1f} B per flow, compacted")
        size = _cluster_bytes(clustered)
        return [*_questions(config, clustered), *loaded, *_bytes(size, disk, flows)]


def _folder(config: Config) -> Path:
    return config.paths.data / "flows"


def _keep(config: Config, flows: int) -> None:
    """As the sealer keeps them, in segments of its size, with totals."""
    folder, traffic = _folder(config), Traffic()
    (folder / SEGMENTS).mkdir(parents=True)
    (folder / "temporary").mkdir()
    Journal(folder / JOURNAL).close()
    con, count = duck.connect(folder / "temporary"), max(1, flows // BATCH)
    span, begun_s = DAYS * DAY_MS // count, time.process_time()
    with Catalog(folder / CATALOG, write=True) as catalog:
        catalog.exporter("192.0.2.1")
        for number in range(count):
            begin_ms = START_MS + number * span
            part = traffic.slice(flows // count, begin_ms, begin_ms + span)
            part["exporter"] = 1
            segment = segments.write(part, folder / SEGMENTS, con, (number, number + 1))
            with catalog.transaction():
                catalog.add(segment)
                rollups.add(catalog, counting.count(packing.pack(part)))
            if number % 25 == 24:
                progress(f"kept {number + 1}/{count} segments, {time.process_time() - begun_s:.0f} s of CPU")
    con.close()


def _load(config: Config, servers: Servers, flows: int) -> list[Comparison]:
    """All of it by one loader; each second of CPU on either side is counted."""
    pids = [shard.pid for shard in servers.shards]
    with client.opened(config) as cluster, Catalog(_folder(config) / CATALOG, write=True) as catalog:
        filler = Filler(_folder(config), catalog, cluster, SITE)
        filler.meet()
        before, theirs, begun = time.process_time(), usage_of(pids).cpu_s, time.perf_counter()
        count = 0
        while filler.step(int(time.time() * 1000)):
            count += 1
            if count % 25 == 0:
                progress(f"loaded {count} segments, {time.perf_counter() - begun:.0f} s")
        took, ours = time.perf_counter() - begun, time.process_time() - before
        theirs, memory = usage_of(pids).cpu_s - theirs, usage_of(pids).rss_mb
    millions = flows / 1e6
    text = (
        f"loaded {flows / took:,.0f} flows/s; CPU a million: {ours / millions:.2f} s loader, {theirs / millions:.2f} s"
    )
    progress(f"{text} servers; servers' memory {memory:.0f} MB")
    return [
        Comparison("cluster_load_per_s", "needed", "flows/s", flows / took, 10_000, 1),
        Comparison("load_cpu_s_per_million", "servers", "s", ours / millions, theirs / millions, 1),
    ]


def _compact(config: Config) -> None:
    with Sealer(_folder(config)) as sealer:
        while upkeep.compact(sealer, START_MS + (DAYS + 2) * DAY_MS):
            pass
        for (path,) in sealer.catalog.rows("SELECT path FROM gone"):
            for file in (sealer.segments / path, sealer.segments / f"{path}.ends"):
                file.unlink(missing_ok=True)
        sealer.catalog.run("DELETE FROM gone")


def _cluster_bytes(config: Config) -> dict[str, int]:
    """By table, once what is in one day's partition is one part, as it is a while later."""
    found: dict[str, int] = {}
    ours = "active AND database = currentDatabase()"
    sums = f"SELECT table, sum(bytes_on_disk) FROM system.parts WHERE {ours} GROUP BY table"
    with client.opened(config, 3600) as cluster:
        for host in cluster.hosts:
            for table in ("flows", "ends", "totals"):
                host.rows(f"OPTIMIZE TABLE {table} FINAL")
            for table, size in host.rows(sums):
                found[table] = found.get(table, 0) + size
    return found


def _bytes(size: dict[str, int], disk: int, flows: int) -> list[Comparison]:
    progress("cluster, B per flow: " + ", ".join(f"{name} {size[name] / flows:.2f}" for name in sorted(size)))
    return [Comparison("cluster_bytes_per_flow", "embedded", "B", sum(size.values()) / flows, disk / flows, 1)]


# Questions


def _questions(config: Config, clustered: Config) -> Iterator[Comparison]:
    """The same ones to both in turns; on this machine's cores two shards may take three times as long."""
    traffic, end_ms = Traffic(), START_MS + DAYS * DAY_MS
    its, day = parse(f"host {traffic.address(CLIENTS // 3)}"), end_ms - DAY_MS
    ports = parse("dst port 25 or dst port 80")
    asked = {
        "search": Query(its, START_MS, end_ms, "first", True, 1000),
        "search_port": Query(ports, day, end_ms, "first", True, 1000),
        "statistics": Query(parse(""), day, end_ms, "bytes", True, 100, group=("dst_port",)),
        "client_statistics": Query(its, START_MS, end_ms, "bytes", True, 100, group=("dst",)),
    }
    for name, query in asked.items():
        times: dict[str, list[float]] = {"embedded": [], "cluster": []}
        answers: dict[str, list[tuple[object, ...]]] = {}
        for _ in range(ROUNDS):
            for where, of in (("embedded", config), ("cluster", clustered)):
                begun = time.perf_counter()
                answers[where] = _asked(of, query)
                times[where].append((time.perf_counter() - begun) * 1000)
        if sorted(map(str, answers["embedded"])) != sorted(map(str, answers["cluster"])):
            progress(f"{name}: the answers differ: {len(answers['embedded'])} and {len(answers['cluster'])} rows")
        ours, theirs = median(times["cluster"]), median(times["embedded"])
        progress(f"{name}: {len(answers['embedded'])} rows, {theirs:.0f} ms here, {ours:.0f} ms in the cluster")
        yield Comparison(f"cluster_{name}_ms", f"embedded_{name}_ms", "ms", ours, theirs, ROUNDS)


def _asked(config: Config, query: Query) -> list[tuple[object, ...]]:
    with questions.opened(config) as reading:
        return list(search.run(reading, query).rows)
