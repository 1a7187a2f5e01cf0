"""Plans, times and addresses as people say and write them."""

from collections.abc import Sequence
from datetime import datetime
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from appliance.accounts.limits import NONE
from appliance.config import Config
from appliance.errors import UserError
from appliance.units import format_bytes, format_duration
from rlm_python import time_windows

_DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


def address(text: str) -> str | None:
    """None for nothing, and for `none`."""
    if text in ("", NONE):
        return None
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        raise UserError(f"{text!r} is no IPv4 address: write one such as 198.51.100.20, or none") from None


def local_time(text: str, config: Config) -> int | None:
    """UTC seconds of the site's wall clock."""
    if text in ("", NONE):
        return None
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=config.site.timezone).timestamp())
    except (ValueError, OverflowError):
        raise UserError(f"{text!r} is no time: write 2027-01-31 or 2027-01-31T18:00 (site's time), or none") from None


def week(windows: str) -> Sequence[tuple[str, tuple[bool, ...]]]:
    """By day, whether each of its hours is open at its beginning; empty where it always is."""
    if not windows:
        return ()
    parsed = time_windows.parse(windows)
    return [(name, tuple(_open(parsed, day, 60 * hour) for hour in range(24))) for day, name in enumerate(_DAYS)]


def _open(windows: tuple[time_windows.Window, ...], day: int, minute: int) -> bool:
    """Of the wall clock's week; the end of a night lies on the next day."""
    return any(
        (day in w.days and w.start <= minute < (w.end if w.end > w.start else 1440))
        or (w.end <= w.start and (day - 1) % 7 in w.days and minute < w.end)
        for w in windows
    )


def plan(row: Any) -> tuple[str, ...]:
    """Lines for a guest: speed, data, time."""
    lines = [_speed(row)]
    if row.quota_bytes:
        each = "" if row.quota_period == "total" else f" a {row.quota_period}"
        then = ", then slower" if row.slow_down_bps or row.slow_up_bps else ""
        lines.append(f"{_data(row.quota_bytes)}{each}{then}")
    if row.validity_s:
        lines.append(f"{_time(row.validity_s)} from the first login")
    if row.windows:
        lines.append(", ".join(piece.partition(" @")[0] for piece in row.windows.split(", ")))
    return tuple(line for line in lines if line)


def _speed(row: Any) -> str:
    def mbit(bps: int) -> str:
        return f"{bps / 10**6:.1f}".removesuffix(".0")

    down, up = row.rate_down_bps, row.rate_up_bps
    if down and up:
        return f"{mbit(down)} Mbit/s down, {mbit(up)} up"
    return f"{mbit(down)} Mbit/s down" if down else f"{mbit(up)} Mbit/s up" if up else ""


def _data(number: int) -> str:
    text = format_bytes(number)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} bytes"


def _time(seconds: int) -> str:
    for name, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            count = seconds // length
            return f"{count} {name}" + ("" if count == 1 else "s")
    return format_duration(seconds)
