"""Forgetting the flows of an address; numbers are those of linux/netfilter/nfnetlink_conntrack.h."""

import struct
from ipaddress import IPv4Address

from portal.netlink import ACK, NESTED, NETFILTER, Netlink, attribute
from portal.ruleset import OWN_FLOW

_DELETE = 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
_NFGENMSG = struct.pack("=BBH", 2, 0, 0)  # AF_INET
_TUPLE_ORIG, _MARK, _MARK_MASK, _FILTER = 1, 8, 21, 25
_TUPLE_IP, _ORIG_FLAGS = 1, 1
_SOURCE, _DESTINATION = (1, 1), (2, 2)  # CTA_IP_V4_*, CTA_FILTER_F_CTA_IP_*
_NOT_OUR_OWN = attribute(_MARK, bytes(4)) + attribute(_MARK_MASK, struct.pack(">I", OWN_FLOW))


class Flows:
    """One message each, filtered in the kernel (Linux 5.8); flows to the gateway itself stay."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETFILTER, "flows")

    def open(self) -> None:
        self._netlink.open()

    def close(self) -> None:
        self._netlink.close()

    def forget_from(self, ip: IPv4Address) -> None:
        self._forget(ip, *_SOURCE)

    def forget_to(self, ip: IPv4Address) -> None:
        self._forget(ip, *_DESTINATION)

    def _forget(self, ip: IPv4Address, kind: int, flag: int) -> None:
        address = attribute(NESTED | _TUPLE_IP, attribute(kind, ip.packed))
        original = attribute(NESTED | _TUPLE_ORIG, address)
        filtered = attribute(NESTED | _FILTER, attribute(_ORIG_FLAGS, struct.pack("=I", flag)))
        self._netlink.ask(_DELETE, ACK, _NFGENMSG + original + filtered + _NOT_OUR_OWN)
