"""What a plan limits, as people write and read it; an account may have each of these limits for itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.accounts import attributes
from appliance.accounts.models import Pool
from appliance.accounts.periods import PERIODS
from appliance.errors import UserError
from appliance.units import format_bytes, format_duration, parse_bytes, parse_duration
from rlm_python import time_windows
from rlm_python.authorization import with_burst
from rlm_python.speed_limits import format_bits_per_second, parse_bits_per_second

NONE, PLAN = "none", "plan"  # no limit; for an account also: as its plan says
Columns = dict[str, Any]


@dataclass(frozen=True)
class Limit:
    """One option; `parse` and `none` give columns of a plan, `show` reads them and returns "" for no limit."""

    option: str
    metavar: str
    help: str
    parse: Callable[[str], Columns]
    none: Columns
    show: Callable[[Mapping[str, Any]], str]

    @property
    def key(self) -> str:
        return self.option.replace("-", "_")


def _simple(
    option: str, metavar: str, help_: str, column: str, parse: Callable[[str], Any], show: Any = str, none: Any = None
) -> Limit:
    def shown(columns: Mapping[str, Any]) -> str:
        return show(columns[column]) if columns[column] not in (None, "", none) else ""

    return Limit(option, metavar, help_, lambda text: {column: parse(text)}, {column: none}, shown)


def _number(low: int, high: int, what: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
            raise UserError(f"{text!r} is no number of {what}: write {low} to {high}, or none")
        return int(text)

    return parse


def _quota(text: str) -> Columns:
    data, _, period = text.partition("/")
    if period and period not in PERIODS:
        raise UserError(f"{period!r} is no period for a quota: write {', '.join(PERIODS)}")
    return {"quota_bytes": parse_bytes(data), "quota_period": period or "total"}


def _quota_shown(columns: Mapping[str, Any]) -> str:
    return f"{format_bytes(columns['quota_bytes'])}/{columns['quota_period']}" if columns["quota_bytes"] else ""


def _slow(text: str) -> Columns:
    down, slash, up = text.partition("/")
    rates = parse_bits_per_second(down), parse_bits_per_second(up if slash else down)
    if not all(rates):
        raise UserError(f"{text!r}: a slow speed of 0 would be no limit: write such as 1M/512k")
    return {"slow_down_bps": rates[0], "slow_up_bps": rates[1]}


def _slow_shown(columns: Mapping[str, Any]) -> str:
    down, up = columns["slow_down_bps"], columns["slow_up_bps"]
    return f"{format_bits_per_second(down)}/{format_bits_per_second(up)}" if down or up else ""


def _swapped(text: str) -> str:
    """Mikrotik-Rate-Limit has the upload first, people have the download first."""
    return " ".join("/".join(reversed(word.split("/"))) for word in text.split())


def _pool(name: str) -> int:
    pool = Pool.get_or_none(Pool.name == name)
    if pool is None:
        raise UserError(f"there is no pool {name!r}: see `gatehouse pool list`")
    return int(pool.id)


def _attributes(text: str) -> str:
    return "\n".join(attributes.parse(line) for line in text.splitlines() if line.strip())


def _name(text: str) -> str:
    if not text.isprintable() or not 1 <= len(text.encode()) <= 63 or text != text.strip():
        raise UserError(f"{text!r} can't be a name on a router: use 1 to 63 printable characters")
    return text


LIMITS = (
    _simple("down", "BITS", "speed to the guest, such as 20M; 0: no limit", "rate_down_bps",
            parse_bits_per_second, format_bits_per_second, 0),
    _simple("up", "BITS", "speed from the guest; 0: no limit", "rate_up_bps",
            parse_bits_per_second, format_bits_per_second, 0),
    _simple("burst", "TEXT", 'DOWN/UP [threshold DOWN/UP [seconds [priority]]], such as "40M/10M 15M/4M 8"', "burst",
            _swapped, _swapped, ""),
    _simple("windows", "TEXT", 'when it is open: "Mo-Fr 08:00-20:00", with a speed "daily 22:00-06:00 @50M/10M"',
            "windows", lambda text: time_windows.format(time_windows.parse(text)), none=""),
    _simple("session-limit", "TIME", "longest session, such as 2h", "session_timeout_s",
            parse_duration, format_duration),
    _simple("idle", "TIME", "ends a session without traffic, such as 15m", "idle_timeout_s",
            parse_duration, format_duration),
    _simple("validity", "TIME", "how long from the first login, such as 30d", "validity_s",
            parse_duration, format_duration),
    Limit("quota", "DATA[/PERIOD]", "such as 10G/month (day, week, month, total)",
          _quota, {"quota_bytes": None, "quota_period": "total"}, _quota_shown),
    Limit("slow", "DOWN/UP", "speed once the quota is used up, such as 1M/512k; none: it cuts",
          _slow, {"slow_down_bps": 0, "slow_up_bps": 0}, _slow_shown),
    _simple("simultaneous", "N", "devices online at once", "simultaneous", _number(1, 10_000, "devices")),
    _simple("devices", "N", "devices that may log in by themselves; none: no device is remembered", "devices",
            _number(1, 1000, "devices"), none=0),
    _simple("pool", "NAME", "where its addresses are taken from; none: translated", "pool_id",
            _pool, lambda value: Pool.get_by_id(value).name),
    _simple("router-pool", "NAME", "a pool on the router itself (Framed-Pool)", "router_pool", _name, none=""),
    _simple("filter", "NAME", "a filter on the router (Filter-Id)", "filter_id", _name, none=""),
    _simple("vlan", "N", "VLAN for switches and access points", "vlan", _number(1, 4094, "a VLAN")),
    _simple("attributes", "LINES", 'further reply attributes, a line each: Mikrotik-Group = "kids"', "attributes",
            _attributes, none=""),
)  # fmt: skip


def values(given: Mapping[str, str | None]) -> Columns:
    """Columns from words by `Limit.key`; what wasn't given isn't there. Raises UserError for what can't be."""
    columns: Columns = {}
    for limit in LIMITS:
        text = given.get(limit.key)
        if text is not None:
            columns |= limit.none if text == NONE else limit.parse(text)
    return columns


def overrides(before: Mapping[str, Any], given: Mapping[str, str | None]) -> Columns:
    """An account's own limits: those it had, with what was given; `plan` takes one away."""
    columns = dict(before)
    for limit in LIMITS:
        if given.get(limit.key) == PLAN:
            columns = {name: value for name, value in columns.items() if name not in limit.none}
    return columns | values({key: text for key, text in given.items() if text != PLAN})


def check(columns: Mapping[str, Any]) -> None:
    """What only shows when all limits stand together; raises UserError."""
    with_burst(columns["rate_up_bps"], columns["rate_down_bps"], columns["burst"])
    if columns["slow_down_bps"] and columns["quota_bytes"] is None:
        raise UserError("a slow speed needs a quota that can be used up: give --quota too")


def shown(columns: Mapping[str, Any]) -> dict[str, str]:
    """By `Limit.key`, for people; "" for no limit."""
    return {limit.key: limit.show(columns) for limit in LIMITS}
