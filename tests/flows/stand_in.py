"""Random flows of few values, so that filters find some of them; and a Reading of an array in memory."""

from collections.abc import Iterable, Sequence

import duckdb
import numpy as np
from numpy.typing import NDArray

from collector.flows import FLOW
from collector.store import packing
from collector.store.models import Certificate, Range, SegmentFile
from collector.store.reading import Reading

SINCE_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
ADDRESSES = (0x0A000001, 0x0A000002, 0x0A0000FE, 0xC0A80105, 0xC6336407, 0x08080808)
ADDRESSES_6 = (1, (0x20010DB8 << 96) | 1, (0x20010DB8 << 96) | (5 << 64) | 9, (0xFE80 << 112) | 0xABCD)
PORTS = (0, 22, 25, 53, 80, 443, 2048, 8080, 40_000, 65_535)


def random_flows(count: int, seed: int = 1) -> NDArray[np.void]:
    """`domain` numbers them."""
    chance = np.random.default_rng(seed)
    flows = np.zeros(count, FLOW)

    def some(values: Sequence[int], dtype: str = "<u8") -> NDArray[np.generic]:
        return chance.choice(np.array(values, dtype), count)

    flows["domain"] = np.arange(count)
    flows["first"] = SINCE_MS + chance.integers(0, HOUR_MS, count)
    flows["last"] = flows["first"] + some((0, 0, 1, 999, 1000, 60_000), "<i8")
    flows["received"] = flows["last"] + 15_000
    flows["exporter"] = some((1, 2))
    flows["family"] = some((4, 4, 6))
    six = flows["family"] == 6
    for side in ("src", "dst", "nat_src", "nat_dst", "hop"):
        wide = [ADDRESSES_6[number] for number in chance.integers(0, len(ADDRESSES_6), count)]
        flows[f"{side}_hi"] = np.where(six, np.array([one >> 64 for one in wide], "<u8"), 0)
        low = np.array([one & (2**64 - 1) for one in wide], "<u8")
        flows[f"{side}_lo"] = np.where(six, low, some(ADDRESSES))
    for name, values in {
        "protocol": (1, 6, 6, 17, 58),
        "flags": (0, 2, 16, 18, 27, 255),
        "tos": (0, 0, 16, 184),
        "src_port": PORTS,
        "dst_port": PORTS,
        "nat_src_port": PORTS,
        "nat_dst_port": PORTS,
        "packets": (0, 1, 10, 1000, 2**40),
        "bytes": (0, 40, 999, 1000, 1001, 1_000_001, 2**63, 2**64 - 1),
        "in_if": (1, 2, 3),
        "out_if": (1, 2, 3),
        "src_as": (0, 3320, 2**32 - 1),
        "dst_as": (0, 3320),
        "vlan": (0, 10),
        "src_mac": (0, 0x001B44113AB7),
        "dst_mac": (0, 0x001B44113AB7),
        "nat_event": (0, 1, 2),
        "direction": (0, 1, 2),
        "sampling": (0, 100),
        "marks": (0, 0, 2, 5),
    }.items():
        flows[name] = some(values)
    return flows


class InMemory(Reading):
    """A Reading of flows that lie in no file."""

    def __init__(self, flows: NDArray[np.void], exporters: dict[int, str] | None = None) -> None:
        self.con = duckdb.connect(config={"threads": 1})
        columns = {name: np.ascontiguousarray(flows[name]) for name in FLOW.names or ()}
        self.con.register("all_flows", columns)
        self.exporters = exporters or {1: "192.0.2.1", 2: "192.0.2.2"}
        self.asked: list[object] = []

    def __enter__(self) -> "InMemory":
        return self

    def __exit__(self, *_: object) -> None:
        self.con.close()

    def relation(
        self,
        range: Range,
        clients: Sequence[tuple[int, int, int]] | None = None,
        exporters: Iterable[int] | None = None,
        files: Sequence[SegmentFile] | None = None,
    ) -> str:
        """Only what may be asked for, so that a filter which promises too little is found out."""
        self.asked.append(clients)
        where = f"first < {range.until_ms:d} AND last >= {range.since_ms:d}"
        if clients is not None:
            ends = [
                f"({side}_hi = {hi:d}::UBIGINT AND {side}_lo BETWEEN {low:d}::UBIGINT AND {high:d}::UBIGINT)"
                for hi, low, high in clients
                for side in ("src", "dst", *(["nat_dst"] if hi == 0 and packing.is_local(4, hi, low, high) else []))
            ]
            where += f" AND ({' OR '.join(ends) or 'false'})"
        if exporters is not None:
            where += f" AND exporter IN ({', '.join(f'{number:d}' for number in exporters) or 'NULL'})"
        return f"SELECT * FROM all_flows WHERE {where}"

    def certificate(self, range: Range, exporters: Iterable[int] | None = None) -> Certificate:
        return Certificate(present=9998, lost=2, complete_until_ms=range.until_ms)
