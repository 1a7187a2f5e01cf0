"""Accounting-Requests as a RouterOS hotspot sends them (RFC 2866, RFC 2869)."""

import hashlib
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.bench.radius_load import ACCOUNTING_REQUEST, SOURCE

START, STOP, INTERIM = 1, 2, 3
_GIGAWORD = 2**32


@dataclass(frozen=True)
class Told:
    """What one packet tells of the `session`th session; octets are from the guest and to the guest."""

    status: int
    session: int
    name: str
    at: int
    session_s: int
    input_octets: int
    output_octets: int


def session_id(session: int) -> str:
    return f"{session:08x}"


def unique_id(told: Told) -> str:
    """What our own server makes of it: rlm_python/raddb/accounting.server, and Class."""
    words = (told.name, session_id(told.session), "router", "router", "bridge-hotspot", str(0x80000000 + told.session))
    return hashlib.md5(",".join(words).encode(), usedforsecurity=False).hexdigest() + _class(told.session).hex()


def _class(session: int) -> bytes:
    return b"%08x" % session


def accounting_request(number: int, told: Told, secret: bytes) -> bytes:
    """The `number`th packet of its sender."""
    session = told.session
    guest = (IPv4Address("10.0.0.0") + session).packed
    mac = ":".join(f"{byte:02X}" for byte in (2, 0, *session.to_bytes(4, "big")))
    attributes = [
        (1, told.name.encode()),
        (4, IPv4Address(SOURCE).packed),
        (5, _u32(0x80000000 + session)),  # NAS-Port
        (8, guest),
        (25, _class(session)),
        (31, mac.encode()),
        (32, b"router"),
        (40, _u32(told.status)),
        (41, _u32(0)),  # Acct-Delay-Time
        (44, session_id(session).encode()),
        (55, _u32(told.at)),
        (61, _u32(15)),  # NAS-Port-Type Ethernet
        (87, b"bridge-hotspot"),  # NAS-Port-Id
    ]
    if told.status != START:
        attributes += [(46, _u32(told.session_s)), *_octets(told)]
    if told.status == STOP:
        attributes.append((49, _u32(1)))  # Acct-Terminate-Cause User-Request
    packed = b"".join(bytes((kind, len(value) + 2)) + value for kind, value in attributes)
    head = struct.pack(">BBH", ACCOUNTING_REQUEST, number % 256, 20 + len(packed))
    authenticator = hashlib.md5(head + bytes(16) + packed + secret, usedforsecurity=False).digest()
    return head + authenticator + packed


def _octets(told: Told) -> list[tuple[int, bytes]]:
    input_gigawords, input_octets = divmod(told.input_octets, _GIGAWORD)
    output_gigawords, output_octets = divmod(told.output_octets, _GIGAWORD)
    return [
        (42, _u32(input_octets)),
        (43, _u32(output_octets)),
        (52, _u32(input_gigawords)),
        (53, _u32(output_gigawords)),
    ]


def _u32(value: int) -> bytes:
    return struct.pack(">I", value)
