"""Figures of routers for Prometheus."""

from collections.abc import Iterator

from appliance.api.metrics import Metric, Sample
from appliance.config import Config
from appliance.nas import watch


class Collector:
    def __init__(self, config: Config) -> None:
        self._silent_s = config.radius.silent_s

    def read(self, now: int) -> Iterator[Metric]:
        routers = watch.routers(self._silent_s)
        heard = [Sample({"router": r.name}, r.seen_at) for r in routers if r.seen_at is not None]
        yield Metric("router_heard_timestamp_seconds", "gauge", "When accounting last heard of it.", heard)
        silent = watch.silent(routers, self._silent_s, now)
        states = [Sample({"router": r.name}, int(r.name in silent)) for r in routers]
        yield Metric("router_silent", "gauge", "1 where a router should have been heard by now.", states)
