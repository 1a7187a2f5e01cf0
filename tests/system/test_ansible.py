"""Ansible on a Debian that is reached by SSH: installs, changes nothing twice, updates, keeps strangers out."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.core import CORE
from portal.module import HOTSPOT
from tests.lab import journey
from tests.lab.addresses import LAN, POOL, PROVIDER, WAN
from tests.lab.namespace import wait_until
from tests.system.ansible_host import TREE, Host, debian_host, play

pytestmark = pytest.mark.system

CONFIG = {
    "gateway": {"lan": "lan0", "wan": "wan0", "address": str(LAN), "addresses": [str(POOL)]},
    "dhcp": {"dns": [str(PROVIDER)]},
}
VARIABLES = {"gatehouse_config": CONFIG, "gatehouse_modules": ["hotspot"]}
SERVICES = {service.name for service in (*CORE.services, *HOTSPOT.services) if service.wanted(Config())}
DISTRIBUTIONS = ("freeradius", "nginx", "dnsmasq", "softflowd")
LISTENING = {"udp": {53, 67, 1812, 1813, 3799, 18121, 18122}, "tcp": {22, 53, 8080, 8090}}
FROM_OUTSIDE = {22}  # of TCP; 8090 is let through, but [admin] listen is 127.0.0.1
STRANGER = 9999


@pytest.fixture(scope="module", params=["trixie", pytest.param("bookworm", marks=pytest.mark.long)])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with debian_host(request.param, VARIABLES) as host:
        first = host.site()
        assert first.status == 0, first.text
        assert first.count("changed") > 10
        host.gatehouse("health", "--wait", "30")
        yield host


def states(host: Host) -> dict[str, str]:
    rows = json.loads(host.gatehouse("status", "--json"))
    return {row["service"]: row["state"] for row in rows if row["service"]}


def main_pids(host: Host) -> dict[str, str]:
    return {
        name: host.machine.run(
            "systemctl", "show", "--property=MainPID", "--value", f"gatehouse-{name}.service"
        ).strip()
        for name in SERVICES
    }


def opens(host: Host, port: int) -> bool:
    """From the provider's network."""
    done = host.world.net.run("socat", "-u", "/dev/null", f"TCP:{WAN.ip}:{port},connect-timeout=2", check=False)
    return done.returncode == 0


def login(host: Host, password: str) -> str:
    secret = host.machine.run("cat", "/run/gatehouse/gateway.secret")
    return host.machine.run(
        *("radclient", "-x", "-r", "3", "-t", "5", "127.0.0.1:1812", "auth", secret),
        stdin=f'User-Name = "guest"\nUser-Password = "{password}"\nMessage-Authenticator = 0x00\n',
        check=False,
    )


@pytest.fixture(scope="module")
def password(host: Host) -> str:
    host.gatehouse("pool", "add", "public", f"{POOL[0]}-{POOL[-1]}")
    host.gatehouse("plan", "add", "first", "--down", "20M", "--up", "5M", "--pool", "public")
    return host.gatehouse("account", "add", "guest", "--plan", "first").split()[-1]


def test_the_second_run_changes_nothing(host: Host) -> None:
    pids = main_pids(host)
    second = host.site()
    assert second.status == 0, second.text
    assert second.count("changed") == 0, second.text
    assert main_pids(host) == pids


def test_all_runs_and_nothing_has_failed(host: Host) -> None:
    assert states(host) == dict.fromkeys(SERVICES, "active")
    assert host.machine.run("systemctl", "--failed", "--plain", "--no-legend") == ""
    masked = host.machine.run("systemctl", "is-enabled", *DISTRIBUTIONS, check=False)
    assert masked.split() == ["masked"] * len(DISTRIBUTIONS)
    assert host.machine.run("ps", "-C", "softflowd", "-o", "pid=", check=False) == ""


def test_radius_answers(host: Host, password: str) -> None:
    assert "Received Access-Accept" in login(host, password)
    assert "Received Access-Reject" in login(host, "wrong")


def test_only_expected_ports_listen_and_fewer_open_from_outside(host: Host) -> None:
    lines = [line.split() for line in host.machine.run("ss", "-Hlntu").splitlines()]
    assert {
        kind: {int(line[4].rpartition(":")[2]) for line in lines if line[0] == kind} for kind in LISTENING
    } == LISTENING
    listener = host.world.gw.popen("socat", f"TCP-LISTEN:{STRANGER},fork", "/dev/null")
    host.world.gw.await_listener(STRANGER)
    try:
        assert {port for port in (*LISTENING["tcp"], STRANGER) if opens(host, port)} == FROM_OUTSIDE
        loosened = host.site(gatehouse_firewall_rules=[f"tcp dport {STRANGER} accept"])
        assert loosened.status == 0, loosened.text
        assert opens(host, STRANGER)
        assert host.site().status == 0
        assert not opens(host, STRANGER)
    finally:
        listener.kill()


def test_the_firewall_never_touches_the_gateways_table(host: Host) -> None:
    def tables() -> set[str]:
        return set(re.findall(r"table inet (\S+)", host.machine.run("nft", "list", "tables")))

    assert tables() == {"gatehouse", "gatehouse_host"}
    host.machine.run("systemctl", "restart", "nftables")
    assert tables() == {"gatehouse", "gatehouse_host"}
    host.machine.run("systemctl", "stop", "nftables")
    try:
        assert tables() == {"gatehouse"}
    finally:
        host.machine.run("systemctl", "start", "nftables")


def test_a_rule_that_cannot_be_loaded_never_replaces_those_that_can(host: Host) -> None:
    file, typo = host.root / "etc/nftables.d/gatehouse.nft", "tcp dpotr 9999 accept"
    before = file.read_text(encoding="utf-8")
    for _ in range(2):
        refused = host.site(gatehouse_firewall_rules=[typo])
        assert refused.status != 0, refused.text
        assert typo in refused.text, refused.text
        assert file.read_text(encoding="utf-8") == before
    host.machine.run("systemctl", "restart", "nftables")


def test_the_firewall_on_the_disk_is_loaded_also_after_a_run_that_was_broken_off(host: Host) -> None:
    file, rule, typo = host.root / "etc/nftables.d/gatehouse.nft", f"tcp dport {STRANGER} accept", "tcp dpotr 1 accept"
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text(f"{rule}\n", encoding="utf-8")
        mended = host.site(gatehouse_firewall_rules=[rule])
        assert mended.status == 0, mended.text
        assert mended.count("changed") == 0, mended.text
        assert rule in host.machine.run("nft", "list", "table", "inet", "gatehouse_host")
        file.write_text(f"{typo}\n", encoding="utf-8")
        assert host.site(gatehouse_firewall_rules=[typo]).status != 0, "the next boot has no firewall"
        replaced = host.site(gatehouse_firewall_rules=[rule])
        assert replaced.status == 0, replaced.text
    finally:
        file.write_text(before, encoding="utf-8")
        host.machine.run("systemctl", "reload", "nftables")


def test_a_guest_gets_online_through_it(host: Host, password: str) -> None:
    guest = host.world.guest()
    guest.lease()
    journey.meet_portal(guest)
    journey.log_in(guest, "guest", password)
    journey.surf_with_own_address(guest)
    assert guest.curl(f"http://{LAN.ip}:22/", timeout_s=2).status == 0, "a guest reaches SSH"


def test_nobody_logs_in_by_a_password(host: Host) -> None:
    settings = host.machine.run("sshd", "-T").splitlines()
    assert {"passwordauthentication no", "kbdinteractiveauthentication no"} <= set(settings)


def test_a_configuration_that_cannot_be_used_is_refused(host: Host) -> None:
    file = host.root / "etc/gatehouse/gatehouse.toml"
    before = file.read_text(encoding="utf-8")
    refused = host.site(gatehouse_config={"gateway": {"lam": "lan0"}})
    assert refused.status != 0
    assert "lam" in refused.text
    assert file.read_text(encoding="utf-8") == before
    assert states(host) == dict.fromkeys(SERVICES, "active")


def test_a_file_that_the_inventory_does_not_give_stays(host: Host) -> None:
    file = host.root / "etc/gatehouse/gatehouse.toml"
    inventory = host.inventory.read_text(encoding="utf-8")
    before = file.read_text(encoding="utf-8")
    try:
        host.inventory.write_text(inventory.replace('"gatehouse_config"', '"unused"'), encoding="utf-8")
        file.write_text(f"{before}# by hand\n", encoding="utf-8")
        assert host.site().status == 0
        assert file.read_text(encoding="utf-8") == f"{before}# by hand\n"
    finally:
        host.inventory.write_text(inventory, encoding="utf-8")
        file.write_text(before, encoding="utf-8")
        host.gatehouse("apply")


def test_another_product_replaces_the_running_one(host: Host, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "build", "*.egg-info", "tests", "out")
    shutil.copytree(TREE, tree, ignore=ignored, symlinks=True)
    with (tree / "appliance" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("# another one\n")
    pids, before = main_pids(host), (host.root / "opt/gatehouse").readlink()
    updated = host.site(gatehouse_source=str(tree))
    assert updated.status == 0, updated.text
    wait_until(lambda: states(host) == dict.fromkeys(SERVICES, "active"), 30, "all services")
    after = (host.root / "opt/gatehouse").readlink()
    assert after != before
    assert {path.name for path in (host.root / "opt").iterdir()} == {"gatehouse", after.name}
    now = main_pids(host)
    assert all(now[name] != pids[name] for name in SERVICES)
    assert "Received Access-Reject" in login(host, "wrong")


def test_all_comes_back_with_the_machine(host: Host) -> None:
    host.machine.shut_down()
    host.world.gw.run("chroot", str(host.root), "nft", "flush", "ruleset")
    host.machine.boot()
    host.gatehouse("health", "--wait", "60")
    assert host.machine.run("systemctl", "--failed", "--plain", "--no-legend") == ""
    assert opens(host, 22)
    assert not opens(host, 53)


def test_the_data_disk_is_described_in_words_that_its_readers_know(host: Host) -> None:
    unit = "/usr/local/lib/systemd/system/srv-gatehouse.mount"
    assert host.machine.run("systemd-analyze", "verify", "--man=no", unit, check=False) == ""
    wanted = host.machine.run("systemctl", "show", "--property=WantedBy,RequiredBy", "srv-gatehouse.mount")
    assert wanted.split() == ["RequiredBy=", "WantedBy="], "boot waits for it"
    if host.codename != "bookworm":  # its udevadm can't
        host.machine.run("udevadm", "verify", "/etc/udev/rules.d/90-gatehouse-data.rules")


def test_a_backup_brings_back_what_is_lost(host: Host, password: str, tmp_path: Path) -> None:
    key, backups = tmp_path / "backup.key", tmp_path / "backups"
    recipient = host.gatehouse("backup-key", "/root/backup.key").split()[-1]
    key.write_text(host.machine.run("cat", "/root/backup.key"), encoding="ascii")
    saved = play("backup", host.inventory, gatehouse_backup_recipients=[recipient], gatehouse_backups=str(backups))
    assert saved.status == 0, saved.text
    (file,) = backups.glob("box-*.age")
    host.gatehouse("account", "remove", "guest")
    assert "Received Access-Reject" in login(host, password)
    given = {"gatehouse_restore_file": str(file), "gatehouse_restore_identity": str(key)}
    assert play("restore", host.inventory, **given).status != 0, "it wasn't confirmed"
    restored = play("restore", host.inventory, gatehouse_restore_confirm="box", **given)
    assert restored.status == 0, restored.text
    assert key.read_text(encoding="ascii").split()[-1] not in restored.text
    assert "Received Access-Accept" in login(host, password)
    assert not list(host.root.glob("var/tmp/gatehouse-*"))
    assert host.machine.run("find", "/run", "-name", "gatehouse-restore-*") == ""
