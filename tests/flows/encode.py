"""An exporter in Python: NetFlow v1, v5, v9 and IPFIX datagrams out of records. It shares nothing with the decoder.

    t = template(256, "src4 dst4 src_port dst_port protocol octets:4 packets:4 flow_start_ms flow_end_ms")
    ipfix(template_set(10, t), data_set(t, [{"src4": "10.0.0.1", "octets": 99}]), export_s=1_700_000_000, sequence=0)

A word of a template is `name`, `name:length`, `number:length` or `number/enterprise:length`; the length `var` is a
variable one. A value is a number, an address or MAC address as text, or bytes; what isn't given is 0.
Whole arrays of FLOW go through `bulk.datagrams_of`.
"""

import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

Value = int | str | bytes
Record = Mapping[str, Any]  # Values

VARIABLE = 65535

# number and usual length of each information element, by the names used here
ELEMENTS = {
    "octets": (1, 8), "packets": (2, 8), "protocol": (4, 1), "tos": (5, 1), "tcp_flags": (6, 1), "src_port": (7, 2),
    "src4": (8, 4), "src_mask4": (9, 1), "in_if": (10, 4), "dst_port": (11, 2), "dst4": (12, 4), "dst_mask4": (13, 1),
    "out_if": (14, 4), "hop4": (15, 4), "src_as": (16, 4), "dst_as": (17, 4), "end_uptime": (21, 4),
    "start_uptime": (22, 4), "post_octets": (23, 8), "post_packets": (24, 8), "src6": (27, 16), "dst6": (28, 16),
    "icmp4": (32, 2), "sampling_interval": (34, 4), "sampling_algorithm": (35, 1), "sampler_id": (48, 1),
    "sampler_mode": (49, 1), "sampler_interval": (50, 4), "src_mac": (56, 6), "post_dst_mac": (57, 6), "vlan": (58, 2),
    "post_vlan": (59, 2), "ip_version": (60, 1), "direction": (61, 1), "hop6": (62, 16), "dst_mac": (80, 6),
    "post_src_mac": (81, 6), "interface_name": (82, 32), "octets_total": (85, 8), "packets_total": (86, 8),
    "flow_id": (148, 8), "flow_start_s": (150, 4), "flow_end_s": (151, 4), "flow_start_ms": (152, 8),
    "flow_end_ms": (153, 8), "flow_start_us": (154, 8), "flow_end_us": (155, 8), "flow_start_ns": (156, 8),
    "flow_end_ns": (157, 8), "start_delta_us": (158, 4), "end_delta_us": (159, 4), "boot_ms": (160, 8),
    "duration_ms": (161, 4), "icmp4_type": (176, 1), "icmp4_code": (177, 1), "icmp6_type": (178, 1),
    "icmp6_code": (179, 1), "nat_src4": (225, 4), "nat_dst4": (226, 4), "nat_src_port": (227, 2),
    "nat_dst_port": (228, 2), "nat_event": (230, 1), "initiator_octets": (231, 8), "responder_octets": (232, 8),
    "ingress_vrf": (234, 4), "dot1q": (243, 2), "nat_src6": (281, 16), "nat_dst6": (282, 16),
    "initiator_packets": (298, 8), "responder_packets": (299, 8), "selector_id": (302, 8),
    "selector_algorithm": (304, 2), "sample_interval": (305, 4), "sample_space": (306, 4), "event_ms": (323, 8),
    "icmp6": (139, 2), "padding": (210, 1), "domain_id": (149, 4), "exporter4": (130, 4), "process_id": (144, 4),
    "application": (96, 128), "application_id": (95, 4), "ttl": (192, 1), "is_multicast": (206, 1),
    "igmp_type": (33, 1), "ip_length": (224, 8), "flow_label": (31, 4),
}  # fmt: skip
REVERSE = 29305  # the enterprise of RFC 5103: the element's way back


class Field(NamedTuple):
    name: str
    number: int
    length: int
    enterprise: int = 0


class Template(NamedTuple):
    id: int
    fields: tuple[Field, ...]
    scopes: int = 0  # of an options template: how many of the fields say what the options are about


def template(id: int, words: str, scopes: int = 0) -> Template:
    return Template(id, tuple(_field(word) for word in words.split()), scopes)


def _field(word: str) -> Field:
    """`reverse/octets:8` is the way back of an element."""
    name, _, length = word.partition(":")
    known = name.removeprefix("reverse/")
    if known in ELEMENTS:
        number, usual = ELEMENTS[known]
        enterprise = REVERSE if known != name else 0
    else:
        numbers = [int(part) for part in name.split("/")]
        number, enterprise, usual = numbers[0], [*numbers, 0][1], 4
    return Field(name, number, VARIABLE if length == "var" else int(length or usual), enterprise)


def _bytes(value: Value, length: int) -> bytes:
    if isinstance(value, str):
        value = bytes.fromhex(value.replace(":", "")) if value.count(":") == 5 else ip_address(value).packed
    if isinstance(value, int):
        return value.to_bytes(length, "big", signed=value < 0)
    return value.ljust(length, b"\0")[:length]


def _variable(value: Value) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    return (bytes([len(data)]) if len(data) < 255 else struct.pack(">BH", 255, len(data))) + data


def record(template: Template, values: Record) -> bytes:
    return b"".join(
        _variable(values.get(field.name, b""))
        if field.length == VARIABLE
        else _bytes(values.get(field.name, 0), field.length)
        for field in template.fields
    )


def a_set(id: int, body: bytes, padding: int = 0) -> bytes:
    return struct.pack(">HH", id, 4 + len(body) + padding) + body + bytes(padding)


def data_set(template: Template, records: Sequence[Record], padding: int = 0) -> bytes:
    return a_set(template.id, b"".join(record(template, values) for values in records), padding)


def _specifiers(fields: Sequence[Field]) -> bytes:
    parts = (
        struct.pack(">HHI", field.number | 0x8000, field.length, field.enterprise)
        if field.enterprise
        else struct.pack(">HH", field.number, field.length)
        for field in fields
    )
    return b"".join(parts)


def template_set(version: int, *templates: Template, padding: int = 0) -> bytes:
    """One set; all of them templates of flows, or all of them templates of options."""
    if templates[0].scopes:
        return _options_template_set(version, *templates, padding=padding)
    body = b"".join(struct.pack(">HH", t.id, len(t.fields)) + _specifiers(t.fields) for t in templates)
    return a_set(2 if version == 10 else 0, body, padding)


def _options_template_set(version: int, *templates: Template, padding: int = 0) -> bytes:
    body = b""
    for t in templates:
        if version == 10:
            body += struct.pack(">HHH", t.id, len(t.fields), t.scopes) + _specifiers(t.fields)
        else:  # lengths in octets, RFC 3954 6.1
            body += struct.pack(">HHH", t.id, 4 * t.scopes, 4 * (len(t.fields) - t.scopes)) + _specifiers(t.fields)
    return a_set(3 if version == 10 else 1, body, padding)


def withdrawal(id: int) -> bytes:
    """Of an IPFIX template; 2 withdraws all of them."""
    return a_set(2, struct.pack(">HH", id, 0))


def ipfix(*sets: bytes, export_s: int, sequence: int = 0, domain: int = 0) -> bytes:
    """`sequence` counts the data records sent before."""
    body = b"".join(sets)
    return struct.pack(">HHIII", 10, 16 + len(body), export_s, sequence, domain) + body


def v9(*sets: bytes, count: int, uptime_ms: int, export_s: int, sequence: int = 0, domain: int = 0) -> bytes:
    """`count` is of records, templates among them; `sequence` counts the datagrams sent before."""
    return struct.pack(">HHIIII", 9, count, uptime_ms % 2**32, export_s, sequence, domain) + b"".join(sets)


V5_RECORD = (
    "src4 dst4 hop4 in_if:2 out_if:2 packets:4 octets:4 start_uptime end_uptime src_port dst_port "
    "padding tcp_flags protocol tos src_as:2 dst_as:2 src_mask4 dst_mask4 padding:2"
)
V1_RECORD = (
    "src4 dst4 hop4 in_if:2 out_if:2 packets:4 octets:4 start_uptime end_uptime src_port dst_port "
    "padding:2 protocol tos tcp_flags padding:7"
)


def v5(
    records: Sequence[Record], *, uptime_ms: int, export_ms: int, sequence: int = 0, engine: int = 0, sampling: int = 0
) -> bytes:
    """`sequence` counts the flows sent before; `sampling` is the whole word, the mode in its two top bits."""
    seconds, ms = divmod(export_ms, 1000)
    uptime = uptime_ms % 2**32
    head = struct.pack(">HHIIIIHH", 5, len(records), uptime, seconds, ms * 1_000_000, sequence, engine, sampling)
    return head + b"".join(record(template(0, V5_RECORD), values) for values in records)


def v1(records: Sequence[Record], *, uptime_ms: int, export_ms: int) -> bytes:
    seconds, ms = divmod(export_ms, 1000)
    head = struct.pack(">HHIII", 1, len(records), uptime_ms % 2**32, seconds, ms * 1_000_000)
    return head + b"".join(record(template(0, V1_RECORD), values) for values in records)


# Templates of real exporters.
ROUTEROS6_IPFIX = template(  # 6.39.2, as recorded: no boot time, no port after NAT
    258,
    "ip_version start_uptime end_uptime packets:4 octets:4 src_port dst_port in_if out_if protocol tcp_flags "
    "src4 dst4 hop4 nat_src4 nat_dst4",
)
ROUTEROS_IPFIX = template(
    258,
    "ip_version boot_ms start_uptime end_uptime packets:4 octets:4 src_port dst_port in_if out_if protocol tos "
    "tcp_flags:1 src_mac post_src_mac dst_mac src4 dst4 hop4 src_mask4 dst_mask4 ttl is_multicast "
    "icmp4_type icmp4_code igmp_type nat_src4 nat_dst4 nat_src_port nat_dst_port",
)
ROUTEROS_IPFIX_6 = template(
    259,
    "ip_version boot_ms start_uptime end_uptime packets:4 octets:4 src_port dst_port in_if out_if protocol tos "
    "tcp_flags:1 src_mac post_src_mac dst_mac src6 dst6 hop6 flow_label ttl is_multicast icmp6_type icmp6_code",
)
ROUTEROS_V9 = template(
    256,
    "end_uptime start_uptime packets:4 octets:4 in_if out_if src4 dst4 protocol tos src_port dst_port hop4 "
    "dst_mask4 src_mask4 tcp_flags dst_mac post_src_mac nat_src4 nat_dst4 nat_src_port nat_dst_port",
)
ROUTEROS_V9_6 = template(
    257,
    "ip_version src6 dst6 end_uptime start_uptime packets:4 octets:4 in_if out_if protocol tos src_port dst_port hop6 "
    "tcp_flags dst_mac post_src_mac icmp6",
)
SOFTFLOWD_V9 = template(
    1024,
    "src4 dst4 end_uptime start_uptime octets:4 packets:4 in_if out_if src_port dst_port protocol tcp_flags ip_version "
    "tos icmp4 vlan",
)
NPROBE_IPFIX = template(  # an application's name of variable length in the middle, 57590 of ntop's enterprise 35632
    257,
    "src4 dst4 flow_start_ms flow_end_ms octets:4 packets:4 17/35632:var src_port dst_port protocol tcp_flags:2 "
    "reverse/octets:4 reverse/packets:4 application:var",
)
NAT_EVENT = template(
    270, "event_ms nat_event protocol src4 nat_src4 src_port nat_src_port dst4 nat_dst4 dst_port nat_dst_port"
)
SAMPLING_OPTIONS_V9 = template(271, "1:4 sampling_interval sampling_algorithm", scopes=1)  # scope 1: the system
SAMPLER_OPTIONS_V9 = template(272, "1:4 sampler_id sampler_mode sampler_interval", scopes=1)
SELECTOR_OPTIONS = template(273, "selector_id:8 selector_algorithm sample_interval sample_space", scopes=1)
