"""Telling a router about a session: Disconnect-Request and CoA-Request (RFC 5176, 2.1 and 2.2)."""

import socket
import struct
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyrad import packet as codec
from pyrad.dictionary import Dictionary

from appliance.errors import Unavailable, UserError

TRIES = 3
TRY_S = 1.0
MAX_PACKET_BYTES = 4096  # RFC 2865, 3
SESSION_NOT_FOUND = 503  # RFC 5176, 3.5
_NUMBERS = (
    "Session-Timeout",
    "Mikrotik-Total-Limit",
    "Mikrotik-Total-Limit-Gigawords",
    "WISPr-Bandwidth-Max-Up",
    "WISPr-Bandwidth-Max-Down",
    "ChilliSpot-Bandwidth-Max-Up",
    "ChilliSpot-Bandwidth-Max-Down",
)


def disconnect(address: str, port: int, secret: str, attributes: dict[str, str]) -> bool:
    """True when the router let the session go, False when it knows no such session.

    Raises Unavailable without an authentic answer, UserError when the router refuses.
    """
    return _ask(codec.DisconnectRequest, codec.DisconnectACK, address, port, secret, attributes)


def change(address: str, port: int, secret: str, attributes: dict[str, str]) -> bool:
    """True when the router took the change, False when it knows no such session; raises as `disconnect` does."""
    return _ask(codec.CoARequest, codec.CoAACK, address, port, secret, attributes)


def session_attributes(session: Any) -> dict[str, str]:
    """What tells a router which session is meant: RouterOS's hotspot wants all three."""
    found = {"User-Name": session.account, "Acct-Session-Id": session.acct_session_id}
    return found | ({"Framed-IP-Address": session.framed_ip} if session.framed_ip else {})


def _ask(code: int, done: int, address: str, port: int, secret: str, attributes: dict[str, str]) -> bool:
    try:
        return _answered(code, done, address, port, secret, attributes)
    except (ValueError, struct.error, codec.PacketError) as error:  # what pyrad can't write, or can't read of an answer
        raise UserError(f"the router at {address} can't be told: {error}") from None


def _answered(code: int, done: int, address: str, port: int, secret: str, attributes: dict[str, str]) -> bool:
    request = codec.CoAPacket(code=code, secret=secret.encode(), dict=dictionary(), message_authenticator=True)
    for name, value in attributes.items():
        request[name] = int(value) if value.isdecimal() and name in _NUMBERS else value
    reply = exchange(request, str(IPv4Address(address)), port)
    if reply is None:
        raise Unavailable(f"the router at {address} port {port} doesn't answer: is incoming RADIUS switched on there?")
    if reply.code == done:
        return True
    cause = (reply.get("Error-Cause") or [0])[0]
    if cause == SESSION_NOT_FOUND:
        return False
    raise UserError(f"the router at {address} refuses (Error-Cause {cause})")


def exchange(request: Any, address: str, port: int) -> Any:
    """The authentic reply, else None; the same packet again for each try, so that a repetition can be told."""
    data = request.RequestPacket()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(TRY_S)
        for _ in range(TRIES):
            try:
                link.connect((address, port))
                link.send(data)
                answer = link.recv(MAX_PACKET_BYTES)
                reply = request.CreateReply(packet=answer)
                if request.VerifyReply(reply, answer):
                    return reply
            except (OSError, codec.PacketError, ValueError):
                continue
    return None


@cache
def dictionary() -> Any:
    return Dictionary(str(Path(__file__).with_name("dictionary")))
