"""Octets are counted once and none is lost, whatever happens to a session's packets on their way."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import db
from appliance.accounts import closing, manage
from appliance.accounts.login_writes import LoginWrites
from appliance.accounts.models import Account, AccountUsage, LoginSlot, Plan, Pool, PoolAddress, Session, core_db
from appliance.accounts.sessions import SessionRow, Sessions
from appliance.nas.models import Nas
from rlm_python import pairs
from rlm_python.accounting import Packet, merge, record

ZONE = ZoneInfo("Europe/Prague")
NOW = int(datetime.now(ZONE).replace(hour=12).timestamp())  # so that no day ends between what happens here
HOLD_S = 900
MAC = "aa:bb:cc:00:11:22"
GIGAWORD = 2**32
EMPTY = SessionRow(
    "u", 1, "bob", "attic", "1", MAC, None, None, NOW, NOW, None, None, 0, 0, 0, 0, 0, None, None, None, 0, None
)


def packet(status: str = "Interim-Update", session_s: int | None = 0, octets: int | None = 0, **more: object) -> Packet:
    """The event is at NOW + session_s; `octets` from the guest, ten times as many to the guest."""
    given = {
        "unique_id": "u",
        "session_id": "1",
        "account": "bob",
        "nas": "attic",
        "mac": MAC,
        "framed_ip": None,
        "host_ip": None,
        "at": NOW + (session_s or 0),
        "received_at": NOW,
        "input_octets": octets,
        "output_octets": None if octets is None else 10 * octets,
        "has_gigawords": True,
        "cause": "User-Request" if status == "Stop" else None,
        "granted_rate": None,
        "granted_until": None,
        "granted_octets": None,
    }
    return Packet(status=status, session_s=session_s, **(given | more))  # type: ignore[arg-type]


def counted(*packets: Packet) -> tuple[int, int]:
    row = EMPTY
    for each in packets:
        row = merge(row, each)
    return row.input_octets, row.output_octets


class TestDue:
    """The rules are asked again when enough was used, or when a lost session is back."""

    @pytest.mark.parametrize(("octets", "check_at"), [(99, 77), (100, 0)])
    def test_used(self, octets: int, check_at: int) -> None:
        row = EMPTY._replace(check_at=77, watch_octets=1100)
        assert merge(row, packet(session_s=60, octets=octets)).check_at == check_at

    def test_back(self) -> None:
        row = EMPTY._replace(check_at=77, ended_at=NOW, terminate_cause=closing.LOST)
        back = merge(row, packet(session_s=60))
        assert (back.ended_at, back.check_at) == (None, 0)


class TestCounting:
    def test_interim_before_start_and_start_after_stop(self) -> None:
        interim, start, stop = packet(session_s=60, octets=5), packet("Start"), packet("Stop", 90, 7)
        assert counted(interim, start) == (5, 50)
        assert counted(start, stop, start, interim) == (7, 70)

    def test_a_counter_that_began_anew_keeps_what_was_counted(self) -> None:
        assert counted(packet(session_s=60, octets=500), packet(session_s=120, octets=20)) == (520, 5200)

    def test_a_late_packet_from_before_the_reset_adds_nothing_that_may_be_counted(self) -> None:
        before, reset = packet(session_s=60, octets=500), packet(session_s=120, octets=20)
        overtaken = packet(session_s=30, octets=300)
        without_clock = overtaken._replace(at=NOW + 500)
        assert counted(before, reset, overtaken, without_clock, before, reset) == (520, 5200)
        assert counted(before, reset, before, packet(session_s=180, octets=30)) == (530, 5300)

    def test_lower_counters_that_are_later_by_the_clock_only_are_late(self) -> None:
        """A router that sends no Event-Timestamp: the packet counts as of when it came."""
        before, late = packet(session_s=120, octets=500), packet(session_s=60, octets=200, at=NOW + 999)
        assert counted(before, late) == (500, 5000)

    def test_gigawords_make_a_reset_of_what_would_be_a_wrap(self) -> None:
        high = packet(session_s=300, octets=0, output_octets=GIGAWORD - 1000)
        low = packet(session_s=600, octets=0, output_octets=500)
        assert counted(high, low)[1] == GIGAWORD - 1000 + 500

    @pytest.mark.parametrize(
        ("input_octets", "elapsed_s", "total"),
        [
            (11, 300, GIGAWORD + 500),  # the other counter went on: it wrapped
            (9, 300, GIGAWORD - 1000 + 500),  # both fell: the router began anew
            (11, 0, GIGAWORD - 1000),  # not later
        ],
    )
    def test_without_gigawords_it_wraps_where_that_can_be(self, input_octets: int, elapsed_s: int, total: int) -> None:
        high = packet(session_s=300, octets=10, output_octets=GIGAWORD - 1000, has_gigawords=False)
        low = high._replace(
            input_octets=input_octets, output_octets=500, session_s=300 + elapsed_s, at=NOW + 300 + elapsed_s
        )
        assert counted(high, low)[1] == total

    def test_more_than_the_line_carries_is_no_wrap(self) -> None:
        high = packet(session_s=300, octets=10, output_octets=3_000_000_000, has_gigawords=False)
        low = high._replace(output_octets=1_000_000, session_s=301, at=NOW + 301)
        assert counted(high, low)[1] == 3_001_000_000

    def test_a_packet_without_counters_changes_none(self) -> None:
        without = packet(session_s=120, octets=None)
        assert counted(packet(session_s=60, octets=5), without, packet(session_s=180, octets=6)) == (6, 60)

    def test_a_stop_without_session_time_counts(self) -> None:
        assert counted(packet(session_s=60, octets=5), packet("Stop", None, 9, at=NOW + 90)) == (9, 90)

    def test_totals_stay_below_what_the_database_holds(self) -> None:
        packets = [packet(session_s=n, octets=2**50 - 1 if n % 2 else 0) for n in range(1, 200)]
        assert max(counted(*packets)) <= 2**53


class TestEnds:
    def test_a_lost_session_that_reports_again_is_open(self) -> None:
        lost = merge(EMPTY, packet(session_s=60, octets=5))._replace(ended_at=NOW + 60, terminate_cause="Lost-Session")
        again = merge(lost, packet(session_s=5000, octets=8))
        assert (again.ended_at, again.terminate_cause, again.input_octets) == (None, None, 8)
        assert merge(lost, packet(session_s=60, octets=5)) == lost
        stopped = merge(lost, packet("Stop", 5000, 8))
        assert (stopped.ended_at, stopped.terminate_cause) == (NOW + 5000, "User-Request")

    @pytest.mark.parametrize("cause", ["NAS-Reboot", "User-Request"])
    def test_no_other_ended_session_opens_again(self, cause: str) -> None:
        ended = EMPTY._replace(ended_at=NOW, terminate_cause=cause)
        after = merge(ended, packet(session_s=60, octets=5))
        assert (after.ended_at, after.terminate_cause, after.input_octets) == (NOW, cause, 5)

    def test_a_stop_says_more_than_a_reboot(self) -> None:
        ended = EMPTY._replace(ended_at=NOW, terminate_cause="NAS-Reboot")
        assert merge(ended, packet("Stop", 9, 5, cause="Admin-Reset")).terminate_cause == "Admin-Reset"


@pytest.fixture
def bob(core: str) -> Account:
    Nas.create(name="attic", address="192.0.2.7", secret=b"sealed")
    Nas.create(name="cellar", address="192.0.2.8", secret=b"sealed")
    account: Account = Account.create(name="bob", plan=Plan.create(name="home"), password=b"sealed", created_at=NOW)
    return account


@pytest.fixture
def sessions(core: str) -> Iterator[Sessions]:
    database = db.connect(core)
    yield Sessions(database)
    database.close()


def run(sessions: Sessions, *packets: Packet) -> None:
    for each in packets:
        record(each, sessions, ZONE, HOLD_S)


def the_session() -> Session:
    session: Session = Session.get()
    return session


class Examples:
    """Session ids that no other example of a property has used."""

    count = 0

    @classmethod
    def next(cls) -> str:
        cls.count += 1
        return f"example-{cls.count}"


RISING = st.lists(st.tuples(st.integers(1, 600), st.integers(0, 5_000_000_000)), min_size=1, max_size=8)


class TestArrival:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(steps=RISING, data=st.data())
    def test_any_order_with_any_repeated_and_lost_ends_in_the_highest_that_came(
        self, bob: Account, sessions: Sessions, steps: Sequence[tuple[int, int]], data: st.DataObject
    ) -> None:
        unique_id = Examples.next()
        sent = [packet("Start", 0, 0, unique_id=unique_id)]
        for seconds, octets in steps:
            last = sent[-1]
            sent.append(
                packet(
                    session_s=(last.session_s or 0) + seconds,
                    octets=(last.input_octets or 0) + octets,
                    unique_id=unique_id,
                )
            )
        sent[-1] = sent[-1]._replace(status="Stop", cause="User-Request")
        came = data.draw(st.lists(st.sampled_from(sent), min_size=1, max_size=3 * len(sent)))
        used_before = sum(u.output_octets for u in AccountUsage.select())
        run(sessions, *came)
        session = Session.get(unique_id=unique_id)
        highest = max(p.input_octets or 0 for p in came)
        assert (session.input_octets, session.output_octets) == (highest, 10 * highest)
        assert session.session_s == max(p.session_s or 0 for p in came)
        assert (session.ended_at is not None) == (sent[-1] in came)
        assert sum(u.output_octets for u in AccountUsage.select()) - used_before == 10 * highest

    @settings(max_examples=60, deadline=None)
    @given(
        counters=st.lists(st.integers(0, 1000), min_size=1, max_size=10),
        data=st.data(),
    )
    def test_resets_in_order_count_all_and_out_of_order_never_too_much(
        self, counters: Sequence[int], data: st.DataObject
    ) -> None:
        sent = [packet(session_s=60 * n, octets=octets) for n, octets in enumerate(counters, 1)]
        true = sum(
            now - before if now >= before else now for before, now in zip([0, *counters], counters, strict=False)
        )
        assert counted(*sent)[0] == true
        came = data.draw(st.lists(st.sampled_from(sent), min_size=1, max_size=20))
        assert max(p.input_octets or 0 for p in came) <= counted(*came)[0] <= true


class TestRebootedRouter:
    def test_only_its_sessions_end_and_none_opens_again(self, bob: Account, sessions: Sessions) -> None:
        manage.add_pool("public", "198.51.100.16", "198.51.100.16")
        ip = LoginWrites(core_db.obj).reserve_address(Pool.get().id, bob.id, MAC, NOW, HOLD_S)
        here, there = packet(session_s=60, octets=5, framed_ip=ip), packet(unique_id="other", nas="cellar")
        run(sessions, here, there, packet("Accounting-On", at=NOW + 100), here, packet(session_s=90, octets=6))
        assert PoolAddress.get().held_until == NOW
        ended, running = Session.get(unique_id="u"), Session.get(unique_id="other")
        assert (ended.ended_at, ended.terminate_cause, ended.input_octets) == (NOW + 60, "NAS-Reboot", 6)
        assert running.ended_at is None

    def test_a_session_that_began_after_the_reboot_goes_on(self, bob: Account, sessions: Sessions) -> None:
        """Accounting-On was overtaken by the first Start."""
        run(sessions, packet("Start", at=NOW + 101), packet("Accounting-On", at=NOW + 100))
        assert the_session().ended_at is None

    def test_its_session_id_used_again_is_another_session(self, bob: Account, sessions: Sessions) -> None:
        first, second = (
            pairs.accounting_packet(REQUEST | {"Class": f"0x0{n}", "Acct-Input-Octets": str(octets)}, NOW)
            for n, octets in ((1, 700), (2, 30))
        )
        run(sessions, first, packet("Accounting-On", nas="attic", at=NOW + 1), second)
        assert sorted(s.input_octets for s in Session.select()) == [30, 700]
        assert AccountUsage.get().input_octets == 730


class TestLost:
    def test_silent_sessions_end_when_last_heard_of_and_free_their_address(
        self, bob: Account, sessions: Sessions
    ) -> None:
        manage.add_pool("public", "198.51.100.16", "198.51.100.16")
        pool_id = Pool.get().id
        ip = LoginWrites(core_db.obj).reserve_address(pool_id, bob.id, MAC, NOW, HOLD_S)
        run(sessions, packet(framed_ip=ip), packet(session_s=900, unique_id="alive"))
        assert closing.close_lost(core_db.obj, 900, NOW + 900) == 0
        assert closing.close_lost(core_db.obj, 900, NOW + 901) == 1
        lost = Session.get(unique_id="u")
        assert (lost.ended_at, lost.terminate_cause) == (NOW, "Lost-Session")
        assert Session.get(unique_id="alive").ended_at is None
        assert PoolAddress.get().held_until <= NOW + 901

    def test_the_address_of_a_later_login_stays(self, bob: Account, sessions: Sessions) -> None:
        manage.add_pool("public", "198.51.100.16", "198.51.100.16")
        writes, pool_id = LoginWrites(core_db.obj), Pool.get().id
        ip = writes.reserve_address(pool_id, bob.id, MAC, NOW, HOLD_S)
        run(sessions, packet(framed_ip=ip))
        writes.reserve_address(pool_id, bob.id, MAC, NOW + 800, HOLD_S)
        closing.close_lost(core_db.obj, 900, NOW + 901)
        assert PoolAddress.get().held_until == NOW + 800 + HOLD_S

    def test_many_take_several_pieces(self, bob: Account, sessions: Sessions) -> None:
        row = EMPTY._replace(account_id=bob.id, updated_at=NOW - 1000)
        with sessions.transaction():
            for n in range(450):
                sessions.save(row._replace(unique_id=f"lost-{n}"), None)
        assert closing.close_lost(core_db.obj, 900, NOW) == 450
        assert not Session.select().where(Session.ended_at.is_null()).exists()

    def test_reported_again_nothing_is_counted_twice(self, bob: Account, sessions: Sessions) -> None:
        run(sessions, packet(session_s=60, octets=5))
        closing.close_lost(core_db.obj, 900, NOW + 5000)
        run(sessions, packet(session_s=60, octets=5), packet(session_s=5000, octets=8))
        assert the_session().ended_at is None
        assert AccountUsage.get().input_octets == 8


class TestAddresses:
    @pytest.fixture
    def ip(self, bob: Account) -> str:
        manage.add_pool("public", "198.51.100.16", "198.51.100.16")
        return str(LoginWrites(core_db.obj).reserve_address(Pool.get().id, bob.id, MAC, NOW, HOLD_S))

    def test_a_late_stop_leaves_the_address_of_the_next_login(self, bob: Account, sessions: Sessions, ip: str) -> None:
        run(sessions, packet("Start", framed_ip=ip))
        again = LoginWrites(core_db.obj).reserve_address(Pool.get().id, bob.id, MAC, NOW + 60, HOLD_S)
        run(sessions, packet("Stop", 30, framed_ip=ip))
        assert again == ip
        assert PoolAddress.get().held_until == NOW + 60 + HOLD_S

    def test_a_repeated_stop_gives_nothing_back_again(self, bob: Account, sessions: Sessions, ip: str) -> None:
        run(sessions, packet("Stop", 30, framed_ip=ip))
        assert PoolAddress.get().held_until == NOW + 30
        run(sessions, packet("Start", framed_ip=ip, unique_id="next", at=NOW + 40))
        run(sessions, packet("Stop", 30, framed_ip=ip))
        assert PoolAddress.get().held_until == NOW + 40 + HOLD_S


def test_what_was_granted_is_noted_when_the_session_is_first_heard_of(bob: Account, sessions: Sessions) -> None:
    run(sessions, packet("Start", granted_rate="5M/20M", granted_until=NOW + 60, granted_octets=7))
    Session.update(granted_rate="1M/1M").execute()  # as a live change does
    run(sessions, packet("Stop", 60, 5, granted_rate="5M/20M", granted_until=NOW + 60, granted_octets=7))
    session = the_session()
    assert (session.granted_rate, session.granted_until, session.granted_octets) == ("1M/1M", NOW + 60, 7)


def test_a_stop_frees_the_login_slot(bob: Account, sessions: Sessions) -> None:
    for mac in (MAC, "other"):
        LoginSlot.create(account=bob, mac=mac, held_until=NOW + 60)
    run(sessions, packet("Start"))
    assert LoginSlot.select().count() == 2
    run(sessions, packet("Stop", 5))
    assert [slot.mac for slot in LoginSlot.select()] == ["other"]


def test_what_comes_after_a_stop_leaves_the_next_login_alone(bob: Account, sessions: Sessions) -> None:
    run(sessions, packet("Stop", 60, 5))
    LoginSlot.create(account=bob, mac=MAC, held_until=NOW + 90)
    run(sessions, packet("Stop", 60, 5), packet(session_s=50, octets=9))
    assert LoginSlot.select().count() == 1


def test_a_router_is_noted_once_a_minute(bob: Account, sessions: Sessions) -> None:
    seen = []
    for after_s in (0, 59, 60):
        run(sessions, packet("Start", received_at=NOW + after_s))
        seen.append((Nas.get(name="attic").seen_at or 0) - NOW)
    assert seen == [0, 0, 60]
    run(sessions, packet("Accounting-Off", received_at=NOW + 200))
    assert Nas.get(name="attic").seen_at == NOW + 200
    assert Nas.get(name="cellar").seen_at is None


REQUEST = {
    "Acct-Status-Type": "Interim-Update",
    "Acct-Unique-Session-Id": "abc",
    "Acct-Session-Id": "80000001",
    "User-Name": "bob",
    "Tmp-String-0": "attic",
    "Tmp-Integer-0": str(NOW),
    "Acct-Session-Time": "60",
    "Calling-Station-Id": "AA-BB-CC-00-11-22",
}
HOSTILE = st.sampled_from(["0", "1", "4294967295", "4294967296", "-1", "9" * 40, "", "x", "\0", "1970", "4070908800"])


class TestHostile:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        attributes=st.dictionaries(
            st.sampled_from(
                [
                    *REQUEST,
                    *(f"Acct-{d}-{kind}" for d in ("Input", "Output") for kind in ("Octets", "Gigawords")),
                    "Acct-Delay-Time",
                    "Acct-Terminate-Cause",
                    "Class",
                ]
            ),
            HOSTILE,
        ),
        missing=st.sets(st.sampled_from(list(REQUEST))),
        status=st.sampled_from(["Start", "Interim-Update", "Stop", "Accounting-Off", "Failed", "99"]),
    )
    def test_whatever_a_router_says_is_refused_or_stored(
        self, bob: Account, sessions: Sessions, attributes: dict[str, str], missing: set[str], status: str
    ) -> None:
        request = {k: v for k, v in (REQUEST | attributes).items() if k not in missing}
        request["Tmp-String-0"] = "attic"  # FreeRADIUS's own name of the client
        try:
            told = pairs.accounting_packet(request | {"Acct-Status-Type": status}, NOW)
        except (KeyError, ValueError):
            return
        run(sessions, told, told)
        assert all(0 <= s.input_octets <= 2**53 and 0 <= s.started_at <= NOW + 86_400 for s in Session.select())
        assert all(0 <= u.input_octets <= 2**54 for u in AccountUsage.select())

    def test_nul_bytes_are_left_out(self, bob: Account, sessions: Sessions) -> None:
        names = [*REQUEST, "Class", "Acct-Terminate-Cause", "Framed-IP-Address", "Mikrotik-Host-IP"]
        run(sessions, pairs.accounting_packet({name: REQUEST.get(name, "1") + "\0" for name in names}, NOW))
        assert the_session().account_ref == bob

    @pytest.mark.parametrize("class_", ["0x" + "99" * 20, "0x" + "00" * 24, "0x" + "00" * 16 + "7f" * 4 + "41004200"])
    def test_a_class_that_only_looks_like_ours(self, bob: Account, sessions: Sessions, class_: str) -> None:
        run(sessions, pairs.accounting_packet(REQUEST | {"Class": class_}, NOW))
        assert the_session().granted_rate is None

    @pytest.mark.parametrize("clock", ["0", str(2**32 - 1), "1", "4070908800"])
    def test_a_clock_of_1970_or_2099_is_ours(self, clock: str) -> None:
        assert pairs.accounting_packet(REQUEST | {"Tmp-Integer-0": clock}, NOW).at == NOW

    def test_64_bits_of_octets_are_none(self) -> None:
        told = pairs.accounting_packet(
            REQUEST | {"Acct-Input-Octets": str(2**32 - 1), "Acct-Input-Gigawords": str(2**32 - 1)}, NOW
        )
        assert told.input_octets is None

    def test_a_router_that_boots_has_no_clock_yet(self) -> None:
        request = REQUEST | {"Acct-Status-Type": "Accounting-On", "Tmp-Integer-0": str(NOW - 7200)}
        assert pairs.accounting_packet(request, NOW).at == NOW - 60
