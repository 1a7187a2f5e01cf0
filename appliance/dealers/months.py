"""Months of the site's calendar, half-open: the next one begins where this one ends, whatever the clock does."""

import re
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from appliance.errors import UserError


class Period(NamedTuple):
    """`name` is such as `2026-10`; `since` .. `until` in UTC seconds, without `until` itself."""

    name: str
    since: int
    until: int


def period(name: str, zone: ZoneInfo) -> Period:
    """Raises UserError for what is no month."""
    match = re.fullmatch(r"(20[0-9]{2})-(0[1-9]|1[0-2])", name)
    if not match:
        raise UserError(f"{name!r} is no month: write it as 2026-10")
    first = date(int(match[1]), int(match[2]), 1)
    return Period(name, midnight(first, zone), midnight(_next(first), zone))


def of(at: int, zone: ZoneInfo) -> Period:
    """The month that a time lies in."""
    return period(f"{datetime.fromtimestamp(at, zone):%Y-%m}", zone)


def before(at: int, zone: ZoneInfo) -> Period:
    """The last month that is over."""
    return of(of(at, zone).since - 1, zone)


def day(at: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(at, zone).date()


def _next(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


def midnight(day: date, zone: ZoneInfo) -> int:
    """When that day begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
