"""dnsmasq for guests: its configuration, and the leases it has given.

Debian's dnsmasq 2.90 runs as an unprivileged user with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE (tried: without
the first it refuses to start, without the second it can't bind port 67). CAP_NET_RAW would only serve the
ping before a new lease, which keeps every new guest waiting for 3 s.
"""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from appliance.config import Config

MAX_LEASES = 16_384
MAX_LEASE_FILE_BYTES = 8 * 2**20
MAX_EXPIRES_AT = 2**40
READ_AGAIN_AFTER_S = 0.05
READS = 3
GARDEN_SET = "inet#gatehouse#garden"  # of ruleset.py, which what faces guests must not import
GARDEN_CACHE_S = 300


@dataclass(frozen=True)
class Lease:
    """`expires_at` in UTC seconds, 0 for never; `hostname` is what the guest's device says, often empty."""

    mac: str
    ip: IPv4Address
    expires_at: int
    hostname: str


def lease_file(config: Config) -> Path:
    return config.paths.state / "dnsmasq" / "leases"


def render(config: Config) -> str:
    """The text of dnsmasq.conf, for `dnsmasq --conf-file=…`."""
    sections = [_process(config), _leases(config), _names(config), _upstream(config)]
    if config.portal.garden_hosts:
        sections.append(_garden(config.portal.garden_hosts))
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _process(config: Config) -> list[str]:
    return [
        "keep-in-foreground",
        "log-facility=-",
        "pid-file",
        f"interface={config.gateway.lan}",
        # Starts before the device is there, and follows it when it is made anew. With one device in the list
        # dnsmasq would bind port 67 to it for good, so there is a second: no device's name has a '/'.
        "interface=/*",
        "bind-dynamic",
        "except-interface=lo",
    ]


def _leases(config: Config) -> list[str]:
    first, last = config.dhcp_range
    size = int(last) - int(first) + 1
    lines = [
        f"dhcp-range={first},{last},{config.gateway.address.netmask},{config.dhcp.lease_s}",
        f"dhcp-leasefile={lease_file(config)}",
        f"dhcp-lease-max={min(size, MAX_LEASES)}",
        "dhcp-authoritative",
        # A device that finds its address in use declines it, and gets another (RFC 2131, 3.1).
        "no-ping",
        # Else a guest could look up the others by name, or call a laptop "wpad" and be found by everybody.
        "dhcp-ignore-names",
        "quiet-dhcp",
    ]
    if config.portal.certificate:
        lines.append(f"dhcp-option=114,https://{config.portal.hostname}/captive-portal/api")  # RFC 8910, 2.1
    return lines


def _names(config: Config) -> list[str]:
    host = config.portal.hostname
    domain = host.partition(".")[2]
    return [
        "no-hosts",
        f"address=/{host}/{config.gateway.address.ip}",
        f"local=/{host}/",  # only the host: its domain may be a real one
        "domain-needed",
        "bogus-priv",
        "stop-dns-rebind",
        f"rebind-domain-ok=/{domain}/",  # the provider's own names may lead to private addresses
        "cache-size=10000",
        "dns-forward-max=1000",
    ]


def _upstream(config: Config) -> list[str]:
    if not config.dhcp.dns:
        return ["resolv-file=/etc/resolv.conf"]
    return ["no-resolv", *(f"server={address}" for address in config.dhcp.dns)]


def _garden(hosts: Iterable[str]) -> list[str]:
    """Addresses of these hosts, and of all names below them, go into nftables' set as they are looked up.

    An answer out of the cache isn't entered again, so the cache forgets long before the set does.
    """
    return [*(f"nftset=/{host}/4#{GARDEN_SET}" for host in hosts), f"max-cache-ttl={GARDEN_CACHE_S}"]


def read_leases(text: str) -> Iterator[Lease]:
    """What is whole in a lease file: no half-written lines, and neither IPv6 nor other than Ethernet."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n") and (lease := _lease(line.split())):
            yield lease


def _lease(words: list[str]) -> Lease | None:
    """`expiry MAC IP hostname client-id`, with `*` for what isn't known (dnsmasq, lease.c)."""
    if len(words) != 5 or not re.fullmatch(r"[0-9]{1,12}", words[0], re.ASCII):
        return None
    expires_at, mac, hostname = int(words[0]), words[1].lower(), words[3]
    if expires_at > MAX_EXPIRES_AT or not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", mac):
        return None
    if len(hostname) > 255 or not hostname.isprintable():
        return None
    try:
        return Lease(mac, IPv4Address(words[2]), expires_at, "" if hostname == "*" else hostname)
    except AddressValueError:
        return None


def leases(path: Path) -> list[Lease]:
    """All there are; dnsmasq empties the file and writes it anew at every change: an empty one is read again."""
    for read in range(READS):
        if read:
            time.sleep(READ_AGAIN_AFTER_S)
        if text := content(path).decode(errors="replace"):
            return list(read_leases(text))
    return []


def lease_of(path: Path, ip: IPv4Address) -> Lease | None:
    """dnsmasq empties the file and writes it anew at every change, so "not there" is asked more than once."""
    for read in range(READS):
        if read:
            time.sleep(READ_AGAIN_AFTER_S)
        lines = "".join(_lines_with(content(path), f" {ip} ".encode()))
        if lease := next((lease for lease in read_leases(lines) if lease.ip == ip), None):
            return lease
    return None


def _lines_with(content: bytes, word: bytes) -> Iterator[str]:
    """Found without parsing the others: with 16,000 leases that would take 30 ms a page."""
    place = content.find(word)
    while place >= 0:
        end = content.find(b"\n", place) + 1 or len(content)
        yield content[content.rfind(b"\n", 0, place) + 1 : end].decode(errors="replace")
        place = content.find(word, end)


def content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_LEASE_FILE_BYTES)
    except FileNotFoundError:
        return b""
