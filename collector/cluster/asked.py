"""What is asked of a cluster's servers, as SQL; pure. All of it consists of words that stand here, and of numbers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from collector.cluster import words
from collector.cluster.words import CLICKHOUSE
from collector.filters import conditions
from collector.store import packing
from collector.store.models import Range
from collector.store.reading import End
from collector.wanted import Wanted

MEMORY_BYTES = 4 * 2**30  # of a server, for one question
LOADS = "counted_loads"  # a table that goes with the question: the loads that count
KEYS = "local_keys"


@dataclass(frozen=True)
class Where:
    """Which rows of a database's tables count at all: a site's, by the loads in LOADS, which are of these days.

    Either of all shards, or of the one that is asked: of groups the first ones aren't known there.
    """

    database: str
    site: str
    first_ms: int
    last_ms: int
    whole: bool = True

    def condition(self) -> str:
        days = (f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}" for ms in (self.first_ms, self.last_ms))
        first, last = (f"toDate({words.text(day)})" for day in days)
        return f"site = {words.text(self.site)} AND day BETWEEN {first} AND {last} AND load IN {LOADS}"


def _from(where: Where, wanted: Wanted, *more: str, table: str = "flows") -> str:
    range = wanted.range
    parts = [where.condition(), *more, words.within(range.since_ms, range.until_ms)]
    parts.append(f"({conditions.sql(wanted.root, CLICKHOUSE)})")
    return f"FROM {where.database}.{table}{'_all' if where.whole else ''} WHERE {' AND '.join(parts)}"


def _near(wanted: Wanted) -> list[str]:
    clients = conditions.clients(wanted.root)
    if clients is None:
        return []
    local = all(packing.is_local(4 if hi == 0 else 6, hi, low, high) for hi, low, high in clients)
    return [words.near(clients, local)]


def _end(wanted: Wanted) -> str:
    order = f" ORDER BY {words.order(wanted.order, wanted.group)}" if wanted.order else ""
    return order + (f" LIMIT {wanted.limit:d}" if wanted.limit is not None else "")


def flows(where: Where, wanted: Wanted) -> str:
    chosen = ", ".join(wanted.columns) or "1 AS one"
    return f"SELECT {chosen} {_from(where, wanted, *_near(wanted))}{_end(wanted)}"


def sums(where: Where, wanted: Wanted, among: str = "", coarse: Collection[str] = ()) -> str:
    """`among` is "IN" or "NOT IN": all groups that are in the table KEYS, or the first of those that aren't."""
    keys = [key for name in wanted.group for key in (words.coarse_key if name in coarse else words.keys)(name)]
    chosen = ", ".join(f"{sql} AS {alias}" for sql, alias in (*keys, *words.sums()))
    only = [f"({', '.join(sql for sql, _ in keys)}) {among} {KEYS}"] if among else []
    source = f"{_from(where, wanted, *_near(wanted), *only)} GROUP BY {', '.join(alias for _, alias in keys)}"
    return f"SELECT {chosen} {source}{'' if among == 'IN' or not where.whole else _end(wanted)}"


def lags(where: Where, range: Range) -> str:
    everything = Wanted(conditions.Everything(), range, ())
    parts = "exporter, min(received - last) AS least, count() AS flows"
    return f"SELECT {parts} {_from(where, everything, 'bitAnd(marks, 3) = 0')} GROUP BY exporter"


_ENDS: Sequence[str] = ("src", "dst", "nat_src", "nat_dst")


def who_own(where: Where, wanted: Wanted, end: End) -> str:
    """Of the client's own address, by the flows' order; what `who_ends` finds isn't in it."""
    own = f"twin IN (0, 1) AND client_hi = {end[0]:d} AND client_lo = {end[1]:d}"
    return f"SELECT {', '.join(wanted.columns)} {_from(where, wanted, own)}{_end(wanted)}"


def who_ends(where: Where, wanted: Wanted, end: End) -> str:
    """Of all other addresses, by the order of ends; a flow once, for the first of them that fits."""
    hi, lo, port = end
    fits = [f"({_is(side, end)})" for side in _ENDS]
    once = [f"end = {number:d}" + "".join(f" AND NOT {fit}" for fit in fits[:number]) for number in range(len(_ENDS))]
    its = f"end_hi = {hi:d} AND end_lo = {lo:d}" + (f" AND end_port = {port:d}" if port is not None else "")
    its += f" AND ({' OR '.join(once)})"
    return f"SELECT {', '.join(wanted.columns)} {_from(where, wanted, its, table='ends')}{_end(wanted)}"


def _is(side: str, end: End) -> str:
    hi, lo, port = end
    told = f" AND {side}_port = {port:d}" if port is not None else ""
    return f"{side}_hi = {hi:d} AND {side}_lo = {lo:d}{told}"


TOTALS = ("flows", "packets", "bytes", "up_bytes")


def totals(
    where: Where,
    kind: int,
    parts: Sequence[tuple[int, Range]],
    keys: Sequence[str],
    exporters: Collection[int] | None = None,
    largest: tuple[str, int] | None = None,
) -> str:
    """Sums of a kind of thing by `keys`, each of a grain's periods in a time; the `largest` so many by one of them.

    As rollups.py's: exact up to 2**53.
    """
    columns = [*keys, *(f"toInt64(sum(toFloat64({name})))" for name in TOTALS)]
    chosen = ", ".join(f"{sql} AS column_{number:d}" for number, sql in enumerate(columns))
    when = " OR ".join(f"grain = {g:d} AND at >= {of.since_ms:d} AND at < {of.until_ms:d}" for g, of in parts)
    its = f"kind = {kind:d} AND ({when})" + (" AND thing != ''" if largest else "")
    if exporters is not None:
        its += f" AND exporter IN ({', '.join(f'{number:d}' for number in exporters) or 'NULL'})"
    source = f"{where.database}.totals{'_all' if where.whole else ''} WHERE {where.condition()} AND {its}"
    by = f" GROUP BY {', '.join(f'column_{number:d}' for number in range(len(keys)))}" if keys else ""
    if largest and where.whole:
        order, limit = largest
        by += f" ORDER BY column_{len(keys) + TOTALS.index(order):d} DESC, column_0 LIMIT {limit:d}"
    return f"SELECT {chosen} FROM {source}{by}"


# What a site has in the cluster

SITES = "SELECT DISTINCT site FROM loads"


def exporters(site: str) -> str:
    return f"SELECT exporter, any(address) FROM exporters WHERE site = {words.text(site)} GROUP BY exporter"


def began(range: Range) -> str:
    """Which loads have flows of a time; those whose times are odd are told apart."""
    usual, odd = (_reaches(range, f"{name}first_ms", f"{name}last_ms") for name in ("", "odd_"))
    return f"({usual}) OR (odd_first_ms <= odd_last_ms AND {odd})"


def received(range: Range) -> str:
    """Which loads have flows that were received in a time."""
    return _reaches(range, "received_from_ms", "received_until_ms")


def _reaches(range: Range, first: str, last: str) -> str:
    return f"{first} < {range.until_ms:d} AND {last} >= {range.since_ms:d}"


def loads(site: str, which: str) -> str:
    """Rows as collector/cluster/parted.py's Load: of two for one segment the smaller one counts."""
    its = f"site = {words.text(site)}"
    counted = f"load NOT IN (SELECT load FROM replaced WHERE {its})"
    others = ", ".join(f"any({name})" for name in ("rows", "received_from_ms", "received_until_ms"))
    chosen = f"min(load), argMin(shard, load), {others}, sha256, 0, 0"
    return f"SELECT {chosen} FROM loads WHERE {its} AND {counted} AND ({which}) GROUP BY sha256"


def lines(site: str) -> str:
    """Of one server: which of the loads in LOADS it has."""
    return f"SELECT load FROM loads WHERE site = {words.text(site)} AND load IN {LOADS}"


def settings(seconds: int) -> dict[str, int]:
    """Limits of one question; all of them are known since 18.16."""
    return {
        "max_execution_time": seconds,
        "timeout_before_checking_execution_speed": 0,
        "max_memory_usage": MEMORY_BYTES,
        "max_bytes_before_external_group_by": MEMORY_BYTES // 2,
        "max_bytes_before_external_sort": MEMORY_BYTES // 2,
        "distributed_aggregation_memory_efficient": 1,
        "connect_timeout_with_failover_ms": 2000,
        "max_query_size": 2**24,
        "max_ast_elements": 10**6,
        "max_expanded_ast_elements": 10**7,
    }
