"""Flows as a small provider's router exports them: few clients, many servers, each by its popularity, behind NAT."""

import numpy as np
from numpy.typing import NDArray

from collector.flows import FLOW

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
PUBLIC, CLIENTS = 203 << 24 | 113 << 8, 10 << 24 | 5 << 16

_PORTS = (443, 53, 80, 123, 5223, 8080, 22, 25, 3478, 993)
_SHARES = (0.55, 0.2, 0.08, 0.03, 0.04, 0.03, 0.02, 0.01, 0.03, 0.01)


def flows(
    count: int,
    seed: int = 1,
    start_ms: int = START_MS,
    span_ms: int = DAY_MS,
    clients: int = 2000,
    servers: int = 50000,
) -> NDArray[np.void]:
    """In the order of their receipt; both directions of each conversation, so an even number of them."""
    random, half = np.random.default_rng(seed), count // 2
    found = np.zeros(2 * half, FLOW)
    client = CLIENTS + random.permutation(clients)[_popular(random, clients, half, 0.9)].astype(np.uint64)
    server = random.integers(0x10000000, 0xDF000000, servers).astype(np.uint64)[_popular(random, servers, half, 1.1)]
    port = np.where(
        random.random(half) < 0.1, random.integers(1024, 65535, half), random.choice(_PORTS, half, p=_SHARES)
    )
    udp = np.isin(port, [53, 123, 3478]) | ((port == 443) & (random.random(half) < 0.4))
    first = start_ms + np.sort(random.integers(0, span_ms, half))
    lasted = np.where(random.random(half) < 0.3, 0, random.exponential(8000, half)).astype(np.int64)
    own = random.integers(1024, 65535, half)
    outer = np.where(random.random(half) < 0.8, own, random.integers(1024, 65535, half))
    for way, (near, far) in enumerate((("src", "dst"), ("dst", "src"))):
        rows = found[way::2]
        rows["first"] = first + (random.integers(0, 40, half) if way else 0)
        rows["last"] = rows["first"] + lasted
        rows["received"] = rows["last"] + 15000 + random.integers(0, 3000, half)
        rows["exporter"], rows["family"], rows["protocol"] = 1, 4, np.where(udp, 17, 6)
        rows["flags"] = np.where(udp, 0, random.choice([0x1B, 0x1A, 0x02, 0x13], half, p=[0.7, 0.1, 0.15, 0.05]))
        rows[f"{near}_lo"], rows[f"{near}_port"], rows[f"{far}_lo"], rows[f"{far}_port"] = client, own, server, port
        rows["packets"] = 1 + random.geometric(0.1, half)
        rows["bytes"] = rows["packets"] * random.integers(40, 1460, half)
        rows["in_if"], rows["out_if"] = (1, 3) if way else (3, 1)
        rows[f"nat_{near}_lo"], rows[f"nat_{near}_port"] = PUBLIC + client % 4, outer
        rows[f"nat_{far}_lo"], rows[f"nat_{far}_port"] = server, port
        rows["hop_lo"] = 0 if way else 192 << 24 | 168 << 16 | 1
    found = found[np.argsort(found["received"], kind="stable")]
    found["received"] = found["received"] // 1000 * 1000 + np.arange(len(found)) // 20 * 7 % 1000  # by datagram
    return found


def anything(count: int, seed: int = 5) -> NDArray[np.void]:
    """Any value in each field, IPv4 and IPv6, some private, some behind NAT: the worst that a segment has to keep."""
    random = np.random.default_rng(seed)
    found = np.zeros(count, FLOW)
    for name in FLOW.names or ():
        kind = FLOW[name]
        high = 2**43 if kind == np.int64 else np.iinfo(kind).max
        found[name] = random.integers(0, high, count, dtype=kind, endpoint=True)
    found["family"] = random.choice([4, 6], count)
    four = found["family"] == 4
    for end in ("src", "dst", "nat_src", "nat_dst", "hop"):
        found[f"{end}_hi"][four], private = 0, random.random(count) < 0.4
        found[f"{end}_lo"][four] &= 0xFFFFFFFF
        found[f"{end}_lo"][four & private] = (10 << 24) + (found[f"{end}_lo"][four & private] & 0xFFFF)
        found[f"{end}_hi"][~four & private] = (0xFD << 56) + 7
    for half in ("hi", "lo", "port"):
        same = random.random(count) < 0.3
        found[f"nat_dst_{half}"][same] = found[f"dst_{half}"][same]
    return found


def _popular(random: np.random.Generator, many: int, count: int, steep: float) -> NDArray[np.int64]:
    shares = 1 / np.arange(1, many + 1) ** steep
    return np.searchsorted(np.cumsum(shares / shares.sum()), random.random(count))
