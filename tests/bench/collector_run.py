"""Our collector as on an appliance: both services, and a data disk of its own, which is a file system in a file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import IO, Self

from appliance import config as configuration
from appliance import data_disk, db
from appliance.accounts.database import open_core
from appliance.accounts.models import core_db
from appliance.config import Config
from collector import places, worker
from collector.exporters import Exporter, text
from collector.journal import NAME as JOURNAL
from collector.journal import Journal
from collector.store import keeping, rollups, upkeep
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, Range
from collector.store.retention import BALLAST
from collector.store.sealing import Sealer
from tests.bench.processes import Peak, Usage, cpu_s, rss_mb, usage_of

DISK_MB = 16_000  # as much as it may grow to: the file has holes
SETTLED_S = 240
_SERVICES = {"collector": ("collector.receive",), "flows": ("collector.sealer",)}


def data_disk_in(folder: Path, stack: ExitStack) -> Path:
    """A mounted ext4 with our marker. Whoever calls has a mount namespace of its own."""
    image, point = folder / "disk.img", folder / "data"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_MB * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    stack.callback(lambda: subprocess.run(["umount", "--lazy", point], check=False))
    uuid = subprocess.run(["blkid", "-o", "value", "-s", "UUID", image], capture_output=True, text=True, check=True)
    (point / data_disk.MARKER).write_text(uuid.stdout, encoding="ascii")
    (folder / "state").mkdir()
    (folder / "state" / data_disk.REMEMBERED).write_text(uuid.stdout, encoding="ascii")
    (point / places.DISK).mkdir()
    return point / places.DISK


def configured(folder: Path, port: int) -> tuple[Path, Config]:
    """Whatever sends from 127.0.0.1 is collected."""
    file = folder / "gatehouse.toml"
    paths = "\n".join(f'{name} = "{folder / name}"' for name in ("state", "run", "log", "data"))
    file.write_text(f"[paths]\n{paths}\n\n[netflow]\nport = {port}\n", encoding="utf-8")
    for name in (f"state/{places.STATE}", f"run/{places.RUN}", "log"):
        (folder / name).mkdir(parents=True)
    (folder / "state" / "core").mkdir()
    router = Exporter(ip_network("127.0.0.1/32"), "router", True)
    (folder / "run" / places.EXPORTERS).write_text(text([router]), encoding="utf-8")
    config = configuration.load(file)
    with open_core(config, create=True):
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
    return file, config


def on_disk(flows: Path) -> int:
    """Bytes of all that is kept, without the journal, which expires, and the ballast, which is always the same."""
    files = [file for file in flows.rglob("*") if file.is_file() and not file.name.startswith((JOURNAL, BALLAST))]
    return sum(file.stat().st_size for file in files)


def command(file: Path, *words: str, stdout: IO[bytes] | int = subprocess.DEVNULL) -> None:
    """`gatehouse …` in a process of its own."""
    program = [sys.executable, "-m", "appliance.cli", "--config", str(file)]
    done = subprocess.run([*program, *words], stdout=stdout, stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip())


class Ours:
    """Both services share one core."""

    name = "ours"

    def __init__(self, folder: Path, port: int, core: int = 0) -> None:
        self.port, self.sequence, self.sent = port, 0, 0
        self._began_s = time.time() - 86_400  # of questions about all there is, which end now
        self._folder, self._core = folder / "ours", core
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._folder.mkdir()
        with ExitStack() as stack:
            self.flows = data_disk_in(self._folder, stack)
            self.file, self.config = configured(self._folder, self.port)
            stack.callback(self._stop)
            for name, (module,) in _SERVICES.items():
                nice = ["nice", "--adjustment=10"] if name == "flows" else []
                words = [*nice, "taskset", "--cpu-list", str(self._core), sys.executable, "-m", module]
                with (self._folder / "log" / name).open("wb") as log:
                    self._processes.append(
                        subprocess.Popen([*words, "--config", str(self.file)], stdout=log, stderr=log)
                    )
            self._wait_for(lambda: (self.flows / JOURNAL).exists(), 20)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def compact(self) -> Usage:
        """The hours and the day of it are over all at once; what that costs."""
        self._stop()
        words = ["taskset", "--cpu-list", str(self._core), sys.executable, "-m", __spec__.name, str(self.flows)]
        process = subprocess.Popen(words)
        try:
            with Peak(lambda: rss_mb(process.pid), 0.1) as peak:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        if process.returncode:
            raise RuntimeError("the compaction failed")
        return Usage(used.ru_utime + used.ru_stime, peak.highest)

    def _stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait_for(self, done: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not done():
            for name, process in zip(_SERVICES, self._processes, strict=True):
                if process.poll() is not None:
                    log = (self._folder / "log" / name).read_text(encoding="utf-8", errors="replace")
                    raise RuntimeError(f"{name} ended: {log[-2000:]}")
            if time.monotonic() > until:
                raise RuntimeError(f"our services weren't done in {seconds} s")
            time.sleep(0.2)

    # What it costs

    def usage(self) -> Usage:
        return usage_of([process.pid for process in self._processes])

    def receiver_cpu_s(self) -> float:
        """Of the process with the socket and the journal."""
        return cpu_s(self._processes[0].pid)

    def rss_mb(self) -> float:
        return sum(rss_mb(process.pid) for process in self._processes)

    def settle(self) -> None:
        """Until nothing is being done. What doesn't fill a segment yet is sealed a minute later."""
        before, now = -1.0, self.usage().cpu_s
        while now - before > 0.05:
            time.sleep(2.5)  # the sealer looks every two seconds
            before, now = now, self.usage().cpu_s

    def seal(self) -> None:
        """Until the last datagram is."""
        self._wait_for(self._is_sealed, SETTLED_S)

    def _is_sealed(self) -> bool:
        with closing(Journal(self.flows / JOURNAL, write=False)) as journal:
            last = journal.last_id()
        if not (self.flows / CATALOG).exists():
            return False
        with Catalog(self.flows / CATALOG) as catalog:
            return catalog.sealed_until() >= last

    # What it kept

    def lost_datagrams(self) -> int:
        with closing(Journal(self.flows / JOURNAL, write=False)) as journal:
            return self.sent - sum(heard.datagrams for heard in journal.heard() if heard.collected)

    def check(self, flows: int) -> None:
        """Raises RuntimeError where a flow is missing, or there twice."""
        with Catalog(self.flows / CATALOG) as catalog:
            (kept,) = catalog.one("SELECT sum(rows) FROM segment")
            lost = catalog.losses(0, 2**62)
        if kept != flows or lost:
            raise RuntimeError(f"ours kept {kept:,} of {flows:,} flows, and says that it lost {lost[:5]}")

    def bytes_on_disk(self) -> int:
        return on_disk(self.flows)

    # What it answers

    def _ever(self) -> dict[str, int]:
        return {"since_ms": int(self._began_s * 1000), "until_ms": int(time.time() * 1000)}

    def search_client(self, address: str) -> int:
        """As a page asks, by the worker that is there from the question before. Flows found."""
        asked = {"ask": "search", "filter": f"host {address}"} | self._ever()
        return sum(len(piece.get("rows", ())) for piece in worker.ask(self.config, asked) if isinstance(piece, dict))

    def top(self, statistic: str) -> list[tuple[str, int]]:
        """(value, octets) of the ten that moved most, as the statistics have them."""
        by = {"dstport": "service", "srcip": "client"}[statistic]
        with Catalog(self.flows / CATALOG) as catalog:
            found = rollups.top(catalog, Range(**self._ever()), by)
        return [(rollups.label(by, total.key), total.bytes) for total in found if total.key]

    def export(self, count: int, to: Path, columns: str = "") -> None:
        """The whole command, its start included."""
        begin = f"{datetime.fromtimestamp(self._began_s, UTC):%Y-%m-%dT%H:%M}Z"
        words = ["flows", "search", "--from", begin, "--csv", "--columns", columns, "--limit", str(count)]
        with to.open("wb") as file:
            command(self.file, *words, stdout=file)


def _compact_all(flows: Path) -> None:
    now_ms = int(time.time() * 1000) + 2 * 86_400_000
    with Sealer(flows) as sealer:
        while upkeep.compact(sealer, now_ms):
            pass
        keeping.take_away_files(sealer.catalog, sealer.segments, now_ms, at_once=True)


if __name__ == "__main__":
    _compact_all(Path(sys.argv[1]))
