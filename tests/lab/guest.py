"""A guest's machine: a real DHCP client, a browser as far as curl is one, and measurements from its side."""

import email.message
import email.parser
import json
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

from tests.lab.addresses import LAN, WEB
from tests.lab.namespace import CommandFailed, Namespace, wait_until

_EVENTS = Path(__file__).with_name("udhcpc.sh")
_IPERF_PORTS = iter(range(5201, 65_535))  # a fresh one each: a late packet of the last test finds nobody


@dataclass(frozen=True)
class Lease:
    """What the DHCP server gave; `captive_portal` is option 114 (RFC 8910, 2.1)."""

    ip: IPv4Address
    prefix: int
    server: str
    router: str
    dns: tuple[str, ...]
    lease_s: int
    captive_portal: str

    @classmethod
    def parse(cls, text: str) -> "Lease":
        fields = dict(line.split("=", 1) for line in text.splitlines())
        return cls(
            ip=IPv4Address(fields["ip"]),
            prefix=int(fields["prefix"]),
            server=fields["server"],
            router=fields["router"],
            dns=tuple(fields["dns"].split()),
            lease_s=int(fields["lease_s"]),
            captive_portal=bytes.fromhex(fields["captive_portal"]).decode(),
        )


@dataclass(frozen=True)
class Response:
    """An HTTP answer; status 0 where none came, and `error` says why. `redirect` is where a 3xx points to."""

    status: int
    headers: email.message.Message
    body: str
    redirect: str
    error: str
    seconds: float


class Guest(Namespace):
    """Plugged into the switch with `eth0`, without an address until it leases one."""

    def __init__(self, name: str, directory: Path, mac: str, internet: Namespace) -> None:
        super().__init__(name, directory)
        self.mac = mac
        self._ip: IPv4Address | None = None
        self._internet = internet
        self._client: subprocess.Popen[str] | None = None

    @property
    def ip(self) -> IPv4Address:
        """The address leased last, or taken."""
        if self._ip is None:
            raise RuntimeError(f"{self.name} has leased no address yet")
        return self._ip

    @property
    def _lease_file(self) -> Path:
        return self.directory / "lease"

    def lease(self, timeout_s: float = 10) -> Lease:
        """Asks for an address by udhcpc, which then stays and renews it; raises TimeoutError without one."""
        self.leave()
        self._lease_file.unlink(missing_ok=True)
        self._client = self.popen(
            *("udhcpc", "-f", "-R", "-i", "eth0", "-t", "10", "-T", "1", "-A", "1"),
            *("-s", str(_EVENTS), "-O", "114", "-F", self.name),
            env={"GUEST_LEASE": str(self._lease_file), "GUEST_RESOLV_CONF": str(self.resolv_conf)},
        )
        wait_until(self._lease_file.exists, timeout_s, f"{self.name}: a DHCP lease")
        lease = Lease.parse(self._lease_file.read_text(encoding="utf-8"))
        self._ip = lease.ip
        return lease

    def release(self) -> None:
        """Gives the address back (DHCPRELEASE) and is without one."""
        self._end_client(signal.SIGTERM)

    def leave(self) -> None:
        """Goes without a word, as a phone does that walks out of reach; the address stays on eth0."""
        self._end_client(signal.SIGKILL)

    def _end_client(self, number: signal.Signals) -> None:
        if self._client is None:
            return
        self._client.send_signal(number)
        self._client.wait(60)
        self._client = None

    def take_over(self, ip: IPv4Address, mac: str | None = None) -> None:
        """Sets another's address, and its MAC if given, as a thief would."""
        self.leave()
        if mac:
            self.iproute("link", "set", "eth0", "address", mac)
            self.mac = mac
        self.iproute("-4", "address", "flush", "dev", "eth0")
        self.iproute("address", "add", f"{ip}/{LAN.network.prefixlen}", "dev", "eth0")
        self.iproute("route", "replace", "default", "via", str(LAN.ip))
        self._ip = ip

    def curl(self, url: str, *options: str, form: Mapping[str, str] | None = None, timeout_s: float = 10) -> Response:
        """GET, or POST of `form`; cookies are kept as a browser does, redirects aren't followed."""
        jar, headers = (str(self.directory / name) for name in ("cookies", "headers"))
        Path(headers).write_bytes(b"")
        pairs = [f"{key}={value}" for key, value in (form or {}).items()]
        fields = [word for pair in pairs for word in ("--data-urlencode", pair)]
        done = self.run(
            *("curl", "-sS", "-b", jar, "-c", jar, "-D", headers, "-w", "%{stderr}%{json}"),
            *("--max-time", str(timeout_s), *fields, *options, url),
            check=False,
            timeout_s=timeout_s + 5,
        )
        if "{" not in done.stderr:
            raise CommandFailed(done.stderr)
        facts = json.loads(done.stderr[done.stderr.index("{") :])
        lines = Path(headers).read_text(encoding="latin-1").partition("\n")[2]
        return Response(
            status=facts["http_code"],
            headers=email.parser.Parser().parsestr(lines, headersonly=True),
            body=done.stdout,
            redirect=facts["redirect_url"] or "",
            error=facts["errormsg"] or "",
            seconds=facts["time_total"],
        )

    def resolve(self, name: str) -> list[str]:
        """IPv4 addresses of `name` through the name servers of the lease; empty where no answer came."""
        done = self.run("getent", "ahostsv4", name, check=False)
        return sorted({line.split()[0] for line in done.stdout.splitlines()})

    def iperf(self, direction: Literal["down", "up"], seconds: float = 3, udp_bps: int | None = None) -> float:
        """Bits per second that arrived at the far end of TCP, or of UDP sent at `udp_bps`."""
        port = str(next(_IPERF_PORTS))
        self._internet.popen("iperf3", "-s", "-1", "-B", str(WEB), "-p", port)
        self._internet.await_listener(int(port))
        done = self.run(
            *("iperf3", "-c", str(WEB), "-p", port, "-t", str(seconds), "-J", "--connect-timeout", "3000"),
            *(["-R"] if direction == "down" else []),
            *(["-u", "-l", "1400", "-b", str(udp_bps)] if udp_bps else []),
            timeout_s=seconds + 30,
        )
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"])
