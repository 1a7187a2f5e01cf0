"""FreeRADIUS's attribute tuples <-> our own types. Values are strings on both sides (rlm_python3)."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from appliance.accounts.terms import Account
from rlm_python.accounting import Packet
from rlm_python.authorization import Grant
from rlm_python.speed_limits import RateLimit, format_rate_limit

Pair = tuple[str, str, str]
_GIGAWORD = 2**32  # RFC 2869, 5.1 and 5.2
_MAX_U32 = 2**32 - 1
_NOT_HEX = re.compile(r"[^0-9a-f]")


def mac(calling_station_id: str) -> str:
    """`aa:bb:cc:dd:ee:ff` from any of the spellings routers use; other identities stay as they are."""
    digits = _NOT_HEX.sub("", calling_station_id.lower())
    if len(digits) != 12 or len(calling_station_id) > 17:
        return calling_station_id[:64]
    return bytes.fromhex(digits).hex(":")


def reply_pairs(grant: Grant, session_class: bytes, interim_interval_s: int) -> tuple[Pair, ...]:
    """What an Access-Accept carries, for MikroTik and, by WISPr's names, for others."""
    pairs = [
        ("Class", ":=", "0x" + session_class.hex()),
        ("Acct-Interim-Interval", ":=", str(interim_interval_s)),
        *_rate_pairs(grant.rate),
    ]
    if grant.session_timeout_s is not None:
        pairs.append(("Session-Timeout", ":=", str(min(grant.session_timeout_s, _MAX_U32))))
    if grant.quota_left_bytes is not None:
        gigawords, octets = divmod(grant.quota_left_bytes, _GIGAWORD)
        pairs.append(("Mikrotik-Total-Limit", ":=", str(octets)))
        pairs.append(("Mikrotik-Total-Limit-Gigawords", ":=", str(gigawords)))
    if grant.address is not None:
        pairs.append(("Framed-IP-Address", ":=", grant.address))
    return tuple(pairs)


@lru_cache(maxsize=1024)
def _rate_pairs(rate: RateLimit) -> tuple[Pair, ...]:
    pairs = []
    if rate.up_bps or rate.down_bps:
        pairs.append(("Mikrotik-Rate-Limit", ":=", format_rate_limit(rate)))
    if 0 < rate.up_bps <= _MAX_U32:
        pairs.append(("WISPr-Bandwidth-Max-Up", ":=", str(rate.up_bps)))
    if 0 < rate.down_bps <= _MAX_U32:
        pairs.append(("WISPr-Bandwidth-Max-Down", ":=", str(rate.down_bps)))
    return tuple(pairs)


def notes(account: Account, grant: Grant) -> Iterator[Pair]:
    """Control attributes that make raddb call post_auth, where there is something to write down."""
    takes_address = grant.pool_id is not None and grant.address is None
    if takes_address:
        yield "Tmp-Integer-1", ":=", str(grant.pool_id)
    if takes_address or account.first_login_at is None:
        yield "Tmp-Integer-0", ":=", str(account.id)


def accounting_packet(request: Mapping[str, str], now: int) -> Packet:
    """Raises KeyError or ValueError when an attribute that accounting can't do without is missing or no number."""
    return Packet(
        status=request["Acct-Status-Type"],
        unique_id=request["Acct-Unique-Session-Id"] + request.get("Class", "").removeprefix("0x"),
        session_id=request.get("Acct-Session-Id", "")[:128],
        account=request.get("User-Name", "")[:253],
        nas=request["Tmp-String-0"],
        mac=mac(request.get("Calling-Station-Id", "")),
        framed_ip=request.get("Framed-IP-Address"),
        host_ip=request.get("Mikrotik-Host-IP"),
        at=_event_at(request, now),
        session_s=_number(request, "Acct-Session-Time"),
        input_octets=_octets(request, "Input"),
        output_octets=_octets(request, "Output"),
        cause=request.get("Acct-Terminate-Cause"),
    )


def _event_at(request: Mapping[str, str], now: int) -> int:
    """UTC seconds of the event: RFC 2869, 5.3, less Acct-Delay-Time (RFC 2866, 5.2).

    A router without a clock says 1970, so a time more than a day off is the server's own instead.
    """
    sent_at = _number(request, "Tmp-Integer-0")
    if abs(sent_at - now) > 86_400:
        sent_at = now
    return sent_at - min(_number(request, "Acct-Delay-Time"), 86_400)


def _octets(request: Mapping[str, str], direction: str) -> int:
    return _GIGAWORD * _number(request, f"Acct-{direction}-Gigawords") + _number(request, f"Acct-{direction}-Octets")


def _number(request: Mapping[str, str], name: str) -> int:
    return int(request.get(name, "0"))


def by_name(pairs: Any) -> dict[str, str]:
    """Attributes by name; of a repeated one the last."""
    return dict(pairs)
