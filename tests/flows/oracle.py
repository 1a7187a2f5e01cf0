"""What the package `netflow`, written by others, reads in datagrams; only in well-formed ones, as it loops on some."""

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import netflow

from tests.flows.bulk import Flows

NAMES = {  # FLOW's column -> what v9 and v5, v1, and IPFIX call it there
    "src_lo": ("IPV4_SRC_ADDR", "IPV6_SRC_ADDR", "sourceIPv4Address", "sourceIPv6Address"),
    "dst_lo": ("IPV4_DST_ADDR", "IPV6_DST_ADDR", "destinationIPv4Address", "destinationIPv6Address"),
    "hop_lo": ("IPV4_NEXT_HOP", "NEXT_HOP", "ipNextHopIPv4Address", "IPV6_NEXT_HOP", "ipNextHopIPv6Address"),
    "src_port": ("L4_SRC_PORT", "SRC_PORT", "sourceTransportPort"),
    "dst_port": ("L4_DST_PORT", "DST_PORT", "destinationTransportPort"),
    "protocol": ("PROTOCOL", "PROTO", "protocolIdentifier"),
    "packets": ("IN_PKTS", "IN_PACKETS", "packetDeltaCount"),
    "bytes": ("IN_BYTES", "IN_OCTETS", "octetDeltaCount"),
    "in_if": ("INPUT_SNMP", "INPUT", "ingressInterface"),
    "out_if": ("OUTPUT_SNMP", "OUTPUT", "egressInterface"),
    "tos": ("SRC_TOS", "TOS", "ipClassOfService"),
    "flags": ("TCP_FLAGS", "tcpControlBits"),
    "src_as": ("SRC_AS", "bgpSourceAsNumber"),
    "dst_as": ("DST_AS", "bgpDestinationAsNumber"),
    "nat_src_lo": ("postNATSourceIPv4Address",),
    "nat_dst_lo": ("postNATDestinationIPv4Address",),
    "nat_src_port": ("postNAPTSourceTransportPort",),
    "nat_dst_port": ("postNAPTDestinationTransportPort",),
    "first": ("flowStartMilliseconds",),
    "last": ("flowEndMilliseconds",),
}
UPTIMES = {
    "first": ("FIRST_SWITCHED", "flowStartSysUpTime"),
    "last": ("LAST_SWITCHED", "flowEndSysUpTime"),
}


def read(payloads: Iterable[bytes]) -> list[dict[str, int]]:
    """The columns of FLOW of each record, as far as it tells."""
    templates: dict[str, dict[int, Any]] = {"netflow": {}, "ipfix": {}}
    found = []
    for payload in payloads:
        assert well_formed(payload)
        # as text in hexadecimal: bytes that happen to be UTF-8 it takes for that
        packet = netflow.parse_packet(payload.hex(), templates)
        found += [_columns(payload, flow.data) for flow in packet.flows]
    return found


def well_formed(payload: bytes) -> bool:
    """Sets of a length that leads on, templates with fields: on others it loops, or takes memory without end."""
    version = int.from_bytes(payload[:2], "big")
    position = {9: 20, 10: 16}.get(version, len(payload))
    while len(payload) - position >= 4:
        set_id, size = struct.unpack_from(">HH", payload, position)
        if size < 8 or size > len(payload) - position:
            return False
        if set_id in (0, 2) and payload[position + 6 : position + 8] == b"\0\0":
            return False
        position += size
    return position == len(payload)


def _columns(payload: bytes, data: dict[str, Any]) -> dict[str, int]:
    columns = {}
    for column, names in NAMES.items():
        values = [data[name] for name in names if name in data]
        if values:
            columns[column] = _number(values[0]) & (2**64 - 1)
    for column, names in UPTIMES.items():
        values = [data[name] for name in names if name in data]
        if values and payload[1] != 10:
            columns[column] = _since_1970(payload, values[0])
    return columns


def _number(value: int | str) -> int:
    return int(ip_address(value)) if isinstance(value, str) else value


def _since_1970(payload: bytes, uptime_ms: int) -> int:
    now_ms, seconds, ns = struct.unpack_from(">III", payload, 4)
    ms = ns // 1_000_000 if payload[1] != 9 else 0
    ago = (now_ms - uptime_ms + 2**31) % 2**32 - 2**31
    return int(seconds * 1000 + ms - ago)


def differences(flows: Flows, expected: list[dict[str, int]]) -> list[str]:
    """Nothing, if they tell the same in the same order."""
    if len(flows) != len(expected):
        return [f"{len(flows)} flows, not {len(expected)}"]
    return [
        f"{number}: {column} is {flow[column]}, not {value}"
        for number, (flow, values) in enumerate(zip(flows, expected, strict=True))
        for column, value in values.items()
        if int(flow[column]) != value
    ]
