"""A router that speaks RADIUS over TLS (RFC 6614), as small as can be."""

import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any

from pyrad import packet as codec
from pyrad.dictionary import Dictionary

import appliance.nas
from tests.lab.radius import RadiusServer

SECRET = b"radsec"  # RFC 6614, 2.3 (4)
_DICTIONARY = Path(appliance.nas.__file__).with_name("dictionary")


class RadSec:
    """One connection; `certificate` is a PEM file with key and certificate, None offers none.

    Raises ssl.SSLError or OSError where the server doesn't take it.
    """

    def __init__(self, server: RadiusServer, source: str, certificate: Path | None, timeout_s: float = 5) -> None:
        context = ssl.create_default_context(cadata=server.authority())
        if certificate is not None:
            context.load_cert_chain(certificate)
        self._dictionary = Dictionary(str(_DICTIONARY))
        address = ("127.0.0.1", server.config.radius.radsec_port)
        link = socket.create_connection(address, timeout_s, source_address=(source, 0))
        self._link = context.wrap_socket(link, server_hostname=server.config.portal.hostname)

    def __enter__(self) -> "RadSec":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._link.close()

    def login(self, user: str, password: str, message_authenticator: bool = True) -> int:
        """The answer's code (RFC 2865, 4); raises OSError when the server closes or says nothing."""
        request = codec.AuthPacket(secret=SECRET, dict=self._dictionary, message_authenticator=message_authenticator)
        request["User-Name"] = user
        request["User-Password"] = request.PwCrypt(password)
        return self._exchange(request)

    def account(self, user: str, status: str, session: str) -> int:
        request = codec.AcctPacket(secret=SECRET, dict=self._dictionary)
        for name, value in (("User-Name", user), ("Acct-Status-Type", status), ("Acct-Session-Id", session)):
            request[name] = value
        return self._exchange(request)

    def _exchange(self, request: Any) -> int:
        self._link.sendall(request.RequestPacket())
        answer = self._read(4)
        answer += self._read(int.from_bytes(answer[2:4], "big") - 4)
        reply = request.CreateReply(packet=answer)
        assert request.VerifyReply(reply, answer)
        return int(reply.code)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._link.recv(count - len(data))
            if not more:
                raise ConnectionError("the server closed the connection")
            data += more
        return data
