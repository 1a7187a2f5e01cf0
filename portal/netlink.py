"""Requests to the kernel straight over netlink(7).

pyroute2 takes half a millisecond to make one and to decode the answer, and with 10,000 sessions a hundred are asked
in a second; this takes a tenth of that.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator

from appliance.errors import UserError

REQUEST, ACK, ECHO, DUMP = 1, 4, 8, 0x300
NESTED = 0x8000
NETFILTER = 12  # NETLINK_NETFILTER
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ERROR, _DONE = 2, 3
_BUFFER_BYTES = 65_536
_TIMEOUT_S = 10.0

Reply = tuple[int, bytes]
"""Message type and what stands behind the header."""


class KernelRefusal(UserError):
    """The kernel doesn't do, or no longer has, what sessions need."""


class Netlink:
    """One socket of a netlink family; `what` it is about stands in complaints."""

    def __init__(self, family: int, what: str) -> None:
        self._family = family
        self._what = what
        self._sequence = 0

    def open(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self._family)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def ask(self, command: int, flags: int, body: bytes) -> list[Reply]:
        """Nothing where there is no such thing; raises KernelRefusal when the kernel says no otherwise."""
        self._sequence += 1
        size = _HEADER.size + len(body)
        try:
            self._socket.send(_HEADER.pack(size, command, REQUEST | flags, self._sequence, 0) + body)
            return list(self._replies())
        except OSError as error:
            raise KernelRefusal(f"netlink, {self._what}: {error}") from None

    def _replies(self) -> Iterator[Reply]:
        while True:
            for kind, sequence, payload in _messages(self._socket.recv(_BUFFER_BYTES)):
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code not in (0, errno.ENOENT):
                        raise OSError(code, os.strerror(code))
                    return
                yield kind, payload


def attribute(kind: int, data: bytes) -> bytes:
    """struct nlattr with its padding."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """By kind; of several of one kind the last."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> Iterator[Reply]:
    place = 0
    while place + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, place)
        yield kind & 0x3FFF, data[place + 4 : place + size]
        place += max(4, (size + 3) & ~3)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while len(data) >= _HEADER.size:
        size, kind, _, sequence, _ = _HEADER.unpack_from(data)
        yield kind, sequence, data[_HEADER.size : size]
        data = data[(size + 3) & ~3 :]
