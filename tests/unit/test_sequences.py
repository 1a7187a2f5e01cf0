"""What never came, told by the numbers that exporters count with."""

import pytest

from collector.decode import Decoder, Loss
from tests.flows.encode import ROUTEROS_V9, data_set, ipfix, template, template_set, v5, v9
from tests.flows.through import EXPORT_MS, EXPORT_S, EXPORTER, feed

FLOW = {"src4": "10.0.0.1", "dst4": "192.0.2.9", "octets": 60, "packets": 1}
T = template(300, "src4 dst4 octets packets")


def five(sequence: int, flows: int = 2, uptime_ms: int = 10**6, engine: int = 0) -> bytes:
    return v5([FLOW] * flows, uptime_ms=uptime_ms, export_ms=EXPORT_MS, sequence=sequence % 2**32, engine=engine)


def ten(sequence: int, flows: int = 2, *more: bytes) -> bytes:
    return ipfix(*more, data_set(T, [FLOW] * flows), export_s=EXPORT_S, sequence=sequence % 2**32)


def nine(sequence: int, flows: int = 2, uptime_ms: int = 10**6, templates: bool = False) -> bytes:
    sets = [template_set(9, ROUTEROS_V9)] * templates + [data_set(ROUTEROS_V9, [FLOW] * flows)] * (flows > 0)
    return v9(*sets, count=flows + templates, uptime_ms=uptime_ms, export_s=EXPORT_S, sequence=sequence % 2**32)


def lost(decoder: Decoder) -> int:
    return sum(loss.flows for loss in decoder.take().losses if loss.cause == "sequence")


def test_v5_counts_flows() -> None:
    decoder = feed(Decoder(), five(100), at=EXPORT_MS)
    feed(decoder, five(102), five(104, 30), at=EXPORT_MS + 1000)
    feed(decoder, five(134 + 41), at=EXPORT_MS + 2000)
    found = decoder.take()
    assert found.losses == [Loss(EXPORTER, EXPORT_MS + 1000, EXPORT_MS + 2000, 41, "sequence")]
    assert len(found.flows) == 36


def test_engines_count_for_themselves() -> None:
    assert lost(feed(Decoder(), five(100), five(7, engine=1), five(102), five(9, engine=1), five(12, engine=1))) == 1


def test_ipfix_counts_records_also_those_of_options() -> None:
    options = template(301, "1:4 sampling_interval", scopes=1)
    told = template_set(10, options), data_set(options, [{}] * 3)
    decoder = feed(Decoder(), ten(0, 2, template_set(10, T)), ten(2, 5, *told), ten(10, 2))
    assert lost(decoder) == 0
    assert lost(feed(decoder, ten(15))) == 3


def test_what_came_late_is_not_lost() -> None:
    decoder = feed(Decoder(), ten(0, 2, template_set(10, T)), ten(6), ten(2), ten(4), ten(8))
    assert lost(decoder) == 0
    assert lost(feed(decoder, ten(20), ten(12), ten(22))) == 8  # of ten


def test_sequence_numbers_begin_again_at_their_end() -> None:
    assert lost(feed(Decoder(), five(2**32 - 3), five(2**32 - 1), five(1), five(7))) == 4
    assert lost(feed(Decoder(), five(2**32 - 3), five(5))) == 6


@pytest.mark.parametrize("begin", [0, 5, 2**31])
def test_an_exporter_that_began_anew_has_lost_nothing(begin: int) -> None:
    decoder = feed(Decoder(), *(five(sequence) for sequence in range(10**6, 10**6 + 10, 2)))
    assert lost(feed(decoder, *(five(begin + n, uptime_ms=5000) for n in range(0, 20, 2)))) == 0
    decoder = feed(Decoder(), ten(3 * 10**9, 2, template_set(10, T)), ten(3 * 10**9 + 2))  # IPFIX tells no uptime
    assert lost(feed(decoder, *(ten(begin + n) for n in range(0, 20, 2)))) == 0
    assert lost(feed(decoder, ten(begin + 20 + 6))) == 6


def test_an_exporter_that_began_anew_soon() -> None:
    """Its numbers are lower by so little that they could be late ones, which all of them can't be."""
    decoder = feed(Decoder(), ten(0, 2, template_set(10, T)), *(ten(n) for n in range(2, 400, 2)))
    feed(decoder, *(ten(n) for n in range(0, 40, 2)))
    assert lost(decoder) == 0
    assert lost(feed(decoder, ten(45))) == 5


def test_hours_without_us_are_told() -> None:
    decoder = feed(Decoder(), five(0), at=EXPORT_MS)
    assert lost(feed(decoder, five(2_000_002), at=EXPORT_MS + 3_600_000)) == 2_000_000
    assert lost(feed(decoder, five(900_000_000), at=EXPORT_MS + 3_601_000)) == 0  # no router is so fast: counts anew


def test_what_cannot_be_read_yet_is_not_counted_as_lost() -> None:
    decoder = feed(Decoder(), ten(0), ten(2), ten(4, 2, template_set(10, T)), ten(6), ten(9))
    assert lost(decoder) == 1


def test_v9_counts_datagrams() -> None:
    decoder = feed(Decoder(), nine(50, templates=True), *(nine(50 + n, 6) for n in range(1, 20)))
    assert lost(decoder) == 0
    assert lost(feed(decoder, nine(72, 6))) == 12  # two datagrams of six flows, as those before had


def test_v9_that_counts_records_is_learned() -> None:
    decoder, sequence = Decoder(), 1000
    for _ in range(3):
        for flows in (3, 5):
            feed(decoder, nine(sequence, flows, templates=True))
            sequence += flows + 1
    assert lost(decoder) == 0
    assert lost(feed(decoder, nine(sequence + 9, 4))) == 9


def test_v9_that_counts_flows_without_templates_is_learned() -> None:
    decoder, sequence = Decoder(), 1000
    for _ in range(3):
        for flows in (3, 5):
            feed(decoder, nine(sequence, flows, templates=True))
            sequence += flows
    assert lost(feed(decoder, nine(sequence + 9, 4))) == 9


def test_v9_is_learned_anew_after_an_upgrade() -> None:
    decoder = feed(Decoder(), nine(0, templates=True), *(nine(n, 6) for n in range(1, 10)))
    decoder.take()
    for number in range(20):
        feed(decoder, nine(1000 + 5 * number, 5))
    decoder.take()
    assert lost(feed(decoder, nine(1100 + 7, 5))) == 7


def test_v9_with_gaps_all_the_way_is_still_learned() -> None:
    decoder = feed(Decoder(), nine(0, templates=True))
    for number in range(1, 30):
        if number % 5:
            feed(decoder, nine(number, 4))
    assert 4 * 4 <= lost(decoder) <= 5 * 4


def test_losses_are_put_together_by_seconds() -> None:
    decoder = feed(Decoder(), five(0))
    for number in range(1, 500):
        feed(decoder, five(number * 3), at=EXPORT_MS + number)
    found = decoder.take()
    assert len(found.losses) == 1 and found.losses[0].flows == 499
