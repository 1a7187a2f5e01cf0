"""Speeds of a plan, and the grammar of Mikrotik-Rate-Limit (RouterOS manual, RADIUS client, Access-Accept).

The router's view gives the names: rx is what it receives, the client's upload; tx is the client's download.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from appliance.errors import UserError

FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
MAX_BPS = 10**12
MAX_BURST_TIME_S = 86400
DEFAULT_BURST_TIME_S = 1
DEFAULT_PRIORITY = 8

SPEED = re.compile(r"([0-9]{1,13})([kmg]?)", re.ASCII | re.IGNORECASE)
SECONDS = re.compile(r"([0-9]{1,5})s?")

Pair = tuple[int, int]  # upload, download


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A rate of 0 is unlimited; a burst, threshold, burst time or minimum of 0 is not given.

    Raises UserError for values that RouterOS would refuse or ignore.
    """

    up_bps: int = 0
    down_bps: int = 0
    burst_up_bps: int = 0
    burst_down_bps: int = 0
    threshold_up_bps: int = 0
    threshold_down_bps: int = 0
    burst_time_up_s: int = 0
    burst_time_down_s: int = 0
    priority: int = DEFAULT_PRIORITY
    min_up_bps: int = 0
    min_down_bps: int = 0

    def __hash__(self) -> int:
        """Of what differs between plans: each login asks caches by it, and all eleven fields cost a microsecond."""
        return hash((self.up_bps, self.down_bps))

    def __post_init__(self) -> None:
        for bps in (self.threshold_up_bps, self.threshold_down_bps):
            _check_range(bps)
        _check_speeds("upload", self.up_bps, self.burst_up_bps, self.min_up_bps)
        _check_speeds("download", self.down_bps, self.burst_down_bps, self.min_down_bps)
        for seconds in (self.burst_time_up_s, self.burst_time_down_s):
            if not 0 <= seconds <= MAX_BURST_TIME_S:
                raise UserError(f"a burst time of {seconds} s is out of range: write 0 to {MAX_BURST_TIME_S}")
        if not 1 <= self.priority <= 8:
            raise UserError(f"there is no priority {self.priority}: write 1 (highest) to 8 (lowest)")


def _check_speeds(direction: str, rate: int, burst: int, minimum: int) -> None:
    for bps in (rate, burst, minimum):
        _check_range(bps)
    if burst and not 0 < rate <= burst:
        allowed = f"{format_bits_per_second(rate)} or more" if rate else "0, because the rate has no limit"
        raise UserError(f"the {direction} burst is {format_bits_per_second(burst)}: write {allowed}")
    if 0 < rate < minimum:
        most = format_bits_per_second(rate)
        raise UserError(f"the {direction} minimum is {format_bits_per_second(minimum)}: write {most} or less")


def _check_range(bps: int) -> None:
    if not 0 <= bps <= MAX_BPS:
        most = format_bits_per_second(MAX_BPS)
        raise UserError(f"a speed of {bps} bit/s is out of range: write 0 to {most}")


@lru_cache(maxsize=1024)
def parse_rate_limit(text: str) -> RateLimit:
    """Raises UserError. What the text leaves out gets the value that RouterOS would take."""
    rate, burst, threshold, time, priority, minimum = _split(text)
    rates = _parse_pair(rate, parse_bits_per_second)
    bursts = _parse_pair(burst or "0", parse_bits_per_second)
    thresholds = _default_thresholds(rates, bursts)
    if threshold:
        thresholds = _parse_pair(threshold, parse_bits_per_second)
    times = _parse_pair(time, _parse_seconds) if time else _default_times(bursts)
    minima = _parse_pair(minimum or "0", parse_bits_per_second)
    return RateLimit(*rates, *bursts, *thresholds, *times, _parse_priority(priority), *minima)


def _split(text: str) -> list[str]:
    """Always six fields; those left out are empty."""
    fields = text.split()
    if not 1 <= len(fields) <= 6:
        raise UserError(f"{text!r} is not a speed limit: write upload/download, such as 5M/20M")
    # The grammar lets the priority be left out before a minimum; a bare number is always the priority.
    if len(fields) == 5 and not fields[4].isdecimal():
        fields.insert(4, "")
    return fields + [""] * (6 - len(fields))


def _default_thresholds(rates: Pair, bursts: Pair) -> Pair:
    up, down = (rate if burst else 0 for rate, burst in zip(rates, bursts, strict=True))
    return up, down


def _default_times(bursts: Pair) -> Pair:
    up, down = (DEFAULT_BURST_TIME_S if burst else 0 for burst in bursts)
    return up, down


def _parse_pair(text: str, parse: Callable[[str], int]) -> Pair:
    up, slash, down = text.partition("/")
    return parse(up), parse(down if slash else up)


def _parse_seconds(text: str) -> int:
    match = SECONDS.fullmatch(text)
    if not match:
        raise UserError(f"{text!r} is not a burst time: write whole seconds, such as 8")
    return int(match[1])


def _parse_priority(text: str) -> int:
    if not re.fullmatch("[1-8]?", text):
        raise UserError(f"there is no priority {text!r}: write 1 (highest) to 8 (lowest)")
    return int(text or DEFAULT_PRIORITY)


@lru_cache(maxsize=1024)
def format_rate_limit(limit: RateLimit) -> str:
    """The shortest text that means exactly this to RouterOS, and to `parse_rate_limit`."""
    fields, defaults = zip(*_fields_and_defaults(limit), strict=True)
    needed = max(place for place in range(len(fields)) if fields[place] != defaults[place])
    return " ".join(fields[: needed + 1])


def _fields_and_defaults(limit: RateLimit) -> Iterator[tuple[str, str]]:
    rates = limit.up_bps, limit.down_bps
    bursts = limit.burst_up_bps, limit.burst_down_bps
    thresholds = limit.threshold_up_bps, limit.threshold_down_bps
    times = limit.burst_time_up_s, limit.burst_time_down_s
    minima = limit.min_up_bps, limit.min_down_bps
    yield _format_speeds(rates), ""
    yield _format_speeds(bursts), "0"
    yield _format_speeds(thresholds), _format_speeds(_default_thresholds(rates, bursts))
    yield _format_pair(times, str), _format_pair(_default_times(bursts), str)
    yield str(limit.priority), str(DEFAULT_PRIORITY)
    yield _format_speeds(minima), "0"


def _format_speeds(pair: Pair) -> str:
    # The manual promises k and M for this attribute, no G.
    return _format_pair(pair, lambda bps: _with_suffix(bps, "Mk"))


def _format_pair(pair: Pair, format_one: Callable[[int], str]) -> str:
    up, down = pair
    return format_one(up) if up == down else f"{format_one(up)}/{format_one(down)}"


def parse_bits_per_second(text: str) -> int:
    """512k, 20M, 1G or plain bits per second, with powers of 1000; raises UserError."""
    match = SPEED.fullmatch(text.strip())
    if not match:
        raise UserError(f"{text!r} is not a speed: write a whole number, such as 512k, 20M or 1G")
    bps = int(match[1]) * FACTORS[match[2].lower()]
    _check_range(bps)
    return bps


def format_bits_per_second(bps: int) -> str:
    """The shortest exact spelling for people, such as 20M."""
    return _with_suffix(bps, "GMk")


def _with_suffix(bps: int, suffixes: str) -> str:
    for suffix in suffixes:
        number, rest = divmod(bps, FACTORS[suffix.lower()])
        if number and not rest:
            return f"{number}{suffix}"
    return str(bps)
