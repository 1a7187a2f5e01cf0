"""The image in a virtual machine, as on a box: its own loader, kernel and disk, reached from 127.0.0.1 only.

KVM is never used: what passes here passes anywhere, slowly.
"""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from images import disk
from tests.lab.namespace import CommandFailed, run, start, wait_until

_FIRMWARE = {  # UEFI's code and variables
    "amd64": ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    "arm64": ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
}
_MACHINE = {
    "amd64": ("qemu-system-x86_64", "-M", "q35", "-cpu", "max"),
    "arm64": ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"),
}
_SSH_OPTIONS = (
    *("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"),
    *("ConnectTimeout=10", "ServerAliveInterval=10", "IdentitiesOnly=yes"),
)


@dataclass(frozen=True)
class Forward:
    """A port of the machine that this machine's 127.0.0.1 leads to, through one of its two networks."""

    kind: Literal["tcp", "udp"]
    port: int
    network: Literal["wan", "lan"] = "wan"


SSH = Forward("tcp", 22)
RADIUS = Forward("udp", 1812)
ADMIN = Forward("tcp", 8090)
PORTAL = Forward("tcp", 8080, "lan")
PROVIDER = "10.0.2.2"  # what is forwarded seems to come from there, and on the LAN from
NEIGHBOUR = "10.10.0.2"
# A restricted network drops UDP's answers too. On the WAN there is no name server instead, so nobody else is asked.
_NO_DNS = "10.0.2.9"


@dataclass(frozen=True)
class Hardware:
    """What a box has; `bus` is that of its disk and network devices."""

    arch: Literal["amd64", "arm64"] = "amd64"
    uefi: bool = False
    bus: Literal["virtio", "plain"] = "virtio"
    memory_mib: int = 1024
    forwards: tuple[Forward, ...] = (SSH, RADIUS, ADMIN, PORTAL)
    disk_mib: int = 2048
    credentials: Mapping[str, str] = field(default_factory=dict)

    @property
    def nic(self) -> str:
        return "virtio-net-pci,romfile=" if self.bus == "virtio" else "e1000,romfile="


class Vm:
    """One machine with a disk of its own, copied from `image` (a raw one). `folder` holds all that it leaves behind.

    Its first network device is given an address by a provider that leads nowhere, the second has one neighbour.
    """

    def __init__(self, image: Path, folder: Path, hardware: Hardware | None = None) -> None:
        self.folder = folder
        self.hardware = hardware or Hardware()
        self.disk = folder / "disk.raw"
        self.serial = folder / "serial.log"
        self.started = 0.0
        self.key = folder / "id_ed25519"
        self._qmp = folder / "qmp"
        self._ports: dict[Forward, int] = {}
        self._qemu: subprocess.Popen[str] | None = None
        folder.mkdir(parents=True)
        run("cp", "--sparse=always", "--reflink=auto", str(image), str(self.disk), timeout_s=120)
        run("truncate", f"--size={self.hardware.disk_mib}M", str(self.disk))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(self.key))
        if self.hardware.uefi:
            shutil.copy(_FIRMWARE[self.hardware.arch][1], folder / "vars.fd")

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text(encoding="ascii").strip()

    def provision(self, toml: str) -> None:
        """Puts the site's facts onto the EFI system partition, as whoever flashes the box does; while it is off."""
        file = self.folder / "site.toml"
        file.write_text(toml, encoding="utf-8")
        esp = f"{self.disk}@@{disk.start(disk.ESP)}"
        run("mcopy", "-o", "-i", esp, str(file), "::provision/site.toml")

    def read_esp(self, name: str) -> bytes:
        """A file of the EFI system partition; while the machine is off."""
        file = self.folder / "from-esp"
        run("mcopy", "-o", "-n", "-i", f"{self.disk}@@{disk.start(disk.ESP)}", f"::{name}", str(file))
        return file.read_bytes()

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.cut_power()

    def power_on(self) -> None:
        self._qmp.unlink(missing_ok=True)
        self._ports = {forward: _free_port(forward) for forward in self.hardware.forwards}
        self._qemu = start("setpriv", "--pdeathsig", "KILL", *self._words(), log=self.folder / "qemu.log")
        self.started = time.monotonic()
        try:
            wait_until(lambda: self._qmp.exists() or not self.is_on(), 30, "qemu")
        finally:
            if not self._qmp.exists():
                self.cut_power()
        if self._qemu is None:
            raise RuntimeError((self.folder / "qemu.log").read_text(errors="replace"))

    def is_on(self) -> bool:
        return self._qemu is not None and self._qemu.poll() is None

    def cut_power(self) -> None:
        """kill -9. What the disk was told stays; real ones have caches that a cut loses or reorders."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    def shut_down(self, timeout_s: float = 120) -> None:
        """By the power button."""
        self.command("system_powerdown")
        assert self._qemu is not None
        self._qemu.wait(timeout_s)
        self._qemu = None

    def port(self, forward: Forward) -> int:
        """Of 127.0.0.1 here."""
        return self._ports[forward]

    def seconds(self) -> float:
        """Since the power button."""
        return time.monotonic() - self.started

    # --- the console

    def console(self) -> str:
        return self.serial.read_text(encoding="utf-8", errors="replace") if self.serial.exists() else ""

    def await_console(self, text: str, timeout_s: float, times: int = 1) -> None:
        try:
            wait_until(lambda: self.console().count(text) >= times or not self.is_on(), timeout_s, f"console: {text}")
        finally:
            if self.console().count(text) < times:
                print(self.console()[-4000:])
        assert self.console().count(text) >= times, f"the machine went off before it said {text!r}"

    # --- ssh

    def ssh(self, command: str, timeout_s: float = 120, check: bool = True, stdin: str = "") -> str:
        """A shell command as root; raises CommandFailed."""
        return run(*self._ssh_words(), command, timeout_s=timeout_s, check=check, stdin=stdin).stdout

    def _ssh_words(self) -> list[str]:
        options = [word for option in _SSH_OPTIONS for word in ("-o", option)]
        return ["ssh", "-i", str(self.key), "-p", str(self.port(SSH)), *options, "root@127.0.0.1"]

    def await_ssh(self, timeout_s: float = 300) -> None:
        def answers() -> bool:
            with contextlib.suppress(CommandFailed, subprocess.TimeoutExpired):
                return self.is_on() and self.ssh("echo up", timeout_s=30) == "up\n"
            return False

        try:
            wait_until(answers, timeout_s, "ssh")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.console()[-6000:]}") from None

    def put(self, source: Path, target: str) -> None:
        """A file into the machine."""
        words = [*self._ssh_words(), f"cat >'{target}'"]
        with source.open("rb") as file:
            subprocess.run(words, stdin=file, check=True, timeout=600)

    # --- hardware that comes and goes

    def command(self, name: str, **arguments: object) -> object:
        """QMP (QEMU Machine Protocol): the answer, or RuntimeError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self._qmp))
            lines = _json_lines(connection)
            next(lines)  # its greeting
            for line in ({"execute": "qmp_capabilities"}, {"execute": name, "arguments": arguments}):
                connection.sendall(json.dumps(line).encode())
                answer = next(answer for answer in lines if "event" not in answer)
                if "error" in answer:
                    raise RuntimeError(f"{name}: {answer['error']}")
        return answer["return"]

    def plug_disk(self, file: Path, name: str = "data") -> None:
        """A second disk, as by USB or a drive bay; made by `new_disk`."""
        self.command(
            "blockdev-add", **{"node-name": name, "driver": "raw", "file": {"driver": "file", "filename": str(file)}}
        )
        self.command("device_add", driver="virtio-blk-pci", id=name, drive=name, bus="bay", serial=name)

    def pull_disk(self, name: str = "data", timeout_s: float = 60) -> None:
        """Unasked; returns when the guest has let go of it."""
        self.command("device_del", id=name)
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(RuntimeError):  # in use until the guest has noticed
                self.command("blockdev-del", **{"node-name": name})
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is still in the machine")
            time.sleep(0.2)

    def new_disk(self, name: str, mib: int) -> Path:
        file = self.folder / f"{name}.raw"
        run("truncate", f"--size={mib}M", str(file))
        return file

    def _words(self) -> Sequence[str]:
        hardware = self.hardware
        words = [
            *(*_MACHINE[hardware.arch], "-accel", "tcg,thread=multi", "-smp", "2"),
            *(
                "-m",
                str(hardware.memory_mib),
                "-nodefaults",
                "-display",
                "none",
                "-serial",
                f"file:{self.serial}",
                "-monitor",
                "none",
            ),
            *("-qmp", f"unix:{self._qmp},server=on,wait=off", "-device", "virtio-rng-pci"),
            *("-device", "pcie-root-port,id=bay,chassis=9"),
            *("-drive", f"file={self.disk},format=raw,if=none,id=system,cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=system" if hardware.bus == "virtio" else "ide-hd,drive=system"),
            *(
                "-netdev",
                self._network("wan", f"net=10.0.2.0/24,dns={_NO_DNS}"),
                "-device",
                f"{hardware.nic},netdev=wan",
            ),
            *("-netdev", self._network("lan", f"restrict=on,net=10.10.0.0/20,host={NEIGHBOUR}", "10.10.0.1")),
            *("-device", f"{hardware.nic},netdev=lan"),
        ]
        if hardware.uefi:
            words += ["-drive", f"if=pflash,format=raw,readonly=on,file={_FIRMWARE[hardware.arch][0]}"]
            words += ["-drive", f"if=pflash,format=raw,file={self.folder}/vars.fd"]
        for name, value in hardware.credentials.items():
            coded = base64.b64encode(value.encode()).decode()
            words += ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={coded}"]
        return words

    def _network(self, name: str, options: str, guest: str = "") -> str:
        forwards = [
            f"hostfwd={forward.kind}:127.0.0.1:{port}-{guest}:{forward.port}"
            for forward, port in self._ports.items()
            if forward.network == name
        ]
        return ",".join(["user", f"id={name}", "ipv6=off", options, *forwards])


def _free_port(forward: Forward) -> int:
    kind = socket.SOCK_DGRAM if forward.kind == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _json_lines(connection: socket.socket) -> Iterator[dict[str, Any]]:
    with connection.makefile("r", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
