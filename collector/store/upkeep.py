"""What is done to segments later: few large ones out of many, and what is damaged is noticed."""

import logging
from collections.abc import Iterable
from pathlib import Path

import duckdb

from collector.store import compaction, keeping, loads, segments
from collector.store.catalog import Catalog
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
            _drop(sealer, new)
            if not mark_damaged(sealer, parts):
                raise
            log.error("%s", error)
            return True
        with sealer.catalog.transaction():
            if same := loads.same(sealer.catalog, parts):
                sealer.exchange(new, parts, now_ms)
        if not same:  # one is on its way into the cluster by now
            _drop(sealer, new)
        return True
    return False


def _drop(sealer: Sealer, new: Iterable[SegmentFile]) -> None:
    for segment in new:
        keeping.remove(sealer.segments / segment.path)


def mark_damaged(sealer: Sealer, parts: Iterable[SegmentFile]) -> bool:
    """Those that aren't as they were written; whether there were any."""
    return damaged(sealer.catalog, sealer.segments, parts)


def damaged(catalog: Catalog, folder: Path, parts: Iterable[SegmentFile]) -> bool:
    found = False
    for part in parts:
        try:
            why = "" if segments.digest(folder / part.path) == part.sha256 else "it isn't as it was written"
        except OSError as error:
            why = str(error.strerror)
        if why:
            log.error("%s: %s; %d flows are lost", part.path, why, part.rows)
            catalog.damage(part, why)
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
