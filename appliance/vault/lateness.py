"""How often files come, learned from those that came, and when one is late; pure."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

FEWEST = 4  # uploads, before anything is expected
LOOKED_AT = 30
SHORTEST_S = 600
TOGETHER_S = 120  # uploads so close are one
_SPREAD = 0.25  # of the usual interval, that regular ones differ by
_OVER = 1.25
_DATES = re.compile(
    r"(?:\d{4}[-_.]\d{2}[-_.]\d{2}|(?:19|20)\d{6}(?!\d))"  # 2026-01-31, 20260131-0415
    r"(?:[T_ -]?\d{2}[-_.:h]?\d{2}(?:[-_.:m]?\d{2})?)?"
    r"|[a-z]{3}[-_]\d{2}[-_]\d{4}"  # jan-31-2026, as RouterOS 6 has it
    r"|\d{1,2}[-_.]\d{1,2}[-_.]\d{2,4}"
    r"|\d{5,}",
    re.IGNORECASE,
)


class Rhythm(NamedTuple):
    """Usually after `every_s`; late after `late_s`."""

    every_s: int
    late_s: int
    samples: int


def series(path: str) -> str:
    """What files have in common that are the same one of another day."""
    return _DATES.sub("#", path)


def by_series(uploads: Iterable[tuple[str, int]]) -> Mapping[str, list[int]]:
    """Times (UTC seconds) of each series, in order."""
    found: dict[str, list[int]] = {}
    for path, at in uploads:
        found.setdefault(series(path), []).append(at)
    return {name: sorted(times) for name, times in found.items()}


def rhythm(times: Sequence[int]) -> Rhythm | None:
    """None for what comes too seldom or as it likes. Nine in ten intervals are not late: a week without its weekend is
    regular too."""
    apart: list[int] = []
    for at in times:
        if not apart or at - apart[-1] > TOGETHER_S:
            apart.append(at)
    apart = apart[-LOOKED_AT:]
    if len(apart) < FEWEST:
        return None
    steps = sorted(later - at for at, later in itertools.pairwise(apart))
    usual = median(steps)
    if usual < SHORTEST_S or sum(abs(step - usual) <= usual * _SPREAD for step in steps) * 3 < len(steps) * 2:
        return None
    long = steps[int((len(steps) - 1) * 0.9)] if len(steps) >= 5 else usual
    return Rhythm(int(usual), late_after(int(max(usual, long))), len(apart))


def late_after(every_s: int) -> int:
    """With the time that a backup may take longer once."""
    return max(int(every_s * _OVER), every_s + SHORTEST_S)
