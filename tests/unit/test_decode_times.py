"""When a flow was: every way of telling it, and the clocks that are wrong."""

import pytest

from collector.decode import Decoder
from collector.flows import MARK_SUSPECT, MARK_TIME
from tests.flows.encode import (
    NAT_EVENT,
    ROUTEROS6_IPFIX,
    SOFTFLOWD_V9,
    Record,
    data_set,
    ipfix,
    template,
    template_set,
    v5,
    v9,
)
from tests.flows.through import EXPORT_MS, EXPORT_S, EXPORTER, decoded, feed, only

BOTH = {"src4": "10.0.0.1", "dst4": "10.0.0.2"}


def from_ipfix(words: str, values: Record) -> tuple[int, int, int]:
    """first and last relative to the export, and the marks."""
    t = template(300, f"src4 dst4 {words}")
    flow = only(decoded(ipfix(template_set(10, t), data_set(t, [{**BOTH, **values}]), export_s=EXPORT_S)))
    return int(flow["first"]) - EXPORT_MS, int(flow["last"]) - EXPORT_MS, int(flow["marks"])


def from_v9(uptime_ms: int, start: int, end: int) -> tuple[int, int, int]:
    sets = template_set(9, SOFTFLOWD_V9), data_set(SOFTFLOWD_V9, [{**BOTH, "start_uptime": start, "end_uptime": end}])
    flow = only(decoded(v9(*sets, count=2, uptime_ms=uptime_ms, export_s=EXPORT_S)))
    return int(flow["first"]) - EXPORT_MS, int(flow["last"]) - EXPORT_MS, int(flow["marks"])


def ntp(ms: int) -> int:
    return (ms // 1000 + 2_208_988_800 << 32) + (ms % 1000 * 2**32 + 999) // 1000


@pytest.mark.parametrize("uptime", [100_000, 2**31 - 1, 2**31 + 5, 2**32 - 1])
def test_uptimes_are_relative_to_the_header(uptime: int) -> None:
    assert from_v9(uptime, uptime - 9000, uptime - 4000) == (-9000, -4000, 0)


def test_a_flow_from_before_the_uptime_wrapped() -> None:
    assert from_v9(5000, 2**32 - 3000, 2000) == (-8000, -3000, 0)


def test_a_flow_slightly_ahead_of_the_header() -> None:
    assert from_v9(100_000, 100_040, 100_050) == (40, 50, 0)
    assert from_v9(2**32 - 10, 20, 40) == (30, 50, 0)


BOOT = {"boot_ms": EXPORT_MS - 100_000, "start_uptime": 40_000, "end_uptime": 41_500}


@pytest.mark.parametrize(
    "words", ["boot_ms start_uptime end_uptime", "end_uptime start_uptime boot_ms", "start_uptime boot_ms end_uptime"]
)
def test_uptimes_relative_to_160_in_any_order(words: str) -> None:
    assert from_ipfix(words, BOOT) == (-60_000, -58_500, 0)


def test_uptimes_of_an_exporter_that_is_up_for_longer_than_32_bits_tell() -> None:
    days = 120 * 86_400_000
    uptimes = {"start_uptime": (days - 3000) % 2**32, "end_uptime": (days - 1000) % 2**32}
    assert from_ipfix("boot_ms start_uptime end_uptime", {"boot_ms": EXPORT_MS - days, **uptimes}) == (-3000, -1000, 0)


def test_uptimes_without_160_end_at_receipt() -> None:
    sets = template_set(10, ROUTEROS6_IPFIX), data_set(ROUTEROS6_IPFIX, [{**BOTH, **BOOT}])
    flow = only(decoded(ipfix(*sets, export_s=EXPORT_S), at=EXPORT_MS + 700))
    assert (flow["first"], flow["last"], flow["marks"]) == (EXPORT_MS + 700 - 1500, EXPORT_MS + 700, MARK_TIME)


def test_160_that_cannot_be_is_as_none() -> None:
    for boot_ms in (0, EXPORT_MS + 10**9, 2**64 - 1):
        assert from_ipfix("boot_ms start_uptime end_uptime", {**BOOT, "boot_ms": boot_ms}) == (-1500, 0, MARK_TIME)


def test_options_may_tell_the_boot() -> None:
    options = template(301, "domain_id boot_ms", scopes=1)
    t = template(300, "src4 dst4 end_uptime start_uptime")
    data = data_set(t, [{**BOTH, **BOOT}])
    told = ipfix(
        template_set(10, options), data_set(options, [BOOT]), template_set(10, t), data, export_s=EXPORT_S, sequence=0
    )
    found = decoded(told, ipfix(data, export_s=EXPORT_S, sequence=2))
    for flow in found.flows:
        assert (flow["first"], flow["last"], flow["marks"]) == (EXPORT_MS - 60_000, EXPORT_MS - 58_500, 0)
    assert len(found.flows) == 2 and not found.losses


@pytest.mark.parametrize(
    ("words", "values", "expected"),
    [
        ("flow_start_s flow_end_s", {"flow_start_s": EXPORT_S - 9, "flow_end_s": EXPORT_S - 2}, (-9000, -2000)),
        ("flow_end_ms flow_start_ms", {"flow_start_ms": EXPORT_MS - 9, "flow_end_ms": EXPORT_MS - 2}, (-9, -2)),
        ("flow_start_us flow_end_us", {"flow_start_us": ntp(EXPORT_MS - 9), "flow_end_us": ntp(EXPORT_MS)}, (-9, 0)),
        ("flow_start_ns flow_end_ns", {"flow_start_ns": ntp(EXPORT_MS - 9), "flow_end_ns": ntp(EXPORT_MS)}, (-9, 0)),
        ("start_delta_us end_delta_us", {"start_delta_us": 9_000_000, "end_delta_us": 1_500_900}, (-9000, -1500)),
        ("flow_start_ms duration_ms", {"flow_start_ms": EXPORT_MS - 900, "duration_ms": 250}, (-900, -650)),
        ("duration_ms flow_end_ms", {"flow_end_ms": EXPORT_MS - 900, "duration_ms": 250}, (-1150, -900)),
        ("162:4 flow_end_ms", {"flow_end_ms": EXPORT_MS - 900, "162": 250_999}, (-1150, -900)),
        ("flow_start_ms", {"flow_start_ms": EXPORT_MS - 900}, (-900, -900)),
        ("event_ms", {"event_ms": EXPORT_MS - 77}, (-77, -77)),
    ],
)
def test_every_way_of_telling(words: str, values: dict[str, int], expected: tuple[int, int]) -> None:
    assert from_ipfix(words, values) == (*expected, 0)


def test_micro_and_nanoseconds_that_are_plain_counts_since_1970() -> None:
    micro = {"flow_start_us": (EXPORT_MS - 9) * 1000, "flow_end_us": EXPORT_MS * 1000}
    assert from_ipfix("flow_start_us flow_end_us", micro) == (-9, 0, 0)
    nano = {"flow_start_ns": (EXPORT_MS - 9) * 10**6, "flow_end_ns": EXPORT_MS * 10**6}
    assert from_ipfix("flow_start_ns flow_end_ns", nano) == (-9, 0, 0)


def test_no_time_at_all_is_that_of_the_export() -> None:
    assert from_ipfix("octets", {"octets": 1}) == (0, 0, MARK_TIME)
    assert from_ipfix("flow_start_ms flow_end_ms", {}) == (0, 0, MARK_TIME)


def test_impossible_times_are_marked() -> None:
    wrong = MARK_TIME | MARK_SUSPECT
    future = {"flow_start_ms": EXPORT_MS, "flow_end_ms": EXPORT_MS + 5 * 3_600_000}
    assert from_ipfix("flow_start_ms flow_end_ms", future) == (0, 0, wrong)
    assert from_ipfix("flow_start_ms flow_end_ms", {"flow_start_ms": 5, "flow_end_ms": EXPORT_MS}) == (0, 0, wrong)
    beyond = {"flow_start_ms": 2**64 - 1, "flow_end_ms": 2**63 + 5}
    assert from_ipfix("flow_start_ms flow_end_ms", beyond) == (0, 0, MARK_TIME)
    backwards = {"flow_start_ms": EXPORT_MS - 10, "flow_end_ms": EXPORT_MS - 9000}
    assert from_ipfix("flow_start_ms flow_end_ms", backwards) == (-9000, -9000, MARK_SUSPECT)


def test_a_clock_that_was_never_set_is_not_believed() -> None:
    """RouterOS without NTP: 1970. As long before the receipt as the router says it was before the export."""
    records = [{**BOTH, "start_uptime": 50_000, "end_uptime": 58_000}]
    flow = only(decoded(v5(records, uptime_ms=60_000, export_ms=86_460_000), at=EXPORT_MS))
    assert (flow["first"], flow["last"], flow["marks"]) == (EXPORT_MS - 10_000, EXPORT_MS - 2000, MARK_TIME)
    t = template(300, "src4 dst4 flow_start_ms flow_end_ms")
    values = {**BOTH, "flow_start_ms": 86_450_000, "flow_end_ms": 86_458_000}
    payload = ipfix(template_set(10, t), data_set(t, [values]), export_s=86_460)
    flow = only(decoded(payload, at=EXPORT_MS))
    assert (flow["first"], flow["last"], flow["marks"]) == (EXPORT_MS - 10_000, EXPORT_MS - 2000, MARK_TIME)
    flow = only(feed(Decoder(trust_ms=None), payload).take())
    assert (flow["first"], flow["last"], flow["marks"]) == (86_450_000, 86_458_000, 0)


def test_a_clock_that_is_a_little_off_is_believed_and_told_of() -> None:
    sets = (
        template_set(10, NAT_EVENT),
        data_set(NAT_EVENT, [{"src4": "10.0.0.1", "event_ms": EXPORT_MS - 5, "nat_event": 1}]),
    )
    found = decoded(ipfix(*sets, export_s=EXPORT_S), at=EXPORT_MS + 40_000)
    assert only(found)["last"] == EXPORT_MS - 5
    assert found.exporters[EXPORTER].skew_ms == 40_000


def test_v9_seconds_are_smoothed_to_milliseconds() -> None:
    """The header cuts its time to whole seconds; after a few datagrams the time of boot is known to the ms."""
    decoder = Decoder()
    boot = EXPORT_MS - 7_000_000 + 678
    firsts = []
    for number, uptime in enumerate(range(7_000_000, 7_030_000, 137)):
        values = {**BOTH, "start_uptime": uptime - 500, "end_uptime": uptime}
        sets = template_set(9, SOFTFLOWD_V9), data_set(SOFTFLOWD_V9, [values])
        now = boot + uptime
        feed(decoder, v9(*sets, count=2, uptime_ms=uptime, export_s=now // 1000, sequence=number), at=now)
        firsts.append(int(only(decoder.take())["first"]) - (now - 500))
    assert max(firsts) <= 0 and min(firsts) > -1000
    assert min(firsts[30:]) > -40
    assert len(set(firsts[60:])) == 1  # and stays


def test_v9_follows_a_clock_that_is_slow() -> None:
    """A second in a quarter of an hour: never further off than a second, forth or back."""
    decoder = Decoder()
    for number in range(0, 3600, 7):
        values = {**BOTH, "start_uptime": 1000 * number, "end_uptime": 1000 * number}
        sets = template_set(9, SOFTFLOWD_V9), data_set(SOFTFLOWD_V9, [values])
        now = EXPORT_MS + 1000 * number - number
        payload = v9(*sets, count=2, uptime_ms=1000 * number, export_s=now // 1000)
        found = feed(decoder, payload, at=now).take()
        assert abs(int(only(found)["last"]) - now) < 1000
        assert found.exporters[EXPORTER].jumps == 0


def test_v9_follows_a_clock_that_is_set() -> None:
    decoder = Decoder()
    for moved in (0, 600_000, -600_000):
        values = {**BOTH, "start_uptime": 9000, "end_uptime": 9500}
        sets = template_set(9, SOFTFLOWD_V9), data_set(SOFTFLOWD_V9, [values])
        payload = v9(*sets, count=2, uptime_ms=10_000, export_s=(EXPORT_MS + moved) // 1000)
        found = feed(decoder, payload, at=EXPORT_MS).take()
        assert only(found)["last"] == EXPORT_MS + moved - 500
    facts = found.exporters[EXPORTER]
    assert (facts.jumps, facts.restarts, facts.boot_ms) == (2, 0, EXPORT_MS - 600_000 - 10_000)


def test_v9_across_the_wrap_of_its_uptime() -> None:
    decoder = Decoder()
    for uptime in (2**32 - 400, 2**32 + 1600):
        now_ms = EXPORT_MS + uptime - (2**32 - 400)
        values = {**BOTH, "start_uptime": (uptime - 1000) % 2**32, "end_uptime": uptime % 2**32}
        sets = template_set(9, SOFTFLOWD_V9), data_set(SOFTFLOWD_V9, [values])
        found = feed(decoder, v9(*sets, count=2, uptime_ms=uptime, export_s=now_ms // 1000), at=now_ms).take()
        assert (only(found)["first"], only(found)["last"]) == (now_ms - 1000, now_ms)
    assert found.exporters[EXPORTER].restarts == found.exporters[EXPORTER].jumps == 0
