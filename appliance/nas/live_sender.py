"""Tells routers about the changes of `live.py`: beside the loop, so that a router that is away holds up no other."""

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import ip_network
from typing import Any, NamedTuple

from appliance.accounts.closing import LOST
from appliance.accounts.models import LiveChange, Session
from appliance.crypto import SecretBox
from appliance.errors import Unavailable, UserError
from appliance.nas import clients, coa
from appliance.nas.models import GATEWAY, Nas
from appliance.nas.part import ALL, Part
from rlm_python import pairs
from rlm_python.speed_limits import parse_rate_limit

THREADS = 16
AT_ONCE = 200
AT_ONCE_A_ROUTER = 4
MAX_WAIT_S = 60
_NO_END_S = 2**31 - 1  # what takes a limit away that was given
_NO_QUOTA = 2**62
STILL_ONLINE_S = 5  # a packet so long after the acknowledged Disconnect shows that it didn't take place

log = logging.getLogger(__name__)


class Order(NamedTuple):
    """All that a thread needs to tell one router about one change."""

    change_id: int
    nas: str
    kind: str
    address: str
    port: int
    secret: str
    attributes: dict[str, str]


class Sender:
    """`send` hands out what is due, `collect` writes down what came of it, `confirm` looks for the proof."""

    def __init__(self, box: SecretBox, tell: Callable[[Order], bool] | None = None, part: Part = ALL) -> None:
        self._box = box
        self.part = part
        self._tell = tell or _tell
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="coa")
        self._sent: dict[int, tuple[str, Future[bool]]] = {}  # by change: its router, and what comes of it

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def send(self, now: int) -> None:
        """No more than a few at once to one router: one that is away must not keep all threads waiting."""
        waiting = Counter(nas for nas, _ in self._sent.values())
        busy = [nas for nas, count in waiting.items() if count >= AT_ONCE_A_ROUTER]
        due = (
            LiveChange.select(LiveChange, Session)
            .join(Session)
            .where(LiveChange.ended_at.is_null() & (LiveChange.state == "pending") & (LiveChange.next_try_at <= now))
            .where(Session.nas.not_in(busy), self.part.sessions)
            .order_by(LiveChange.next_try_at)
            .limit(AT_ONCE)
        )
        for change in [change for change in due if change.id not in self._sent]:
            if waiting[change.session.nas] >= AT_ONCE_A_ROUTER:
                continue
            try:
                order = self._order(change, now)
            except UserError as error:
                _end(change, "refused", now, str(error))
                if change.kind == "coa":
                    _grant(change)  # nothing more is to be said about it
                continue
            self._sent[change.id] = order.nas, self._threads.submit(self._tell, order)
            waiting[order.nas] += 1

    def _order(self, change: Any, now: int) -> Order:
        """Raises UserError where this router can't be told at all."""
        session = change.session
        nas = Nas.get_or_none(Nas.name == session.nas)
        if nas is None:
            raise UserError("this router isn't in the list any more")
        if nas.coa == "none":
            raise UserError("this router takes no changes (gatehouse nas set … --coa): it holds from the next login on")
        address = clients.address(nas)
        if ip_network(address).num_addresses > 1:
            raise UserError(f"{address} is a network: give the router an address of its own")
        if change.kind == "coa" and nas.coa == "disconnect":
            change.kind = "disconnect"
            LiveChange.update(kind="disconnect").where(LiveChange.id == change.id).execute()
        attributes = coa.session_attributes(session)
        if change.kind == "coa":
            attributes |= _coa_attributes(change, nas.kind, now)
        return Order(change.id, nas.name, change.kind, address, nas.coa_port, self._box.open(nas.secret), attributes)

    def collect(self, now: int) -> None:
        for change_id in [change_id for change_id, (_, future) in self._sent.items() if future.done()]:
            _, future = self._sent.pop(change_id)
            change = LiveChange.get_or_none(LiveChange.id == change_id)
            if change is not None and change.ended_at is None:
                _note(change, future, now)

    def confirm(self, now: int) -> None:
        """An end is proved by the session's Stop, another speed by any packet after the acknowledgement."""
        answered = (LiveChange.state == "acknowledged") & (Session.updated_at > LiveChange.acknowledged_at)
        told = LiveChange.select(LiveChange, Session).join(Session).where(LiveChange.ended_at.is_null())
        for change in told.where(Session.ended_at.is_null(False) | answered, self.part.sessions):
            session = change.session
            if session.ended_at is not None or change.kind == "coa":
                _end(change, "done", now, change.note)
            elif session.updated_at > (change.acknowledged_at or now) + STILL_ONLINE_S:
                _again(change, now, "acknowledged, but still online")


def _tell(order: Order) -> bool:
    ask = coa.disconnect if order.kind == "disconnect" else coa.change
    return ask(order.address, order.port, order.secret, order.attributes)


def _coa_attributes(change: Any, kind: str, now: int) -> dict[str, str]:
    """The own gateway counts time and data from now, RouterOS data from the session's beginning."""
    found = {name: value for name, _, value in pairs.rate_pairs(parse_rate_limit(change.rate), kind)}
    if not found:
        found = {"Mikrotik-Rate-Limit": "0"} if kind in ("mikrotik", GATEWAY) else {}
    session = change.session
    if change.until is not None or session.granted_until is not None:
        found["Session-Timeout"] = str(_NO_END_S if change.until is None else max(1, change.until - now))
    if (change.octets is not None or session.granted_octets is not None) and kind in ("mikrotik", GATEWAY):
        used = session.input_octets + session.output_octets if kind == GATEWAY else 0
        gigawords, octets = divmod(_NO_QUOTA if change.octets is None else max(0, change.octets - used), 2**32)
        found |= {"Mikrotik-Total-Limit": str(octets), "Mikrotik-Total-Limit-Gigawords": str(gigawords)}
    return found


def _note(change: Any, future: "Future[bool]", now: int) -> None:
    who = f"{change.session.account} at {change.session.nas} ({change.session.mac})"
    try:
        known = future.result()
    except Unavailable as error:
        _again(change, now, str(error))
        _spare(change, now)
        return
    except UserError as error:
        log.warning("%s of %s refused: %s", change.kind, who, error)
        _end(change, "refused", now, str(error))
        if change.kind == "coa":  # what can't be changed is let go, and comes back under the new rules
            LiveChange.create(
                session=change.session, kind="disconnect", reason=change.reason, created_at=now, next_try_at=now
            )
        return
    log.info("%s of %s: %s", change.kind, who, change.reason)
    if not known:
        _close(change, now)
        return
    LiveChange.update(state="acknowledged", acknowledged_at=now, tries=change.tries + 1, note="").where(
        LiveChange.id == change.id
    ).execute()
    if change.kind == "coa":
        _grant(change)


def _grant(change: Any) -> None:
    Session.update(granted_rate=change.rate, granted_until=change.until, granted_octets=change.octets).where(
        Session.id == change.session_id
    ).execute()


def _again(change: Any, now: int, note: str) -> None:
    wait_s = min(2**change.tries, MAX_WAIT_S)
    LiveChange.update(state="pending", tries=change.tries + 1, next_try_at=now + wait_s, note=note).where(
        LiveChange.id == change.id
    ).execute()


def _spare(change: Any, now: int) -> None:
    """Its router doesn't answer: what else it is to be told can wait as long."""
    there = Session.select(Session.id).where(Session.nas == change.session.nas)
    waits = (LiveChange.state == "pending") & LiveChange.ended_at.is_null() & (LiveChange.next_try_at <= now)
    wait_s = min(2**change.tries, MAX_WAIT_S)
    LiveChange.update(next_try_at=now + wait_s).where(waits & LiveChange.session.in_(there)).execute()


def _close(change: Any, now: int) -> None:
    """Its router knows no such session: its Stop was lost."""
    Session.update(ended_at=Session.updated_at, terminate_cause=LOST).where(
        (Session.id == change.session_id) & Session.ended_at.is_null()
    ).execute()
    _end(change, "done", now, "the router has no such session")


def _end(change: Any, state: str, now: int, note: str) -> None:
    LiveChange.update(state=state, ended_at=now, note=note).where(LiveChange.id == change.id).execute()
