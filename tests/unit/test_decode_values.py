"""What fields mean: counters, ICMP, NAT, sampling, both ways in a record, and routers' own ideas of them."""

from collections.abc import Sequence

import pytest

from collector.decode import Decoder
from collector.decoding.batch import WRONG_ORDER
from collector.flows import MARK_REVERSE, MARK_SUSPECT
from tests.flows import encode
from tests.flows.encode import Record, data_set, ipfix, template, template_set, v1, v5, v9
from tests.flows.through import EXPORT_MS, EXPORT_S, address, decoded, feed, only

BOTH = {"src4": "10.0.0.1", "dst4": "192.0.2.9", "src_port": 5000, "dst_port": 443}
TIMES = {"flow_start_ms": EXPORT_MS - 5000, "flow_end_ms": EXPORT_MS - 1000}


def message(words: str, *records: Record, version: int = 10) -> bytes:
    t = template(300, f"src4 dst4 src_port dst_port {words}")
    sets = template_set(version, t), data_set(t, [{**BOTH, **values} for values in records])
    if version == 10:
        return ipfix(*sets, export_s=EXPORT_S)
    return v9(*sets, count=1 + len(records), uptime_ms=10**6, export_s=EXPORT_S)


FIXED = {
    **BOTH,
    "hop4": "10.9.9.9",
    "in_if": 2,
    "out_if": 7,
    "packets": 4,
    "octets": 2**32 - 1,
    "start_uptime": 995_000,
    "end_uptime": 999_000,
    "tcp_flags": 0x1B,
    "protocol": 6,
    "tos": 184,
    "src_as": 64512,
    "dst_as": 13335,
}


def test_v5_and_v1_field_by_field() -> None:
    new = only(decoded(v5([FIXED], uptime_ms=10**6, export_ms=EXPORT_MS + 321, engine=0x0105)))
    old = only(decoded(v1([FIXED], uptime_ms=10**6, export_ms=EXPORT_MS + 321)))
    older = only(decoded(v1([FIXED], uptime_ms=10**6, export_ms=EXPORT_MS + 321) + bytes(4)))
    for flow in (new, old, older):
        assert [address(flow, name) for name in ("src", "dst", "hop")] == ["10.0.0.1", "192.0.2.9", "10.9.9.9"]
        names = ("src_port", "dst_port", "in_if", "out_if", "packets", "flags", "protocol", "tos", "family")
        assert [int(flow[name]) for name in names] == [5000, 443, 2, 7, 4, 0x1B, 6, 184, 4]
        assert (flow["first"], flow["last"]) == (EXPORT_MS + 321 - 5000, EXPORT_MS + 321 - 1000)
        assert flow["marks"] == MARK_SUSPECT and flow["bytes"] == 2**32 - 1  # four packets don't carry 4 GB
    for ns, ms in ((999_999_999, 999), (1_000_000_000, 0)):  # more than a second's is no part of one
        payload = bytearray(v5([FIXED], uptime_ms=10**6, export_ms=EXPORT_MS))
        payload[12:16] = ns.to_bytes(4, "big")
        assert only(decoded(bytes(payload)))["last"] == EXPORT_MS + ms - 1000
    assert (new["src_as"], new["dst_as"], new["domain"]) == (64512, 13335, 0x0105)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("octets packets", {"octets": 500, "packets": 5}),
        ("octets_total packets_total", {"octets_total": 500, "packets_total": 5}),
        ("post_octets post_packets", {"post_octets": 500, "post_packets": 5}),
        ("initiator_octets initiator_packets", {"initiator_octets": 500, "initiator_packets": 5}),
        ("octets packets post_octets post_packets", {"post_octets": 500, "post_packets": 5}),
        ("post_octets octets post_packets packets", {"octets": 500, "packets": 5, "post_octets": 9, "post_packets": 9}),
    ],
)
def test_counters_in_each_of_their_elements(words: str, values: Record) -> None:
    flow = only(decoded(message(words, values)))
    assert (flow["bytes"], flow["packets"]) == (500, 5)


@pytest.mark.parametrize(
    ("words", "values", "expected"),
    [
        ("protocol icmp4", {"protocol": 1, "icmp4": 0x0301}, 0x0301),
        ("protocol icmp4_type icmp4_code", {"protocol": 1, "icmp4_type": 11, "icmp4_code": 1}, 0x0B01),
        ("icmp6 protocol", {"protocol": 58, "icmp6": 0x8700}, 0x8700),
        ("icmp6_type icmp6_code protocol", {"protocol": 58, "icmp6_type": 129, "icmp6_code": 0}, 0x8100),
        ("icmp4 protocol", {"protocol": 6, "icmp4": 0x0301}, 443),  # of what isn't ICMP it means nothing
        ("icmp4 protocol", {"protocol": 1, "icmp4": 0}, 443),  # some have it in the port only
    ],
)
def test_icmp_types_stand_where_the_port_is(words: str, values: Record, expected: int) -> None:
    assert only(decoded(message(words, values)))["dst_port"] == expected


def test_macs_vlan_direction_and_interfaces() -> None:
    words = "src_mac post_dst_mac vlan direction in_if:2 out_if hop4 src_as dst_as tos tcp_flags"
    values = {
        "src_mac": "02:00:00:0a:0b:0c",
        "post_dst_mac": "fe:dc:ba:98:76:54",
        "vlan": 101,
        "in_if": 9,
        "out_if": 2**31,
    }
    rest = {"hop4": "10.0.0.254", "src_as": 2**32 - 1, "dst_as": 65000, "tos": 8, "tcp_flags": 2}
    found = decoded(message(words, *({**values, **rest, "direction": way} for way in (0, 1, 255)))).flows
    assert found["src_mac"].tolist() == [0x0200000A0B0C] * 3
    assert found["dst_mac"].tolist() == [0xFEDCBA987654] * 3
    assert found["direction"].tolist() == [1, 2, 0]
    names = ("vlan", "in_if", "out_if", "src_as", "dst_as", "tos", "flags", "hop_lo")
    assert [int(found[0][name]) for name in names] == [101, 9, 2**31, 2**32 - 1, 65000, 8, 2, 0x0A0000FE]


def test_macs_of_the_other_side_and_a_vlan_by_its_new_number() -> None:
    flow = only(decoded(message("src_mac post_src_mac dst_mac dot1q", {"post_src_mac": b"\1\2\3\4\5\6", "dot1q": 7})))
    assert (flow["src_mac"], flow["dst_mac"], flow["vlan"]) == (0x010203040506, 0, 7)


def test_addresses_and_ports_after_nat() -> None:
    nat = {"nat_src4": "198.51.100.7", "nat_dst4": "192.0.2.9", "nat_src_port": 61000, "nat_dst_port": 443}
    flow = only(decoded(message("nat_src4 nat_dst4 nat_src_port nat_dst_port", nat)))
    assert (address(flow, "nat_src"), address(flow, "nat_dst")) == ("198.51.100.7", "192.0.2.9")
    assert (flow["nat_src_port"], flow["nat_dst_port"], flow["nat_event"]) == (61000, 443, 0)


def test_nat_events() -> None:
    """Without counters; 4 and 5 are IPFIX's NAT44 session created and deleted."""
    t = encode.NAT_EVENT
    event = {**BOTH, "event_ms": EXPORT_MS - 3, "protocol": 17, "nat_src4": "198.51.100.7", "nat_src_port": 1024}
    sets = template_set(10, t), data_set(t, [{**event, "nat_event": 4}, {**event, "nat_event": 5}])
    found = decoded(ipfix(*sets, export_s=EXPORT_S)).flows
    assert found["nat_event"].tolist() == [4, 5]
    assert found["last"].tolist() == [EXPORT_MS - 3] * 2 and not found["marks"].any()
    assert (address(found[0], "nat_src"), found[0]["nat_src_port"], found[0]["packets"]) == ("198.51.100.7", 1024, 0)


# Both ways in one record


def test_a_biflow_becomes_two() -> None:
    words = (
        "protocol octets packets tcp_flags in_if out_if flow_start_ms flow_end_ms nat_src4 nat_src_port hop4 src_as "
    )
    words += "reverse/octets:4 reverse/packets:4 reverse/tcp_flags reverse/flow_start_ms reverse/tos"
    values = {
        **TIMES,
        "protocol": 6,
        "octets": 600,
        "packets": 6,
        "tcp_flags": 2,
        "in_if": 1,
        "out_if": 3,
        "src_as": 64512,
    }
    back = {"reverse/octets": 9000, "reverse/packets": 7, "reverse/tcp_flags": 18, "hop4": "10.0.0.254"}
    back |= {"reverse/flow_start_ms": EXPORT_MS - 4990, "nat_src4": "198.51.100.7", "nat_src_port": 61000}
    forth, reverse = decoded(message(words, {**values, **back})).flows
    assert (forth["bytes"], forth["flags"], forth["marks"], forth["first"]) == (600, 2, 0, EXPORT_MS - 5000)
    assert (address(reverse, "src"), address(reverse, "dst")) == ("192.0.2.9", "10.0.0.1")
    names = ("src_port", "dst_port", "bytes", "packets", "flags", "in_if", "out_if", "src_as", "dst_as", "hop_lo")
    assert [int(reverse[name]) for name in names] == [443, 5000, 9000, 7, 18, 3, 1, 0, 64512, 0]
    assert (reverse["first"], reverse["last"]) == (EXPORT_MS - 4990, EXPORT_MS - 1000)
    assert (address(reverse, "nat_dst"), reverse["nat_dst_port"]) == ("198.51.100.7", 61000)
    assert reverse["marks"] == MARK_REVERSE


def test_a_biflow_without_a_way_back_is_one() -> None:
    assert (
        only(decoded(message("octets reverse/octets packets reverse/packets", {"octets": 60, "packets": 1})))["bytes"]
        == 60
    )


def test_the_way_back_in_ciscos_manner() -> None:
    words = "protocol initiator_octets responder_octets icmp4_type icmp4_code"
    values = {"protocol": 1, "initiator_octets": 60, "responder_octets": 61, "icmp4_type": 8, "src_port": 0}
    forth, reverse = decoded(message(words, values, version=9)).flows
    assert (forth["bytes"], reverse["bytes"], forth["packets"], reverse["packets"]) == (60, 61, 0, 0)
    assert (forth["dst_port"], reverse["dst_port"], reverse["src_port"]) == (0x0800, 0x0800, 0)


# Sampling


def sampled(words: str, values: Record, version: int = 10) -> int:
    return int(only(decoded(message(words, values, version=version)))["sampling"])


def test_sampling_in_the_records() -> None:
    assert sampled("sampling_interval", {"sampling_interval": 1000}) == 1000
    assert sampled("sampler_interval", {"sampler_interval": 512}, 9) == 512
    assert sampled("sample_interval sample_space", {"sample_interval": 1, "sample_space": 499}) == 500
    assert sampled("sample_interval sample_space", {"sample_interval": 2222, "sample_space": 1111}) == 1
    assert sampled("sample_interval sample_space", {}) == 0


@pytest.mark.parametrize("rate", [1, 10, 256, 1000, 2222, 65535])
def test_sampling_of_routeros_in_the_wrong_byte_order(rate: int) -> None:
    """fastnetmon#985, akvorado#417: on x86 and ARM the rate in v9's records comes with its lowest octet first."""
    backwards = rate.to_bytes(4, "little")
    assert sampled("sampling_interval", {"sampling_interval": backwards}, 9) == rate
    if rate <= 2**16:
        assert sampled("sampling_interval", {"sampling_interval": rate}, 9) == rate


def test_a_wrong_byte_order_is_told() -> None:
    payload = message("sampling_interval", {"sampling_interval": 100}, {"sampling_interval": b"\x64"}, version=9)
    found = decoded(payload)
    assert found.notes[7, WRONG_ORDER] == 1 and found.flows["sampling"].tolist() == [100, 100]
    assert not decoded(message("sampler_interval", {"sampler_interval": 2**24})).notes


def test_sampling_in_v5_whose_top_bits_are_the_mode() -> None:
    rates = [0x4000 | 100, 0x8000 | 0x3FFF, 0x0000, 100]  # without a mode there is no sampling
    found = [only(decoded(v5([FIXED], uptime_ms=10**6, export_ms=EXPORT_MS, sampling=word))) for word in rates]
    assert [int(flow["sampling"]) for flow in found] == [100, 0x3FFF, 0, 0]


def with_options(
    options: encode.Template, told: Sequence[Record], words: str, *records: Record, version: int = 9
) -> list[int]:
    t = template(300, f"src4 dst4 {words}")
    body = data_set(t, [{**BOTH, **values} for values in records])
    sets = template_set(version, options), data_set(options, told), template_set(version, t), body
    nine = v9(*sets, count=9, uptime_ms=10**6, export_s=EXPORT_S)
    payload = nine if version == 9 else ipfix(*sets, export_s=EXPORT_S)
    return [int(rate) for rate in decoded(payload).flows["sampling"]]


def test_sampling_in_options() -> None:
    rate = [{"sampling_interval": 200, "sampling_algorithm": 2}]
    assert with_options(encode.SAMPLING_OPTIONS_V9, rate, "octets", {"octets": 1}) == [200]
    assert with_options(encode.SAMPLING_OPTIONS_V9, [{"sampling_interval": 65536}], "octets", {}) == [65536]
    little = [{"sampling_interval": (200).to_bytes(4, "little")}]
    assert with_options(encode.SAMPLING_OPTIONS_V9, little, "octets", {"octets": 1}) == [200]


def test_sampling_by_the_records_sampler() -> None:
    told = [{"sampler_id": 1, "sampler_mode": 2, "sampler_interval": 100}, {"sampler_id": 2, "sampler_interval": 400}]
    records = ({"sampler_id": 2}, {"sampler_id": 1}, {"sampler_id": 3})
    assert with_options(encode.SAMPLER_OPTIONS_V9, told, "sampler_id", *records) == [400, 100, 0]
    told = [{"selector_id": 2**40 + n, "sample_interval": 10, "sample_space": 10 * n - 10} for n in (5, 7)]
    selected = ({"selector_id": 2**40 + 7}, {"selector_id": 2**40 + 5})
    assert with_options(encode.SELECTOR_OPTIONS, told, "selector_id", *selected, version=10) == [7, 5]


def test_the_only_sampler_is_everyones() -> None:
    told = [{"sampler_id": 1, "sampler_interval": 100}]
    assert with_options(encode.SAMPLER_OPTIONS_V9, told, "octets", {}) == [100]
    two = [*told, {"sampler_id": 2, "sampler_interval": 400}]
    assert with_options(encode.SAMPLER_OPTIONS_V9, two, "octets", {}) == [0]


def test_interfaces_names_from_options() -> None:
    options = template(301, "2:4 interface_name:16", scopes=1)  # v9's scope 2 is an interface
    told = data_set(options, [{"2": 5, "interface_name": b"ether5"}, {"2": 6, "interface_name": b"\xff\xfe"}])
    found = decoded(v9(template_set(9, options), told, count=3, uptime_ms=1, export_s=EXPORT_S))
    assert found.interfaces[7] == {5: "ether5", 6: "\ufffd\ufffd"}
    options = template(301, "in_if 83:var", scopes=1)
    told = data_set(options, [{"in_if": 5, "83": b"uplink"}])
    assert decoded(ipfix(template_set(10, options), told, export_s=EXPORT_S)).interfaces[7] == {5: "uplink"}


# What can't be


@pytest.mark.parametrize(
    ("packets", "octets", "seconds", "sampling", "suspect"),
    [
        (3, 900, 1, 0, False),
        (1, 65535, 0, 0, False),
        (1, 65536, 0, 0, True),  # an IP packet has 65,535 octets at most
        (0, 100, 0, 0, True),
        (1_472_913, 2_007_342_028, 30, 0, False),  # 535 Mbit/s may be,
        (1_472_913, 2_007_342_028, 30, 1001, True),  # but not a thousand times that: RouterOS 7.12, fastnetmon#1000
        (1_472_913, 2_007_342_028, 0, 0, True),
        (2**31, 2**31 * 60, 4, 0, True),
    ],
)
def test_impossible_counters_are_marked(packets: int, octets: int, seconds: int, sampling: int, suspect: bool) -> None:
    values = {"packets": packets, "octets": octets, "sampling_interval": sampling}
    times = {"flow_start_ms": EXPORT_MS - 1000 * seconds, "flow_end_ms": EXPORT_MS}
    words = "packets octets sampling_interval flow_start_ms flow_end_ms"
    found = decoded(message(words, {**values, **times}))
    flow = only(found)
    assert (flow["bytes"], flow["packets"]) == (octets, packets)  # kept as they came
    assert bool(flow["marks"] & MARK_SUSPECT) is suspect
    assert found.exporters[7].suspect == suspect


def test_octets_without_packets_are_no_contradiction() -> None:
    assert only(decoded(message("octets", {"octets": 10**9})))["marks"] & MARK_SUSPECT == 0


def test_what_the_batch_tells_of_an_exporter() -> None:
    found = feed(Decoder(), message("octets", {}, {}), at=EXPORT_MS + 1500).take()
    facts = found.exporters[7]
    assert (facts.flows, facts.timeless, facts.suspect, facts.skew_ms, facts.versions) == (2, 2, 0, 1500, (10,))
