"""Network namespaces that are made, used and removed again; needs root and iproute2.

Names are `gh<pid>-<role>`, so that whoever comes next can tell whose they are and sweep up after the dead.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

SPOOL = Path("/var/tmp")  # on a real disk, where fsync means something; /tmp may be memory
_ETC = Path("/etc/netns")
_RUN = Path("/run/netns")
_ETHERNET_BYTES = 14
_BUSY = 4
_PORTS = 10_000, 32_000  # ip_local_port_range begins at 32768
_NO_OFFLOADS = ("tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off")


class Octets(NamedTuple):
    received: int
    sent: int


class CommandFailed(AssertionError):
    """A command ended badly; the message holds what it printed."""


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Polls until `condition` is true; raises TimeoutError that names `what`.

    `timeout_s` is patience enough where nothing else runs; a machine with other work is given more.
    """
    deadline = time.monotonic() + _BUSY * timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.02)


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> list[int]:
    """Ports on loopback that nobody uses now, below those that the kernel gives away: by chance, so that tests which
    run beside each other hardly choose the same."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            one = socket.socket(socket.AF_INET, kind)
            try:
                one.bind(("127.0.0.1", random.randrange(*_PORTS)))
            except OSError:
                one.close()
            else:
                held.append(one)
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def run(*argv: str, check: bool = True, timeout_s: float = 120, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command in a session of its own: a Ctrl-C at the terminal is ours to handle, not its."""
    done = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        input=stdin,
        start_new_session=True,
    )
    if check and done.returncode:
        printed = (done.stdout + done.stderr).rstrip()
        raise CommandFailed(f"{' '.join(argv)}: exit status {done.returncode}\n{printed}")
    return done


def start(*argv: str, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A process that lasts, in a session of its own; what it prints is added to `log`."""
    with log.open("a", encoding="utf-8") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )


class Namespace:
    """A machine as far as the network sees it. `directory` holds what its processes print."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self._children: list[subprocess.Popen[str]] = []

    @property
    def resolv_conf(self) -> Path:
        """`ip netns exec` mounts it over /etc/resolv.conf."""
        return _ETC / self.name / "resolv.conf"

    def create(self, ipv6: bool = False) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.resolv_conf.parent.mkdir(parents=True)
        self.resolv_conf.touch()
        run("ip", "netns", "add", self.name)
        if not ipv6:  # for devices to come; lo is there already and keeps ::1
            self.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        self.iproute("link", "set", "lo", "up")

    def iproute(self, *words: str) -> str:
        return run("ip", "-n", self.name, *words).stdout

    def run(
        self, *argv: str, check: bool = True, timeout_s: float = 120, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        words = ("ip", "netns", "exec", self.name, *argv)
        return run(*words, check=check, timeout_s=timeout_s, stdin=stdin)

    def popen(self, *argv: str, log: str = "", env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts a process that lasts; what it prints goes to `log` in `directory`."""
        path = self.directory / (log or f"{Path(argv[0]).name}.log")
        child = start("ip", "netns", "exec", self.name, *argv, log=path, env=env)
        self._children.append(child)
        return child

    def pids(self) -> list[int]:
        return pids(self.name)

    def listens(self, port: int, udp: bool = False) -> bool:
        return bool(self.run("ss", "-Hln", "-u" if udp else "-t", f"sport = :{port}").stdout.strip())

    def await_listener(self, *ports: int, udp: bool = False, timeout_s: float = 10) -> None:
        for port in ports:
            wait_until(partial(self.listens, port, udp), timeout_s, f"{self.name}: a listener on {port}")

    def ip_octets(self, device: str = "eth0") -> Octets:
        """Of packets as they were on the cable, without link headers. (The protocol counters in /proc/net/netstat
        count TCP before it is cut into packets: one header for many.)"""
        lines = self.run("cat", "/proc/net/dev").stdout.splitlines()
        fields = next(line for line in lines if line.strip().startswith(f"{device}:")).partition(":")[2].split()
        received, received_packets, sent, sent_packets = (int(fields[place]) for place in (0, 1, 8, 9))
        return Octets(received - _ETHERNET_BYTES * received_packets, sent - _ETHERNET_BYTES * sent_packets)

    def reap(self) -> None:
        """Ends our own children, wherever they are by now, and leaves no zombie."""
        for child in self._children:
            child.kill()
            child.wait()
        self._children.clear()


def cable(a: Namespace, a_device: str, b: Namespace, b_device: str) -> None:
    """A veth pair, up at both ends. Without offloads its counters see the packets of a real cable."""
    a.iproute("link", "add", a_device, "type", "veth", "peer", "name", b_device, "netns", b.name)
    for end, device in ((a, a_device), (b, b_device)):
        end.run("ethtool", "-K", device, *_NO_OFFLOADS)
        end.iproute("link", "set", device, "up")


def pids(name: str) -> list[int]:
    return [int(word) for word in run("ip", "netns", "pids", name, check=False).stdout.split()]


def remove(names: Collection[str], patience_s: float = 1) -> None:
    """Ends whatever runs in these namespaces, politely first, and removes them and their /etc/netns."""
    present = [name for name in names if (_RUN / name).exists()]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _all_pids(present):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not _all_pids(present), patience_s, "the end of processes")
    for name in present:
        run("ip", "netns", "delete", name, check=False)
    for name in names:
        shutil.rmtree(_ETC / name, ignore_errors=True)


def _all_pids(names: Iterable[str]) -> list[int]:
    return [pid for name in names for pid in pids(name)]


def spool(pid: int) -> Path:
    """The directory of the world that process `pid` made."""
    return SPOOL / f"gh{pid}"


@contextlib.contextmanager
def claim(pid: int) -> Iterator[bool]:
    """Whether we got what carries the number `pid`: an abstract socket, which ends with its holder.

    A pid file couldn't tell a dead owner from a stranger with its number (unix(7), "Abstract sockets").
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mark:
        try:
            mark.bind(f"\0gatehouse-lab-{pid}")
        except OSError:
            yield False
        else:
            yield True


def sweep() -> list[str]:
    """Removes what owners that are dead left behind; returns the names of it all."""
    left: dict[int, list[str]] = {}
    for base in (_RUN, _ETC, SPOOL):
        for path in base.glob("gh*"):
            if found := re.fullmatch(r"gh(\d+)(-[a-z0-9]+)?", path.name):
                left.setdefault(int(found[1]), []).append(path.name)
    return sorted({name for pid, names in left.items() for name in _sweep_owner(pid, names)})


def _sweep_owner(pid: int, names: list[str]) -> list[str]:
    if pid == os.getpid():  # we hold its claim ourselves
        return _remove_all(pid, names)
    with claim(pid) as dead:
        return _remove_all(pid, names) if dead else []


def unmount_below(path: Path) -> None:
    """What was mounted there by us, used or not."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    for place in reversed([line.split()[1] for line in mounts]):
        if Path(place).is_relative_to(path):
            run("umount", "--lazy", place)


def _remove_all(pid: int, names: list[str]) -> list[str]:
    remove({name for name in names if "-" in name})
    unmount_below(spool(pid))
    shutil.rmtree(spool(pid), ignore_errors=True)
    return names


def traces(pid: int) -> list[str]:
    """What is left of the world of process `pid`: names, mounts and commands; empty once it is removed."""
    names = [str(path) for base in (_RUN, _ETC, SPOOL) for path in base.glob("gh*")]
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    commands = run("ps", "-eo", "args=").stdout.splitlines()
    return [line for line in (*names, *mounts, *commands) if re.search(rf"\bgh{pid}\b", line)]
