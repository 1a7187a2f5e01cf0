"""Flows that routers send, taken for real: who is collected, what happens to the disk, and the own gateway's guests."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import journey
from tests.lab.addresses import PROVIDER, WAN
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.namespace import CommandFailed, run, wait_until
from tests.lab.run import set_up
from tests.lab.world import World

PORT = 2055
OTHER = "2001:db8::7"
SEND = """
import socket, sys
source, target, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
link = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM)
link.bind((source, 0))
for number in range(count):
    link.sendto(b"flow %d of %d" % (number, count), (target, 2055))
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(ipv6=True) as world:
        yield world


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    made = world.appliance(netflow=True)
    for machine, address in ((world.gw, "2001:db8::1/64"), (world.net, f"{OTHER}/64")):
        machine.iproute("address", "add", address, "dev", "wan0", "nodad")
    world.gw.await_listener(PORT, udp=True)
    return made


def send(world: World, source: str, count: int = 1) -> None:
    target = "2001:db8::1" if ":" in source else str(WAN.ip)
    world.net.run(sys.executable, "-c", SEND, source, target, str(count))


def journal(appliance: Appliance, code: str) -> Any:
    """An expression over the open journal as its readers see it, of the gateway machine's Python."""
    path = appliance.config().paths.data / "flows" / "journal.db"
    text = f"""
import json, pathlib
from collector.journal import Journal, unpack
book = Journal(pathlib.Path({str(path)!r}), write=False)
print(json.dumps({code}))
"""
    return json.loads(appliance.python("-c", text))


def payloads(appliance: Appliance, exporter: str) -> list[str]:
    of = f"[d for row in book.read(0) if row.exporter == {exporter!r} for d in unpack(row)]"
    found: list[str] = journal(appliance, f"[d.payload.decode() for d in {of}]")
    return found


def sent(count: int) -> list[str]:
    return [f"flow {number} of {count}" for number in range(count)]


def status(appliance: Appliance) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((appliance.config().paths.run / "collector/status.json").read_text())
    return said


def test_a_router_is_switched_on_and_off_while_the_collector_runs(world: World, appliance: Appliance) -> None:
    pid = appliance.pid("collector")
    appliance.cli("nas", "add", "attic", "--address", str(PROVIDER), "--netflow-from", f"{PROVIDER} {OTHER}")
    appliance.cli("apply")
    send(world, str(PROVIDER))
    wait_until(lambda: status(appliance)["others"], 5, "a sender that isn't collected")
    (other,) = status(appliance)["others"]
    assert (other["exporter"], other["datagrams"]) == (str(PROVIDER), 1)
    appliance.cli("nas", "set", "attic", "--netflow", "on")
    assert appliance.cli("apply").strip() == "nothing changed", "no service is restarted"

    def collected() -> list[str]:
        send(world, OTHER, 3)
        return payloads(appliance, OTHER) if status(appliance)["datagrams"] else []

    wait_until(collected, 10, "datagrams by IPv6")
    wait_until(lambda: payloads(appliance, OTHER)[-3:] == sent(3), 5, "the last of them, in their order")
    send(world, str(PROVIDER), 200)
    wait_until(lambda: payloads(appliance, str(PROVIDER)), 5, "datagrams by IPv4")
    assert payloads(appliance, str(PROVIDER)) == sent(200)
    appliance.cli("nas", "set", "attic", "--netflow", "off")
    appliance.cli("apply")
    before = ignored(appliance)

    def is_off() -> bool:
        send(world, str(PROVIDER))
        return ignored(appliance) > before

    wait_until(is_off, 10, "the router to be off")
    assert appliance.pid("collector") == pid
    heard = journal(appliance, "[list(h) for h in book.heard()]")
    assert {(row[0], row[1]) for row in heard} >= {(str(PROVIDER), False), (OTHER, True)}


def ignored(appliance: Appliance) -> int:
    """Datagrams of routers that are off, and of strangers."""
    return sum(other["datagrams"] for other in status(appliance)["others"])


def move_disk(appliance: Appliance, away: bool) -> None:
    """In the mount namespace of the services: pulled, and plugged in again with what is on it."""
    place, elsewhere = str(appliance.config().paths.data), appliance.directory / "away"
    elsewhere.mkdir(exist_ok=True)
    ways = (place, str(elsewhere)) if away else (str(elsewhere), place)
    run("nsenter", f"--mount=/proc/{appliance.pid('collector')}/ns/mnt", "mount", "--move", *ways)


def test_while_the_disk_is_away_nothing_is_lost(world: World, appliance: Appliance) -> None:
    appliance.cli("nas", "set", "attic", "--netflow", "on")
    appliance.cli("apply")
    before = len(payloads(appliance, OTHER))
    move_disk(appliance, away=True)
    wait_until(lambda: status(appliance)["problem"], 5, "the problem")
    taken = status(appliance)["datagrams"]
    send(world, OTHER, 50)
    wait_until(lambda: status(appliance)["datagrams"] >= taken + 50, 5, "all of them in the spool")
    assert status(appliance)["spooled_bytes"]
    assert "flows: the data disk is away" in appliance.cli("status")
    with pytest.raises(CommandFailed, match="gatehouse: flows: the data disk is away"):
        appliance.cli("health")
    killed = status(appliance)["since_ms"]
    appliance.kill("collector")
    wait_until(lambda: status(appliance)["since_ms"] > killed, 20, "the collector again")
    send(world, OTHER, 7)
    wait_until(lambda: status(appliance)["datagrams"] == 7, 5, "these in the spool, too")
    assert "away" in status(appliance)["problem"]
    move_disk(appliance, away=False)
    wait_until(lambda: len(payloads(appliance, OTHER)) >= before + 57, 10, "the spool to be carried over")
    assert payloads(appliance, OTHER)[before:] == [*sent(50), *sent(7)]
    wait_until(lambda: status(appliance)["problem"] == "", 5, "all to be well")


def test_the_own_gateways_guests_are_seen(world: World, appliance: Appliance, guest: Guest) -> None:
    login = set_up(appliance)
    journey.log_in(guest, login.username, login.password)
    journey.measure(guest)  # softflowd is given packets by blocks of 128 KB
    wait_until(lambda: journal(appliance, "[h.exporter for h in book.heard()]").count("127.0.0.1"), 20, "flows")
    (first,) = journal(
        appliance, "[unpack(r)[0].payload[:2].hex() for r in book.read(0) if r.exporter == '127.0.0.1'][:1]"
    )
    assert first == "000a", "IPFIX"


def _health(appliance: Appliance) -> str:
    try:
        return appliance.cli("health").strip()
    except CommandFailed as error:
        return str(error)


def test_flows_alone_and_nothing_at_all_are_well_too(appliance: Appliance) -> None:
    def services() -> set[str]:
        return {row["service"] for row in appliance.json("status") if row["service"]}

    appliance.cli("disable", "hotspot")
    assert {"collector", "admin"} <= services()
    assert not {"gateway", "exporter", "portal"} & services()
    wait_until(lambda: _health(appliance) == "all is well", 20, "flows alone")
    appliance.cli("disable", "netflow")
    assert services() == {"admin", "web"}
