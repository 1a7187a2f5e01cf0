"""The gateway daemon on real nftables, HTB and conntrack: packets decide, not the text of rules."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address

import pytest
from pyrad import packet as codec

from appliance.errors import UserError
from portal import radius
from portal.limits import Cause
from portal.ruleset import PORTAL_CONNECTIONS
from portal.sessions import ErrorCause
from portal.shaping import Shaper
from tests.lab.gateway_bench import (
    GATEWAY,
    GUEST,
    GUEST_MAC,
    OTHER,
    OTHER_MAC,
    OUTSIDE,
    PUBLIC,
    SECRET,
    TCP_PORT,
    UDP_PORT,
    WAN,
    Bench,
    ask_tcp,
    ask_udp,
    connect,
    fails,
    inside,
    say,
)
from tests.lab.namespace import Namespace, wait_until
from tests.lab.speed import keeps_to

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

ANY = "0.0.0.0"  # noqa: S104
DISCONNECT, DISCONNECT_ACK, DISCONNECT_NAK, COA, COA_ACK, COA_NAK = 40, 41, 42, 43, 44, 45


@pytest.fixture(scope="module")
def module_bench() -> Iterator[Bench]:
    with Bench() as bench:
        bench.serve(bench.gateway, socket.SOCK_STREAM, ANY, 8080, "portal ")
        bench.serve(bench.gateway, socket.SOCK_STREAM, ANY, 22, "ssh ")
        bench.serve(bench.gateway, socket.SOCK_DGRAM, GATEWAY, 53, "dns ")
        yield bench


@pytest.fixture
def bench(module_bench: Bench) -> Iterator[Bench]:
    """Nobody is online before or after."""
    yield module_bench
    if module_bench.daemon_ended():
        module_bench.start()
    for ip in (GUEST, OTHER):
        module_bench.logout(ip)
    module_bench.accounting.silent = False


@contextlib.contextmanager
def iperf_server(bench: Bench) -> Iterator[None]:
    bench.outside.popen("iperf3", "-s", log="iperf3.log")
    bench.outside.await_listener(5201)
    try:
        yield
    finally:
        bench.outside.reap()


def stopped(bench: Bench, account: str) -> dict[str, object]:
    def found() -> list[dict[str, object]]:
        return [stop for stop in bench.accounting.stops() if stop["User-Name"] == account]

    wait_until(found, 10, f"a Stop of {account}")
    assert len(found()) == 1
    return found()[0]


class TestNotOnline:
    def test_tcp_fails_at_once_and_udp_is_lost(self, bench: Bench) -> None:
        assert fails(lambda: ask_tcp(bench.guest)) < 0.5
        assert fails(lambda: ask_tcp(bench.guest, OUTSIDE, 443)) < 0.5
        assert ask_udp(bench.guest) == ""

    def test_port_80_is_the_portal_wherever_it_was_meant_to_go(self, bench: Bench) -> None:
        for address in (OUTSIDE, "192.0.2.77", GATEWAY):
            assert ask_tcp(bench.guest, address, 80) == f"portal {GUEST} hello"

    def test_dns_is_the_gateways_wherever_it_was_meant_to_go(self, bench: Bench) -> None:
        for address in (OUTSIDE, "192.0.2.77", GATEWAY):
            assert ask_udp(bench.guest, address, 53) == f"dns {GUEST} hello"

    def test_dns_is_slow_and_small(self, bench: Bench) -> None:
        assert ask_udp(bench.guest, OUTSIDE, 53, b"x" * 200) == ""
        with inside(bench.guest):
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            asking.settimeout(0.5)
            for _ in range(200):
                asking.sendto(b"query", (OUTSIDE, 53))
            answers = 0
            with pytest.raises(TimeoutError):
                while asking.recv(100):
                    answers += 1
        assert 10 <= answers <= 60

    @pytest.mark.parametrize(("address", "port"), [(GATEWAY, 22), (WAN, 22), (WAN, 8080), (PUBLIC, 22), (PUBLIC, 8080)])
    def test_nothing_else_of_the_appliance_can_be_reached(self, bench: Bench, address: str, port: int) -> None:
        fails(lambda: connect(bench.guest, address, port, timeout_s=0.5).close())

    def test_one_guest_cant_take_all_the_portals_connections(self, bench: Bench) -> None:
        """Connections on which nothing is said; nginx would count none of them."""
        with contextlib.ExitStack() as idle:
            for _ in range(PORTAL_CONNECTIONS):
                idle.enter_context(connect(bench.guest, OUTSIDE, 80))
            assert fails(lambda: connect(bench.guest, GATEWAY, 80).close()) < 0.5
            assert ask_tcp(bench.other, GATEWAY, 80) == f"portal {OTHER} hello"
            bench.kill()
            bench.start()
            assert fails(lambda: connect(bench.guest, GATEWAY, 80).close()) < 0.5
        wait_until(lambda: _reaches_portal(bench.guest), 10, "a place after the others have gone")

    def test_a_source_address_from_elsewhere_reaches_not_even_the_portal(self, bench: Bench) -> None:
        bench.guest.iproute("addr", "add", "192.0.2.9/32", "dev", "eth0")
        bench.gateway.iproute("route", "add", "192.0.2.9/32", "dev", "lan0")
        try:
            with inside(bench.guest):
                asking = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            with asking:
                asking.bind(("192.0.2.9", 0))
                asking.settimeout(0.5)
                fails(lambda: asking.connect((GATEWAY, 80)))
        finally:
            bench.gateway.iproute("route", "del", "192.0.2.9/32")
            bench.guest.iproute("addr", "del", "192.0.2.9/32", "dev", "eth0")

    def test_the_outside_doesnt_reach_guests(self, bench: Bench) -> None:
        bench.serve(bench.guest, socket.SOCK_DGRAM, ANY, 7001)
        bench.outside.iproute("route", "replace", "10.10.0.0/20", "via", WAN)
        bench.allow()
        assert ask_udp(bench.outside, GUEST, 7001) == ""
        assert ask_udp(bench.outside, GATEWAY, 53) == ""


class TestOnline:
    def test_packets_pass_with_the_gateways_address(self, bench: Bench) -> None:
        bench.allow()
        assert ask_tcp(bench.guest) == f"{WAN} hello"
        assert ask_tcp(bench.guest, OUTSIDE, 80) == f"{WAN} hello"
        assert ask_udp(bench.guest) == f"{WAN} hello"
        assert ask_udp(bench.guest, OUTSIDE, 53) == f"{WAN} hello"
        assert ask_tcp(bench.guest, GATEWAY, 80) == f"portal {GUEST} hello"

    def test_others_stay_out(self, bench: Bench) -> None:
        bench.allow()
        assert fails(lambda: ask_tcp(bench.other)) < 0.5

    def test_one_to_one(self, bench: Bench) -> None:
        bench.serve(bench.guest, socket.SOCK_STREAM, ANY, 7000, "guest ")
        fails(lambda: ask_tcp(bench.outside, PUBLIC, 7000))
        bench.allow(address=_public())
        assert ask_tcp(bench.guest) == f"{PUBLIC} hello"
        assert ask_udp(bench.guest) == f"{PUBLIC} hello"
        assert ask_tcp(bench.outside, PUBLIC, 7000) == f"guest {OUTSIDE} hello"
        with connect(bench.outside, PUBLIC, 7000) as incoming:
            say(incoming)
            bench.logout()
            fails(lambda: say(incoming))
        with pytest.raises(OSError):
            connect(bench.outside, PUBLIC, 7000, timeout_s=0.5).close()

    def test_a_public_address_goes_to_the_next_guest_at_once(self, bench: Bench) -> None:
        bench.allow(address=_public())
        with connect(bench.guest, OUTSIDE, TCP_PORT) as old:
            say(old)
            with pytest.raises(UserError, match=r"198.51.100.3 is taken by another session"):
                bench.allow(OTHER, OTHER_MAC, "boris", address=_public())
            bench.logout()
            bench.allow(OTHER, OTHER_MAC, "boris", address=_public())
            assert ask_tcp(bench.other) == f"{PUBLIC} hello"
            fails(lambda: say(old))

    def test_an_address_given_back_takes_no_old_flows_along(self, bench: Bench) -> None:
        bench.serve(bench.guest, socket.SOCK_STREAM, ANY, 7002, "guest ")
        bench.allow(address=_public())
        with connect(bench.outside, PUBLIC, 7002) as incoming:
            say(incoming)
            bench.logout()
            bench.allow()
            fails(lambda: say(incoming))

    def test_the_page_that_logs_in_gets_its_answer_through(self, bench: Bench) -> None:
        """The answer is the first packet after the guest's flows were forgotten."""
        with inside(bench.gateway):
            listening = socket.create_server((GATEWAY, 8443))
        with listening, connect(bench.guest, GATEWAY, 443) as page:
            page.sendall(b"name and password")
            serving, _ = listening.accept()
            with serving:
                serving.recv(100)
                bench.allow()
                serving.sendall(b"welcome")
                assert page.recv(100) == b"welcome"

    def test_what_was_redirected_isnt_after_login(self, bench: Bench) -> None:
        with connect(bench.guest, OUTSIDE, 80) as redirected:
            assert say(redirected) == f"portal {GUEST} hello"
            bench.allow()
            fails(lambda: say(redirected))
        assert ask_tcp(bench.guest, OUTSIDE, 80) == f"{WAN} hello"

    def test_another_device_with_the_same_address_gets_nothing_and_costs_nothing(self, bench: Bench) -> None:
        bench.allow()
        ask_udp(bench.guest)  # not TCP, whose last words may come late
        before = bench.who()
        bench.guest.iproute("link", "set", "eth0", "down")
        _address(bench.other, OTHER, GUEST)
        try:
            assert fails(lambda: ask_tcp(bench.other)) < 2.5
            assert ask_udp(bench.other) == ""
            after = bench.who()
        finally:
            _address(bench.other, GUEST, OTHER)
            bench.guest.iproute("link", "set", "eth0", "up")
            bench.guest.iproute("route", "replace", "default", "via", GATEWAY)
            for namespace in (bench.gateway, bench.other):
                namespace.iproute("neigh", "flush", "all")
        assert (after.up_octets, after.down_octets) == (before.up_octets, before.down_octets)

    def test_logout_cuts_a_running_flow(self, bench: Bench) -> None:
        bench.allow(account="carla")
        with connect(bench.guest, OUTSIDE, TCP_PORT) as flow:
            say(flow)
            assert bench.logout().ended == 1
            fails(lambda: say(flow))
        stop = stopped(bench, "carla")
        assert (stop["Acct-Terminate-Cause"], stop["Calling-Station-Id"]) == (Cause.USER_REQUEST, "02-00-00-00-00-50")
        assert (stop["Framed-IP-Address"], stop["Mikrotik-Host-IP"], stop["Class"]) == (GUEST, GUEST, b"\xc1\xa5")

    def test_a_device_that_comes_back_elsewhere_leaves_its_old_session(self, bench: Bench) -> None:
        bench.allow(account="dora")
        bench.allow(OTHER, GUEST_MAC, "dora2")
        assert not bench.who().online
        assert stopped(bench, "dora")["Acct-Terminate-Cause"] == Cause.USER_REQUEST

    def test_another_device_at_the_address_shows_that_the_first_one_left(self, bench: Bench) -> None:
        bench.allow(account="emil")
        bench.allow(GUEST, OTHER_MAC, "emil2")
        assert bench.who().account == "emil2"
        assert stopped(bench, "emil")["Acct-Terminate-Cause"] == Cause.LOST_CARRIER

    def test_two_at_once(self, bench: Bench) -> None:
        errors: list[Exception] = []

        def let_in(ip: str, mac: str) -> None:
            try:
                bench.allow(ip, mac)
            except UserError as error:
                errors.append(error)

        pairs = [(GUEST, GUEST_MAC), (OTHER, OTHER_MAC)] * 4
        threads = [threading.Thread(target=let_in, args=pair) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert ask_tcp(bench.guest) == ask_tcp(bench.other) == f"{WAN} hello"

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            ({"ip": "10.99.0.1"}, "10.99.0.1 is no guest's address in 10.10.0.0/20"),
            ({"ip": GATEWAY}, "10.10.0.1 is no guest's address in 10.10.0.0/20"),
            ({"session_timeout_s": 0}, "no time or no data is left"),
            ({"address": "192.0.2.1"}, "192.0.2.1 is not among the gateway's addresses for guests"),
        ],
    )
    def test_refusals(self, bench: Bench, words: dict[str, object], complaint: str) -> None:
        if "address" in words:
            words = {"address": _public(str(words["address"]))}
        with pytest.raises(UserError) as caught:
            bench.allow(**words)  # type: ignore[arg-type]
        assert str(caught.value) == complaint


class TestLimits:
    def test_the_kernel_cuts_when_every_daemon_is_dead(self, bench: Bench) -> None:
        bench.allow(account="fred", session_timeout_s=2)
        allowed_at = time.monotonic()
        with connect(bench.guest, OUTSIDE, TCP_PORT) as flow:
            bench.kill()
            say(flow)
            wait_until(lambda: time.monotonic() > allowed_at + 2.3, 3, "the session's end")
            fails(lambda: say(flow))
        assert fails(lambda: ask_tcp(bench.guest)) < 0.5
        bench.start()
        stop = stopped(bench, "fred")
        assert (stop["Acct-Terminate-Cause"], stop["Acct-Session-Time"]) == (Cause.SESSION_TIMEOUT, 2)
        assert bench.who().ended == 5

    def test_quota(self, bench: Bench) -> None:
        bench.allow(account="gina", quota_bytes=2_000_000, up_bps=8_000_000)
        with connect(bench.guest, OUTSIDE, TCP_PORT) as flow:
            began, line = time.monotonic(), b"x" * 49_999 + b"\n"
            with pytest.raises(OSError):
                while time.monotonic() < began + 10:
                    flow.sendall(line)
                    flow.recv(65_536)
        stop = stopped(bench, "gina")
        used = stop["Acct-Input-Octets"] + stop["Acct-Output-Octets"]  # type: ignore[operator]
        assert 2_000_000 <= used <= 2_000_000 + 2 * 28_000_000 / 8  # 2 s at both rates
        assert stop["Acct-Terminate-Cause"] == Cause.NAS_REQUEST

    def test_idle(self, bench: Bench) -> None:
        bench.allow(account="hugo", idle_timeout_s=2)
        assert stopped(bench, "hugo")["Acct-Terminate-Cause"] == Cause.IDLE_TIMEOUT

    @pytest.mark.parametrize(("down", "up"), [(20, 5), (1, 1), (100, 50)])
    def test_rates(self, bench: Bench, down: int, up: int) -> None:
        """iperf3 counts TCP payload, 4.4 % less than frames."""
        bench.allow(down_bps=down * 1_000_000, up_bps=up * 1_000_000)
        with iperf_server(bench):
            for rate, words in ((down, ["-R"]), (up, [])):
                keeps_to(rate * 1e6, partial(_iperf, bench.guest, *words))

    @pytest.mark.parametrize("words", [["-u", "-b", "20M", "-l", "1200"], []], ids=["udp-at-twice-the-plan", "tcp"])
    @pytest.mark.parametrize("direction", [["-R"], []], ids=["down", "up"])
    def test_octets_are_what_the_guest_got_and_sent(
        self, bench: Bench, direction: list[str], words: list[str], request: pytest.FixtureRequest
    ) -> None:
        account = request.node.name
        bench.allow(account=account, down_bps=10_000_000, up_bps=10_000_000)
        before = bench.guest.ip_octets()
        with iperf_server(bench):
            bench.guest.run("iperf3", "-c", OUTSIDE, *direction, *words, "-t", "4", "-J")
        after = bench.guest.ip_octets()
        bench.logout()
        stop = stopped(bench, account)
        assert stop["Acct-Output-Octets"] == pytest.approx(after.received - before.received, rel=0.01)
        assert stop["Acct-Input-Octets"] == pytest.approx(after.sent - before.sent, rel=0.01)

    def test_packets_that_a_card_would_join_are_counted_one_by_one(self, bench: Bench) -> None:
        """With receive offload, which cards have switched on, headers would be missing: 3 % of an upload."""
        bench.kill()
        bench.gateway.run("ethtool", "-K", "lan0", "gro", "on")
        bench.start()
        bench.allow(account="gero", up_bps=0, down_bps=0)
        before = bench.guest.ip_octets()
        with iperf_server(bench):
            bench.guest.run("iperf3", "-c", OUTSIDE, "-n", "50M", "-J")
        sent = bench.guest.ip_octets().sent - before.sent
        bench.logout()
        assert stopped(bench, "gero")["Acct-Input-Octets"] == pytest.approx(sent, rel=0.01)


class TestClasses:
    """Made once, for one session after the other."""

    def test_the_next_session_gets_the_class_without_what_was_counted(self, bench: Bench) -> None:
        bench.allow(account="hana")
        ask_udp(bench.guest, data=b"x" * 1000)
        bench.logout()
        before = {device: _classes(bench, device) for device in ("lan0", "wan0")}
        bench.allow(OTHER, OTHER_MAC, "ivan", down_bps=1_000_000, up_bps=2_000_000)
        assert ask_udp(bench.other)
        assert bench.who(OTHER).down_octets == 20 + 8 + len(f"{WAN} hello")
        after = {device: _classes(bench, device) for device in ("lan0", "wan0")}
        assert {device: found.keys() for device, found in after.items()} == {d: f.keys() for d, f in before.items()}
        assert ("rate 1Mbit" in after["lan0"]["1:10"], "rate 2Mbit" in after["wan0"]["1:10"]) == (True, True)

    def test_a_restart_knows_the_classes_that_nobody_has(self, bench: Bench) -> None:
        bench.allow()
        ask_udp(bench.guest)
        bench.logout()
        before = _classes(bench, "lan0")
        _restart(bench, 1)
        bench.allow(account="jiri")
        assert ask_udp(bench.guest)
        assert bench.who().down_octets == 20 + 8 + len(f"{WAN} hello")
        assert _classes(bench, "lan0").keys() == before.keys()

    def test_what_waits_for_a_guest_ends_with_the_session(self, bench: Bench) -> None:
        bench.allow(down_bps=100_000, up_bps=0)
        with inside(bench.guest):
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            for _ in range(40):
                asking.sendto(bytes(1200), (OUTSIDE, UDP_PORT))
            asking.settimeout(5)
            asking.recv(2000)
            bench.logout()
            asking.settimeout(0.5)
            came = 0
            with pytest.raises(TimeoutError):
                while asking.recv(2000):
                    came += 1
        assert came <= 20  # of some 35

    def test_an_upload_without_a_limit_has_none_until_it_gets_one(self, bench: Bench) -> None:
        _forget_classes(bench)
        bench.allow(account="kata", down_bps=8_000_000, up_bps=0)
        assert ask_udp(bench.guest)
        assert (set(_classes(bench, "lan0")), set(_classes(bench, "wan0"))) == ({"1:1", "1:10"}, {"1:2"})
        used = bench.who()
        assert bench.order(COA, User_Name="kata", Mikrotik_Rate_Limit="2M/3M").code == COA_ACK
        assert "rate 2Mbit" in _classes(bench, "wan0")["1:10"]
        with iperf_server(bench):
            keeps_to(2e6, partial(_iperf, bench.guest))
        _restart(bench, 1)
        assert "rate 2Mbit" in _classes(bench, "wan0")["1:10"]
        assert bench.who().up_octets > used.up_octets + 1_000_000

    def test_the_appliances_own_packets_wait_for_no_guest(self, bench: Bench) -> None:
        bench.allow(up_bps=0)
        before = _past_all_classes(bench)
        assert ask_udp(bench.guest)
        assert _past_all_classes(bench) == before
        assert ask_udp(bench.gateway)
        assert _past_all_classes(bench) > before

    def test_not_more_are_kept_than_may_be(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("portal.shaping.SPARE_CLASSES", 2)
        devices = "veth0", "veth1"
        bench.gateway.iproute("link", "add", devices[0], "type", "veth", "peer", "name", devices[1])
        with inside(bench.gateway):
            shaper = Shaper(*devices)
            shaper.open()
        try:
            shaper.prepare()
            for _ in range(2):
                shaper.set_classes((minor, 0, 1_000_000) for minor in range(0x10, 0x15))
                assert [len(_classes(bench, device)) for device in devices] == [1 + 5, 1 + 5]
                for minor in range(0x10, 0x15):
                    shaper.release(minor)
                assert [set(_classes(bench, d)) for d in devices] == [{f"1:{n}", "1:10", "1:11"} for n in (1, 2)]
            shaper.set_classes([(0x10, 0, 0)])
            bench.gateway.run("tc", "class", "del", "dev", devices[0], "classid", "1:10")
            shaper.release(0x10)
            shaper.release(0x20)  # it was never made
        finally:
            shaper.close()
            bench.gateway.iproute("link", "del", devices[0])


class TestOrders:
    def test_disconnect(self, bench: Bench) -> None:
        bench.allow(account="jana")
        with connect(bench.guest, OUTSIDE, TCP_PORT) as flow:
            say(flow)
            answer = bench.order(DISCONNECT, User_Name="jana", Framed_IP_Address=GUEST)
            assert answer.code == DISCONNECT_ACK
            fails(lambda: say(flow))
        assert stopped(bench, "jana")["Acct-Terminate-Cause"] == Cause.ADMIN_RESET

    def test_disconnect_by_session_id(self, bench: Bench) -> None:
        bench.allow(account="karl")
        wait_until(lambda: _start(bench, "karl"), 5, "a Start")
        session_id = _start(bench, "karl")[0]["Acct-Session-Id"]
        assert bench.order(DISCONNECT, Acct_Session_Id=session_id, User_Name="eve").code == DISCONNECT_NAK
        assert bench.order(DISCONNECT, Acct_Session_Id=session_id).code == DISCONNECT_ACK

    def test_nobody_there(self, bench: Bench) -> None:
        answer = bench.order(DISCONNECT, User_Name="nobody")
        assert (answer.code, answer["Error-Cause"]) == (DISCONNECT_NAK, [ErrorCause.SESSION_NOT_FOUND])

    def test_two_sessions_of_one_account_need_more_than_the_name(self, bench: Bench) -> None:
        bench.allow()
        bench.allow(OTHER, OTHER_MAC)
        answer = bench.order(DISCONNECT, User_Name="anna")
        assert (answer.code, answer["Error-Cause"]) == (DISCONNECT_NAK, [ErrorCause.MULTIPLE_SESSIONS])

    def test_a_repeated_order_gets_the_same_answer(self, bench: Bench) -> None:
        bench.allow(account="lena")
        packet = codec.CoAPacket(code=DISCONNECT, secret=SECRET, dict=radius._dictionary())
        packet["User-Name"] = "lena"
        data = packet.RequestPacket()
        with inside(bench.gateway):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.settimeout(5)
            answers = []
            for _ in range(2):
                sender.sendto(data, ("127.0.0.1", 3799))
                answers.append(sender.recv(4096))
        assert answers[0][0] == DISCONNECT_ACK
        assert answers[0] == answers[1]

    def test_a_change_is_felt_in_a_running_session(self, bench: Bench) -> None:
        bench.allow(account="mira", session_timeout_s=600)
        with connect(bench.guest, OUTSIDE, TCP_PORT) as flow:
            say(flow)
            used = bench.who()
            answer = bench.order(
                COA, User_Name="mira", Mikrotik_Rate_Limit="2M/3M", Session_Timeout=3, Mikrotik_Total_Limit=5_000_000
            )
            assert answer.code == COA_ACK
            changed = bench.who()
            assert changed.remaining_s is not None and changed.remaining_s <= 3
            assert changed.down_octets >= used.down_octets > 0
            assert changed.remaining_bytes is not None and 4_000_000 < changed.remaining_bytes <= 5_000_000
            rates = bench.gateway.run("tc", "class", "show", "dev", "lan0").stdout
            assert "rate 3Mbit" in rates
            say(flow)
            wait_until(lambda: bench.who().ended == 5, 6, "the new end")
            fails(lambda: say(flow))

    def test_a_change_without_anything_to_change(self, bench: Bench) -> None:
        bench.allow()
        answer = bench.order(COA, User_Name="anna")
        assert (answer.code, answer["Error-Cause"]) == (COA_NAK, [ErrorCause.MISSING_ATTRIBUTE])

    def test_garbage_and_forgeries_have_no_answer_and_no_effect(self, bench: Bench) -> None:
        bench.allow()
        for data in (b"", b"\0" * 20, os.urandom(300), b"\x28\x01\x00\x14" + bytes(16), b"\x28" * 4096):
            with pytest.raises(TimeoutError):
                bench.send_order(data, timeout_s=0.2)
        assert bench.who().online


class TestRestart:
    def test_a_flow_and_its_count_outlive_a_killed_daemon(self, bench: Bench) -> None:
        bench.allow(account="nora", session_timeout_s=300, address=_public())
        with connect(bench.guest, OUTSIDE, TCP_PORT) as flow:
            say(flow, "x" * 3000)
            bench.await_noted()
            before = bench.who()
            bench.kill()
            say(flow, "y" * 3000)
            bench.start()
            assert say(flow) == f"{PUBLIC} hello"
            after = bench.who()
        assert after.up_octets > before.up_octets + 3000
        assert after.down_octets > before.down_octets + 3000
        assert after.online_s >= before.online_s
        assert after.remaining_s is not None and 290 < after.remaining_s <= 300
        bench.await_noted()
        assert len(_start(bench, "nora")) == 1

    def test_not_an_octet_is_lost_or_counted_twice(self, bench: Bench) -> None:
        bench.allow(account="otto", up_bps=0, down_bps=0)
        before = bench.guest.ip_octets()
        with iperf_server(bench):
            upload = bench.guest.popen("iperf3", "-c", OUTSIDE, "-t", "5", "-b", "20M")
            for _ in range(3):
                assert bench.order(COA, User_Name="otto", Session_Timeout=300).code == COA_ACK
                _restart(bench, 1)
            assert upload.wait(60) == 0
        sent = bench.guest.ip_octets().sent - before.sent
        bench.logout()
        assert stopped(bench, "otto")["Acct-Input-Octets"] == pytest.approx(sent, rel=0.001)

    def test_stopped_politely_it_leaves_sessions_to_the_kernel(self, bench: Bench) -> None:
        bench.allow(account="olga")
        with connect(bench.guest, OUTSIDE, TCP_PORT) as flow:
            assert bench.stop() == 0
            say(flow)
            bench.start()
            say(flow)
        assert bench.who().account == "olga"

    def test_a_rebuild_lets_nobody_slip_through_and_drops_nobody(self, bench: Bench) -> None:
        """Datagrams in both directions all the time, while the table is replaced again and again."""
        bench.allow()
        lost, leaked, sent = _flood_while(bench, lambda: _restart(bench, 6))
        assert sent > 20
        assert (lost, leaked) == (0, 0)

    def test_a_table_that_was_flushed_comes_back(self, bench: Bench) -> None:
        """The daemon ends, and whoever supervises it starts it anew."""
        bench.allow()
        assert ask_udp(bench.guest)
        bench.order(COA, User_Name="anna", Idle_Timeout=300)  # writes the counters
        used = bench.who()
        assert used.up_octets == 20 + 8 + len("hello")
        bench.gateway.run("nft", "flush", "ruleset")
        wait_until(bench.daemon_ended, 15, "the daemon's end")
        bench.start()
        assert (bench.who().up_octets, bench.who().down_octets) == (used.up_octets, used.down_octets)
        assert ask_tcp(bench.guest) == f"{WAN} hello"
        assert fails(lambda: ask_tcp(bench.other)) < 0.5
        assert used.up_octets + 200 < bench.who().up_octets < used.up_octets + 500

    def test_accounting_waits_for_the_server_and_keeps_its_order(self, bench: Bench) -> None:
        bench.accounting.silent = True
        bench.allow(account="petr")
        bench.logout()
        bench.kill()
        bench.start()
        bench.accounting.silent = False
        stopped(bench, "petr")
        kinds = [r["Acct-Status-Type"] for r in bench.accounting.records if r["User-Name"] == "petr"]
        assert kinds == ["Start", "Stop"]


def test_garbage_on_the_socket(bench: Bench) -> None:
    path = str(bench.directory / "run/gateway/gateway.sock")
    for data in (b"\n", b"{}\n", b"x" * 40_000, b'{"verb": "allow"}\n', b"\xff\xfe\n", b"[" * 10_000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(3)
            asking.connect(path)
            try:
                asking.sendall(data)
                answer = asking.recv(4096)
            except (BrokenPipeError, ConnectionResetError):
                continue
            assert answer.startswith(b'{"error": ')
    idle = []
    for _ in range(80):
        idle.append(socket.socket(socket.AF_UNIX))
        idle[-1].connect(path)
    try:
        wait_until(lambda: _answers(bench), 10, "an answer beside idle connections")
    finally:
        for asking in idle:
            asking.close()


def test_a_reboot(module_bench: Bench) -> None:
    """Fresh devices and tables, another boot: sessions go on with the rest of their time, others have ended."""
    with Bench("r") as bench:
        bench.allow(account="rita", session_timeout_s=100, quota_bytes=1_000_000)
        bench.allow(OTHER, OTHER_MAC, "sven", session_timeout_s=1)
        ask_tcp(bench.guest)
        bench.order(COA, User_Name="rita", Idle_Timeout=300)  # writes the counters
        used = bench.who()
        bench.kill()
        bench.boot_id.write_text("00000000-0000-0000-0000-000000000002\n")
        bench.gateway.run("nft", "flush", "ruleset")
        for device in ("lan0", "wan0"):
            bench.gateway.run("tc", "qdisc", "del", "dev", device, "root")
        bench.gateway.run("conntrack", "-F")
        bench.gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 1.2, 2, "a second to pass")
        bench.start()
        assert ask_tcp(bench.guest) == f"{WAN} hello"
        after = bench.who()
        assert after.remaining_s is not None and 80 < after.remaining_s < 100
        assert after.up_octets > used.up_octets > 0
        assert stopped(bench, "sven")["Acct-Terminate-Cause"] == Cause.SESSION_TIMEOUT


def _classes(bench: Bench, device: str) -> dict[str, str]:
    lines = bench.gateway.run("tc", "class", "show", "dev", device).stdout.splitlines()
    return {line.split()[2]: line for line in lines}


def _past_all_classes(bench: Bench) -> int:
    (root,) = json.loads(bench.gateway.run("tc", "-s", "-j", "qdisc", "show", "dev", "wan0", "root").stdout)
    return int(root["options"]["direct_packets_stat"])


def _forget_classes(bench: Bench) -> None:
    bench.kill()
    for device in ("lan0", "wan0"):
        bench.gateway.run("tc", "qdisc", "del", "dev", device, "root")
    bench.start()


def _public(address: str = PUBLIC) -> object:
    return IPv4Address(address)


def _address(namespace: Namespace, old: str, new: str) -> None:
    namespace.iproute("addr", "del", f"{old}/20", "dev", "eth0")
    namespace.iproute("addr", "add", f"{new}/20", "dev", "eth0")
    namespace.iproute("route", "replace", "default", "via", GATEWAY)


def _start(bench: Bench, account: str) -> list[dict[str, object]]:
    return [
        record
        for record in bench.accounting.records
        if (record["User-Name"], record["Acct-Status-Type"]) == (account, "Start")
    ]


def _iperf(guest: Namespace, *words: str) -> float:
    """bit/s at the receiver, in 5 seconds."""
    done = guest.run("iperf3", "-c", OUTSIDE, "-t", "5", "-J", *words, timeout_s=60)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"])


def _answers(bench: Bench) -> bool:
    try:
        return not bench.who().online
    except UserError:
        return False


def _reaches_portal(guest: Namespace) -> bool:
    try:
        return ask_tcp(guest, GATEWAY, 80).startswith("portal")
    except OSError:
        return False


def _restart(bench: Bench, times: int) -> None:
    for _ in range(times):
        bench.kill()
        bench.start()


def _flood_while(bench: Bench, work: Callable[[], None]) -> tuple[int, int, int]:
    """Lost datagrams of the guest online, answered ones of the other, and how many each sent at least."""
    counts = {bench.guest.name: [0, 0], bench.other.name: [0, 0]}
    done = threading.Event()

    def answered(asking: socket.socket) -> int:
        try:
            return len(asking.recv(100)) > 0
        except OSError:  # too late, or refused
            return 0

    def flood(namespace: Namespace) -> None:
        count = counts[namespace.name]
        with inside(namespace):
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            asking.settimeout(0.05)
            while not done.is_set():
                with contextlib.suppress(OSError):  # what was said about the one before
                    asking.sendto(b"flood", (OUTSIDE, UDP_PORT))
                    count[0] += 1
                count[1] += answered(asking)
            asking.settimeout(0.5)
            while answered(asking):  # of those that were late
                count[1] += 1

    threads = [threading.Thread(target=flood, args=(namespace,)) for namespace in (bench.guest, bench.other)]
    for thread in threads:
        thread.start()
    work()
    done.set()
    for thread in threads:
        thread.join()
    sent, back = counts[bench.guest.name]
    return sent - back, counts[bench.other.name][1], min(sent, counts[bench.other.name][0])
