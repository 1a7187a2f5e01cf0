"""Flows that are in a cluster, together with those that aren't yet: what collector/store/reading.py says of one box.

A flow is read from this disk until the catalogue has its segment as loaded, and from the cluster from then on, by the
loads that the catalogue knows: whatever is loaded meanwhile, each counts once. Filters, sums and orders are worked out
by the servers; what comes back are the first rows, or sums, and text is made of them as ever. While no server answers
all that is still on this disk is.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NoReturn

import numpy as np

from appliance.config import Config
from appliance.errors import UserError
from collector.cluster import asked, client, parted, sums
from collector.cluster.asked import KEYS, LOADS, Where
from collector.cluster.blocks import Block, Progress, Table, blocks
from collector.cluster.client import Away, Cluster, Host, Refused
from collector.cluster.parted import Load, Split
from collector.filters.conditions import COMPUTED
from collector.showing import PARTIAL
from collector.store import completeness, duck, loads
from collector.store.models import LOADED, Certificate, Lost, SegmentFile
from collector.store.reading import End, Range, Reading
from collector.wanted import Held, Wanted

MOST_TRIES = 2  # of asking once more
SECONDS, SECONDS_OF_FILES = 120, 6 * 3600  # that a server may work on a question, or send an answer
_BROKEN_OFF = {32, 60, 99, 102, 198, 209, 210, 212, 279, 516, 519}  # ClickHouse's codes of servers that lost each other
_TOO_MUCH = {158, 159, 160, 191, 241, 307, 396, 394}  # of its limits
Limits = Mapping[str, int]
_TYPES = {"u1": "UInt8", "u2": "UInt16", "u4": "UInt32", "u8": "UInt64", "i8": "Int64"}


class OthersError(Exception):
    """Others answer than before, so that the question is a different one now."""


class BrokenOffError(UserError):
    """After the first rows of an answer."""


class ClusterReading(Reading):
    """As of its opening. Nothing is asked of a server before a question is about what it has."""

    alone = False

    def __init__(
        self, folder: Path, cluster: Cluster, site: str, memory_mb: int = duck.MEMORY_MB, temporary: Path | None = None
    ) -> None:
        super().__init__(folder, memory_mb, temporary)
        self._cluster, self._site = cluster, site
        self._away = ""  # why no server answers
        self._dead: dict[int, str] = {}  # shards that don't answer
        self._hosts: dict[int, Host] | None = None  # by shard
        self._split: dict[Range, Split] = {}
        self._here: frozenset[int] = frozenset()  # loaded segments that are read here, in what is asked now
        self._told = Progress()
        self._tries = 0

    def __exit__(self, *_: object) -> None:
        super().__exit__(*_)
        self._cluster.__exit__()

    # What is where

    def _reads(self, segment: SegmentFile) -> bool:
        return bool(self._away) or segment.state != LOADED or segment.id in self._here

    def _loads(self, range: Range) -> list[Load]:
        fields = ", ".join(("min(load)", *Load._fields[1:]))  # of two for one segment the smaller one counts
        when = "first_ms < ? AND last_ms >= ? OR odd_first_ms < ? AND odd_last_ms >= ?"
        sql = f"SELECT {fields} FROM loaded WHERE replaced = 0 AND ({when}) GROUP BY sha256"
        return [Load._make(row) for row in self.catalog.rows(sql, *(range.until_ms, range.since_ms) * 2)]

    def _where(self, range: Range) -> tuple[Where, Table] | None:
        """None where the cluster has nothing of a time, or doesn't answer."""
        if not (loads := self._counted(range)):
            return None
        times = [load.received_from_ms for load in loads]
        return Where(self._cluster.store.database, self._site, min(times), max(times)), _table(loads)

    def _counted(self, range: Range) -> Sequence[Load]:
        """What is asked of the cluster of a time; from now on `_reads` is about that time."""
        loads = [] if self._away else self._loads(range)
        if loads and self._hosts is None:
            self._look()
        if self._away or not loads:
            self._here = frozenset()
            return []
        if range not in self._split:
            there = self._there(loads)
            self._split[range] = (
                self._parted(loads, there, range) if len(there) < len(loads) else Split(loads, frozenset(), [])
            )
        self._here = self._split[range].here
        return self._split[range].counted

    def _there(self, loads: Sequence[Load]) -> set[int]:
        """Of these, what is still on its shard: that may have come back with an empty disk, or an older one."""
        assert self._hosts is not None  # noqa: S101 (somebody answered)
        found: set[int] = set()
        for number, host in list(self._hosts.items()):
            its = [load for load in loads if load.shard == number]
            try:
                lines = blocks(host, asked.lines(self._site), [_table(its)], asked.settings(SECONDS), Progress())
                found |= {load for block in lines for load in block["load"].tolist()} if its else set()
            except (Away, Refused) as error:
                _bounded(error)
                self._dead[number] = str(error)
                del self._hosts[number]
        if not self._hosts:
            self._away = "; ".join(self._dead.values())
        return found

    def _parted(self, loads: Sequence[Load], there: Collection[int], range: Range) -> Split:
        copies = self._copies(range) if len(there) < len(loads) else []
        if not copies:
            return parted.split(loads, there, ())
        wide = Range(min(s.first_ms for s in copies), max(s.last_ms for s in copies) + 1)
        return parted.split(loads, there, copies, self._loads(wide))

    def _copies(self, range: Range) -> list[SegmentFile]:
        """Of what is in the cluster: what is still on this disk."""
        return [s for s in self.catalog.segments(range.since_ms, range.until_ms) if s.state == LOADED]

    def _look(self) -> None:
        """Which shards answer, and so by which servers the others are asked."""
        found = self._cluster.shards()
        self._hosts, self._split = found, {}
        why = "; ".join(self._cluster.trouble.values())
        try:
            count = self._cluster.count(next(iter(found.values()))) if found else 0
        except UserError as error:
            count, why = 0, str(error)
        if not count:
            self._away = why or "no server has its tables"
        for number in np.arange(1, count + 1).tolist():
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

        Raises Away or OthersError where none came, and BrokenOffError later.
        """
        assert self._hosts  # noqa: S101 (somebody answered)
        whole, begun = together and not self._dead, False
        limits = asked.settings(seconds) | dict(more or {})
        try:
            for host in [*self._hosts.values()][: 1 if whole else None]:
                for block in blocks(host, ask(whole), tables, limits, self._told):
                    begun = True
                    yield block
        except (Away, Refused) as error:
            _bounded(error)
            if isinstance(error, Refused) and error.code not in _BROKEN_OFF:
                raise
            if begun:
                raise BrokenOffError(f"the cluster broke off its answer: {error}: ask again") from None
            self._again(str(error))

    def _again(self, why: str) -> NoReturn:
        """Who is there is looked at anew. Raises OthersError, or Away where nobody is or it doesn't help."""
        self._look()
        self._tries += 1
        if self._away or self._tries > MOST_TRIES:
            raise Away(self._away or why)
        raise OthersError(why)

    def _given_up(self, error: Away) -> None:
        self._away, self._here = str(error), frozenset()

    def _filled(self, name: str, found: Iterator[Block]) -> bool:
        """Whether there is such a table now: it is made of the first block."""
        try:
            return self._put(name, found)
        except BrokenOffError as error:
            self._again(str(error))

    def _put(self, name: str, found: Iterator[Block]) -> bool:
        made = False
        with closing(found):  # type: ignore[type-var]
            for block in found:
                self.con.register("given", dict(block))
                statement = (
                    f"INSERT INTO {name} FROM given" if made else f"CREATE OR REPLACE TEMP TABLE {name} AS FROM given"
                )
                self.con.execute(statement)
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
        except OthersError:
            yield from self.flows(wanted)
            return
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
        given = [loads, *(sums.held_tables(held) if held is not None else ())]
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
                    parts.append(sums.read_sums(wanted, name))
        except OthersError:
            return self.sums(wanted, held)
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
        halves = [half for name in wanted.group for half in sums.halves(name)]
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
        except OthersError:
            return self.lags(range)
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
        except OthersError:
            return self.who(wanted, end, events)
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
        counted, loads = self._counted(range), self._loads(range)
        own = self._own_certificate(range, exporters)
        if self._away:
            split = self._parted(loads, (), range)
            losses = [*own.losses, *_missing(split.lost, range, "only in the cluster, which doesn't answer")]
        else:
            losses = [*own.losses, *(loss for shard in self._lost(range) for loss in shard)]
        present = own.present + sum(_share(load, range) for load in counted)
        lost = own.lost + sum(loss.flows for loss in losses[len(own.losses) :])
        until_ms = max([own.complete_until_ms, *(load.received_until_ms for load in loads)])
        return Certificate(present, lost, losses, until_ms, [*own.notes, *self._notes()])

    def _lost(self, range: Range) -> Iterator[Iterator[Lost]]:
        """By shard."""
        lost = self._split[range].lost if range in self._split else []
        for number in sorted({load.shard for load in lost}):
            why = "which doesn't answer" if number in self._dead else "which hasn't got them any more"
            its = [load for load in lost if load.shard == number]
            yield _missing(its, range, f"in shard {number} of the cluster, {why}")

    def _own_certificate(self, range: Range, exporters: Iterable[int] | None) -> Certificate:
        """Of what isn't in the cluster, and what is there of a disk that is gone."""
        own = super().certificate(range, exporters)
        own.notes.extend(loads.of_earlier(self.catalog, range.since_ms, range.until_ms))
        return own

    def _notes(self) -> Iterator[str]:
        if self._away:
            yield f"the cluster doesn't answer, so this is what is on this disk: {self._away}"
        for number, why in self._dead.items():
            if not self._away:
                yield f"shard {number} of the cluster doesn't answer: {why}"


def opened(config: Config, folder: Path, memory_mb: int, temporary: Path) -> ClusterReading:
    """Raises UserError for what is configured wrongly."""
    return ClusterReading(folder, client.opened(config), config.site.key, memory_mb, temporary)


def _bounded(error: Away | Refused) -> None:
    if isinstance(error, Refused) and error.code in _TOO_MUCH:
        raise UserError(f"the cluster gave up ({error}): ask a shorter period, or for less") from None


def _table(loads: Sequence[Load]) -> Table:
    return Table(LOADS, {"load": np.array([load.load for load in loads], "<u8")}, {"load": "UInt64"})


def _share(load: Load, range: Range) -> int:
    return completeness.share(load.received_from_ms, load.received_until_ms, range, load.rows)


def _missing(loads: Sequence[Load], range: Range, cause: str) -> Iterator[Lost]:
    flows = sum(_share(load, range) for load in loads)
    if flows:
        since = max(range.since_ms, min(load.received_from_ms for load in loads))
        until = min(range.until_ms, max(load.received_until_ms for load in loads))
        yield Lost(0, since, until, flows, cause)
