"""What has to be quick of traffic control: looking at classes, emptying and removing them."""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from portal import netlink
from portal.netlink import Netlink, Reply

_TCMSG = struct.Struct("=BBHiIII")  # family, two pads, index, handle, parent, info
_NEW_QDISC, _DELETE_QDISC, _GET_QDISC, _NEW_CLASS, _DELETE_CLASS, _GET_CLASS = 36, 37, 38, 40, 41, 42
_ONE = netlink.ACK | netlink.ECHO  # without ECHO the answer to a single question goes to multicast listeners only
_ROOT = 0xFFFFFFFF
_KIND, _OPTIONS, _STATS2 = 1, 2, 7
_BASIC, _PACKETS64 = 1, 8  # in TCA_STATS2
_HTB_PARMS, _HTB_RATE = 1, struct.Struct("=8xI")  # of struct tc_ratespec, bytes a second


class Class(NamedTuple):
    """`octets` are those of frames, with their link header."""

    minor: int
    octets: int
    packets: int
    rate_bytes_s: int


class Classes:
    def __init__(self) -> None:
        self._netlink = Netlink(socket.NETLINK_ROUTE, "queues")

    def open(self) -> None:
        self._netlink.open()

    def close(self) -> None:
        self._netlink.close()

    def one(self, index: int, handle: int) -> Class | None:
        replies = self._ask(_GET_CLASS, _ONE, index, handle)
        return next((_class(reply) for kind, reply in replies if kind == _NEW_CLASS), None)

    def all(self, index: int) -> Iterator[Class]:
        """HTB's only: fq_codel tells each flow that waits in it as a class too, with minors like ours."""
        for kind, reply in self._ask(_GET_CLASS, netlink.DUMP, index):
            if kind == _NEW_CLASS and _kind(reply) == "htb":
                yield _class(reply)

    def remove(self, index: int, handle: int) -> None:
        """It may have gone already."""
        self._ask(_DELETE_CLASS, netlink.ACK, index, handle)

    def drop_queue(self, index: int, handle: int) -> None:
        """With all that waits in it; the class gets the kernel's plain one, which has no handle."""
        self._ask(_DELETE_QDISC, netlink.ACK, index, parent=handle)

    def root(self, index: int) -> tuple[int, str]:
        """Handle and kind of the device's root qdisc; 0 and nothing where it has none of its own."""
        for kind, reply in self._ask(_GET_QDISC, _ONE, index, parent=_ROOT):
            if kind == _NEW_QDISC:
                return _TCMSG.unpack_from(reply)[4], _kind(reply)
        return 0, ""

    def _ask(self, command: int, flags: int, index: int, handle: int = 0, parent: int = 0) -> list[Reply]:
        return self._netlink.ask(command, flags, _TCMSG.pack(0, 0, 0, index, handle, parent, 0))


def _kind(payload: bytes) -> str:
    return netlink.attributes(payload[_TCMSG.size :]).get(_KIND, b"").rstrip(b"\0").decode(errors="replace")


def _class(payload: bytes) -> Class:
    attributes = netlink.attributes(payload[_TCMSG.size :])
    stats = netlink.attributes(attributes[_STATS2])
    octets, packets = struct.unpack_from("=QI", stats[_BASIC])
    if _PACKETS64 in stats:  # beyond 2^32
        packets = struct.unpack_from("=Q", stats[_PACKETS64])[0]
    parms = netlink.attributes(attributes.get(_OPTIONS, b"")).get(_HTB_PARMS, bytes(_HTB_RATE.size))
    return Class(_TCMSG.unpack_from(payload)[4] & 0xFFFF, octets, packets, _HTB_RATE.unpack_from(parms)[0])
