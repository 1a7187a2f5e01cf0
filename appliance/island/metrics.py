"""Figures of islands for Prometheus."""

from collections.abc import Iterator

import peewee

from appliance.api.metrics import Metric, Sample, single
from appliance.config import Config
from appliance.island import state
from appliance.island.conflicts import KINDS
from appliance.island.models import IslandConflict


class Collector:
    def __init__(self, config: Config) -> None:
        self._config = config

    def read(self, now: int) -> Iterator[Metric]:
        try:
            found = state.of(self._config)
        except OSError:
            return
        if found.copy is not None:
            text = "When the own copy of the database was made."
            yield single("island_copy_timestamp_seconds", "gauge", text, found.copy.taken_at)
        yield single("island_queue_entries", "gauge", "What the database has still to be told.", found.waiting)
        of = IslandConflict.select(IslandConflict.kind, peewee.fn.COUNT(IslandConflict.id))
        counts = dict(of.where(IslandConflict.dismissed_at.is_null()).group_by(IslandConflict.kind).tuples())
        samples = [Sample({"kind": kind}, counts.get(kind, 0)) for kind in KINDS]
        yield Metric("island_conflicts", "gauge", "Conflicts that nobody has dismissed.", samples)
