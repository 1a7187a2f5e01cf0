"""What processes cost, of /proc: their own time and that of the children they waited for, and their memory."""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    cpu_s: float
    rss_mb: float


def cpu_s(pid: int) -> float:
    """User and system, ended children included (proc(5), stat 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK_S


def rss_mb(pid: int) -> float:
    """What it has of its own and its part of what it shares, its children with it."""
    total = 0.0
    for one in (pid, *children(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) / 1024
    return total


def children(pid: int) -> list[int]:
    """Of all generations, that are there now."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for word in (task / "children").read_text(encoding="ascii").split():
                found += [int(word), *children(int(word))]
    return found


def usage_of(pids: Sequence[int]) -> Usage:
    """Living children's time is counted too."""
    everyone = [one for pid in pids for one in (pid, *children(pid))]
    return Usage(sum(map(cpu_s, everyone)), sum(map(rss_mb, pids)))


class Peak:
    """The most that something came to while it was looked at, several times a second."""

    def __init__(self, measure: Callable[[], float], every_s: float = 0.25) -> None:
        self.highest = 0.0
        self._measure, self._every_s = measure, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self.highest = max(self.highest, self._measure())
