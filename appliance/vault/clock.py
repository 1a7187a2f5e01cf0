"""The vault's own clock, by which retention and locks go: it can be moved by nobody.

It goes forward by what the kernel's boot clock counted between two looks (CLOCK_BOOTTIME), and stands still while
the machine is off. So a wall clock that is set, by mistake or by somebody who wants locks to end, ends none: what was
locked for 30 days is kept for 30 days that the machine has run. Events have the wall clock's time, but each a later
one than the event before.
"""

import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DAY_MS = 86_400_000


class Now(NamedTuple):
    at_ms: int
    age_ms: int


class Clock:
    """What the machine says; a test says something else."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def boot(self) -> str:
        return _boot_id()


@functools.cache
def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()


def advance(head: Any, clock: Clock) -> Now:
    """Moves the head's two clocks to now, in its transaction; `at_ms` is the time of an event that follows."""
    boot, boot_ms = clock.boot(), clock.boot_ms()
    if head.boot == boot:
        head.age_ms += max(0, boot_ms - head.boot_ms)
    head.boot, head.boot_ms = boot, boot_ms
    return Now(max(clock.wall_ms(), head.at_ms + 1), head.age_ms)
