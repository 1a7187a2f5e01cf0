"""FreeRADIUS's attribute tuples <-> our own types. Values are strings on both sides (rlm_python3)."""

import re
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from appliance.accounts.terms import Account
from rlm_python.accounting import OF_A_NAS, Packet
from rlm_python.authorization import Grant
from rlm_python.speed_limits import RateLimit, format_rate_limit

Pair = tuple[str, str, str]
_GIGAWORD = 2**32  # RFC 2869, 5.1 and 5.2
_MAX_U32 = 2**32 - 1
_MOST_OCTETS = 2**50  # of a session: ten days at 10 Gbit/s
_LONGEST_SESSION_S = 10 * 365 * 86_400
_CLOCK_OFF_S = 60
_LONGEST_DELAY_S = 86_400
_BOOT_CLOCK_OFF_S = 60
_NOT_HEX = re.compile(r"[^0-9a-f]")
# A DHCP client identifier with its type (RFC 2132, 9.14): RouterOS leaves leading zeros out.
_CLIENT_IDENTIFIER = re.compile(r"1((:[0-9a-f]{1,2}){6})")
OWN_GATEWAY = "gateway"
_MIKROTIK = (OWN_GATEWAY, "mikrotik")
_GRANTED = struct.Struct(">IQ")
_ID_BYTES = 8
_NO_OCTETS = 2**64 - 1


def mac(calling_station_id: str) -> str:
    """`aa:bb:cc:dd:ee:ff` from any of the spellings routers use; other identities stay as they are."""
    text = calling_station_id.lower()
    if match := _CLIENT_IDENTIFIER.fullmatch(text):
        return ":".join(octet.zfill(2) for octet in match[1][1:].split(":"))
    digits = _NOT_HEX.sub("", text)
    if len(digits) != 12 or len(text) > 17:
        return calling_station_id[:64]
    return bytes.fromhex(digits).hex(":")


def reply_pairs(grant: Grant, kind: str, session_class: str, interim_interval_s: int) -> tuple[Pair, ...]:
    """What an Access-Accept carries, in the dialect of this kind of NAS."""
    pairs = [
        ("Class", ":=", session_class),
        ("Acct-Interim-Interval", ":=", str(interim_interval_s)),
        *rate_pairs(grant.rate, kind),
    ]
    if grant.session_timeout_s is not None:
        pairs.append(("Session-Timeout", ":=", str(min(grant.session_timeout_s, _MAX_U32))))
    if grant.idle_timeout_s is not None:
        pairs.append(("Idle-Timeout", ":=", str(grant.idle_timeout_s)))
    octets = told_octets(grant, kind)
    if octets is not None:
        pairs += _quota_pairs(octets, grant.slows, kind)
    if grant.address is not None:
        pairs.append(("Framed-IP-Address", ":=", grant.address))
    elif grant.router_pool and kind != OWN_GATEWAY:
        pairs.append(("Framed-Pool", ":=", grant.router_pool))
    if grant.filter_id or grant.vlan is not None or grant.attributes:
        pairs += _further_pairs(grant.filter_id, grant.vlan, grant.attributes)
    return tuple(pairs)


@lru_cache(maxsize=1024)
def rate_pairs(rate: RateLimit, kind: str) -> tuple[Pair, ...]:
    """Speeds by the names this kind of NAS knows; what isn't Mikrotik may be any, so it gets the two usual ones."""
    if kind in _MIKROTIK:
        return (("Mikrotik-Rate-Limit", ":=", rate_text(rate)),) if rate.up_bps or rate.down_bps else ()
    pairs = []
    for direction, bps in (("Up", rate.up_bps), ("Down", rate.down_bps)):
        if 0 < bps <= _MAX_U32:
            pairs.append((f"WISPr-Bandwidth-Max-{direction}", ":=", str(bps)))
        if bps:
            pairs.append((f"ChilliSpot-Bandwidth-Max-{direction}", ":=", str(max(1, bps // 1000))))  # kbit/s
    return tuple(pairs)


def rate_text(rate: RateLimit) -> str:
    return format_rate_limit(rate)


def told_octets(grant: Grant, kind: str) -> int | None:
    """Where the quota slows down only the own gateway is told: any other NAS would cut at it."""
    return None if grant.slows and kind != OWN_GATEWAY else grant.quota_left_bytes


def _quota_pairs(quota_left: int, slows: bool, kind: str) -> Iterator[Pair]:
    gigawords, octets = divmod(quota_left, _GIGAWORD)
    if kind in _MIKROTIK:
        name, more = "Mikrotik-Total-Limit", "Mikrotik-Total-Limit-Gigawords"
    else:
        name, more = "ChilliSpot-Max-Total-Octets", "ChilliSpot-Max-Total-Gigawords"
    yield name, ":=", str(octets)
    if gigawords:
        yield more, ":=", str(gigawords)
    if slows:
        yield "Termination-Action", ":=", "RADIUS-Request"  # RFC 2865, 5.29: tell us instead of cutting


@lru_cache(maxsize=1024)
def _further_pairs(filter_id: str, vlan: int | None, attributes: str) -> tuple[Pair, ...]:
    pairs = [("Filter-Id", ":=", filter_id)] if filter_id else []
    if vlan is not None:  # RFC 3580, 3.31
        pairs += [
            ("Tunnel-Type", ":=", "VLAN"),
            ("Tunnel-Medium-Type", ":=", "IEEE-802"),
            ("Tunnel-Private-Group-Id", ":=", str(vlan)),
        ]
    for line in attributes.splitlines():
        name, _, value = line.partition(" = ")
        pairs.append((name, ":=", value))
    return tuple(pairs)


class Granted(NamedTuple):
    """What a session was granted at its login: Mikrotik's rate text, its end (UTC seconds), octets in all."""

    rate: str
    until: int | None
    octets: int | None


def session_class(session_id: bytes, grant: Grant, kind: str, now: int) -> str:
    """Class (RFC 2865, 5.25) tells the session apart, and brings back in accounting what was granted."""
    until = 0 if grant.session_timeout_s is None else min(now + grant.session_timeout_s, _MAX_U32)
    octets = told_octets(grant, kind)
    packed = _GRANTED.pack(until, _NO_OCTETS if octets is None else octets)
    return "0x" + (session_id + packed + rate_text(grant.rate).encode()).hex()


def granted(class_: str) -> Granted | None:
    """None for a Class that isn't ours."""
    try:
        data = bytes.fromhex(class_.removeprefix("0x"))
        until, octets = _GRANTED.unpack_from(data, _ID_BYTES)
        rate = data[_ID_BYTES + _GRANTED.size :].decode("ascii")
    except (ValueError, struct.error):
        return None
    if not rate.isprintable() or _NO_OCTETS > octets >= 2**63:  # a router may send what it likes
        return None
    return Granted(rate, until or None, None if octets == _NO_OCTETS else octets)


class Notes(NamedTuple):
    """What a login has to write down once the password was right; travels as one control attribute.

    0 is nothing to do: no pool, no limit of simultaneous devices, no device to remember. `knew` says that it was
    a remembered device that logged in.
    """

    account_id: int
    first_login: bool
    pool_id: int
    simultaneous: int
    devices: int
    knew: bool

    @classmethod
    def of(cls, account: Account, grant: Grant, kind: str, remember: bool, knew: bool) -> "Notes | None":
        named_pool = grant.router_pool and kind != OWN_GATEWAY
        pool_id = 0 if named_pool or grant.address is not None else grant.pool_id or 0
        devices = account.devices if remember else 0
        is_first = account.first_login_at is None
        if not (is_first or pool_id or account.simultaneous or devices or knew):
            return None
        return cls(account.id, is_first, pool_id, account.simultaneous or 0, devices, knew)

    def text(self) -> str:
        return " ".join(str(int(number)) for number in self)

    @classmethod
    def parse(cls, text: str) -> "Notes":
        account_id, first_login, pool_id, simultaneous, devices, knew = (int(word) for word in text.split())
        return cls(account_id, bool(first_login), pool_id, simultaneous, devices, bool(knew))


def accounting_packet(request: Mapping[str, str], now: int) -> Packet:
    """Raises KeyError or ValueError when an attribute that accounting can't do without is missing or no number."""
    request = {name: text.replace("\0", "") for name, text in request.items()}  # PostgreSQL takes no NUL
    status, class_ = request["Acct-Status-Type"], request.get("Class", "").removeprefix("0x")
    grant = granted(class_)
    rate, until, octets = grant or (None, None, None)
    return Packet(
        status=status,
        unique_id=request["Acct-Unique-Session-Id"] + (class_[: 2 * _ID_BYTES] if grant else class_),
        session_id=request.get("Acct-Session-Id", "")[:128],
        account=request.get("User-Name", "")[:253],
        nas=request["Tmp-String-0"],
        mac=mac(request.get("Calling-Station-Id", "")),
        framed_ip=request.get("Framed-IP-Address"),
        host_ip=request.get("Mikrotik-Host-IP"),
        at=_booted_at(request, now) if status in OF_A_NAS else _event_at(request, now),
        received_at=now,
        session_s=_below(_LONGEST_SESSION_S, _number(request, "Acct-Session-Time", 0 if status == "Start" else None)),
        input_octets=_octets(request, "Input"),
        output_octets=_octets(request, "Output"),
        has_gigawords="Acct-Input-Gigawords" in request or "Acct-Output-Gigawords" in request,
        cause=request.get("Acct-Terminate-Cause"),
        granted_rate=rate,
        granted_until=until,
        granted_octets=octets,
    )


def _event_at(request: Mapping[str, str], now: int) -> int:
    """UTC seconds of the event: RFC 2869, 5.3, less Acct-Delay-Time (RFC 2866, 5.2).

    Routers' clocks are often wrong, and limits are ours to keep: a time more than a minute off is the server's own
    instead, and none lies in the future.
    """
    sent_at = _number(request, "Tmp-Integer-0") or now
    if not now - _CLOCK_OFF_S <= sent_at <= now:
        sent_at = now
    return sent_at - _delay_s(request)


def _booted_at(request: Mapping[str, str], now: int) -> int:
    """When a NAS began anew; its clock is the least to be trusted then, and may go on from when the power went."""
    sent_at = _number(request, "Tmp-Integer-0") or now
    return min(max(sent_at, now - _BOOT_CLOCK_OFF_S), now) - _delay_s(request)


def _delay_s(request: Mapping[str, str]) -> int:
    return min(_number(request, "Acct-Delay-Time") or 0, _LONGEST_DELAY_S)


def _octets(request: Mapping[str, str], direction: str) -> int | None:
    octets = _number(request, f"Acct-{direction}-Octets")
    if octets is None:
        return None
    return _below(_MOST_OCTETS, octets + _GIGAWORD * (_number(request, f"Acct-{direction}-Gigawords") or 0))


def _below(limit: int, value: int | None) -> int | None:
    """None instead of what no router can mean: an absurd number is as good as none, and the rest still counts."""
    return value if value is None or value < limit else None


def _number(request: Mapping[str, str], name: str, default: int | None = None) -> int | None:
    """An attribute of 32 bits; raises ValueError."""
    text = request.get(name)
    if text is None:
        return default
    value = int(text)
    if not 0 <= value <= _MAX_U32:
        raise ValueError(f"{name} = {value}")
    return value


def by_name(pairs: Any) -> dict[str, str]:
    """Attributes by name; of a repeated one the last."""
    return dict(pairs)
