"""A question about flows, and its answer: rows as they come, and how complete they are.

A flow belongs to each period in which it was going on at any moment.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from itertools import chain, islice
from typing import Any

import numpy as np

from appliance.errors import UserError
from collector.filters import conditions
from collector.filters.conditions import All, Among, Either, Filter, Named, Net, Node
from collector.showing import FIELDS, SUMS, USUAL, USUAL_SUMS, Field, clock, fields, shown
from collector.store.models import Certificate, Range
from collector.store.reading import Reading
from collector.whose import Holding

MOST_HOLDINGS = 5000  # of one account or device, in a filter
EARLIER_MS = 3_600_000  # that a flow of a period may have begun before it: routers end them after half an hour
_AT_ONCE = 2000  # rows
_LOWER = 2**64 - 1
_HOLDERS = ("src", "dst", "nat_dst")  # of an address that is somebody's: NAT hides it on the way back
_TIES = ("first", "src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port", "last")


@dataclass(frozen=True)
class Known:
    """What others know: routers' names by their addresses, and who held which address in a period (ms)."""

    routers: Mapping[str, str]
    holdings: Callable[[int, int], Sequence[Holding]]


UNKNOWN = Known({}, lambda since_ms, until_ms: ())


@dataclass(frozen=True)
class Query:
    """The period is half-open, ms since 1970. Without an `order` rows come as they are stored, the quickest way.

    With a `group` there is a row for each of its values: they and the `columns`, which are sums.
    """

    filter: Filter
    since_ms: int
    until_ms: int
    order: str = ""
    descending: bool = False
    limit: int | None = None
    columns: tuple[str, ...] = ()
    group: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        if self.group:
            return tuple(dict.fromkeys((*self.group, *(self.columns or USUAL_SUMS))))
        return self.columns or USUAL


@dataclass(frozen=True)
class Result:
    """Values are numbers, or text as people read it; None is what the exporter hasn't told."""

    columns: Sequence[Field]
    rows: Iterator[tuple[Any, ...]]
    certificate: Certificate


@dataclass(frozen=True)
class Prepared:
    """A question as `sql` for `con`, before it is asked."""

    con: Any
    sql: str
    columns: Sequence[Field]
    certificate: Certificate


def prepare(reading: Reading, query: Query, known: Known = UNKNOWN, zone: tzinfo = UTC) -> Prepared:
    """Raises UserError. `zone` is the one of the times in the answer."""
    query = _resolved(reading, query, known)
    of = conditions.exporters(query.filter.root)
    certificate = reading.certificate(Range(query.since_ms, query.until_ms), of)
    sql = _statement(reading, query, known, zone)
    return Prepared(reading.con, sql, fields(query.shown, query.group), certificate)


def run(reading: Reading, query: Query, known: Known = UNKNOWN, zone: tzinfo = UTC) -> Result:
    """Raises UserError. Rows are read as they are taken, so `reading` stays open as long."""

    def begun() -> Result:
        prepared = prepare(reading, query, known, zone)
        rows = _rows(prepared)
        first = list(islice(rows, 1))
        return Result(prepared.columns, chain(first, rows), prepared.certificate)

    return reading.sure(Range(query.since_ms, query.until_ms), begun)


def _rows(prepared: Prepared) -> Iterator[tuple[Any, ...]]:
    answer = prepared.con.execute(prepared.sql)
    while found := answer.fetchmany(_AT_ONCE):
        yield from found


def _statement(reading: Reading, query: Query, known: Known, zone: tzinfo) -> str:
    """SQL of a query without names: text for people around the smallest number of rows that will do."""
    chosen = fields(query.shown, query.group)
    _exporter_names(reading, known)
    source = _source(reading, query, known)
    inner = f"SELECT {', '.join(_parts(chosen, query))} FROM {source} WHERE {conditions.sql(query.filter.root)}"
    if query.group:
        inner += f" GROUP BY {', '.join(_group_parts(query.group))}"
    inner += _order(query, chosen)
    if query.limit is not None:
        inner += f" LIMIT {query.limit:d}"
    at = clock(zone, query.since_ms, query.until_ms)
    return f"SELECT {', '.join(f'{shown(one, at)} AS {one.name}' for one in chosen)} FROM ({inner}) AS found"


def _source(reading: Reading, query: Query, known: Known) -> str:
    root = query.filter.root
    period = Range(query.since_ms, query.until_ms)
    relation = f"({reading.relation(period, conditions.clients(root), conditions.exporters(root))})"
    if "account" not in query.shown:
        return f"{relation} AS flows"
    held = known.holdings(query.since_ms - EARLIER_MS, query.until_ms)
    if not held:
        return f"(SELECT *, NULL::VARCHAR AS account FROM {relation}) AS flows"
    _holdings(reading, held)
    # No address has two holders at a time, so a flow stays one row
    joins = "".join(
        f" LEFT JOIN holdings AS of_{side} ON of_{side}.hi = flow.{side}_hi AND of_{side}.lo = flow.{side}_lo"
        f" AND of_{side}.since <= flow.first AND of_{side}.until > flow.first"
        for side in _HOLDERS
    )
    account = f"coalesce({', '.join(f'of_{side}.account' for side in _HOLDERS)})"
    return f"(SELECT flow.*, {account} AS account FROM {relation} AS flow{joins}) AS flows"


def _parts(chosen: Sequence[Field], query: Query) -> list[str]:
    """What the text is made of, and what it is sorted by."""
    parts = {alias: sql for one in chosen for alias, sql in one.parts}
    parts |= dict(_ordering(query).parts) if query.order else {}
    return [f"{sql} AS {alias}" if sql != alias else sql for alias, sql in parts.items()]


def _group_parts(group: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(sql for name in group for _, sql in FIELDS[name].parts))


def _ordering(query: Query) -> Field:
    return fields((query.order,), query.group)[0]


def _order(query: Query, chosen: Sequence[Field]) -> str:
    """Rows that are alike there have an order too, so that the same question has the same answer."""
    if not query.order:
        return ""
    way = "DESC" if query.descending else "ASC"
    by = [f"{alias} {way}" for alias, _ in _ordering(query).parts]
    ties = _group_parts(query.group) if query.group else _TIES
    return f" ORDER BY {', '.join([*by, *ties])}"


def _exporter_names(reading: Reading, known: Known) -> None:
    names = [known.routers.get(address, address) for address in reading.exporters.values()]
    columns = {"id": np.array(list(reading.exporters), "<u4"), "name": np.array(names, np.object_)}
    _table(reading.con, "exporter_names", columns, "id UINTEGER, name VARCHAR")


def _holdings(reading: Reading, held: Sequence[Holding]) -> None:
    columns = {
        "hi": np.array([one.address >> 64 for one in held], "<u8"),
        "lo": np.array([one.address & _LOWER for one in held], "<u8"),
        "since": np.array([one.since_ms for one in held], "<i8"),
        "until": np.array([one.until_ms for one in held], "<i8"),
        "account": np.array([one.account for one in held], np.object_),
    }
    _table(reading.con, "holdings", columns, "hi UBIGINT, lo UBIGINT, since BIGINT, until BIGINT, account VARCHAR")


def _table(con: Any, name: str, columns: dict[str, Any], types: str) -> None:
    """Arrays at once: lists as parameters take half a millisecond a row."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({types})")
    if len(next(iter(columns.values()))):
        con.register("given", columns)
        con.execute(f"INSERT INTO {name} SELECT * FROM given")
        con.unregister("given")


# Names in a filter


def _resolved(reading: Reading, query: Query, known: Known) -> Query:
    """With exporters as their numbers, accounts and devices as the addresses that were theirs, and when."""

    def find(named: Named) -> Node:
        if named.kind == "exporter":
            return _exporter(named, reading.exporters, known.routers)
        held = known.holdings(query.since_ms - EARLIER_MS, query.until_ms)
        its = [one for one in held if named.name in (one.account if named.kind == "account" else one.mac,)]
        return _held(named, its)

    return replace(query, filter=conditions.resolve(query.filter, find))


def _exporter(named: Named, exporters: Mapping[int, str], routers: Mapping[str, str]) -> Node:
    found = [number for number, address in exporters.items() if named.name in (address, routers.get(address))]
    if not found:
        there = ", ".join(sorted(routers.get(address, address) for address in exporters.values())) or "none yet"
        raise UserError(f"filter, position {named.position}: no exporter is called {named.name!r}; there are: {there}")
    return Among(("exporter",), tuple((number, number) for number in found))


def _held(named: Named, its: Sequence[Holding]) -> Node:
    where = f"filter, position {named.position}"
    if not its:
        raise UserError(f"{where}: no session of {named.kind} {named.name!r} is known in this period")
    if len(its) > MOST_HOLDINGS:
        raise UserError(
            f"{where}: {len(its)} sessions of {named.name!r} are too many for one search: ask a shorter period"
        )
    return Either(
        tuple(
            All(
                (
                    Net(conditions.ENDS, one.family, one.address, one.address),
                    Among(("first",), ((one.since_ms, one.until_ms - 1),)),
                )
            )
            for one in its
        )
    )


COLUMNS = tuple(FIELDS)
SUM_COLUMNS = tuple(SUMS)
