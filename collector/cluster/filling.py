"""What waits goes into the cluster, one segment after the other; a shard that is away holds up only what is its own.

Whatever ends in between: a load either counts as a whole or not at all, and the catalogue asks the cluster which of
both it was before it lets go of a segment.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from collector.cluster import loading, setting_up
from collector.cluster.client import Away, Cluster, Host
from collector.store import loads, upkeep
from collector.store.catalog import Catalog
from collector.store.loads import Begun
from collector.store.models import ASKED, SEGMENTS, WAITS, SegmentFile

# A server that was stopped in between may still do what it was sent: it has to say twice, so far apart and so long
# after it was told, that a load isn't there.
SETTLED_MS, AGAIN_MS = 600_000, 60_000

log = logging.getLogger(__name__)


class Filler:
    """By one catalogue and one cluster. Raises duckdb.Error, peewee.PeeweeException and OSError for our own disk."""

    def __init__(self, folder: Path, catalog: Catalog, cluster: Cluster, site: str) -> None:
        self._folder, self._catalog, self._cluster, self._site = folder, catalog, cluster, site
        self._shards: dict[int, Host] = {}
        self._count = 0

    def meet(self) -> dict[int, Host]:
        """Asks who is there, and makes the tables where they are missing. Raises UserError where nobody is."""
        self._shards = setting_up.tables_on_all(self._cluster)
        if not self._shards:
            raise Away("; ".join(self._cluster.trouble.values()))
        self._count = self._cluster.count(next(iter(self._shards.values())))
        return self._shards

    @property
    def missing(self) -> list[int]:
        """Shards of which no host is there."""
        return [number for number in range(1, self._count + 1) if number not in self._shards]

    def step(self, now_ms: int) -> bool:
        """Loads one segment; whether there was one that can be. Raises UserError where its shard fails."""
        self._settle(now_ms)
        for id, sha256 in self._catalog.in_state(WAITS, ASKED):
            number = loading.shard_of(sha256, self._count)
            segment = self._catalog.segment(id) if number in self._shards else None
            if segment is not None:
                self._load(segment, number, now_ms)
                return True
        return False

    def _load(self, segment: SegmentFile, number: int, now_ms: int) -> None:
        host = self._shards[number]
        if there := self._anywhere(segment.sha256):
            loads.end(self._catalog, segment.id, *min(there))
            return
        folder = self._folder / SEGMENTS
        if upkeep.damaged(self._catalog, folder, [segment]):
            return
        load = loads.begin(self._catalog, segment, number, now_ms)
        if load is None:
            return
        try:
            exporters = loading.send(host, self._site, segment, folder, load)
        except BaseException:
            loads.give_up(self._catalog, load)  # nothing that counts was sent
            raise
        line = loading.line(self._site, segment, load, number, exporters, now_ms // 1000)
        loading.commit(host, line)
        loads.end(self._catalog, segment.id, load, number)
        self._copy(line, number)

    def _anywhere(self, sha256: str) -> list[tuple[int, int]]:
        """Loads of it that count, and their shards: somebody else may have been here."""
        found = [self._found(number, sha256) for number in self._shards]
        return [one for one in found if one is not None]

    def _found(self, number: int, sha256: str) -> tuple[int, int] | None:
        """Decoding anew may give the very same segment: its load of that time doesn't count any more."""
        replaced = [one.load for one in loads.replaced(self._catalog) if one.sha256 == sha256]
        return loading.found(self._shards[number], self._site, sha256, number, replaced)

    def _copy(self, line: Mapping[str, object], home: int) -> None:
        """The other shards know what they haven't got, so that they can say it when its own is away."""
        for number, host in self._shards.items():
            if number != home:
                loading.commit(host, dict(line))
        if not self.missing:
            loads.copied(self._catalog, [int(str(line["load"]))])

    def _settle(self, now_ms: int) -> None:
        """What a crash or a lost connection left open."""
        for one in loads.begun(self._catalog):
            if one.shard not in self._shards:
                continue
            there = self._found(one.shard, one.sha256)
            if there is not None:
                loads.end(self._catalog, one.segment, *there)
            elif now_ms < max(one.at_ms, one.absent_ms or 0):
                loads.begin_again(self._catalog, one.load, now_ms)  # the clock was ahead
            elif self._is_settled(one, now_ms):
                loads.give_up(self._catalog, one.load)
            else:
                loads.absent(self._catalog, one.load, now_ms)

    @staticmethod
    def _is_settled(one: Begun, now_ms: int) -> bool:
        if one.absent_ms is None:
            return False
        return now_ms - one.at_ms >= SETTLED_MS and now_ms - one.absent_ms >= AGAIN_MS
