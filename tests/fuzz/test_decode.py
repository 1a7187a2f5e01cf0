"""Whatever comes in, the decoder raises nothing, and tells the same whether it is asked once or after each datagram."""

import random
import struct

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.decode import Decoder, State
from collector.decoding.fields import KNOWN
from tests.flows import encode
from tests.fuzz.decoding import Target
from tests.fuzz.seeds import EXPORT_S, KILLERS, mutated, seeds

SEEDS = seeds()

number = st.one_of(st.sampled_from(sorted(KNOWN)), st.integers(0, 65535))
length = st.one_of(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 65535]), st.integers(0, 300))
specifiers = st.lists(st.builds(struct.pack, st.just(">HH"), number, length), max_size=12).map(b"".join)
template = st.builds(
    lambda id, count, fields: struct.pack(">HH", id, len(fields) // 4 if count is None else count) + fields,
    st.sampled_from([256, 257, 300]),
    st.one_of(st.none(), st.integers(0, 20)),
    specifiers,
)
a_set = st.one_of(
    st.builds(encode.a_set, st.sampled_from([0, 2]), template),
    st.builds(encode.a_set, st.sampled_from([0, 1, 2, 3]), st.binary(max_size=60)),
    st.builds(encode.a_set, st.sampled_from([256, 257, 300]), st.binary(max_size=200)),
    st.binary(max_size=20),
)
word = st.integers(0, 2**32 - 1)
message = st.one_of(
    st.builds(
        lambda sets, s, n, d: encode.ipfix(*sets, export_s=s, sequence=n, domain=d),
        *(st.lists(a_set, max_size=6), st.one_of(st.just(EXPORT_S), word), word, st.integers(0, 2)),
    ),
    st.builds(
        lambda sets, s, u, n: encode.v9(*sets, count=3, uptime_ms=u, export_s=s, sequence=n),
        *(st.lists(a_set, max_size=6), st.one_of(st.just(EXPORT_S), word), word, word),
    ),
    st.builds(mutated, st.just(SEEDS), st.integers(0, 2**32).map(random.Random)),
    st.binary(max_size=200),
)


def rows(flows: np.ndarray) -> list[bytes]:
    return sorted(flow.tobytes() for flow in flows)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(message, min_size=1, max_size=12))
def test_any_datagrams(payloads: list[bytes]) -> None:
    whole, pieces, found = Decoder(), Decoder(), []
    for at, payload in enumerate(payloads):
        datagram = [(EXPORT_S * 1000 + at, "192.0.2.1", payload)]
        whole.feed(1, datagram)
        pieces.feed(1, datagram)
        found += rows(pieces.take().flows)
        pieces = Decoder(State.load(pieces.state.dump()))
    assert sorted(found) == rows(whole.take().flows)
    assert pieces.state.exporters[1].streams.keys() == whole.state.exporters[1].streams.keys()


def test_the_killers_of_other_decoders() -> None:
    for payload in KILLERS:
        target = Target()
        target.feed(payload)
        target.take()
        assert target.flows == 0


def test_mutated_datagrams() -> None:
    target, chance = Target(), random.Random(1)
    for _ in range(5_000):
        target.feed(mutated(SEEDS, chance))
    target.take()
    target.reload()
    assert target.flows > 2500
