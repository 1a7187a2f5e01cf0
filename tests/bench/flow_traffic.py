"""What a router of a small provider exports: Zipf clients behind NAT, Zipf servers, both ways of a conversation.

The shares, sizes and durations are those of access networks: mostly HTTPS and QUIC, many look-ups of names, a few per
cent of file sharing with a new peer and port each time, some that nobody answers. The way back goes to the public
address and is told by its address after NAT, and the next hop of the way back is the client, as RouterOS exports it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.flows import FLOW

Flows = NDArray[np.void]
Numbers = NDArray[np.int64]
Shares = NDArray[np.float64]

CLIENTS = 3000
INACTIVE_MS = 15_000  # RouterOS exports a flow when nothing came for so long
LONGEST_MS = 1_700_000  # below its active time-out, 30 minutes, which would cut it in two
UNANSWERED = 0.03
IPV6 = 0.2  # of the conversations with servers that have it, half of the clients have it too

_LAN, _SIX = 0x0A140000, 0x20010DB8_00200000  # 10.20.0.0/16, 2001:db8:20::/48
_PUBLIC = np.array([0xC6336401, 0xC6336402, 0xC6336403, 0xC6336404], np.int64)  # 198.51.100.1 to .4
_GATEWAY, _WAN = 0xC63364FE, 1
_ROUTER_MAC, _GATEWAY_MAC, _CLIENT_MAC = 0x488F5A000000, 0x00163E0000FE, 0x3C2EF9000000
_HOURS = np.array([5, 3, 2, 2, 2, 3, 5, 8, 10, 11, 12, 13, 14, 13, 13, 14, 15, 17, 20, 23, 24, 22, 16, 9], float)


class Service(NamedTuple):
    """Medians of packets each way, octets a packet each way and duration; `port` 0 is another one each time."""

    share: float
    protocol: int
    port: int
    servers: int
    packets: tuple[int, int]
    octets: tuple[int, int]
    ms: int
    has_ipv6: bool = False


SERVICES = (
    Service(44, 6, 443, 120_000, (14, 17), (160, 900), 9_000, True),
    Service(17, 17, 443, 20_000, (18, 30), (180, 1_050), 12_000, True),
    Service(22, 17, 53, 4, (1, 1), (68, 150), 25, True),
    Service(4, 6, 80, 30_000, (6, 6), (150, 700), 2_000),
    Service(2, 6, 5228, 60, (4, 4), (110, 130), 240_000, True),
    Service(1, 6, 993, 400, (16, 18), (110, 450), 4_000),
    Service(0.3, 6, 25, 3_000, (14, 12), (600, 90), 3_000),
    Service(1.2, 17, 123, 200, (1, 1), (76, 76), 40),
    Service(6, 17, 0, 2_000_000, (6, 7), (230, 500), 7_000),
    Service(1.5, 6, 0, 1_000_000, (12, 20), (120, 1_000), 30_000),
    Service(1, 1, 0, 5_000, (3, 3), (84, 84), 3_000),
)


class Traffic:
    """Endless; the same seed and slice are the same flows. `clients` share it by Zipf, 0 having the most."""

    def __init__(self, seed: int = 1, clients: int = CLIENTS) -> None:
        self.seed, self.clients = seed, clients
        self._clients = _zipf(clients, 0.9)
        self._servers = [_zipf(service.servers, 1.0) for service in SERVICES]
        shares = np.array([service.share for service in SERVICES])
        self._services = np.cumsum(shares / shares.sum())

    def slice(
        self, count: int, since_ms: int, until_ms: int, *, planted: Mapping[int, int] | None = None, daily: bool = False
    ) -> Flows:
        """`count` flows that the router tells of in that time, in order of telling, which is `received`.

        `planted`: so many conversations are of that client, which may be one beyond `clients`. `daily`: more in the
        evening than at night.
        """
        random = np.random.default_rng((self.seed, since_ms, count))
        talks = int(count / (2 - UNANSWERED) + 4 * count**0.5) + 100  # enough, whoever isn't answered
        client = np.searchsorted(self._clients, random.random(talks))
        at = 0
        for number, times in (planted or {}).items():
            client[at : at + times] = number
            at += times
        told = since_ms + _moments(random, talks, since_ms, until_ms, daily)
        told[:at] = random.integers(since_ms, max(since_ms + 1, until_ms - 1000), at)
        kind = np.searchsorted(self._services, random.random(talks))
        kind[:at] = 0
        ups, downs = self._conversations(random, kind, client, told)
        answered = random.random(talks) >= UNANSWERED
        answered[:at] = True
        both = np.concatenate([np.arange(talks), talks + np.flatnonzero(answered)])
        keep = both % talks < at  # all that is planted, of the others as many as fit
        chosen = np.concatenate([both[keep], random.permutation(both[~keep])])[:count]
        when = np.where(chosen < talks, ups["received"][chosen % talks], downs["received"][chosen % talks])
        chosen = chosen[np.argsort(when, kind="stable")]
        flows = np.empty(count, FLOW)
        for way, mine in ((ups, chosen < talks), (downs, chosen >= talks)):
            flows[mine] = way[chosen[mine] % talks]
        return flows

    def address(self, client: int) -> str:
        number = _LAN + 2 + client
        return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))

    def _conversations(
        self, random: np.random.Generator, kind: Numbers, client: Numbers, told: Numbers
    ) -> tuple[Flows, Flows]:
        table = np.array([(s.protocol, s.port, s.has_ipv6, s.ms) for s in SERVICES])
        protocol, port, can6, usual_ms = table[kind].T
        rank = np.empty(len(kind), np.int64)
        for number, servers in enumerate(self._servers):
            mine = np.flatnonzero(kind == number)
            rank[mine] = np.searchsorted(servers, random.random(len(mine)))
        port = np.where((port == 0) & (protocol != 1), 1024 + _mixed(rank, 7) % 60_000, port)
        six = (can6 == 1) & (client % 2 == 1) & (random.random(len(kind)) < 2 * IPV6)
        duration = np.minimum(usual_ms * random.lognormal(0, 1.4, len(kind)), LONGEST_MS).astype(np.int64)
        ups = np.zeros(len(kind), FLOW)
        ups["received"] = told
        ups["last"] = told - INACTIVE_MS - random.integers(0, 1000, len(kind))
        ups["first"] = ups["last"] - duration
        ups["protocol"] = np.where((protocol == 1) & six, 58, protocol)
        ups["family"] = np.where(six, 6, 4)
        downs = ups.copy()
        shift = np.minimum(random.lognormal(3, 0.8, len(kind)).astype(np.int64), 900)
        for name, late in (("first", shift), ("last", shift // 2), ("received", shift // 2)):
            downs[name] += late
        downs["first"] = np.minimum(downs["first"], downs["last"])
        _addresses(random, ups, downs, six, client, rank, kind)
        _ports(random, ups, downs, port)
        _counters(random, ups, downs, kind)
        return ups, downs


def _zipf(count: int, exponent: float) -> Shares:
    weights = 1 / (np.arange(count) + 3.0) ** exponent
    return np.asarray(np.cumsum(weights / weights.sum()))


def _moments(random: np.random.Generator, count: int, since_ms: int, until_ms: int, daily: bool) -> Numbers:
    if not daily:
        return random.integers(0, until_ms - since_ms, count)
    hours = np.arange(since_ms // 3_600_000, -(-until_ms // 3_600_000))
    weights = _HOURS[hours % 24] / _HOURS[hours % 24].sum()
    moments = random.choice(hours, count, p=weights) * 3_600_000 + random.integers(0, 3_600_000, count) - since_ms
    return np.asarray(np.clip(moments, 0, until_ms - since_ms - 1))


def _mixed(numbers: Numbers, salt: int) -> Numbers:
    """Spread over 31 bits, the same each time."""
    return np.asarray((((numbers + 1) * 2654435761 + salt * 40503) & 0xFFFFFFFF) >> 1)


def _addresses(
    random: np.random.Generator, ups: Flows, downs: Flows, six: NDArray[np.bool_], client: Numbers, rank: Numbers,
    kind: Numbers,
) -> None:  # fmt: skip
    inside = _LAN + 2 + client
    server = 0x17000000 + _mixed(rank * len(SERVICES) + kind, 1) % 0x68000000  # 23.0.0.0 to 126.255.255.255
    public = _PUBLIC[client % len(_PUBLIC)]
    ups["src_lo"], ups["dst_lo"], ups["hop_lo"] = inside, server, _GATEWAY
    ups["nat_src_lo"], ups["nat_dst_lo"] = public, server
    downs["src_lo"], downs["dst_lo"], downs["hop_lo"] = server, public, inside
    downs["nat_src_lo"], downs["nat_dst_lo"] = server, inside
    own, far = (0x02163EFFFE000000 + client)[six], (server[six] << 8) + 1
    network = np.uint64(0x2600900000000000) + (server[six] & 0xFFFF).astype(np.uint64)
    for flows, ends in ((ups, ("src", "dst")), (downs, ("dst", "src"))):
        flows[f"{ends[0]}_hi"][six], flows[f"{ends[0]}_lo"][six] = _SIX + client[six], own
        flows[f"{ends[1]}_hi"][six], flows[f"{ends[1]}_lo"][six] = network, far
        flows["nat_src_lo"][six] = flows["nat_dst_lo"][six] = 0
        flows["hop_hi"][six], flows["hop_lo"][six] = 0xFE80000000000000, (0xFE, own)[flows is downs]
    lan = 2 + client % 4
    ups["in_if"], ups["out_if"], downs["in_if"], downs["out_if"] = lan, _WAN, _WAN, lan
    ups["src_mac"], ups["dst_mac"] = _CLIENT_MAC + _mixed(client, 3) % 0x1000000, _ROUTER_MAC + lan
    downs["src_mac"], downs["dst_mac"] = _GATEWAY_MAC, _ROUTER_MAC + _WAN
    ups["tos"] = np.where(random.random(len(ups)) < 0.02, 0xB8, 0)
    downs["tos"] = random.choice([0, 0x20, 0x28, 0x48], len(ups), p=[0.8, 0.08, 0.07, 0.05])


def _ports(random: np.random.Generator, ups: Flows, downs: Flows, port: Numbers) -> None:
    """A port after NAT is the client's own, but where another client has it."""
    own = random.integers(32_768, 61_000, len(ups))
    public = np.where(random.random(len(ups)) < 0.05, random.integers(1024, 65_536, len(ups)), own)
    icmp = np.isin(ups["protocol"], (1, 58))
    ups["src_port"], ups["dst_port"] = np.where(icmp, 0, own), np.where(icmp, 8 << 8, port)
    downs["src_port"], downs["dst_port"] = np.where(icmp, 0, port), np.where(icmp, 0, public)
    nat = (ups["family"] == 4) & ~icmp
    for flows, source, target in ((ups, public, port), (downs, port, own)):
        flows["nat_src_port"], flows["nat_dst_port"] = np.where(nat, source, 0), np.where(nat, target, 0)
    direct = ups["family"] == 6
    downs["dst_port"][direct & ~icmp] = own[direct & ~icmp]


def _counters(random: np.random.Generator, ups: Flows, downs: Flows, kind: Numbers) -> None:
    usual = np.array([(*s.packets, *s.octets) for s in SERVICES])[kind]
    size = random.lognormal(0, 1.3, len(kind)) ** np.where(usual[:, 0] > 1, 1, 0)  # one packet is one packet
    for flows, column in ((ups, 0), (downs, 1)):
        packets = np.clip(usual[:, column] * size * random.lognormal(0, 0.2, len(kind)), 1, 1_000_000).astype(np.int64)
        octets = np.clip(usual[:, 2 + column] * random.lognormal(0, 0.3, len(kind)), 40, 1500)
        flows["packets"] = np.where(usual[:, 0] > 1, packets, 1)
        flows["bytes"] = (flows["packets"] * octets).astype(np.int64)
        tcp = flows["protocol"] == 6
        flags = random.choice([0x1B, 0x1A, 0x1E, 0x1F], len(kind), p=[0.7, 0.15, 0.12, 0.03])
        flows["flags"] = np.where(tcp, flags, 0)
