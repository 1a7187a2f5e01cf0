"""Debian's own programs beside the decoder: nfcapd reads the same datagrams, softflowd sends real ones. On loopback."""

import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.lab.namespace import free_ports

PATIENCE_S = 10.0


def nfdump(payloads: Iterable[bytes], folder: Path) -> list[dict[str, Any]]:
    """What nfcapd makes of the datagrams and nfdump tells of that, times in UTC."""
    (port,) = free_ports(1)
    command = ["nfcapd", "-w", str(folder), "-b", "127.0.0.1", "-p", str(port), "-t", "3600"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _until(lambda: _queued(port) is not None)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                for payload in payloads:
                    out.sendto(payload, ("127.0.0.1", port))
                    _until(lambda: _queued(port) == 0)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
    (file,) = folder.glob("nfcapd.[0-9]*")
    command = ["nfdump", "-r", str(file), "-o", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"})
    flows: list[dict[str, Any]] = json.loads(run.stdout)
    return flows


def _queued(port: int) -> int | None:
    """Octets that wait in a UDP socket of loopback, None where nobody listens (proc(5), /proc/net/udp)."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(f":{port:04X}"):
            return int(words[4].split(":")[1], 16)
    return None


def _until(holds: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "nfcapd doesn't take what it is sent"
        time.sleep(0.005)


def softflowd(pcap: Path, version: int) -> list[bytes]:
    """The datagrams that it sends of the packets in a file."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        collector = f"127.0.0.1:{sock.getsockname()[1]}"
        subprocess.run(
            ["softflowd", "-r", str(pcap), "-n", collector, "-v", str(version)], check=True, capture_output=True
        )
        found = []  # all of them wait in the socket by now
        while True:
            try:
                found.append(sock.recv(65535))
            except BlockingIOError:
                return found


def pcap(packets: Iterable[tuple[int, bytes]]) -> bytes:
    """A capture of IP packets at times in ms, in Ethernet frames (the format of tcpdump)."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    return head + b"".join(_captured(at_ms, packet) for at_ms, packet in packets)


def _captured(at_ms: int, packet: bytes) -> bytes:
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    frame = bytes.fromhex("020000000001 020000000002") + struct.pack(">H", kind) + packet
    seconds, ms = divmod(at_ms, 1000)
    return struct.pack("<IIII", seconds, ms * 1000, len(frame), len(frame)) + frame


def udp4(src: str, dst: str, src_port: int, dst_port: int, octets: int) -> bytes:
    body = struct.pack(">HHHH", src_port, dst_port, 8 + octets, 0) + bytes(octets)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0)
    return head + socket.inet_aton(src) + socket.inet_aton(dst) + body


def tcp6(src: str, dst: str, src_port: int, dst_port: int, flags: int) -> bytes:
    body = struct.pack(">HHIIBBHHH", src_port, dst_port, 1, 1, 0x50, flags, 1024, 0, 0)
    addresses = socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst)
    return struct.pack(">IHBB", 6 << 28, len(body), 6, 64) + addresses + body
