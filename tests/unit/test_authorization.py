from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from appliance.accounts.terms import Account
from rlm_python.authorization import Grant, Reject, authorize

ZONE = ZoneInfo("Europe/Prague")
NOON = int(datetime(2026, 11, 23, 12, 0, tzinfo=ZONE).timestamp())  # a Monday
HOUR = 3600
DAY = 86_400

FREE = Account(
    id=1,
    name="bob",
    password=b"",
    enabled=True,
    address=None,
    valid_until=None,
    first_login_at=None,
    plan="home",
    rate_down_bps=20_000_000,
    rate_up_bps=5_000_000,
    windows="",
    session_timeout_s=None,
    validity_s=None,
    quota_bytes=None,
    quota_period="total",
    simultaneous=None,
    pool_id=None,
)


def granted(account: Account, now: int = NOON) -> Grant:
    verdict = authorize(account, ZONE, now)
    assert isinstance(verdict, Grant), verdict
    return verdict


def refused(account: Account, now: int = NOON) -> str:
    verdict = authorize(account, ZONE, now)
    assert isinstance(verdict, Reject), verdict
    return verdict.message


def test_without_limits() -> None:
    grant = granted(FREE)
    assert (grant.rate.down_bps, grant.rate.up_bps) == (20_000_000, 5_000_000)
    assert (grant.session_timeout_s, grant.quota_left_bytes, grant.address, grant.pool_id) == (None, None, None, None)


def test_blocked() -> None:
    assert "blocked" in refused(FREE._replace(enabled=False))


def test_window_says_the_hours() -> None:
    office = FREE._replace(windows="Mo-Fr 08:00-20:00")
    assert granted(office).session_timeout_s == 8 * HOUR
    assert refused(office, NOON - 5 * HOUR) == "Your plan allows 08:00–20:00."
    assert refused(office, NOON + 8 * HOUR) == "Your plan allows Mo–Fr 08:00–20:00."


def test_the_last_second_of_a_window_is_inside_and_the_edge_is_not() -> None:
    office = FREE._replace(windows="Mo 08:00-12:00")
    assert granted(office, NOON - 1).session_timeout_s == 1
    assert refused(office, NOON)


@pytest.mark.parametrize(
    ("limits", "timeout"),
    [
        ({"session_timeout_s": HOUR}, HOUR),
        ({"session_timeout_s": HOUR, "windows": "daily 08:00-12:30"}, HOUR // 2),
        ({"session_timeout_s": HOUR, "valid_until": NOON + 60}, 60),
        ({"validity_s": DAY}, DAY),
        ({"validity_s": DAY, "first_login_at": NOON - DAY + 5}, 5),
        ({"validity_s": DAY, "valid_until": NOON + 7}, 7),
        ({"validity_s": 9, "valid_until": NOON + DAY}, 9),
        ({"windows": "daily 00:00-24:00"}, None),
    ],
)
def test_the_nearest_edge_ends_the_session(limits: dict[str, Any], timeout: int | None) -> None:
    assert granted(FREE._replace(**limits)).session_timeout_s == timeout


def test_expired() -> None:
    assert refused(FREE._replace(valid_until=NOON)) == "This account expired on 2026-11-23 at 12:00."
    assert "expired" in refused(FREE._replace(validity_s=DAY, first_login_at=NOON - DAY))


@pytest.mark.parametrize(("used", "left"), [(0, 1000), (999, 1)])
def test_quota_left(used: int, left: int) -> None:
    assert granted(FREE._replace(quota_bytes=1000, used_bytes=used)).quota_left_bytes == left


@pytest.mark.parametrize(
    ("period", "hope"), [("day", "tomorrow"), ("week", "Monday"), ("month", "1st"), ("total", "used up.")]
)
def test_quota_used_up_says_when_it_starts_anew(period: str, hope: str) -> None:
    assert hope in refused(FREE._replace(quota_bytes=1000, quota_period=period, used_bytes=1000))


def test_devices() -> None:
    assert granted(FREE._replace(simultaneous=2, other_sessions=1))
    assert "another device" in refused(FREE._replace(simultaneous=1, other_sessions=1))
    assert "3 other devices" in refused(FREE._replace(simultaneous=3, other_sessions=5))


def test_addresses_pass_through() -> None:
    assert granted(FREE._replace(address="198.51.100.9", pool_id=3))[3:5] == ("198.51.100.9", 3)
