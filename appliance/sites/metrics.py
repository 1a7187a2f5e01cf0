"""Figures of sites for Prometheus."""

from collections.abc import Iterator
from typing import Any

from appliance.api.metrics import Metric, Sample
from appliance.config import Config
from appliance.sites import overview
from appliance.sites.models import Site
from appliance.sites.registry import database_now


class Collector:
    def __init__(self, config: Config) -> None:
        self._config = config

    def read(self, now: int) -> Iterator[Metric]:
        query: Any = Site.select(Site, overview.online().alias("online")).order_by(Site.key)
        rows, at = list(query), database_now()
        heard = [Sample({"site": row.key}, row.reported_at) for row in rows if row.reported_at is not None]
        yield Metric("site_reported_timestamp_seconds", "gauge", "When its appliance last said how it is.", heard)
        well = [Sample({"site": row.key}, int(not overview.problems(row, at))) for row in rows]
        yield Metric("site_well", "gauge", "1 where the site has no problem.", well)
        clocks = [Sample({"site": row.key}, row.ahead_ms / 1000) for row in rows if row.ahead_ms is not None]
        yield Metric("site_clock_ahead_seconds", "gauge", "Its clock less the database's.", clocks)
        free = [
            Sample({"site": row.key, "disk": name}, octets)
            for row in rows
            for name, octets, _ in overview.told_disks(row)
        ]
        yield Metric("site_disk_free_bytes", "gauge", "Free on its disks.", free)
        online = [Sample({"site": row.key}, row.online) for row in rows]
        yield Metric("site_sessions_online", "gauge", "Sessions that are open at its routers.", online)
