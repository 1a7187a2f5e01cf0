"""Field by field against others: the package `netflow`, nfcapd on the same datagrams, softflowd's real export."""

import time
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collector.decode import Decoder
from tests.flows import bulk, oracle, peers
from tests.flows.encode import NPROBE_IPFIX, data_set, ipfix, template, template_set, v1
from tests.flows.through import EXPORT_MS, EXPORTER, address, feed


def all_flows(payloads: list[bytes], at: int) -> bulk.Flows:
    found = feed(Decoder(), *payloads, at=at).take()
    assert not found.refused
    return found.flows


@pytest.mark.parametrize("version", [5, 9, 10])
def test_generated_datagrams_as_netflow_reads_them(version: int) -> None:
    flows = bulk.some_flows(600)
    flows["src_as"], flows["tos"] = 64512, 8
    icmp = flows["dst_port"] == 0x0800  # which the oracle has in fields of its own
    for family in (4, 6):  # of one template at a time, so that both have them in the same order
        part = flows[(flows["family"] == family) & ~icmp]
        payloads = bulk.datagrams_of(part, version)
        found = all_flows(payloads, int(flows["last"][-1]))
        if version == 10:  # the oracle has 21 and 22 without 160 in mind
            found = found[[name for name in found.dtype.names or () if name not in ("first", "last")]]
        expected = [{k: v for k, v in row.items() if k in (found.dtype.names or ())} for row in oracle.read(payloads)]
        if version == 9:
            for row in expected:
                row.pop("first"), row.pop("last")  # whole seconds, where ours are smoothed
        assert oracle.differences(found, expected) == []
        assert (len(found) > 30) is (version != 5 or family == 4)


def test_v1_as_netflow_reads_it() -> None:
    records = [
        {
            "src4": f"10.0.0.{n}",
            "dst4": "192.0.2.1",
            "octets": 100 * n,
            "packets": n,
            "protocol": 17,
            "tos": n,
            "in_if": n,
        }
        | {"start_uptime": 9000 + n, "end_uptime": 9500, "src_port": n, "dst_port": 53, "tcp_flags": n}
        for n in range(1, 25)
    ]
    payload = v1(records, uptime_ms=10_000, export_ms=EXPORT_MS + 321)
    assert oracle.differences(all_flows([payload], EXPORT_MS), oracle.read([payload])) == []


# nfcapd

TELLS = {  # FLOW's column -> nfdump's name
    "packets": "in_packets",
    "bytes": "in_bytes",
    "protocol": "proto",
    "src_port": "src_port",
    "tos": "src_tos",
    "in_if": "input_snmp",
    "out_if": "output_snmp",
    "src_as": "src_as",
    "dst_as": "dst_as",
    "nat_src_port": "src_xlt_port",
    "nat_dst_port": "dst_xlt_port",
    "vlan": "src_vlan",
}
ADDRESSES = {
    "src": "src{}_addr",
    "dst": "dst{}_addr",
    "hop": "ip{}_next_hop",
    "nat_src": "src{}_xlt_ip",
    "nat_dst": "dst{}_xlt_ip",
}
MACS = {"src_mac": "in_src_mac", "dst_mac": "in_dst_mac"}
FLAGS = "CEUAPRSF"


def told(theirs: dict[str, Any]) -> dict[str, Any]:
    """Of nfdump's record what can be compared, by our names."""
    known: dict[str, Any] = {column: int(theirs[name]) for column, name in TELLS.items() if name in theirs}
    for column, pattern in ADDRESSES.items():
        for family in "46":
            if pattern.format(family) in theirs:
                known[column] = str(ip_address(theirs[pattern.format(family)]))
    known |= {column: int(theirs[name].replace(":", ""), 16) for column, name in MACS.items() if name in theirs}
    known["flags"] = sum(128 >> bit for bit, name in enumerate(FLAGS) if name in theirs["tcp_flags"])
    known |= {
        edge: round(datetime.fromisoformat(theirs[edge] + "+00:00").timestamp() * 1000) for edge in ("first", "last")
    }
    return known


def key(row: dict[str, Any]) -> list[str]:
    return [str(row[name]) for name in ("src", "dst", "src_port", "packets", "bytes")]


def pairs(payloads: list[bytes], folder: Path, at: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What nfdump tells and what ours tell of the same flow, for each."""
    folder.mkdir(exist_ok=True)
    theirs = sorted((told(record) for record in peers.nfdump(payloads, folder)), key=key)
    names = [*TELLS, *MACS, "flags", "first", "last"]
    mine = [
        {name: int(flow[name]) for name in names} | {name: address(flow, name) for name in ADDRESSES}
        for flow in all_flows(payloads, at)
    ]
    return list(zip(theirs, sorted(mine, key=key), strict=True))


def compared(payloads: list[bytes], folder: Path, at: int, without: tuple[str, ...] = ()) -> int:
    found = pairs(payloads, folder, at)
    for theirs, mine in found:
        for name in without:
            del theirs[name]
        assert {name: mine[name] for name in theirs} == theirs
    return len(found)


def recent(count: int) -> bulk.Flows:
    """nfcapd takes times as they are, the decoder none that are far from the receipt."""
    flows = bulk.some_flows(count, start_ms=int(time.time()) * 1000 - 600_000)
    flows = flows[np.isin(flows["protocol"], (6, 17))]
    flows["tos"], flows["flags"] = 40, np.arange(len(flows)) % 256
    return flows


def test_v5_as_nfcapd_reads_it(tmp_path: Path) -> None:
    flows = recent(400)
    flows["src_as"] = 64512
    assert compared(bulk.datagrams_of(flows, 5), tmp_path, int(flows["last"][-1])) > 300


def test_v9_as_nfcapd_reads_it(tmp_path: Path) -> None:
    """But for the times, of which nfcapd has the header's whole seconds, cut."""
    flows = recent(400)
    payloads, at = bulk.datagrams_of(flows, 9), int(flows["last"][-1])
    assert compared(payloads, tmp_path / "one", at, without=("first", "last")) > 300
    late = [
        mine[edge] - theirs[edge]
        for theirs, mine in pairs(payloads, tmp_path / "two", at)
        for edge in ("first", "last")
    ]
    assert min(late) >= 0 and max(late) < 1000


def test_ipfix_of_routeros_as_nfcapd_reads_it(tmp_path: Path) -> None:
    """But for the times: nfcapd 1.7.1 ends flows before they begin, when 22 comes ahead of 21."""
    flows = recent(400)
    payloads, at = bulk.datagrams_of(flows, 10), int(flows["last"][-1])
    assert compared(payloads, tmp_path, at, without=("first", "last")) > 300


def test_ipfix_with_variable_fields_and_times_as_nfcapd_reads_it(tmp_path: Path) -> None:
    now_s = int(time.time())
    t = template(
        300, "src4 dst4 hop4 flow_start_ms flow_end_ms octets packets:8 src_port dst_port protocol tcp_flags:1 tos"
    )
    records = [
        {"src4": f"10.0.{n}.1", "dst4": "192.0.2.1", "hop4": "10.0.0.254", "octets": 10**9 * n, "packets": 10**6 * n}
        | {"flow_start_ms": now_s * 1000 - 60_000 - n, "flow_end_ms": now_s * 1000 - n, "src_port": n, "dst_port": 443}
        | {"protocol": 6, "tcp_flags": n, "tos": n}
        for n in range(1, 20)
    ]
    payload = ipfix(template_set(10, t), data_set(t, records), export_s=now_s)
    assert compared([payload], tmp_path, now_s * 1000) == 19


# softflowd

PACKETS = 40


def captured(now_ms: int) -> bytes:
    """Forty packets of four conversations over IPv4, each with a way back, and one of TCP over IPv6."""
    packets = []
    for n in range(PACKETS):
        client, at = f"10.0.0.{n % 4 + 1}", now_ms - 60_000 + 250 * n
        packets.append((at, peers.udp4(client, "192.0.2.53", 4000 + n % 4, 53, 30)))
        packets.append((at + 20, peers.udp4("192.0.2.53", client, 53, 4000 + n % 4, 100)))
    packets += [(now_ms - 50_000, peers.tcp6("2001:db8::1", "2001:db8::2", 5000, 443, flags)) for flags in (2, 16, 17)]
    return peers.pcap(packets)


@pytest.mark.parametrize("version", [1, 5, 9, 10])
def test_softflowd_end_to_end(version: int, tmp_path: Path) -> None:
    now_ms = int(time.time()) * 1000
    (tmp_path / "packets").write_bytes(captured(now_ms))
    found = feed(Decoder(), *peers.softflowd(tmp_path / "packets", version), at=now_ms).take()
    assert not found.refused and not found.losses
    flows = found.flows[found.flows["family"] == 4]
    assert len(flows) == 8
    for flow in flows:
        client_first = flow["dst_port"] == 53
        port = int(flow["src_port" if client_first else "dst_port"])
        addresses = [f"10.0.0.{port - 3999}", "192.0.2.53"]
        assert [address(flow, "src"), address(flow, "dst")] == (addresses if client_first else addresses[::-1])
        assert (flow["packets"], flow["bytes"], flow["protocol"]) == (10, 580 if client_first else 1280, 17)
        assert (flow["marks"], flow["exporter"], flow["last"] - flow["first"]) == (0, EXPORTER, 9020)
    if version < 9:
        return
    six = found.flows[found.flows["family"] == 6]
    assert {(address(flow, "src"), address(flow, "dst"), int(flow["dst_port"])) for flow in six} == {
        ("2001:db8::1", "2001:db8::2", 443)
    }
    assert six["packets"].sum() == 3 and six["flags"].max() == 0x13


def test_variable_fields_do_not_disturb_those_around(tmp_path: Path) -> None:
    record = {
        "src4": "10.0.0.1",
        "dst4": "192.0.2.1",
        "17/35632": b"DNS",
        "application": b"dns.example",
        "dst_port": 53,
    }
    times = {"flow_start_ms": EXPORT_MS - 5, "flow_end_ms": EXPORT_MS, "octets": 9, "packets": 1, "reverse/packets": 2}
    payload = ipfix(
        template_set(10, NPROBE_IPFIX), data_set(NPROBE_IPFIX, [{**record, **times}] * 3), export_s=EXPORT_MS // 1000
    )
    flows = all_flows([payload], EXPORT_MS)
    assert flows["dst_port"].tolist() == [53] * 3 + [0] * 3 and flows["packets"].tolist() == [1] * 3 + [2] * 3
