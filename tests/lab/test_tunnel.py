"""A router behind a carrier's NAT: its script, a tunnel that carries packets, logins, and Disconnect the other way.

Kernels of test machines may have no WireGuard: both ends are wireguard-go, which wg(8) speaks to alike. The service
finds its device already there; `ip link add type wireguard` is what it would do otherwise.
"""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import apply
from tests.lab.addresses import CARRIER, WAN
from tests.lab.appliance import Appliance
from tests.lab.namespace import Namespace, wait_until
from tests.lab.world import World
from tests.unit.routeros import Router

pytestmark = pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="wireguard-go needs /dev/net/tun")

DEVICE, OTHER_END = "gatehouse", "ghrouter"
SERVER, ROUTER = "10.99.0.1", "10.99.0.2"
USERS = Path(apply.__file__).with_name("systemd") / "sysusers.conf"
_WIREGUARD_GO = """
    import os, pathlib, pwd, socket, sys
    device, user = sys.argv[1:]
    path = pathlib.Path("/var/run/wireguard", f"{device}.sock")
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    os.chown(path, pwd.getpwnam(user).pw_uid, 0)  # before the start: it ends when its socket's owner changes
    listener.listen(16)
    listener.set_inheritable(True)
    os.environ["WG_UAPI_FD"] = str(listener.fileno())
    os.execvp("wireguard-go", ["wireguard-go", "-f", device])
"""
_DISCONNECT_ACK = """
    import hashlib, socket, sys
    address, port, secret = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind((address, port))
        request, sender = link.recvfrom(4096)
        assert request[0] == 40  # Disconnect-Request (RFC 5176, 3)
        head = bytes([41, request[1], 0, 20])
        link.sendto(head + hashlib.md5(head + request[4:20] + secret).digest(), sender)
        print(sender[0])
"""


def start_wireguard(machine: Namespace, device: str, user: str = "root") -> None:
    machine.popen(sys.executable, "-c", textwrap.dedent(_WIREGUARD_GO), device, user, log=f"{device}.log")
    wait_until(lambda: "listening port" in machine.run("wg", "show", device, check=False).stdout, 10, device)


@pytest.fixture(scope="module")
def appliance(world: World) -> Iterator[Appliance]:
    subprocess.run(["systemd-sysusers", str(USERS)], check=True)
    start_wireguard(world.gw, DEVICE, "gatehouse-tunnel")
    yield world.appliance(f'[tunnel]\nenabled = true\n[radius]\npublic_address = "{WAN.ip}"\n')


@pytest.fixture(scope="module")
def pasted(appliance: Appliance) -> Router:
    """What the router has after its script was pasted."""
    appliance.cli("nas", "add", "attic", "--tunnel")
    router = Router((7, 16), {"/ip hotspot profile": [{"name": "hsprof1"}]})
    router.paste(appliance.cli("nas", "script", "attic"))
    appliance.cli("apply")
    assert router.said == ["gatehouse: done"]
    return router


@pytest.fixture(scope="module")
def router(world: World, pasted: Router) -> Namespace:
    """The machine that plays the router, set up from what the script put into it."""
    machine = world.router()
    start_wireguard(machine, OTHER_END)
    (own,), (peer,) = (pasted.objects[f"/interface wireguard{menu}"] for menu in ("", " peers"))
    (address,) = pasted.objects["/ip address"]
    machine.run(
        *("wg", "set", OTHER_END, "private-key", "/dev/stdin", "peer", peer["public-key"]),
        *("endpoint", f"{peer['endpoint-address']}:{peer['endpoint-port']}", "allowed-ips", peer["allowed-address"]),
        *("persistent-keepalive", peer["persistent-keepalive"].removesuffix("s")),
        stdin=own["private-key"],
    )
    machine.iproute("address", "add", address["address"], "peer", address["network"], "dev", OTHER_END)
    machine.iproute("link", "set", OTHER_END, "up")
    return machine


def reaches(machine: Namespace, address: str) -> bool:
    return machine.run("ping", "-c", "1", "-W", "2", address, check=False).returncode == 0


def radclient(machine: Namespace, pasted: Router, kind: str, attributes: str) -> str:
    radius = pasted.objects["/radius"][0]
    port = radius["authentication-port" if kind == "auth" else "accounting-port"]
    text = f"{textwrap.dedent(attributes)}\nNAS-Identifier = attic\nPacket-Src-IP-Address = {radius['src-address']}\n"
    words = ("radclient", "-x", "-r", "3", "-t", "3", f"{radius['address']}:{port}", kind, radius["secret"])
    return machine.run(*words, stdin=text, check=False).stdout


def test_the_tunnel_opens_from_behind_the_nat(world: World, router: Namespace) -> None:
    wait_until(lambda: reaches(router, SERVER), 20, "a ping through the tunnel")
    assert reaches(world.gw, ROUTER), "the other way"
    assert not reaches(world.gw, str(CARRIER.ip + 1)), "nobody reaches it without"


def test_logins_and_disconnect_go_through(
    world: World, appliance: Appliance, router: Namespace, pasted: Router
) -> None:
    appliance.cli("plan", "add", "home")
    appliance.cli("account", "add", "anna", "--plan", "home", "--password-stdin", stdin="secret123\n")
    login = 'User-Name = anna\nUser-Password = secret123\nCalling-Station-Id = "02:00:00:00:00:01"'
    assert "Received Access-Accept" in radclient(router, pasted, "auth", f"{login}\nMessage-Authenticator = 0x00")
    start = "User-Name = anna\nAcct-Status-Type = Start\nAcct-Session-Id = 80100001\nFramed-IP-Address = 10.5.50.9"
    assert "Accounting-Response" in radclient(router, pasted, "acct", start)
    secret, port = pasted.objects["/radius"][0]["secret"], pasted.objects["/radius incoming"][0]["port"]
    router.popen(sys.executable, "-c", textwrap.dedent(_DISCONNECT_ACK), ROUTER, port, secret, log="ack.log")
    router.await_listener(int(port), udp=True)
    assert "let go" in appliance.cli("session", "remove", "anna")
    assert (router.directory / "ack.log").read_text() == f"{SERVER}\n", "it came from the RADIUS server's address"


def test_a_router_reaches_nothing_else_of_the_appliance(world: World, router: Namespace) -> None:
    world.gw.popen("socat", "TCP-LISTEN:7777,fork,reuseaddr", "SYSTEM:echo open")
    world.gw.await_listener(7777)
    answer = world.gw.run("socat", "-T", "2", "-", f"TCP:{SERVER}:7777", check=False).stdout
    assert answer == "open\n", "it is there"
    assert not router.run("socat", "-T", "2", "-", f"TCP:{SERVER}:7777,connect-timeout=2", check=False).stdout


def test_another_router_interrupts_no_tunnel(world: World, appliance: Appliance, router: Namespace) -> None:
    before = world.gw.run("wg", "show", DEVICE, "latest-handshakes").stdout
    appliance.cli("nas", "add", "barn", "--tunnel")
    appliance.cli("nas", "script", "barn")
    appliance.cli("apply")
    wait_until(lambda: len(world.gw.run("wg", "show", DEVICE, "peers").stdout.split()) == 2, 10, "the second peer")
    assert before.strip() in world.gw.run("wg", "show", DEVICE, "latest-handshakes").stdout
    appliance.cli("nas", "remove", "barn")
    appliance.cli("apply")
    wait_until(lambda: len(world.gw.run("wg", "show", DEVICE, "peers").stdout.split()) == 1, 10, "the peer to go")


def test_tunnels_stand_without_their_service(world: World, appliance: Appliance, router: Namespace) -> None:
    pid = appliance.pid("tunnel")
    appliance.kill("tunnel")
    assert reaches(router, SERVER)
    wait_until(lambda: appliance.pid("tunnel") not in (0, pid), 15, "the service again")
    assert reaches(router, SERVER)


def test_switched_off_they_are_gone(world: World, appliance: Appliance, router: Namespace) -> None:
    text = appliance.config_file.read_text()
    appliance.config_file.write_text(text.replace("enabled = true", "enabled = false"))
    appliance.cli("apply")
    wait_until(lambda: DEVICE not in world.gw.iproute("-br", "link"), 15, "the device to go")
    assert "tunnel" not in {row["service"] for row in appliance.json("status")}
    assert not reaches(router, SERVER)
