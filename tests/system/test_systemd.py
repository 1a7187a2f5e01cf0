"""The product as systemd runs it on Debian 13: units, users, capabilities, restarts, reboots; and a guest behind it."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from appliance import data_disk
from appliance.config import Config
from appliance.core import CORE
from appliance.dealers.module import DEALER
from appliance.service import Service
from appliance.vault.module import NETBACKUP
from collector.module import COLLECTOR, EXPORTER, NETFLOW
from portal.module import HOTSPOT
from tests.flows import encode
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
FLOWS_PORT = 2055
FTP_PORTS = {21, 990}
PORTS_OF_HOTSPOT = {"udp": {53, 67, 1812, 1813, 3799, 18121, 18122}, "tcp": {53, 8080}}
PORTS = {"udp": {53, 67, 1812, 1813, FLOWS_PORT, 3799, 18121, 18122}, "tcp": {53, 8080, 8090, *FTP_PORTS}}
MODULES = (HOTSPOT, NETFLOW, NETBACKUP, DEALER)
SERVICES = [
    service
    for service in (*CORE.services, *(service for module in MODULES for service in module.services))
    if service is EXPORTER or service.wanted(Config())
]
GIVEN_UP = {COLLECTOR.name}  # their capabilities, once they have used them

DISK, AWAY = Config().paths.data, Path("/var/away")
# There before the services start, each time the machine does.
MOUNT = f"""
[Mount]
What=disk
Where={DISK}
Type=tmpfs
Options=size=200m,mode=755

[Install]
WantedBy=local-fs.target
"""
MARKED = f"f {DISK / data_disk.MARKER} 0644 root root - 0b0a1f6e-7a55-4ad2-9a56-6f0d7a6d3c11\n"
each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


ROUTER, GUEST = "attic", "192.0.2.33"
SEND = """
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], int(sys.argv[3])))
"""


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

    def page(self, path: str, *form: str) -> str:
        """What the admin's pages show the owner."""
        gateway = self.world.gw
        jar = str(gateway.directory / "owner-cookies")
        fields = [word for pair in form for word in ("--data-urlencode", pair)]
        words = ("curl", "-sk", "--max-time", "40", "-b", jar, "-c", jar)
        address = f"https://{WAN.ip}:8090"
        if not gateway.run(*words, "-w", "%{http_code}", "-o", "/dev/null", f"{address}/").stdout.startswith("200"):
            link = urlsplit(self.gatehouse("admin-link").strip())
            gateway.run(*words, f"{address}/enter?{link.query}")
        return gateway.run(*words, "--location", *fields, f"{address}{path}").stdout

    def send_flow(self, port: int) -> None:
        """A router tells that a guest asked a web server, from this port."""
        now_ms = int(time.time() * 1000)
        told = encode.template(256, "src4 dst4 src_port dst_port protocol octets packets flow_start_ms flow_end_ms")
        flow = {"src4": GUEST, "dst4": "203.0.113.80", "src_port": port, "dst_port": 443, "protocol": 6}
        flow |= {"octets": 1500, "packets": 3, "flow_start_ms": now_ms - 1000, "flow_end_ms": now_ms}
        sets = (encode.template_set(10, told), encode.data_set(told, [flow]))
        datagram = encode.ipfix(*sets, export_s=now_ms // 1000, domain=port).hex()
        self.world.net.run(sys.executable, "-c", SEND, datagram, str(WAN.ip), str(FLOWS_PORT))

    def found(self, port: int) -> int:
        """How many flows from this port a search finds."""
        words = ("flows", "search", "--json", f"src host {GUEST} and src port {port}")
        return sum(f'"src_port": {port}' in line for line in self.gatehouse(*words).splitlines())

    def await_flow(self, port: int) -> None:
        try:
            wait_until(lambda: self.found(port), 20, f"the flow from port {port}")
        except TimeoutError as error:
            journal = self.machine.run("journalctl", "--boot", "--no-pager", "--lines=60", "--unit=gatehouse-*")
            raise TimeoutError(f"{error}\n{self.gatehouse('status')}\n{journal}") from None

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


def attach(root: Path) -> None:
    """A data disk, as far as the services can tell."""
    (root / DISK.relative_to("/")).mkdir(parents=True, exist_ok=True)
    (root / "etc/tmpfiles.d/disk.conf").write_text(MARKED)
    unit = root / "etc/systemd/system" / f"{'-'.join(DISK.parts[1:])}.mount"
    unit.write_text(MOUNT)
    wants = unit.parent / "local-fs.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / unit.name).symlink_to(f"/etc/systemd/system/{unit.name}")


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[Site]:
    file = root / "etc/gatehouse/gatehouse.toml"
    file.parent.mkdir()
    file.write_text(CONFIG, encoding="utf-8")
    attach(root)
    with World() as world, booted(root, world.gw) as machine:
        site = Site(world, root, machine)
        for module in MODULES:
            site.gatehouse("enable", module.name)
        site.gatehouse("nas", "add", ROUTER, "--address", str(PROVIDER))
        site.gatehouse("nas", "set", ROUTER, "--netflow", "on")
        site.gatehouse("apply")
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
    allowed = sum(1 << CAPABILITIES[name] for name in service.capabilities)
    held = dict.fromkeys(("CapEff", "CapPrm", "CapAmb"), 0 if service.name in GIVEN_UP else allowed)
    assert {name: int(fields[name], 16) for name in (*held, "CapBnd")} == {**held, "CapBnd": allowed}
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


def test_a_flow_is_found_by_the_command_and_on_the_page(site: Site) -> None:
    site.send_flow(40_001)
    site.await_flow(40_001)
    assert site.found(40_001) == 1
    page = site.page(f"/flows?q=src+host+{GUEST}+and+src+port+40001&from=1h+ago")
    assert "40001" in page and "203.0.113.80" in page, page


def test_flows_outlive_that_the_disk_is_pulled_while_the_services_run(site: Site) -> None:
    pids = [site.show(service, "MainPID") for service in NETFLOW.services]
    site.send_flow(40_011)
    site.await_flow(40_011)
    site.machine.run("mkdir", "--parents", str(AWAY))
    site.machine.run("mount", "--bind", str(DISK), str(AWAY))  # as the disk keeps what is on it
    site.machine.run("umount", "--lazy", str(DISK))
    wait_until(lambda: "the data disk is away" in site.gatehouse("status"), 10, "the disk to be missed")
    site.send_flow(40_012)
    wait_until(lambda: re.search(r"[1-9]\S* wait on the system's disk", site.gatehouse("status")), 10, "the spool")
    assert site.machine.run("find", str(DISK)).split() == [str(DISK)], "something lies below the mount point"
    assert "no flows are kept there" in site.page(f"/flows?q=host+{GUEST}")
    site.machine.run("mount", "--bind", str(AWAY), str(DISK))
    site.machine.run("umount", str(AWAY))
    site.await_flow(40_012)
    assert [site.found(port) for port in (40_011, 40_012)] == [1, 1]
    assert [site.show(service, "MainPID") for service in NETFLOW.services] == pids
    wait_until(lambda: site.gatehouse("health", "--wait", "20").strip() == "all is well", 20, "all to be well")


CORE_DATABASE = Config().paths.state / "core/core.db"


def test_who_reads_flows_writes_none_and_who_takes_them_reads_no_accounts(site: Site) -> None:
    def may(service: Service, *words: str) -> bool:
        """In the service's own mount namespace, as its user, with its groups."""
        ids = [f"--reuid={service.user}", f"--regid={service.user}"]
        ids.append(f"--groups={','.join((service.user, *service.groups))}")
        inside = ("nsenter", "--mount", f"--target={site.show(service, 'MainPID')}")
        done = site.machine.run(*inside, "setpriv", *ids, "sh", "-c", '"$@" >&2 && echo yes', "sh", *words, check=False)
        return done.strip() == "yes"

    admin, journal = CORE.services[0], DISK / "flows/journal.db"
    assert admin.user == "gatehouse-admin"
    assert may(admin, "test", "-r", str(journal)) and may(admin, "test", "-r", str(CORE_DATABASE))
    for path in (DISK / "flows", journal, DISK / "flows/catalog.db", DISK / "flows/segments"):
        assert may(COLLECTOR, "test", "-w", str(path))
        assert not may(admin, "test", "-w", str(path)), path
    for service in NETFLOW.services:
        assert not may(service, "test", "-r", str(CORE_DATABASE))
        assert not may(service, "ls", str(CORE_DATABASE.parent))
    assert not may(EXPORTER, "ls", str(DISK / "flows"))


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


FIRST_PAGES = {"hotspot": "/sessions", "netflow": "/flows", "netbackup": "/vaults", "dealer": "/dealers"}


@pytest.mark.parametrize(
    "enabled",
    [("hotspot",), ("netflow",), ("netbackup",), ("dealer",), ("netflow", "netbackup"), ()],
    ids=lambda names: "+".join(names) or "none",
)
def test_modules_run_and_show_their_pages_only_while_they_are_enabled(site: Site, enabled: tuple[str, ...]) -> None:
    for module in MODULES:
        site.gatehouse("enable" if module.name in enabled else "disable", module.name)
    try:
        those = [module for module in MODULES if module.name in enabled]
        here = [s for part in (CORE, *those) for s in part.services if s in SERVICES]
        if "hotspot" not in enabled:
            here = [service for service in here if service is not EXPORTER]
        wait_until(lambda: site.states() == {s.name: "active" for s in here}, 20, "what is left")
        units = site.machine.run("systemctl", "list-unit-files", "--plain", "--no-legend", "gatehouse-*")
        roots = {"gatehouse-apply.service", "gatehouse-wishes.path", "gatehouse-wishes.service"}
        assert {line.split()[0] for line in units.splitlines()} == roots | {f"{s.unit}.service" for s in here}
        of = {
            "hotspot": PORTS_OF_HOTSPOT,
            "netflow": {"udp": {FLOWS_PORT}},
            "netbackup": {"tcp": FTP_PORTS},
            "dealer": {},
        }
        ports = {
            kind: set().union(*(of[name].get(kind, set()) for name in enabled)) | ({8090} if kind == "tcp" else set())
            for kind in PORTS
        }
        wait_until(lambda: site.ports() == ports, 20, "their ports")
        first = site.page("/")
        for name, path in FIRST_PAGES.items():
            assert (f'href="{path}"' in first) is (name in enabled), first
            assert ("<h1>There is no such page</h1>" in site.page(path)) is (name not in enabled), path
        assert site.machine.run("systemctl", "--failed", "--plain", "--no-legend") == ""
        assert [row["name"] for row in json.loads(site.gatehouse("account", "list", "--json"))] == ["guest"]
    finally:
        for module in MODULES:
            site.gatehouse("enable", module.name)
    site.await_service("after all was enabled again")
    site.send_flow(45_000 + len(enabled))
    site.await_flow(45_000 + len(enabled))
