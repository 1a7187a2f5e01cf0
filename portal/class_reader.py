"""Traffic control read straight from rtnetlink(7).

pyroute2 takes half a millisecond to ask for a class and to decode it, and with 10,000 sessions a hundred are asked
for in a second; this takes a tenth of that.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from appliance.errors import UserError

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_TCMSG = struct.Struct("=BBHiIII")  # family, two pads, index, handle, parent, info
_GET_QDISC, _NEW_QDISC, _GET_CLASS, _NEW_CLASS = 38, 36, 42, 40
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _ECHO, _DUMP = 1, 4, 8, 0x300
_ROOT = 0xFFFFFFFF
_KIND, _OPTIONS, _STATS2 = 1, 2, 7
_BASIC, _PACKETS64 = 1, 8  # in TCA_STATS2
_HTB_PARMS, _HTB_RATE = 1, struct.Struct("=8xI")  # of struct tc_ratespec, bytes a second
_BUFFER_BYTES = 65_536
_TIMEOUT_S = 10.0


class KernelRefusal(UserError):
    """The kernel doesn't do, or no longer has, what sessions need."""


class Class(NamedTuple):
    """`octets` are those of frames, with their link header."""

    minor: int
    octets: int
    packets: int
    rate_bytes_s: int


class ClassReader:
    """One netlink socket; raises KernelRefusal when the kernel says no."""

    def __init__(self) -> None:
        self._sequence = 0

    def open(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def one(self, index: int, handle: int) -> Class | None:
        replies = self._ask(_GET_CLASS, _ACK | _ECHO, index, handle)
        return next((_class(reply) for kind, reply in replies if kind == _NEW_CLASS), None)

    def all(self, index: int) -> Iterator[Class]:
        for kind, reply in self._ask(_GET_CLASS, _DUMP, index):
            if kind == _NEW_CLASS:
                yield _class(reply)

    def root(self, index: int) -> tuple[int, str]:
        """Handle and kind of the device's root qdisc; 0 and nothing where it has none of its own."""
        for kind, reply in self._ask(_GET_QDISC, _ACK | _ECHO, index, parent=_ROOT):
            if kind == _NEW_QDISC:
                name = _attributes(reply[_TCMSG.size :]).get(_KIND, b"")
                return _TCMSG.unpack_from(reply)[4], name.rstrip(b"\0").decode(errors="replace")
        return 0, ""

    def _ask(self, command: int, flags: int, index: int, handle: int = 0, parent: int = 0) -> list[tuple[int, bytes]]:
        """Without ECHO the answer to a single question goes to multicast listeners only."""
        self._sequence += 1
        body = _TCMSG.pack(0, 0, 0, index, handle, parent, 0)
        size = _HEADER.size + len(body)
        try:
            self._socket.send(_HEADER.pack(size, command, _REQUEST | flags, self._sequence, 0) + body)
            return list(self._replies())
        except OSError as error:
            raise KernelRefusal(f"the kernel doesn't tell about its queues: {error}") from None

    def _replies(self) -> Iterator[tuple[int, bytes]]:
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


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while len(data) >= _HEADER.size:
        size, kind, _, sequence, _ = _HEADER.unpack_from(data)
        yield kind, sequence, data[_HEADER.size : size]
        data = data[(size + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:size]
        data = data[max(4, (size + 3) & ~3) :]
    return found


def _class(payload: bytes) -> Class:
    attributes = _attributes(payload[_TCMSG.size :])
    stats = _attributes(attributes[_STATS2])
    octets, packets = struct.unpack_from("=QI", stats[_BASIC])
    if _PACKETS64 in stats:  # beyond 2^32
        packets = struct.unpack_from("=Q", stats[_PACKETS64])[0]
    parms = _attributes(attributes.get(_OPTIONS, b"")).get(_HTB_PARMS, bytes(_HTB_RATE.size))
    return Class(_TCMSG.unpack_from(payload)[4] & 0xFFFF, octets, packets, _HTB_RATE.unpack_from(parms)[0])
