"""The product as systemd runs it on Debian 13: units, users, capabilities, restarts, reboots; and a guest behind it."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from appliance.config import Config
from appliance.core import CORE
from appliance.service import Service
from portal.module import HOTSPOT
from tests.lab import journey
from tests.lab.addresses import LAN, POOL, PROVIDER, WAN
from tests.lab.namespace import wait_until
from tests.lab.world import World
from tests.system.container import Machine, booted
from tests.system.debian13 import VENV

pytestmark = pytest.mark.system

CONFIG = f"""
[gateway]
lan = "lan0"
wan = "wan0"
address = "{LAN}"
addresses = ["{POOL}"]

[dhcp]
dns = ["{PROVIDER}"]

[admin]
listen = "0.0.0.0"
"""
CAPABILITIES = {"net_bind_service": 10, "net_admin": 12, "net_raw": 13}  # linux/capability.h
MOST_EXPOSED = 3.0
PORTS = {"udp": {53, 67, 1812, 1813, 3799, 18121, 18122}, "tcp": {53, 8080, 8090}}
SERVICES = [service for service in (*CORE.services, *HOTSPOT.services) if service.wanted(Config())]
each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


@dataclass
class Site:
    """One appliance between an Internet and a switch, with an account that may log in."""

    world: World
    root: Path
    machine: Machine
    password: str = ""

    def gatehouse(self, *words: str) -> str:
        return self.machine.run(f"{VENV}/bin/gatehouse", *words)

    def states(self) -> dict[str, str]:
        rows = json.loads(self.gatehouse("status", "--json"))
        return {row["service"]: row["state"] for row in rows if row["service"]}

    def show(self, service: Service, name: str) -> str:
        return self.machine.run("systemctl", "show", "--property", name, "--value", service.unit).strip()

    def ports(self) -> dict[str, set[int]]:
        lines = [line.split() for line in self.machine.run("ss", "-Hlntu").splitlines()]
        return {kind: {int(line[4].rpartition(":")[2]) for line in lines if line[0] == kind} for kind in PORTS}

    def login(self, password: str) -> str:
        """What radclient(1) prints of a login by the account, asked as the appliance's own gateway."""
        secret = self.machine.run("cat", "/run/gatehouse/gateway.secret")
        return self.machine.run(
            *("radclient", "-x", "-r", "1", "-t", "3", "127.0.0.1:1812", "auth", secret),
            stdin=f'User-Name = "guest"\nUser-Password = "{password}"\nMessage-Authenticator = 0x00\n',
            check=False,
        )

    def serves(self) -> bool:
        """All runs, listens and answers."""
        return (
            set(self.states().values()) == {"active"}
            and all(self.ports()[kind] >= ports for kind, ports in PORTS.items())
            and "Received Access-Accept" in self.login(self.password)
        )

    def await_service(self, why: str) -> None:
        try:
            wait_until(self.serves, 30, f"service {why}")
        except TimeoutError as error:
            journal = self.machine.run("journalctl", "--boot", "--no-pager", "--lines=60", "--unit=gatehouse-*")
            raise TimeoutError(f"{error}\n{self.states()}\n{self.ports()}\n{journal}") from None

    def forget_network(self) -> None:
        """What no kernel keeps over a reboot; the devices stay, as hardware does.

        By the root's own nft(8): Debian 12's can't read the newer one's tables.
        """
        gateway = self.world.gw
        gateway.run("chroot", str(self.root), "nft", "flush", "ruleset")
        gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        gateway.iproute("address", "flush", "dev", "lan0")
        for device in ("wan0", "lan0"):
            gateway.run("tc", "qdisc", "delete", "dev", device, "root")
        for pool in POOL.subnets():
            gateway.iproute("route", "flush", "table", "local", "root", str(pool))


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[Site]:
    file = root / "etc/gatehouse/gatehouse.toml"
    file.parent.mkdir()
    file.write_text(CONFIG, encoding="utf-8")
    with World() as world, booted(root, world.gw) as machine:
        site = Site(world, root, machine)
        site.gatehouse("enable", "hotspot")
        site.gatehouse("pool", "add", "public", f"{POOL[0]}-{POOL[-1]}")
        site.gatehouse("plan", "add", "first", "--down", "20M", "--up", "5M", "--pool", "public")
        site.password = site.gatehouse("account", "add", "guest", "--plan", "first").split()[-1]
        site.await_service("after `enable`")
        yield site


def test_all_units_run_and_none_has_failed(site: Site) -> None:
    assert site.states() == {service.name: "active" for service in SERVICES}
    assert site.machine.run("systemctl", "--failed", "--plain", "--no-legend") == ""


def test_nothing_else_listens(site: Site) -> None:
    assert site.ports() == PORTS


@each_service
def test_each_runs_as_its_user_with_its_capabilities_only(site: Site, service: Service) -> None:
    status = site.machine.run("cat", f"/proc/{site.show(service, 'MainPID')}/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    held = sum(1 << CAPABILITIES[name] for name in service.capabilities)
    assert {name: int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapEff", "CapPrm", "CapBnd", "CapAmb"), held
    )
    user = site.machine.run("id", "--user", service.user).strip()
    assert fields["Uid"].split() == [user] * 4
    groups = [site.machine.run("getent", "group", name).split(":")[2] for name in (service.user, *service.groups)]
    assert set(fields["Groups"].split()) == set(groups)
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"  # a filter, proc(5)


@each_service
def test_each_unit_is_hardened(site: Site, service: Service) -> None:
    printed = site.machine.run("systemd-analyze", "security", "--no-pager", f"{service.unit}.service")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", printed)
    assert found, printed
    print(f"{service.unit}: exposure {found[1]}")
    assert float(found[1]) <= MOST_EXPOSED, printed


WISH = """
import json, sys, time
from appliance import config, wishes
at = config.load()
number = wishes.wish(at, "test", **json.loads(sys.argv[1]))
until = time.monotonic() + 120
while (said := wishes.outcome(at, number)) is None and time.monotonic() < until:
    time.sleep(0.2)
print(said)
"""


def wished(site: Site, **wish: object) -> str:
    """What root has answered the admin's process; nothing when it did as asked."""
    words = ("setpriv", "--reuid=gatehouse-admin", "--regid=gatehouse-admin", "--groups=gatehouse-core")
    python = (
        "env",
        "GATEHOUSE_CONFIG=/run/gatehouse/gatehouse.toml",
        f"{VENV}/bin/python",
        "-c",
        WISH,
        json.dumps(wish),
    )
    return site.machine.run(*words, *python).strip()


def test_the_admins_page_is_on_the_network_by_tls_only(site: Site) -> None:
    link = urlsplit(site.gatehouse("admin-link").strip())
    assert (link.scheme, link.port) == ("https", 8090)
    gateway = site.world.gw
    authority = gateway.directory / "ca.pem"
    authority.write_text(site.gatehouse("ca"))
    name = f"{Config().portal.hostname}:8090"
    curl = ("curl", "-sSi", "--cacert", str(authority), "--connect-to", f"{name}:{WAN.ip}:8090")
    entered = gateway.run(*curl, f"https://{name}/enter?{link.query}").stdout
    assert entered.startswith("HTTP/1.1 200")
    assert re.search("^Set-Cookie: gatehouse=.*; Secure", entered, re.M)
    assert gateway.run(*curl, f"https://{name}/enter?{link.query}").stdout.startswith("HTTP/1.1 403")
    assert gateway.run("curl", "-sSi", f"http://{WAN.ip}:8090/").stdout.startswith("HTTP/1.1 400")


def test_what_is_wished_on_the_pages_is_granted_by_root_in_a_unit_of_its_own(site: Site) -> None:
    gateway, link = site.world.gw, urlsplit(site.gatehouse("admin-link").strip())
    jar = str(gateway.directory / "wish-cookies")

    def curl(path: str, *form: str) -> str:
        fields = [word for pair in form for word in ("--data-urlencode", pair)]
        words = ("curl", "-skL", "--max-time", "20", "-b", jar, "-c", jar, *fields, f"https://{WAN.ip}:8090{path}")
        return gateway.run(*words, check=False).stdout

    curl(f"/enter?{link.query}")
    modules = curl("/modules")
    assert modules.count('<td class="good">active</td>') == len(SERVICES), modules  # asked without being root
    token = re.search(r'name="form_token" value="([^"]+)"', modules)
    assert token
    page = curl("/settings/site", f"form_token={token[1]}", "site.name=Café")
    assert "goes on by itself" in page or "It is done" in page
    file = "/etc/gatehouse/gatehouse.toml"  # written once the pages answer with it
    wait_until(lambda: 'name = "Café"' in site.machine.run("cat", file), 60, "the wish to be granted")
    wait_until(lambda: "<title>Settings: Site · Café" in curl("/settings/site"), 20, "the pages")

    assert "is not between" in wished(site, settings={"dhcp.lease_s": 1})
    assert wished(site, modules={"hotspot": False}) == ""
    assert site.states().get("portal") != "active"
    assert wished(site, modules={"hotspot": True}) == ""
    site.await_service("after it was switched off and on")
    printed = site.machine.run("systemd-analyze", "security", "--no-pager", "gatehouse-wishes.service")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", printed)
    assert found and float(found[1]) <= MOST_EXPOSED, printed
    assert site.machine.run("systemctl", "is-active", "gatehouse-wishes.path").strip() == "active"
    assert site.machine.run("systemctl", "--failed", "--plain", "--no-legend") == ""


def test_health_says_what_does_not_work(site: Site) -> None:
    assert site.gatehouse("health", "--wait", "20").strip() == "all is well"
    site.machine.run("systemctl", "stop", "gatehouse-portal", "gatehouse-radius-accounting")
    try:
        said = site.machine.run("sh", "-c", f"{VENV}/bin/gatehouse health 2>&1 || echo status $?")
        for line in (
            "service portal: inactive",
            "service radius-accounting: inactive",
            "radius-accounting doesn't answer on 127.0.0.1 port 18122",
            "the login page on 127.0.0.1 port 8080 says 503",
            "status 1",
        ):
            assert line in said, said
    finally:
        site.machine.run("systemctl", "start", "gatehouse-portal", "gatehouse-radius-accounting")
    site.await_service("after health was asked")


def test_radius_answers_by_the_account(site: Site) -> None:
    accepted = site.login(site.password)
    assert "Received Access-Accept" in accepted
    assert 'Mikrotik-Rate-Limit = "5M/20M"' in accepted
    assert "Received Access-Reject" in site.login("wrong")


def test_a_guest_gets_online(site: Site) -> None:
    guest = site.world.guest()
    guest.lease()
    journey.meet_portal(guest)
    journey.fail_to_log_in(guest, "guest")
    journey.log_in(guest, "guest", site.password)
    journey.surf_with_own_address(guest)


@each_service
def test_a_killed_service_comes_back(site: Site, service: Service) -> None:
    before = site.show(service, "MainPID")
    site.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", service.unit)
    wait_until(lambda: site.show(service, "MainPID") not in ("0", before), 10, f"another {service.name}")
    site.await_service(f"after {service.name} was killed")


def test_all_units_can_be_restarted(site: Site) -> None:
    site.machine.run("systemctl", "restart", *(service.unit for service in SERVICES))
    site.await_service("after a restart")


@pytest.mark.parametrize("end", [Machine.shut_down, Machine.cut_power], ids=lambda end: end.__name__)
def test_all_comes_back_with_the_machine(site: Site, end: Callable[[Machine], None]) -> None:
    guest = site.world.guest()
    guest.lease()
    journey.log_in(guest, "guest", site.password)
    address = journey.surf(guest)
    end(site.machine)
    site.forget_network()
    assert guest.curl(journey.ANYWHERE, timeout_s=2).status == 0, "something answers with the power off"
    site.machine.boot()
    site.await_service("after the boot")
    assert site.machine.run("systemctl", "--failed", "--plain", "--no-legend") == ""
    assert journey.surf(guest) == address, "the session didn't outlive the reboot"


def test_what_is_disabled_ends_and_keeps_its_data(site: Site) -> None:
    site.gatehouse("disable", "hotspot")
    try:
        assert site.ports() == {"udp": set(), "tcp": {8090}}
        units = site.machine.run("systemctl", "list-unit-files", "--plain", "--no-legend", "gatehouse-*")
        running = {f"{service.unit}.service" for service in CORE.services}
        roots = {"gatehouse-apply.service", "gatehouse-wishes.path", "gatehouse-wishes.service"}
        assert {line.split()[0] for line in units.splitlines()} == roots | running
        assert site.states() == {service.name: "active" for service in CORE.services}
        assert [row["name"] for row in json.loads(site.gatehouse("account", "list", "--json"))] == ["guest"]
    finally:
        site.gatehouse("enable", "hotspot")
    site.await_service("after it was enabled again")
