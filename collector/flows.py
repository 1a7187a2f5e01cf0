"""What a flow is here: one record as a router exported it, in arrays of one dtype."""

from typing import NamedTuple

import numpy as np


class Column(NamedTuple):
    """`dtype` is numpy's; 0 means that the exporter hasn't told, where 0 isn't itself a value."""

    name: str
    dtype: str
    title: str


# An address is 128 bits in two columns, IPv4 in the lowest 32 of them; `family` (4 or 6) tells which it is.
COLUMNS = (
    Column("first", "<i8", "first packet, ms since 1970 (UTC)"),
    Column("last", "<i8", "last packet, ms since 1970 (UTC)"),
    Column("received", "<i8", "when the datagram came, ms since 1970 (UTC), by this machine's clock"),
    Column("exporter", "<u4", "the router's number in the catalogue"),
    Column("domain", "<u4", "observation domain, source id or engine"),
    Column("family", "u1", "4 or 6"),
    Column("protocol", "u1", "IP protocol"),
    Column("flags", "u1", "TCP flags seen"),
    Column("tos", "u1", "type of service"),
    Column("direction", "u1", "0 unknown, 1 ingress, 2 egress"),
    Column("src_hi", "<u8", "source address"),
    Column("src_lo", "<u8", "source address"),
    Column("dst_hi", "<u8", "destination address"),
    Column("dst_lo", "<u8", "destination address"),
    Column("src_port", "<u2", "source port"),
    Column("dst_port", "<u2", "destination port; of ICMP type * 256 + code"),
    Column("packets", "<u8", "packets, as exported"),
    Column("bytes", "<u8", "octets, as exported"),
    Column("in_if", "<u4", "interface it came in by"),
    Column("out_if", "<u4", "interface it went out by"),
    Column("src_as", "<u4", "source's AS"),
    Column("dst_as", "<u4", "destination's AS"),
    Column("vlan", "<u2", "VLAN"),
    Column("src_mac", "<u8", "source's MAC address"),
    Column("dst_mac", "<u8", "destination's MAC address"),
    Column("hop_hi", "<u8", "next hop"),
    Column("hop_lo", "<u8", "next hop"),
    Column("nat_src_hi", "<u8", "source address after NAT"),
    Column("nat_src_lo", "<u8", "source address after NAT"),
    Column("nat_dst_hi", "<u8", "destination address after NAT"),
    Column("nat_dst_lo", "<u8", "destination address after NAT"),
    Column("nat_src_port", "<u2", "source port after NAT"),
    Column("nat_dst_port", "<u2", "destination port after NAT"),
    Column("nat_event", "u1", "IPFIX natEvent: 1 created, 2 deleted; 0 for a flow with counters"),
    Column("sampling", "<u4", "one packet in so many was looked at; 0 or 1: each"),
    Column("marks", "u1", "MARK_ bits: what about this record is not as the router told it"),
)

FLOW = np.dtype([(column.name, column.dtype) for column in COLUMNS])

MARK_TIME = 1  # without an absolute time, so that `first` and `last` are of the time of receipt
MARK_SUSPECT = 2  # impossible counters or times: kept and shown, in no sum
MARK_REVERSE = 4  # the way back of a biflow record (RFC 5103), made into a record of its own
