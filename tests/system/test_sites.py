"""A box joins the site of another appliance, works there as it is told, and ends when the site is removed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import postgresql
from tests.lab.appliance import Appliance
from tests.lab.conftest import world  # noqa: F401 (a fixture)
from tests.lab.namespace import CommandFailed, wait_until
from tests.lab.world import World

pytestmark = [pytest.mark.system, pytest.mark.long]

NETWORK = '[gateway]\nlan = "lan0"\nwan = "wan0"\n'
PASSPHRASE = "one good passphrase\n"
SET = """
import sys
from appliance import config
from appliance.accounts.database import open_core
from appliance.sites import central, registry
with open_core(config.load()):
    central.want(registry.get("north"), {"site.name": "North pier", "portal.accent": sys.argv[1]}, "jana")
"""


@pytest.fixture
def url() -> Iterator[str]:
    """By its unix socket, so that it is reached from any network namespace."""
    with postgresql.server() as server:
        server.ask("CREATE DATABASE gatehouse")
        yield f"postgresql://postgres@/gatehouse?host={server.folder}&port={server.port}"


@pytest.fixture
def hq(world: World, url: str) -> Appliance:  # noqa: F811
    """The first appliance; its services needn't run."""
    made = Appliance(world.gw, world.directory / "hq")
    made.prepare(f'{NETWORK}[database]\nurl = "{url}"\n[site]\nkey = "hq"\n')
    made.cli("enable", "hotspot")
    return made


@pytest.fixture
def north(world: World) -> Iterator[Appliance]:  # noqa: F811
    """A box that works alone, with an account of its own."""
    made = Appliance(world.gw, world.directory / "north")
    made.start(NETWORK)
    made.cli("plan", "add", "old")
    made.cli("account", "add", "old", "--plan", "old")
    yield made
    made.stop()


def refusal(of: Appliance, *words: str, stdin: str) -> str:
    with pytest.raises(CommandFailed) as error:
        of.cli(*words, stdin=stdin)
    return str(error.value)


def test_a_box_joins_is_told_and_ends(hq: Appliance, north: Appliance) -> None:
    hq.cli("plan", "add", "home")
    hq.cli("account", "add", "bob", "--plan", "home")
    file = hq.directory / "north.join"
    hq.cli("site", "add", "north", "--title", "North", "--file", str(file), stdin=PASSPHRASE)

    before = north.config_file.read_text()
    assert "the passphrase is wrong" in refusal(north, "site", "join", str(file), stdin="another passphrase\n")
    assert "has 1 accounts" in refusal(north, "site", "join", str(file), stdin=PASSPHRASE)
    assert north.config_file.read_text() == before
    assert "is the site north now" in north.cli("site", "join", str(file), "--leave-behind", stdin=PASSPHRASE)
    assert [row["name"] for row in north.json("account", "list")] == ["bob"]

    def row() -> dict[str, Any]:
        rows: list[dict[str, Any]] = hq.json("site", "list")
        return next(row for row in rows if row["key"] == "north")

    wait_until(lambda: row()["state"] == "well", 120, "the report of the new box")
    assert {nas["name"]: nas["site"] for nas in hq.json("nas", "list")} == {
        "gateway-hq": "hq",
        "gateway-north": "north",
    }
    assert "used already" not in north.cli("site", "join", str(file), stdin=PASSPHRASE)  # again, as after a failure

    hq.python("-c", SET, "#c2185b")
    wait_until(lambda: "North pier" in north.config_file.read_text(), 60, "the settings")
    assert north.config().portal.accent == "#c2185b"
    hq.cli(
        "nas", "add", "attic", "--address", "192.0.2.7", "--site", "north", "--secret-stdin", stdin="0123456789abcdef\n"
    )
    known = north.config().paths.run / "raddb" / "clients.conf"
    wait_until(lambda: "client attic" in known.read_text(), 60, "FreeRADIUS to know the router")

    hq.cli("nas", "remove", "attic")
    hq.cli("site", "remove", "north")
    wait_until(lambda: states(north)["hotspot"] == "disabled", 120, "the removed box to end")
    assert "no site 'north'" in refusal(north, "enable", "hotspot", stdin="")


def states(of: Appliance) -> dict[str, str]:
    return {row["module"]: row["state"] for row in json.loads(of.cli("status", "--json"))}
