"""Figures of routers for Prometheus."""

from collections.abc import Iterator

from appliance.api.metrics import Metric, Sample
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from appliance.nas import raddb, status, watch
from appliance.nas.models import PROCESSES


class Collector:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._silent_s = config.radius.silent_s

    def read(self, now: int) -> Iterator[Metric]:
        routers = watch.routers(self._silent_s, self._config.shows_gateways)
        heard = [Sample({"router": r.name}, r.seen_at) for r in routers if r.seen_at is not None]
        yield Metric("router_heard_timestamp_seconds", "gauge", "When accounting last heard of it.", heard)
        silent = watch.silent(routers, self._silent_s, now)
        states = [Sample({"router": r.name}, int(r.name in silent)) for r in routers]
        yield Metric("router_silent", "gauge", "1 where a router should have been heard by now.", states)
        yield from self._radius()

    def _radius(self) -> Iterator[Metric]:
        """What the two processes say themselves; that they don't is a figure too."""
        try:
            asking = status.Watch(self._config, raddb.status_secret(self._config))
        except UserError:  # there is no key yet
            return
        up = {process: _answers(asking, process) for process in PROCESSES}
        states = [Sample({"process": process}, int(answers)) for process, answers in up.items()]
        yield Metric("radius_up", "gauge", "1 where the process answers.", states)
        if up["authentication"]:
            accepted, refused = asking.logins()
            answers = [Sample({"answer": "accepted"}, accepted), Sample({"answer": "refused"}, refused)]
            yield Metric("logins_total", "counter", "Answers to logins since authentication was started.", answers)


def _answers(asking: status.Watch, process: str) -> bool:
    try:
        asking.of_process(process)
    except Unavailable:
        return False
    return True
