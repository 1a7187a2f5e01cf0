"""A program at work on a running appliance, through nginx: what it makes lets guests in, what it cuts is out."""

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.lab import journey
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.namespace import Namespace, wait_until
from tests.lab.world import World


class Program:
    """curl with a token, inside the gateway machine."""

    def __init__(self, machine: Namespace, url: str, token: str) -> None:
        self._machine, self._url = machine, url
        self.token = token

    def ask(self, method: str, path: str, body: Any = None, *options: str) -> tuple[int, Any]:
        sent = () if body is None else ("--json", json.dumps(body))
        words = ("curl", "-sk", "--max-time", "10", "-w", "\n%{http_code}", "-X", method, *sent, *options)
        named = ("-H", f"Authorization: Bearer {self.token}", self._url + path)
        said = self._machine.run(*words, *named, check=False).stdout
        text, _, status = said.rpartition("\n")
        return int(status), json.loads(text) if text.startswith("{") else text

    def metrics(self) -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(self.ask("GET", "/metrics")[1])
        return {(s.name.removeprefix("gatehouse_"), *s.labels.values()): s.value for f in families for s in f.samples}


@pytest.fixture(scope="module")
def program(world: World, appliance: Appliance) -> Program:
    admin = appliance.config().admin
    url = f"{'https' if admin.tls else 'http'}://127.0.0.1:{admin.port}"
    made = Program(world.gw, url, appliance.cli("token", "add", "shop", "--role", "operator").strip())
    wait_until(lambda: made.ask("GET", "/api/v1/plans")[0] == 200, 30, "the admin's pages")
    return made


def test_what_a_shop_sells_lets_a_guest_in_until_it_is_cut(guest: Guest, program: Program) -> None:
    assert program.ask("POST", "/api/v1/plans", {"name": "shop", "down": "20M", "up": "5M"})[0] == 201
    status, made = program.ask("POST", "/api/v1/accounts", {"name": "zoë/1", "plan": "shop"})
    assert status == 201
    before = program.metrics()
    journey.fail_to_log_in(guest, "zoë/1")
    journey.log_in(guest, "zoë/1", made["password"])
    (session,) = program.ask("GET", "/api/v1/sessions?state=online")[1]["items"]
    assert (session["account"], session["router"], session["mac"]) == ("zoë/1", "gateway", guest.mac)
    after = program.metrics()
    assert (after["sessions_online", "gateway"], after["radius_up", "accounting"]) == (1, 1)
    status, said = program.ask("DELETE", f"/api/v1/sessions/{session['id']}")
    assert (status, said["said"].endswith("let go")) == (200, True), said
    assert journey.find_portal(guest)
    wait_until(lambda: program.ask("GET", f"/api/v1/sessions/{session['id']}")[1]["ended_at"], 10, "the Stop")
    assert program.ask("GET", "/api/v1/accounts/zo%C3%AB%2F1")[1]["first_login_at"] == session["started_at"]
    assert program.ask("DELETE", "/api/v1/accounts/zo%C3%AB%2F1")[0] == 204

    def grown(answer: str) -> float:
        return program.metrics()["logins_total", answer] - before["logins_total", answer]

    wait_until(lambda: grown("accepted") == 1, 15, "its login among those that FreeRADIUS has counted")
    assert grown("refused") >= 1, "the wrong password; the portal may have tried the device's MAC address too"


def test_what_is_too_much_is_refused_before_it_is_read(program: Program, tmp_path: Path) -> None:
    for size, limit in ((100_000, "65536 bytes"), (11_000_000, "413")):
        body = tmp_path / "body"
        body.write_bytes(b" " * size)
        for more in ((), ("-H", "Transfer-Encoding: chunked")):
            words = ("-H", "Content-Type: application/json", "--data-binary", f"@{body}", *more)
            status, said = program.ask("POST", "/api/v1/accounts", None, *words)
            assert (status, limit in str(said)) == (413, True), (size, more)


def test_a_token_that_is_removed_is_good_for_nothing(appliance: Appliance, program: Program) -> None:
    token = appliance.cli("token", "add", "old", "--role", "reader").strip()
    old = Program(program._machine, program._url, token)
    assert old.ask("GET", "/metrics")[0] == 200
    assert old.ask("DELETE", "/api/v1/accounts/x")[0] == 403
    appliance.cli("token", "remove", "old")
    assert old.ask("GET", "/metrics") == (401, {"error": "Please log in"})
