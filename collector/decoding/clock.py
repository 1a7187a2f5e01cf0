"""What time it was at an exporter when it sent a datagram."""

from typing import Final

from collector.decoding.state import Context, Stream
from collector.flows import MARK_TIME

RESTART_MS: Final = 60_000  # uptime that falls back by more than this has begun anew
JUMP_MS: Final = 2_500  # a time of boot that moves by more than this is a clock that was set
DAY_MS: Final = 86_400_000

_WRAP_MS: Final = 2**32


def restarted(stream: Stream, uptime_ms: int) -> bool:
    """Whether the exporter began anew since the last datagram; notes the uptime."""
    before, stream.uptime_ms = stream.uptime_ms, uptime_ms
    if uptime_ms + RESTART_MS >= before:
        return False
    if before > _WRAP_MS - DAY_MS and uptime_ms < DAY_MS:
        return False  # the uptime began at 0 again after 49.7 days
    stream.restarts += 1
    stream.boot_ms = 0
    return True


def clock(stream: Stream, received_ms: int, exported_ms: int, uptime_ms: int, trust_ms: int | None) -> Context:
    """`uptime_ms` is -1 in IPFIX, whose header has none: known then if options have told the time of boot."""
    reference_ms = exported_ms
    if uptime_ms >= 0:
        boot_ms = _boot(stream, exported_ms - uptime_ms)
        if stream.version == 9:
            reference_ms = boot_ms + uptime_ms
    elif stream.boot_ms:
        uptime_ms = (exported_ms - stream.boot_ms) % _WRAP_MS
    shift_ms = received_ms - exported_ms
    if trust_ms is None or abs(shift_ms) <= trust_ms:
        return received_ms, exported_ms, reference_ms, 0, uptime_ms, 0
    return received_ms, exported_ms, received_ms, shift_ms, uptime_ms, MARK_TIME


def with_boot(stream: Stream, context: Context) -> Context:
    """The same after options may have told the time of boot."""
    received_ms, exported_ms, reference_ms, shift_ms, uptime_ms, marks = context
    if uptime_ms < 0 and stream.boot_ms:
        uptime_ms = (exported_ms - stream.boot_ms) % _WRAP_MS
    return received_ms, exported_ms, reference_ms, shift_ms, uptime_ms, marks


def _boot(stream: Stream, observed_ms: int) -> int:
    """The time of boot out of headers with whole seconds: each tells that it lies in the second from `observed_ms`.

    So the latest of those bounds is kept, and follows a clock that drifts.
    """
    moved = observed_ms - stream.boot_ms
    if abs(moved - _WRAP_MS) < JUMP_MS:
        stream.boot_ms += _WRAP_MS
        moved -= _WRAP_MS
    if moved > 0 or moved < -JUMP_MS:
        stream.jumps += bool(stream.boot_ms) and abs(moved) > JUMP_MS
        stream.boot_ms = observed_ms
    elif moved < -999:
        stream.boot_ms = observed_ms + 999
    return stream.boot_ms
