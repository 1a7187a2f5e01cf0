"""The guest's journey from the DHCP lease to the Internet, step by step.

A step is a function that plays its part, raises AssertionError where the appliance fails the guest, and
returns what is worth telling.
"""

import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from ipaddress import IPv4Address, ip_address
from typing import Self
from urllib.parse import urljoin

from tests.lab.addresses import LAN, POOL, WEB
from tests.lab.guest import Guest, Response
from tests.lab.world import World

ANYWHERE = "http://news.example/today"


@dataclass
class Form:
    """The first form of a page that posts: where to, and its fields by name and by type."""

    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    @classmethod
    def on(cls, page: str, url: str) -> Self:
        form = cls()
        reader = _FormReader(form, url)
        reader.feed(page)
        assert form.action, f"{url}: there is no form on the page:\n{page[:2000]}"
        return form


class _FormReader(HTMLParser):
    def __init__(self, form: Form, url: str) -> None:
        super().__init__()
        self._form = form
        self._url = url

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and not self._form.action and values.get("method", "").lower() == "post":
            self._form.action = urljoin(self._url, values.get("action", ""))
        elif tag == "input" and "name" in values:
            if values.get("type") == "checkbox" and "checked" not in values:
                return
            self._form.fields[values["name"]] = values.get("value", "")
            self._form.types[values.get("type", "text")] = values["name"]


@dataclass(frozen=True)
class Speeds:
    down_bps: float
    up_bps: float

    def __str__(self) -> str:
        return f"{self.down_bps / 1e6:.1f}/{self.up_bps / 1e6:.1f} Mbit/s"


def lease(guest: Guest) -> str:
    started = time.monotonic()
    given = guest.lease()
    return f"lease {given.ip} in {time.monotonic() - started:.1f} s"


def find_portal(guest: Guest) -> str:
    """HTTP to anywhere leads to the login page; returns its address."""
    answer = guest.curl(ANYWHERE)
    assert answer.status == 302, f"{ANYWHERE}: status {answer.status} {answer.error}"
    return answer.redirect


def meet_portal(guest: Guest) -> str:
    url = find_portal(guest)
    page = guest.curl(url)
    assert page.status == 200, f"{url}: status {page.status} {page.error}"
    assert Form.on(page.body, url).types.keys() >= {"text", "password", "hidden"}
    return f"{ANYWHERE} leads to {url} ({len(page.body.encode())} bytes)"


def find_https_untouched(guest: Guest, world: World) -> str:
    """Nobody may answer for a far server on port 443: the guest would only see a broken certificate."""
    before = world.counters()["tls"]
    answer = guest.curl(f"https://{WEB}/", timeout_s=3)
    assert answer.status == 0
    assert "connect" in answer.error.lower(), f"something answered on port 443: {answer.error}"
    assert world.counters()["tls"] == before, "a connection to port 443 passed before the login"
    return f"https is neither let through nor answered ({answer.error.split(':')[0].strip()})"


def resolve_names(guest: Guest) -> str:
    addresses = guest.resolve("news.example")
    assert addresses == [str(WEB)], f"news.example: {addresses}"
    return f"names are resolved: news.example is {addresses[0]}"


def find_nothing_passes(guest: Guest, world: World) -> str:
    before = world.counters()
    guest.run("sh", "-c", f"echo leak | socat -u - UDP:{WEB}:9", check=False)
    ping = guest.run("ping", "-c", "1", "-W", "1", str(WEB), check=False)
    assert ping.returncode == 1, f"a ping came back, or wasn't sent: {ping.stdout}{ping.stderr}"  # 1: no reply
    for port in (22, 8080):
        answer = guest.curl(f"http://{WEB}:{port}/", timeout_s=2)
        assert answer.status == 0, f"port {port} answered with {answer.status}"
    after = world.counters()
    assert after == before, f"packets got through: {before} became {after}"
    return "nothing else passes: UDP, ICMP, other ports"


def log_out(guest: Guest) -> None:
    """Where the guest is online."""
    page = guest.curl(f"http://{LAN.ip}/status")
    if 'action="/logout"' in page.body:
        form = Form.on(page.body, f"http://{LAN.ip}/status")
        guest.curl(form.action, form=form.fields)


def post_login(guest: Guest, username: str, password: str) -> Response:
    """Fetches the login page and sends its own form, as a browser does."""
    url = find_portal(guest)
    form = Form.on(guest.curl(url).body, url)
    typed = {form.types["text"]: username, form.types["password"]: password}
    return guest.curl(form.action, form={**form.fields, **typed})


def fail_to_log_in(guest: Guest, username: str) -> str:
    answer = post_login(guest, username, "certainly-wrong")
    assert answer.status in (200, 401, 403), f"login: status {answer.status} {answer.error}"
    assert "password" in Form.on(answer.body, "http://portal/").types, "the login page didn't come back"
    assert find_portal(guest), "the guest is online with a wrong password"
    return f"a wrong password stays out (status {answer.status})"


def log_in(guest: Guest, username: str, password: str) -> str:
    started = time.monotonic()
    answer = post_login(guest, username, password)
    assert answer.status in (200, 302, 303), f"login: status {answer.status} {answer.error}\n{answer.body[:2000]}"
    seen = surf(guest)
    return f"{username} is online in {time.monotonic() - started:.1f} s, seen upstream as {seen}"


def surf(guest: Guest) -> IPv4Address:
    """The address that a server upstream sees."""
    answer = guest.curl(ANYWHERE)
    assert answer.status == 200, f"{ANYWHERE}: status {answer.status} {answer.error} {answer.redirect}"
    seen = ip_address(answer.body)
    assert isinstance(seen, IPv4Address)
    return seen


def surf_with_own_address(guest: Guest) -> str:
    seen = surf(guest)
    assert seen in POOL, f"upstream sees {seen}, which isn't of {POOL}"
    return f"{ANYWHERE} is open, the server sees {seen}"


def measure(guest: Guest, seconds: float = 3) -> Speeds:
    return Speeds(guest.iperf("down", seconds), guest.iperf("up", seconds))


def keep_to_plan(speeds: Speeds, down_bps: float, up_bps: float) -> str:
    """TCP gets a little less than the plan's rate, as headers count; a burst may add some in a short test."""
    for name, got, plan in (("down", speeds.down_bps, down_bps), ("up", speeds.up_bps, up_bps)):
        assert 0.8 * plan < got < 1.1 * plan, f"{name}: {got / 1e6:.1f} of {plan / 1e6:.1f} Mbit/s"
    return f"speed {speeds} of {down_bps / 1e6:.0f}/{up_bps / 1e6:.0f} Mbit/s"


def see_status(guest: Guest, portal: str) -> str:
    url = urljoin(portal, "/status")
    page = guest.curl(url)
    assert page.status == 200, f"{url}: status {page.status} {page.error}"
    assert Form.on(page.body, url).action == urljoin(url, "/logout"), f"{url}: no way out\n{page.body[:2000]}"
    return f"{url} shows the session"
