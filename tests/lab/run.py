"""`make run`: the appliance in a small world of its own, a guest that walks through it, and you as a guest.

Needs root; leaves nothing behind. With --once it ends after the journey, with status 0 if each step held.
"""

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from tests.lab import journey
from tests.lab.addresses import LAN, POOL, PROVIDER, WAN, WEB
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.namespace import wait_until
from tests.lab.world import World

DOWN_BPS = 20e6
UP_BPS = 5e6
FLOWS_WITHIN_S = FTP_WITHIN_S = 20
USERNAME = "guest"
_FAILURES = (AssertionError, TimeoutError, subprocess.TimeoutExpired)


@dataclass(frozen=True)
class Login:
    username: str
    password: str


def main(words: Sequence[str] | None = None) -> int:
    args = _arguments(words)
    started = time.monotonic()
    try:
        with World() as world:
            return _run(world, args.guest, args.once, started)
    except KeyboardInterrupt:
        print("\nended, everything is removed", flush=True)
        return 130 if args.once else 0
    except _FAILURES as error:
        _failed(error)
        return 1


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.run", description=__doc__)
    parser.add_argument("--no-guest", dest="guest", action="store_false", help="no scripted guest")
    parser.add_argument("--once", action="store_true", help="end after the journey")
    return parser.parse_args(words)


def _run(world: World, with_guest: bool, once: bool, started: float) -> int:
    _say("starting", "the appliance between an Internet and a switch, in network namespaces")
    appliance = world.appliance(netflow=True)
    appliance.cli("enable", "netbackup")
    login = set_up(appliance)
    guest = world.guest()
    _describe(login)
    closing = _walk(world, appliance, guest, login, started) if with_guest else f"{guest.lease().ip} is a guest's"
    if once:
        print(closing or "the journey ended early", flush=True)
        return 0 if closing else 1
    _stay(world, appliance, guest)
    return 0


def set_up(appliance: Appliance) -> Login:
    """A first pool, plan and account, by the operator's own commands."""
    appliance.cli("pool", "add", "public", f"{POOL[0]}-{POOL[-1]}")
    speed = ("--down", "20M", "--up", "5M")
    appliance.cli("plan", "add", "first", *speed, "--windows", "Mo-Su 00:00-24:00", "--pool", "public")
    printed = appliance.cli("account", "add", USERNAME, "--plan", "first")
    found = re.search(r"shown only now: (\S+)", printed)
    assert found, printed
    return Login(USERNAME, found[1])


def _describe(login: Login) -> None:
    _say("gateway", f"{LAN} for guests, {WAN} to the provider {PROVIDER}; a far web server is {WEB}")
    _say("plan", f"first: 20M down, 5M up, all day, a public address of {POOL}")
    _say("login", f"{login.username}, password {login.password} (made up now, for this run only)")
    print()


def _walk(world: World, appliance: Appliance, guest: Guest, login: Login, started: float) -> str | None:
    """The closing line, None when a step failed; the world is left as it was then."""
    try:
        _held(journey.lease(guest))
        _held(journey.resolve_names(guest))
        _held(journey.meet_portal(guest))
        _held(journey.find_https_untouched(guest, world))
        _held(journey.find_nothing_passes(guest, world))
        _held(journey.fail_to_log_in(guest, login.username))
        portal = journey.find_portal(guest)
        _held(journey.log_in(guest, login.username, login.password))
        online_s = time.monotonic() - started
        _held(journey.surf_with_own_address(guest))
        speeds = journey.measure(guest)
        _held(journey.keep_to_plan(speeds, DOWN_BPS, UP_BPS))
        _held(journey.see_status(guest, portal))
        address = journey.surf(guest)
        _held(find_flows(appliance, guest.ip))
        _held(bring_back(world, appliance))
        return f"guest online: {address} {speeds} in {online_s:.1f} s"
    except _FAILURES as error:
        _failed(error)
        return None


def find_flows(appliance: Appliance, guest: IPv4Address) -> str:
    """What softflowd told of the guest, asked as an operator does."""

    found: list[str] = []

    def came() -> bool:
        found[:] = appliance.cli(
            "flows", "search", "host", str(guest), "--sort", "bytes", "--limit", "1", "--json"
        ).splitlines()
        return bool(found)

    wait_until(came, FLOWS_WITHIN_S, "the guest's flows")
    flow = json.loads(found[0])
    return f"the guest's flows are found: {flow['src']} to {flow['dst']}, {flow['bytes']:,} bytes"


def bring_back(world: World, appliance: Appliance) -> str:
    """A file comes by FTPS from outside, is overwritten, and its first version is made the present one again."""
    host, ca, file = appliance.config().portal.hostname, appliance.directory / "ca.pem", appliance.directory / "a.rsc"
    ca.write_text(appliance.cli("ca"), encoding="ascii")
    login = "shop:" + appliance.cli("vault", "add", "shop").split()[-1]
    secure = ("--silent", "--show-error", "--ssl-reqd", "--cacert", str(ca), "--resolve", f"{host}:21:{WAN.ip}")
    curl = ("curl", *secure, "--user", login, f"ftp://{host}/a.rsc")
    world.gw.await_listener(21, timeout_s=FTP_WITHIN_S)
    for text in ("first", "overwritten"):
        file.write_text(text, encoding="ascii")
        world.net.run(*curl, "--upload-file", str(file))
    first = appliance.json("vault", "versions", "shop", "/a.rsc")[-1]["version"]
    appliance.cli("vault", "undelete", str(first))
    found = world.net.run(*curl).stdout
    assert found == "first", f"/a.rsc of the vault: {found!r}"
    return "a file in the vault is overwritten and brought back"


def _held(note: str) -> None:
    print(f"✓ {note}", flush=True)


def _failed(error: Exception) -> None:
    print(f"✗ {error}", flush=True)


def _stay(world: World, appliance: Appliance, guest: Guest) -> None:
    portal, admin = _free_port(), _free_port()
    world.browser_relay(portal, guest)
    world.admin_relay(admin, f"{appliance.config().admin.listen}:{appliance.config().admin.port}")
    link = urlsplit(appliance.cli("admin-link").strip())
    print()
    _say("browse", f"http://127.0.0.1:{portal}/ is the portal as the guest {guest.ip} sees it")
    _say("admin", link._replace(netloc=f"127.0.0.1:{admin}").geturl() + " (works once, for 15 minutes)")
    _say("look", f"ip netns exec {world.gw.name} bash is inside the gateway, {guest.name} is the guest")
    _say("logs", str(appliance.config().paths.log))
    _say("end", "Ctrl-C")
    signal.pause()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(what: str, text: str) -> None:
    print(f"{what:>9}  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
