"""What guests sent, as the elements of nftables' map `up` count it.

nft itself would have to be started for every look. Numbers are those of linux/netfilter/nf_tables.h.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

from portal import netlink
from portal.models import Amount
from portal.netlink import NESTED, NETFILTER, Netlink, attribute, attribute_list, attributes
from portal.ruleset import TABLE, Counted

_GET_TABLE, _NEW_ELEMENTS, _GET_ELEMENTS = 0xA01, 0xA0C, 0xA0D  # NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_*
_NFGENMSG = struct.pack("=BBH", 1, 0, 0)  # NFPROTO_INET
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_ELEMENT, _VALUE = 1, 1
_KEY, _DATA, _EXPRESSION = 1, 2, 7
_EXPRESSION_DATA = 2
_OCTETS, _PACKETS = 1, 2
_NAME = TABLE.split()[1].encode() + b"\0"
_MAP = _NFGENMSG + attribute(_TABLE, _NAME) + attribute(_SET, b"up\0")


class SentReader:
    def __init__(self) -> None:
        self._netlink = Netlink(NETFILTER, "what guests sent")

    def open(self) -> None:
        self._netlink.open()

    def close(self) -> None:
        self._netlink.close()

    def table_is_there(self) -> bool:
        """`nft list tables` reads all elements of all tables for that (1.0.6): 0.2 s with 10,000 sessions."""
        return bool(self._netlink.ask(_GET_TABLE, netlink.ACK, _NFGENMSG + attribute(_TABLE, _NAME)))

    def one(self, ip: IPv4Address) -> Amount:
        """Nothing for who isn't there."""
        key = attribute(NESTED | _KEY, attribute(_VALUE, ip.packed))
        elements = attribute(NESTED | _ELEMENTS, attribute(NESTED | _ELEMENT, key))
        return next((amount for _, amount in self._ask(netlink.ACK, elements)), Amount())

    def all(self) -> dict[Counted, Amount]:
        return dict(self._ask(netlink.DUMP))

    def _ask(self, flags: int, elements: bytes = b"") -> Iterator[tuple[Counted, Amount]]:
        for kind, reply in self._netlink.ask(_GET_ELEMENTS, flags, _MAP + elements):
            if kind == _NEW_ELEMENTS:
                found = attributes(reply[len(_NFGENMSG) :])
                yield from (_element(element) for _, element in attribute_list(found.get(_ELEMENTS, b"")))


def _element(data: bytes) -> tuple[Counted, Amount]:
    """Those of a map that another version declared may count nothing."""
    parts = attributes(data)
    ip = IPv4Address(attributes(parts[_KEY])[_VALUE])
    class_id = struct.unpack_from("=I", attributes(parts[_DATA])[_VALUE])[0]
    counter = attributes(attributes(parts.get(_EXPRESSION, b"")).get(_EXPRESSION_DATA, b""))
    octets, packets = (int.from_bytes(counter.get(kind, b"")) for kind in (_OCTETS, _PACKETS))
    return (ip, class_id & 0xFFFF), Amount(octets, packets)
