"""Days, weeks and months of the site's calendar."""

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

PERIODS = ("day", "week", "month", "total")
QUARTER_S = 900  # in no zone does a day begin within a quarter of an hour


def local_day(at: int, zone: ZoneInfo) -> int:
    """The day of the site's calendar as YYYYMMDD."""
    return _number(datetime.fromtimestamp(at, zone))


def period_start(period: str, now: int, zone: ZoneInfo) -> int:
    """First day (YYYYMMDD) of the day, week (from Monday), month or total that `now` lies in."""
    return 0 if period == "total" else _number(_first(period, datetime.fromtimestamp(now, zone).date()))


def next_period_at(period: str, now: int, zone: ZoneInfo) -> int | None:
    """When the next day, week or month begins (UTC seconds); None for the total, which never does."""
    return None if period == "total" else _next_at(period, now // QUARTER_S, zone)


@lru_cache(maxsize=64)
def _next_at(period: str, quarter: int, zone: ZoneInfo) -> int:
    day = datetime.fromtimestamp(quarter * QUARTER_S, zone).date()
    length = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=31)}[period]
    following = _first(period, _first(period, day) + length)
    return int(datetime(following.year, following.month, following.day, tzinfo=zone).timestamp())


def _first(period: str, day: date) -> date:
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day
