"""Which loads are asked of a cluster, and which segments are read here in place of loads that aren't there; pure.

A segment that was compacted since has several loads, and nothing tells which but the time and journal rows that it
covers. So where one of its loads is missing, it is read here and none of what it may have is asked of the cluster;
but only if it has as many flows as these loads together.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from collector.store.models import SegmentFile


class Load(NamedTuple):
    """What the catalogue knows of a segment in the cluster."""

    load: int
    shard: int
    rows: int
    received_from_ms: int
    received_until_ms: int
    sha256: str
    journal_after: int
    journal_until: int


class Split(NamedTuple):
    """`here` are ids of segments; `lost` is neither there nor here."""

    counted: Sequence[Load]
    here: frozenset[int]
    lost: Sequence[Load]


def split(
    loads: Sequence[Load], there: Collection[int], copies: Sequence[SegmentFile], around: Sequence[Load] = ()
) -> Split:
    """`around` are loads of other times that the copies may have, too."""
    missing = [load for load in loads if load.load not in there]
    if not missing:
        return Split(loads, frozenset(), [])
    every = {load.load: load for load in (*around, *loads)}
    places = _places(list(every.values()), copies)
    of: dict[int, list[int]] = {}
    for number, its in places.items():
        for segment in its:
            of.setdefault(segment, []).append(number)
    rows, here, taken = {s.id: s.rows for s in copies}, set[int](), set[int]()
    for load in missing:
        if load.load not in taken:
            numbers, segments = _together(load.load, places, of)
            # Else they have something that isn't here any more, or other copies have what is taken for theirs
            if segments and sum(every[n].rows for n in numbers) == sum(rows[s] for s in segments):
                here |= segments
                taken |= numbers
    lost = [load for load in missing if load.load not in taken]
    gone = {load.load for load in lost} | taken
    return Split([load for load in loads if load.load not in gone], frozenset(here), lost)


def _together(first: int, places: dict[int, list[int]], of: dict[int, list[int]]) -> tuple[set[int], set[int]]:
    """Loads that may be in the same copies as the first, and these."""
    numbers, segments, todo = set[int](), set[int](), [first]
    while todo:
        number = todo.pop()
        numbers.add(number)
        for segment in places[number]:
            if segment not in segments:
                segments.add(segment)
                todo += [other for other in of[segment] if other not in numbers]
    return numbers, segments


def _places(loads: Sequence[Load], copies: Sequence[SegmentFile]) -> dict[int, list[int]]:
    """By load: the segment that it was, if that is still there, or those that it may have become part of."""
    own = {segment.sha256: segment.id for segment in copies}
    hashes = {load.sha256 for load in loads}
    later = [segment for segment in copies if segment.sha256 not in hashes]
    return {
        load.load: [own[load.sha256]] if load.sha256 in own else [s.id for s in later if _covers(s, load)]
        for load in loads
    }


def _covers(segment: SegmentFile, load: Load) -> bool:
    return (
        segment.journal_after <= load.journal_after
        and load.journal_until <= segment.journal_until
        and segment.received_from_ms <= load.received_from_ms
        and load.received_until_ms <= segment.received_until_ms
    )
