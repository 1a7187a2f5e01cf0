"""Debian's nfcapd and nfdump, fed with the same datagrams and asked the same questions."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import Usage, cpu_s, usage_of

COMPRESSIONS = {"lz4": "-y", "bz2": "-j"}
BUFFER_BYTES = 64 * 2**20  # half a minute of what is sent, for where it doesn't get its core
_SHIM = Path(__file__).with_name("large_buffer.c")
_FLOWS = re.compile(r"^Flows: (\d+)$", re.MULTILINE)
_LOST = re.compile(r"^Sequence failures: (\d+)$", re.MULTILINE)


class Collector:
    """One nfcapd, which writes files of five minutes, as it does of itself."""

    def __init__(self, compression: str, folder: Path, port: int, preloaded: Path) -> None:
        self.name, self.folder, self.port = compression, folder, port
        self.sequence = 0
        words = ["nfcapd", COMPRESSIONS[compression], "-b", "127.0.0.1", "-p", str(port), "-B", str(BUFFER_BYTES)]
        self._process = subprocess.Popen(
            [*words, "-w", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LD_PRELOAD": str(preloaded)},
        )
        time.sleep(0.5)
        if self._process.poll() is not None:
            raise RuntimeError(f"nfcapd {compression} didn't start")

    def usage(self) -> Usage:
        return usage_of([self._process.pid])

    def settle(self) -> None:
        """Until nothing is left in its socket."""
        before = -1.0
        while (now := cpu_s(self._process.pid)) != before:
            before = now
            time.sleep(0.5)

    def stop(self) -> None:
        """It writes its last block and gives the file its name."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def bytes_on_disk(self) -> int:
        return sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())

    def check(self, flows: int) -> None:
        """Raises RuntimeError: a comparison with one that lost half would be none."""
        text = _output("-R", str(self.folder), "-I")
        found, lost = (int(pattern.search(text)[1]) for pattern in (_FLOWS, _LOST))  # type: ignore[index]
        if (found, lost) != (flows, 0):
            raise RuntimeError(f"nfcapd {self.name} kept {found:,} of {flows:,} flows, {lost} sequence failures")

    def search_client(self, address: str) -> int:
        """Both ways of what a client did, its way back told by the address after NAT. Lines found."""
        text = _output("-R", str(self.folder), "-q", "-o", "csv", f"ip {address} or nip {address}")
        return len(text.splitlines())

    def top(self, statistic: str) -> list[tuple[str, int]]:
        """(value, octets) of the ten that moved most."""
        text = _output("-R", str(self.folder), "-q", "-N", "-o", "csv", "-n", "10", "-s", f"{statistic}/bytes")
        rows = [line.split(",") for line in text.splitlines()]
        head = rows.index(next(row for row in rows if row[:1] == ["ts"]))
        return [(row[4], int(row[9])) for row in rows[head + 1 :] if len(row) > 9]

    def export(self, count: int, to: Path, columns: str = "") -> None:
        """All columns that it has."""
        with to.open("wb") as file:
            subprocess.run(
                ["nfdump", "-R", str(self.folder), "-q", "-o", "csv", "-c", str(count)], stdout=file, check=True
            )


@contextmanager
def collectors(folder: Path, first_port: int) -> Iterator[list[Collector]]:
    found: list[Collector] = []
    shim = folder / "large_buffer.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, _SHIM, "-ldl"], check=True)
    try:
        for number, name in enumerate(COMPRESSIONS):
            (folder / name).mkdir()
            found.append(Collector(name, folder / name, first_port + number, shim))
        yield found
    finally:
        for collector in found:
            collector.stop()


def _output(*words: str) -> str:
    done = subprocess.run(["nfdump", *words], capture_output=True, text=True, env=os.environ | {"TZ": "UTC"})
    if done.returncode:
        raise RuntimeError(f"nfdump {' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
