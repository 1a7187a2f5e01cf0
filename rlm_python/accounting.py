"""Accounting packets -> sessions and usage, exactly once: counters only grow, and only what they grew by counts."""

from typing import NamedTuple
from zoneinfo import ZoneInfo

from appliance.accounts.periods import local_day
from appliance.accounts.sessions import SessionRow, Sessions


class Packet(NamedTuple):
    """One Accounting-Request (RFC 2866). `unique_id` is the same for all packets of a session and for no other."""

    status: str
    unique_id: str
    session_id: str
    account: str
    nas: str
    mac: str
    framed_ip: str | None
    host_ip: str | None
    at: int
    session_s: int
    input_octets: int
    output_octets: int
    cause: str | None


_OF_A_SESSION = ("Start", "Interim-Update", "Alive", "Stop")  # Alive is Interim-Update's older name


def record(packet: Packet, sessions: Sessions, zone: ZoneInfo, hold_s: int) -> None:
    """Durable when it returns. `hold_s` is how long an address stays reserved without another packet."""
    with sessions.transaction():
        if packet.status in ("Accounting-On", "Accounting-Off"):
            sessions.end_all(packet.nas, "NAS-Reboot")
        elif packet.status in _OF_A_SESSION:
            _record_session(packet, sessions, zone, hold_s)


def _record_session(packet: Packet, sessions: Sessions, zone: ZoneInfo, hold_s: int) -> None:
    known = sessions.find(packet.unique_id)
    before = known or _new(packet, sessions.account_id(packet.account))
    after = merge(before, packet)
    sessions.save(after)
    if after.account_id is None:
        return
    input_octets = after.input_octets - before.input_octets
    output_octets = after.output_octets - before.output_octets
    if input_octets or output_octets:
        sessions.add_usage(after.account_id, local_day(packet.at, zone), input_octets, output_octets)
    if known is None:
        sessions.note_first_login(after.account_id, after.started_at)
    if after.framed_ip is not None:
        until = after.updated_at + hold_s if after.ended_at is None else after.ended_at
        sessions.hold_address(after.framed_ip, after.account_id, after.mac, until)


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
        started_at=packet.at - packet.session_s,
        updated_at=packet.at,
        ended_at=None,
        terminate_cause=None,
        session_s=0,
        input_octets=0,
        output_octets=0,
    )


def merge(row: SessionRow, packet: Packet) -> SessionRow:
    """The session with what this packet adds; a repeated or overtaken packet adds nothing, and an end stays one."""
    stops = packet.status == "Stop" and row.ended_at is None
    return row._replace(
        framed_ip=packet.framed_ip or row.framed_ip,
        updated_at=max(row.updated_at, packet.at),
        ended_at=packet.at if stops else row.ended_at,
        terminate_cause=packet.cause if stops else row.terminate_cause,
        session_s=max(row.session_s, packet.session_s),
        input_octets=max(row.input_octets, packet.input_octets),
        output_octets=max(row.output_octets, packet.output_octets),
    )
