"""A gateway between two guests and the outside, each in a namespace of its own; only the daemon is real.

Sockets are made inside a namespace and used from the test's own process, so that a test reads from top to bottom.
"""

import contextlib
import ctypes
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

from pyrad import packet as codec

from portal import radius
from portal.protocol import Allow, Answer, GatewayClient, Logout, Who
from tests.lab.namespace import SPOOL, Namespace, cable, remove, run, wait_until

ROOT = Path(__file__).parents[2]
SECRET = b"s3cret"
OUTSIDE, WAN = "203.0.113.1", "203.0.113.2"
GATEWAY, GUEST, OTHER = "10.10.0.1", "10.10.0.50", "10.10.0.51"
GUEST_MAC, OTHER_MAC = "02:00:00:00:00:50", "02:00:00:00:00:51"
POOL, PUBLIC = "198.51.100.0/28", "198.51.100.3"
TCP_PORT, UDP_PORT = 9000, 9001
DAEMON_UID = 65534
_CAPABILITIES = "-all,+net_admin"
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """This thread makes its sockets there (setns(2)); they stay there."""
    home, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", f"/run/netns/{namespace.name}"))
    try:
        assert _LIBC.setns(there, _CLONE_NEWNET) == 0
        yield
        assert _LIBC.setns(home, _CLONE_NEWNET) == 0
    finally:
        os.close(home)
        os.close(there)


class Server:
    """A socket with a thread that answers each line or datagram with the peer's address and what came."""

    def __init__(self, namespace: Namespace, kind: int, address: str, port: int, name: str = "") -> None:
        self._name = name
        with inside(namespace):
            self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        serve = self._datagrams
        if kind == socket.SOCK_STREAM:
            self._socket.listen()
            serve = self._connections
        threading.Thread(target=serve, daemon=True).start()

    def _datagrams(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = self._socket.recvfrom(65_536)
                if peer is None:  # shut down
                    return
                self._socket.sendto(f"{self._name}{peer[0]} ".encode() + data, peer)

    def _connections(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._socket.accept()
                threading.Thread(target=self._lines, args=(connection, peer[0]), daemon=True).start()

    def _lines(self, connection: socket.socket, peer: str) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            for line in lines:
                connection.sendall(f"{self._name}{peer} ".encode() + line)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Accounting:
    """A RADIUS server that takes everything down; `silent` doesn't answer."""

    def __init__(self, namespace: Namespace) -> None:
        self.silent = False
        self.records: list[dict[str, Any]] = []
        with inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 1813))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = self._socket.recvfrom(4096)
                if peer is None:
                    return
                packet = codec.AcctPacket(packet=data, secret=SECRET, dict=radius._dictionary())
                if not self.silent:
                    self.records.append({key: packet[key][0] for key in packet.keys()})  # noqa: SIM118 (pyrad's keys() gives names)
                    self._socket.sendto(packet.CreateReply().ReplyPacket(), peer)

    def stops(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["Acct-Status-Type"] == "Stop"]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Bench:
    """`with Bench() as bench`: namespaces, cables, servers outside, and a daemon that was started."""

    def __init__(self, name: str = "") -> None:
        prefix = f"ghk{os.getpid()}{name}"
        self.directory = SPOOL / prefix
        roles = ("gw", "out", "sw", "a", "b")
        self.gateway, self.outside, self._switch, self.guest, self.other = (
            Namespace(f"{prefix}-{role}", self.directory) for role in roles
        )
        self._all = (self.gateway, self.outside, self._switch, self.guest, self.other)
        self._servers: list[Server | Accounting] = []
        self.boot_id = self.directory / "boot_id"
        self.daemon: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _set_up(self) -> None:
        self._write_files()
        self._connect()
        self.accounting = Accounting(self.gateway)
        self._servers.append(self.accounting)
        for kind, port in ((socket.SOCK_STREAM, TCP_PORT), (socket.SOCK_STREAM, 80), (socket.SOCK_STREAM, 443)):
            self.serve(self.outside, kind, OUTSIDE, port)
        for port in (UDP_PORT, 53):
            self.serve(self.outside, socket.SOCK_DGRAM, OUTSIDE, port)
        self.start()

    def __exit__(self, *error: object) -> None:
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
        for server in self._servers:
            server.close()
        for namespace in self._all:
            namespace.reap()
        remove([namespace.name for namespace in self._all])
        run("rm", "-rf", str(self.directory))

    def _write_files(self) -> None:
        for path in ("state/gateway", "run/gateway"):
            (self.directory / path).mkdir(parents=True, exist_ok=True)
            os.chown(self.directory / path, DAEMON_UID, DAEMON_UID)
        (self.directory / "run/gateway.secret").write_bytes(SECRET)
        self.boot_id.write_text("00000000-0000-0000-0000-000000000001\n")
        (self.directory / "gatehouse.toml").write_text(
            f'[paths]\nstate = "{self.directory}/state"\nrun = "{self.directory}/run"\n'
            f'[gateway]\nlan = "lan0"\nwan = "wan0"\naddress = "{GATEWAY}/20"\naddresses = ["{POOL}"]\n'
        )

    def _connect(self) -> None:
        for namespace in self._all:
            namespace.create()
        cable(self.gateway, "wan0", self.outside, "eth0")
        self._switch.iproute("link", "add", "br0", "up", "type", "bridge")
        for namespace, device, port in (
            (self.gateway, "lan0", "port0"),
            (self.guest, "eth0", "port1"),
            (self.other, "eth0", "port2"),
        ):
            cable(namespace, device, self._switch, port)
            self._switch.iproute("link", "set", port, "master", "br0")
        self.gateway.iproute("addr", "add", f"{WAN}/24", "dev", "wan0")
        self.gateway.iproute("route", "add", "default", "via", OUTSIDE)
        self.outside.iproute("addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        self.outside.iproute("route", "add", POOL, "dev", "eth0")
        for namespace, ip, mac in ((self.guest, GUEST, GUEST_MAC), (self.other, OTHER, OTHER_MAC)):
            namespace.iproute("link", "set", "eth0", "address", mac)
            namespace.iproute("addr", "add", f"{ip}/20", "dev", "eth0")
            namespace.iproute("route", "add", "default", "via", GATEWAY)

    def serve(self, namespace: Namespace, kind: int, address: str, port: int, name: str = "") -> Server:
        server = Server(namespace, kind, address, port, name)
        self._servers.append(server)
        return server

    def start(self) -> None:
        """The daemon as a user who may do nothing but CAP_NET_ADMIN, in the boot that `boot_id` names."""
        log = self.directory / "daemon.log"
        ready = log.read_text().count("ready, ") if log.exists() else 0
        words = [sys.executable, "-m", "portal.gateway", "--config", str(self.directory / "gatehouse.toml")]
        drop = ["--reuid", str(DAEMON_UID), "--regid", str(DAEMON_UID), "--clear-groups", "--no-new-privs"]
        drop += ["--inh-caps", _CAPABILITIES, "--ambient-caps", _CAPABILITIES, "--bounding-set", _CAPABILITIES]
        boot = f'mount --bind {self.boot_id} /proc/sys/kernel/random/boot_id && exec "$@"'
        self.daemon = self.gateway.popen(
            *("sh", "-c", boot, "sh", "setpriv", *drop, *words), log="daemon.log", env={"PYTHONPATH": str(ROOT)}
        )
        wait_until(lambda: log.read_text().count("ready, ") > ready or self.daemon_ended(), 15, "the daemon")
        assert not self.daemon_ended(), log.read_text()

    def daemon_ended(self) -> bool:
        return self.daemon is not None and self.daemon.poll() is not None

    def kill(self) -> None:
        """As the kernel does it, without a word."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def await_noted(self, timeout_s: float = 10) -> None:
        """All accounting is answered, and the daemon has written that down: after a kill it tells nothing again."""
        database = f"file:{self.directory}/state/gateway/gateway.db?mode=ro"

        def noted() -> bool:
            with contextlib.closing(sqlite3.connect(database, uri=True)) as opened:
                return bool(opened.execute("SELECT NOT EXISTS (SELECT 1 FROM outbox)").fetchone()[0])

        wait_until(noted, timeout_s, "the outbox to be empty")

    def stop(self) -> int:
        assert self.daemon is not None
        self.daemon.terminate()
        return self.daemon.wait(60)

    def allow(self, ip: str = GUEST, mac: str = GUEST_MAC, account: str = "anna", **more: Any) -> Answer:
        rates = {"down_bps": 20_000_000, "up_bps": 5_000_000, "session_class": "c1a5"}
        return self.client().ask(Allow(ip=IPv4Address(ip), mac=mac, account=account, **{**rates, **more}))

    def who(self, ip: str = GUEST) -> Answer:
        return self.client().ask(Who(IPv4Address(ip)))

    def logout(self, ip: str = GUEST) -> Answer:
        return self.client().ask(Logout(IPv4Address(ip)))

    def client(self) -> GatewayClient:
        return GatewayClient(self.directory / "run/gateway/gateway.sock")

    def order(self, code: int, **attributes: object) -> Any:
        """Sends a CoA (43) or Disconnect (40) and returns the answer's packet."""
        packet = codec.CoAPacket(code=code, secret=SECRET, dict=radius._dictionary(), message_authenticator=True)
        for name, value in attributes.items():
            packet[name.replace("_", "-")] = value
        data = self.send_order(packet.RequestPacket())
        return packet.CreateReply(packet=data)

    def send_order(self, data: bytes, timeout_s: float = 5) -> bytes:
        with inside(self.gateway):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.settimeout(timeout_s)
            sender.sendto(data, ("127.0.0.1", 3799))
            return sender.recv(4096)


def connect(namespace: Namespace, address: str, port: int, timeout_s: float = 2) -> socket.socket:
    with inside(namespace):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect((address, port))
    except OSError:
        connection.close()
        raise
    return connection


def say(connection: socket.socket, text: str = "hello") -> str:
    """One line there and back; raises TimeoutError when it doesn't come back."""
    connection.sendall(f"{text}\n".encode())
    answer = b""
    while not answer.endswith(b"\n"):
        data = connection.recv(4096)
        if not data:
            raise ConnectionResetError
        answer += data
    return answer.decode().strip()


def ask_tcp(namespace: Namespace, address: str = OUTSIDE, port: int = TCP_PORT) -> str:
    with connect(namespace, address, port) as connection:
        return say(connection)


def ask_udp(namespace: Namespace, address: str = OUTSIDE, port: int = UDP_PORT, data: bytes = b"hello") -> str:
    """Empty when no answer comes."""
    with inside(namespace):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking:
        asking.settimeout(0.7)
        asking.connect((address, port))
        try:
            asking.send(data)
            return asking.recv(65_536).decode()
        except (TimeoutError, ConnectionRefusedError, PermissionError, OSError):
            return ""


def fails(call: Callable[[], object]) -> float:
    """Seconds until it failed."""
    began = time.monotonic()
    try:
        call()
    except OSError:
        return time.monotonic() - began
    raise AssertionError("it got through")
