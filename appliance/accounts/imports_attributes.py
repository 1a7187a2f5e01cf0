"""RADIUS attributes, as other systems keep them for users and groups, to the columns of plans and accounts."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any
from zoneinfo import ZoneInfo

from appliance.accounts import attributes
from appliance.errors import UserError
from rlm_python import time_windows
from rlm_python.speed_limits import format_rate_limit, parse_bits_per_second, parse_rate_limit

PASSWORDS = ("cleartext-password", "user-password", "password")
# What we say ourselves, or what says nothing without its companion.
IGNORED = {
    "acct-interim-interval",
    "fall-through",
    "framed-compression",
    "framed-ip-netmask",
    "framed-mtu",
    "framed-protocol",
    "service-type",
    "tunnel-medium-type",
    "tunnel-type",
}
_MAX = 2**53


@dataclass
class Terms:
    """What the attributes of one user or group mean; `notes` are those that can't be taken over, and why."""

    plan: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)
    password: str | None = None
    hashed: str | None = None
    notes: list[str] = field(default_factory=list)


def take(terms: Terms, attribute: str, value: str, zone: ZoneInfo, reply: bool = False) -> None:
    """Adds one attribute to `terms`; one of a `reply` that has no meaning here is sent on as it is."""
    key = attribute.lower()
    if key in PASSWORDS:
        terms.password = value
    elif key.endswith("-password") or key == "password-with-header":
        terms.hashed = attribute
    elif key == "auth-type":
        _auth_type(terms, value)
    elif key not in IGNORED:
        try:
            _columns(terms, key, value, zone)
        except (ValueError, UserError):
            if not (reply and key not in _KNOWN and _sent_on(terms, attribute, value)):
                terms.notes.append(f"{attribute} can't be taken over")


def _sent_on(terms: Terms, attribute: str, value: str) -> bool:
    try:
        line = attributes.parse(f'{attribute} = "{value}"')
    except UserError:
        return False
    terms.plan["attributes"] = joined(terms.plan.get("attributes", ""), line)
    return True


def joined(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _auth_type(terms: Terms, value: str) -> None:
    if value.lower() == "reject":
        terms.account["enabled"] = False
    elif value.lower() == "accept":
        terms.notes.append("Auth-Type Accept (login with any password) can't be taken over")


def _columns(terms: Terms, key: str, value: str, zone: ZoneInfo) -> None:
    """Raises ValueError or UserError for what has no column here, or a value that can't be."""
    if key in _PLAN:
        terms.plan |= _PLAN[key](value)
    elif key in _QUOTA:
        period, factor = _QUOTA[key]
        terms.plan["quota_bytes"] = terms.plan.get("quota_bytes", 0) + _number(value) * factor
        terms.plan["quota_period"] = period
    elif key == "framed-ip-address":
        terms.account["address"] = str(IPv4Address(value))
    elif key in ("expiration", "wispr-session-terminate-time"):
        terms.account["valid_until"] = parse_date(value, zone)
    else:
        raise ValueError(key)


def _number(text: str, least: int = 0) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", text.strip()) or not least <= int(text) < _MAX:
        raise ValueError(text)
    return int(text)


def _one(column: str, factor: int = 1) -> Callable[[str], dict[str, Any]]:
    return lambda text: {column: _number(text, least=1) * factor}


def _speed(column: str, factor: int = 1) -> Callable[[str], dict[str, Any]]:
    return lambda text: {column: parse_bits_per_second(str(_number(text) * factor))}


def _word(column: str) -> Callable[[str], dict[str, Any]]:
    def column_of(text: str) -> dict[str, Any]:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", text):
            raise ValueError(text)
        return {column: text}

    return column_of


def rate_limit(text: str) -> dict[str, Any]:
    """Columns of a Mikrotik-Rate-Limit; raises UserError."""
    limit = parse_rate_limit(text)
    _, _, burst = format_rate_limit(limit).partition(" ")
    return {"rate_up_bps": limit.up_bps, "rate_down_bps": limit.down_bps, "burst": burst}


def _vlan(text: str) -> dict[str, Any]:
    if not 1 <= _number(text) <= 4094:
        raise ValueError(text)
    return {"vlan": int(text)}


_PLAN: dict[str, Callable[[str], dict[str, Any]]] = {
    "mikrotik-rate-limit": rate_limit,
    "wispr-bandwidth-max-down": _speed("rate_down_bps"),
    "wispr-bandwidth-max-up": _speed("rate_up_bps"),
    "chillispot-bandwidth-max-down": _speed("rate_down_bps", 1000),
    "chillispot-bandwidth-max-up": _speed("rate_up_bps", 1000),
    "simultaneous-use": _one("simultaneous"),
    "session-timeout": _one("session_timeout_s"),
    "idle-timeout": _one("idle_timeout_s"),
    "access-period": _one("validity_s"),
    "expire-after": _one("validity_s"),
    "framed-pool": _word("router_pool"),
    "filter-id": _word("filter_id"),
    "tunnel-private-group-id": _vlan,
    "login-time": lambda text: {"windows": login_time(text)},
}
_QUOTA = {
    "chillispot-max-total-octets": ("total", 1),
    "chillispot-max-total-gigawords": ("total", 2**32),
    "mikrotik-total-limit": ("total", 1),
    "mikrotik-total-limit-gigawords": ("total", 2**32),
    # names of counters that people give in sqlcounter, as its own examples have them
    "max-octets": ("total", 1),
    "max-all-octets": ("total", 1),
    "max-total-octets": ("total", 1),
    "max-daily-octets": ("day", 1),
    "max-daily-traffic": ("day", 1),
    "max-weekly-octets": ("week", 1),
    "max-monthly-octets": ("month", 1),
    "max-monthly-traffic": ("month", 1),
}

_KNOWN = {*_PLAN, *_QUOTA, "framed-ip-address", "expiration", "wispr-session-terminate-time"}

_DATES = ("%d %b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y", "%Y-%m-%d", "%d.%m.%Y")
_TIMES = ("", " %H:%M:%S", " %H:%M", "T%H:%M:%S", "T%H:%M:%S%z")


def parse_date(text: str, zone: ZoneInfo) -> int:
    """UTC seconds of a date as FreeRADIUS (`22 May 2008 10:18:33`), daloRADIUS and WISPr write it."""
    plain = " ".join(text.replace(",", " ").split())
    for form in (date + time for date in _DATES for time in _TIMES):
        try:
            at = datetime.strptime(plain, form)
        except ValueError:
            continue
        at = at if at.tzinfo else at.replace(tzinfo=zone)
        if at.year >= 1970:
            return int(at.timestamp())
    raise ValueError(text)


_DAY = "(?:mo|tu|we|th|fr|sa|su|wk|any|al)"
_UUCP = re.compile(rf"((?:{_DAY}(?:-{_DAY})?)+)(?:(\d\d)(\d\d)-(\d\d)(\d\d))?")
_UUCP_DAYS = {"wk": "mo-fr", "any": "mo-su", "al": "mo-su"}


def login_time(text: str) -> str:
    """Windows of a Login-Time such as `Wk0800-2000,Sa` (UUCP's format, as rlm_logintime reads it)."""
    pieces = []
    for piece in re.split(r"[,|]", text.lower().replace(" ", "")):
        match = _UUCP.fullmatch(piece)
        if not match:
            raise ValueError(text)
        days = "+".join(_UUCP_DAYS.get(day, day) for day in re.findall(f"{_DAY}(?:-{_DAY})?", match[1]))
        start, end = (f"{match[2]}:{match[3]}", f"{match[4]}:{match[5]}") if match[2] else ("00:00", "24:00")
        pieces.append(f"{days} {start}-{'24:00' if end == '23:59' else end}")
    return windows(", ".join(pieces))


def windows(text: str) -> str:
    """In our one spelling; what is always open is empty."""
    known = time_windows.format(time_windows.parse(text))
    return "" if known == "daily 00:00-24:00" else known
