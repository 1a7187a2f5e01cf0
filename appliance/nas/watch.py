"""Routers that fall silent.

A router with open sessions reports each of them once an interval (RFC 2869, 2.1), so that several intervals without a
word (`silent_s` of the configuration) say that it is gone. Without sessions it has nothing to say: only after a day
that is worth a look.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.accounts.closing import LOST
from appliance.accounts.models import core_db
from appliance.nas.models import GATEWAY, Nas
from appliance.units import format_duration

QUIET_S = 86_400
_COUNT = (
    "SELECT n.name, count(*) FROM nas n JOIN session s ON s.nas = n.name AND {unheard}"
    " AND s.updated_at >= n.seen_at - {seconds} GROUP BY n.name"
)


class Router(NamedTuple):
    """What is known of a router. `open_sessions` were open when it was last heard, whatever was done with them since.

    `quiet` is a router that may have no guests for days and must not be missed for it.
    """

    name: str
    seen_at: int | None
    open_sessions: int
    quiet: bool = False


class Silence(NamedTuple):
    since: int
    open_sessions: int


def silent(routers: Iterable[Router], silent_s: int, now: int) -> dict[str, Silence]:
    """The routers that should have been heard by now; one that was never heard isn't missed."""
    found = {}
    for router in routers:
        if router.seen_at is not None and now - router.seen_at > _patience_s(router, silent_s):
            found[router.name] = Silence(router.seen_at, router.open_sessions)
    return found


def _patience_s(router: Router, silent_s: int) -> float:
    if router.open_sessions:
        return silent_s
    return float("inf") if router.quiet else max(QUIET_S, silent_s)


def routers(silent_s: int, own: bool = True) -> list[Router]:
    """From the open core database, by name; `own` is whether the own gateway is one."""
    counts = _open_when_last_heard(silent_s)
    return [
        Router(nas.name, nas.seen_at, counts.get(nas.name, 0), quiet=nas.kind == GATEWAY)
        for nas in Nas.select().order_by(Nas.name)
        if own or nas.kind != GATEWAY
    ]


def _open_when_last_heard(silent_s: int) -> dict[str, int]:
    """Sessions are closed as lost after the same time: they count still, or the alarm would end itself."""
    counts: dict[str, int] = {}
    for unheard in ("s.ended_at IS NULL", f"s.terminate_cause = '{LOST}'"):  # each has an index of its own
        for name, count in core_db.execute_sql(_COUNT.format(unheard=unheard, seconds=silent_s)).fetchall():
            counts[name] = counts.get(name, 0) + count
    return counts


def line(name: str, silence: Silence, now: int) -> str:
    sessions = f" with {silence.open_sessions} sessions open" if silence.open_sessions else ""
    return f"router {name} is silent: not heard for {format_duration(now - silence.since)}{sessions}"


@dataclass
class Watch:
    """Says it once when a router falls silent, and once when it is back; after a restart what is still so again."""

    silent_s: int
    own: bool = True
    _known: dict[str, Silence] = field(default_factory=dict)

    def look(self, now: int) -> list[str]:
        """Lines for the log; needs the open core database."""
        return self.compare(routers(self.silent_s, self.own), now)

    def compare(self, seen: Iterable[Router], now: int) -> list[str]:
        present = {router.name: router for router in seen}
        fallen = silent(present.values(), self.silent_s, now)
        lines = list(self._back(present))
        self._known = {name: silence for name, silence in self._known.items() if _still(present.get(name), silence)}
        lines += [line(name, silence, now) for name, silence in fallen.items() if name not in self._known]
        self._known |= fallen
        return lines

    def _back(self, present: Mapping[str, Router]) -> Iterable[str]:
        for name, silence in self._known.items():
            router = present.get(name)
            if router is not None and router.seen_at is not None and not _still(router, silence):
                yield f"router {name} is back after {format_duration(router.seen_at - silence.since)}"


def _still(router: Router | None, silence: Silence) -> bool:
    return router is not None and router.seen_at is not None and router.seen_at <= silence.since
