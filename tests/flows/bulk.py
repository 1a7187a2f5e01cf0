"""Arrays of FLOW as the datagrams that a RouterOS router would send: a million flows a second and more."""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from collector.flows import FLOW
from tests.flows import encode

Flows = NDArray[np.void]

TEMPLATES = {
    9: (encode.ROUTEROS_V9, encode.ROUTEROS_V9_6),
    10: (encode.ROUTEROS_IPFIX, encode.ROUTEROS_IPFIX_6),
    5: (encode.template(0, encode.V5_RECORD),),
}
_PLAIN = {  # element -> FLOW's column, where it goes over as it is
    "packets": "packets", "octets": "bytes", "src_port": "src_port", "dst_port": "dst_port", "in_if": "in_if",
    "out_if": "out_if", "protocol": "protocol", "tos": "tos", "tcp_flags": "flags", "nat_src_port": "nat_src_port",
    "nat_dst_port": "nat_dst_port", "src_as": "src_as", "dst_as": "dst_as", "ip_version": "family",
    "src4": "src_lo", "dst4": "dst_lo", "hop4": "hop_lo", "nat_src4": "nat_src_lo", "nat_dst4": "nat_dst_lo",
}  # fmt: skip
_WIDE = {"src6": "src", "dst6": "dst", "hop6": "hop"}
_MAC = {"src_mac": "src_mac", "dst_mac": "dst_mac"}


def datagrams_of(
    flows: Flows,
    version: int = 10,
    per_datagram: int = 0,
    *,
    boot_ms: int = 0,
    domain: int = 0,
    sequence: int = 0,
    templates_every: int = 20,
) -> list[bytes]:
    """In the order of the flows, IPv4 and IPv6 in datagrams of their own, templates ahead of the first and each 20th.

    The export time of a datagram is the latest `received` in it, or `last` where that is 0; `boot_ms` is the router's
    boot (an hour before the first flow, when 0). v5 leaves IPv6 out. `sequence` is where the counter starts.
    """
    per_datagram = per_datagram or {5: 30, 9: 15, 10: 12}[version]
    boot_ms = boot_ms or (int(flows["first"].min()) if len(flows) else 0) - 3_600_000
    chunks: list[tuple[int, int, int, bytes]] = []
    for number, template in enumerate(TEMPLATES[version]):
        where = np.flatnonzero(flows["family"] == (4, 6)[number])
        chunks += _chunks(flows[where], where, template, per_datagram, boot_ms)
    chunks.sort(key=lambda chunk: chunk[0])
    return list(_framed(chunks, version, boot_ms, domain, sequence, templates_every))


def _chunks(
    flows: Flows, where: NDArray[np.int64], template: encode.Template, size: int, boot_ms: int
) -> Iterator[tuple[int, int, int, bytes]]:
    """(position of the first, export time in ms, how many, the set) of each datagram."""
    body = _records(flows, template, boot_ms)
    length, data = body.dtype.itemsize, body.tobytes()
    sent = np.maximum(flows["received"], flows["last"])
    starts = np.arange(0, len(flows), size)
    latest = np.maximum.reduceat(sent, starts).tolist() if len(flows) else []
    for start, first, export_ms in zip(starts.tolist(), where[starts].tolist(), latest, strict=True):
        part = data[start * length : (start + size) * length]
        head = struct.pack(">HH", template.id, 4 + len(part)) if template.id else b""
        yield first, export_ms, len(part) // length, head + part


def _records(flows: Flows, template: encode.Template, boot_ms: int) -> Flows:
    """The fields one behind the other, big-endian."""
    names = [f"{number} {field.name}" for number, field in enumerate(template.fields)]
    kinds = [f">u{f.length}" if f.length in (1, 2, 4, 8) else f"V{f.length}" for f in template.fields]
    body = np.zeros(len(flows), list(zip(names, kinds, strict=True)))
    icmp = np.isin(flows["protocol"], (1, 58))
    for name, field in zip(names, template.fields, strict=True):
        if field.name in _PLAIN:
            body[name] = flows[_PLAIN[field.name]]
        elif field.name in _WIDE:
            halves = np.stack([flows[f"{_WIDE[field.name]}_{half}"] for half in ("hi", "lo")], axis=1)
            body[name] = np.ascontiguousarray(halves.astype(">u8")).view("V16")[:, 0]
        elif field.name in _MAC:
            octets = flows[_MAC[field.name]].astype(">u8").view("u1").reshape(-1, 8)[:, 2:]
            body[name] = np.ascontiguousarray(octets).view("V6")[:, 0]
        elif field.name in ("start_uptime", "end_uptime"):
            body[name] = (flows["first" if field.name == "start_uptime" else "last"] - boot_ms) & 0xFFFFFFFF
        elif field.name == "boot_ms":
            body[name] = boot_ms
        elif field.name in ("icmp4_type", "icmp6_type"):
            body[name] = np.where(icmp, flows["dst_port"] >> 8, 0)
        elif field.name in ("icmp4_code", "icmp6_code"):
            body[name] = np.where(icmp, flows["dst_port"] & 255, 0)
        elif field.name in ("icmp4", "icmp6"):
            body[name] = np.where(icmp, flows["dst_port"], 0)
    return body


def _framed(
    chunks: list[tuple[int, int, int, bytes]], version: int, boot_ms: int, domain: int, sequence: int, every: int
) -> Iterator[bytes]:
    all_templates = encode.template_set(version, *TEMPLATES[version]) if version != 5 else b""
    for number, (_, export_ms, count, body) in enumerate(chunks):
        seconds, uptime = export_ms // 1000, (export_ms - boot_ms) & 0xFFFFFFFF
        if version == 5:
            ns = export_ms % 1000 * 1_000_000
            yield struct.pack(">HHIIIIHH", 5, count, uptime, seconds, ns, sequence & 0xFFFFFFFF, domain, 0) + body
            sequence += count
            continue
        if number % every == 0:
            yield _datagram(version, all_templates, 2, uptime, seconds, sequence, domain)
            sequence += version == 9
        yield _datagram(version, body, count, uptime, seconds, sequence, domain)
        sequence += 1 if version == 9 else count


def _datagram(version: int, body: bytes, count: int, uptime: int, seconds: int, sequence: int, domain: int) -> bytes:
    if version == 9:
        return struct.pack(">HHIIII", 9, count, uptime, seconds, sequence & 0xFFFFFFFF, domain) + body
    return struct.pack(">HHIII", 10, 16 + len(body), seconds, sequence & 0xFFFFFFFF, domain) + body


def some_flows(count: int, seed: int = 1, start_ms: int = 1_700_000_000_000, ipv6: float = 0.1) -> Flows:
    """Plausible flows in order of their end: clients of 10/8 out to servers, and the ways back, NAT and interfaces."""
    random = np.random.default_rng(seed)
    flows = np.zeros(count, FLOW)
    flows["last"] = start_ms + np.sort(random.integers(0, max(1, count // 2), count))
    flows["first"] = flows["last"] - random.integers(0, 30_000, count)
    flows["received"] = flows["last"] + 200
    flows["family"] = np.where(random.random(count) < ipv6, 6, 4)
    six = flows["family"] == 6
    flows["protocol"] = random.choice([6, 17, 1], count, p=[0.6, 0.37, 0.03])
    flows["protocol"][six & (flows["protocol"] == 1)] = 58
    client = 0x0A000000 + random.zipf(1.3, count) % 4000
    server = 0x50000000 + (random.zipf(1.2, count) * 2654435761 % 0x20000000).astype(np.int64)
    port, service = random.integers(1024, 65536, count), random.choice([443, 80, 53, 123, 25], count)
    out = random.random(count) < 0.5
    flows["src_lo"], flows["dst_lo"] = np.where(out, client, server), np.where(out, server, client)
    flows["src_port"], flows["dst_port"] = np.where(out, port, service), np.where(out, service, port)
    flows["in_if"], flows["out_if"] = np.where(out, 2, 1), np.where(out, 1, 2)
    for side in ("src", "dst", "hop"):
        flows[f"{side}_hi"][six] = 0x20010DB8_00000000
    icmp = np.isin(flows["protocol"], (1, 58))
    flows["src_port"][icmp] = 0
    flows["dst_port"][icmp] = 8 << 8
    flows["packets"] = random.geometric(0.05, count)
    flows["bytes"] = flows["packets"] * random.integers(40, 1500, count)
    flows["flags"][flows["protocol"] == 6] = 0x1B
    flows["hop_lo"] = 0xC0A80001
    flows["dst_mac"] = 0x020000000000 + client
    four = ~six
    flows["nat_src_lo"][four] = np.where(out, 0xC6336401, server)[four]
    flows["nat_dst_lo"][four] = np.where(out, server, client)[four]
    flows["nat_src_port"][four] = flows["src_port"][four]
    flows["nat_dst_port"][four] = flows["dst_port"][four]
    return flows
