"""Asking the portal and the guests' name server from this machine, at the address where guests find them."""

import http.client
import os
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

TIMEOUT_S = 5.0
DNS_TRIES, DNS_TRY_S = 2, 2.0
MAX_BODY_BYTES = 65_536
_A, _IN = 1, 1  # RFC 1035, 3.2.2 and 3.2.4
_POINTER = 0xC0  # RFC 1035, 4.1.4
CODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


@dataclass(frozen=True)
class Reply:
    """Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str


def get(
    address: IPv4Address, port: int, host: str, path: str, agent: str = "", trust: ssl.SSLContext | None = None
) -> Reply:
    """With `trust` over TLS, verified so. Raises OSError where no answer comes."""
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)
    try:
        connection.sock = _opened(address, port, host, trust)
        connection.request("GET", path, headers={"Host": host, "User-Agent": agent})
        answer = connection.getresponse()
        body = answer.read(MAX_BODY_BYTES).decode(errors="replace")
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP: {error!r}") from None
    finally:
        connection.close()


def _opened(address: IPv4Address, port: int, host: str, trust: ssl.SSLContext | None) -> socket.socket:
    link = socket.create_connection((str(address), port), TIMEOUT_S)
    try:
        return trust.wrap_socket(link, server_hostname=host) if trust else link
    except BaseException:
        link.close()
        raise


def resolve(server: IPv4Address, name: str) -> list[IPv4Address]:
    """The name's IPv4 addresses as this server says; raises OSError with the server's word where it has none."""
    number = os.urandom(2)
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    query = number + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, _A, _IN)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(DNS_TRY_S)
        link.connect((str(server), 53))
        for _ in range(DNS_TRIES):
            try:
                link.send(query)
                answer = link.recv(4096)
            except TimeoutError:
                continue
            if answer[:2] == number:
                return _addresses(answer)
    raise TimeoutError("no answer")


def _addresses(answer: bytes) -> list[IPv4Address]:
    """RFC 1035, 4.1; raises OSError."""
    try:
        flags, questions, records = struct.unpack("!HHH", answer[2:8])
        if code := flags & 0xF:
            raise OSError(CODES.get(code, f"error {code}"))
        place, found = 12, []
        for _ in range(questions):
            place = _after_name(answer, place) + 4
        for _ in range(records):
            place = _after_name(answer, place)
            kind, _class, _ttl, size = struct.unpack("!HHIH", answer[place : place + 10])
            if kind == _A and size == 4:
                found.append(IPv4Address(answer[place + 10 : place + 14]))
            place += 10 + size
    except (struct.error, IndexError, ValueError):
        raise OSError("an answer that isn't DNS") from None
    if not found:
        raise OSError("no address")
    return found


def _after_name(answer: bytes, place: int) -> int:
    while answer[place]:
        if answer[place] & _POINTER == _POINTER:
            return place + 2
        place += 1 + answer[place]
    return place + 1
