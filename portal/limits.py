"""When a session has to end, and when to look again; pure but for the clock itself."""

import math
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from portal.models import Session
from portal.radius import DynamicRequest

FASTEST_BPS = 1_000_000_000  # what a guest without a speed limit can use up of a quota
NO_END_S, NO_QUOTA_BYTES = 2**31 - 1, 2**60  # from here on a change takes the limit away
IDLE_CHECKS = 5  # idleness is noticed within a fifth of the time-out


class Cause(IntEnum):
    """Acct-Terminate-Cause (RFC 2866, 5.10)."""

    USER_REQUEST = 1
    LOST_CARRIER = 2
    IDLE_TIMEOUT = 4
    SESSION_TIMEOUT = 5
    ADMIN_RESET = 6
    NAS_ERROR = 9
    NAS_REQUEST = 10  # the quota is used up; also what a new configuration has no place for


class Clock:
    """Wall time for people and RADIUS; all time-outs run on boot time, which nobody sets."""

    def __init__(self) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def wall(self) -> int:
        return int(time.time())

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Live:
    """A session with what is only worth remembering while the daemon runs; times are boot seconds."""

    session: Session
    interim_at_s: float
    active_at_s: float
    seen_packets: int
    check_at_s: float = 0.0


def verdict(live: Live, now_s: float) -> Cause | None:
    """Why the session has to end now, if it has."""
    session = live.session
    if session.deadline_boot_s is not None and now_s >= session.deadline_boot_s:
        return Cause.SESSION_TIMEOUT
    if used_up(session) and not session.quota_reports:
        return Cause.NAS_REQUEST
    if session.idle_timeout_s and now_s - live.active_at_s >= session.idle_timeout_s:
        return Cause.IDLE_TIMEOUT
    return None


def used_up(session: Session) -> bool:
    return session.quota_bytes is not None and session.used.octets >= session.quota_bytes


def next_check_at_s(live: Live, now_s: float) -> float:
    """Boot time, in whole seconds so that several sessions share a commit."""
    session, due = live.session, [live.interim_at_s]
    if session.deadline_boot_s is not None:
        due.append(session.deadline_boot_s)
    if session.quota_bytes is not None:
        rates = session.down_bps, session.up_bps
        fastest_bps = sum(rates) if all(rates) else FASTEST_BPS
        due.append(now_s + (session.quota_bytes - session.used.octets) * 8 / fastest_bps)
    if session.idle_timeout_s:
        due.append(live.active_at_s + session.idle_timeout_s)
        due.append(now_s + max(1.0, session.idle_timeout_s / IDLE_CHECKS))
    return math.ceil(max(min(due), now_s + 0.5))


def rebase(session: Session, clock: Clock) -> None:
    """Takes a session of another boot from the table into this one, by wall time.

    A wall clock that is behind the last write (a box without a battery, before NTP) prolongs nothing.
    """
    if session.boot_id == clock.boot_id:
        return
    away_s = max(0, clock.wall() - session.saved_at)
    shift_s = clock.boot() - away_s - session.saved_boot_s
    session.started_boot_s += shift_s
    if session.deadline_boot_s is not None:
        session.deadline_boot_s += shift_s
    session.boot_id, session.saved_at, session.saved_boot_s = clock.boot_id, clock.wall(), clock.boot()


def end_before(session: Session, at: int, clock: Clock) -> None:
    """Moves the deadline to that wall time, if it is later."""
    at_boot_s = clock.boot() - (clock.wall() - at)
    session.deadline_boot_s = min(session.deadline_boot_s or at_boot_s, at_boot_s)


def apply_change(session: Session, request: DynamicRequest, now_s: float) -> None:
    if request.down_bps is not None:
        session.down_bps = request.down_bps
    if request.up_bps is not None:
        session.up_bps = request.up_bps
    if request.session_timeout_s is not None:
        endless = request.session_timeout_s >= NO_END_S
        session.deadline_boot_s = None if endless else now_s + request.session_timeout_s
    if request.idle_timeout_s is not None:
        session.idle_timeout_s = request.idle_timeout_s or None
    if request.quota_bytes is not None:
        endless = request.quota_bytes >= NO_QUOTA_BYTES
        session.quota_bytes = None if endless else session.used.octets + request.quota_bytes
