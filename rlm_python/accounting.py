"""Accounting packets -> sessions and usage, exactly once: only what a counter grew by since it was last seen counts.

So a repeated packet adds nothing, and of packets in the wrong order the highest counters hold. Usage falls on the
local day of the packet that told of it.
"""

from typing import NamedTuple
from zoneinfo import ZoneInfo

from appliance.accounts.closing import LOST, REBOOT
from appliance.accounts.periods import local_day
from appliance.accounts.sessions import SessionRow, Sessions


class Packet(NamedTuple):
    """One Accounting-Request (RFC 2866). `unique_id` is the same for all packets of a session and for no other.

    Times are UTC seconds, `at` the event's and `received_at` our own. None is what the router didn't tell.
    """

    status: str
    unique_id: str
    session_id: str
    account: str
    nas: str
    mac: str
    framed_ip: str | None
    host_ip: str | None
    at: int
    received_at: int
    session_s: int | None
    input_octets: int | None
    output_octets: int | None
    has_gigawords: bool
    cause: str | None
    granted_rate: str | None
    granted_until: int | None
    granted_octets: int | None


class Counter(NamedTuple):
    """Octets counted so far, and the router's own counter as last seen."""

    total: int
    raw: int


OF_A_SESSION = ("Start", "Interim-Update", "Alive", "Stop")  # Alive is Interim-Update's older name
OF_A_NAS = ("Accounting-On", "Accounting-Off")
_WRAP = 2**32  # where a counter without Gigawords begins anew (RFC 2869, 5.1)
_FASTEST_BYTES_PER_S = 125_000_000  # 1 Gbit/s; more between two packets is no wrap
_MOST = 2**53


def record(packet: Packet, sessions: Sessions, zone: ZoneInfo, hold_s: int) -> None:
    """Committed when it returns; when it raises, the packet may be sent again.

    `hold_s` is how long an address stays reserved without another packet.
    """
    if packet.status in OF_A_NAS:
        sessions.close_rebooted(packet.nas, packet.at, packet.received_at, hold_s)
    with sessions.transaction():
        sessions.note_seen(packet.nas, packet.received_at)
        if packet.status in OF_A_SESSION:
            _record_session(packet, sessions, zone, hold_s)


def _record_session(packet: Packet, sessions: Sessions, zone: ZoneInfo, hold_s: int) -> None:
    known = sessions.find(packet.unique_id)
    before = known or _new(packet, sessions.account_id(packet.account, packet.mac))
    after = merge(before, packet)
    if after == known:
        return
    sessions.save(after, known)
    input_octets = after.input_octets - before.input_octets
    output_octets = after.output_octets - before.output_octets
    if input_octets or output_octets:
        sessions.add_traffic(packet.received_at, input_octets, output_octets)
    if after.account_id is None:
        return
    if input_octets or output_octets:
        sessions.add_usage(after.account_id, local_day(packet.at, zone), input_octets, output_octets)
    if known is None:
        sessions.note_first_login(after.account_id, after.started_at)
    _note_whereabouts(before, after, after.account_id, sessions, hold_s)


def _note_whereabouts(before: SessionRow, after: SessionRow, account_id: int, sessions: Sessions, hold_s: int) -> None:
    """An address is given back when its session ends, unless a later login of the same device took it meanwhile."""
    ends = before.ended_at is None and after.ended_at is not None
    if ends:
        sessions.drop_slot(account_id, after.mac)
    if after.framed_ip is None:
        return
    until = after.updated_at + hold_s
    if after.ended_at is None:
        sessions.hold_address(after.framed_ip, account_id, after.mac, until)
    elif ends:
        sessions.release_address(after.framed_ip, account_id, after.mac, until, after.ended_at)


def _new(packet: Packet, account_id: int | None) -> SessionRow:
    """A session that nothing was counted for yet: interims may come before Start, and Start may never come."""
    return SessionRow(
        packet.unique_id,
        account_id,
        packet.account,
        packet.nas,
        packet.session_id,
        packet.mac,
        packet.framed_ip,
        packet.host_ip,
        started_at=max(packet.at - (packet.session_s or 0), 0),
        updated_at=packet.at,
        ended_at=None,
        terminate_cause=None,
        session_s=0,
        input_octets=0,
        output_octets=0,
        raw_input_octets=0,
        raw_output_octets=0,
        granted_rate=packet.granted_rate,
        granted_until=packet.granted_until,
        granted_octets=packet.granted_octets,
        check_at=0,
        watch_octets=None,
    )


def merge(row: SessionRow, packet: Packet) -> SessionRow:
    """The session with what this packet adds."""
    elapsed_s = (row.session_s if packet.session_s is None else packet.session_s) - row.session_s
    later = elapsed_s > 0 and packet.at > row.updated_at
    input_before = Counter(row.input_octets, row.raw_input_octets)
    output_before = Counter(row.output_octets, row.raw_output_octets)
    both_fell = _fell(input_before, packet.input_octets) and _fell(output_before, packet.output_octets)
    wraps_s = 0 if packet.has_gigawords or both_fell else elapsed_s
    input_after = count(input_before, packet.input_octets, elapsed_s, later, wraps_s)
    output_after = count(output_before, packet.output_octets, elapsed_s, later, wraps_s)
    ended_at, cause = _end(row, packet, elapsed_s)
    octets = input_after.total + output_after.total
    is_due = row.watch_octets is not None and octets >= row.watch_octets
    is_back = row.ended_at is not None and ended_at is None
    return row._replace(
        framed_ip=packet.framed_ip or row.framed_ip,
        host_ip=packet.host_ip or row.host_ip,
        updated_at=max(row.updated_at, packet.at),
        ended_at=ended_at,
        terminate_cause=cause,
        session_s=row.session_s + max(elapsed_s, 0),
        input_octets=input_after.total,
        output_octets=output_after.total,
        raw_input_octets=input_after.raw,
        raw_output_octets=output_after.raw,
        check_at=0 if is_due or is_back else row.check_at,
    )


def _fell(before: Counter, seen: int | None) -> bool:
    return seen is not None and seen < before.raw


def count(before: Counter, seen: int | None, elapsed_s: int, later: bool, wraps_s: int) -> Counter:
    """`later` is by the clock and by the session's own time, `elapsed_s` by the latter.

    A counter that is lower in a later packet began anew: at 2^32 where the router sends no Gigawords, the other
    direction didn't fall as well and the line could carry the difference within `wraps_s`; else at 0.
    """
    total, raw = before
    if seen is None:
        return before
    if seen >= raw:
        if elapsed_s < 0 and total > raw:  # from before the counter began anew: at least so much had passed
            return Counter(max(total, seen), raw)
        return Counter(min(total + seen - raw, _MOST), seen)
    if not later:
        return before
    wrapped = seen + _WRAP - raw
    grown = wrapped if raw < _WRAP and wrapped <= wraps_s * _FASTEST_BYTES_PER_S else seen
    return Counter(min(total + grown, _MOST), seen)


def _end(row: SessionRow, packet: Packet, elapsed_s: int) -> tuple[int | None, str | None]:
    """A Stop ends for good. An end that was only supposed gives way to a Stop; a session that wasn't lost goes on."""
    if packet.status == "Stop" and (row.ended_at is None or row.terminate_cause in (LOST, REBOOT)):
        return packet.at, packet.cause
    if row.terminate_cause == LOST and elapsed_s >= 0 and packet.at > row.updated_at:
        return None, None
    return row.ended_at, row.terminate_cause
