"""The guest's journey on real daemons, and what thieves, crashes and operators may do to it."""

import hashlib
import json
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from html import unescape
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from appliance.db import sqlite_path
from tests.lab import journey
from tests.lab.addresses import GARDEN, GARDEN_NETWORK, LAN, POOL, WAN, WEB
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.journey import Form
from tests.lab.namespace import CommandFailed, wait_until
from tests.lab.speed import keeps_to
from tests.lab.world import World

ZONE = ZoneInfo("Europe/Prague")
DOWN_BPS, UP_BPS = 20e6, 5e6
PASSWORD = "correct horse"
FIXED = str(POOL[10])


@pytest.fixture(scope="module", autouse=True)
def plans(appliance: Appliance) -> None:
    appliance.cli("pool", "add", "public", f"{POOL[0]}-{POOL[3]}")
    appliance.cli("plan", "add", "home", "--down", "20M", "--up", "5M")
    appliance.cli("plan", "add", "public", "--down", "20M", "--up", "5M", "--pool", "public")
    for name in ("anna", "bob", "carl", "dora"):
        add_account(appliance, name, "home")
    add_account(appliance, "fixed", "home", "--address", FIXED)
    add_account(appliance, "pooled", "public")


def add_account(appliance: Appliance, name: str, plan: str, *words: str) -> None:
    appliance.cli("account", "add", name, "--plan", plan, "--password-stdin", *words, stdin=f"{PASSWORD}\n")


def log_in(guest: Guest, name: str) -> None:
    journey.log_in(guest, name, PASSWORD)


def is_online(guest: Guest) -> bool:
    return guest.curl(journey.ANYWHERE, timeout_s=2).status == 200


def sessions(appliance: Appliance, account: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = appliance.json("session", "list", "--all", "--account", account)
    return rows


def await_stop(appliance: Appliance, account: str) -> dict[str, object]:
    """The account's newest session, once its Stop has been recorded."""
    wait_until(lambda: sessions(appliance, account) and sessions(appliance, account)[0]["ended"], 15, "the Stop")
    return sessions(appliance, account)[0]


class TestBeforeLogin:
    def test_a_guest_meets_the_login_page_and_nothing_else(self, world: World, guest: Guest) -> None:
        journey.resolve_names(guest)
        journey.meet_portal(guest)
        journey.find_https_untouched(guest, world)
        journey.find_nothing_passes(guest, world)

    def test_a_foreign_name_server_is_answered_by_ours(self, guest: Guest) -> None:
        answer = guest.run("dig", "+short", "+time=2", "+tries=1", "@203.0.113.53", "news.example").stdout
        assert answer.strip() == str(WEB)

    def test_what_is_not_for_guests_does_not_answer(self, guest: Guest) -> None:
        for port in (8090, 22):
            assert guest.curl(f"http://{LAN.ip}:{port}/", timeout_s=2).status == 0
        done = guest.run("dig", "+time=1", "+tries=1", f"@{FIXED}", "news.example", check=False)
        assert done.returncode == 0, "DNS to any address is answered by our own server"
        assert guest.run("ping", "-c1", "-W1", FIXED, check=False).returncode != 0

    def test_a_wrong_password_stays_out(self, world: World, guest: Guest) -> None:
        journey.fail_to_log_in(guest, "anna")
        journey.find_nothing_passes(guest, world)

    def test_the_walled_garden_is_open_and_nothing_beside_it(self, world: World, guest: Guest) -> None:
        inside = GARDEN_NETWORK[1]
        assert journey.find_portal(guest)
        assert guest.curl(f"http://{GARDEN}/").status == 302, "nobody has asked for its name yet"
        for url in ("http://pay.example/", "http://shop.pay.example/", f"http://{GARDEN}/", f"http://{inside}/"):
            assert guest.curl(url).body == str(WAN.ip), url
        world.net.popen("socat", "TCP-LISTEN:8080,fork,reuseaddr", "SYSTEM:echo open")
        world.net.await_listener(8080)
        before = world.counters()["udp_packets"]
        for address in (GARDEN, inside):
            guest.run("socat", "-u", "/dev/null", f"TCP:{address}:443,connect-timeout=2")
            assert guest.run("ping", "-c1", "-W1", str(address), check=False).returncode != 0
            done = guest.run("socat", "-u", f"TCP:{address}:8080,connect-timeout=2", "-", check=False)
            assert "open" not in done.stdout
            guest.run("sh", "-c", f"echo leak | socat -u - UDP:{address}:9", check=False)
        assert world.counters()["udp_packets"] == before
        assert guest.curl("http://198.18.1.9/").status == 302
        journey.find_https_untouched(guest, world)
        journey.find_nothing_passes(guest, world)

    def test_the_walled_garden_is_open_for_who_is_online_too(self, guest: Guest) -> None:
        log_in(guest, "fixed")
        assert guest.curl("http://pay.example/").body == FIXED
        journey.log_out(guest)
        assert guest.curl("http://pay.example/").body == str(WAN.ip)
        assert guest.curl(journey.ANYWHERE).status == 302

    def test_without_a_lease_the_page_says_what_to_do(self, world: World) -> None:
        stranger = world.guest()
        stranger.take_over(LAN.network[4000])
        page = stranger.curl(f"http://{LAN.ip}/")
        assert "Wi-Fi" in page.body


def test_guests_of_a_router_somewhere_reach_its_login_page(world: World, appliance: Appliance) -> None:
    """From the Internet, as `nas login-html` says; what it makes of the password is checked in test_radius.py."""
    page = appliance.cli("nas", "login-html", "--server", str(WAN.ip))
    url = re.findall(r'action="([^"]+)"', page)[0]
    query = urlencode({"link-login-only": "http://10.5.50.1/login", "chap-id": "\\101", "chap-challenge": "\\102"})
    shown = world.net.run("curl", "-sS", f"{url}?{query}").stdout
    form = Form.on(shown, url)
    data = urlencode({**form.fields, "user": "anna", "password": "x"})
    answer = Form.on(world.net.run("curl", "-sS", "-d", data, form.action).stdout, url)
    digest = hashlib.md5(b"AxB").hexdigest()
    assert (answer.action, answer.fields["password"]) == ("http://10.5.50.1/login", digest)


def test_a_smart_client_logs_in_and_off(guest: Guest) -> None:
    def said(name: str, body: str) -> str:
        return unescape(re.findall(f"<{name}>([^<]*)</{name}>", body)[0])

    home = guest.curl(journey.find_portal(guest)).body
    typed = {"UserName": "anna", "Password": PASSWORD, "button": "Login"}
    answer = guest.curl(said("LoginURL", home), form=typed).body
    assert said("ResponseCode", answer) == "50"
    assert is_online(guest)
    assert said("ResponseCode", guest.curl(said("LogoffURL", answer)).body) == "150"
    assert not is_online(guest)


class TestOnline:
    def test_online_within_a_second(self, guest: Guest) -> None:
        form = journey.Form.on(guest.curl(f"http://{LAN.ip}/").body, f"http://{LAN.ip}/")
        typed = {form.types["text"]: "anna", form.types["password"]: PASSWORD}
        started = time.monotonic()
        guest.curl(form.action, form={**form.fields, **typed})
        assert is_online(guest)
        assert time.monotonic() - started < 1

    def test_the_plans_speed_both_ways(self, guest: Guest) -> None:
        log_in(guest, "anna")
        keeps_to(DOWN_BPS, lambda: guest.iperf("down", seconds=5))
        keeps_to(UP_BPS, lambda: guest.iperf("up", seconds=5))

    def test_the_servers_choice_of_address_is_seen_upstream(self, guest: Guest) -> None:
        log_in(guest, "fixed")
        assert str(journey.surf(guest)) == FIXED

    def test_an_address_out_of_the_plans_pool(self, appliance: Appliance, guest: Guest) -> None:
        log_in(guest, "pooled")
        seen = str(journey.surf(guest))
        assert seen in {str(POOL[i]) for i in range(4)}
        assert sessions(appliance, "pooled")[0]["address"] == seen
        journey.log_out(guest)
        await_stop(appliance, "pooled")
        (pool,) = appliance.json("pool", "list")
        assert pool["held"] == 0

    def test_log_out(self, appliance: Appliance, guest: Guest, world: World) -> None:
        log_in(guest, "anna")
        journey.log_out(guest)
        journey.find_nothing_passes(guest, world)
        assert await_stop(appliance, "anna")["cause"] == "User-Request"


class TestRefusals:
    def test_outside_the_window_with_the_reason(self, appliance: Appliance, guest: Guest) -> None:
        now = datetime.now(ZONE)
        hours = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
        appliance.cli("plan", "add", "later", "--windows", f"daily {hours}")
        add_account(appliance, "early", "later")
        page = journey.post_login(guest, "early", PASSWORD)
        assert "Your plan allows" in page.body
        assert hours.replace("-", "–") in page.body
        assert not is_online(guest)

    def test_the_windows_edge_cuts_in_the_kernel_though_the_gateway_is_dead(
        self, appliance: Appliance, guest: Guest
    ) -> None:
        edge = datetime.now(ZONE).replace(second=0, microsecond=0) + timedelta(minutes=1)
        if (edge - datetime.now(ZONE)).total_seconds() < 20:
            edge += timedelta(minutes=1)
        appliance.cli("plan", "add", "brief", "--windows", f"daily {edge - timedelta(hours=1):%H:%M}-{edge:%H:%M}")
        add_account(appliance, "late", "brief")
        log_in(guest, "late")
        with paused(appliance, "gateway"):
            time.sleep(max(0, edge.timestamp() - time.time() - 4))
            assert is_online(guest)
            wait_until(lambda: not passes(guest), edge.timestamp() + 2 - time.time(), "the cut at the edge")
            assert time.time() >= edge.timestamp() - 1
        stop = await_stop(appliance, "late")
        assert stop["cause"] == "Session-Timeout"
        assert "Your plan allows" in journey.post_login(guest, "late", PASSWORD).body


def passes(guest: Guest) -> bool:
    """A single packet each way: quicker to ask than a page."""
    return guest.run("ping", "-c", "1", "-W", "1", str(WEB), check=False).returncode == 0


@contextmanager
def paused(appliance: Appliance, service: str) -> Iterator[None]:
    """The daemon as if dead, and without supervisor starting another."""
    pid = appliance.pid(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class TestRadiusOrders:
    def order(self, appliance: Appliance, world: World, kind: str, **attributes: object) -> str:
        secret = (appliance.config().paths.run / "gateway.secret").read_text().strip()
        lines = "\n".join(f"{name.replace('_', '-')} = {json.dumps(value)}" for name, value in attributes.items())
        done = world.gw.run("radclient", "-x", "-r1", "127.0.0.1:3799", kind, secret, stdin=lines, check=False)
        return done.stdout + done.stderr

    def test_disconnect_cuts_at_once(self, appliance: Appliance, world: World, guest: Guest) -> None:
        log_in(guest, "anna")
        session = sessions(appliance, "anna")[0]["acct_session_id"]
        assert passes(guest)
        assert "Disconnect-ACK" in self.order(appliance, world, "disconnect", Acct_Session_Id=session)
        assert not passes(guest)
        assert await_stop(appliance, "anna")["cause"] == "Admin-Reset"

    def test_the_operators_command_lets_a_session_go(self, appliance: Appliance, guest: Guest) -> None:
        log_in(guest, "anna")
        wait_until(lambda: not sessions(appliance, "anna")[0]["ended"], 10, "the Start")
        assert "anna at gateway" in appliance.cli("session", "remove", "anna")
        assert not passes(guest)
        await_stop(appliance, "anna")
        with pytest.raises(CommandFailed, match="isn't online"):
            appliance.cli("session", "remove", "anna")

    def test_coa_changes_the_speed(self, appliance: Appliance, world: World, guest: Guest) -> None:
        log_in(guest, "anna")
        session = sessions(appliance, "anna")[0]["acct_session_id"]
        answer = self.order(
            appliance, world, "coa", Acct_Session_Id=session, User_Name="anna", Mikrotik_Rate_Limit="2M/4M"
        )
        assert "CoA-ACK" in answer
        keeps_to(4e6, lambda: guest.iperf("down", seconds=4))

    def test_an_unknown_session_is_not_acknowledged(self, appliance: Appliance, world: World, guest: Guest) -> None:
        assert "Disconnect-NAK" in self.order(appliance, world, "disconnect", Acct_Session_Id="none-such")


class TestAccounting:
    @pytest.mark.parametrize("times_the_plan", [None, 2], ids=["tcp", "udp-at-twice-the-plan"])
    def test_stop_carries_what_the_guest_counted(
        self, appliance: Appliance, guest: Guest, times_the_plan: int | None
    ) -> None:
        """Both directions are dropped from at twice the plan: download counts what is left, upload what came in."""
        log_in(guest, "bob")
        before = guest.ip_octets()
        for direction, plan_bps, seconds in (("down", DOWN_BPS, 5), ("up", UP_BPS, 8)):
            udp_bps = times_the_plan and int(times_the_plan * plan_bps)
            guest.iperf("down" if direction == "down" else "up", seconds, udp_bps)
        after = guest.ip_octets()
        journey.log_out(guest)
        stop = await_stop(appliance, "bob")
        received, sent = after.received - before.received, after.sent - before.sent
        assert received > 10e6
        assert sent > 0.9 * (times_the_plan or 1) * UP_BPS / 8 * 8
        assert as_int(stop["output_octets"]) == pytest.approx(received, rel=0.01)
        assert as_int(stop["input_octets"]) == pytest.approx(sent, rel=0.01)


def as_int(value: object) -> int:
    assert isinstance(value, int)
    return value


class TestThieves:
    def test_another_mac_with_the_address_of_one_who_is_online(self, world: World, guest: Guest) -> None:
        log_in(guest, "anna")
        thief = world.guest()
        thief.take_over(guest.ip)
        assert not passes(thief)
        world.lan.iproute("link", "set", thief.name.rpartition("-")[2], "down")
        wait_until(lambda: passes(guest), 10, "the rightful guest after the thief's ARP")

    def test_mac_and_address_of_one_who_has_logged_out(self, world: World, guest: Guest) -> None:
        log_in(guest, "fixed")
        assert passes(guest)
        journey.log_out(guest)
        ip, mac = guest.ip, guest.mac
        guest.leave()
        world.lan.iproute("link", "set", guest.name.rpartition("-")[2], "down")
        thief = world.guest()
        thief.take_over(ip, mac)
        assert not passes(thief)
        assert thief.curl(f"http://{WEB}/").status == 302


class TestCrashes:
    @pytest.mark.parametrize(
        "service", ["portal", "gateway", "radius-authentication", "radius-accounting", "dnsmasq", "web", "admin"]
    )
    def test_killed_and_back_without_a_session_lost_or_let_in(
        self, appliance: Appliance, world: World, guest: Guest, service: str
    ) -> None:
        log_in(guest, "anna")
        outsider = world.guest()
        outsider.lease()
        before = appliance.pid(service)
        with continuous(lambda: passes(guest)) as answers:
            appliance.kill(service)
            assert not passes(outsider)
            wait_until(lambda: appliance.pid(service) not in (0, before), 15, f"{service} to come back")
            wait_until(lambda: works(appliance, outsider), 15, "the hotspot to work again")
            assert not passes(outsider)
        assert all(answers), f"{answers.count(False)} of {len(answers)} pings were lost"
        log_in(outsider, "bob")
        journey.log_out(outsider)
        await_stop(appliance, "bob")
        assert sessions(appliance, "anna")[0]["ended"] is None

    def test_stopped_and_started_again_the_guest_is_still_online(self, appliance: Appliance, guest: Guest) -> None:
        log_in(guest, "anna")
        appliance.stop()
        assert passes(guest)
        appliance.up()
        assert passes(guest)
        assert 'action="/logout"' in guest.curl(f"http://{LAN.ip}/status").body


def works(appliance: Appliance, guest: Guest) -> bool:
    """The portal leads home by itself, but its page needs the gateway's answer."""
    home = guest.curl(journey.ANYWHERE, timeout_s=2).redirect
    return bool(home) and guest.curl(home).status == 200 and "RUNNING" in appliance.cli("status").upper()


@contextmanager
def continuous(ask: Callable[[], bool]) -> Iterator[list[bool]]:
    """Asks again and again in the background; the answers so far."""
    answers: list[bool] = []
    done = threading.Event()

    def loop() -> None:
        while not done.is_set():
            answers.append(ask())

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()
    assert answers


class TestStalledDatabase:
    def test_a_login_waits_no_longer_than_the_busy_time_out(self, appliance: Appliance, guest: Guest) -> None:
        path = sqlite_path(appliance.config().database_url)
        assert path is not None
        other = sqlite3.connect(path, isolation_level=None)
        form = journey.Form.on(guest.curl(f"http://{LAN.ip}/").body, f"http://{LAN.ip}/")
        typed = {form.types["text"]: "carl", form.types["password"]: PASSWORD}
        other.execute("BEGIN IMMEDIATE")
        try:
            took = guest.curl(form.action, form={**form.fields, **typed}).seconds
            assert is_online(guest)
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert took < 2  # the busy time-out, however busy the machine
        wait_until(lambda: bool(sessions(appliance, "carl")), 15, "the Start after the stall")


class TestModuleSwitch:
    def test_disabled_closes_ports_and_logins_and_keeps_data(
        self, appliance: Appliance, world: World, guest: Guest
    ) -> None:
        log_in(guest, "dora")
        assert "its data stays" in appliance.cli("disable", "hotspot")
        assert not passes(guest)
        assert sessions(appliance, "dora")[0]["cause"] == "Admin-Reset"
        listening = world.gw.run("ss", "-Hltun").stdout
        for port in (1812, 1813, 67, 8080):
            assert f":{port} " not in listening
        assert ":8090 " in listening  # the admin's pages don't belong to it
        assert [row["name"] for row in appliance.json("account", "list")]
        appliance.cli("enable", "hotspot")
        wait_until(lambda: "<form" in guest.curl(f"http://{LAN.ip}/", timeout_s=2).body, 20, "the login page")
        assert not passes(guest)
        log_in(guest, "dora")
        assert passes(guest)

    def test_disabled_while_nothing_runs(self, appliance: Appliance, guest: Guest) -> None:
        log_in(guest, "dora")
        appliance.stop()
        assert passes(guest)
        appliance.cli("disable", "hotspot")
        assert not passes(guest)
        appliance.cli("enable", "hotspot")
        appliance.up()
        assert not passes(guest)
        assert await_stop(appliance, "dora")["cause"] == "Admin-Reset"
