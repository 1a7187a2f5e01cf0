"""A box with routers only: it is no gateway, misses none, and becomes one and is none again while it runs."""

import json
import re

import pytest

from tests.lab.addresses import LAN, PROVIDER, WAN
from tests.lab.appliance import Appliance
from tests.lab.journey import log_in
from tests.lab.namespace import wait_until
from tests.lab.world import World

pytestmark = pytest.mark.system  # half a minute

OWN = {"gateway", "dnsmasq"}
SECRET = "sharedsecret"


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    """With one device: the guests' isn't there."""
    world.gw.iproute("link", "set", "lan0", "down")
    made = world.appliance('[gateway]\nenabled = false\nlan = "nolan"\n')
    made.cli("plan", "add", "home", "--down", "20M", "--up", "5M")
    made.cli("account", "add", "anna", "--plan", "home", "--password-stdin", stdin="secret123\n")
    return made


def states(appliance: Appliance) -> dict[str, str]:
    return {row["service"]: row["state"] for row in appliance.json("status") if row["service"]}


def left_in_the_kernel(world: World) -> str:
    """Of a gateway."""
    shown = [("nft", "list", "tables"), ("tc", "qdisc", "show", "dev", "wan0"), ("tc", "qdisc", "show", "dev", "lan0")]
    shown += [("ip", "-4", "address", "show", "dev", "lan0"), ("ip", "route", "show", "table", "local", "proto", "71")]
    shown += [("cat", "/proc/sys/net/ipv4/ip_forward")]
    return "".join(world.gw.run(*words).stdout for words in shown)


def switch(appliance: Appliance, on: bool) -> None:
    text = appliance.config_file.read_text()
    text = re.sub(r'lan = ".*"', 'lan = "lan0"', text)
    appliance.config_file.write_text(re.sub(r"enabled = \w+", f"enabled = {str(on).lower()}", text))
    appliance.cli("apply")


def test_nothing_fails_and_routers_are_served(world: World, appliance: Appliance) -> None:
    assert not OWN & states(appliance).keys()
    appliance.cli("health", "--wait", "30")
    assert set(states(appliance).values()) == {"running"}
    printed = world.gw.run(*appliance.words("-m", "appliance.cli", "doctor", "--json"), check=False).stdout
    found = {finding["subject"]: finding["state"] for finding in json.loads(printed)["findings"]}
    assert found["login page for routers"] == "ok"
    assert not {subject for subject, state in found.items() if state == "bad"} - {"time server"}
    assert found["routers"] == "warn", "there is none yet"

    appliance.cli("nas", "add", "attic", "--address", str(PROVIDER), "--secret-stdin", stdin=f"{SECRET}\n")
    appliance.cli("apply")
    login = "User-Name = anna\nUser-Password = secret123\nMessage-Authenticator = 0x00\n"
    words = ("radclient", "-x", "-r", "5", "-t", "2", f"{WAN.ip}:1812", "auth", SECRET)
    assert "Received Access-Accept" in world.net.run(*words, stdin=login, check=False).stdout

    link = "link-login-only=http%3A%2F%2F10.5.50.1%2Flogin"
    assert 'name="user"' in world.net.run("curl", "-sS", f"http://{WAN.ip}:8080/mikrotik?{link}").stdout
    assert "is at its router" in world.net.run("curl", "-sS", f"http://{WAN.ip}:8080/").stdout


def test_it_becomes_a_gateway_and_is_none_again(world: World, appliance: Appliance) -> None:
    before = left_in_the_kernel(world)
    assert "gatehouse" not in before and str(LAN.ip) not in before
    switch(appliance, on=True)
    guest = world.guest()
    wait_until(lambda: states(appliance).keys() >= OWN and set(states(appliance).values()) == {"running"}, 30, "it")
    guest.lease()
    log_in(guest, "anna", "secret123")
    assert guest.curl("http://news.example/today").status == 200
    assert "gatehouse" in left_in_the_kernel(world)

    switch(appliance, on=False)
    assert not OWN & states(appliance).keys()
    assert left_in_the_kernel(world) == before
    assert guest.curl("http://news.example/today", timeout_s=2).status == 0
    (session,) = appliance.json("session", "list", "--all")
    assert session["cause"] == "Admin-Reset"
    appliance.cli("health", "--wait", "30")
