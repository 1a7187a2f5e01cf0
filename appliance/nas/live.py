"""Running sessions follow the rules: what differs from what their router was told becomes a CoA or a Disconnect.

Each change is a row that is pending, acknowledged by the router, and done once accounting shows it; an
acknowledgement alone is no proof (RFC 5176 asks for none). Sending is in `live_sender.py`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import peewee

from appliance.accounts.lookup import Lookup
from appliance.accounts.models import LiveChange, Session
from appliance.accounts.terms import Account
from appliance.nas.models import GATEWAY, Nas
from appliance.nas.part import ALL, Part
from rlm_python.authorization import Grant, Reject, authorize, changes_at
from rlm_python.pairs import told_octets
from rlm_python.speed_limits import format_rate_limit

NEVER = 2**40  # UTC seconds: no edge in sight
SLACK_S = 2  # round trips; a router that knows the end of a session ends it by itself
END_SLACK_S = 60  # between the login and what accounting calls the session's beginning: DHCP may stand in between
LATE_S = 60  # how late an edit may be written after the time that it carries
MOST_SEEN = 10_000
IDS = 500  # in one statement
SLACK_OCTETS = 10**6
SHARE = 4  # a session is looked at again when it has used so much of what is left, as others may use the rest
BY_HAND = "asked"  # by somebody: it is wanted whatever the rules say
AGAIN_S = 300  # for a router that refused to let a session go
PIECE = 25  # sessions between two commits, far below 50 ms
_DUE = (
    "SELECT id FROM session WHERE ended_at IS NULL AND check_at <= ?{part}"
    # Of an account that was removed meanwhile, but for those that were seen to already.
    " UNION SELECT id FROM session WHERE ended_at IS NULL AND account_id IS NULL AND granted_rate IS NOT NULL"
    " AND check_at > ?{part}"
)
_ALL = "SELECT id FROM session WHERE ended_at IS NULL{part}"
_EDITED = {
    "account": "SELECT id, changed_at FROM account WHERE changed_at >= ?",
    "plan": "SELECT id, changed_at FROM plan WHERE changed_at >= ?",
}
_OF = {
    "account": "SELECT id FROM session WHERE ended_at IS NULL AND account_id IN ({ids}){part}",
    "plan": "SELECT s.id FROM session s JOIN account a ON a.id = s.account_id"
    " WHERE s.ended_at IS NULL AND a.plan_id IN ({ids}){part}",
}


class Wanted(NamedTuple):
    """What a session's router should have been told; `end` is a reason to let it go.

    `check_at` (UTC seconds) and `watch_octets` (of the session) are from when on that may be something else.
    """

    rate: str | None = None
    until: int | None = None
    octets: int | None = None
    check_at: int = NEVER
    watch_octets: int | None = None
    end: str = ""


class Watch:
    """Compares sessions with the rules; those that something has happened to, and all of them at the start."""

    def __init__(self, database: peewee.Database, zone: ZoneInfo, silent_s: int, part: Part = ALL) -> None:
        self._part = part.sql
        self._database = database
        self._zone = zone
        self._lookup = Lookup(database, zone, silent_s)
        self._mark = "?" if isinstance(database, peewee.SqliteDatabase) else "%s"
        self._first = True
        self._gateways = {GATEWAY}
        self._seen: dict[tuple[str, int], int] = {}  # which edits sessions were held against, by table and id

    def look(self, now: int) -> None:
        """Raises peewee.PeeweeException, and then has everything that is left before it the next time."""
        edits = {table: self._edits(table, now) for table in _EDITED}
        if self._first:
            found = self._ids(_ALL.format(part=self._part))
        else:
            found = self._ids(_DUE.format(part=self._part), now, now + AGAIN_S)
            for table, rows in edits.items():
                for piece in peewee.chunked([row[0] for row in rows], IDS):
                    marks = ", ".join("?" for _ in piece)
                    found |= self._ids(_OF[table].format(ids=marks, part=self._part), *piece)
        if found:
            self._gateways = {GATEWAY, *(nas.name for nas in Nas.select(Nas.name).where(Nas.kind == GATEWAY))}
        for piece in peewee.chunked(sorted(found), PIECE):
            self._compare_piece(piece, now)
        self._first = False
        self._note(edits, now)

    def _compare_piece(self, ids: Sequence[int], now: int) -> None:
        """Written at once, for what was read may not change in between; then others have as long for theirs."""
        began = time.monotonic()
        with self._database.atomic():
            for session in Session.select().where(Session.id.in_(ids)):
                self._compare(session, now)
        if len(ids) == PIECE:
            time.sleep(time.monotonic() - began)

    def _edits(self, table: str, now: int) -> list[tuple[int, int]]:
        """Id and time of what was edited lately and not seen to; a write may come late for the time that it carries."""
        rows = self._execute(_EDITED[table], now - LATE_S).fetchall()
        return [(row[0], row[1]) for row in rows if self._seen.get((table, row[0])) != row[1]]

    def _note(self, edits: Mapping[str, Sequence[tuple[int, int]]], now: int) -> None:
        """Another edit may carry the very same second, so it is looked at until that is over."""
        for table, rows in edits.items():
            self._seen |= {(table, key): at for key, at in rows if not now - SLACK_S <= at <= now + LATE_S}
        if len(self._seen) > MOST_SEEN:
            self._seen = {key: at for key, at in self._seen.items() if at >= now - LATE_S}

    def _ids(self, sql: str, *values: object) -> set[int]:
        return {row[0] for row in self._execute(sql, *values).fetchall()}

    def _execute(self, sql: str, *values: object) -> Any:
        return self._database.execute_sql(sql.replace("?", self._mark), values)

    def _compare(self, session: Any, now: int) -> None:
        account = None
        if session.account_id is not None:
            account = self._lookup.by_id(session.account_id, session.mac, now)
        elif session.granted_rate is None:
            return  # somebody's whom we never let in: a router's own user
        before = _kept(session)
        aim = wanted(session, account, self._zone, now, own=session.nas in self._gateways)
        told_until = session.granted_until
        if aim.end and told_until is not None and told_until <= now < told_until + SLACK_S:
            aim = Wanted(check_at=told_until + SLACK_S)  # its router is ending it this very moment
        elif aim.end:
            _want(session, "disconnect", aim.end, aim, now)
        elif session.granted_rate is None:  # its router gives no Class back: the rules as they are now are its grant
            session.granted_rate, session.granted_until, session.granted_octets = aim[:3]
        elif reason := ", ".join(differences(session, aim)):
            _want(session, "coa", reason, aim, now)
        else:
            _forget_pending(session, now)
        session.check_at, session.watch_octets = aim.check_at, aim.watch_octets
        if _kept(session) != before:
            Session.update(**_kept(session)).where(Session.id == session.id).execute()


def wanted(session: Any, account: Account | None, zone: ZoneInfo, now: int, own: bool) -> Wanted:
    """Who is online may stay, so other devices of the account don't count, and a longest session has begun already.

    `own`: at a gateway of ours.
    """
    if account is None:
        return _end("account removed", now)
    verdict = authorize(account._replace(session_timeout_s=None, other_sessions=0), zone, now)
    if isinstance(verdict, Reject):
        return _end(verdict.rule, now)
    is_edited = account.changed_at > session.started_at  # else its router can't assign addresses, as an access point
    if is_edited and account.address is not None and session.framed_ip not in (None, account.address):
        return _end("address", now)
    until = _until(session, account, verdict, now)
    if until is not None and until <= now - SLACK_S:
        return _end("session", now)
    used = session.input_octets + session.output_octets
    octets = told_octets(verdict, GATEWAY if own else "")
    if octets is not None:
        octets += used
    watch = None if verdict.quota_left_bytes is None else used + verdict.quota_left_bytes // SHARE
    edges = [changes_at(account, zone, now) or NEVER, NEVER if until is None else until + SLACK_S]
    return Wanted(format_rate_limit(verdict.rate), until, octets, min(edges), watch)


def _end(reason: str, now: int) -> Wanted:
    return Wanted(check_at=now + AGAIN_S, end=reason)


def _until(session: Any, account: Account, verdict: Grant, now: int) -> int | None:
    ends = [] if verdict.session_timeout_s is None else [now + verdict.session_timeout_s]
    if account.session_timeout_s is not None:
        ends.append(session.started_at + account.session_timeout_s)
    return min(ends, default=None)


def differences(session: Any, aim: Wanted) -> Iterator[str]:
    if session.granted_rate != aim.rate:
        yield "speed"
    if _apart(session.granted_until, aim.until, END_SLACK_S):
        yield "end"
    if _apart(session.granted_octets, aim.octets, max(SLACK_OCTETS, (aim.octets or 0) // 100)):
        yield "data"


def _apart(granted: int | None, aim: int | None, slack: int) -> bool:
    if granted is None or aim is None:
        return granted is not aim
    return abs(granted - aim) > slack


def _want(session: Any, kind: str, reason: str, aim: Wanted, now: int) -> None:
    """One open change a session; a newer aim takes the place of an older one that wasn't reached.

    A Disconnect stays one: a router that refused a change would refuse it again.
    """
    values = {"kind": kind, "reason": reason, "rate": aim.rate, "until": aim.until, "octets": aim.octets}
    change = open_changes(session).first()
    if change is None:
        LiveChange.create(session=session, created_at=now, next_try_at=now, **values)
        return
    if change.kind == "disconnect" and (kind == "coa" or change.state == "acknowledged"):
        return
    if any(getattr(change, name) != value for name, value in values.items()):
        LiveChange.update(**values, state="pending", next_try_at=now).where(LiveChange.id == change.id).execute()


def _forget_pending(session: Any, now: int) -> None:
    """What is wanted is what holds again, so a change that hasn't arrived needn't any more."""
    LiveChange.update(state="done", ended_at=now, note="not needed any more").where(
        (LiveChange.session == session)
        & LiveChange.ended_at.is_null()
        & (LiveChange.state == "pending")
        & (LiveChange.reason != BY_HAND)
    ).execute()


def open_changes(session: Any) -> Any:
    return LiveChange.select().where((LiveChange.session == session) & LiveChange.ended_at.is_null())


def _kept(session: Any) -> dict[str, Any]:
    return {
        name: getattr(session, name)
        for name in ("check_at", "watch_octets", "granted_rate", "granted_until", "granted_octets")
    }
