"""Days and weeks of a router by a simulated clock: its datagrams go through journal, sealer and compaction as they are.

Only the socket and the waiting are left out.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

import numpy as np

from appliance.config import Config
from collector import worker
from collector.journal import NAME as JOURNAL
from collector.journal import Datagram, Journal, pack
from collector.store import keeping, rollups, upkeep
from collector.store.sealing import Sealer
from tests.bench.collector_run import configured, on_disk
from tests.bench.flow_traffic import CLIENTS, Flows, Traffic
from tests.bench.report import Comparison, progress
from tests.flows.bulk import datagrams_of

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = 1_790_000_000_000 // DAY_MS * DAY_MS
FEW_DAYS = 3
VISITOR, VISITS = CLIENTS, 100  # somebody who comes on the last day only
DAILY = 700
ROUNDS = 9
SEED_BITS_S = 300_000
BYTES_A_FLOW = 96  # in the router's datagrams, templates and headers among them
BOUND_MS = 1000


class Costs(NamedTuple):
    """CPU seconds, and what was sent."""

    journal_s: float = 0
    seal_s: float = 0
    compact_s: float = 0
    octets: int = 0


class Simulation:
    def __init__(self, folder: Path) -> None:
        self.costs = Costs()
        self._folder, self._sequence = folder, 0

    def __enter__(self) -> Self:
        self._folder.mkdir()
        with ExitStack() as stack:
            _, self.config = configured(self._folder, 2055)
            self.flows = self.config.paths.data / "flows"
            self.flows.mkdir(parents=True)
            self._journal = stack.enter_context(closing(Journal(self.flows / JOURNAL)))
            self._sealer = stack.enter_context(Sealer(self.flows))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def feed(self, flows: Flows, step_ms: int, apart: bool = False) -> None:
        """As they come, a transaction for each step; `apart`: with a row for each second, as the collector writes."""
        for now_ms, part in _steps(flows, step_ms):
            sent = datagrams_of(part, boot_ms=START_MS - DAY_MS, sequence=self._sequence)
            self._sequence += len(part)
            self.costs = self.costs._replace(octets=self.costs.octets + sum(map(len, sent)))
            datagrams = [Datagram(int.from_bytes(d[4:8], "big") * 1000, "127.0.0.1", d) for d in sent]
            with self._measured("journal_s"):
                seconds = [list(s) for _, s in groupby(datagrams, lambda d: d.received_ms)] if apart else [datagrams]
                self._journal.add([row for second in seconds for row in pack(second)], [])
            with self._measured("seal_s"):
                while self._sealer.gather() or self._sealer.due(now_ms):
                    self._sealer.seal()
            if now_ms // HOUR_MS != (now_ms - step_ms) // HOUR_MS:
                self.keep_up(now_ms)

    def keep_up(self, now_ms: int) -> None:
        with self._measured("compact_s"):
            while upkeep.compact(self._sealer, now_ms):
                pass
            keeping.take_away_files(self._sealer.catalog, self._sealer.segments, now_ms, at_once=True)
            rollups.expire(self._sealer.catalog, now_ms)
            self._journal.expire(1, 2**31, self._sealer.catalog.sealed_until(), now_ms)

    def end(self, now_ms: int) -> None:
        with self._measured("seal_s"):
            self._sealer.gather()
            self._sealer.seal()
        self.keep_up(now_ms)

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        before = time.process_time()
        yield
        self.costs = self.costs._replace(**{name: getattr(self.costs, name) + time.process_time() - before})


def _steps(flows: Flows, step_ms: int) -> Iterator[tuple[int, Flows]]:
    first = int(flows["received"][0]) // step_ms
    for step in range(first, int(flows["received"][-1]) // step_ms + 1):
        begin, end = np.searchsorted(flows["received"], (step * step_ms, (step + 1) * step_ms))
        if end > begin:
            yield (step + 1) * step_ms, flows[begin:end]


def comparisons(folder: Path, days: int, flows: int, receive_us: float) -> list[Comparison]:
    """`receive_us` is what the socket's process takes of CPU for a flow, its part of the journal included."""
    return [*_growth(folder / "growth", days, flows // 10), *_seed_day(folder / "seed", flows, receive_us)]


def _growth(folder: Path, days: int, per_day: int) -> list[Comparison]:
    traffic = Traffic()
    with Simulation(folder) as simulation:
        for day in range(days):
            begin = START_MS + day * DAY_MS
            planted = {VISITOR: VISITS} if day == days - 1 else {}
            simulation.feed(traffic.slice(per_day, begin, begin + DAY_MS, planted=planted, daily=True), 900_000)
            progress(f"day {day + 1}/{days}  {on_disk(simulation.flows) / (day + 1) / per_day:.1f} B per flow")
        end = START_MS + days * DAY_MS
        simulation.end(end + HOUR_MS)
        progress(f"{days} days: {_said(simulation.costs, days * per_day)}")
        visitor, daily = (f"host {traffic.address(client)}" for client in (VISITOR, DAILY))
        long, short = end - days * DAY_MS, end - min(FEW_DAYS, days) * DAY_MS
        many, few = _in_turns(
            lambda: _found(simulation.config, visitor, long, end, 2 * VISITS),
            lambda: _found(simulation.config, visitor, short, end, 2 * VISITS),
        )
        (always,) = _in_turns(lambda: _found(simulation.config, daily, long, end))
    return [
        Comparison("search_30d_ms", "search_3d_ms", "ms", many, few, ROUNDS),
        Comparison("search_daily_client_ms", "bound", "ms", always, BOUND_MS, ROUNDS),
    ]


def _said(costs: Costs, flows: int) -> str:
    parts = (costs.journal_s, costs.seal_s, costs.compact_s)
    words = zip(("journal", "sealing", "compaction"), parts, strict=True)
    return "CPU per 10,000,000 flows: " + ", ".join(f"{name} {s / flows * 1e7:.1f} s" for name, s in words)


def _found(config: Config, asked: str, since_ms: int, until_ms: int, count: int | None = None) -> None:
    request = {"ask": "search", "filter": asked, "since_ms": since_ms, "until_ms": until_ms}
    pieces = worker.ask(config, request)
    found = sum(len(piece.get("rows", ())) for piece in pieces if isinstance(piece, dict))
    if found == 0 or (count is not None and found != count):
        raise RuntimeError(f"{asked}: {found} flows found, {count} are there")


def _in_turns(*asks: Callable[[], None]) -> list[float]:
    """Medians in ms; a round before the first warms what is cached."""
    took: list[list[float]] = [[] for _ in asks]
    for _ in range(ROUNDS + 1):
        for ask, times in zip(asks, took, strict=True):
            started = time.perf_counter()
            ask()
            times.append((time.perf_counter() - started) * 1000)
    return [median(times[1:]) for times in took]


def _seed_day(folder: Path, flows: int, receive_us: float) -> list[Comparison]:
    """The load that was asked for in the beginning, over a day, or a part of it in a smaller run."""
    hours = max(1, min(24, 24 * flows // 10_000_000))
    per_hour = SEED_BITS_S // 8 * 3600 // BYTES_A_FLOW
    traffic = Traffic()
    with Simulation(folder) as simulation:
        for hour in range(hours):
            begin = START_MS + hour * HOUR_MS
            simulation.feed(traffic.slice(per_hour, begin, begin + HOUR_MS), 60_000, apart=True)
            progress(f"hour {hour + 1}/{hours}  {on_disk(simulation.flows) / (hour + 1) / per_hour:.1f} B per flow")
        simulation.end(START_MS + hours * HOUR_MS + (DAY_MS if hours == 24 else HOUR_MS))
        costs = simulation.costs
        progress(f"the seed's day: {_said(costs, hours * per_hour)}")
        kept_mb = on_disk(simulation.flows) / 1e6 * 24 / hours
    cpu_s = costs.seal_s + costs.compact_s + receive_us / 1e6 * hours * per_hour
    return [
        Comparison("seed_day_mb", "exported", "MB", kept_mb, costs.octets / 1e6 * 24 / hours, 1),
        Comparison("seed_day_core_percent", "a core", "%", 100 * cpu_s / (hours * 3600), 100, 1),
    ]


def memory_percent(mb: float) -> float:
    """Of this machine's."""
    return 100 * mb * 2**20 / (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
