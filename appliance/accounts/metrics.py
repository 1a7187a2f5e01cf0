"""Figures of accounts and sessions for Prometheus."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import peewee

from appliance.accounts.models import Account, LiveChange, Mail, Session
from appliance.accounts.pieces import execute, marks
from appliance.api.metrics import Metric, Sample, single
from appliance.config import Config
from appliance.nas.models import Nas

COUNTED_EVERY_S = 300  # accounts: a million rows take a moment, and change slowly
_PIECE = 500
_READ = "SELECT id, nas, input_octets, output_octets FROM session WHERE "


class Seen(NamedTuple):
    id: int
    router: str
    input_octets: int
    output_octets: int


class Traffic:
    """Octets by router and direction, counted on from one look to the next as sessions tell them.

    It begins at 0 with the process, as counters may. Each look reads the sessions that are open, those that were and
    are not any more, and those that have come and gone between the two.
    """

    def __init__(self) -> None:
        self.octets: Counter[tuple[str, str]] = Counter()
        self._open: dict[int, Seen] = {}
        self._last: int | None = None

    def look(self, newest: int) -> Sequence[Seen]:
        """The open sessions; `newest` is the last session's id, as of a moment ago."""
        online = _read("ended_at IS NULL")
        for router in {session.router for session in online}:
            for direction in ("input", "output"):
                self.octets[router, direction] += 0  # there from the start, so that its first growth is seen
        found = {session.id: session for session in online}
        if self._last is not None:
            for piece in peewee.chunked(self._open.keys() - found.keys(), _PIECE):
                found |= {session.id: session for session in _read(f"id IN ({marks(piece)})", *piece)}
            passed = _read("id > ? AND ended_at IS NOT NULL", self._last)
            found |= {session.id: session for session in passed}
            for session in found.values():
                self._count(session, self._last)
        self._open = {session.id: session for session in online}
        self._last = max(newest, *found, 0)
        return online

    def _count(self, now: Seen, last: int) -> None:
        """An old one that is open again was counted before it was lost."""
        before = self._open.get(now.id) or (now._replace(input_octets=0, output_octets=0) if now.id > last else now)
        self.octets[now.router, "input"] += max(0, now.input_octets - before.input_octets)
        self.octets[now.router, "output"] += max(0, now.output_octets - before.output_octets)


def _read(where: str, *values: object) -> list[Seen]:
    return [Seen(*row) for row in execute(_READ + where, *values).fetchall()]


class Collector:
    def __init__(self, config: Config) -> None:
        self._traffic = Traffic()
        self._counts: tuple[int, int] = (0, 0)
        self._counted_at: int | None = None

    def read(self, now: int) -> Iterator[Metric]:
        newest = Session.select(peewee.fn.max(Session.id)).scalar() or 0
        online = Counter({nas.name: 0 for nas in Nas.select(Nas.name)})  # none is a figure too
        online.update(session.router for session in self._traffic.look(newest))
        by_router = [Sample({"router": router}, count) for router, count in sorted(online.items())]
        yield Metric("sessions_online", "gauge", "Open sessions.", by_router)
        yield single("sessions_total", "counter", "Sessions that have begun, ever.", newest)
        octets = [
            Sample({"router": router, "direction": direction}, count)
            for (router, direction), count in sorted(self._traffic.octets.items())
        ]
        yield Metric("octets_total", "counter", "Input is from guests, output to them; from 0 at a restart.", octets)
        people, vouchers = self._accounts(now)
        kinds = [Sample({"kind": "account"}, people), Sample({"kind": "voucher"}, vouchers)]
        yield Metric("accounts", "gauge", "Accounts and vouchers, counted every five minutes.", kinds)
        waiting = LiveChange.select().where(LiveChange.ended_at.is_null()).count()
        yield single("session_changes_waiting", "gauge", "What routers have still to be told.", waiting)
        states = ("waiting", "failed")
        mails = [Sample({"state": state}, Mail.select().where(Mail.state == state).count()) for state in states]
        yield Metric("mails", "gauge", "Messages that aren't sent yet, or couldn't be.", mails)

    def _accounts(self, now: int) -> tuple[int, int]:
        if self._counted_at is None or not 0 <= now - self._counted_at < COUNTED_EVERY_S:
            vouchers = Account.select().where(Account.batch.is_null(False)).count()
            self._counts = Account.select().count() - vouchers, vouchers
            self._counted_at = now
        return self._counts
