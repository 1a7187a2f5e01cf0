"""What is done to segments later: few large ones out of many, and what is damaged is noticed."""

import logging
from collections.abc import Iterable

import duckdb

from collector.store import compaction, keeping, segments
from collector.store.models import SegmentFile
from collector.store.sealing import Sealer

log = logging.getLogger(__name__)


def compact(sealer: Sealer, now_ms: int) -> bool:
    """One group, if there is any; whether there was."""
    for level, parts in compaction.plan(sealer.catalog.segments(), now_ms):
        new: list[SegmentFile] = []
        try:
            with sealer.aside() as con:
                new.extend(compaction.merge(con, parts, sealer.segments, level))
        except duckdb.Error as error:
            for segment in new:
                keeping.remove(sealer.segments / segment.path)
            if not mark_damaged(sealer, parts):
                raise
            log.error("%s", error)
            return True
        with sealer.catalog.transaction():
            sealer.exchange(new, parts, now_ms)
        return True
    return False


def mark_damaged(sealer: Sealer, parts: Iterable[SegmentFile]) -> bool:
    """Those that aren't as they were written; whether there were any."""
    found = False
    for part in parts:
        try:
            why = "" if segments.digest(sealer.segments / part.path) == part.sha256 else "it isn't as it was written"
        except OSError as error:
            why = str(error.strerror)
        if why:
            log.error("%s: %s; %d flows are lost", part.path, why, part.rows)
            sealer.catalog.damage(part, why)
            found = True
    return found


def scrub(sealer: Sealer) -> None:
    """Reads one segment, the next each time, so that what a disk loses is known before somebody asks for it."""
    after = int(sealer.catalog.kept("scrubbed") or 0)
    known = sorted((s for s in sealer.catalog.segments() if not s.damaged), key=lambda s: s.id)
    part = next((s for s in known if s.id > after), known[0] if known else None)
    if part is not None:
        mark_damaged(sealer, [part])
        with sealer.catalog.transaction():
            sealer.catalog.keep("scrubbed", str(part.id).encode())
