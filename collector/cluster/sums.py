"""Sums of groups on their way: what tells the servers which groups and addresses are meant, and the way back."""

from collections.abc import Iterator

import numpy as np

from collector.cluster import words
from collector.cluster.blocks import Table
from collector.filters.conditions import COMPUTED
from collector.store.unpacking import TYPES
from collector.wanted import Held, Wanted


def held_tables(held: Held) -> Iterator[Table]:
    """At least one row each: nobody's address, and no time."""
    addresses = held.addresses or ((2**64 - 1, 2**64 - 1),)
    columns = {half: np.array([one[place] for one in addresses], "<u8") for place, half in enumerate(("hi", "lo"))}
    yield Table(words.ADDRESSES, columns, dict.fromkeys(columns, "UInt64"))
    spans = sorted({at // words.SPAN_MS for at in held.changes} or {-1})
    yield Table(words.TIMES, {"span": np.array(spans, "<i8")}, {"span": "Int64"})


def halves(name: str) -> list[tuple[str, str, str]]:
    """The parts of a key as the cluster has them: DuckDB's SQL, its type, and the name."""
    names = [alias for _, alias in words.keys(name)]
    if len(names) == 2:
        times = words.rate(name)[2]
        return [(f"({name} // {times})", "UBIGINT", names[0]), (f"({name} % {times})", "UBIGINT", names[1])]
    kind = "BIGINT" if name == "duration" else "UBIGINT" if name in COMPUTED else TYPES[name]
    return [(name, kind, names[0])]


def read_sums(wanted: Wanted, table: str) -> str:
    keys = [f"{words.read_key(name)} AS {name}" for name in wanted.group]
    sums = ["flows AS sum_flows", *(f"{words.read_sum(name)} AS sum_{name}" for name in ("packets", "bytes"))]
    return f"SELECT {', '.join([*keys, *sums])}, least AS sum_first, most AS sum_last FROM {table}"
