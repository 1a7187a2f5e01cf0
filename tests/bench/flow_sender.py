"""Flows as a router tells of them now: IPFIX datagrams at a fixed rate, each of its own time, none in a burst.

A process of its own (`python -m tests.bench.flow_sender`), so that a collector under test loses nothing to its making.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.bench.flow_traffic import Flows
from tests.flows.bulk import datagrams_of

TICK_S = 0.01
_TIMES = ("first", "last", "received")


class Sent(NamedTuple):
    """`sequence` is where the exporter's counter of flows has come to; `late_s` how far behind its time it got."""

    datagrams: int
    flows: int
    sequence: int
    octets: int
    late_s: float


def send(file: Path, port: int, boot_ms: int, sequence: int, core: int | None = None, slower: int = 1) -> Sent:
    """All flows of a numpy file, over as many seconds as their `received` covers, or `slower` times as many."""
    pin = ["taskset", "--cpu-list", str(core)] if core is not None else []
    words = [*pin, sys.executable, "-m", __spec__.name, str(file), str(port), str(boot_ms), str(sequence), str(slower)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return Sent(*json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    for name in ("port", "boot_ms", "sequence", "slower"):
        parser.add_argument(name, type=int)
    given = parser.parse_args()
    flows = np.load(given.file, mmap_mode="r")
    print(json.dumps(_send(flows, given.port, given.boot_ms, given.sequence, given.slower)))


def _send(flows: Flows, port: int, boot_ms: int, sequence: int, slower: int) -> Sent:
    sent = octets = 0
    late_s = 0.0
    start_s = time.time() + 1.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router:
        router.connect(("127.0.0.1", port))
        for number, part in enumerate(_seconds(flows, int(start_s * 1000), slower)):
            datagrams = datagrams_of(part, boot_ms=boot_ms, sequence=sequence)
            sequence += len(part)
            ticks = round(1 / TICK_S)
            for tick in range(ticks):
                behind = time.time() - (start_s + number + tick * TICK_S)
                time.sleep(max(0.0, -behind))
                late_s = max(late_s, behind)
                for datagram in datagrams[len(datagrams) * tick // ticks : len(datagrams) * (tick + 1) // ticks]:
                    octets += router.send(datagram)
            sent += len(datagrams)
    return Sent(sent, len(flows), sequence, octets, late_s)


def _seconds(flows: Flows, start_ms: int, slower: int) -> Iterator[Flows]:
    """A second's flows at a time, moved to the time from `start_ms` on."""
    after = (flows["received"] - flows["received"][0]) * slower
    edges = np.searchsorted(after, np.arange(0, int(after[-1]) + 1000, 1000))
    for begin, end in zip(edges, [*edges[1:], len(flows)], strict=True):
        if end > begin:
            part = np.array(flows[begin:end])
            moved = start_ms + after[begin:end] - part["received"]
            for name in _TIMES:
                part[name] += moved
            yield part


if __name__ == "__main__":
    main()
