"""Small packets through the gateway, as quickly as it forwards them; flood.c sends them."""

import struct
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from tests.lab.namespace import Namespace

FRAME_BYTES = 64  # the least of Ethernet, with its checksum, which nobody sends here
_PAYLOAD = bytes(18)
_SOURCE = Path(__file__).with_name("flood.c")
_DROP = "table netdev sink {{ chain in {{ type filter hook ingress device {} priority -500; udp dport {} drop; }}; }}"


def build(folder: Path) -> Path:
    program = folder / "flood"
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-o", program, _SOURCE], check=True)
    return program


def frame(source: tuple[str, IPv4Address, int], to: tuple[str, IPv4Address, int]) -> bytes:
    """UDP; each end is MAC, address and port. No UDP checksum, which IPv4 allows (RFC 768)."""
    (source_mac, source_ip, source_port), (mac, ip, port) = source, to
    udp = struct.pack(">HHHH", source_port, port, 8 + len(_PAYLOAD), 0) + _PAYLOAD
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0) + source_ip.packed + ip.packed
    checked = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
    return _mac(mac) + _mac(source_mac) + b"\x08\x00" + checked + udp


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _checksum(head: bytes) -> int:
    """RFC 791, 3.1."""
    total: int = sum(struct.unpack(">10H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def drop(at: Namespace, device: str, port: int) -> None:
    """Where they arrive they cost as little as can be."""
    at.run("nft", "-f", "-", stdin=_DROP.format(f'"{device}"', port))


def send(program: Path, at: Namespace, device: str, frames: Sequence[bytes], seconds: float) -> float:
    """The seconds it took. Other work of the machine waits so long (sched(7), SCHED_FIFO)."""
    words = ["ip", "netns", "exec", at.name, "chrt", "-f", "10", str(program), device, str(seconds)]
    done = subprocess.run(words, input=b"".join(frames), capture_output=True, check=True)
    return float(done.stdout.split()[1])


def arrived(at: Namespace, device: str) -> int:
    """Packets that the device has received."""
    return int(at.run("cat", f"/sys/class/net/{device}/statistics/rx_packets").stdout)
