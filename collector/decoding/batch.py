"""Sets collected by template until they are decoded all at once, and what the decoder has to tell besides."""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from collector.decoding.columns import fill, turned
from collector.decoding.fields import Field, Layout, layout
from collector.decoding.records import SET, Array, Flows, Sets
from collector.decoding.state import Context, Stream
from collector.flows import FLOW, MARK_SUSPECT, MARK_TIME

NEVER_MS: Final = 2**62
WRONG_ORDER: Final = "sampling in the wrong byte order"
BLOCK: Final = 4096  # records at a time, so that they stay in the processor's cache

ROW: Final = struct.Struct(f"={len(SET)}q").pack

_RECORDS: Final = SET.index("records")


class Loss(NamedTuple):
    """Flows that an exporter sent, or is thought to have sent, and that aren't here."""

    exporter: int
    since_ms: int
    until_ms: int
    flows: int
    cause: str  # "sequence", "kernel", "parked", "refused", "spool"


class TemplateSeen(NamedTuple):
    exporter: int
    version: int
    domain: int
    id: int
    fields: list[Field]
    options: bool
    heard_ms: int
    changes: int


class Facts(NamedTuple):
    """Of an exporter in this batch."""

    flows: int  # records, in which a biflow counts once
    suspect: int
    timeless: int
    sampling: int  # the coarsest
    skew_ms: int  # by how much its clock is behind ours (or its datagrams late): the least seen
    versions: tuple[int, ...]
    domains: int
    waiting: int  # octets of sets whose template hasn't come
    boot_ms: int  # of the stream heard last, 0 where it isn't known
    restarts: int  # since its state began
    jumps: int  # so often its clock was set


@dataclass
class Decoded:
    flows: Flows
    losses: list[Loss]
    refused: Counter[tuple[int, str]]  # datagrams or parts of them, by exporter and reason
    notes: Counter[tuple[int, str]]  # what a doctor of routers wants to know
    templates: list[TemplateSeen]
    exporters: dict[int, Facts]
    interfaces: dict[int, dict[int, str]]  # exporter -> number -> name, as options tell


@dataclass(slots=True)
class Tally:
    """What `Facts` are made of, block by block."""

    records: int = 0
    suspect: int = 0
    timeless: int = 0
    sampling: int = 0
    skew_ms: int = NEVER_MS


@dataclass(slots=True)
class Group:
    """Bodies of sets of one layout, whole records only, and a row of facts for each."""

    layout: Layout
    size: int  # of a record; 0 where it can't be told so simply, or where there are no flows
    bodies: list[bytes] = field(default_factory=list)
    rows: bytearray = field(default_factory=bytearray)
    samplers: list[Mapping[int, int]] = field(default_factory=list)

    def blocks(self) -> Iterator[tuple[bytes, Sets]]:
        rows = np.frombuffer(self.rows, np.int64).reshape(-1, len(SET))
        for first, stop in _blocks(rows[:, _RECORDS]):
            yield b"".join(self.bodies[first:stop]), Sets(rows[first:stop], self.samplers[first:stop])


class Batch:
    def __init__(self) -> None:
        self._groups: dict[bytes, Group] = {}
        self._losses: dict[tuple[int, str, int], Loss] = {}
        self.refused: Counter[tuple[int, str]] = Counter()
        self.notes: Counter[tuple[int, str]] = Counter()
        self.records = 0

    def group(self, spec: bytes) -> Group:
        known = self._groups.get(spec)
        if known is None:
            how = layout(spec)
            known = self._groups[spec] = Group(how, how.size if how.runs is None and how.is_flow else 0)
        return known

    def add(self, exporter: int, stream: Stream, group: Group, context: Context, body: bytes, count: int) -> None:
        """`count` records, flattened and without padding."""
        group.bodies.append(body)
        rate = stream.sampling or stream.rate()
        group.rows += ROW(*context, exporter, stream.domain, rate, count)
        if group.layout.has_sampler:
            group.samplers.append(stream.samplers)
        self.records += count

    def lose(self, loss: Loss) -> None:
        key = (loss.exporter, loss.cause, loss.until_ms // 1000)
        so_far = self._losses.pop(key, None)
        if so_far:
            since, until = min(so_far.since_ms, loss.since_ms), max(so_far.until_ms, loss.until_ms)
            loss = Loss(loss.exporter, since, until, so_far.flows + loss.flows, loss.cause)
        self._losses[key] = loss

    def find(self, exporter: int, flows: int) -> None:
        """So many that were thought lost have come late."""
        for key in reversed(list(self._losses)):
            if flows <= 0:
                return
            loss = self._losses[key]
            if loss.exporter == exporter and loss.cause == "sequence":
                found = min(flows, loss.flows)
                flows -= found
                self._losses[key] = loss._replace(flows=loss.flows - found)

    def losses(self) -> list[Loss]:
        return [loss for loss in self._losses.values() if loss.flows > 0]

    def flows(self) -> tuple[Flows, dict[int, Tally]]:
        """All records as flows, and how many of each exporter."""
        out, start = np.zeros(self.records, FLOW), 0
        empty, backs, tallies = [], [], defaultdict[int, Tally](Tally)
        for group in self._groups.values():
            for data, sets in group.blocks():
                block = out[start : start + sets.count]
                nothing = fill(block, group.layout, data, sets)
                if nothing.any():
                    empty.append(start + np.flatnonzero(nothing))
                if group.layout.back:
                    back = np.zeros(sets.count, FLOW)
                    fill(back, group.layout.back, data, sets)
                    backs.append(turned(back))
                self.notes.update((exporter, WRONG_ORDER) for exporter in sets.swapped)
                _tally(tallies, block, sets)
                start += sets.count
        if empty:
            out = np.delete(out, np.concatenate(empty))
        return (out if not backs else np.concatenate([out, *backs])), tallies


def _tally(tallies: dict[int, Tally], flows: Flows, sets: Sets) -> None:
    rows = sets.of_sets("exporter")
    for exporter in np.unique(rows).tolist():
        tally, mine = tallies[exporter], rows == exporter
        tally.records += int(sets.of_sets("records")[mine].sum())
        tally.skew_ms = min(tally.skew_ms, int((sets.of_sets("received") - sets.of_sets("exported"))[mine].min()))
        theirs = flows if mine.all() else flows[flows["exporter"] == exporter]
        tally.sampling = max(tally.sampling, int(theirs["sampling"].max()))
        if theirs["marks"].any():
            tally.suspect += int(np.count_nonzero(theirs["marks"] & MARK_SUSPECT))
            tally.timeless += int(np.count_nonzero(theirs["marks"] & MARK_TIME))


def _blocks(counts: Array) -> list[tuple[int, int]]:
    """Ranges of sets with about BLOCK records each."""
    if not len(counts):
        return []
    edges = np.searchsorted(np.cumsum(counts), np.arange(0, counts.sum() + BLOCK, BLOCK))
    edges = np.unique(np.append(edges, len(counts)))
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def facts(tally: Tally, streams: list[Stream]) -> Facts:
    return Facts(
        tally.records,
        tally.suspect,
        tally.timeless,
        tally.sampling,
        0 if tally.skew_ms == NEVER_MS else tally.skew_ms,
        tuple(sorted({stream.version for stream in streams})),
        len(streams),
        sum(stream.parked_bytes for stream in streams),
        max(streams, key=lambda stream: stream.heard_ms).boot_ms if streams else 0,
        sum(stream.restarts for stream in streams),
        sum(stream.jumps for stream in streams),
    )
