"""Flows that are in a cluster, together with those that aren't yet: what collector/store/reading.py says of one box.

A flow is read from this disk until the catalogue has its segment as loaded, and from the cluster from then on, by the
loads that the catalogue knows: whatever is loaded meanwhile, each counts once. Filters, sums and orders are worked out
by the servers; what comes back are the first rows, or sums, and text is made of them as ever. While no server answers
all that is still on this disk is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from appliance.config import Config
from appliance.errors import UserError
from collector.cluster import asked, client, words
from collector.cluster.asked import KEYS, LOADS, Where
from collector.cluster.blocks import Block, Progress, Table, blocks
from collector.cluster.client import Away, Cluster, Host, Refused
from collector.filters.conditions import COMPUTED
from collector.showing import PARTIAL
from collector.store import completeness, duck
from collector.store.models import LOADED, Certificate, Lost, SegmentFile
from collector.store.reading import End, Range, Reading
from collector.store.unpacking import TYPES
from collector.wanted import Held, Wanted

SECONDS, SECONDS_OF_FILES = 120, 6 * 3600  # that a server may work on a question, or send an answer
_BROKEN_OFF = {32, 60, 99, 102, 198, 209, 210, 212, 279, 516, 519}  # ClickHouse's codes of servers that lost each other
_TOO_MUCH = {158, 159, 160, 191, 241, 307, 396, 394}  # of its limits
Limits = Mapping[str, int]
_TYPES = {"u1": "UInt8", "u2": "UInt16", "u4": "UInt32", "u8": "UInt64", "i8": "Int64"}


class Load(NamedTuple):
    """What the catalogue knows of a segment in the cluster."""

    load: int
    shard: int
    rows: int
    received_from_ms: int
    received_until_ms: int


class ClusterReading(Reading):
    """As of its opening. Nothing is asked of a server before a question is about what it has."""

    def __init__(
        self, folder: Path, cluster: Cluster, site: str, memory_mb: int = duck.MEMORY_MB, temporary: Path | None = None
    ) -> None:
        super().__init__(folder, memory_mb, temporary)
        self._cluster, self._site = cluster, site
        self._away = ""  # why no server answers
        self._dead: dict[int, str] = {}  # shards that don't answer
        self._hosts: list[Host] | None = None
        self._told = Progress()

    def __exit__(self, *_: object) -> None:
        super().__exit__(*_)
        self._cluster.__exit__()

    # What is where

    def _reads(self, segment: SegmentFile) -> bool:
        return bool(self._away) or segment.state != LOADED

    def _loads(self, range: Range) -> list[Load]:
        fields = ", ".join(("min(load)", *Load._fields[1:]))  # of two for one segment the smaller one counts
        when = "first_ms < ? AND last_ms >= ? OR odd_first_ms < ? AND odd_last_ms >= ?"
        sql = f"SELECT {fields} FROM loaded WHERE replaced = 0 AND ({when}) GROUP BY sha256"
        return [Load._make(row) for row in self.catalog.rows(sql, *(range.until_ms, range.since_ms) * 2)]

    def _where(self, range: Range) -> tuple[Where, Table] | None:
        """None where the cluster has nothing of a time, or doesn't answer."""
        loads = [] if self._away else self._loads(range)
        if not loads:
            return None
        if self._hosts is None:
            self._look()
        if self._away:
            return None
        times = [load.received_from_ms for load in loads]
        numbers = np.array([load.load for load in loads], "<u8")
        where = Where(self._cluster.store.database, self._site, min(times), max(times))
        return where, Table(LOADS, {"load": numbers}, {"load": "UInt64"})

    def _look(self) -> None:
        """Which shards answer, and so by which servers the others are asked."""
        found = self._cluster.shards()
        self._hosts = list(found.values())
        why = "; ".join(self._cluster.trouble.values())
        try:
            count = self._cluster.count(self._hosts[0]) if self._hosts else 0
        except UserError as error:
            count, why = 0, str(error)
        if not count:
            self._away = why or "no server has its tables"
        for number in _numbers(count):
            if number not in found:
                self._dead[number] = why or "none of its servers is known here"

    # Asking

    def _asked(
        self,
        ask: Callable[[bool], str],
        tables: Sequence[Table],
        seconds: int = SECONDS,
        more: Limits | None = None,
        together: bool = True,
    ) -> Iterator[Block]:
        """Blocks of an answer: of all shards `together` by one of them, or, also where one is dead, of each by itself.

        Raises Away where none came, and UserError where it broke off later.
        """
        begun = False
        for again in (False, True):
            assert self._hosts  # noqa: S101 (somebody answered)
            whole = together and not self._dead
            limits = asked.settings(seconds) | dict(more or {})
            try:
                for host in self._hosts[:1] if whole else self._hosts:
                    for block in blocks(host, ask(whole), tables, limits, self._told):
                        begun = True
                        yield block
            except (Away, Refused) as error:
                self._judge(error, begun, again)
            else:
                return

    def _judge(self, error: Away | Refused, begun: bool, again: bool) -> None:
        """Returns where it is worth asking once more."""
        if isinstance(error, Refused):
            if error.code in _TOO_MUCH:
                raise UserError(f"the cluster gave up ({error}): ask a shorter period, or for less") from None
            if error.code not in _BROKEN_OFF:
                raise error
        if begun:
            raise UserError(f"the cluster broke off its answer: {error}: ask again") from None
        if again:
            raise Away(str(error))
        self._look()
        if self._away:
            raise Away(self._away)

    def _given_up(self, error: Away) -> None:
        self._away = str(error)

    def _filled(self, name: str, found: Iterator[Block]) -> bool:
        """Whether there is such a table now: it is made of the first block."""
        made = False
        with closing(found):  # type: ignore[type-var]
            for block in found:
                self.con.register("given", dict(block))
                self.con.execute(
                    f"INSERT INTO {name} FROM given" if made else f"CREATE OR REPLACE TEMP TABLE {name} AS FROM given"
                )
                self.con.unregister("given")
                made = True
        return made

    # Answers

    def flows(self, wanted: Wanted) -> Iterator[str]:
        found = self._where(wanted.range)
        if found is None:
            yield from super().flows(wanted)
            return
        where = found[0]

        def sql(whole: bool) -> str:
            return asked.flows(replace(where, whole=whole), wanted)

        columns = ", ".join(wanted.columns) or "1 AS one"
        try:
            if wanted.together:
                # One that has enough rows calls the others off, which 18.16 takes for an error if it comes too soon
                together = wanted.limit is None or bool(wanted.order)
                made = self._filled("cluster_flows", self._asked(sql, [found[1]], together=together))
            else:
                coming = self._asked(sql, [found[1]], SECONDS_OF_FILES)
                first = next(coming, None)
        except Away as error:
            self._given_up(error)
            yield from super().flows(wanted)
            return
        local = [f"SELECT {columns} FROM ({part}) AS flows" for part in super().flows(wanted)]
        if wanted.together:
            yield "\nUNION ALL\n".join(local + ([f"SELECT {columns} FROM cluster_flows"] if made else []))
            return
        yield from local
        with closing(coming):  # type: ignore[type-var]
            for block in chain([first] if first is not None else [], coming):
                self.con.register("cluster_block", dict(block))
                yield f"SELECT {columns} FROM cluster_block"
                self.con.unregister("cluster_block")

    def sums(self, wanted: Wanted, held: Held | None = None) -> str | None:
        found = self._where(wanted.range)
        if found is None:
            return None
        first, loads = found
        mine = self._own_sums(wanted)
        given = [loads, *(_held(held) if held is not None else ())]
        coarse = held.coarse if held is not None else ()
        asks = {"cluster_sums": ""}
        if wanted.limit is not None and len(mine.columns):
            asks = {"cluster_sums": "NOT IN", "shared_sums": "IN"}
            given.append(mine)
        parts = [f"SELECT {', '.join((*wanted.group, *PARTIAL))} FROM own_sums"]
        try:
            for name, among in asks.items():
                sql = self._sums_sql(first, wanted, among, coarse)
                if self._filled(name, self._asked(sql, given)):
                    parts.append(_read_sums(wanted, name))
        except Away as error:
            self._given_up(error)
            return None
        return "\nUNION ALL\n".join(parts)

    @staticmethod
    def _sums_sql(where: Where, wanted: Wanted, among: str, coarse: Sequence[str]) -> Callable[[bool], str]:
        return lambda whole: asked.sums(replace(where, whole=whole), wanted, among, coarse)

    def _own_sums(self, wanted: Wanted) -> Table:
        """Sums of what isn't in the cluster, as the table `own_sums`; and its groups, for the cluster."""
        keys = {name: COMPUTED.get(name, name) for name in wanted.group}
        chosen = ", ".join(f"{sql} AS {name}" for name, sql in (*keys.items(), *PARTIAL.items()))
        (relation,) = super().flows(wanted)
        grouped = f"SELECT {chosen} FROM ({relation}) AS flows GROUP BY {', '.join(keys.values())}"
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE own_sums AS {grouped}")
        halves = [half for name in wanted.group for half in _halves(name)]
        sql = f"SELECT {', '.join(f'{part}::{kind} AS {alias}' for part, kind, alias in halves)} FROM own_sums"
        columns = self.con.execute(sql).fetchnumpy()
        if not len(next(iter(columns.values()))):
            return Table(KEYS, {}, {})
        types = {name: _TYPES[values.dtype.str.lstrip("<|")] for name, values in columns.items()}
        return Table(KEYS, columns, types)

    def lags(self, range: Range) -> list[tuple[int, int, int]]:
        found = self._where(range)
        if found is None:
            return super().lags(range)
        try:
            where = found[0]
            there = list(self._asked(lambda whole: asked.lags(replace(where, whole=whole), range), [found[1]]))
        except Away as error:
            self._given_up(error)
            return super().lags(range)
        rows = super().lags(range)
        for block in there:
            rows += zip(*(block[name].tolist() for name in ("exporter", "least", "flows")), strict=True)
        return [
            (exporter, min(row[1] for row in its), sum(row[2] for row in its))
            for exporter in sorted({row[0] for row in rows})
            if (its := [row for row in rows if row[0] == exporter])
        ]

    def who(self, wanted: Wanted, end: End, events: bool = False) -> str:
        found = self._where(wanted.range)
        if found is None:
            return super().who(wanted, end, events)
        tables = []
        try:
            for number, ask in enumerate((asked.who_own, asked.who_ends)):
                sql = self._who_sql(ask, found[0], wanted, end)
                if self._filled(f"cluster_who_{number}", self._asked(sql, [found[1]])):
                    tables.append(f"cluster_who_{number}")
        except Away as error:
            self._given_up(error)
            return super().who(wanted, end, events)
        columns = ", ".join(wanted.columns)
        parts = [f"SELECT {columns} FROM ({super().who(wanted, end, events)}) AS flows"]
        return "\nUNION ALL\n".join(parts + [f"SELECT {columns} FROM {table}" for table in tables])

    @staticmethod
    def _who_sql(
        ask: Callable[[Where, Wanted, End], str], where: Where, wanted: Wanted, end: End
    ) -> Callable[[bool], str]:
        return lambda whole: ask(replace(where, whole=whole), wanted, end)

    def progress(self) -> float:
        return self._told.share or super().progress()

    # How complete it is

    def certificate(self, range: Range, exporters: Iterable[int] | None = None) -> Certificate:
        loads = self._loads(range)
        if loads and self._hosts is None and not self._away:
            self._look()
        own = self._own_certificate(range, exporters)
        here = self._here(range) if self._away else []
        present, losses = own.present, list(own.losses)
        for shard in sorted({load.shard for load in loads}):
            its = [load for load in loads if load.shard == shard]
            if self._away:
                gone = [load for load in its if not any(a <= load[3] and load[4] <= b for a, b in here)]
                losses += _missing(gone, range, "only in the cluster, which doesn't answer")
            elif shard in self._dead:
                losses += _missing(its, range, f"in shard {shard} of the cluster, which doesn't answer")
            else:
                present += sum(_share(load, range) for load in its)
        lost = own.lost + sum(loss.flows for loss in losses[len(own.losses) :])
        until_ms = (
            max(own.complete_until_ms, *(load.received_until_ms for load in loads)) if loads else own.complete_until_ms
        )
        return Certificate(present, lost, losses, until_ms, [*own.notes, *self._notes()])

    def _own_certificate(self, range: Range, exporters: Iterable[int] | None) -> Certificate:
        """Of what isn't in the cluster."""
        return super().certificate(range, exporters)

    def _here(self, range: Range) -> list[tuple[int, int]]:
        """Of what is in the cluster: times of receipt that are on this disk, too."""
        segments = self.catalog.segments(range.since_ms, range.until_ms)
        return [(s.received_from_ms, s.received_until_ms) for s in segments if s.state == LOADED]

    def _notes(self) -> Iterator[str]:
        if self._away:
            yield f"the cluster doesn't answer, so this is what is on this disk: {self._away}"
        for number, why in self._dead.items():
            if not self._away:
                yield f"shard {number} of the cluster doesn't answer: {why}"


def opened(config: Config, folder: Path, memory_mb: int, temporary: Path) -> ClusterReading:
    """Raises UserError for what is configured wrongly."""
    return ClusterReading(folder, client.opened(config), config.site.key, memory_mb, temporary)


def _numbers(count: int) -> Iterable[int]:
    """Of so many shards."""
    return range(1, count + 1)


def _share(load: Load, range: Range) -> int:
    return completeness.share(load.received_from_ms, load.received_until_ms, range, load.rows)


def _missing(loads: Sequence[Load], range: Range, cause: str) -> Iterator[Lost]:
    flows = sum(_share(load, range) for load in loads)
    if flows:
        since = max(range.since_ms, min(load.received_from_ms for load in loads))
        until = min(range.until_ms, max(load.received_until_ms for load in loads))
        yield Lost(0, since, until, flows, cause)


def _held(held: Held) -> Iterator[Table]:
    """At least one row each: nobody's address, and no time."""
    addresses = held.addresses or ((2**64 - 1, 2**64 - 1),)
    columns = {half: np.array([one[place] for one in addresses], "<u8") for place, half in enumerate(("hi", "lo"))}
    yield Table(words.ADDRESSES, columns, dict.fromkeys(columns, "UInt64"))
    spans = sorted({at // words.SPAN_MS for at in held.changes} or {-1})
    yield Table(words.TIMES, {"span": np.array(spans, "<i8")}, {"span": "Int64"})


def _halves(name: str) -> list[tuple[str, str, str]]:
    """The parts of a key as the cluster has them: DuckDB's SQL, its type, and the name."""
    names = [alias for _, alias in words.keys(name)]
    if len(names) == 2:
        times = words.rate(name)[2]
        return [(f"({name} // {times})", "UBIGINT", names[0]), (f"({name} % {times})", "UBIGINT", names[1])]
    kind = "BIGINT" if name == "duration" else "UBIGINT" if name in COMPUTED else TYPES[name]
    return [(name, kind, names[0])]


def _read_sums(wanted: Wanted, table: str) -> str:
    keys = [f"{words.read_key(name)} AS {name}" for name in wanted.group]
    sums = ["flows AS sum_flows", *(f"{words.read_sum(name)} AS sum_{name}" for name in ("packets", "bytes"))]
    return f"SELECT {', '.join([*keys, *sums])}, least AS sum_first, most AS sum_last FROM {table}"
