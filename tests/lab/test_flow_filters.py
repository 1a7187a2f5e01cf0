"""The same datagrams into Debian's nfcapd and into ours: the same filters find the same flows there and here."""

import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collector import search
from collector.decode import Decoder
from collector.filters.language import parse
from collector.journal import Datagram
from tests.flows.bulk import datagrams_of
from tests.flows.stand_in import InMemory, random_flows

FILTERS = 60
CONDITIONS = (
    "any", "proto tcp", "proto udp", "proto 58", "ipv4", "inet6", "flags S", "flags F", "in if 2",
    "out if 3", "if 1", "tos 184", "host 10.0.0.1", "src host 198.51.100.7", "dst host 2001:db8::1",
    "src net 10.0.0.0/8", "net 10.0.0.0/24", "net 2001:db8::/32", "dst net 2001:db8:0:5::/64", "next ip 10.0.0.1",
    "src port 80", "port in [80 443]", "port 25", "src port > 1024", "src port in [22, 53, 8080]", "src port <= 443",
    "bytes > 1k", "bytes >= 999", "bytes = 40", "bytes < 1M", "packets > 5", "packets = 10", "packets >= 1k",
    "bpp > 100", "bpp < 100",
    "duration > 999", "duration = 1000", "duration < 1", "duration >= 60000", "pps > 10", "bps > 8000", "bps < 9k",
)  # fmt: skip


def common_flows() -> Any:
    """As both understand them: ports are TCP's and UDP's, flags are TCP's, counters what they may be."""
    flows = random_flows(600)
    tcp, ports = flows["protocol"] == 6, np.isin(flows["protocol"], (6, 17))
    flows["flags"][~tcp] = 0
    for side in ("src_port", "dst_port", "nat_src_port", "nat_dst_port"):
        flows[side][~ports] = 0
    chance = np.random.default_rng(2)
    flows["packets"] = chance.choice((1, 5, 6, 10, 1000), len(flows))
    flows["bytes"] = flows["packets"] * chance.choice((40, 100, 101, 1000, 1400), len(flows))
    for half in ("hi", "lo"):  # nfdump's `host` doesn't look behind NAT, ours does
        flows[f"nat_dst_{half}"] = flows[f"dst_{half}"]
    for name in ("marks", "sampling", "nat_event"):
        flows[name] = 0
    flows["exporter"] = 1
    return flows


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, InMemory]]:
    """nfcapd's file, and what our decoder made of the same datagrams."""
    folder = tmp_path_factory.mktemp("nfcapd")
    flows = common_flows()
    datagrams, received_ms = datagrams_of(flows, 9), int(flows["received"].max())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = ("nfcapd", "-b", "127.0.0.1", "-p", str(port), "-w", str(folder), "-t", "3600")
        nfcapd = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _listening(port)
            sender.connect(("127.0.0.1", port))
            for number, datagram in enumerate(datagrams):
                sender.send(datagram)
                if number % 10 == 9:
                    time.sleep(0.01)
            time.sleep(0.5)
        finally:
            nfcapd.send_signal(signal.SIGTERM)
            nfcapd.wait(60)
    decoder = Decoder()
    decoder.feed(1, [Datagram(received_ms, "127.0.0.1", datagram) for datagram in datagrams])
    with InMemory(decoder.take().flows, {1: "127.0.0.1"}) as reading:
        yield next(folder.glob("nfcapd.2*")), reading


def _listening(port: int) -> None:
    for _ in range(200):
        if f":{port:04X} " in Path("/proc/net/udp").read_text():
            return
        time.sleep(0.02)
    raise AssertionError("nfcapd doesn't listen")


def theirs(file: Path, text: str) -> tuple[int, int, int]:
    words = ("nfdump", "-r", str(file), "-o", "csv", text)
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    flows, octets, packets, *_ = lines[lines.index("Summary") + 2].split(",")
    return int(flows), int(octets), int(packets)


def ours(reading: InMemory, text: str) -> tuple[int, int, int]:
    query = search.Query(parse(text), 0, 2**43, columns=("flows", "bytes", "packets"), group=("exporter",))
    rows = list(search.run(reading, query).rows)
    return rows[0][1:] if rows else (0, 0, 0)


def filters() -> Iterator[str]:
    yield from CONDITIONS
    chance = random.Random(1)

    def some(depth: int) -> str:
        if depth == 0 or chance.random() < 0.3:
            return chance.choice(("", "", "not ")) + chance.choice(CONDITIONS)
        return f"{chance.choice(('', 'not '))}({some(depth - 1)} {chance.choice(('and', 'or'))} {some(depth - 1)})"

    for _ in range(FILTERS):
        yield some(3)
    yield "flags SA"  # alone: within `not` nfdump 1.7.1 takes it for less than it says
    yield "proto tcp or proto udp and port 53"
    yield "not proto tcp and bytes > 1k"


def test_a_filter_finds_what_nfdump_finds(both: tuple[Path, InMemory]) -> None:
    file, reading = both
    different = [text for text in filters() if theirs(file, text) != ours(reading, text)]
    assert ours(reading, "any")[0] == 600
    assert not different
