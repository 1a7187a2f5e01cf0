"""The image started as on a box, by BIOS and by UEFI: it serves, and it is a machine of its own.

GATEHOUSE_ARM64: that of arm64, too; it needs the packages of arm64.txt.
"""

import os
import re
import secrets
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.modules import MODULES
from tests.lab.namespace import run, wait_until
from tests.system.image import TREE, built
from tests.system.vm import ADMIN, PORTAL, PROVIDER, RADIUS, Hardware, Vm

pytestmark = [pytest.mark.system, pytest.mark.long]

MOST_EXPOSED = 3.0
MOST_MEMORY_MB = 300
BOOT_S = 600  # emulated, on a machine that has other things to do
UNIQUE = (
    "/etc/machine-id",
    "/etc/ssh/ssh_host_ed25519_key.pub",
    "/run/gatehouse/gateway.secret",
    "/var/lib/gatehouse/keys/password.key",
)


@dataclass
class Box:
    vm: Vm
    secret: str = ""
    password: str = ""

    def login(self, password: str) -> str:
        """What radclient(1) prints, from outside the box."""
        return run(
            *("radclient", "-x", "-r", "1", "-t", "5", f"127.0.0.1:{self.vm.port(RADIUS)}", "auth", self.secret),
            stdin=f'User-Name = "guest"\nUser-Password = "{password}"\nMessage-Authenticator = 0x00\n',
            check=False,
        ).stdout

    def get(self, url: str) -> tuple[int, str]:
        context = ssl._create_unverified_context()  # noqa: S323 (its own certificate)
        with urllib.request.urlopen(url, timeout=60, context=context) as answer:  # noqa: S310
            return answer.status, answer.read().decode()


@contextmanager
def started(hardware: Hardware) -> Iterator[Box]:
    """A box that nothing was told but whose key may come in; when it says that it is well, it gets an account."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-vm-", dir="/var/tmp") as folder:
        vm = Vm(built(hardware.arch) / "disk.raw", Path(folder) / "vm", hardware)
        vm.provision(f'[provision]\nhostname = "cafe"\nssh_authorized_keys = ["{vm.public_key}"]\n')
        with vm:
            vm.await_ssh(BOOT_S)
            print(f"ssh after {vm.seconds():.0f} s")
            vm.ssh(f"gatehouse health --wait {BOOT_S}", timeout_s=BOOT_S + 60)
            print(f"healthy after {vm.seconds():.0f} s")
            yield Box(vm)


MACHINES = [
    pytest.param(Hardware(), id="bios"),
    pytest.param(Hardware(uefi=True, bus="plain"), id="uefi"),
    pytest.param(
        Hardware(arch="arm64", uefi=True),
        id="arm64",
        marks=pytest.mark.skipif("GATEHOUSE_ARM64" not in os.environ, reason="it takes an hour: GATEHOUSE_ARM64=1"),
    ),
]


@pytest.fixture(scope="module", params=MACHINES)
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """One after the other."""
    with started(request.param) as box:
        yield box


def test_radius_answers_by_an_account_that_was_added(box: Box) -> None:
    vm = box.vm
    box.secret = secrets.token_hex(16)
    vm.ssh(f"gatehouse nas add lab --address {PROVIDER} --kind other --secret-stdin", stdin=f"{box.secret}\n")
    vm.ssh("gatehouse plan add first --down 20M --up 5M")
    box.password = vm.ssh("gatehouse account add guest --plan first").split()[-1]
    vm.ssh("gatehouse apply")
    wait_until(lambda: "Received Access-Accept" in box.login(box.password), 120, "an Access-Accept")
    print(f"first Access-Accept {vm.seconds():.0f} s after the power button")
    assert "Received Access-Reject" in box.login("wrong")


def test_the_pages_answer(box: Box) -> None:
    status, page = box.get(f"http://127.0.0.1:{box.vm.port(PORTAL)}/")
    assert status == 200 and "Please reconnect" in page  # we have no lease there
    status, page = box.get(f"https://127.0.0.1:{box.vm.port(ADMIN)}/")
    assert status == 200 and "Gatehouse" in page


def test_no_unit_has_failed(box: Box) -> None:
    assert box.vm.ssh("systemctl --failed --plain --no-legend") == ""
    wait_until(lambda: box.vm.ssh("systemctl is-system-running", check=False) == "running\n", BOOT_S, "the whole boot")


def test_the_slot_is_confirmed_and_the_state_took_the_disk(box: Box) -> None:
    assert re.search(r"gatehouse\.slot=A", box.vm.ssh("cat /proc/cmdline"))
    assert "A_NEW=0" in box.vm.ssh("grub-editenv /efi/grub/grubenv list")
    assert re.search(r"boot status: \S*good", box.vm.ssh("rauc status"))  # in colour
    kib = int(box.vm.ssh("df --output=size /var | tail -1"))
    assert kib > (box.vm.hardware.disk_mib - 1300) * 1024  # of 256 MiB it had
    assert "No errors detected" in run("sfdisk", "--verify", str(box.vm.disk)).stdout


def test_the_root_can_not_be_written(box: Box) -> None:
    assert "read-only" in box.vm.ssh("touch /usr/x 2>&1", check=False).lower()


def test_every_module_runs_on_it(box: Box) -> None:
    """As all that follows is true of a box that does everything."""
    box.vm.plug_disk(box.vm.new_disk("data", 512))
    its = re.compile("^(/dev/[sv]d[a-z]) .* data ", re.M)  # by its serial number, as its letter depends on the bus
    wait_until(lambda: its.search(box.vm.ssh("gatehouse disk list")), 60, "the disk")
    (device,) = its.findall(box.vm.ssh("gatehouse disk list"))
    box.vm.ssh(f"gatehouse disk init {device}")
    for module in MODULES:
        box.vm.ssh(f"gatehouse enable {module.name}", timeout_s=BOOT_S)
    assert box.vm.ssh(f"gatehouse health --wait {BOOT_S}", timeout_s=BOOT_S + 60) == "all is well\n"
    assert box.vm.ssh("systemctl --failed --plain --no-legend") == ""


def test_each_unit_is_hardened(box: Box) -> None:
    units = box.vm.ssh("ls /run/systemd/system/").split()
    services = [unit for unit in units if unit.startswith("gatehouse-") and unit.endswith(".service")]
    assert len(services) > 10
    for unit in services:
        printed = box.vm.ssh(f"systemd-analyze security --no-pager {unit}")
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", printed)
        assert found and float(found[1]) <= MOST_EXPOSED, printed


def test_nothing_listens_that_the_handbook_does_not_name(box: Box) -> None:
    named = "".join(
        (TREE / "docs" / chapter).read_text(encoding="utf-8").split(title)[1].split("\n## ")[0]
        for chapter, title in (("hotspot.md", "## Ports"), ("image.md", "### Ports"))
    )
    lines = box.vm.ssh("ss -Hlntu").splitlines()
    assert len(lines) > 5
    for line in lines:
        kind, port = line.split()[0].upper(), line.split()[4].rpartition(":")[2]
        assert re.search(rf"{kind}.*\b{port}\b", named), line


def test_it_is_content_with_little_memory(box: Box) -> None:
    """What programs hold and the kernel can't take back; without its caches and itself."""
    fields = dict(re.findall(r"^(\w+): +(\d+) kB", box.vm.ssh("cat /proc/meminfo"), re.M))
    total, free, held, shared = (
        int(fields[name]) * 1024 / 1e6 for name in ("MemTotal", "MemAvailable", "AnonPages", "Shmem")
    )
    print(f"programs hold {held:.0f} MB; {free:.0f} of {total:.0f} MB are available")
    assert held + shared < MOST_MEMORY_MB


def test_the_console_tells_how_to_come_in(box: Box) -> None:
    shown = box.vm.ssh("cat /run/issue.d/gatehouse.issue")
    assert re.search(r"Set up   https://\S+/enter\?token=\S+", shown)
    assert box.vm.ssh("stat -c '%U %a' /run/issue.d/gatehouse.issue") == "root 600\n"
    wait_until(lambda: re.search(r"Set up   https://10\.0\.2\.15:8090/enter", box.vm.console()), 60, "the link")
    assert box.vm.ssh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1] in shown


_seen: dict[str, set[str]] = {path: set() for path in UNIQUE}


def test_no_two_boxes_share_a_secret(box: Box) -> None:
    for path, seen in _seen.items():
        shown = box.vm.ssh(f"base64 -w0 {path}")
        assert shown and shown not in seen, path
        seen.add(shown)


def test_it_comes_back_after_a_power_cut(box: Box) -> None:
    box.vm.cut_power()
    box.vm.power_on()
    wait_until(lambda: "Received Access-Accept" in box.login(box.password), BOOT_S, "an Access-Accept")
    print(f"Access-Accept {box.vm.seconds():.0f} s after the power came back")
    box.vm.await_ssh(BOOT_S)
    assert box.vm.ssh("systemctl --failed --plain --no-legend") == ""
