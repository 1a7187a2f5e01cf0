"""Datagrams of real routers, recorded by others: what each means, MikroTik's read off their octets by hand."""

import os
import struct
from pathlib import Path

import pytest

from collector.decode import Decoder
from collector.decoding.batch import Decoded
from collector.flows import MARK_TIME
from tests.flows import oracle
from tests.flows.through import EXPORTER, address

FOLDER = Path(os.environ.get("GATEHOUSE_RECORDINGS", Path(__file__).parents[2] / "../shared/data/netflow"))
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the recordings of routers aren't here")

# data -> its templates, how many flows, and why the oracle can't read it ("" when it can)
FILES: dict[str, tuple[str, int, str]] = {
    "ipfix_test_juniper_mx240_junos151r6s3_data512": ("ipfix_test_juniper_mx240_junos151r6s3_opttpl512", 0, "options"),
    "ipfix_test_mikrotik_data258": ("ipfix_test_mikrotik_tpl", 28, ""),
    "ipfix_test_mikrotik_data259": ("ipfix_test_mikrotik_tpl", 18, "its padding is more than the oracle takes"),
    "ipfix_test_nokia_bras_data256": ("ipfix_test_nokia_bras_tpl", 1, "its padding is more than the oracle takes"),
    "ipfix_test_openbsd_pflow_data": ("ipfix_test_openbsd_pflow_tpl", 26, ""),
    "netflow5": ("", 2, "has octets behind its records"),
    "netflow5_test_juniper_mx80": ("", 29, ""),
    "netflow5_test_microtik": ("", 30, ""),
    "netflow9_test_0length_fields_tpl_data": ("", 10, "counts in OUT_BYTES, see below"),
    "netflow9_test_cisco_asr9k_data256": ("netflow9_test_cisco_asr9k_opttpl256", 0, "options"),
    "netflow9_test_cisco_asr9k_data260": ("netflow9_test_cisco_asr9k_tpl260", 21, ""),
    "netflow9_test_invalid01": ("", 2, "its options end in the middle of a record"),
    "netflow9_test_iptnetflow_reduced_size_encoding_tpldata260": ("", 12, "has data of templates that aren't there"),
    "netflow9_test_macaddr_data": ("netflow9_test_macaddr_tpl", 29, ""),
    "netflow9_test_softflowd_tpl_data": ("", 7, ""),
    "netflow9_test_ubnt_edgerouter_data1024": ("netflow9_test_ubnt_edgerouter_tpl", 8, ""),
    "netflow9_test_ubnt_edgerouter_data1025": ("netflow9_test_ubnt_edgerouter_tpl", 8, ""),
    "netflow9_test_valid01": ("", 7, ""),
}
REFUSED = {"netflow5_test_invalid01": "count", "netflow5_test_invalid02": "count"}


def recorded(name: str) -> bytes:
    return (FOLDER / f"{name}.dat").read_bytes()


def payloads(name: str) -> list[bytes]:
    template = FILES[name][0]
    return [recorded(file) for file in (template, name) if file]


def exported_ms(payload: bytes) -> int:
    (seconds,) = struct.unpack_from(">I", payload, 4 if payload[1] == 10 else 8)
    return int(seconds * 1000)


def decoded(name: str) -> Decoded:
    decoder = Decoder()
    for payload in payloads(name):
        decoder.feed(EXPORTER, [(exported_ms(payload), "192.0.2.1", payload)])
    return decoder.take()


def test_all_recordings_are_looked_at() -> None:
    known = {*FILES, *REFUSED, *(template for template, _, _ in FILES.values() if template)}
    assert {path.stem for path in FOLDER.glob("*.dat")} <= known


@pytest.mark.parametrize("name", FILES)
def test_each_holds_so_many_flows(name: str) -> None:
    found = decoded(name)
    assert len(found.flows) == FILES[name][1]
    assert not found.refused


@pytest.mark.parametrize("name", [name for name, (_, _, obstacle) in FILES.items() if not obstacle])
def test_each_is_read_as_others_read_it(name: str) -> None:
    assert oracle.differences(decoded(name).flows, oracle.read(payloads(name))) == []


@pytest.mark.parametrize("name", REFUSED)
def test_some_are_refused_for_a_reason(name: str) -> None:
    """Their headers tell of more records than there are octets."""
    decoder = Decoder()
    decoder.feed(EXPORTER, [(0, "192.0.2.1", recorded(name))])
    assert dict(decoder.take().refused) == {(EXPORTER, REFUSED[name]): 1}


def test_mikrotik_ipfix_by_hand() -> None:
    """RouterOS 6.39.2. The first record of the set:

    04 9ef40cba 9ef40cba 00000002 00000098 007b 007b 0000000d 00000007 11 00 0a0a08c5 c0a88011 c0a8e001
    IP start    end      packets  octets   ports     in       out     UDP flags source dest.   next hop
    c0a8e6d8 c0a88011, which are the addresses after NAT
    """
    flows = decoded("ipfix_test_mikrotik_data258").flows
    flow = flows[0]
    names = ("family", "packets", "bytes", "src_port", "dst_port", "in_if", "out_if", "protocol", "flags")
    assert [int(flow[name]) for name in names] == [4, 2, 152, 123, 123, 13, 7, 17, 0]
    assert [address(flow, name) for name in ("src", "dst", "hop", "nat_src", "nat_dst")] == [
        *("10.10.8.197", "192.168.128.17", "192.168.224.1", "192.168.230.216", "192.168.128.17")
    ]
    # Without the time of boot (160) the uptimes tell only durations: at the export, whose header has 596f8640
    assert (flow["first"], flow["last"], flow["marks"]) == (0x596F8640 * 1000, 0x596F8640 * 1000, MARK_TIME)
    # A forwarded port: c0a8238f asks c0a8e6d8:82 (0052) and is led to 0a0a060b; flags 02 are SYN
    flow = flows[1]
    assert [int(flow[name]) for name in names] == [4, 8, 0x1F6, 0xB5B6, 82, 7, 11, 6, 2]
    assert [address(flow, name) for name in ("src", "dst", "nat_dst")] == [
        *("192.168.35.143", "192.168.230.216", "10.10.6.11")
    ]
    # 9ef4090e to 9ef40d3c are 0x42e = 1070 ms
    assert flows[4]["last"] - flows[4]["first"] == 1070
    assert (flows["nat_src_port"] == 0).all()  # it tells the addresses after NAT (225, 226), but not the ports


def test_mikrotik_ipfix_of_ipv6_by_hand() -> None:
    """06 9ef412dc 9ef412dc 00000003 0000022b 162e 162e 00000000 00000009 11 00 fe80…0401 fe80…0401 ff02…0001"""
    flow = decoded("ipfix_test_mikrotik_data259").flows[0]
    names = ("family", "packets", "bytes", "src_port", "dst_port", "in_if", "out_if", "protocol")
    assert [int(flow[name]) for name in names] == [6, 3, 0x22B, 0x162E, 5678, 0, 9, 17]
    assert [address(flow, name) for name in ("src", "dst", "hop")] == [
        "fe80::ff:fe00:401",
        "fe80::ff:fe00:401",
        "ff02::1",
    ]


def test_mikrotik_v5_by_hand() -> None:
    """Header: up 01a18168 ms, at 5790d37d s and 1eb13d20 ns. The first record:

    0a000d01 c0a80062 c0a80062 000d 0032 00000002 00000068 01a1455e 01a1455e 146c cdfe 00 10 06 00 0000 0000
    source   dest.    next hop in   out  packets  octets   first    last     ports     flags, TCP, ToS, AS
    """
    flow = decoded("netflow5_test_microtik").flows[0]
    names = ("packets", "bytes", "src_port", "dst_port", "in_if", "out_if", "protocol", "flags", "src_as", "dst_as")
    assert [int(flow[name]) for name in names] == [2, 104, 5228, 52734, 13, 50, 6, 0x10, 0, 0]
    assert [address(flow, name) for name in ("src", "dst", "hop")] == ["10.0.13.1", "192.168.0.98", "192.168.0.98"]
    exported = 0x5790D37D * 1000 + 0x1EB13D20 // 10**6
    assert flow["first"] == flow["last"] == exported - (0x01A18168 - 0x01A1455E) == 1_469_109_102_144
    assert flow["marks"] == 0


def test_interfaces_of_a_cisco_by_their_names() -> None:
    names = decoded("netflow9_test_cisco_asr9k_data256").interfaces[EXPORTER]
    assert names[0x4A] == "TenGigE0_0_1_0" and len(names) > 10


def test_counters_of_the_way_out() -> None:
    """Two records of a flow each, and octets in the way that direction (61) names: in OUT_BYTES, IN_BYTES being 0."""
    flows = decoded("netflow9_test_0length_fields_tpl_data").flows
    assert [(int(flow["direction"]), int(flow["bytes"])) for flow in flows[:4]] == [(2, 0), (2, 32), (1, 0), (1, 32)]


def test_sampling_in_options_of_a_recording() -> None:
    assert decoded("netflow9_test_invalid01").flows["sampling"].tolist() == [100, 100]


def test_nat_of_a_nokia_bras() -> None:
    """A session begun, without counters: 0a0001e4:16f6 to 0a000022:0050, at 0000016053e85c7c ms."""
    (flow,) = decoded("ipfix_test_nokia_bras_data256").flows
    assert (address(flow, "src"), flow["src_port"]) == ("10.0.1.228", 0x16F6)
    assert (address(flow, "dst"), flow["dst_port"], flow["protocol"]) == ("10.0.0.34", 80, 6)
    assert flow["first"] == 0x16053E85C7C and flow["packets"] == 0
