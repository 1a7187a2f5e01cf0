"""A box in a virtual machine as at a site: provisioned, with an account, and a router that asks from outside."""

import json
import re
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from images import disk
from tests.bench.acct_load import Told, accounting_request
from tests.bench.radius_load import ACCOUNTING_RESPONSE
from tests.lab.namespace import CommandFailed, run
from tests.system.vm import RADIUS, SSH, Forward, Hardware, Vm

ACCOUNTING = Forward("udp", 1813)
BOOT_S = 600  # of patience: the machine that plays the box has other work, too
_HOST = "10.0.2.2"  # the router's address as the box sees it
_SET_UP = """
set -e
gatehouse plan add first --down 20M --up 5M
gatehouse nas add outside --address {host} --kind mikrotik --secret-stdin
gatehouse apply
gatehouse account add guest --plan first
"""
_QUERY = """/opt/gatehouse/bin/python -c '
import json, sqlite3, sys
print(json.dumps(sqlite3.connect("/var/lib/gatehouse/core/core.db").execute(sys.stdin.read()).fetchall()))'"""


class Box(Vm):
    """`password` is that of the account `guest`."""

    def __init__(self, image: Path, folder: Path) -> None:
        super().__init__(image, folder, Hardware(forwards=(SSH, RADIUS, ACCOUNTING)))
        self.secret = secrets.token_hex(16)
        self.password = ""
        self.provision(f'[provision]\nhostname = "box"\nssh_authorized_keys = ["{self.public_key}"]\n')

    def is_on(self) -> bool:
        """Also asked by threads while the power goes."""
        qemu = self._qemu
        return qemu is not None and qemu.poll() is None

    def _ssh_words(self) -> list[str]:
        """One connection for all commands: each login takes seconds here. It ends with the machine."""
        ssh, *words = super()._ssh_words()
        kept = ("ControlMaster=auto", "ControlPersist=yes", f"ControlPath={self.folder}/ssh-%p")
        return [ssh, *(word for option in kept for word in ("-o", option)), *words]

    def power_on(self) -> None:
        self.serial.unlink(missing_ok=True)  # what it says is of this time
        super().power_on()

    def set_up(self) -> None:
        """Its first boot."""
        self.power_on()
        self.await_ssh(BOOT_S)
        self.await_health()
        self.password = self.ssh(_SET_UP.format(host=_HOST), BOOT_S, stdin=f"{self.secret}\n").split()[-1]
        self.await_login()

    def await_health(self) -> None:
        """Of RADIUS, gateway and pages; and no unit has failed."""
        said = self.ssh(f"gatehouse health --wait {BOOT_S} && systemctl --failed --plain --no-legend", BOOT_S + 60)
        assert said == "all is well\n", said

    def await_login(self, timeout_s: float = BOOT_S) -> float:
        """Seconds since power-on until the account's login is accepted, asked from outside."""
        until = time.monotonic() + timeout_s
        while not self.accepts():
            assert self.is_on() and time.monotonic() < until, f"no Access-Accept\n{self.console()[-4000:]}"
            time.sleep(0.5)
        return self.seconds()

    def accepts(self) -> bool:
        said = run(
            *("radclient", "-x", "-r", "1", "-t", "5", f"127.0.0.1:{self.port(RADIUS)}", "auth", self.secret),
            stdin=f'User-Name = "guest"\nUser-Password = "{self.password}"\nMessage-Authenticator = 0x00\n',
            check=False,
        )
        return "Received Access-Accept" in said.stdout

    def account(self, *packets: Told, patience_s: float = 60) -> int:
        """Sends each until it is acknowledged, as a router does; how many were."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router:
            router.connect(("127.0.0.1", self.port(ACCOUNTING)))
            router.settimeout(2)
            return sum(self._acknowledged(router, packet, patience_s) for packet in packets)

    def _acknowledged(self, router: socket.socket, packet: Told, patience_s: float) -> bool:
        request = accounting_request(packet.session, packet, self.secret.encode())
        until = time.monotonic() + patience_s
        while self.is_on() and time.monotonic() < until:
            router.send(request)
            try:
                answer = router.recv(4096)
            except (TimeoutError, ConnectionRefusedError):
                continue
            if answer[:2] == bytes((ACCOUNTING_RESPONSE, packet.session % 256)):
                return True
        return False

    def query(self, sql: str) -> list[list[object]]:
        """Rows of the core database."""
        rows: list[list[object]] = json.loads(self.ssh(_QUERY, stdin=sql))
        return rows

    def starts(self) -> list[str]:
        """Slots that the boot loader has started since power-on."""
        return re.findall("gatehouse: starting slot ([AB])", self.console())

    def slot(self) -> str:
        """The running one."""
        return self.ssh("sed 's/.*gatehouse.slot=\\([AB]\\).*/\\1/' /proc/cmdline").strip()

    def environment(self) -> Mapping[str, str]:
        """GRUB's, as RAUC and `gatehouse` left it; while the machine is off."""
        lines = self.read_esp("grub/grubenv").decode("ascii").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def read_slot(self, partition: disk.Partition, length: int = disk.SLOT_BYTES) -> bytes:
        with self.disk.open("rb") as file:
            file.seek(disk.start(partition))
            return file.read(length)

    def write_slot(self, partition: disk.Partition, data: bytes) -> None:
        """Its beginning; while the machine is off."""
        with self.disk.open("r+b") as file:
            file.seek(disk.start(partition))
            file.write(data)

    def write_environment(self, data: bytes) -> None:
        """GRUB's; while the machine is off."""
        file = self.folder / "grubenv"
        file.write_bytes(data)
        run("mcopy", "-o", "-i", f"{self.disk}@@{disk.start(disk.ESP)}", str(file), "::grub/grubenv")

    def fails(self, command: str, timeout_s: float = 300) -> str:
        """What a command that has to fail says; a CommandFailed that it doesn't is the test's failure."""
        try:
            said = self.ssh(f"{command} 2>&1", timeout_s)
        except CommandFailed as error:
            return str(error)
        raise AssertionError(f"{command}: it should have failed\n{said}")
