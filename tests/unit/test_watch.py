"""Routers that fall silent: no false alarm at a quiet night, one line each way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config
from appliance.accounts.closing import LOST
from appliance.accounts.models import Session
from appliance.nas.models import Nas
from appliance.nas.watch import QUIET_S, Router, Silence, Watch, routers, silent

SILENT_S = config.Radius(interim_interval_s=300).silent_s
NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("router", "missed"),
    [
        (Router("r", None, 0), False),
        (Router("r", None, 5), False),
        (Router("r", NOW - 900, 5), False),
        (Router("r", NOW - 901, 5), True),
        (Router("r", NOW - 901, 0), False),
        (Router("r", NOW - 8 * 3600, 0), False),  # a quiet night
        (Router("r", NOW - QUIET_S, 0), False),
        (Router("r", NOW - QUIET_S - 1, 0), True),
        (Router("r", NOW - 30 * QUIET_S, 0, quiet=True), False),
        (Router("r", NOW - 901, 1, quiet=True), True),
        (Router("r", NOW + 5000, 5), False),  # the clock was set back
    ],
)
def test_who_is_missed(router: Router, missed: bool) -> None:
    assert bool(silent([router], SILENT_S, NOW)) is missed


def test_who_may_be_silent_for_days_is_not_missed_after_one() -> None:
    assert silent([Router("r", NOW - QUIET_S - 1, 0)], 3 * QUIET_S, NOW) == {}


@given(st.integers(0, 10 * QUIET_S), st.integers(0, 3), st.integers(180, 3 * QUIET_S))
def test_who_is_missed_stays_missed_until_it_is_heard(age_s: int, sessions: int, silent_s: int) -> None:
    router = Router("r", NOW - age_s, sessions)
    if silent([router], silent_s, NOW):
        assert silent([router], silent_s, NOW + 1)
        assert not silent([router._replace(seen_at=NOW)], silent_s, NOW)


def test_one_line_when_it_falls_silent_and_one_when_it_is_back() -> None:
    watch = Watch(SILENT_S)
    heard = Router("attic", NOW, 12)
    assert watch.compare([heard], NOW + 900) == []
    assert watch.compare([heard], NOW + 960) == ["router attic is silent: not heard for 16m with 12 sessions open"]
    assert watch.compare([heard], NOW + 1020) == []
    assert watch.compare([heard._replace(open_sessions=0)], NOW + 1080) == [], "its sessions were closed as lost"
    assert watch.compare([Router("attic", NOW + 1200, 0)], NOW + 1201) == ["router attic is back after 20m"]
    assert watch.compare([Router("attic", NOW + 1200, 0)], NOW + 2400) == []


def test_heard_and_silent_again_between_two_looks_are_two_lines() -> None:
    watch = Watch(SILENT_S)
    watch.compare([Router("attic", NOW, 1)], NOW + 1000)
    assert watch.compare([Router("attic", NOW + 1100, 1)], NOW + 9000) == [
        "router attic is back after 18m20s",
        "router attic is silent: not heard for 2h11m40s with 1 sessions open",
    ]


def test_a_router_that_is_removed_is_forgotten() -> None:
    watch = Watch(SILENT_S)
    watch.compare([Router("attic", NOW, 1)], NOW + 1000)
    assert watch.compare([], NOW + 1001) == []
    assert len(watch.compare([Router("attic", NOW, 1)], NOW + 1002)) == 1


def _session(number: int, nas: str, updated_at: int, ended_at: int | None = None, cause: str | None = None) -> None:
    Session.create(
        unique_id=f"{nas}{number}",
        account="a",
        nas=nas,
        acct_session_id=str(number),
        mac="",
        started_at=updated_at - 5000,
        updated_at=updated_at,
        ended_at=ended_at,
        terminate_cause=cause,
    )


def test_sessions_that_were_open_when_it_was_last_heard(core: str) -> None:
    for name, address, kind in (("attic", "192.0.2.7", "mikrotik"), ("gateway", "127.0.0.1", "gateway")):
        Nas.create(name=name, address=address, kind=kind, secret=b"", seen_at=NOW)
    Nas.create(name="new", address="192.0.2.8", secret=b"")
    _session(1, "attic", NOW)
    _session(2, "attic", NOW - 200, ended_at=NOW + 900, cause=LOST)
    _session(3, "attic", NOW - 100, ended_at=NOW - 100, cause="User-Request")
    _session(4, "attic", NOW - 5000)
    _session(5, "new", NOW)
    assert routers(SILENT_S) == [
        Router("attic", NOW, 2),
        Router("gateway", NOW, 0, quiet=True),
        Router("new", None, 0),
    ]
    assert silent(routers(SILENT_S), SILENT_S, NOW + 901) == {"attic": Silence(NOW, 2)}
    assert Watch(SILENT_S).look(NOW + 901)[0].startswith("router attic is silent")
