"""The one decision: may this account be online now, and how. Pure: an account and the time in, a verdict out."""

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from appliance.accounts.terms import Account
from rlm_python import time_windows
from rlm_python.speed_limits import RateLimit


class Grant(NamedTuple):
    """What the NAS is told. None is no limit; `pool_id` asks for an address once the password was right."""

    rate: RateLimit
    session_timeout_s: int | None
    quota_left_bytes: int | None
    address: str | None
    pool_id: int | None


class Reject(NamedTuple):
    """A sentence that the guest reads, so it says what they can do."""

    message: str


def authorize(account: Account, zone: ZoneInfo, now: int) -> Grant | Reject:
    """`now` is UTC seconds, `zone` the site's time zone. The session ends at the nearest edge of any limit."""
    if not account.enabled:
        return Reject("This account is blocked. Please ask the operator.")
    expires_at = _expires_at(account, now)
    if expires_at is not None and expires_at <= now:
        return Reject(f"This account expired on {_local(expires_at, zone)}.")
    windows = time_windows.parse(account.windows)
    if not time_windows.is_open(windows, zone, now):
        return Reject(f"Your plan allows {time_windows.describe(windows, zone, now)}.")
    quota_left = None if account.quota_bytes is None else account.quota_bytes - account.used_bytes
    if quota_left is not None and quota_left <= 0:
        return Reject(_quota_message(account.quota_period))
    if account.simultaneous is not None and account.other_sessions >= account.simultaneous:
        return Reject(_devices_message(account.simultaneous))
    closes_at = time_windows.closes_at(windows, zone, now) if windows else None
    return Grant(
        _rate(account.rate_up_bps, account.rate_down_bps),
        _nearest(account.session_timeout_s, closes_at, expires_at, now),
        quota_left,
        account.address,
        account.pool_id,
    )


def _expires_at(account: Account, now: int) -> int | None:
    """The earlier of the fixed date and the validity, which starts to run with the first login."""
    if account.validity_s is None:
        return account.valid_until
    runs_out = (now if account.first_login_at is None else account.first_login_at) + account.validity_s
    return runs_out if account.valid_until is None else min(runs_out, account.valid_until)


def _nearest(timeout_s: int | None, closes_at: int | None, expires_at: int | None, now: int) -> int | None:
    if closes_at is not None and (timeout_s is None or closes_at - now < timeout_s):
        timeout_s = closes_at - now
    if expires_at is not None and (timeout_s is None or expires_at - now < timeout_s):
        timeout_s = expires_at - now
    return timeout_s


@lru_cache(maxsize=1024)
def _rate(up_bps: int, down_bps: int) -> RateLimit:
    return RateLimit(up_bps=up_bps, down_bps=down_bps)


def _quota_message(period: str) -> str:
    again = {
        "day": " It starts anew tomorrow.",
        "week": " It starts anew on Monday.",
        "month": " It starts anew on the 1st.",
    }
    return "Your data allowance is used up." + again.get(period, "")


def _devices_message(limit: int) -> str:
    if limit == 1:
        return "This account is online on another device. Please log out there first."
    return f"This account is online on {limit} other devices. Please log out on one of them first."


def _local(at: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d at %H:%M")
