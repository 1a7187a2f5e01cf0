"""Decoding anew what the journal still has, with all templates that are known by now."""

import time
from collections.abc import Iterator

import duckdb

from collector.decode import Decoder, State
from collector.decoding.sequences import Sequence
from collector.journal import unpack
from collector.store import compaction, counting, keeping, loads, packing, rollups, upkeep
from collector.store.models import BEGUN, Lost, SegmentFile
from collector.store.sealing import BATCH, Sealer

_CAUSES = "('sequence', 'parked', 'refused', 'journal')"  # of losses that come of decoding


def redecode(sealer: Sealer, since_ms: int, until_ms: int) -> int | None:
    """The flows of a time's datagrams take the place of what the same rows gave before.

    It takes in all rows that share a segment with them. Returns how many ids that spans, 0 where the journal doesn't
    have them any more; None where one of them is on its way into a cluster: then later.
    """
    period = sealer.journal.period(since_ms, until_ms)
    span = _whole(sealer, *period) if period else None
    if span is None:
        return 0
    after, until, old = span
    if any(segment.state == BEGUN for segment in old):
        return None
    decoder, new, sums, losses = Decoder(_remembering(sealer)), [], [], []
    for begin, end in _batches(sealer, decoder, after, until):
        decoded = decoder.take()
        losses += [Lost(*loss) for loss in decoded.losses]
        segment, totals = sealer.write(decoded, (begin, end), 0)
        new += [segment] if segment else []
        sums.append(totals)
    sums += [rollups.taken_away(totals) for part in old if not part.damaged for totals in _totals(sealer, part)]
    with sealer.catalog.transaction():
        if not loads.same(sealer.catalog, old):
            for segment in new:
                keeping.remove(sealer.segments / segment.path)
            return None
        for totals in sums:
            rollups.add(sealer.catalog, totals)
        loads.replace(sealer.catalog, after, until, old)
        of_these = f"journal_until > ? AND journal_until <= ? AND cause IN {_CAUSES}"
        sealer.catalog.run(f"DELETE FROM loss WHERE {of_these}", after, until)  # noqa: S608
        sealer.catalog.lose(losses, until)
        sealer.exchange(new, old, int(time.time() * 1000))
    return until - after


def _whole(sealer: Sealer, first: int, last: int) -> tuple[int, int, list[SegmentFile]] | None:
    """The rows around some that share segments with them, or sets that waited for a template, and those segments."""
    known, there = sealer.catalog.segments(), sealer.journal.first_id()
    if there is None:
        return None
    for segment in sorted(known, key=lambda s: s.journal_until):
        if segment.journal_after < there - 1 and segment.journal_until >= first:
            first = segment.journal_until + 1  # of this one there are only some rows
    after, until = first - 1, min(last, sealer.catalog.sealed_until())
    old: list[SegmentFile] = []
    while after < until:
        shared = [s for s in known if s.journal_after < until and s.journal_until > after]
        waited = [s for s in known if s.parked_bytes and s.journal_until == after and s.journal_after >= there - 1]
        if any(s.parked_bytes and s.journal_until == until for s in shared):
            shared += [s for s in known if s.journal_after == until]
        if {s.id for s in (*shared, *waited)} == {s.id for s in old}:
            break
        old = [*shared, *waited]
        after = min([after, *(s.journal_after for s in old)])
        until = max([until, *(s.journal_until for s in old)])
    return (after, until, old) if after < until else None


def _remembering(sealer: Sealer) -> State:
    """Today's templates are for sets whose own isn't sent again within these rows: it may have been another one."""
    state = State.load(sealer.catalog.kept("decoder") or b"")
    for exporter in state.exporters.values():
        for stream in exporter.streams.values():
            stream.stale, stream.templates = stream.stale | stream.templates, {}
            stream.parked, stream.parked_bytes = [], 0
            stream.sequence, stream.uptime_ms, stream.boot_ms = Sequence(), -1, 0
    return state


def _batches(sealer: Sealer, decoder: Decoder, after: int, until: int) -> Iterator[tuple[int, int]]:
    """Feeds rows; whenever there are enough, says which they were."""
    begin = at = after
    while rows := list(sealer.journal.read(at, until, max_bytes=2**22)):
        for row in rows:
            decoder.feed(sealer.number(row.exporter), unpack(row))
            at = row.id
            if decoder.waiting >= BATCH:
                yield begin, at
                begin = at
    decoder.give_up()
    yield begin, until


def _totals(sealer: Sealer, part: SegmentFile) -> list[rollups.Sums]:
    """None of one that can't be read: its totals stay."""
    try:
        with sealer.aside() as con:
            found = compaction.read(con, [part], sealer.segments)
            return [counting.count(packing.settled(columns)) for columns in found]
    except duckdb.Error:
        if not upkeep.mark_damaged(sealer, [part]):
            raise
        return []
