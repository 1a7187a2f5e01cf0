"""The collector beside Debian's nfcapd and nfdump: the same datagrams, then the same questions.

All take turns, so that whatever else the machine does falls on each alike. Each collector runs on one core, what sends
on the other. FLOWS (10,000,000) and DAYS (30) make it smaller for a trial, ONLY=peers and ONLY=days are its halves. It
runs in namespaces of its own, so that whatever ends it, no process, mount or port is left.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Protocol

import numpy as np

from tests.bench import collector_days, flow_sender, nfdump_peer
from tests.bench.collector_run import Ours
from tests.bench.flow_traffic import Traffic
from tests.bench.processes import Peak, Usage
from tests.bench.report import Comparison, progress, show

FLOWS = int(os.environ.get("FLOWS", "10_000_000"))
DAYS = int(os.environ.get("DAYS", "30"))
ONLY = os.environ.get("ONLY", "")
USUAL_RECEIVE_US = 1.0  # a flow, where it isn't measured in the same run
PARTS = 3
PER_S = 50_000  # each part takes more than a minute of it
ROUNDS = 3
SLOW, SLOW_ROUNDS = "bz2", 1  # is sent half as many a second, as it would lose some on a machine that does other things
IDLE_S = 30
RSS_BOUND_MB, IDLE_BOUND_PERCENT = 400, 1
COMPACT_BOUND_S = 60  # for 10,000,000 flows, which happens once in their life
EXPORTED = 1_000_000
CLIENT = 700  # of the rank, somebody who is neither the busiest nor the laziest
BYTES_A_FLOW_TO_HAVE = 1_200  # room on the disk for all that is kept at once
SCRATCH = Path("/var/tmp")
_INSIDE = "GATEHOUSE_BENCH_INSIDE"
_PORT = 29_950


class Keeper(Protocol):
    """Somebody who is sent flows and keeps them."""

    name: str
    port: int
    sequence: int

    def usage(self) -> Usage: ...
    def settle(self) -> None: ...
    def bytes_on_disk(self) -> int: ...
    def search_client(self, address: str) -> int: ...
    def top(self, statistic: str) -> list[tuple[str, int]]: ...
    def export(self, count: int, to: Path, columns: str = ...) -> None: ...


def main() -> None:
    if _INSIDE not in os.environ:
        sys.exit(_apart())
    signal.signal(signal.SIGTERM, _end)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = Path(os.environ[_INSIDE])
    found, receive_us = ([], USUAL_RECEIVE_US) if ONLY == "days" else _beside_peers(folder)
    if ONLY != "peers":
        found += collector_days.comparisons(folder, DAYS, FLOWS, receive_us)
    show(found)


def _apart() -> int:
    """In namespaces whose end is the end of all in them, and before that of the folder."""
    signal.signal(signal.SIGTERM, _end)
    needed = FLOWS * BYTES_A_FLOW_TO_HAVE
    if shutil.disk_usage(SCRATCH).free < needed:
        sys.exit(f"{needed / 1e9:,.0f} GB have to be free in {SCRATCH}, or FLOWS be fewer")
    words = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child=SIGTERM", "--mount-proc"]
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="bench-collector-") as folder:
        inside = os.environ | {_INSIDE: folder}
        process = subprocess.Popen([*words, sys.executable, "-m", __spec__.name], env=inside)
        try:
            return process.wait()
        finally:
            process.terminate()
            process.wait()


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # leaves through all context managers, so the folder goes


def _beside_peers(folder: Path) -> tuple[list[Comparison], float]:
    """And the CPU that our receiving takes, in us a flow."""
    traffic = Traffic()
    with ExitStack() as stack:
        ours = stack.enter_context(Ours(folder, _PORT))
        peers = stack.enter_context(nfdump_peer.collectors(folder, _PORT + 1))
        found = _ingest(folder, traffic, ours, peers)
        receive_us = ours.receiver_cpu_s() / FLOWS * 1e6
        found += _kept(ours, peers)
        found += _asked(traffic, ours, peers, folder)
        return found, receive_us


def _ingest(folder: Path, traffic: Traffic, ours: Ours, peers: Sequence[nfdump_peer.Collector]) -> list[Comparison]:
    """CPU is of all processes from the socket to what is kept."""
    keepers: list[Keeper] = [ours, *peers]
    cpu_s: dict[str, list[float]] = {keeper.name: [] for keeper in keepers}
    boot_ms = int(time.time() * 1000) - 5 * 86_400_000
    with Peak(ours.rss_mb) as peak:
        for part in range(PARTS):
            flows = FLOWS * (part + 1) // PARTS - FLOWS * part // PARTS
            file = _part(folder, traffic, part, flows)
            for keeper in keepers if part % 2 == 0 else keepers[::-1]:
                before = keeper.usage().cpu_s
                sent = flow_sender.send(file, keeper.port, boot_ms, keeper.sequence, 1, 2 if keeper.name == SLOW else 1)
                keeper.sequence = sent.sequence
                ours.sent += sent.datagrams if keeper is ours else 0
                keeper.settle()
                cpu_s[keeper.name].append((keeper.usage().cpu_s - before) / flows * 10_000_000)
                progress(
                    f"part {part + 1}/{PARTS}  {keeper.name:4}  {cpu_s[keeper.name][-1]:7.1f} s of CPU per 10,000,000"
                    f" flows  {keeper.usage().rss_mb:5.0f} MB  sender {sent.late_s * 1000:.0f} ms late at most"
                )
            file.unlink()
        for peer in peers:
            peer.stop()
            peer.check(FLOWS)
        ours.seal()
        ours.check(FLOWS)
        before, at = ours.usage().cpu_s, time.monotonic()
        progress(f"idle for {IDLE_S} s")
        time.sleep(IDLE_S)
        idle = 100 * (ours.usage().cpu_s - before) / (time.monotonic() - at)
    own = median(cpu_s["ours"])
    return [
        *(Comparison("ingest_cpu_s", f"nfcapd_{p.name}", "s", own, median(cpu_s[p.name]), PARTS) for p in peers),
        Comparison("lost_datagrams_50k", "bound", "1", ours.lost_datagrams(), 0, PARTS),
        Comparison("collector_rss_mb", "bound", "MB", peak.highest, RSS_BOUND_MB, 1),
        Comparison("seed_day_memory_percent", "the machine", "%", collector_days.memory_percent(peak.highest), 100, 1),
        Comparison("idle_cpu_percent", "bound", "%", idle, IDLE_BOUND_PERCENT, 1),
    ]


def _part(folder: Path, traffic: Traffic, part: int, flows: int) -> Path:
    progress(f"making {flows:,} flows")
    lasts_ms = flows * 1000 // PER_S
    file = folder / f"part-{part}.npy"
    np.save(file, traffic.slice(flows, part * lasts_ms, (part + 1) * lasts_ms))
    return file


def _kept(ours: Ours, peers: Sequence[nfdump_peer.Collector]) -> list[Comparison]:
    progress(f"{ours.bytes_on_disk() / FLOWS:.1f} B per flow before compaction")
    used = ours.compact()
    own = ours.bytes_on_disk() / FLOWS
    return [
        Comparison("compact_cpu_s", "bound", "s", used.cpu_s / FLOWS * 10_000_000, COMPACT_BOUND_S, 1),
        Comparison("compact_rss_mb", "bound", "MB", used.rss_mb, RSS_BOUND_MB, 1),
        *(Comparison("bytes_per_flow", f"nfdump_{p.name}", "B", own, p.bytes_on_disk() / FLOWS, 1) for p in peers),
    ]


def _asked(traffic: Traffic, ours: Ours, peers: Sequence[nfdump_peer.Collector], folder: Path) -> list[Comparison]:
    client, file = traffic.address(CLIENT), folder / "export.csv"
    questions: tuple[tuple[str, str, Callable[[Keeper], object]], ...] = (
        ("search_client_ms", "ms", lambda keeper: keeper.search_client(client)),
        ("top10_ports_ms", "ms", lambda keeper: keeper.top("dstport")),
        ("top10_clients_ms", "ms", lambda keeper: keeper.top("srcip")),
        ("csv_1m_s", "s", lambda keeper: keeper.export(min(EXPORTED, FLOWS), file)),
        ("csv_1m_all_columns_s", "s", lambda keeper: keeper.export(min(EXPORTED, FLOWS), file, "all")),
    )
    found = []
    for metric, unit, ask in questions:
        took, answers = _rounds(metric, unit, [ours, *peers], ask)
        if metric == "search_client_ms" and len(set(map(str, answers.values()))) != 1:
            raise RuntimeError(f"they don't find the same of {client}: {answers}")
        for peer in peers:
            rounds = SLOW_ROUNDS if peer.name == SLOW else ROUNDS
            found.append(Comparison(metric, f"nfdump_{peer.name}", unit, took[ours.name], took[peer.name], rounds))
    return found


def _rounds(
    metric: str, unit: str, keepers: Sequence[Keeper], ask: Callable[[Keeper], object]
) -> tuple[dict[str, float], dict[str, object]]:
    """Medians, and the last answers. A first round, which isn't counted, warms what is cached."""
    took: dict[str, list[float]] = {keeper.name: [] for keeper in keepers}
    answers: dict[str, object] = {}
    for number in range(ROUNDS + 1):
        for keeper in list(keepers)[:: 1 if number % 2 else -1]:
            if keeper.name == SLOW and number != 1:
                continue  # it unpacks all there is for each question, and takes minutes
            started = time.perf_counter()
            answers[keeper.name] = ask(keeper)
            took[keeper.name].append((time.perf_counter() - started) * (1000 if unit == "ms" else 1))
            progress(f"{metric}  round {number}/{ROUNDS}  {keeper.name:4}  {took[keeper.name][-1]:9,.1f} {unit}")
    return {name: median(values[-ROUNDS:]) for name, values in took.items()}, answers


if __name__ == "__main__":
    main()
