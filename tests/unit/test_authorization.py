from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from appliance.accounts.periods import next_period_at
from appliance.accounts.terms import Account
from rlm_python.authorization import Grant, Reject, authorize, changes_at

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


class TestRates:
    NIGHT = FREE._replace(windows="daily 00:00-24:00, daily 22:00-06:00 @50M/10M, Sa 21:00-23:00 @80M/5M")

    def at(self, day: int, hour: int) -> int:
        return int(datetime(2026, 11, day, hour, 0, tzinfo=ZONE).timestamp())

    @pytest.mark.parametrize(
        ("day", "hour", "rate", "rule"),
        [
            (23, 12, (20_000_000, 5_000_000), "plan"),
            (23, 23, (50_000_000, 10_000_000), "window"),
            (23, 5, (50_000_000, 10_000_000), "window"),
            (28, 22, (80_000_000, 5_000_000), "window"),
        ],
    )
    def test_a_window_has_its_own_speed(self, day: int, hour: int, rate: tuple[int, int], rule: str) -> None:
        grant = granted(self.NIGHT, self.at(day, hour))
        assert ((grant.rate.down_bps, grant.rate.up_bps), grant.rate_rule) == (rate, rule)
        assert grant.session_timeout_s is None

    @pytest.mark.parametrize(("day", "hour", "then"), [(23, 12, (23, 22)), (23, 23, (24, 6)), (28, 22, (28, 23))])
    def test_the_next_change_of_speed_is_known(self, day: int, hour: int, then: tuple[int, int]) -> None:
        assert changes_at(self.NIGHT, ZONE, self.at(day, hour)) == self.at(*then)

    def test_burst(self) -> None:
        rate = granted(FREE._replace(burst="10M/40M 4M/15M 8 3")).rate
        assert (rate.burst_down_bps, rate.threshold_up_bps, rate.burst_time_up_s, rate.priority) == (40e6, 4e6, 8, 3)

    def test_a_used_up_quota_slows_down(self) -> None:
        slow = FREE._replace(quota_bytes=100, quota_period="day", slow_down_bps=10**6, slow_up_bps=5 * 10**5)
        before, after = granted(slow._replace(used_bytes=99)), granted(slow._replace(used_bytes=100))
        assert (before.rate.down_bps, before.quota_left_bytes) == (20_000_000, 1)
        assert (after.rate.down_bps, after.quota_left_bytes, after.rate_rule) == (10**6, None, "quota")
        assert changes_at(slow, ZONE, NOON) == self.at(24, 0)


@pytest.mark.parametrize(
    ("limits", "rule", "until"),
    [
        ({"enabled": False}, "blocked", None),
        ({"valid_until": NOON}, "date", None),
        ({"validity_s": 5, "first_login_at": 0}, "validity", None),
        ({"windows": "daily 13:00-14:00"}, "window", NOON + HOUR),
        ({"quota_bytes": 1, "quota_period": "day", "used_bytes": 1}, "quota", NOON + 12 * HOUR),
        ({"quota_bytes": 1, "used_bytes": 1}, "quota", None),
        ({"simultaneous": 1, "other_sessions": 1}, "simultaneous", None),
        ({"unused_until": NOON}, "unused voucher", None),
    ],
)
def test_a_refusal_names_its_rule_and_when_it_ends(limits: dict[str, Any], rule: str, until: int | None) -> None:
    verdict = authorize(FREE._replace(**limits), ZONE, NOON)
    assert isinstance(verdict, Reject)
    assert (verdict.rule, verdict.until) == (rule, until)


def test_a_used_voucher_may_be_used_on() -> None:
    assert granted(FREE._replace(unused_until=NOON, first_login_at=NOON - DAY))
    assert granted(FREE._replace(unused_until=NOON + 1))


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ({"session_timeout_s": HOUR}, "session"),
        ({"windows": "daily 08:00-13:00", "session_timeout_s": DAY}, "window"),
        ({"validity_s": 60, "session_timeout_s": DAY}, "validity"),
        ({"validity_s": 60, "valid_until": NOON + 5}, "date"),
    ],
)
def test_what_ends_a_session_is_named(limits: dict[str, Any], rule: str) -> None:
    assert granted(FREE._replace(**limits)).end_rule == rule


@pytest.mark.parametrize("month", [3, 10])
def test_periods_begin_at_midnight_through_both_clock_changes(month: int) -> None:
    """In spring and autumn 2026 the clocks change on Sunday the 29th and the 25th."""
    day = 29 if month == 3 else 25
    noon = int(datetime(2026, month, day, 12, tzinfo=ZONE).timestamp())
    assert next_period_at("day", noon, ZONE) == int(datetime(2026, month, day + 1, tzinfo=ZONE).timestamp())
    assert next_period_at("week", noon - DAY, ZONE) == int(datetime(2026, month, day + 1, tzinfo=ZONE).timestamp())
    assert next_period_at("month", noon, ZONE) == int(datetime(2026, month + 1, 1, tzinfo=ZONE).timestamp())
    assert next_period_at("total", noon, ZONE) is None
