"""What a guest did, found on the admin's pages: from softflowd to the answer, each process under its own user."""

import time
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest

from tests.lab import journey
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.namespace import wait_until
from tests.lab.run import set_up
from tests.lab.test_api import Program
from tests.lab.world import World


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    return world.appliance(netflow=True)


@pytest.fixture(scope="module")
def owner(world: World, appliance: Appliance) -> Program:
    admin = appliance.config().admin
    url = f"{'https' if admin.tls else 'http'}://127.0.0.1:{admin.port}"
    made = Program(world.gw, url, appliance.cli("token", "add", "asker", "--role", "owner").strip())
    wait_until(lambda: made.ask("GET", "/api/v1/plans")[0] == 200, 30, "the admin's pages")
    return made


def page(owner: Program, path: str, form: dict[str, str] | None = None, status: int = 200) -> str:
    sent = () if form is None else ("--data", urlencode(form))
    got, text = owner.ask("GET" if form is None else "POST", path, None, *sent)
    assert got == status, text
    return str(text)


def test_what_a_guest_did_is_found_by_the_account(
    world: World, appliance: Appliance, owner: Program, guest: Guest
) -> None:
    login = set_up(appliance)
    journey.log_in(guest, login.username, login.password)
    journey.measure(guest)
    asked = f"/api/v1/flows?filter={quote_plus(f'account {login.username}')}&order=-bytes"

    def found() -> list[dict[str, Any]]:
        status, answer = owner.ask("GET", asked)
        return answer["items"] if status == 200 else []

    wait_until(found, 40, "the guest's flows")
    largest = found()[0]
    assert str(guest.ip) in (largest["src"], largest["dst"])
    assert largest["exporter"] == "gateway"
    assert f">{guest.ip}</a>" in page(owner, f"/flows?q=host+{guest.ip}&from=1h+ago")
    csv = page(owner, f"/flows?q=host+{guest.ip}&from=1h+ago&limit=0&format=csv")
    assert csv.count("\n") > 1
    assert ">gateway</a>" in page(owner, "/flows/exporters")
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    question = {"ip": str(guest.ip), "port": "", "protocol": "any", "slack": "30", "at": at, "reason": "case 7"}
    assert f'It was <strong><a href="/accounts/{login.username}">' in page(owner, "/flows/who", question)
    assert "case 7" in page(owner, f"/audit?q=address+{guest.ip}")


def test_a_period_is_held(owner: Program, appliance: Appliance) -> None:
    wait_until(lambda: "What is kept" in page(owner, "/flows/storage"), 70, "the catalogue")
    page(owner, "/flows/holds/new", {"from": "today", "to": "now", "reason": "case 8"}, 303)
    assert "case 8" in page(owner, "/flows/storage")
    page(owner, "/flows/holds/1/release", {"reason": "closed"}, 303)
    figures = owner.metrics()
    assert figures["flow_storage_up",] == 1
    assert figures["flow_datagrams_total", "127.0.0.1", "yes"] > 0
