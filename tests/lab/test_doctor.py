"""The doctor on a running appliance: well at first, then broken in several ways, each of which it names."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.doctor import run
from appliance.doctor.findings import BAD, OK
from tests.lab.addresses import LAN
from tests.lab.appliance import Appliance
from tests.lab.namespace import wait_until
from tests.lab.world import World

pytestmark = pytest.mark.system  # half a minute and more

HOST = "login.example.net"
Ask = Callable[..., str]
CLOCK = "time server"  # this machine's own, which may have none


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    """With a portal certificate of a private authority, and addresses for four guests."""
    pem, key = world.directory / "portal.pem", world.directory / "portal.key"
    options = (
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=x",
        "-addext",
        f"subjectAltName=DNS:{HOST}",
    )
    world.gw.run("openssl", "req", "-x509", *options, "-keyout", str(key), "-out", str(pem))
    key.chmod(0o644)
    made = world.appliance(
        f'[portal]\nhostname = "{HOST}"\ncertificate = "{pem}"\nkey = "{key}"\n'
        'walled_garden = ["shop.example"]\n[dhcp]\nfirst = "10.10.0.10"\nlast = "10.10.0.13"\n'
    )
    made.cli("health", "--wait", "30")  # the admin's pages come after the guests'
    return made


@pytest.fixture(scope="module")
def pages(world: World, appliance: Appliance) -> tuple[Ask, str]:
    """Somebody who has come in by a one-time link, and the token of their forms."""
    base, jar = "http://127.0.0.1:8090", str(world.directory / "jar")

    def ask(path: str, **form: str) -> str:
        fields = [word for key, value in form.items() for word in ("--data-urlencode", f"{key}={value}")]
        return world.gw.run("curl", "-sS", "-b", jar, "-c", jar, *fields, f"{base}{path}").stdout

    ask("/enter" + appliance.cli("admin-link").strip().partition("/enter")[2])
    (token, *_) = re.findall(r'name="form_token" value="([^"]+)"', ask("/doctor"))
    return ask, str(token)


def examined(world: World, appliance: Appliance, trusted: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """Findings by subject; with `trusted` that authority is taken for a public one."""
    words = appliance.words("-m", "appliance.cli", "doctor", "--json")
    trust = ("env", f"SSL_CERT_FILE={trusted}") if trusted else ()
    done = world.gw.run(*trust, *words, check=False, timeout_s=60)
    report = json.loads(done.stdout)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in report["findings"]:
        found.setdefault(finding["subject"], []).append(finding)
    assert (done.returncode == 0) == (report["state"] == OK)
    assert report["left"] == []
    return found


def bad(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {
        subject: wrong
        for subject, findings in found.items()
        if subject != CLOCK and (wrong := [finding for finding in findings if finding["state"] != OK])
    }


@pytest.fixture
def trusted(world: World) -> Path:
    return world.directory / "portal.pem"


def test_an_appliance_that_is_well(world: World, appliance: Appliance, trusted: Path) -> None:
    found = examined(world, appliance, trusted)
    assert bad(found) == {}
    phones = [subject for subject in found if subject.startswith("phone: ")]
    assert len(phones) == 6
    assert "asks the API" in found["phone: by the API (RFC 8908)"][0]["sentence"]
    assert found["DHCP option 114"][0]["sentence"] == "Phones are told of the portal's API."
    assert found["router gateway"][0]["state"] == OK
    assert found["walled garden"][0]["sentence"] == "All 1 of its names have addresses."


def test_a_certificate_that_phones_do_not_trust(world: World, appliance: Appliance) -> None:
    found = bad(examined(world, appliance))
    assert "it has signed itself" in found["portal certificate"][0]["sentence"]
    assert found["DHCP option 114"][0]["commands"] == ["gatehouse apply"]
    assert found["login page"][0]["remedy"] == "See the certificate."


def test_no_addresses_are_left(world: World, appliance: Appliance, trusted: Path) -> None:
    for _ in range(4):
        world.guest().lease()
    (found,) = bad(examined(world, appliance, trusted))["addresses for guests"]
    assert (found["state"], found["sentence"]) == (BAD, "4 of 4 are taken. New guests get no address.")
    assert 'address = "10.10.0.1/19"' in found["commands"]


def supervisor(appliance: Appliance, *words: str) -> None:
    file = str(appliance.config().paths.run / "supervisord.conf")
    appliance.python("-W", "ignore", "-m", "supervisor.supervisorctl", "-c", file, *words)


def test_services_that_are_stopped(world: World, appliance: Appliance, trusted: Path) -> None:
    supervisor(appliance, "stop", "dnsmasq")
    try:
        found = bad(examined(world, appliance, trusted))
        assert found["service dnsmasq"][0]["commands"] == ["gatehouse status", "gatehouse apply"]
        assert "there is no DHCP server" in found["addresses for guests"][0]["sentence"]
        assert f"at {LAN.ip}" in found["name server"][0]["sentence"]
        assert "can't find captive.apple.com" in found["phone: iPhone, iPad, Mac"][0]["sentence"]
        supervisor(appliance, "stop", "portal")
        found = bad(examined(world, appliance, trusted))
        assert "says 503" in found["login page"][0]["sentence"]
    finally:
        supervisor(appliance, "start", "dnsmasq", "portal")


def test_rules_that_were_changed(world: World, appliance: Appliance, trusted: Path) -> None:
    chain = ("inet", "gatehouse", "prerouting")
    world.gw.run(
        "nft", "add", "rule", *chain, "iifname", "lan0", "tcp", "dport", "443", "dnat", "ip", "to", f"{LAN.ip}:8443"
    )
    (https,) = bad(examined(world, appliance, trusted))["rules"]
    assert "HTTPS of guests" in https["sentence"]
    world.gw.run("nft", "flush", "chain", *chain)
    found = bad(examined(world, appliance, trusted))
    assert set(found) == {"rules", "addresses for guests"}
    appliance.kill("gateway")
    wait_until(lambda: "rules" not in bad(examined(world, appliance, trusted)), 20, "the gateway's rules")


def test_the_page_looks_without_any_rights(appliance: Appliance, pages: tuple[Ask, str]) -> None:
    ask, token = pages
    (appliance.config().paths.state / "admin" / run.COMMAND).unlink(missing_ok=True)
    ask("/doctor", form_token=token)
    wait_until(lambda: "As of" in ask("/doctor"), 30, "what the page finds")
    report = json.loads(ask("/doctor?format=json"))
    wrong = {found["subject"] for found in report["findings"] if found["state"] != OK}
    wrong.discard("addresses for guests")  # taken by an earlier test
    assert wrong == {"login page", "portal certificate", "DHCP option 114"}  # nobody trusts that certificate
    assert {"rules", "time server", "configuration"} < set(report["left"])


def test_a_router_that_is_added_on_the_page_and_asks_with_a_wrong_secret(
    world: World, appliance: Appliance, trusted: Path, pages: tuple[Ask, str]
) -> None:
    ask, token = pages
    form = {"name": "attic", "address": "127.0.0.9", "kind": "mikrotik", "coa": "none", "message_authenticator": "1"}
    made = ask("/routers/new", form_token=token, **form)
    (secret,) = re.findall(r"shown only now: <code>([0-9a-f]+)</code>", made)
    login = "User-Name = x, User-Password = y, Message-Authenticator = 0x00, Packet-Src-IP-Address = 127.0.0.9"
    found: list[dict[str, Any]] = []

    def wrong() -> list[dict[str, Any]]:
        """Once FreeRADIUS was told."""
        radclient = ("radclient", "-r", "1", "-t", "0.3", "127.0.0.1:1812", "auth", "another0secret")
        world.gw.run(*radclient, stdin=login, check=False)
        found[:] = bad(examined(world, appliance, trusted))["router attic"]
        return [one for one in found if "wrong secret" in one["sentence"]]

    wait_until(wrong, 30, "what FreeRADIUS counts")
    assert wrong()[0]["commands"] == ["/radius set [find comment=gatehouse] secret=SECRET"]
    assert not [one for one in found if "FreeRADIUS doesn't know it" in one["sentence"]]
    assert secret not in json.dumps(found)
    appliance.cli("nas", "remove", "attic")
    (found[0],) = bad(examined(world, appliance, trusted))["router attic"]
    assert found[0]["sentence"] == "It was removed, but FreeRADIUS still answers it."
