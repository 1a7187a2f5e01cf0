"""The real FreeRADIUS with our rules, asked by radclient; one server for all tests of the file."""

import hashlib
import os
import socket
import sqlite3
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from appliance.accounts import manage, vouchers
from appliance.accounts.models import Account, AccountUsage, Plan, Pool, PoolAddress, Refusal, Session
from appliance.db import sqlite_path
from appliance.nas.models import Nas
from appliance.nas.status import MalformedWatch, Watch, routers
from portal.mikrotik.chap import router
from tests.lab import mschap
from tests.lab.namespace import wait_until
from tests.lab.radius import ROUTER, RadiusServer, radius_server

ZONE = ZoneInfo("Europe/Prague")
OLD_ROUTER = "127.0.0.3"
STRANGER = "127.0.0.9"
MAC = "AA-BB-CC-00-11-22"


@pytest.fixture(scope="module")
def server() -> Iterator[RadiusServer]:
    with radius_server('[site]\ntimezone = "Europe/Prague"\n') as server:
        with server.core():
            Nas.create(
                name="old",
                address=OLD_ROUTER,
                kind="other",
                secret=server.box.seal(server.secret),
                require_message_authenticator=False,
            )
            Nas.create(name="roof", address="127.0.8.0/24", kind="other", secret=server.box.seal(server.secret))
        server.plan("home", rate_down_bps=20_000_000, rate_up_bps=5_000_000)
        server.account("bob", "home", "correct horse")
        server.start()
        yield server


def pap(server: RadiusServer, user: str, password: str, mac: str = MAC, **more: Any) -> str:
    return server.radclient(f'User-Name = "{user}"\nUser-Password = "{password}"\nCalling-Station-Id = "{mac}"', **more)


class TestPasswords:
    def test_pap(self, server: RadiusServer) -> None:
        answer = pap(server, "bob", "correct horse")
        assert "Received Access-Accept" in answer
        assert 'Mikrotik-Rate-Limit = "5M/20M"' in answer
        assert "WISPr" not in answer
        assert "WISPr-Bandwidth-Max-Down = 20000000" in pap(server, "bob", "correct horse", source=OLD_ROUTER)

    def test_chap(self, server: RadiusServer) -> None:
        assert "Received Access-Accept" in server.radclient('User-Name = "bob"\nCHAP-Password = "correct horse"')
        assert "Access-Reject" in server.radclient('User-Name = "bob"\nCHAP-Password = "wrong"')

    def test_what_the_portals_page_for_routers_makes_of_a_password(self, server: RadiusServer) -> None:
        """A router hands on identifier, digest and challenge of its login page as they are."""
        given = {"link-login-only": "http://10.5.50.1/login", "chap-id": "\\371", "chap-challenge": "\\000\\047a" * 5}
        to = router(given, [])
        for typed, verdict in (("correct horse", "Received Access-Accept"), ("wrong", "Access-Reject")):
            lines = f"CHAP-Password = 0xf9{to.password(typed)}\nCHAP-Challenge = 0x{'002761' * 5}"
            assert verdict in server.radclient(f'User-Name = "bob"\n{lines}')

    def test_mschapv2_and_the_server_proves_itself(self, server: RadiusServer) -> None:
        lines, success = mschap.request("bob", "correct horse")
        answer = server.radclient(lines)
        assert "Received Access-Accept" in answer
        assert f"MS-CHAP2-Success = {success}" in answer
        assert "Received Access-Reject" in server.radclient(mschap.request("bob", "wrong")[0])

    def test_wrong_password_and_unknown_user_look_alike(self, server: RadiusServer) -> None:
        for user in ("bob", "nobody"):
            answer = pap(server, user, "wrong")
            assert "Received Access-Reject" in answer
            assert 'Reply-Message = "Wrong name or password."' in answer
            assert "Mikrotik" not in answer
            assert "Class" not in answer

    def test_refusals_are_logged_without_passwords(self, server: RadiusServer) -> None:
        pap(server, "bob", "hunter2-wrong")
        pap(server, "nobody-here", "x")
        log = server.log()
        assert "Login incorrect" in log
        assert "[nobody-here] (from client router" in log
        assert "unknown account" in log
        assert "hunter2" not in log

    @pytest.mark.parametrize("password", ["pa\\ss\\x41", "%{User-Name}", "with 'quotes\"", "žluťoučký 🐎", "0x414243"])
    def test_odd_passwords_arrive_as_they_are(self, server: RadiusServer, password: str) -> None:
        server.account(f"odd-{abs(hash(password))}", "home", password)
        name = f"odd-{abs(hash(password))}"
        escaped = password.replace("\\", "\\\\").replace('"', '\\"')
        assert "Received Access-Accept" in pap(server, name, escaped)
        assert "Received Access-Reject" in pap(server, name, "wrong")

    @pytest.mark.parametrize("name", ["anna@example.net", "O'Brien", "č ř", 'say "hi"', "per%cent"])
    def test_odd_names(self, server: RadiusServer, name: str) -> None:
        server.account(name, "home", "secret")
        assert "Received Access-Accept" in pap(server, name.replace('"', '\\"'), "secret")

    def test_sql_in_a_name_is_a_name(self, server: RadiusServer) -> None:
        assert "Received Access-Reject" in pap(server, "x' OR '1'='1", "secret")


class TestRefusals:
    """What becomes of them in the list of refusals."""

    def test_each_is_written_down_with_its_reason_and_without_a_password(self, server: RadiusServer) -> None:
        server.plan("one-device", simultaneous=1)
        server.account("alone", "one-device", "secret")
        server.account("shut", "home", "secret", enabled=False)
        with server.core():
            vouchers.make(vouchers.Order("late", "home", 1, unused_until=1), server.box)
            code = Account.get(Account.batch.is_null(False)).name
            Refusal.delete().execute()
        typed = vouchers.grouped(code).upper()
        pap(server, "alone", "secret")
        for user, password, mac in (
            ("alone", "secret", "AA-BB-CC-00-11-33"),
            ("alone", "guess-1", MAC),
            ("alone", "guess-2", MAC),
            ("shut", "guess-3", MAC),
            ("shut", "secret", MAC),
            ("Nobody", "guess-4", MAC),
            (typed, code, MAC),
        ):
            assert "Received Access-Reject" in pap(server, user, password, mac)
        wanted = {
            ("alone", "alone", "router", "simultaneous"): 1,
            ("alone", "alone", "router", "password"): 2,
            ("shut", "shut", "router", "password"): 1,
            ("shut", "shut", "router", "blocked"): 1,
            ("Nobody", "", "router", "unknown"): 1,
            (typed, code, "router", "unused voucher"): 1,
        }
        wait_until(lambda: self.written(server, wanted) == wanted, 10, "the refusals")

    @staticmethod
    def written(server: RadiusServer, wanted: dict[tuple[str, str, str, str], int]) -> dict[Any, int]:
        """How often each was refused, of the names that are wanted."""
        found: Counter[Any] = Counter()
        with server.core():
            for row in Refusal.select().where(Refusal.name.in_({name for name, *_ in wanted})):
                found[row.name, row.account, row.nas, row.reason] += row.times
        return found

    def test_what_is_not_text_is_answered_all_the_same(self, server: RadiusServer) -> None:
        answer = pap(server, "bob", "\\377\\376")
        assert "Received Access-Reject" in answer
        assert "Message-Authenticator" in answer


class TestClients:
    def test_unknown_client_gets_nothing_and_is_logged(self, server: RadiusServer) -> None:
        assert "No reply" in pap(server, "bob", "correct horse", source=STRANGER, timeout=1)
        assert f"unknown client {STRANGER}" in server.log()

    def test_wrong_secret_gets_nothing_and_is_logged(self, server: RadiusServer) -> None:
        assert "No reply" in pap(server, "bob", "correct horse", secret="another-secret", timeout=1)
        assert "invalid Message-Authenticator" in server.log()

    def test_missing_message_authenticator_gets_nothing(self, server: RadiusServer) -> None:
        assert "No reply" in bare(server, ROUTER)

    def test_missing_message_authenticator_is_told_by_the_watch(self, server: RadiusServer) -> None:
        """FreeRADIUS 3.2 logs what it can't decode in debug mode only."""
        look = watching(server)
        bare(server, ROUTER)
        bare(server, ROUTER)
        assert look() == [
            "router router (127.0.0.2): 2 requests that can't be used: garbage, or without Message-Authenticator"
            " (update its firmware, or: gatehouse nas set router --no-message-authenticator)"
        ]
        assert look() == []

    def test_old_firmware_may_go_without_where_the_operator_said_so(self, server: RadiusServer) -> None:
        assert "Received Access-Accept" in bare(server, OLD_ROUTER)

    def test_wrong_secret_from_old_firmware_is_refused_though_it_garbles_the_password(
        self, server: RadiusServer
    ) -> None:
        """A garbled password isn't UTF-8, which no Python callback can be given."""
        assert "Access-Accept" not in bare(server, OLD_ROUTER, secret="another-secret")
        assert server.alive()

    def test_every_reply_carries_message_authenticator(self, server: RadiusServer) -> None:
        for password in ("correct horse", "wrong"):
            received = pap(server, "bob", password).split("Received")[1]
            assert "Message-Authenticator = 0x" in received

    def test_garbage_is_survived(self, server: RadiusServer) -> None:
        send_garbage(server)
        assert "Received Access-Accept" in pap(server, "bob", "correct horse")
        assert server.alive()

    def test_garbage_is_told_by_the_watch(self, server: RadiusServer) -> None:
        look = watching(server)
        assert look() == []
        send_garbage(server, OLD_ROUTER)
        assert told(look, 6) == {
            ("router old (127.0.0.3)", "can't be used: garbage"): 1,
            ("somebody", "can't be RADIUS"): 5,
        }

    def test_garbage_for_accounting_is_told_too(self, server: RadiusServer) -> None:
        look = watching(server)
        send_garbage(server, ROUTER, server.config.radius.accounting_port)
        assert told(look, 1)["router router (127.0.0.2)", "can't be used: garbage"] == 1

    def test_the_watch_survives_a_restart_of_what_it_watches(self, server: RadiusServer) -> None:
        send_garbage(server, ROUTER)
        look = watching(server)
        server.stop()
        server.start()
        assert look() == []
        bare(server, ROUTER)
        assert "1 request that can't be used" in look()[0]

    def test_only_who_knows_the_secret_is_told_counters(self, server: RadiusServer) -> None:
        port = server.config.radius.authentication_status_port
        words = ["radclient", "-r", "3", "-t", "1", f"127.0.0.1:{port}", "status"]
        for secret, answer in (("another-secret", "No reply"), (server.status_secret(), "Access-Accept")):
            asked = "Message-Authenticator = 0x00\nFreeRADIUS-Statistics-Type = Authentication\n"
            done = subprocess.run([*words, "-x", secret], input=asked, capture_output=True, text=True, check=False)
            assert answer in done.stdout + done.stderr


def watching(server: RadiusServer) -> Callable[[], list[str]]:
    """What a watch says that has looked once already."""
    watch = MalformedWatch(Watch(server.config))
    with server.core():
        asking = routers(server.config)
    assert watch.look(asking) == []
    return lambda: watch.look(asking)


def told(look: Callable[[], list[str]], count: int) -> Counter[tuple[str, str]]:
    """Who sent how many of what, once it is so many; the server may be half-way through them at a look."""
    found: Counter[tuple[str, str]] = Counter()

    def is_all() -> bool:
        for line in look():
            who, what = line.split(": ", 1)
            found[who, what.split(" that ")[1]] += int(what.split()[0])
        return found.total() >= count

    wait_until(is_all, 5, "what couldn't be used")
    return found


def send_garbage(server: RadiusServer, source: str = ROUTER, port: int = 0) -> None:
    """Six datagrams; for authentication only the last can be told to be the router's own."""
    target = ("127.0.0.1", port or server.config.radius.authentication_port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((source, 0))
        for junk in (
            b"",
            b"\x01",
            b"\xff" * 20,
            b"\x01\x01\xff\xff" + bytes(40),
            bytes(4096),
            b"\x01\x07\x00\x16" + bytes(16) + b"\x01\x00",
        ):
            s.sendto(junk, target)


def bare(server: RadiusServer, source: str, secret: str | None = None) -> str:
    """The answer to bob's login without Message-Authenticator, made by hand: radclient 3.2.7 always adds it."""
    key, authenticator = (secret or server.secret).encode(), os.urandom(16)
    pad = hashlib.md5(key + authenticator, usedforsecurity=False).digest()  # RFC 2865, 5.2
    password = bytes(a ^ b for a, b in zip(b"correct horse\0\0\0", pad, strict=True))
    attributes = b"\x01\x05bob" + b"\x02\x12" + password
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((source, 0))
        s.settimeout(3)
        packet = struct.pack("!BBH", 1, 42, 20 + len(attributes)) + authenticator + attributes
        s.sendto(packet, ("127.0.0.1", server.config.radius.authentication_port))
        try:
            code = s.recv(4096)[0]
        except TimeoutError:
            return "No reply"
    return {2: "Received Access-Accept", 3: "Received Access-Reject"}[code]


class TestLimits:
    def test_outside_the_window_with_the_reason_and_only_for_the_right_password(self, server: RadiusServer) -> None:
        now = datetime.now(ZONE)
        server.plan("closed", windows=manage_windows(now + timedelta(hours=2), now + timedelta(hours=3)))
        server.account("early", "closed", "secret")
        answer = pap(server, "early", "secret")
        assert "Received Access-Reject" in answer
        assert 'Reply-Message = "Your plan allows' in answer
        assert "Wrong name or password" in pap(server, "early", "wrong")

    def test_session_ends_at_the_windows_edge(self, server: RadiusServer) -> None:
        now = datetime.now(ZONE)
        edge = (now + timedelta(hours=2)).replace(second=0, microsecond=0)
        server.plan("evening", windows=manage_windows(now - timedelta(hours=1), edge), session_timeout_s=86_400)
        server.account("eve", "evening", "secret")
        timeout = number(pap(server, "eve", "secret"), "Session-Timeout")
        assert abs(timeout - (edge - datetime.now(ZONE)).total_seconds()) <= 2

    def test_blocked_expired_and_fixed_date(self, server: RadiusServer) -> None:
        server.account("blocked", "home", "secret", enabled=False)
        server.account("expired", "home", "secret", valid_until=int(time.time()) - 60)
        server.account("until", "home", "secret", valid_until=int(time.time()) + 3600)
        assert "This account is blocked" in pap(server, "blocked", "secret")
        assert "This account expired on" in pap(server, "expired", "secret")
        assert 3595 <= number(pap(server, "until", "secret"), "Session-Timeout") <= 3600

    def test_validity_runs_from_the_first_login(self, server: RadiusServer) -> None:
        server.plan("day", validity_s=86_400)
        server.account("tourist", "day", "secret")
        assert "Received Access-Reject" in pap(server, "tourist", "wrong")
        with server.core():
            assert Account.get(name="tourist").first_login_at is None
        assert "Received Access-Accept" in pap(server, "tourist", "secret")
        with server.core():
            first = Account.get(name="tourist").first_login_at or 0
            assert abs(first - time.time()) <= 3
            Account.update(first_login_at=first - 90_000).where(Account.name == "tourist").execute()
        assert "This account expired on" in pap(server, "tourist", "secret")

    def test_quota(self, server: RadiusServer) -> None:
        server.plan("metered", quota_bytes=6 * 2**32, quota_period="month")
        server.account("meter", "metered", "secret")
        answer = pap(server, "meter", "secret")
        assert number(answer, "Mikrotik-Total-Limit-Gigawords") == 6
        assert number(answer, "Mikrotik-Total-Limit") == 0
        today = int(datetime.now(ZONE).strftime("%Y%m%d"))
        with server.core():
            AccountUsage.create(
                account=Account.get(name="meter"), day=today, input_octets=2**32, output_octets=5 * 2**32
            )
        assert "Your data allowance is used up." in pap(server, "meter", "secret")

    def test_simultaneous_sessions(self, server: RadiusServer) -> None:
        server.plan("single", simultaneous=1)
        server.account("solo", "single", "secret")
        account(server, "solo", "Start", "solo-1", mac="AA-00-00-00-00-01")
        assert "online on another device" in pap(server, "solo", "secret", mac="AA-00-00-00-00-02")
        assert "Received Access-Accept" in pap(server, "solo", "secret", mac="AA-00-00-00-00-01")
        account(server, "solo", "Stop", "solo-1", mac="AA-00-00-00-00-01")
        assert "Received Access-Accept" in pap(server, "solo", "secret", mac="AA-00-00-00-00-02")

    def test_a_session_that_fell_silent_locks_nobody_out(self, server: RadiusServer) -> None:
        server.plan("one", simultaneous=1)
        server.account("ghost", "one", "secret")
        account(server, "ghost", "Start", "ghost-1", mac="AA-00-00-00-00-01")
        with server.core():
            Session.update(updated_at=Session.updated_at - 901).where(Session.account == "ghost").execute()
        assert "Received Access-Accept" in pap(server, "ghost", "secret", mac="AA-00-00-00-00-02")


def test_a_stop_is_a_clean_end() -> None:
    """An interpreter taken down with an open connection used to abort, and systemd to call that a failure."""
    with radius_server() as server:
        server.plan("home")
        server.account("bob", "home", "secret")
        server.start()
        assert "Received Access-Accept" in pap(server, "bob", "secret")
        assert server.stop() == {"authentication": 0, "accounting": 0}


class TestAddresses:
    def test_fixed(self, server: RadiusServer) -> None:
        server.account("fixed", "home", "secret", address="198.51.100.9")
        assert "Framed-IP-Address = 198.51.100.9" in pap(server, "fixed", "secret")

    def test_pool_gives_each_device_its_own_and_the_same_again(self, server: RadiusServer) -> None:
        with server.core():
            manage.add_pool("public", "198.51.100.16", "198.51.100.18")
            manage.add(Plan, "plan", name="public", pool=manage.get(Pool, "public", "pool"))
            manage.add_account("holder", "home", "x", server.box, address="198.51.100.17")
        for name in ("p1", "p2", "p3"):
            server.account(name, "public", "secret")
        first = framed(pap(server, "p1", "secret", mac="AA-00-00-00-00-01"))
        second = framed(pap(server, "p2", "secret", mac="AA-00-00-00-00-02"))
        assert {first, second} == {"198.51.100.16", "198.51.100.18"}  # .17 is somebody's fixed address
        assert framed(pap(server, "p1", "secret", mac="AA-00-00-00-00-01")) == first
        answer = pap(server, "p3", "secret", mac="AA-00-00-00-00-03")
        assert "All addresses of your plan are in use" in answer
        account(server, "p1", "Start", "p1-s", mac="AA-00-00-00-00-01", framed=first)
        account(server, "p1", "Stop", "p1-s", mac="AA-00-00-00-00-01", framed=first)
        third = {"mac": "AA-00-00-00-00-03"}
        wait_until(lambda: framed(pap(server, "p3", "secret", **third)) == first, 15, "the freed address")

    def test_wrong_passwords_take_no_address(self, server: RadiusServer) -> None:
        with server.core():
            held = PoolAddress.select().where(PoolAddress.held_until > time.time()).count()
        pap(server, "p2", "wrong", mac="AA-00-00-00-00-09")
        with server.core():
            assert PoolAddress.select().where(PoolAddress.held_until > time.time()).count() == held


class TestAccounting:
    def test_repeated_and_reordered_packets_count_once(self, server: RadiusServer) -> None:
        server.account("counted", "home", "secret")
        for status, octets in (
            ("Start", 0),
            ("Interim-Update", 500),
            ("Interim-Update", 500),
            ("Stop", 900),
            ("Interim-Update", 700),
            ("Stop", 900),
            ("Start", 0),
        ):
            assert "Accounting-Response" in account(
                server, "counted", status, "c-1", output=octets, session_s=octets // 10
            )
        with server.core():
            (session,) = Session.select().where(Session.account == "counted")
            (usage,) = AccountUsage.select().where(AccountUsage.account == Account.get(name="counted"))
        assert (session.output_octets, session.session_s, session.terminate_cause) == (
            900,
            90,
            "User-Request",
        )
        assert session.ended_at is not None
        assert (usage.output_octets, usage.input_octets) == (900, 900)

    def test_gigawords(self, server: RadiusServer) -> None:
        server.account("big", "home", "secret")
        account(server, "big", "Stop", "b-1", output=5, more="Acct-Output-Gigawords = 3")
        with server.core():
            assert Session.get(account="big").output_octets == 3 * 2**32 + 5

    def test_unknown_accounts_sessions_are_kept_too(self, server: RadiusServer) -> None:
        assert "Accounting-Response" in account(server, "stranger", "Start", "s-1")
        with server.core():
            assert Session.get(account="stranger").account_ref is None

    def test_router_restart_ends_its_sessions(self, server: RadiusServer) -> None:
        account(server, "bob", "Start", "boot-1")
        assert "Accounting-Response" in server.radclient(
            'Acct-Status-Type = Accounting-On\nNAS-Identifier = "r"', "acct"
        )
        with server.core():
            assert Session.get(acct_session_id="boot-1").terminate_cause == "NAS-Reboot"
            assert not Session.select().where((Session.nas == "router") & Session.ended_at.is_null()).exists()

    def test_one_of_many_access_points_that_restarts_ends_nobodys_session(self, server: RadiusServer) -> None:
        account(server, "bob", "Start", "roof-1", source="127.0.8.2")
        assert "Accounting-Response" in server.radclient(
            'Acct-Status-Type = Accounting-On\nNAS-Identifier = "r"', "acct", source="127.0.8.3"
        )
        with server.core():
            session = Session.get(acct_session_id="roof-1")
            assert (session.nas, session.ended_at) == ("roof", None)
        account(server, "bob", "Stop", "roof-1", source="127.0.8.2")

    def test_a_router_without_a_clock_is_not_believed(self, server: RadiusServer) -> None:
        account(server, "bob", "Start", "clock-1", more='Event-Timestamp = "Jan  1 1970 00:02:00 UTC"')
        with server.core():
            assert abs(Session.get(acct_session_id="clock-1").started_at - time.time()) < 10

    def test_acknowledged_is_on_disk_when_the_server_is_killed(self, server: RadiusServer) -> None:
        account(server, "bob", "Start", "killed-1")
        server.kill("accounting")
        with server.core():
            assert Session.select().where(Session.acct_session_id == "killed-1").exists()
        server.start("accounting")
        assert "Accounting-Response" in account(server, "bob", "Stop", "killed-1")


class TestStalledDatabase:
    def test_a_foreign_transaction_of_2_s_holds_up_a_login_for_the_busy_timeout_only(
        self, server: RadiusServer
    ) -> None:
        server.account("stalled", "home", "secret")  # its first login must be written down
        with stalled(server):
            started = time.monotonic()
            assert "Received Access-Accept" in pap(server, "stalled", "secret")
            first = time.monotonic() - started
            started = time.monotonic()
            assert "Received Access-Accept" in pap(server, "bob", "correct horse")
            second = time.monotonic() - started
        assert first < 2  # the busy time-out and radclient's own start, however busy the machine
        assert second < 2

    def test_addresses_are_promised_meanwhile_and_not_twice(self, server: RadiusServer) -> None:
        with server.core():
            manage.add_pool("spare", "203.0.113.10", "203.0.113.11")
            manage.add(Plan, "plan", name="spare", pool=manage.get(Pool, "spare", "pool"))
        for name in ("s1", "s2", "s3"):
            server.account(name, "spare", "secret")
        with stalled(server):
            given = [framed(pap(server, f"s{i}", "secret", mac=f"AA-00-00-00-01-0{i}")) for i in (1, 2)]
            assert sorted(given) == ["203.0.113.10", "203.0.113.11"]
            assert "in use" in pap(server, "s3", "secret", mac="AA-00-00-00-01-03")
        time.sleep(1.1)  # the pause after a stalled write, then promises are written down
        assert "in use" in pap(server, "s3", "secret", mac="AA-00-00-00-01-03")
        with server.core():
            rows = {a.ip: a.mac for a in PoolAddress.select().where(PoolAddress.ip.in_(given))}
        assert rows == {given[0]: "aa:00:00:00:01:01", given[1]: "aa:00:00:00:01:02"}

    def test_accounting_is_not_acknowledged_meanwhile(self, server: RadiusServer) -> None:
        with stalled(server):
            assert "No reply" in account(server, "bob", "Start", "stalled-1", timeout=1)
        assert "Accounting-Response" in account(server, "bob", "Start", "stalled-1")


@contextmanager
def stalled(server: RadiusServer) -> Iterator[None]:
    """Another program keeps a write transaction open."""
    path = sqlite_path(server.config.database_url)
    assert path is not None
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def account(
    server: RadiusServer,
    user: str,
    status: str,
    session: str,
    mac: str = MAC,
    output: int = 0,
    session_s: int = 0,
    framed: str = "",
    more: str = "",
    timeout: int = 3,
    source: str = ROUTER,
) -> str:
    lines = [
        f'User-Name = "{user}"',
        f"Acct-Status-Type = {status}",
        f'Acct-Session-Id = "{session}"',
        f'Calling-Station-Id = "{mac}"',
        f"Acct-Output-Octets = {output}",
        f"Acct-Input-Octets = {output}",
        f"Acct-Session-Time = {session_s}",
        "Acct-Terminate-Cause = User-Request" if status == "Stop" else "",
        f"Framed-IP-Address = {framed}" if framed else "",
        more,
    ]
    return server.radclient("\n".join(line for line in lines if line), "acct", source=source, timeout=timeout)


def manage_windows(start: datetime, end: datetime) -> str:
    return f"{start:%a} {start:%H:%M}-{end:%H:%M}"


def number(answer: str, attribute: str) -> int:
    return int(answer.split(f"\t{attribute} = ")[1].split()[0])


def framed(answer: str) -> str:
    """Empty when the login was refused."""
    return answer.split("Framed-IP-Address = ")[1].split()[0] if "Received Access-Accept" in answer else ""
