"""The one decision: may this account be online now, and how. Pure: an account and the time in, a verdict out."""

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from appliance.accounts.periods import next_period_at
from appliance.accounts.terms import Account
from rlm_python import time_windows
from rlm_python.speed_limits import RateLimit, format_bits_per_second, parse_rate_limit
from rlm_python.time_windows import Window


class Grant(NamedTuple):
    """What the NAS is told. None is no limit; `pool_id` asks for an address once the password was right.

    `slows` says that the end of the quota changes the speed and cuts nobody. `rate_rule` and `end_rule` name the
    rules that gave the speed and the end.
    """

    rate: RateLimit
    session_timeout_s: int | None
    quota_left_bytes: int | None
    address: str | None
    pool_id: int | None
    idle_timeout_s: int | None = None
    slows: bool = False
    router_pool: str = ""
    filter_id: str = ""
    vlan: int | None = None
    attributes: str = ""
    rate_rule: str = "plan"
    end_rule: str = ""


class Reject(NamedTuple):
    """A sentence that the guest reads, so it says what they can do; `until` (UTC seconds) is when that may change."""

    message: str
    rule: str = ""
    until: int | None = None


End = tuple[int, str]  # UTC seconds, and the rule


def authorize(account: Account, zone: ZoneInfo, now: int) -> Grant | Reject:
    """`now` is UTC seconds, `zone` the site's time zone. The session ends at the nearest edge of any limit."""
    if not account.enabled:
        return Reject("This account is blocked. Please ask the operator.", "blocked")
    if refusal := _unused_for_too_long(account, zone, now):
        return refusal
    expiry = _expiry(account, now)
    if expiry is not None and expiry[0] <= now:
        return Reject(f"This account expired on {_local(expiry[0], zone)}.", expiry[1])
    windows = time_windows.parse(account.windows)
    if not time_windows.is_open(windows, zone, now):
        opens_at = time_windows.opens_at(windows, zone, now)
        return Reject(f"Your plan allows {time_windows.describe(windows, zone, now)}.", "window", opens_at)
    quota_left = None if account.quota_bytes is None else account.quota_bytes - account.used_bytes
    slows = bool(account.slow_down_bps or account.slow_up_bps)
    if quota_left is not None and quota_left <= 0 and not slows:
        again_at = next_period_at(account.quota_period, now, zone)
        return Reject(_quota_message(account.quota_period), "quota", again_at)
    if account.simultaneous is not None and account.other_sessions >= account.simultaneous:
        return Reject(devices_message(account.simultaneous), "simultaneous")
    return _grant(account, windows, quota_left, expiry, zone, now)


def _grant(
    account: Account, windows: tuple[Window, ...], quota_left: int | None, expiry: End | None, zone: ZoneInfo, now: int
) -> Grant:
    slowed = quota_left is not None and quota_left <= 0
    rate, rate_rule = _slow_rate(account) if slowed else _rate(account, windows, zone, now)
    timeout_s, end_rule = _end(account, windows, expiry, zone, now)
    return Grant(
        rate,
        timeout_s,
        None if slowed else quota_left,
        account.address,
        account.pool_id,
        account.idle_timeout_s,
        bool(account.slow_down_bps or account.slow_up_bps),
        account.router_pool,
        account.filter_id,
        account.vlan,
        account.attributes,
        rate_rule,
        end_rule,
    )


def _unused_for_too_long(account: Account, zone: ZoneInfo, now: int) -> Reject | None:
    until = account.unused_until
    if until is None or until > now or account.first_login_at is not None:
        return None
    return Reject(f"This voucher had to be used before {_local(until, zone)}.", "unused voucher")


def _expiry(account: Account, now: int) -> End | None:
    """The earlier of the fixed date and the validity, which starts to run with the first login."""
    if account.validity_s is None:
        return None if account.valid_until is None else (account.valid_until, "date")
    runs_out = (now if account.first_login_at is None else account.first_login_at) + account.validity_s
    if account.valid_until is not None and account.valid_until < runs_out:
        return account.valid_until, "date"
    return runs_out, "validity"


def _end(
    account: Account, windows: tuple[Window, ...], expiry: End | None, zone: ZoneInfo, now: int
) -> tuple[int | None, str]:
    """Seconds until the nearest edge, and which limit that is."""
    timeout_s, rule = account.session_timeout_s, "" if account.session_timeout_s is None else "session"
    closes_at = time_windows.closes_at(windows, zone, now) if windows else None
    if closes_at is not None and (timeout_s is None or closes_at - now < timeout_s):
        timeout_s, rule = closes_at - now, "window"
    if expiry is not None and (timeout_s is None or expiry[0] - now < timeout_s):
        timeout_s, rule = expiry[0] - now, expiry[1]
    return timeout_s, rule


def _rate(account: Account, windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> tuple[RateLimit, str]:
    own = time_windows.speed(windows, zone, now) if windows else None
    if own is not None:
        return _plain_rate(own[1], own[0]), "window"
    return with_burst(account.rate_up_bps, account.rate_down_bps, account.burst), "plan"


def _slow_rate(account: Account) -> tuple[RateLimit, str]:
    return _plain_rate(account.slow_up_bps, account.slow_down_bps), "quota"


@lru_cache(maxsize=1024)
def _plain_rate(up_bps: int, down_bps: int) -> RateLimit:
    return RateLimit(up_bps=up_bps, down_bps=down_bps)


@lru_cache(maxsize=1024)
def with_burst(up_bps: int, down_bps: int, burst: str) -> RateLimit:
    """A plan's whole speed; `burst` is what follows the rate in a Mikrotik-Rate-Limit. Raises UserError."""
    if not burst:
        return RateLimit(up_bps=up_bps, down_bps=down_bps)
    return parse_rate_limit(f"{format_bits_per_second(up_bps)}/{format_bits_per_second(down_bps)} {burst}")


def changes_at(account: Account, zone: ZoneInfo, now: int) -> int | None:
    """When the rules will say another speed or another quota (UTC seconds), if the session lasts so long."""
    edge = time_windows.speed_changes_at(time_windows.parse(account.windows), zone, now) if account.windows else None
    period_at = next_period_at(account.quota_period, now, zone) if account.quota_bytes is not None else None
    return min((at for at in (edge, period_at) if at is not None), default=None)


def _quota_message(period: str) -> str:
    again = {
        "day": " It starts anew tomorrow.",
        "week": " It starts anew on Monday.",
        "month": " It starts anew on the 1st.",
    }
    return "Your data allowance is used up." + again.get(period, "")


def devices_message(limit: int) -> str:
    if limit == 1:
        return "This account is online on another device. Please log out there first."
    return f"This account is online on {limit} other devices. Please log out on one of them first."


def _local(at: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d at %H:%M")
