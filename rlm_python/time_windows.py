"""When a plan is open: weekday and hour windows on the wall clock of the site.

A window is written as `Mo-Fr 08:00-20:00`; several are joined by commas. No window at all means always open.
`daily 22:00-06:00 @50M/10M` has a speed of its own (down/up); where such windows overlap, the fastest counts.

Daylight saving: hours are wall-clock hours. A time that the clock skips (spring) means the instant of the
jump. A time that comes twice (autumn) means the first one for a start and the last one for an end, so that
nobody's window is cut short. 24:00 is 00:00 of the next day.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from appliance.errors import UserError
from rlm_python.speed_limits import format_bits_per_second, parse_bits_per_second

DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY_MINUTES = 1440
DAY_S = 86400
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

# A weekly pattern shows an edge within 7 days, unless a clock change swallows it once: then within 14.
HORIZON_DAYS = 16
FASTEST = 2**62  # what no limit counts as

PIECE = re.compile(r"([a-z+-]+) ?([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})(?: ?@ ?([0-9a-z]+)/([0-9a-z]+))?")

Speed = tuple[int, int]  # down, up in bit/s; 0 is no limit


@dataclass(frozen=True, slots=True)
class Window:
    """`days` count from 0 = Monday, sorted and unique; `start` and `end` are minutes of the day.

    0 <= start < 1440 and 1 <= end <= 1440. An end that is not after the start lies on the next day.
    Without a `speed` the plan's own holds.
    """

    days: tuple[int, ...]
    start: int
    end: int
    speed: Speed | None = None


@lru_cache(maxsize=1024)
def parse(text: str) -> tuple[Window, ...]:
    """Normalised windows; raises UserError that names the piece which is wrong."""
    if not text.strip():
        return ()
    return _normalised(_parse_piece(piece.strip()) for piece in text.split(","))


def _parse_piece(piece: str) -> Window:
    tight = re.sub(r"\s*([-+:])\s*", r"\1", piece.replace("–", "-").lower())
    match = PIECE.fullmatch(re.sub(r"\s+", " ", tight))
    if not match:
        raise UserError(f"{piece!r} is not a time window: write days and hours, such as Mo-Fr 08:00-20:00")
    days, start_hour, start_minute, end_hour, end_minute, down, up = match.groups()
    start = _minutes(start_hour, start_minute, piece)
    if start == DAY_MINUTES:
        raise UserError(f"{piece!r}: a window cannot start at 24:00; write 00:00 of the next day")
    # 00:00 as an end is the midnight that closes the day: one spelling for one instant.
    end = _minutes(end_hour, end_minute, piece) or DAY_MINUTES
    speed = (parse_bits_per_second(down), parse_bits_per_second(up)) if down else None
    return Window(_parse_days(days, piece), start, end, speed)


def _minutes(hour: str, minute: str, piece: str) -> int:
    minutes = int(hour) * 60 + int(minute)
    if int(minute) > 59 or minutes > DAY_MINUTES:
        raise UserError(f"{piece!r}: there is no time {hour}:{minute}; write 00:00 to 24:00")
    return minutes


def _parse_days(text: str, piece: str) -> tuple[int, ...]:
    if text == "daily":
        return tuple(range(7))
    days: set[int] = set()
    for part in text.split("+"):
        first, dash, last = part.partition("-")
        start = _parse_day(first, piece)
        length = (_parse_day(last, piece) - start) % 7 if dash else 0
        days.update((start + step) % 7 for step in range(length + 1))
    return tuple(sorted(days))


def _parse_day(name: str, piece: str) -> int:
    for number, full in enumerate(DAY_NAMES):
        if name in (full[:2], full[:3], full):
            return number
    raise UserError(f"{piece!r}: there is no day {name!r}; write Mo, Tu, We, Th, Fr, Sa, Su or daily")


def _normalised(windows: Iterable[Window]) -> tuple[Window, ...]:
    """Windows with the same hours and speed become one; the week is read from its first day."""
    days: dict[tuple[int, int, Speed | None], set[int]] = {}
    for window in windows:
        days.setdefault((window.start, window.end, window.speed), set()).update(window.days)
    joined = [Window(tuple(sorted(days[hours])), *hours) for hours in days]
    return tuple(sorted(joined, key=lambda window: (window.days, window.start, window.end, window.speed or ())))


def format(windows: tuple[Window, ...]) -> str:
    """The one spelling of these windows; `parse` reads it back."""
    return ", ".join(f"{_format_open(window)}{_format_speed(window)}" for window in _normalised(windows))


def _format_open(window: Window) -> str:
    return f"{_format_days(window)} {_format_hours(window)}"


def _format_speed(window: Window) -> str:
    return " @" + "/".join(format_bits_per_second(bps) for bps in window.speed) if window.speed else ""


def _format_days(window: Window) -> str:
    if len(window.days) == 7:
        return "daily"
    firsts = [day for day in window.days if (day - 1) % 7 not in window.days]
    return "+".join(_format_run(first, window.days) for first in firsts)


def _format_run(first: int, days: tuple[int, ...]) -> str:
    last = first
    while (last + 1) % 7 in days:
        last = (last + 1) % 7
    names = [DAY_NAMES[day][:2].capitalize() for day in (first, last)]
    return names[0] if first == last else "-".join(names)


def _format_hours(window: Window) -> str:
    return "-".join(f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (window.start, window.end))


def is_open(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> bool:
    return bisect_right(_edges(windows, zone, now // DAY_S), now) % 2 == 1


def closes_at(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> int | None:
    """The first instant after `now` (UTC seconds) at which open turns to closed; None if there is none."""
    edges = _edges(windows, zone, now // DAY_S)
    closing = bisect_right(edges, now) | 1
    return edges[closing] if closing < len(edges) else None


def opens_at(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> int | None:
    """The first instant after `now` (UTC seconds) at which closed turns to open; None if there is none."""
    edges = _edges(windows, zone, now // DAY_S)
    following = bisect_right(edges, now)
    opening = following + following % 2
    return edges[opening] if opening < len(edges) else None


def speed(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> Speed | None:
    """The speed of the windows that are open now, None where none of them has one."""
    open_now = [rate for rate, its in _by_speed(windows) if is_open(its, zone, now)]
    return max(open_now, key=lambda rate: tuple(bps or FASTEST for bps in rate)) if open_now else None


def speed_changes_at(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> int | None:
    """The first instant after `now` (UTC seconds) at which `speed` says something else; None if there is none."""
    before = speed(windows, zone, now)
    edges = {edge for _, its in _by_speed(windows) for edge in _edges(its, zone, now // DAY_S) if edge > now}
    return next((edge for edge in sorted(edges) if speed(windows, zone, edge) != before), None)


@lru_cache(maxsize=1024)
def _by_speed(windows: tuple[Window, ...]) -> tuple[tuple[Speed, tuple[Window, ...]], ...]:
    rates = {window.speed for window in windows if window.speed}
    return tuple((rate, tuple(window for window in windows if window.speed == rate)) for rate in sorted(rates))


def describe(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> str:
    """What a refused guest reads: today's hours while the plan opens again today, otherwise the whole week.

    Hours alone, shown after the last closing of the day, would promise the same hours for tomorrow.
    """
    if not windows:
        return "always"
    opening = opens_at(windows, zone, now)
    today = datetime.fromtimestamp(now, zone).date()
    if opening is None or datetime.fromtimestamp(opening, zone).date() != today:
        shown = dict.fromkeys(_format_open(window) for window in _normalised(windows))
        return ", ".join(shown).replace("-", "–")
    hours = {_format_hours(window) for window in windows if today.weekday() in window.days}
    return ", ".join(sorted(hours)).replace("-", "–")


@lru_cache(maxsize=1024)
def _edges(windows: tuple[Window, ...], zone: ZoneInfo, utc_day: int) -> tuple[int, ...]:
    """Instants (UTC seconds) of opening, closing, opening … that matter to anyone who asks during `utc_day`.

    An instant is inside a window exactly when an odd number of edges is not after it.
    """
    if not windows:
        return (utc_day * DAY_S,)
    horizon = (utc_day + HORIZON_DAYS) * DAY_S
    merged = _merged(sorted(_intervals(windows, zone, utc_day)))
    return tuple(edge for interval in merged for edge in interval if edge <= horizon)


def _intervals(windows: tuple[Window, ...], zone: ZoneInfo, utc_day: int) -> Iterator[tuple[int, int]]:
    """Half-open [start, end) in UTC seconds; windows that a clock change leaves empty are left out."""
    # The local date may be a day before the UTC one, and its night began a day earlier still.
    for ordinal in range(utc_day - 2, utc_day + HORIZON_DAYS + 1):
        day = date.fromordinal(EPOCH_ORDINAL + ordinal)
        for window in windows:
            if day.weekday() in window.days:
                start, end = _interval(window, day, zone)
                if start < end:
                    yield start, end


def _interval(window: Window, day: date, zone: ZoneInfo) -> tuple[int, int]:
    midnight = datetime(day.year, day.month, day.day)
    last_minute = window.end if window.end > window.start else window.end + DAY_MINUTES
    first, _ = _occurrences(midnight + timedelta(minutes=window.start), zone)
    _, last = _occurrences(midnight + timedelta(minutes=last_minute), zone)
    return first, last


def _occurrences(wall: datetime, zone: ZoneInfo) -> tuple[int, int]:
    """First and last instant (UTC seconds) at which clocks show `wall`; twice the jump if they skip it."""
    first, last = (int(wall.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
    if first <= last:
        return first, last
    # PEP 495: in a gap the two readings change places, and the jump lies between them.
    jump = last + bisect_right(range(last, first), _offset(last, zone), key=lambda now: _offset(now, zone))
    return jump, jump


def _offset(now: int, zone: ZoneInfo) -> timedelta:
    return datetime.fromtimestamp(now, zone).utcoffset() or timedelta()


def _merged(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted intervals, joined where they touch or overlap: nobody is cut off between two windows."""
    merged = intervals[:1]
    for start, end in intervals[1:]:
        last_start, last_end = merged[-1]
        if start <= last_end:
            merged[-1] = (last_start, max(end, last_end))
        else:
            merged.append((start, end))
    return merged
