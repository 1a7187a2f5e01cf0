"""Guests without a login: through the real pages, mail, FreeRADIUS and gateway to the Internet."""

import re
from pathlib import Path

import pytest

from tests.lab import journey
from tests.lab.addresses import LAN, PROVIDER
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest, Response
from tests.lab.letters import link_in, take_mail
from tests.lab.namespace import wait_until
from tests.lab.world import World

pytestmark = pytest.mark.system  # half a minute and more

HOME = f"http://{LAN.ip}"
GRACE_S = 8
_CONFIG = f"""
[portal]
free_plan = "free"
registration = "email"
registration_plan = "home"
registration_grace_s = {GRACE_S}
[mail]
host = "{PROVIDER}"
port = 25
tls = "none"
sender = "wifi@example.net"
"""


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    appliance = world.appliance(_CONFIG)
    appliance.cli("plan", "add", "free", "--down", "4M", "--validity", "1h", "--quota", "500M/day")
    appliance.cli("plan", "add", "home", "--down", "20M", "--devices", "2")
    return appliance


@pytest.fixture(scope="module")
def letters(world: World) -> Path:
    return take_mail(world)


def fill_in(guest: Guest, path: str, to: str, **typed: str) -> Response:
    """Sends the form of this page that goes to `to`, as a browser does; follows to where it leads."""
    page = guest.curl(f"{HOME}{path}").body
    form = re.search(rf'<form method="post" action="{to}".*?</form>', page, re.S)
    assert form, page
    sent = guest.curl(f"{HOME}{to}", form={**journey.Form.on(form[0], HOME).fields, **typed})
    return guest.curl(sent.redirect) if sent.redirect else sent


def is_online(guest: Guest) -> bool:
    return guest.curl(journey.ANYWHERE, timeout_s=2).status == 200


def accounts(appliance: Appliance) -> list[str]:
    return [row["name"] for row in appliance.json("account", "list")]


def test_free_access_is_a_plan_like_any_other(appliance: Appliance, guest: Guest) -> None:
    assert "accept" in fill_in(guest, "/", "/free").body
    assert not is_online(guest)
    page = fill_in(guest, "/", "/free", terms="1")
    assert 'action="/logout"' in page.body, page.body
    assert is_online(guest)
    (name,) = accounts(appliance)
    assert name.startswith("free-")
    journey.log_out(guest)
    assert not is_online(guest)
    fill_in(guest, "/", "/free", terms="1")
    assert is_online(guest)
    assert accounts(appliance) == [name]
    appliance.cli("account", "set", name, "--block")
    wait_until(lambda: not is_online(guest), 10, "the cut")
    assert "blocked" in fill_in(guest, "/", "/free", terms="1").body
    assert not is_online(guest)


def test_by_email(appliance: Appliance, guest: Guest, letters: Path) -> None:
    page = fill_in(guest, "/register", "/register", name="Eva", contact="eva@example.net", terms="1")
    assert "Open the link" in page.body
    assert is_online(guest)
    wait_until((letters / "1.eml").exists, 15, "the message")
    link = link_in(letters / "1.eml")
    assert link.startswith(f"{HOME}/confirm?token=")
    wait_until(lambda: not is_online(guest), GRACE_S + 10, "the end of the moment")
    assert appliance.json("mail", "list") == []
    page = fill_in(guest, link.removeprefix(HOME), "/confirm")
    facts = re.findall(r"<dd>([^<]+)</dd>", page.body)
    assert is_online(guest)
    journey.log_out(guest)
    journey.log_in(guest, facts[0], facts[1])
    assert "doesn’t work any more" in fill_in(guest, link.removeprefix(HOME), "/confirm").body


def test_a_confirmed_guest_is_not_cut_when_the_moment_is_over(
    appliance: Appliance, world: World, letters: Path
) -> None:
    """Confirmed from another device, so that nothing but the account changes."""
    guest, other = world.guest(), world.guest()
    for one in (guest, other):
        one.lease()
    fill_in(guest, "/register", "/register", name="Bob", contact="bob@example.net", terms="1")
    assert "Time left" in guest.curl(f"{HOME}/status").body
    wait_until((letters / "2.eml").exists, 15, "the message")
    page = fill_in(other, link_in(letters / "2.eml").removeprefix(HOME), "/confirm")
    assert "is confirmed" in page.body
    assert not is_online(other)
    wait_until(lambda: "Time left" not in guest.curl(f"{HOME}/status").body, 10, "the change of the session")
    assert is_online(guest)
    journey.log_out(guest)


def test_only_the_portal_is_answered(appliance: Appliance, world: World) -> None:
    path = appliance.config().paths.run / "guests" / "guests.sock"
    line = '{"verb": "standing", "mac": "02:00:00:00:00:01"}\\n'
    said = {
        user: world.gw.run(
            *("setpriv", f"--reuid={user}", "--clear-groups", *(f"--regid={group}" for group in ["gatehouse-portal"])),
            *("sh", "-c", f"printf '{line}' | socat -t 2 - UNIX-CONNECT:{path}"),
            check=False,
        ).stdout
        for user in ("gatehouse-portal", "gatehouse-web", "root")
    }
    assert "refusal" in said["gatehouse-portal"]
    assert said["gatehouse-web"] == said["root"] == ""
