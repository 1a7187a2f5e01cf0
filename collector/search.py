"""A question about flows, and its answer: rows as they come, and how complete they are.

A flow belongs to each period in which it was going on at any moment.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from itertools import chain, islice
from typing import Any

import numpy as np

from appliance.errors import UserError
from collector.filters import conditions
from collector.filters.conditions import All, Among, Either, Filter, Named, Net, Node
from collector.flows import FLOW
from collector.showing import FIELDS, SUMS, TOTALS, USUAL, USUAL_SUMS, Field, clock, fields, shown
from collector.store.models import Certificate, Range
from collector.store.reading import Reading
from collector.wanted import Held, Wanted
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
    certify: Callable[[], Certificate]

    @property
    def certificate(self) -> Certificate:
        """Of the rows that were taken, so it is asked for after them."""
        return self.certify()


@dataclass(frozen=True)
class Prepared:
    """A question for `con`, before it is asked: each of the statements is over before the next is taken."""

    con: Any
    statements: Iterator[str]
    columns: Sequence[Field]
    certify: Callable[[], Certificate]
    progress: Callable[[], float]

    @property
    def certificate(self) -> Certificate:
        return self.certify()


def prepare(reading: Reading, query: Query, known: Known = UNKNOWN, zone: tzinfo = UTC) -> Prepared:
    """Raises UserError. `zone` is the one of the times in the answer."""
    query = _resolved(reading, query, known)
    of = conditions.exporters(query.filter.root)
    period = Range(query.since_ms, query.until_ms)
    chosen = fields(query.shown, query.group)
    statements = _statements(reading, query, _wanted(query), known, zone)
    return Prepared(reading.con, statements, chosen, lambda: reading.certificate(period, of), reading.progress)


def run(reading: Reading, query: Query, known: Known = UNKNOWN, zone: tzinfo = UTC) -> Result:
    """Raises UserError. Rows are read as they are taken, so `reading` stays open as long."""

    def begun() -> Result:
        prepared = prepare(reading, query, known, zone)
        rows = _rows(prepared)
        first = list(islice(rows, 1))
        return Result(prepared.columns, chain(first, rows), prepared.certify)

    return reading.sure(Range(query.since_ms, query.until_ms), begun)


def _rows(prepared: Prepared) -> Iterator[tuple[Any, ...]]:
    for statement in prepared.statements:
        answer = prepared.con.execute(statement)
        while found := answer.fetchmany(_AT_ONCE):
            yield from found


def _statements(reading: Reading, query: Query, wanted: Wanted, known: Known, zone: tzinfo) -> Iterator[str]:
    """SQL of a query without names: text for people around the smallest number of rows that will do."""
    _exporter_names(reading, known)
    at = clock(zone, query.since_ms, query.until_ms)
    shown_ = ", ".join(f"{shown(one, at)} AS {one.name}" for one in fields(query.shown, query.group))
    for inner in _inner(reading, query, wanted, known):
        yield f"SELECT {shown_} FROM ({inner}) AS found"


def _inner(reading: Reading, query: Query, wanted: Wanted, known: Known) -> Iterator[str]:
    if wanted.group and (sums := reading.sums(wanted)) is not None:
        yield _select(query, f"({sums}) AS sums", TOTALS)
        return
    held = known.holdings(query.since_ms - EARLIER_MS, query.until_ms) if _asks_account(query) else ()
    if "account" in query.group and (sums := _sums_of_holders(reading, query, wanted, held)) is not None:
        yield _select(query, _source(reading, query, sums, held), TOTALS)
        return
    for relation in reading.flows(wanted):
        yield _select(query, _source(reading, query, relation, held), SUMS)


def _select(query: Query, source: str, sums: Mapping[str, Field]) -> str:
    inner = f"SELECT {', '.join(_parts(query, sums))} FROM {source}"
    if query.group:
        inner += f" GROUP BY {', '.join(_keys(query.group) if sums is TOTALS else _group_parts(query.group))}"
    inner += _order(query)
    if query.limit is not None:
        inner += f" LIMIT {query.limit:d}"
    return inner


def _wanted(query: Query) -> Wanted:
    """Whose a flow is no store knows: what is ordered or summed by accounts, is so where they are known."""
    period = Range(query.since_ms, query.until_ms)
    by_account = query.order == "account" or "account" in query.group
    order = [(name, query.descending) for name, _ in _ordering(query, SUMS).parts] if query.order else []
    if query.order:
        order += [(name, False) for name in (_keys(query.group) if query.group else _TIES)]
    words = " ".join([*_parts(query, SUMS), *(_TIES if query.order and not query.group else ())])
    if _asks_account(query):
        words += f" first {' '.join(f'{side}_hi {side}_lo' for side in _HOLDERS)}"
    return Wanted(
        query.filter.root,
        period,
        tuple(name for name in FLOW.names or () if re.search(rf"\b{name}\b", words)),
        () if by_account else tuple(order),
        None if by_account else query.limit,
        () if by_account else tuple(_keys(query.group)),
        together=bool(query.order or query.group) or query.limit is not None,
    )


def _sums_of_holders(reading: Reading, query: Query, wanted: Wanted, held: Sequence[Holding]) -> str | None:
    """Sums by what tells the account, beside what else they are asked by."""
    keys = [name for name in _keys(query.group) if name != "account"]
    beside = [*(f"{side}_{half}" for side in _HOLDERS for half in ("hi", "lo")), "first"]
    addresses = {divmod(one.address, 1 << 64) for one in held}
    changes = {at for one in held for at in (one.since_ms, one.until_ms)}
    coarse = tuple(name for name in beside if name not in keys)
    wanted = replace(wanted, group=tuple(dict.fromkeys((*keys, *beside))))
    return reading.sums(wanted, Held(tuple(sorted(addresses)), tuple(sorted(changes)), coarse))


def _asks_account(query: Query) -> bool:
    return "account" in (*query.shown, query.order)


def _source(reading: Reading, query: Query, found: str, held: Sequence[Holding]) -> str:
    relation = f"({found})"
    if not _asks_account(query):
        return f"{relation} AS flows"
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


def _parts(query: Query, sums: Mapping[str, Field]) -> list[str]:
    """What the text is made of, and what it is sorted by."""
    parts = {alias: sql for one in fields(query.shown, query.group, sums) for alias, sql in one.parts}
    parts |= dict(_ordering(query, sums).parts) if query.order else {}
    parts |= {name: name for name in _keys(query.group)} if sums is TOTALS else {}
    return [f"{sql} AS {alias}" if sql != alias else sql for alias, sql in parts.items()]


def _group_parts(group: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(sql for name in group for _, sql in FIELDS[name].parts))


def _keys(group: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(alias for name in group for alias, _ in FIELDS[name].parts))


def _ordering(query: Query, sums: Mapping[str, Field]) -> Field:
    return fields((query.order,), query.group, sums)[0]


def _order(query: Query) -> str:
    """Rows that are alike there have an order too, so that the same question has the same answer."""
    if not query.order:
        return ""
    way = "DESC" if query.descending else "ASC"
    by = [f"{alias} {way}" for alias, _ in _ordering(query, SUMS).parts]
    ties = _keys(query.group) if query.group else _TIES
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
