"""What goes in as flows through the project's own exporter comes out of the decoder, whatever the version."""

import numpy as np
import pytest

from collector.decode import Decoder, State
from collector.flows import FLOW
from tests.flows import bulk

EXPORTER = 7


def in_order(flows: bulk.Flows) -> bulk.Flows:
    return flows[np.lexsort([flows[name] for name in ("bytes", "packets", "src_port", "dst_port", "dst_lo", "src_lo")])]


def through(flows: bulk.Flows, version: int) -> bulk.Flows:
    decoder = Decoder()
    sent = bulk.datagrams_of(flows, version)
    at = int(flows["last"].max()) + 500
    for payload in sent:  # a state of its own for each, as if the machine went down between
        decoder.feed(EXPORTER, [(at, "10.0.0.1", payload)])
    decoded = decoder.take()
    assert not decoded.losses and not decoded.refused
    return decoded.flows


CARRIED = {
    5: "src_lo dst_lo src_port dst_port protocol flags tos packets bytes in_if out_if src_as dst_as hop_lo first last",
    9: "src_hi src_lo dst_hi dst_lo src_port dst_port protocol flags tos packets bytes in_if out_if hop_lo family "
    "nat_src_lo nat_dst_lo nat_src_port nat_dst_port dst_mac",
    10: "src_hi src_lo dst_hi dst_lo src_port dst_port protocol flags tos packets bytes in_if out_if hop_lo family "
    "nat_src_lo nat_dst_lo nat_src_port nat_dst_port dst_mac src_mac first last",
}


@pytest.mark.parametrize("version", CARRIED)
def test_arrays_go_through_as_they_are(version: int) -> None:
    flows = bulk.some_flows(5000, ipv6=0.0 if version == 5 else 0.2)
    found, sent = in_order(through(flows, version)), in_order(flows)
    assert len(found) == len(sent)
    for column in CARRIED[version].split():
        assert np.array_equal(found[column], sent[column]), column
    assert (found["exporter"] == EXPORTER).all()
    assert not found["marks"].any()
    assert (abs(found["last"] - sent["last"]) < 1000).all()


def test_the_state_survives_as_bytes() -> None:
    flows = bulk.some_flows(2000)
    whole = Decoder()
    pieces = Decoder()
    out = []
    for payload in bulk.datagrams_of(flows, 9):
        gram = [(int(flows["last"][-1]), "10.0.0.1", payload)]
        whole.feed(EXPORTER, gram)
        pieces.feed(EXPORTER, gram)
        out.append(pieces.take().flows)
        pieces = Decoder(State.load(pieces.state.dump()))
    expected = whole.take().flows
    assert len(expected) == 2000
    assert np.array_equal(in_order(np.concatenate(out)), in_order(expected))


@pytest.mark.parametrize("data", [b"x", b"\0" * 40, State().dump()[:-3]])
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a decoder's state"):
        State.load(data)


def test_nothing_gives_nothing() -> None:
    decoded = Decoder().take()
    assert decoded.flows.dtype == FLOW and len(decoded.flows) == 0
    assert State.load(b"") == State()
