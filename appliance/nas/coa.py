"""Telling a router to let a session go: Disconnect-Request (RFC 5176, 2.1)."""

import socket
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


def disconnect(address: str, port: int, secret: str, attributes: dict[str, str]) -> bool:
    """True when the router let the session go, False when it knows no such session.

    Raises Unavailable without an authentic answer, UserError when the router refuses.
    """
    request = codec.CoAPacket(
        code=codec.DisconnectRequest, secret=secret.encode(), dict=_dictionary(), message_authenticator=True
    )
    for name, value in attributes.items():
        request[name] = value
    reply = _exchange(request, str(IPv4Address(address)), port)
    if reply.code == codec.DisconnectACK:
        return True
    cause = (reply.get("Error-Cause") or [0])[0]
    if cause == SESSION_NOT_FOUND:
        return False
    raise UserError(f"the router at {address} refuses to disconnect (Error-Cause {cause})")


def _exchange(request: Any, address: str, port: int) -> Any:
    """The same packet again for each try, so that the router can tell a repetition."""
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
    raise Unavailable(f"the router at {address} port {port} doesn't answer: is incoming RADIUS switched on there?")


@cache
def _dictionary() -> Any:
    return Dictionary(str(Path(__file__).with_name("dictionary")))
