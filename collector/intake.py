"""The UDP socket that flows come by, with as large a buffer as the kernel grants."""

import ctypes
import errno
import os
import socket
import struct
from ipaddress import ip_address

from appliance.errors import UserError

_MAX_DATAGRAM = 65_535
_SO_RCVBUFFORCE, _SO_MEMINFO, _DROPS = (
    33,
    55,
    8,
)  # asm-generic/socket.h; SK_MEMINFO_DROPS: as SO_RXQ_OVFL
_MEMINFO = struct.Struct("9I")
_WRAP = 2**32
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


class Intake:
    """Never waits. Raises UserError where the address or the port can't be had."""

    def __init__(self, listen: str, port: int, buffer_bytes: int) -> None:
        try:
            self._socket = _bound(listen, port)
        except OSError as error:
            raise UserError(f"UDP port {port} of {listen} can't be listened to: {error.strerror}") from None
        self.granted_bytes = _grow(self._socket, buffer_bytes)
        self._socket.setblocking(False)
        self._drops = self._counted()

    def fileno(self) -> int:
        return self._socket.fileno()

    def get(self) -> tuple[bytes, str] | None:
        """A datagram and the address that it came from, if there is one."""
        try:
            payload, source = self._socket.recvfrom(_MAX_DATAGRAM)
        except BlockingIOError:
            return None
        except OSError as error:  # an ICMP error of an earlier datagram, which we never send
            if error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EINTR):
                return None
            raise
        return payload, source[0]

    def new_drops(self) -> int:
        """Datagrams that the kernel had no room for since the last call."""
        before, self._drops = self._drops, self._counted()
        return (self._drops - before) % _WRAP

    def _counted(self) -> int:
        numbers = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(numbers)[_DROPS])

    def close(self) -> None:
        self._socket.close()


def _bound(listen: str, port: int) -> socket.socket:
    """ "::" takes both families; where the kernel has no IPv6, IPv4 alone."""
    is_all = ip_address(listen).version == 6 and ip_address(listen).is_unspecified
    if is_all and not (socket.has_ipv6 and socket.has_dualstack_ipv6()):
        listen = "0.0.0.0"  # noqa: S104 (as was asked for)
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if is_all and family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((listen, port))
    except BaseException:
        made.close()
        raise
    return made


def _grow(made: socket.socket, wanted_bytes: int) -> int:
    """What the kernel gives: net.core.rmem_max bounds it for those without CAP_NET_ADMIN (socket(7))."""
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted_bytes)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted_bytes)
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def drop_capabilities() -> None:
    """Only the buffer needed one; capset(2), of each thread that is made from now on as well."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
