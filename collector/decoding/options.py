"""Records of options templates: what an exporter says about itself."""

from functools import lru_cache

from collector.decoding.fields import Field, unpacked, walked
from collector.decoding.state import INTERFACES, SAMPLERS, Exporter, Stream

RECORDS = 512  # of a set, at most
PLAUSIBLE_RATE = 2**24  # above it, the byte order is wrong
NAME_OCTETS = 64


def note(exporter: Exporter, stream: Stream, spec: bytes, body: bytes) -> tuple[int, bool]:
    """Takes over what matters. Returns how many records there were (up to RECORDS), and whether a rate was swapped."""
    count, swapped = 0, False
    for record in walked(body, _fields(spec), RECORDS):
        count += 1
        values = {field.number: value for field, value in reversed(record) if field.enterprise == 0 and value}
        swapped |= _sampling(stream, {number: _number(value) for number, value in values.items()})
        if 160 in values:
            stream.boot_ms = _number(values[160])
        name = values.get(82, values.get(83))
        if 10 in values and name:
            _name(exporter, _number(values[10]), name)
    return count, swapped


@lru_cache(maxsize=256)
def _fields(spec: bytes) -> list[Field]:
    """Without those of no octets: so each step over a field is paid for by an octet that was received."""
    return [field for field in unpacked(spec) if field.length]


def _name(exporter: Exporter, interface: int, name: bytes) -> None:
    if interface in exporter.interfaces or len(exporter.interfaces) < INTERFACES:
        exporter.interfaces[interface] = name[:NAME_OCTETS].split(b"\0")[0].decode(errors="replace")


def _number(value: bytes) -> int:
    return int.from_bytes(value[-8:], "big")


def _sampling(stream: Stream, values: dict[int, int]) -> bool:
    rate, swapped = _rate(values)
    if not rate:
        return False
    sampler = values.get(48, values.get(302))
    if sampler is None:
        stream.sampling = rate
    elif sampler in stream.samplers or len(stream.samplers) < SAMPLERS:
        stream.samplers[sampler] = rate
    return swapped


def _rate(values: dict[int, int]) -> tuple[int, bool]:
    """One packet in so many (RFC 5477 8.2: of `interval` and `space` the former are taken), and if it was swapped."""
    if values.get(305) and 306 in values:
        rate = (values[305] + values[306]) // values[305]
    else:
        rate = values.get(50) or values.get(34) or 0
        if PLAUSIBLE_RATE < rate < 2**32:
            return int.from_bytes(rate.to_bytes(4, "big"), "little"), True
    return min(rate, 2**32 - 1), False
