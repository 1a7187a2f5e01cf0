"""A box as it comes, set up through its pages alone, as a browser without JavaScript would."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.lab.appliance import Appliance
from tests.lab.namespace import Namespace, wait_until
from tests.lab.world import World

HOME = "http://127.0.0.1:8090"
PASSWORD = "correct horse battery"


@dataclass
class Browser:
    """On the machine itself; it keeps its cookies, and follows where it is led."""

    machine: Namespace

    def get(self, path: str) -> str:
        return self._curl(HOME + path)

    def post(self, path: str, form: dict[str, str], page: str) -> str:
        """`page` is where the form stands."""
        token = re.search(r'name="form_token" value="([^"]+)"', page)
        assert token, page
        fields = {**form, "form_token": token[1]}
        return self._curl(HOME + path, *(w for pair in fields.items() for w in ("--data-urlencode", "=".join(pair))))

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

    def _curl(self, url: str, *options: str, check: bool = True) -> str:
        jar = str(self.machine.directory / "admin-cookies")
        mark = "%{stderr}%{url_effective} %{http_code}"
        words = ("curl", "-s", "-L", "--max-time", "20", "-b", jar, "-c", jar, "-w", mark, *options, url)
        reply = self.machine.run(*words, check=False)
        where, _, status = reply.stderr.rpartition(" ")
        if status.startswith("2"):
            parts = urlsplit(where)
            self.at = f"{HOME}{parts.path}{'?' + parts.query if parts.query else ''}"
        elif check:
            raise AssertionError(f"{url}: {status}\n{reply.stdout}")
        else:
            return ""
        return reply.stdout


@pytest.fixture(scope="module")
def fresh(world: World) -> Iterator[Appliance]:
    """A box as it comes: nothing is enabled, and it isn't told which device is which."""
    made = Appliance(world.gw, world.directory / "fresh")
    made.prepare()
    up = world.gw.popen(*made.words("-m", "appliance.cli", "up"), log="fresh.log")
    try:
        socket = made.directory / "run/admin/admin.sock"
        wait_until(lambda: world.gw.listens(8090) and socket.exists(), 30, "the admin's pages")
        yield made
    finally:
        up.terminate()
        up.wait(30)


def test_settings_and_modules_change_from_a_browser(world: World, fresh: Appliance) -> None:
    one = Browser(world.gw)
    link = urlsplit(fresh.cli("admin-link").strip())
    one.get(f"{link.path}?{link.query}")
    page = one.get("/settings/site")
    page = one.done(one.post("/settings/site", {"site.name": "Café"}, page))
    assert "It is done" in page
    assert "<title>Settings: Site · Café" in page
    page = one.get("/modules")
    assert 'href="/sessions"' not in page
    page = one.done(one.post("/modules/hotspot", {"on": "yes"}, page))
    assert 'href="/sessions"' in page
    assert {row["module"] for row in fresh.json("status")} == {"core", "hotspot"}
    wait_until(lambda: "not known" not in one.get("/modules"), 30, "the states of its services")
    page = one.done(one.post("/modules/hotspot", {"on": "no"}, one.get("/modules")))
    assert 'href="/sessions"' not in page
