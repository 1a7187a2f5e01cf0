"""Datagrams to begin from: one of each kind, those that have killed other decoders, and recordings where there are."""

import os
import random
import struct
from pathlib import Path

from tests.flows import bulk, encode
from tests.flows.encode import a_set, data_set, ipfix, template, template_set, v1, v5, v9

EXPORT_S = 1_700_000_000
FLOW = {
    **{
        "src4": "10.0.0.1",
        "dst4": "192.0.2.9",
        "src6": "2001:db8::1",
        "dst6": "2001:db8::2",
        "octets": 900,
        "packets": 3,
    },
    **{
        "application": b"name",
        "17/35632": b"x" * 300,
        "sampling_interval": 100,
        "sampler_interval": 10,
        "sampler_id": 1,
    },
    **{"reverse/octets": 9, "reverse/packets": 1, "sample_interval": 1, "sample_space": 9, "interface_name": b"ether1"},
}
TEMPLATES = (
    *(encode.ROUTEROS6_IPFIX, encode.ROUTEROS_IPFIX, encode.ROUTEROS_IPFIX_6, encode.ROUTEROS_V9, encode.ROUTEROS_V9_6),
    *(encode.SOFTFLOWD_V9, encode.NPROBE_IPFIX, encode.NAT_EVENT, encode.SAMPLING_OPTIONS_V9),
    *(encode.SAMPLER_OPTIONS_V9, encode.SELECTOR_OPTIONS),
    template(300, "in_if interface_name:var boot_ms", scopes=1),
    template(301, " ".join(name for name in encode.ELEMENTS if not name.startswith("application"))),
    template(302, "src4 dst4 " + " ".join(f"{number}:{length}" for number, length in ((150, 1), (154, 3), (157, 5)))),
    template(
        303, "src4 dst4 " + " ".join(f"{number}:8" for number in (1, 2, 21, 22, 34, 50, 61, 150, 158, 161, 305, 306))
    ),
    template(
        304, "src4 dst4 " + " ".join(f"{number}:1" for number in (1, 2, 22, 32, 34, 154, 155, 158, 160, 176, 305, 306))
    ),
)
KILLERS = (
    v9(
        a_set(0, struct.pack(">HH", 256, 0) + bytes(8)), count=1, uptime_ms=1, export_s=EXPORT_S
    ),  # no fields: 36 octets
    ipfix(struct.pack(">HH", 300, 0) + bytes(40), export_s=EXPORT_S),  # a set of no length
    v9(struct.pack(">HH", 0, 0), count=1, uptime_ms=1, export_s=EXPORT_S),
    ipfix(
        a_set(2, struct.pack(">HHHH", 300, 1, 8, 0)), a_set(300, b"x" * 40), export_s=EXPORT_S
    ),  # records of no length
    ipfix(a_set(2, struct.pack(">HHHH", 300, 1, 82, 65535)), a_set(300, b"\xff\xff\xff" * 9), export_s=EXPORT_S),
    ipfix(a_set(3, struct.pack(">HHHHH", 300, 1, 9, 10, 4)), a_set(300, bytes(40)), export_s=EXPORT_S),
    v9(a_set(1, struct.pack(">HHH", 300, 65535, 65535) + bytes(40)), count=1, uptime_ms=1, export_s=EXPORT_S),
    "text that is valid UTF-8, and neither hexadecimal nor a datagram: žluťoučký kůň".encode(),
    b'{"version": 9}',
    *(bytes([0, version]) for version in (1, 5, 9, 10)),
    b"",
)


def seeds() -> list[bytes]:
    found = [*KILLERS, *recordings()]
    for t in TEMPLATES:
        body = data_set(t, [{k: v for k, v in FLOW.items() if fits(t, k)}] * 3)
        found.append(ipfix(template_set(10, t), body, export_s=EXPORT_S))
        found.append(v9(template_set(9, t), body, count=4, uptime_ms=10**6, export_s=EXPORT_S))
        found += [ipfix(body, export_s=EXPORT_S), v9(body, count=3, uptime_ms=10**6, export_s=EXPORT_S)]
    found.append(v5([{"src4": "10.0.0.1"}] * 3, uptime_ms=10**6, export_ms=EXPORT_S * 1000, sampling=0x4064))
    found.append(v1([{"src4": "10.0.0.1"}] * 3, uptime_ms=10**6, export_ms=EXPORT_S * 1000))
    for version in (5, 9, 10):
        found += bulk.datagrams_of(bulk.some_flows(30), version)
    return found


def fits(t: encode.Template, name: str) -> bool:
    return any(field.name == name and (field.length > 1 or field.length == encode.VARIABLE) for field in t.fields)


def recordings() -> list[bytes]:
    folder = Path(os.environ.get("GATEHOUSE_RECORDINGS", Path(__file__).parents[2] / "../shared/data/netflow"))
    return [path.read_bytes() for path in sorted(folder.glob("*.dat"))] if folder.is_dir() else []


_TELLING = (0, 1, 2, 3, 4, 5, 8, 12, 16, 27, 48, 160, 255, 256, 257, 300, 1024, 0x7FFF, 0x8000, 0xFFFF)


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """One of them with some changes of the kinds that break decoders: lengths, counts, numbers, cuts and joins."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if not data:
            break
        at = chance.randrange(len(data))
        kind = chance.randrange(8)
        if kind < 3:
            at &= ~1
            data[at : at + 2] = chance.choice(_TELLING).to_bytes(2, "big")
        elif kind == 3:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 4:
            data[at] = chance.randrange(256)
        elif kind == 5:
            del data[at : at + chance.choice((1, 2, 4, 8, len(data)))]
        elif kind == 6:
            data[at:at] = data[at : at + chance.choice((1, 2, 4, 8, 64, 512))]
        else:
            other = chance.choice(seeds)
            data[at:] = other[chance.randrange(len(other) + 1) :]
    return bytes(data[:3000])
