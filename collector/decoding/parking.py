"""Sets whose template hasn't come yet: kept as they are, bounded in octets and age."""

from collections.abc import Iterator
from typing import Final

from collector.decoding.state import PARKED_BYTES, PARKED_BYTES_EACH, PARKED_MS, Context, Parked, State, Stream

_OVERHEAD: Final = 100  # octets that keeping a set takes besides its own
_RECORD: Final = 60


def records_in(body: bytes) -> int:
    """About how many there are in a set that nobody can read."""
    return max(1, len(body) // _RECORD)


class Parking:
    def __init__(self, state: State) -> None:
        self.octets = 0
        for exporter in state.exporters.values():
            self.octets += sum(stream.parked_bytes for stream in exporter.streams.values())

    def park(self, stream: Stream, template: int, context: Context, body: bytes) -> list[Parked]:
        """Returns those that had to go to make room."""
        size = len(body) + _OVERHEAD
        gone = []
        while stream.parked and (stream.parked_bytes + size > PARKED_BYTES_EACH or self.octets + size > PARKED_BYTES):
            gone.append(stream.parked[0])
            self._forget(stream, stream.parked.pop(0))
        parked = Parked(template, context, body)
        if self.octets + size > PARKED_BYTES:
            return [*gone, parked]
        stream.parked.append(parked)
        stream.parked_bytes += size
        self.octets += size
        return gone

    def of_template(self, stream: Stream, template: int) -> list[Parked]:
        """Those that waited for it, no longer parked."""
        found = [parked for parked in stream.parked if parked.template == template]
        if found:
            stream.parked = [parked for parked in stream.parked if parked.template != template]
            for parked in found:
                self._forget(stream, parked)
        return found

    def overdue(self, stream: Stream, now_ms: int) -> Iterator[Parked]:
        while stream.parked and stream.parked[0].received_ms < now_ms - PARKED_MS:
            parked = stream.parked.pop(0)
            self._forget(stream, parked)
            yield parked

    def all_of(self, stream: Stream) -> list[Parked]:
        found, stream.parked = stream.parked, []
        for parked in found:
            self._forget(stream, parked)
        return found

    def _forget(self, stream: Stream, parked: Parked) -> None:
        size = len(parked.body) + _OVERHEAD
        stream.parked_bytes -= size
        self.octets -= size
