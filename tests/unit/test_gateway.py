"""The gateway's decisions without a kernel: sessions, limits, the outbox and the socket."""

import dataclasses
import json
import os
import selectors
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from appliance import listener as listening
from appliance import verbs
from appliance.config import Config, Gateway
from appliance.errors import Unavailable, UserError
from appliance.listener import Listener
from portal.gateway import read_secret
from portal.limits import Cause, Clock, Live, next_check_at_s, rebase, verdict
from portal.models import Counters, Event, Session, Store
from portal.netlink import KernelRefusal
from portal.outbox import Sender
from portal.protocol import Allow, Answer
from portal.radius import AccountingRecord, DynamicRequest
from portal.sessions import ErrorCause, Sessions
from tests.lab.namespace import wait_until

IP, OTHER = IPv4Address("10.10.0.50"), IPv4Address("10.10.0.51")
MAC, OTHER_MAC = "02:00:00:00:00:50", "02:00:00:00:00:51"
PUBLIC = IPv4Address("198.51.100.3")
CONFIG = Config(gateway=Gateway(addresses=(IPv4Network("198.51.100.0/28"),)))


class FakeClock(Clock):
    def __init__(self) -> None:
        self.boot_id = "boot 1"
        self.wall_s, self.boot_s = 1_700_000_000, 1000.0

    def wall(self) -> int:
        return self.wall_s

    def boot(self) -> float:
        return self.boot_s

    def pass_s(self, seconds: float) -> None:
        self.wall_s += int(seconds)
        self.boot_s += seconds


class FakeKernel:
    """Remembers what it was told; `classes` are the counters by minor, which go on from one session to the next."""

    def __init__(self) -> None:
        self.classes: dict[int, Counters] = {}
        self.used: set[int] = set()
        self.online: dict[IPv4Address, float | None] = {}
        self.told: list[str] = []
        self.refuses = ""

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if self.refuses == what:
            raise KernelRefusal("no")

    def rebuild(self, online: Sequence[tuple[Session, float | None]]) -> None:
        self.online = {session.ip: left_s for session, left_s in online if left_s is None or left_s > 0}
        self.used = {s.minor for s, _ in online}
        self.classes |= {minor: self.classes.get(minor, Counters()) for minor in self.used}

    def admit(self, session: Session, remaining_s: float | None) -> None:
        self._tell("admit")
        assert session.minor not in self.used
        self.used.add(session.minor)
        self.classes.setdefault(session.minor, Counters())
        self.online[session.ip] = remaining_s

    def retime(self, session: Session, remaining_s: float | None) -> None:
        self._tell("retime")
        assert remaining_s is None or remaining_s > 0
        self.online[session.ip] = remaining_s

    def reshape(self, session: Session) -> None:
        self._tell("reshape")

    def withdraw(self, sessions: Sequence[Session]) -> None:
        self._tell("withdraw")
        for session in sessions:
            self.online.pop(session.ip, None)

    def counters(self, session: Session) -> Counters:
        return self.classes.get(session.minor, Counters())

    def all_counters(self) -> dict[int, Counters]:
        return dict(self.classes)

    def release(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            self.used.discard(session.minor)


class Rig:
    """Sessions over fakes and a real database; `restart` is what a kill leaves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock, self.kernel = FakeClock(), FakeKernel()
        self.restart()

    def restart(self, config: Config = CONFIG, closed_at: int | None = None) -> None:
        self.store = Store(self.path)
        self.store.open()
        self.sessions = Sessions(config, self.store, self.kernel, self.clock)
        self.sessions.restore(closed_at)

    def allow(self, ip: IPv4Address = IP, mac: str = MAC, account: str = "anna", **more: Any) -> Answer:
        rates = {"down_bps": 8_000_000, "up_bps": 8_000_000, "session_class": "c1"}
        return self.sessions.allow(Allow(ip=ip, mac=mac, account=account, **{**rates, **more}))

    def use(self, octets: int, ip: IPv4Address = IP) -> None:
        minor = self.sessions._online[ip].session.minor
        self.kernel.classes[minor] = self.kernel.classes[minor].plus(
            Counters(octets, octets, octets // 1000, octets // 1000)
        )

    def records(self) -> list[AccountingRecord]:
        """What is waiting, in the order in which it would be sent."""
        found: list[AccountingRecord] = []
        while events := self.store.waiting(10):
            for event in events:
                found.append(event.record)
                self.store.sent(event)
        return found

    def pass_s(self, seconds: float) -> None:
        """Second by second, as the loop does it."""
        for _ in range(int(seconds)):
            self.clock.pass_s(1)
            if self.sessions.next_check_s() == 0:
                self.sessions.tick()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "gateway.db")


def order(**words: Any) -> DynamicRequest:
    empty = {field.name: None for field in dataclasses.fields(DynamicRequest)}
    return DynamicRequest(**{**empty, "kind": "coa", "session_id": "", "account": "", **words})


class TestAllow:
    def test_start_is_on_disk_before_the_kernel_hears(self, rig: Rig) -> None:
        rig.kernel.refuses = "admit"
        rig.kernel.withdraw = lambda sessions: (_ for _ in ()).throw(KernelRefusal("no"))  # type: ignore[method-assign]
        with pytest.raises(KernelRefusal):
            rig.allow()
        rig.kernel = FakeKernel()
        rig.restart()
        assert rig.sessions.who(IP).online
        assert [record.status for record in rig.records()] == ["Start"]

    def test_what_the_kernel_refuses_ends_at_once(self, rig: Rig) -> None:
        rig.kernel.refuses = "admit"
        with pytest.raises(UserError) as caught:
            rig.allow()
        assert not isinstance(caught.value, KernelRefusal)
        assert str(caught.value) == "the gateway can't let 10.10.0.50 online: no"
        assert [(r.status, r.terminate_cause) for r in rig.records()] == [("Start", None), ("Stop", Cause.NAS_ERROR)]

    def test_same_device_again(self, rig: Rig) -> None:
        rig.allow()
        rig.allow(OTHER)
        assert not rig.sessions.who(IP).online
        assert rig.sessions.who(IP).ended == Cause.USER_REQUEST

    def test_another_device_at_the_address(self, rig: Rig) -> None:
        rig.allow()
        rig.allow(mac=OTHER_MAC, account="boris")
        stops = [record for record in rig.records() if record.status == "Stop"]
        assert [(stop.account, stop.terminate_cause) for stop in stops] == [("anna", Cause.LOST_CARRIER)]
        assert rig.sessions.who(IP).account == "boris"

    def test_an_address_that_somebody_has_is_refused_and_ends_nobody(self, rig: Rig) -> None:
        rig.allow(address=PUBLIC)
        rig.allow(OTHER, OTHER_MAC)
        with pytest.raises(UserError, match="taken"):
            rig.allow(OTHER, OTHER_MAC, address=PUBLIC)
        assert len(rig.sessions) == 2

    def test_its_own_address_again(self, rig: Rig) -> None:
        rig.allow(address=PUBLIC)
        assert rig.allow(address=PUBLIC).address == PUBLIC

    def test_ids_are_unique(self, rig: Rig) -> None:
        for _ in range(20):
            rig.allow()
        assert len({record.session_id for record in rig.records()}) == 20

    def test_minors_come_back(self, rig: Rig) -> None:
        free = len(rig.sessions._free_minors)
        rig.allow()
        rig.sessions.logout(IP)
        assert len(rig.sessions._free_minors) == free
        assert rig.kernel.used == set()

    def test_the_next_session_of_a_class_pays_only_for_itself(self, rig: Rig) -> None:
        rig.allow()
        rig.use(5000)
        rig.allow(mac=OTHER_MAC, account="boris")
        assert len(rig.kernel.classes) == 1
        assert rig.sessions.who(IP).down_octets == 0
        rig.use(300)
        rig.restart()
        assert rig.sessions.who(IP).down_octets == 300
        rig.sessions.change(order(account="boris", idle_timeout_s=60))  # writes the counters
        rig.kernel.classes.clear()
        rig.kernel.used.clear()
        rig.restart()
        rig.use(20)
        rig.sessions.logout(IP)
        used = [(record.account, record.down_octets) for record in rig.records() if record.status == "Stop"]
        assert used == [("anna", 5000), ("boris", 320)]

    def test_a_full_gateway_says_so(self, rig: Rig) -> None:
        rig.allow()
        rig.sessions._free_minors.clear()
        with pytest.raises(UserError, match="full: 1 sessions"):
            rig.allow(OTHER, OTHER_MAC)
        rig.allow()

    def test_interims_are_never_more_often_than_rfc_2869_allows(self, rig: Rig) -> None:
        rig.allow(interim_interval_s=1)
        assert rig.sessions._online[IP].session.interim_interval_s == 60


class TestEndings:
    def test_time(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=90)
        rig.pass_s(89)
        assert rig.sessions.who(IP).online
        rig.pass_s(1)
        assert rig.kernel.online == {}
        stop = rig.records()[-1]
        assert (stop.terminate_cause, stop.session_s) == (Cause.SESSION_TIMEOUT, 90)

    def test_time_is_noticed_late_but_reported_right(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=90)
        rig.clock.pass_s(500)
        rig.restart()
        rig.pass_s(2)
        stop = rig.records()[-1]
        assert (stop.session_s, stop.event_at) == (90, 1_700_000_090)

    def test_who_never_calls_an_ended_session_online(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=90)
        rig.clock.pass_s(90)
        assert rig.sessions.who(IP) == Answer(online=False, account="anna", mac=MAC, ended=Cause.SESSION_TIMEOUT)

    @pytest.mark.parametrize("jump_s", [-86_400 * 365, 86_400 * 365])
    def test_a_clock_that_jumps_ends_and_prolongs_nothing(self, rig: Rig, jump_s: int) -> None:
        rig.allow(session_timeout_s=90)
        rig.clock.wall_s += jump_s
        rig.restart()
        rig.pass_s(89)
        assert rig.sessions.who(IP).online
        rig.pass_s(1)
        assert not rig.sessions.who(IP).online

    def test_quota(self, rig: Rig) -> None:
        """At full speed of 16 Mbit/s both ways, 10 MB are 5 s."""
        rig.allow(quota_bytes=10_000_000)
        for _ in range(7):
            if rig.kernel.online:
                rig.use(1_000_000)
                rig.pass_s(1)
        assert rig.kernel.online == {}
        assert rig.records()[-1].terminate_cause == Cause.NAS_REQUEST

    def test_quota_without_a_speed_limit(self, rig: Rig) -> None:
        rig.allow(quota_bytes=500_000_000, down_bps=0)
        rig.use(250_000_000)  # 4 s of 1 Gbit/s
        rig.pass_s(6)
        assert rig.kernel.online == {}

    def test_idle(self, rig: Rig) -> None:
        rig.allow(idle_timeout_s=100)
        for _ in range(5):
            rig.pass_s(50)
            rig.use(1000)
        rig.pass_s(99)
        assert rig.kernel.online
        rig.pass_s(25)
        assert rig.records()[-1].terminate_cause == Cause.IDLE_TIMEOUT

    def test_many_at_once_are_ended_in_one_transaction(self, rig: Rig) -> None:
        for number in range(20):
            rig.allow(IPv4Address("10.10.1.1") + number, f"02:00:00:00:01:{number:02x}", session_timeout_s=5)
        rig.kernel.told.clear()
        rig.pass_s(5)
        assert rig.kernel.told == ["withdraw"]
        assert len([record for record in rig.records() if record.status == "Stop"]) == 20

    def test_ended_sessions_are_remembered_for_an_hour(self, rig: Rig) -> None:
        rig.allow()
        rig.sessions.logout(IP)
        rig.clock.pass_s(3599)
        rig.sessions.forget_ended()
        assert rig.sessions.who(IP).ended == Cause.USER_REQUEST
        rig.clock.pass_s(2)
        rig.sessions.forget_ended()
        assert rig.sessions.who(IP) == Answer(online=False)

    def test_a_kernel_that_refuses_a_cut_stops_the_daemon_and_nothing_is_lost(self, rig: Rig) -> None:
        rig.allow()
        rig.use(5000)
        rig.kernel.refuses = "withdraw"
        with pytest.raises(KernelRefusal):
            rig.sessions.logout(IP)
        rig.kernel.refuses = ""
        rig.restart()
        assert rig.sessions.who(IP).up_octets == 5000
        assert [record.status for record in rig.records()] == ["Start"]


class TestCounting:
    def test_interims_tell_the_total_and_newer_ones_replace_older(self, rig: Rig) -> None:
        rig.allow(interim_interval_s=60)
        for _ in range(3):
            rig.use(1000)
            rig.pass_s(60)
        assert [(r.status, r.up_octets) for r in rig.records()] == [("Start", 0), ("Interim-Update", 3000)]
        rig.use(1000)
        rig.sessions.logout(IP)
        assert [(r.status, r.up_octets) for r in rig.records()] == [("Stop", 4000)]

    def test_a_stop_replaces_an_interim(self, rig: Rig) -> None:
        rig.allow(interim_interval_s=60)
        rig.pass_s(60)
        rig.sessions.logout(IP)
        assert [record.status for record in rig.records()] == ["Start", "Stop"]

    def test_counters_go_on_after_a_kill(self, rig: Rig) -> None:
        rig.allow()
        rig.use(1000)
        rig.restart()
        rig.use(1000)
        assert rig.sessions.who(IP).up_octets == 2000

    def test_counters_go_on_after_a_reboot_from_the_last_interim(self, rig: Rig) -> None:
        rig.allow(interim_interval_s=60)
        rig.use(1000)
        rig.pass_s(60)
        rig.use(500)
        _reboot(rig, away_s=10)
        rig.use(200)
        rig.restart()
        assert rig.sessions.who(IP).up_octets == 1200

    def test_counters_that_somebody_removed_lose_only_what_wasnt_read(self, rig: Rig) -> None:
        rig.allow()
        rig.use(1000)
        rig.sessions.change(order(account="anna", idle_timeout_s=900))
        rig.kernel.classes.clear()
        rig.restart()
        rig.use(10)
        assert rig.sessions.who(IP).up_octets == 1010

    def test_one_direction_alone_can_begin_anew(self, rig: Rig) -> None:
        """A table that was flushed takes the counters of uploads along, but not those of downloads."""
        rig.allow()
        rig.use(1000)
        rig.sessions.change(order(account="anna", idle_timeout_s=900))
        rig.use(100)
        (minor,) = rig.kernel.classes
        rig.kernel.classes[minor] = rig.kernel.classes[minor]._replace(up_octets=0, up_packets=0)
        rig.restart()
        rig.use(5000)
        rig.restart()
        answer = rig.sessions.who(IP)
        assert (answer.up_octets, answer.down_octets) == (6000, 6100)

    def test_a_base_that_moved_outlives_a_kill(self, rig: Rig) -> None:
        rig.allow()
        rig.use(1000)
        rig.sessions.change(order(account="anna", idle_timeout_s=900))
        rig.kernel.classes.clear()
        rig.restart()
        rig.use(10)
        rig.restart()
        rig.use(10)
        assert rig.sessions.who(IP).up_octets == 1020

    def test_what_is_made_anew_while_starting_isnt_taken_for_old(self, rig: Rig) -> None:
        rig.allow()
        rig.use(1000)
        rebuild = rig.kernel.rebuild

        def anew(online: Sequence[tuple[Session, float | None]]) -> None:
            rig.kernel.classes.clear()
            rebuild(online)

        rig.kernel.rebuild = anew  # type: ignore[method-assign]
        rig.restart()
        rig.use(3000)
        assert rig.sessions.who(IP).up_octets == 4000


class TestClosing:
    def test_everybody_leaves_and_nobody_comes_in(self, rig: Rig) -> None:
        rig.allow()
        rig.allow(OTHER, OTHER_MAC, "boris")
        rig.use(1000)
        rig.sessions.close()
        assert rig.kernel.online == {}
        assert rig.kernel.used == set()
        stops = [(r.account, r.terminate_cause, r.up_octets) for r in rig.records() if r.status == "Stop"]
        assert stops == [("anna", Cause.ADMIN_RESET, 1000), ("boris", Cause.ADMIN_RESET, 0)]
        with pytest.raises(UserError, match="closed"):
            rig.allow()
        rig.restart()
        assert len(rig.sessions) == 0
        rig.allow()

    def test_closed_while_nobody_was_there(self, rig: Rig) -> None:
        """The end is when it was closed, and not even for a moment is anybody let in again."""
        rig.allow(session_timeout_s=600)
        rig.use(1000)
        rig.clock.pass_s(100)
        closed_at = rig.clock.wall()
        rig.clock.pass_s(300)
        rig.kernel.online.clear()
        rebuild, let_in = rig.kernel.rebuild, list[object]()

        def watched(online: Sequence[tuple[Session, float | None]]) -> None:
            let_in.extend(online)
            rebuild(online)

        rig.kernel.rebuild = watched  # type: ignore[method-assign]
        rig.restart(closed_at=closed_at)
        assert let_in == []
        assert len(rig.sessions) == 0
        stop = rig.records()[-1]
        assert (stop.status, stop.terminate_cause) == ("Stop", Cause.ADMIN_RESET)
        assert (stop.event_at, stop.session_s, stop.up_octets) == (closed_at, 100, 1000)
        rig.allow()


class TestReboot:
    def test_time_away_counts(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=600)
        rig.clock.pass_s(100)
        rig.sessions.change(order(account="anna", idle_timeout_s=9000))
        _reboot(rig, away_s=200)
        answer = rig.sessions.who(IP)
        assert (answer.remaining_s, answer.online_s) == (300, 300)

    def test_a_clock_that_isnt_set_yet_prolongs_nothing(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=600)
        _reboot(rig, away_s=-1_000_000)
        assert rig.sessions.who(IP).remaining_s == 600

    def test_what_ran_out_meanwhile_is_never_let_in(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=600)
        _reboot(rig, away_s=601)
        assert rig.kernel.online == {}
        rig.pass_s(2)
        assert rig.records()[-1].terminate_cause == Cause.SESSION_TIMEOUT

    def test_what_a_new_configuration_has_no_place_for_ends(self, rig: Rig) -> None:
        rig.allow(address=PUBLIC)
        rig.allow(OTHER, OTHER_MAC)
        rig.restart(Config())
        assert not rig.sessions.who(IP).online
        assert rig.sessions.who(OTHER).online


class TestOrders:
    def test_what_is_named_must_fit(self, rig: Rig) -> None:
        rig.allow(address=PUBLIC)
        session_id = rig.sessions._online[IP].session.id
        for words in (
            {"session_id": "x", "account": "anna"},
            {"session_id": session_id, "account": "boris"},
            {"account": "anna", "address": OTHER},
            {"account": "anna", "mac": OTHER_MAC},
            {"host_ip": OTHER},
        ):
            assert rig.sessions.disconnect(order(**words)) is ErrorCause.SESSION_NOT_FOUND
        assert rig.sessions.disconnect(order()) is ErrorCause.MISSING_ATTRIBUTE

    @pytest.mark.parametrize("words", [{"address": PUBLIC}, {"address": IP}, {"host_ip": IP}, {"mac": MAC}])
    def test_each_name_is_enough(self, rig: Rig, words: dict[str, Any]) -> None:
        rig.allow(address=PUBLIC)
        rig.allow(OTHER, OTHER_MAC)
        assert rig.sessions.disconnect(order(**words)) is None
        assert rig.sessions.who(IP).ended == Cause.ADMIN_RESET
        assert rig.sessions.who(OTHER).online

    def test_a_change_counts_from_now(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=600, quota_bytes=50_000)
        rig.use(1000)
        rig.clock.pass_s(100)
        rig.sessions.change(order(account="anna", session_timeout_s=30, quota_bytes=70_000, up_bps=5))
        answer = rig.sessions.who(IP)
        assert (answer.remaining_s, answer.remaining_bytes) == (30, 70_000)
        assert rig.kernel.online == {IP: 30}
        assert rig.kernel.told[-2:] == ["reshape", "retime"]
        rig.pass_s(30)
        assert rig.kernel.online == {}

    def test_a_change_survives_a_kill(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=600)
        rig.kernel.refuses = "reshape"
        with pytest.raises(KernelRefusal):
            rig.sessions.change(order(account="anna", session_timeout_s=30))
        rig.restart()
        assert rig.kernel.online == {IP: 30}

    def test_no_time_left_is_the_end(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=600)
        assert rig.sessions.change(order(account="anna", session_timeout_s=0)) is None
        assert rig.sessions.who(IP).ended == Cause.SESSION_TIMEOUT

    def test_many_changes_make_no_more_checks(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=600)
        for _ in range(50):
            rig.sessions.change(order(account="anna", idle_timeout_s=10))
            rig.use(1000)
            rig.pass_s(1)
        rig.use(1000)
        rig.pass_s(5)
        assert len(rig.sessions._checks) < 15


class TestLimits:
    def test_checks_gather_on_whole_seconds_and_never_spin(self, rig: Rig) -> None:
        rig.allow(quota_bytes=10**9, idle_timeout_s=1, session_timeout_s=600)
        live = rig.sessions._online[IP]
        for now_s in (1000.0, 1000.2, 1000.99):
            at_s = next_check_at_s(live, now_s)
            assert at_s == int(at_s)
            assert now_s + 0.4 < at_s <= now_s + 2

    def test_the_deadline_goes_before_the_quota(self, rig: Rig) -> None:
        rig.allow(quota_bytes=1, session_timeout_s=1)
        live: Live = rig.sessions._online[IP]
        live.session.used = Counters(1, 1, 1, 1)
        assert verdict(live, 1001.0) is Cause.SESSION_TIMEOUT
        assert verdict(live, 1000.5) is Cause.NAS_REQUEST

    def test_rebase_twice_is_rebase_once(self, rig: Rig) -> None:
        rig.allow(session_timeout_s=600)
        session = rig.sessions._online[IP].session
        rig.clock.boot_id, rig.clock.boot_s = "boot 2", 7.0
        rebase(session, rig.clock)
        first = dataclasses.replace(session)
        rebase(session, rig.clock)
        assert session == first


class TestStore:
    def test_everything_comes_back(self, rig: Rig) -> None:
        rig.allow(address=PUBLIC, session_timeout_s=10, account="Ána 'x'; --")
        live = rig.sessions._online[IP].session
        assert rig.store.online() == [live]

    def test_what_a_newer_program_wrote_is_refused(self, rig: Rig) -> None:
        rig.store.close()
        with sqlite3.connect(rig.path) as other:
            other.execute("INSERT INTO schema_version VALUES (99, 'breaking_later')")
        with pytest.raises(UserError, match="newer"):
            rig.restart()


class TestSender:
    def start(self, rig: Rig, send: Callable[[AccountingRecord], None]) -> Sender:
        sender = Sender(Store(rig.path, durable=False), send)
        sender.start()
        return sender

    def test_a_session_that_fails_holds_up_no_other(self, rig: Rig) -> None:
        rig.allow()
        rig.allow(OTHER, OTHER_MAC, "boris")
        rig.sessions.logout(IP)
        sent: list[tuple[str, str]] = []

        def send(record: AccountingRecord) -> None:
            if record.account == "anna" and len(sent) < 1:
                raise Unavailable("away")
            sent.append((record.account, record.status))

        sender = self.start(rig, send)
        wait_until(lambda: len(sent) == 3, 10, "all events")
        sender.stop(5)
        assert sent[0] == ("boris", "Start")
        assert sent.index(("anna", "Start")) < sent.index(("anna", "Stop"))
        assert rig.store.waiting(10) == []

    def test_what_isnt_acknowledged_stays(self, rig: Rig) -> None:
        rig.allow()
        tried = threading.Event()

        def send(record: AccountingRecord) -> None:
            tried.set()
            raise Unavailable("away")

        sender = self.start(rig, send)
        assert tried.wait(60)
        sender.stop(5)
        assert [event.record.status for event in rig.store.waiting(10)] == ["Start"]

    def test_an_interim_that_is_replaced_while_it_is_sent(self, rig: Rig) -> None:
        rig.allow(interim_interval_s=60)
        rig.records()
        rig.pass_s(60)
        (event,) = rig.store.waiting(10)
        rig.use(1000)
        rig.pass_s(60)
        rig.store.sent(event)
        (newer,) = rig.store.waiting(10)
        assert isinstance(newer, Event)
        assert newer.record.up_octets == 1000


class TestListener:
    @pytest.fixture
    def asked(self, tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
        """A listener in a loop of its own, and what it was asked."""
        path, lines, stop = tmp_path / "s.sock", [], threading.Event()
        selector = selectors.DefaultSelector()

        def answer(line: bytes) -> bytes:
            lines.append(line)
            return verbs.encode_error(str(len(line)))

        listener = Listener(path, answer, selector)
        listener.open()

        def loop() -> None:
            while not stop.is_set():
                for key, _ in selector.select(0.02):
                    key.data()
                listener.expire()
            listener.close()

        thread = threading.Thread(target=loop)
        thread.start()
        yield path, lines
        stop.set()
        thread.join()
        assert not path.exists()

    def ask(self, path: Path, *pieces: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(str(path))
            for piece in pieces:
                asking.sendall(piece)
            return asking.recv(4096)

    def test_lines_in_pieces(self, asked: tuple[Path, list[bytes]]) -> None:
        assert json.loads(self.ask(asked[0], b"ab", b"c\nrest")) == {"error": "3"}
        assert asked[1] == [b"abc"]

    def test_a_line_without_end_is_refused(self, asked: tuple[Path, list[bytes]]) -> None:
        self.ask(asked[0], b"x" * (verbs.MAX_LINE_BYTES + 1))
        assert len(asked[1]) == 1

    def test_half_a_line_is_nothing(self, asked: tuple[Path, list[bytes]]) -> None:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(asked[0]))
            asking.sendall(b"half")
        assert json.loads(self.ask(asked[0], b"whole\n")) == {"error": "5"}
        assert asked[1] == [b"whole"]

    def test_slow_ones_are_dropped(self, asked: tuple[Path, list[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listening, "TIMEOUT_S", 0.1)
        assert self.ask(asked[0], b"slow") == b""

    def test_too_many_are_turned_away(self, asked: tuple[Path, list[bytes]]) -> None:
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(listening.MAX_CONNECTIONS + 5)]
        try:
            for one in crowd:
                one.settimeout(3)
                one.connect(str(asked[0]))
            assert crowd[-1].recv(10) == b""
        finally:
            for one in crowd:
                one.close()
        wait_until(lambda: self._works(asked[0]), 5, "an answer")

    def _works(self, path: Path) -> bool:
        try:
            return self.ask(path, b"x\n") != b""
        except OSError:
            return False

    def test_a_second_one_is_refused_and_a_dead_ones_socket_is_taken(
        self, asked: tuple[Path, list[bytes]], tmp_path: Path
    ) -> None:
        with pytest.raises(UserError, match="another process answers there"):
            Listener(asked[0], lambda line: b"", selectors.DefaultSelector()).open()
        dead = tmp_path / "dead.sock"
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(dead))
        successor = Listener(dead, lambda line: b"", selectors.DefaultSelector())
        successor.open()
        assert dead.stat().st_mode & 0o777 == 0o660
        successor.close()

    def test_somebody_else_is_not_answered(self, tmp_path: Path) -> None:
        """Who asks here isn't the user that may."""
        selector = selectors.DefaultSelector()
        listener = Listener(tmp_path / "s.sock", lambda line: b"yes\n", selector, only_uid=os.geteuid() + 1)
        listener.open()
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(str(tmp_path / "s.sock"))
            ((key, _),) = selector.select(1)
            key.data()
            assert asking.recv(10) == b""
        listener.close()

    def test_a_missing_directory_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="gatehouse apply"):
            Listener(tmp_path / "no" / "s.sock", lambda line: b"", selectors.DefaultSelector()).open()


def test_a_secret_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gatehouse apply"):
        read_secret(tmp_path / "gateway.secret")
    (tmp_path / "gateway.secret").write_text("\n")
    with pytest.raises(UserError, match="empty"):
        read_secret(tmp_path / "gateway.secret")


def _reboot(rig: Rig, away_s: int) -> None:
    rig.kernel.classes.clear()
    rig.kernel.online.clear()
    rig.clock.boot_id, rig.clock.boot_s = "boot 2", 5.0
    rig.clock.wall_s += away_s
    rig.restart()
