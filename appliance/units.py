"""Durations and data volumes as people write them, and back."""

import re

from appliance.errors import UserError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_MAX = 2**53


def parse_duration(text: str) -> int:
    """Seconds of `90s`, `1h30m`, `2d`; at least one second."""
    parts = re.findall(r"(\d+)([smhdw])", text)
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < seconds < _MAX:
        raise UserError(f"{text!r} is not a duration: write 90s, 45m, 2h, 1h30m, 7d or 4w")
    return seconds


def format_duration(seconds: int) -> str:
    """The shortest spelling that `parse_duration` reads back."""
    text = ""
    for unit in ("d", "h", "m", "s"):
        number, seconds = divmod(seconds, _SECONDS[unit])
        text += f"{number}{unit}" if number else ""
    return text or "0s"


def format_ago(seconds: int) -> str:
    """Roughly, by the largest unit: `3m ago`."""
    for unit in ("w", "d", "h", "m"):
        if seconds >= _SECONDS[unit]:
            return f"{seconds // _SECONDS[unit]}{unit} ago"
    return f"{max(0, seconds)}s ago"


def parse_bytes(text: str) -> int:
    """Bytes of `500M`, `10G` (powers of ten, as data is sold); at least one byte."""
    match = re.fullmatch(r"(\d+)([kMGT]?)B?", text)
    if not match or not 0 < int(match[1]) * _BYTES[match[2]] < _MAX:
        raise UserError(f"{text!r} is no amount of data: write 500M, 10G or 1T")
    return int(match[1]) * _BYTES[match[2]]


def format_bytes(number: int) -> str:
    """Exact where it can be said shortly, else rounded to one decimal: `10G`, `1.5G`."""
    for suffix in ("T", "G", "M", "k"):
        if number >= _BYTES[suffix]:
            return f"{number / _BYTES[suffix]:.1f}".removesuffix(".0") + suffix
    return str(number)
