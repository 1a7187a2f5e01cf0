"""Templates and sets: every shape they come in, late, replaced, cut, padded, too many."""

import struct

import pytest

from collector.decode import Decoder, Loss, State
from collector.decoding import state
from tests.flows import encode
from tests.flows.encode import Field, Template, a_set, data_set, ipfix, template, template_set, v9
from tests.flows.through import EXPORT_MS, EXPORT_S, EXPORTER, address, decoded, feed, only

PLAIN = template(300, "src4 dst4 src_port dst_port octets:4 packets:4 flow_start_ms flow_end_ms")
FLOW = {
    "src4": "10.0.0.1",
    "dst4": "192.0.2.9",
    "src_port": 5000,
    "dst_port": 25,
    "octets": 900,
    "packets": 3,
    "flow_start_ms": EXPORT_MS - 9,
    "flow_end_ms": EXPORT_MS - 2,
}


def message(*sets: bytes, sequence: int = 0, domain: int = 0) -> bytes:
    return ipfix(*sets, export_s=EXPORT_S, sequence=sequence, domain=domain)


def old(*sets: bytes, count: int = 1, sequence: int = 0, uptime_ms: int = 10**6, domain: int = 0) -> bytes:
    return v9(*sets, count=count, uptime_ms=uptime_ms, export_s=EXPORT_S, sequence=sequence, domain=domain)


DATA = data_set(PLAIN, [FLOW])
TEMPLATE = template_set(10, PLAIN)


def test_enterprise_and_unknown_fields_are_skipped_by_their_length() -> None:
    t = template(300, "src4 1/637:13 999:7 8/14988:4 dst4 1:8 32767/29305:2 packets")
    flow = only(decoded(message(template_set(10, t), data_set(t, [{**FLOW, "8/14988": "9.9.9.9", "1": 77}]))))
    assert address(flow, "src") == "10.0.0.1" and address(flow, "dst") == "192.0.2.9"
    assert (flow["bytes"], flow["packets"]) == (77, 3)


def test_v9_has_no_enterprises() -> None:
    """A number beyond 32767 is a vendor's own, and no enterprise follows it."""
    body = struct.pack(">HH", 300, 3) + struct.pack(">HHHHHH", 8, 4, 0x8001, 4, 12, 4)
    found = decoded(old(a_set(0, body), a_set(300, bytes([10, 0, 0, 1, 1, 2, 3, 4, 192, 0, 2, 9]))))
    assert address(only(found), "dst") == "192.0.2.9"


def test_variable_fields_short_and_long_among_others() -> None:
    t = template(300, "src4 application:var dst4 17/35632:var octets:4 interface_name:var")
    names = [b"", b"dns", b"x" * 254, b"y" * 255, b"z" * 3000]
    records = [{**FLOW, "octets": n, "application": a, "17/35632": a[::-1]} for n, a in enumerate(names)]
    found = decoded(message(template_set(10, t), data_set(t, records, padding=3)))
    assert found.flows["bytes"].tolist() == [0, 1, 2, 3, 4]
    assert {address(flow, "dst") for flow in found.flows} == {"192.0.2.9"}
    assert not found.refused


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_variable_field_that_runs_out_of_its_set_takes_only_its_record_along(cut: int) -> None:
    t = template(300, "src4 application:var dst4")
    record = encode.record(t, {**FLOW, "application": b"n" * 20})
    found = decoded(message(template_set(10, t), a_set(300, record + record[:-cut])))
    assert len(found.flows) == 1


def test_reduced_sizes() -> None:
    """RFC 7011 6.2: a number in fewer octets than it has."""
    t = template(300, "src4 dst4 octets:3 packets:5 src_port:1 dst_port in_if:1 out_if:3 src_as:2 tcp_flags:2 vlan:1")
    values = {"octets": 0x010203, "packets": 2**39 + 1, "src_port": 53, "in_if": 3, "out_if": 70_000, "vlan": 9}
    flow = only(
        decoded(message(template_set(10, t), data_set(t, [{**FLOW, **values, "src_as": 64512, "tcp_flags": 0x112}])))
    )
    assert [int(flow[name]) for name in ("bytes", "packets", "src_port", "in_if", "out_if", "src_as", "vlan")] == [
        *(0x010203, 2**39 + 1, 53, 3, 70_000, 64512, 9)
    ]
    assert flow["flags"] == 0x12  # TCP's eight flags are the low half of sixteen


def test_fields_of_no_octets() -> None:
    t = template(300, "src4 octets:0 dst4 packets:0 dst_port")
    values = {name: FLOW[name] for name in ("src4", "dst4", "dst_port")}
    flow = only(decoded(old(template_set(9, t), data_set(t, [values]))))
    assert (address(flow, "dst"), flow["dst_port"], flow["bytes"]) == ("192.0.2.9", 25, 0)


@pytest.mark.parametrize("padding", [1, 2, 3, 4, 17, 36, 39, 80])
def test_padding_in_a_set(padding: int) -> None:
    """Also more than a record is long, as was seen: a record of zeros is none."""
    assert (
        len(PLAIN.fields) and only(decoded(message(TEMPLATE, data_set(PLAIN, [FLOW], padding=padding))))["bytes"] == 900
    )


@pytest.mark.parametrize("padding", [1, 3, 4, 36])
def test_padding_behind_the_sets_and_in_template_sets(padding: int) -> None:
    found = decoded(old(template_set(9, PLAIN, padding=padding), DATA, bytes(padding)))
    assert only(found)["bytes"] == 900 and not found.refused


def test_several_templates_in_a_set_and_several_sets_in_a_datagram() -> None:
    other = template(301, "src6 dst6 octets:8")
    six = {"src6": "2001:db8::1", "dst6": "fe80::2", "octets": 2**40}
    found = decoded(message(template_set(10, PLAIN, other), DATA, data_set(other, [six, six]), DATA))
    assert sorted(found.flows["bytes"].tolist()) == [900, 900, 2**40, 2**40]
    flow = found.flows[found.flows["family"] == 6][0]
    assert (address(flow, "src"), address(flow, "dst")) == ("2001:db8::1", "fe80::2")
    assert {seen.id for seen in found.templates} == {300, 301}


def test_a_template_for_both_families() -> None:
    t = template(300, "ip_version src4 dst4 hop4 src6 dst6 hop6 nat_src4 nat_src6 octets:4")
    four = {**FLOW, "hop4": "10.0.0.254", "nat_src4": "198.51.100.1"}
    six = {"src6": "2001:db8::1", "dst6": "::1", "hop6": "fe80::9", "nat_src6": "2001:db8::f", "octets": 1}
    first, second = decoded(message(template_set(10, t), data_set(t, [four, six]))).flows
    names = ("src", "dst", "hop", "nat_src")
    assert [address(first, name) for name in names] == ["10.0.0.1", "192.0.2.9", "10.0.0.254", "198.51.100.1"]
    assert [address(second, name) for name in names] == ["2001:db8::1", "0.0.0.1", "fe80::9", "2001:db8::f"]
    assert (first["family"], second["family"]) == (4, 6)


def test_the_first_of_an_element_that_is_there_twice() -> None:
    t = Template(300, (Field("src4", 8, 4), Field("dst4", 12, 4), Field("dst4", 12, 4), Field("x", 1, 4)))
    body = bytes([10, 0, 0, 1, 192, 0, 2, 9, 9, 9, 9, 9, 0, 0, 0, 5])
    flow = only(decoded(message(template_set(10, t), a_set(300, body))))
    assert (address(flow, "dst"), flow["bytes"]) == ("192.0.2.9", 5)


def test_templates_are_those_of_their_domain_exporter_and_version() -> None:
    swapped = template(300, "dst4 src4 dst_port src_port octets:4 packets:4 flow_start_ms flow_end_ms")
    decoder = feed(Decoder(), message(TEMPLATE), message(template_set(10, swapped), domain=1))
    feed(decoder, message(DATA), message(DATA, domain=1))
    ports = {(int(flow["domain"]), int(flow["src_port"])) for flow in decoder.take().flows}
    assert ports == {(0, 5000), (1, 25)}
    feed(decoder, message(DATA), exporter=8)
    feed(decoder, old(DATA))
    found = decoder.take()
    assert not len(found.flows) and found.notes[8, "template missing"] == found.notes[7, "template missing"] == 1


def test_a_template_that_is_sent_again_changes_nothing() -> None:
    decoder = feed(Decoder(), message(TEMPLATE, DATA), message(TEMPLATE, sequence=1))
    found = feed(decoder, message(DATA, sequence=1)).take()
    assert len(found.flows) == 2 and not found.notes and found.templates[0].changes == 0


def test_a_different_template_replaces_one_even_in_the_same_datagram() -> None:
    new = template(300, "dst4 src4 octets:4")
    found = decoded(message(TEMPLATE, DATA, template_set(10, new), data_set(new, [FLOW]), TEMPLATE, DATA))
    assert sorted(found.flows["dst_port"].tolist()) == [0, 25, 25]
    assert {address(flow, "src") for flow in found.flows} == {"10.0.0.1"}
    assert found.notes[EXPORTER, "template replaced"] == 2 and found.templates[0].changes == 2


def test_withdrawals_are_ignored() -> None:
    found = decoded(message(TEMPLATE, encode.withdrawal(300), encode.withdrawal(2), DATA))
    assert only(found)["bytes"] == 900 and not found.notes


def test_data_before_its_template_waits_for_it() -> None:
    decoder = Decoder()
    other = template(301, "src4 dst4 octets:4")
    payload = message(data_set(other, [FLOW]), DATA, template_set(10, PLAIN))
    found = feed(decoder, payload, message(data_set(other, [FLOW, FLOW]), sequence=3), at=EXPORT_MS + 1).take()
    assert len(found.flows) == 1  # what can be read is read at once
    assert found.exporters[EXPORTER].waiting > 24
    decoder = Decoder(State.load(decoder.state.dump()))
    found = feed(decoder, message(template_set(10, other), sequence=5), at=EXPORT_MS + 60_000).take()
    assert found.flows["received"].tolist() == [EXPORT_MS + 1] * 3
    assert not found.losses and found.exporters[EXPORTER].waiting == 0


def test_data_whose_template_never_comes_is_told_lost() -> None:
    decoder = feed(Decoder(), message(data_set(PLAIN, [FLOW] * 4)))
    assert not feed(decoder, message(TEMPLATE), exporter=8, at=EXPORT_MS + state.PARKED_MS).take().losses
    found = feed(decoder, message(TEMPLATE), exporter=8, at=EXPORT_MS + state.PARKED_MS + 1).take()
    (loss,) = found.losses
    assert loss == Loss(EXPORTER, EXPORT_MS, EXPORT_MS, loss.flows, "parked") and loss.flows > 0
    assert not len(feed(decoder, message(TEMPLATE)).take().flows)


def test_what_waits_is_bounded() -> None:
    decoder, body = Decoder(), bytes(60_000)
    for number in range(100):
        feed(decoder, message(a_set(400, body), domain=number % 20), exporter=number % 3)
    found = decoder.take()
    kept = [stream.parked for exporter in decoder.state.exporters.values() for stream in exporter.streams.values()]
    assert sum(len(parked.body) for all in kept for parked in all) <= state.PARKED_BYTES
    assert sum(len(all) for all in kept) == 100 - sum(loss.flows for loss in found.losses) // 1000
    one = Decoder()
    for _ in range(100):
        feed(one, message(a_set(400, body)))
    assert sum(len(p.body) for p in one.state.exporters[EXPORTER].streams[10, 0].parked) <= state.PARKED_BYTES_EACH
    assert sum(loss.flows for loss in one.take().losses) == 83 * 1000  # the oldest went


def test_an_options_template_that_comes_late() -> None:
    options = encode.SAMPLING_OPTIONS_V9
    decoder = feed(Decoder(), old(template_set(9, PLAIN), count=1))
    feed(decoder, old(data_set(options, [{"sampling_interval": 50}]), DATA, sequence=1))
    found = feed(decoder, old(template_set(9, options), sequence=2), old(DATA, sequence=3)).take()
    assert found.flows["sampling"].tolist() == [0, 50]


def test_after_a_restart_templates_have_to_come_again() -> None:
    """Their numbers may mean others now."""
    new = template(300, "dst4 src4 dst_port src_port octets:4 packets:4 flow_start_ms flow_end_ms")
    decoder = feed(Decoder(), old(template_set(9, PLAIN), DATA, count=2, sequence=900))
    swapped = data_set(new, [FLOW])
    feed(decoder, old(swapped, uptime_ms=2000, sequence=0))
    found = decoder.take()
    assert len(found.flows) == 1 and found.notes[EXPORTER, "restart"] == 1
    assert (found.exporters[EXPORTER].restarts, found.exporters[EXPORTER].jumps) == (1, 0)
    found = feed(decoder, old(template_set(9, new), swapped, uptime_ms=3000, count=2, sequence=1)).take()
    assert found.flows["src_port"].tolist() == [5000, 5000] and not found.losses


def test_after_a_restart_without_new_templates_the_old_ones_hold() -> None:
    decoder = feed(Decoder(), old(template_set(9, PLAIN), count=1), old(DATA, uptime_ms=2000))
    assert not len(decoder.take().flows)
    found = feed(decoder, exporter=8, at=0).take()
    assert not len(found.flows)
    found = feed(decoder, message(TEMPLATE), exporter=8, at=EXPORT_MS + state.PARKED_MS + 1).take()
    assert len(found.flows) == 1 and not found.losses


# What is wrong is refused, what stands before it is kept, and nothing raises.

KILLERS = {
    "template's fields": old(a_set(0, struct.pack(">HH", 300, 0) + bytes(28))),
    "set's length": message(TEMPLATE, struct.pack(">HH", 300, 0) + b"x" * 40),
    "version": "héllo wörld, this is text".encode(),
    "short": b"\x00\x09",
    "template cut": message(a_set(2, struct.pack(">HHHH", 300, 9, 8, 4))),
    "template's length": message(a_set(2, struct.pack(">HHHH", 300, 1, 8, 0))),
    "template's number": message(a_set(2, struct.pack(">HHHH", 5, 1, 8, 4))),
    "cut": message(TEMPLATE, DATA)[:-4],
    "count": encode.v5([FLOW] * 3, uptime_ms=1, export_ms=EXPORT_MS)[:-1],
}


@pytest.mark.parametrize("reason", KILLERS)
def test_what_is_wrong_is_refused_for_a_reason(reason: str) -> None:
    found = decoded(KILLERS[reason])
    assert (EXPORTER, reason) in found.refused
    assert not len(found.flows)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\x05", b"\0\x0a" + bytes(13), b"\0\x09" + bytes(17), bytes(1400)])
def test_too_little_is_refused(payload: bytes) -> None:
    assert sum(decoded(payload).refused.values()) == 1


def test_what_stands_before_a_broken_set_is_kept() -> None:
    found = decoded(message(TEMPLATE, DATA, b"\x01\x2c\xff\xff broken"))
    assert only(found)["bytes"] == 900 and found.refused[EXPORTER, "set's length"] == 1


def test_records_with_nothing_that_identifies_a_flow_are_none() -> None:
    t = template(300, "octets:4 packets:4")
    found = decoded(message(template_set(10, t), data_set(t, [FLOW] * 5)))
    assert not len(found.flows) and found.notes[EXPORTER, "records of no flow"] == 5


def test_templates_are_bounded() -> None:
    decoder = Decoder()
    for number in range(2000):
        feed(decoder, message(template_set(10, template(256 + number, "src4 dst4")), domain=number % 2))
    streams = decoder.state.exporters[EXPORTER].streams.values()
    assert [len(stream.templates) for stream in streams] == [state.TEMPLATES] * 2
    assert 256 + 1999 in decoder.state.exporters[EXPORTER].streams[10, 1].templates  # the latest stay
    many = [template(256 + number, "src4 dst4") for number in range(1000)]
    found = decoded(message(template_set(10, *many)))
    assert len(found.templates) == 64 and found.refused[EXPORTER, "templates"] == 936


def test_fields_of_templates_are_bounded() -> None:
    long = template(256, "src4 dst4 " + "999:1 " * 500)
    decoder = feed(Decoder(), message(template_set(10, long), data_set(long, [FLOW])))
    assert len(decoder.take().flows) == 1
    for number in range(100):
        feed(decoder, message(template_set(10, long._replace(id=300 + number))))
    (stream,) = decoder.state.exporters[EXPORTER].streams.values()
    assert stream.template_octets() <= state.TEMPLATE_OCTETS
    longer = template(256, "src4 dst4 " + "999:1 " * 511)
    assert decoded(message(template_set(10, longer))).refused[EXPORTER, "template's fields"] == 1


def test_domains_and_exporters_are_bounded() -> None:
    decoder = Decoder()
    for number in range(100):
        feed(decoder, message(TEMPLATE, domain=number), at=EXPORT_MS + number)
    domains = {domain for _, domain in decoder.state.exporters[EXPORTER].streams}
    assert domains == set(range(100 - state.STREAMS, 100))
    for number in range(state.EXPORTERS + 50):
        feed(decoder, message(template_set(10, template(300, "src4 dst4"))), message(TEMPLATE), exporter=number)
    assert set(decoder.state.exporters) == set(range(50, state.EXPORTERS + 50))
    assert decoder._template_octets == sum(
        stream.template_octets() for e in decoder.state.exporters.values() for stream in e.streams.values()
    )
