"""Who is online, and until when: the decisions, without kernel and sockets.

What makes a kill at any moment harmless:
- A session is on disk, with its Start, before the kernel hears of it. Killed in between: the next run admits it.
- A session's end is on disk, with its Stop, after the kernel has cut it. Killed in between: the next run admits
  it again, with its classes and counters; whoever asked for the cut had no answer and asks again, and what has
  run out is cut at once. Only then are its classes removed; the next run removes those without a session.
- Changes are on disk before the kernel hears of them; the next run tells it.
Whatever the kernel refuses ends the daemon: the next run starts from the table of sessions.
"""

import heapq
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from ipaddress import IPv4Address
from itertools import islice
from typing import Literal, Protocol

from appliance.config import Config
from appliance.errors import UserError
from portal.limits import Cause, Clock, Live, apply_change, end_before, next_check_at_s, rebase, used_up, verdict
from portal.models import FIRST_MINOR, LAST_MINOR, ZERO, Counters, Session, Store
from portal.online import Online
from portal.protocol import Allow, Answer
from portal.radius import AccountingRecord, DynamicRequest

MIN_INTERIM_S = 60  # RFC 2869, 5.16
CHECKS_AT_ONCE = 200  # between two looks at the sockets


class ErrorCause(IntEnum):
    """RFC 5176, 3.5."""

    MISSING_ATTRIBUTE = 402
    SESSION_NOT_FOUND = 503
    MULTIPLE_SESSIONS = 508


class Enforcer(Protocol):
    """What the kernel does for sessions; every method raises UserError when it refuses."""

    def rebuild(self, online: Sequence[tuple[Session, float | None]]) -> None: ...

    def admit(self, session: Session, remaining_s: float | None) -> None: ...

    def retime(self, session: Session, remaining_s: float | None) -> None: ...

    def reshape(self, session: Session) -> None: ...

    def withdraw(self, sessions: Sequence[Session]) -> None: ...

    def counters(self, session: Session) -> Counters: ...

    def all_counters(self) -> dict[int, Counters]: ...

    def release(self, sessions: Sequence[Session]) -> None: ...


class Sessions:
    """All guests online, by their LAN address."""

    def __init__(self, config: Config, store: Store, enforcer: Enforcer, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._enforcer = enforcer
        self._clock = clock
        self._online = Online()
        self._checks: list[tuple[float, str, IPv4Address]] = []
        self._free_minors: deque[int] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._online)

    def restore(self, closed_at: int | None = None) -> None:
        """Brings the kernel to what the table says; what has run out meanwhile is cut by the next `tick`.

        `closed_at` is when the hotspot was closed without us (UTC seconds): nobody is let in again.
        """
        now_s, sessions = self._clock.boot(), self._store.online()
        for session in sessions:
            rebase(session, self._clock)
        self._count_all(sessions)
        for place, session in enumerate(sessions):
            spread_s = session.interim_interval_s * (place + 1) / len(sessions)  # not all interims at once
            self._enter(now_s, Live(session, now_s + spread_s, now_s, session.used.up_packets))
        taken = {session.minor for session in sessions}
        self._free_minors = deque(m for m in range(FIRST_MINOR, LAST_MINOR + 1) if m not in taken)
        kept = sessions if closed_at is None else []
        self._enforcer.rebuild([(session, self._remaining_s(session)) for session in kept])
        self._count_all(sessions)  # what had to be made anew counts from 0
        self._end([(session, Cause.NAS_REQUEST) for session in kept if not self._has_place(session)])
        if closed_at is not None:
            self._end_all(closed_at)

    def allow(self, request: Allow) -> Answer:
        """Raises UserError with one line when it can't be."""
        if refusal := self._refusal(request):
            raise UserError(refusal)
        self._end(list(self._replaced(request)))
        session = self._begin(request)
        try:
            self._enforcer.admit(session, self._remaining_s(session))
        except UserError as error:
            self._end([(session, Cause.NAS_ERROR)])
            raise UserError(f"the gateway can't let {request.ip} online: {error}") from None
        return self._answer(session)

    def close(self) -> None:
        """Ends every session, and lets nobody in until the next run."""
        self._closed = True
        self._end_all(self._clock.wall())

    def logout(self, ip: IPv4Address) -> Answer:
        if live := self._online.at(ip):
            self._end([(live.session, Cause.USER_REQUEST)])
        return self.who(ip)

    def who(self, ip: IPv4Address) -> Answer:
        if live := self._online.at(ip):
            self._read(live)
            if cause := verdict(live, self._clock.boot()):
                self._end([(live.session, cause)])
            else:
                return self._answer(live.session)
        ended = self._store.last_ended(ip)
        if ended is None:
            return Answer(online=False)
        return Answer(online=False, account=ended.session.account, mac=ended.session.mac, ended=ended.cause)

    def disconnect(self, request: DynamicRequest) -> ErrorCause | None:
        """None when done (RFC 5176, 2.1)."""
        found = self._find(request)
        if isinstance(found, ErrorCause):
            return found
        self._end([(found, Cause.ADMIN_RESET)])
        return None

    def change(self, request: DynamicRequest) -> ErrorCause | None:
        """None when done (RFC 5176, 2.2). Seconds and octets are counted from now, as in an Accept."""
        found = self._find(request)
        if isinstance(found, ErrorCause):
            return found
        if not any(value is not None for value in _changes(request)):
            return ErrorCause.MISSING_ATTRIBUTE
        live, now_s = self._online[found.ip], self._clock.boot()
        self._read(live)
        apply_change(found, request, now_s)
        live.active_at_s = now_s
        self._save(found)
        if cause := verdict(live, now_s):
            self._end([(found, cause)])
            return None
        self._enforcer.reshape(found)
        self._enforcer.retime(found, self._remaining_s(found))
        self._schedule(now_s, live)
        return None

    def next_check_s(self) -> float | None:
        """Seconds until `tick` has something to do."""
        return max(0.0, self._checks[0][0] - self._clock.boot()) if self._checks else None

    def tick(self) -> None:
        """Notices what has run out, and reports counters; all that is due now in one commit."""
        now_s = self._clock.boot()
        endings: list[tuple[Session, Cause]] = []
        interims: list[Session] = []
        for live in islice(self._due(now_s), CHECKS_AT_ONCE):
            self._read(live)
            if cause := verdict(live, now_s):
                endings.append((live.session, cause))
                continue
            if now_s >= live.interim_at_s or used_up(live.session):
                if used_up(live.session):
                    live.session.quota_bytes = None  # said once; the server answers with a change
                live.interim_at_s = now_s + live.session.interim_interval_s
                interims.append(live.session)
            self._schedule(now_s, live)
        self._report(interims)
        self._end(endings)

    def forget_ended(self) -> None:
        self._store.forget_ended(self._clock.wall())

    def _due(self, now_s: float) -> Iterator[Live]:
        while self._checks and self._checks[0][0] <= now_s:
            at_s, session_id, ip = heapq.heappop(self._checks)
            live = self._online.at(ip)
            if live and live.session.id == session_id and live.check_at_s == at_s:
                yield live

    def _report(self, sessions: Sequence[Session]) -> None:
        if not sessions:
            return
        with self._store.batch():
            for session in sessions:
                self._stamp(session)
                self._store.interim(session, self._record(session, "Interim-Update"))

    def _refusal(self, request: Allow) -> str:
        """Why it can't be, or nothing."""
        network, address = self._config.gateway.address.network, request.address
        if self._closed:
            return "the hotspot is being closed"
        if not self._is_guest(request.ip):
            return f"{request.ip} is no guest's address in {network}"
        if request.session_timeout_s == 0 or request.quota_bytes == 0:
            return "no time or no data is left"
        if address is not None and not self._may_give(address):
            return f"{address} is not among the gateway's addresses for guests"
        ended = {session.id for session, _ in self._replaced(request)}
        holder = None if address is None else self._online.holding(address)
        if holder and holder.session.id not in ended:
            return f"{address} is taken by another session"
        if not self._free_minors and not ended:
            return f"the gateway is full: {len(self)} sessions"
        return ""

    def _is_guest(self, ip: IPv4Address) -> bool:
        gateway = self._config.gateway.address
        return ip in gateway.network and ip not in (gateway.ip, gateway.network[0], gateway.network[-1])

    def _may_give(self, address: IPv4Address) -> bool:
        return any(address in network for network in self._config.gateway.addresses)

    def _has_place(self, session: Session) -> bool:
        return self._is_guest(session.ip) and (session.address is None or self._may_give(session.address))

    def _replaced(self, request: Allow) -> Iterable[tuple[Session, Cause]]:
        """A device that logs in again has left its old session; one at another's address shows that one gone."""
        if left := self._online.of_device(request.mac):
            yield left.session, Cause.USER_REQUEST
        there = self._online.at(request.ip)
        if there and there is not left:
            yield there.session, Cause.LOST_CARRIER

    def _begin(self, request: Allow) -> Session:
        now_s, timeout_s = self._clock.boot(), request.session_timeout_s
        interim_s = request.interim_interval_s or self._config.radius.interim_interval_s
        session = Session(
            id=f"{self._clock.wall():08x}{secrets.token_hex(4)}",
            ip=request.ip,
            mac=request.mac,
            account=request.account,
            session_class=request.session_class,
            address=request.address,
            minor=self._free_minors.popleft(),
            down_bps=request.down_bps,
            up_bps=request.up_bps,
            idle_timeout_s=request.idle_timeout_s or None,
            quota_bytes=request.quota_bytes,
            quota_reports=request.quota_reports,
            interim_interval_s=max(MIN_INTERIM_S, interim_s),
            started_boot_s=now_s,
            deadline_boot_s=None if timeout_s is None else now_s + timeout_s,
            boot_id=self._clock.boot_id,
        )
        session.base = ZERO.minus(self._enforcer.counters(session))  # a class may have had another session
        self._stamp(session)
        self._store.begin(session, self._record(session, "Start"))
        self._enter(now_s, Live(session, now_s + session.interim_interval_s, now_s, 0))
        return session

    def _enter(self, now_s: float, live: Live) -> None:
        self._online.add(live)
        self._schedule(now_s, live)

    def _end(self, endings: Sequence[tuple[Session, Cause]]) -> None:
        if not endings:
            return
        self._enforcer.withdraw([session for session, _ in endings])
        for session, _ in endings:
            self._read(self._online[session.ip])
        with self._store.batch():
            for session, cause in endings:
                self._stamp(session)
                stop = self._record(session, "Stop", cause)
                self._store.end(session, stop.event_at, cause, stop)
        self._enforcer.release([session for session, _ in endings])
        for session, _ in endings:
            self._free_minors.appendleft(session.minor)  # its classes are still there
            self._online.remove(session)

    def _end_all(self, at: int) -> None:
        sessions = [live.session for live in self._online]
        for session in sessions:
            end_before(session, at, self._clock)
        self._end([(session, Cause.ADMIN_RESET) for session in sessions])

    def _count_all(self, sessions: Sequence[Session]) -> None:
        """Saves whose counters began anew, so that another run doesn't add them to the old base."""
        counted = self._enforcer.all_counters()
        bases = [session.base for session in sessions]
        for session in sessions:
            session.count(counted.get(session.minor, ZERO))
        with self._store.batch():
            for session, base in zip(sessions, bases, strict=True):
                if session.base != base:
                    self._save(session)

    def _read(self, live: Live) -> None:
        live.session.count(self._enforcer.counters(live.session))
        if live.session.used.up_packets != live.seen_packets:
            live.seen_packets, live.active_at_s = live.session.used.up_packets, self._clock.boot()

    def _save(self, session: Session) -> None:
        self._stamp(session)
        self._store.save(session)

    def _stamp(self, session: Session) -> None:
        session.saved_at, session.saved_boot_s = self._clock.wall(), self._clock.boot()

    def _schedule(self, now_s: float, live: Live) -> None:
        live.check_at_s = next_check_at_s(live, now_s)
        heapq.heappush(self._checks, (live.check_at_s, live.session.id, live.session.ip))

    def _remaining_s(self, session: Session) -> float | None:
        return None if session.deadline_boot_s is None else session.deadline_boot_s - self._clock.boot()

    def _find(self, request: DynamicRequest) -> Session | ErrorCause:
        """The one session that everything the request names fits to (RFC 5176, 3.3)."""
        if not any((request.session_id, request.account, request.address, request.host_ip, request.mac)):
            return ErrorCause.MISSING_ATTRIBUTE
        found = self._online.matching(request)
        if not found:
            return ErrorCause.SESSION_NOT_FOUND
        return found[0] if len(found) == 1 else ErrorCause.MULTIPLE_SESSIONS

    def _record(
        self,
        session: Session,
        status: Literal["Start", "Interim-Update", "Stop"],
        cause: Cause | None = None,
    ) -> AccountingRecord:
        """A session that the kernel ended at its deadline ended then, however late that is noticed."""
        now_s = self._clock.boot()
        at_s = min(now_s, session.deadline_boot_s or now_s)
        return AccountingRecord(
            status=status,
            session_id=session.id,
            event_at=self._clock.wall() - int(now_s - at_s),
            account=session.account,
            session_class=session.session_class,
            ip=session.ip,
            mac=session.mac,
            address=session.address,
            session_s=max(0, round(at_s - session.started_boot_s)),
            terminate_cause=cause,
            **session.used._asdict(),
        )

    def _answer(self, session: Session) -> Answer:
        remaining_s, quota = self._remaining_s(session), session.quota_bytes
        return Answer(
            online=True,
            account=session.account,
            mac=session.mac,
            address=session.address,
            online_s=int(self._clock.boot() - session.started_boot_s),
            remaining_s=None if remaining_s is None else max(0, round(remaining_s)),
            down_octets=session.used.down_octets,
            up_octets=session.used.up_octets,
            remaining_bytes=None if quota is None else max(0, quota - session.used.octets),
        )


def _changes(request: DynamicRequest) -> tuple[int | None, ...]:
    return (
        request.down_bps,
        request.up_bps,
        request.session_timeout_s,
        request.idle_timeout_s,
        request.quota_bytes,
    )
