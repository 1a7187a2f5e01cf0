"""Mikrotik-Rate-Limit: examples from the RouterOS manual's rules, round trips and nonsense."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import UserError
from rlm_python.speed_limits import (
    MAX_BPS,
    MAX_BURST_TIME_S,
    RateLimit,
    format_bits_per_second,
    format_rate_limit,
    parse_bits_per_second,
    parse_rate_limit,
)

K, M, G = 10**3, 10**6, 10**9


@st.composite
def directions(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Rate, burst, threshold, burst time and minimum that belong together."""
    speeds = st.integers(0, MAX_BPS) | st.builds(int.__mul__, st.integers(0, 5000), st.sampled_from([K, M]))
    rate = draw(speeds)
    burst = draw(st.just(0) | st.integers(rate, MAX_BPS)) if rate else 0
    threshold = draw(st.sampled_from([0, rate]) | speeds)
    minimum = draw(st.just(0) | st.integers(0, rate or MAX_BPS))
    return rate, burst, threshold, draw(st.sampled_from([0, 1]) | st.integers(0, MAX_BURST_TIME_S)), minimum


@st.composite
def rate_limits(draw: st.DrawFn) -> RateLimit:
    up = draw(directions())
    down = draw(st.just(up) | directions())
    rates, bursts, thresholds, times, minima = zip(up, down, strict=True)
    return RateLimit(*rates, *bursts, *thresholds, *times, draw(st.integers(1, 8)), *minima)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("128k", RateLimit(128 * K, 128 * K)),
        ("64k/128M", RateLimit(64 * K, 128 * M)),
        ("0/20M", RateLimit(0, 20 * M)),
        (" 5m/20M\t", RateLimit(5 * M, 20 * M)),
        ("1G/300", RateLimit(G, 300)),
        # Only a burst: the rate is the threshold, and the burst time 1 s.
        ("64k 256k", RateLimit(64 * K, 64 * K, 256 * K, 256 * K, 64 * K, 64 * K, 1, 1)),
        ("1M/2M 3M/4M", RateLimit(M, 2 * M, 3 * M, 4 * M, M, 2 * M, 1, 1)),
        ("1M/2M 0/4M", RateLimit(M, 2 * M, 0, 4 * M, 0, 2 * M, 0, 1)),
        ("64k 256k 128k", RateLimit(64 * K, 64 * K, 256 * K, 256 * K, 128 * K, 128 * K, 1, 1)),
        ("1M 2M 1M/3M 10s", RateLimit(M, M, 2 * M, 2 * M, M, 3 * M, 10, 10)),
        ("1M 2M 1M 10/8", RateLimit(M, M, 2 * M, 2 * M, M, M, 10, 8)),
        ("1M/2M 0/0 0/0 0/0 5", RateLimit(M, 2 * M, priority=5)),
        ("1M/2M 0 0 0 5 32k/64k", RateLimit(M, 2 * M, priority=5, min_up_bps=32 * K, min_down_bps=64 * K)),
        ("1M/2M 0/0 0/0 0/0 96k/384k", RateLimit(M, 2 * M, min_up_bps=96 * K, min_down_bps=384 * K)),
    ],
)
def test_parse(text: str, limit: RateLimit) -> None:
    assert parse_rate_limit(text) == limit


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (RateLimit(), "0"),
        (RateLimit(20 * M, 20 * M), "20M"),
        (RateLimit(5 * M, 20 * M), "5M/20M"),
        (RateLimit(2 * G, 1_500_000), "2000M/1500k"),
        (RateLimit(1, 1_000_001), "1/1000001"),
        (RateLimit(M, M, 2 * M, 2 * M, M, M, 1, 1), "1M 2M"),
        (RateLimit(M, M, 2 * M, 2 * M, M, M, 8, 8), "1M 2M 1M 8"),
        (RateLimit(M, M, 2 * M, 2 * M), "1M 2M 0 0"),
        (RateLimit(M, 2 * M, priority=5), "1M/2M 0 0 0 5"),
        (RateLimit(M, 2 * M, min_up_bps=64 * K), "1M/2M 0 0 0 8 64k/0"),
    ],
)
def test_format(limit: RateLimit, text: str) -> None:
    assert format_rate_limit(limit) == text
    assert parse_rate_limit(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "fast",
        "5M/",
        "/5M",
        "5M/20M/1M",
        "5M / 20M",
        "-5M",
        "1.5M",
        "5MB",
        "5T",
        "٥M",
        "5\N{KELVIN SIGN}",
        "1001G",
        "9" * 5000,
        "1M 2M 1M 8 9",
        "1M 2M 1M 8 0",
        "1M 2M 1M 8 5/5 1M",
        "1M 2M 1M 8 5 1M 7",
        "1M 2M 1M 1k",
        "1M 2M 1M 86401",
        "2M 1M",
        "0 1M",
        "1M 0 0 0 8 2M",
        "1M/5M 0 0 0 8 2M",
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"write "):
        parse_rate_limit(text)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"up_bps": -1}, "out of range"),
        ({"down_bps": MAX_BPS + 1}, "out of range"),
        ({"threshold_down_bps": -1}, "out of range"),
        ({"burst_time_up_s": -1}, "burst time"),
        ({"priority": 9}, "priority 9"),
        ({"up_bps": M, "burst_up_bps": M - 1}, "upload burst"),
        ({"down_bps": M, "min_down_bps": M + 1}, "download minimum"),
    ],
)
def test_impossible_limits_cannot_be_made(values: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        RateLimit(**values)


@given(rate_limits())
def test_parse_reads_back_what_format_writes(limit: RateLimit) -> None:
    assert parse_rate_limit(format_rate_limit(limit)) == limit


@given(rate_limits())
def test_format_leaves_nothing_to_shorten(limit: RateLimit) -> None:
    text = format_rate_limit(limit)
    shorter = text.rpartition(" ")[0]
    assert "G" not in text
    fields = text.split(" ")
    times = fields.pop(3) if len(fields) > 3 else ""  # seconds of bursts, which have no thousands
    assert not any(re.search(r"000\b|000k", field) for field in fields)
    assert not any(re.search(r"\b(\w+)/\1(?!\w)", field) for field in (*fields, times))
    assert not shorter or parse_rate_limit(shorter) != limit


words = st.from_regex(r"[0-9]{1,4}[kMG]?(/[0-9]{1,4}[kMG]?)?", fullmatch=True)


@given(st.text() | st.lists(words, min_size=1, max_size=7).map(" ".join))
def test_no_text_raises_anything_but_user_error(text: str) -> None:
    try:
        limit = parse_rate_limit(text)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert parse_rate_limit(format_rate_limit(limit)) == limit


@given(st.text())
def test_no_speed_raises_anything_but_user_error(text: str) -> None:
    try:
        bps = parse_bits_per_second(text)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert 0 <= bps <= MAX_BPS


@pytest.mark.parametrize(
    ("text", "bps"),
    [("20M", 20 * M), ("512k", 512 * K), ("1G", G), ("1500k", 1_500_000), ("0", 0), ("999", 999)],
)
def test_bits_per_second(text: str, bps: int) -> None:
    assert parse_bits_per_second(text) == bps
    assert format_bits_per_second(bps) == text


@given(st.integers(0, MAX_BPS))
def test_bits_per_second_survive_the_round_trip(bps: int) -> None:
    assert parse_bits_per_second(format_bits_per_second(bps)) == bps
