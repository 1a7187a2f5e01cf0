"""A box as it comes, set up through its pages alone, as a browser without JavaScript would."""

import importlib
import re
from dataclasses import dataclass
from itertools import combinations
from urllib.parse import urlsplit

import pytest

from appliance import modules
from tests.lab.addresses import LAN, WEB
from tests.lab.appliance import Appliance
from tests.lab.journey import Form
from tests.lab.namespace import Namespace, wait_until
from tests.lab.world import World

pytestmark = pytest.mark.system  # half a minute and more

HOME = "http://127.0.0.1:8090"
PASSWORD = "correct horse battery"


@dataclass
class Browser:
    """On the machine itself; it keeps its cookies, and follows where it is led."""

    machine: Namespace

    def get(self, path: str) -> str:
        return self._curl(HOME + path)

    def post(self, path: str, form: dict[str, str], page: str, status: str = "2") -> str:
        """`page` is where the form stands."""
        token = re.search(r'name="form_token" value="([^"]+)"', page)
        assert token, page
        fields = {**form, "form_token": token[1]}
        return self._curl(
            HOME + path, *(w for pair in fields.items() for w in ("--data-urlencode", "=".join(pair))), status=status
        )

    def done(self, page: str, timeout_s: float = 60) -> str:
        """The page that follows the one that waits; the server may be away in between."""
        found = [page]

        def over() -> bool:
            if found[-1] and "goes on by itself" not in found[-1]:
                return True
            found.append(self._curl(self.at, check=False) or found[-1])
            return False

        wait_until(over, timeout_s, f"the wish\n{page}")
        return found[-1]

    def _curl(self, url: str, *options: str, check: bool = True, status: str = "2") -> str:
        jar = str(self.machine.directory / "admin-cookies")
        mark = "%{stderr}%{url_effective} %{http_code}"
        words = ("curl", "-s", "-L", "--max-time", "20", "-b", jar, "-c", jar, "-w", mark, *options, url)
        reply = self.machine.run(*words, check=False)
        where, _, got = reply.stderr.rpartition(" ")
        if got.startswith(status):
            parts = urlsplit(where)
            self.at = f"{HOME}{parts.path}{'?' + parts.query if parts.query else ''}"
        elif check:
            raise AssertionError(f"{url}: {got}\n{reply.stdout}")
        else:
            return ""
        return reply.stdout


@pytest.fixture(scope="module")
def fresh(world: World) -> Appliance:
    return world.fresh_appliance()


def test_from_a_fresh_box_to_a_guest_online(world: World, fresh: Appliance) -> None:
    one = Browser(world.gw)
    link = urlsplit(fresh.cli("admin-link").strip())
    assert 'href="/users/new?first=1"' in one.get(f"{link.path}?{link.query}")
    page = one.get("/users/new?first=1")
    page = one.post("/users/new", {"name": "jana", "password": PASSWORD, "role": "owner", "first": "1"}, page)
    assert 'href="/setup/site" aria-current="step"' in page

    page = one.post("/setup/site", {"site.name": "Café", "site.timezone": "Europe/Prague"}, one.get("/setup/site"))
    page = one.done(page)
    assert "<title>What this box does · Café" in page
    assert re.search(r"<td>wan0</td><td>[0-9a-f:]{17}</td><td>connected</td>", page)
    chosen = {"module hotspot": "on", "gateway": "yes", "gateway.wan": "wan0", "gateway.lan": "lan0"}
    assert 'role="alert"' in one.post("/setup/modules", chosen | {"gateway.lan": "wan0"}, page, status="400")
    page = one.done(one.post("/setup/modules", chosen, page))

    plan = Form.on(page, HOME).fields
    assert plan["down"] == "10M"
    page = one.post("/setup/plan", plan, page)
    assert "Plan guest is saved" in page
    page = one.post("/setup/first/vouchers", {"plan": "guest", "count": "3"}, page)
    (code, *others) = re.findall(r"<code>([^<]+)</code></div>", one.get("/vouchers/batch/first/print"))
    assert len(others) == 2
    wait_until(lambda: "The login page works" in one.get("/setup/done?batch=first"), 30, "the login page")
    assert "All is set up" in one.get("/setup")

    guest = world.guest()
    guest.lease()
    reply = guest.curl(f"http://{LAN.ip}/?code={code.replace(' ', '')}")
    form = Form.on(reply.body, f"http://{LAN.ip}/")
    reply = guest.curl(form.action, form=form.fields)
    assert reply.status in (200, 302, 303), f"{reply.body}\n{fresh.log('portal')}"
    assert guest.curl(f"http://{WEB}/").status == 200

    page = one.post("/settings/network", {"gateway.enabled": "no"}, one.get("/settings/network"))
    assert "It is done" in one.done(page)
    assert guest.curl(f"http://{WEB}/", timeout_s=2).status == 0
    assert "Bring a router" in one.get("/setup/done")
    assert not {"gateway", "dnsmasq"} & {row["service"] for row in fresh.json("status")}
    refused = one.post("/settings/network", {"gateway.enabled": "yes", "gateway.lan": "nolan"}, page, status="400")
    assert "no network device" in refused
    assert "It is done" in one.done(one.post("/settings/network", {"gateway.enabled": "yes"}, refused))
    wait_until(lambda: {"gateway", "dnsmasq"} <= {row["service"] for row in fresh.json("status")}, 10, "the gateway")


@pytest.mark.parametrize(
    "names",
    [names for n in range(len(modules.MODULES) + 1) for names in combinations([m.name for m in modules.MODULES], n)],
    ids=lambda names: "+".join(names) or "none",
)
def test_each_combination_of_modules_serves_its_pages_only(
    world: World, fresh: Appliance, names: tuple[str, ...]
) -> None:
    one = Browser(world.gw)
    link = urlsplit(fresh.cli("admin-link").strip())
    one.get(f"{link.path}?{link.query}")
    for module in modules.MODULES:
        page = one.get("/modules")
        is_on = f"Switch {module.title} off?" in page
        if is_on != (module.name in names):
            one.done(one.post(f"/modules/{module.name}", {"on": "no" if is_on else "yes"}, page))
    page = one.get("/modules")
    assert {row["module"] for row in fresh.json("status") if row["service"]} == {"core", *names}
    for module in modules.MODULES:
        path = next(p.path for room in module.web for p in importlib.import_module(room).PAGES if p.nav)
        assert (f'<a href="{path}">' in page) == (module.name in names)
    wait_until(lambda: "not known" not in one.get("/modules"), 30, "the states of the services")
