"""A load generator for Access-Requests, and what the server's processor time was.

All packets are made beforehand, so that sending one and taking its answer costs two system calls: radclient(1)
parses, hashes and keeps trees while it sends, and would be the slower side.
"""

import gc
import hashlib
import hmac
import os
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

SOURCE = "127.0.0.2"
IN_FLIGHT = 64
ACCESS_REQUEST, ACCESS_ACCEPT, ACCOUNTING_REQUEST, ACCOUNTING_RESPONSE = 1, 2, 4, 5
ANSWER = {ACCESS_REQUEST: ACCESS_ACCEPT, ACCOUNTING_REQUEST: ACCOUNTING_RESPONSE}
MESSAGE_AUTHENTICATOR = 80
_TIMEOUT = struct.pack("ll", 5, 0)
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One round; the generator's share says how near it was to being the limit itself (1 = a whole core)."""

    per_s: float
    cpu_us: float
    generator_share: float


def access_request(number: int, name: str, password: str, secret: bytes) -> bytes:
    """What a RouterOS hotspot sends for a PAP login (RFC 2865, RFC 3579), as the `number`th of its packets."""
    authenticator = hashlib.md5(b"%d" % number, usedforsecurity=False).digest()
    mac = ":".join(f"{byte:02X}" for byte in (2, 0, *number.to_bytes(4, "big")))
    guest = (IPv4Address("10.0.0.0") + number).packed
    attributes = (
        (1, name.encode()),
        (2, _hidden(password.encode(), secret, authenticator)),
        (4, IPv4Address(SOURCE).packed),
        (5, struct.pack(">I", 0x80000000 + number)),  # NAS-Port
        (8, guest),
        (26, _mikrotik(10, guest)),  # Mikrotik-Host-IP
        (30, b"hotspot1"),  # Called-Station-Id
        (31, mac.encode()),
        (32, b"router"),
        (44, b"%08x" % number),  # Acct-Session-Id
        (61, struct.pack(">I", 15)),  # NAS-Port-Type Ethernet
        (87, b"bridge-hotspot"),  # NAS-Port-Id
        (MESSAGE_AUTHENTICATOR, bytes(16)),
    )
    packed = b"".join(bytes((kind, len(value) + 2)) + value for kind, value in attributes)
    packet = struct.pack(">BBH", ACCESS_REQUEST, number % 256, 20 + len(packed)) + authenticator + packed
    return packet[:-16] + hmac.digest(secret, packet, "md5")


def _mikrotik(kind: int, value: bytes) -> bytes:
    return struct.pack(">IBB", 14988, kind, len(value) + 2) + value


def _hidden(password: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """RFC 2865, 5.2, for a password of at most 16 bytes."""
    key = hashlib.md5(secret + authenticator, usedforsecurity=False).digest()
    return bytes(a ^ b for a, b in zip(password.ljust(16, b"\0"), key, strict=True))


def attribute_count(packet: bytes) -> int:
    count, place = 0, 20
    while place < len(packet):
        place += packet[place + 1]
        count += 1
    return count


def ask(port: int, packet: bytes) -> bytes:
    """The one answer to one packet."""
    with connected(port) as router:
        router.send(packet)
        return router.recv(4096)


def measure(port: int, pid: int, packets: Sequence[bytes], in_flight: int = IN_FLIGHT) -> Sample:
    """Raises RuntimeError when any answer is a refusal, TimeoutError when one is missing."""
    with connected(port) as router:
        gc.disable()
        server, generator, began = cpu_s(pid), time.process_time(), time.perf_counter()
        try:
            _send_all(router, packets, in_flight)
        finally:
            gc.enable()
        seconds = time.perf_counter() - began
        generator = time.process_time() - generator
        server = cpu_s(pid) - server
    return Sample(len(packets) / seconds, 1e6 * server / len(packets), generator / seconds)


def connected(port: int) -> socket.socket:
    router = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    router.bind((SOURCE, 0))
    router.connect(("127.0.0.1", port))
    router.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    # Not settimeout(): that would put a poll() before each recv().
    router.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
    return router


def _send_all(router: socket.socket, packets: Sequence[bytes], in_flight: int) -> None:
    send, receive = router.send, router.recv
    waiting = bytearray(256)  # by identifier, which no two open requests may share (RFC 2865, 3)
    sent = answered = 0
    total = len(packets)
    wanted = ANSWER[packets[0][0]]
    while answered < total:
        while sent < total and sent - answered < in_flight and not waiting[packets[sent][1]]:
            send(packets[sent])
            waiting[packets[sent][1]] = 1
            sent += 1
        try:
            answer = receive(4096)
        except BlockingIOError:
            raise TimeoutError(f"no answer for 5 s, {sent - answered} requests are open") from None
        if answer[0] != wanted or not waiting[answer[1]]:
            raise RuntimeError(f"answer {answer[0]} to request {answer[1]} instead of one {wanted}")
        waiting[answer[1]] = 0
        answered += 1


def cpu_s(pid: int) -> float:
    """utime + stime of all threads, also ended ones: proc_pid_stat(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
