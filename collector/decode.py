"""NetFlow v1, v5, v9 and IPFIX datagrams into flows, by whole sets. No bytes make it raise, loop or grow."""

import struct
from collections.abc import Iterable
from typing import Final

from collector.decoding import netflow5, options
from collector.decoding.batch import WRONG_ORDER, Batch, Decoded, Facts, Loss, TemplateSeen, facts
from collector.decoding.clock import clock, restarted, with_boot
from collector.decoding.fields import flattened, unpacked
from collector.decoding.parking import Parking, records_in
from collector.decoding.state import (
    ALL_TEMPLATE_OCTETS,
    EXPORTERS,
    STREAMS,
    TEMPLATE_OCTETS,
    TEMPLATES,
    Context,
    Exporter,
    Parked,
    State,
    Stream,
    Template,
)
from collector.decoding.templates import FIRST_DATA, Announced, Refusal, announced

__all__ = ["Decoded", "Decoder", "Facts", "Loss", "State", "TemplateSeen"]

TRUST_MS: Final = 3_600_000
NEW_TEMPLATES: Final = 64  # in a datagram
READ_SETS: Final = 128
READ_OCTETS: Final = 1500

_IPFIX = struct.Struct(">HHIII")
_V9 = struct.Struct(">HHIIII")
_SET = struct.Struct(">HH").unpack_from
_TEMPLATE_SETS: Final = {9: (0, 1), 10: (2, 3)}


class Decoder:
    """Datagrams in by `feed`, in the order of their receipt; flows out by `take`.

    A record takes 233 octets as a flow and may have come in as few as four: whoever feeds looks at `waiting`, the
    records that the next `take` makes into flows, and takes in time. An exporter's clock that differs from the time
    of receipt by more than `trust_ms` isn't believed, and its flows are shifted (MARK_TIME); None believes any.
    """

    def __init__(self, state: State | None = None, trust_ms: int | None = TRUST_MS) -> None:
        self.state = State() if state is None else state
        self._trust_ms = trust_ms
        self._parking = Parking(self.state)
        self._batch = Batch()
        self._read: dict[
            tuple[int, int, bytes], list[Announced | Refusal]
        ] = {}  # sets of templates come again and again
        self._heard: set[int] = set()
        self._now_ms = max((exporter.heard_ms for exporter in self.state.exporters.values()), default=0)
        self._template_octets = sum(
            stream.template_octets()
            for exporter in self.state.exporters.values()
            for stream in exporter.streams.values()
        )

    @property
    def waiting(self) -> int:
        return self._batch.records

    def feed(self, exporter: int, datagrams: Iterable[tuple[int, str, bytes]]) -> None:
        """All of one exporter: (time of receipt in ms, its address, payload)."""
        known = self._exporter(exporter)
        self._heard.add(exporter)
        for received_ms, _, payload in datagrams:
            known.heard_ms = received_ms
            version = int.from_bytes(payload[:2], "big")
            if version in (9, 10):
                self._message(exporter, known, version, received_ms, payload)
            elif version in (1, 5):
                self._fixed(exporter, known, version, received_ms, payload)
            else:
                self._refuse(exporter, "version" if len(payload) >= 2 else "short")
        self._now_ms = max(self._now_ms, known.heard_ms)

    def take(self) -> Decoded:
        """All that was fed since, and what there is to tell about it."""
        for number, exporter in self.state.exporters.items():
            for stream in exporter.streams.values():
                stream.sequence.open = 0
                self._give_up(number, exporter, stream, self._parking.overdue(stream, self._now_ms))
        batch, self._batch = self._batch, Batch()
        heard = {number: self.state.exporters[number] for number in self._heard if number in self.state.exporters}
        self._heard = set()
        flows, tallies = batch.flows()
        return Decoded(
            flows,
            batch.losses(),
            batch.refused,
            batch.notes,
            self._templates(heard),
            {number: facts(tallies[number], list(exporter.streams.values())) for number, exporter in heard.items()},
            {number: dict(exporter.interfaces) for number, exporter in heard.items() if exporter.interfaces},
        )

    def give_up(self) -> None:
        """Decodes what waits by templates of before, or loses it, as nothing more will come."""
        for number, exporter in self.state.exporters.items():
            for stream in exporter.streams.values():
                self._give_up(number, exporter, stream, self._parking.all_of(stream))

    @staticmethod
    def _templates(exporters: dict[int, Exporter]) -> list[TemplateSeen]:
        return [
            TemplateSeen(number, stream.version, stream.domain, id, unpacked(t.spec), t.options, t.heard_ms, t.changes)
            for number, exporter in exporters.items()
            for stream in exporter.streams.values()
            for id, t in stream.templates.items()
        ]

    # Exporters and their streams; the one that was heard longest ago goes first.

    def _exporter(self, number: int) -> Exporter:
        exporters = self.state.exporters
        exporter = exporters.pop(number, None) or Exporter()
        exporters[number] = exporter
        while len(exporters) > EXPORTERS or (self._template_octets > ALL_TEMPLATE_OCTETS and len(exporters) > 1):
            oldest = next(iter(exporters))
            for stream in list(exporters[oldest].streams.values()):
                self._forget(oldest, exporters[oldest], stream)
            del exporters[oldest]
        return exporter

    def _stream(self, number: int, exporter: Exporter, version: int, domain: int) -> Stream:
        streams = exporter.streams
        stream = streams.get((version, domain))
        if stream is None:
            if len(streams) >= STREAMS:
                self._forget(number, exporter, min(streams.values(), key=lambda stream: stream.heard_ms))
            stream = streams[version, domain] = Stream(version, domain)
        stream.heard_ms = exporter.heard_ms
        return stream

    def _forget(self, number: int, exporter: Exporter, stream: Stream) -> None:
        self._give_up(number, exporter, stream, self._parking.all_of(stream))
        self._template_octets -= stream.template_octets()
        del exporter.streams[stream.version, stream.domain]

    # Datagrams

    def _refuse(self, number: int, reason: str) -> None:
        self._batch.refused[number, reason] += 1

    def _fixed(self, number: int, exporter: Exporter, version: int, received_ms: int, payload: bytes) -> None:
        header = netflow5.read(version, payload)
        if isinstance(header, str):
            return self._refuse(number, header)
        stream = self._stream(number, exporter, version, header.engine)
        if restarted(stream, header.uptime_ms):
            stream.sequence.expected = None
        context = clock(stream, received_ms, header.exported_ms, header.uptime_ms, self._trust_ms)
        stream.sampling = header.sampling
        group = self._batch.group(header.spec)
        self._batch.add(number, stream, group, context, header.body, header.records)
        if version == 5:
            self._count(number, stream, header.sequence, header.records, received_ms)
        return None

    def _message(self, number: int, exporter: Exporter, version: int, received_ms: int, payload: bytes) -> None:
        layout = _IPFIX if version == 10 else _V9
        if len(payload) < layout.size:
            return self._refuse(number, "short")
        count, end, uptime_ms = 0, len(payload), -1
        if version == 10:
            _, length, seconds, sequence, domain = layout.unpack_from(payload)
            if length > end:
                self._refuse(number, "cut")
            end = min(end, length)
        else:
            _, count, uptime_ms, seconds, sequence, domain = layout.unpack_from(payload)
        stream = self._stream(number, exporter, version, domain)
        if uptime_ms >= 0 and restarted(stream, uptime_ms):
            self._restart(number, stream)
        context = clock(stream, received_ms, seconds * 1000, uptime_ms, self._trust_ms)
        records = self._sets(number, exporter, stream, context, payload, layout.size, end)
        if version == 10:
            self._count(number, stream, sequence, records, received_ms)
        else:
            self._count_v9(number, stream, sequence, count, records, received_ms)
        return None

    def _sets(
        self, number: int, exporter: Exporter, stream: Stream, context: Context, payload: bytes, position: int, end: int
    ) -> int | None:
        """Returns how many data records there were, or None if there was a set that can't be read yet."""
        records, known, new = 0, True, NEW_TEMPLATES
        while end - position >= 4:
            set_id, size = _SET(payload, position)
            if size < 4 or size > end - position:
                if any(payload[position:end]):  # else it's padding
                    self._refuse(number, "set's length")
                break
            body = payload[position + 4 : position + size]
            position += size
            if set_id >= FIRST_DATA:
                template = stream.templates.get(set_id)
                if template is None:
                    self._park(number, exporter, stream, set_id, context, body)
                    known = False
                else:
                    records += self._data(number, exporter, stream, template, context, body)
                    if template.options:
                        context = with_boot(stream, context)
            elif set_id in _TEMPLATE_SETS[stream.version]:
                new -= self._announced(number, exporter, stream, set_id, body, context[0], new)
            else:
                self._batch.notes[number, "set of an unknown kind"] += 1
        return records if known else None

    def _data(
        self, number: int, exporter: Exporter, stream: Stream, template: Template, context: Context, body: bytes
    ) -> int:
        """Returns how many records the set has."""
        if template.options:
            count, swapped = options.note(exporter, stream, template.spec, body)
            if swapped:
                self._batch.notes[number, WRONG_ORDER] += 1
            return count
        group = self._batch.group(template.spec)
        if group.size:
            count = len(body) // group.size
            if len(body) != count * group.size:
                body = body[: count * group.size]
        elif group.layout.runs is None:
            count = len(body) // group.layout.size
        else:
            body, count, whole = flattened(body, group.layout)
            if not whole:
                self._refuse(number, "variable field")
        if count and group.layout.is_flow:
            self._batch.add(number, stream, group, context, body, count)
        elif count:
            self._batch.notes[number, "records of no flow"] += count
        return count

    # Templates

    def _announced(
        self, number: int, exporter: Exporter, stream: Stream, set_id: int, body: bytes, now_ms: int, most: int
    ) -> int:
        """Takes the templates of a set over, and returns how many are new; no more than `most`."""
        key = stream.version, set_id, body
        found = self._read.get(key)
        if found is None:
            found = list(announced(*key))
            if len(body) <= READ_OCTETS:
                self._read[key] = found
                if len(self._read) > READ_SETS:
                    del self._read[next(iter(self._read))]
        new = 0
        for one in found:
            if isinstance(one, Announced) and new < most:
                new += self._learn(number, exporter, stream, one, now_ms)
            else:
                self._refuse(number, "templates" if isinstance(one, Announced) else one.reason)
        return new

    def _learn(self, number: int, exporter: Exporter, stream: Stream, found: Announced, now_ms: int) -> int:
        """Takes a template over, and decodes what waited for it; 1 if it's a new one."""
        old = stream.templates.pop(found.id, None)
        stale = stream.stale.pop(found.id, None)
        self._template_octets -= len(stale.spec) if stale else 0
        same = old is not None and (old.spec, old.options) == (found.spec, found.options)
        if old is not None and same:
            old.heard_ms = now_ms
            stream.templates[found.id] = old  # the last of those that are dropped for want of room
            return 0
        changes = 0
        if old is not None:
            changes = old.changes + 1
            self._template_octets -= len(old.spec)
            self._batch.notes[number, "template replaced"] += 1
        stream.templates[found.id] = Template(found.spec, found.options, now_ms, changes)
        self._template_octets += len(found.spec)
        self._make_room(number, stream)
        for parked in self._parking.of_template(stream, found.id):
            self._late(number, exporter, stream, stream.templates.get(found.id), parked)
        return 1

    def _make_room(self, number: int, stream: Stream) -> None:
        octets = stream.template_octets()
        while len(stream.templates) > 1 and (len(stream.templates) > TEMPLATES or octets > TEMPLATE_OCTETS):
            dropped = stream.templates.pop(next(iter(stream.templates)))
            octets -= len(dropped.spec)
            self._template_octets -= len(dropped.spec)
            self._batch.notes[number, "too many templates"] += 1

    def _restart(self, number: int, stream: Stream) -> None:
        """Its numbers of templates may mean others now: data waits until they have been sent anew (RFC 3954 9)."""
        self._batch.notes[number, "restart"] += 1
        if stream.templates:
            self._template_octets -= sum(len(template.spec) for template in stream.stale.values())
            stream.stale, stream.templates = stream.templates, {}
        stream.sequence.expected = None

    def _park(
        self, number: int, exporter: Exporter, stream: Stream, set_id: int, context: Context, body: bytes
    ) -> None:
        if body:
            self._batch.notes[number, "template missing"] += 1
            self._give_up(number, exporter, stream, self._parking.park(stream, set_id, context, body))

    def _late(self, number: int, exporter: Exporter, stream: Stream, template: Template | None, parked: Parked) -> None:
        if template is not None:
            self._data(number, exporter, stream, template, with_boot(stream, parked.context), parked.body)

    def _give_up(self, number: int, exporter: Exporter, stream: Stream, all_parked: Iterable[Parked]) -> None:
        """Decodes by the template of before a restart, if there is one, as none has come since; else it's lost."""
        for parked in all_parked:
            template = stream.stale.get(parked.template)
            if template is not None:
                self._data(number, exporter, stream, template, parked.context, parked.body)
            else:
                at = parked.received_ms
                self._batch.lose(Loss(number, at, at, records_in(parked.body), "parked"))

    # Sequence numbers

    def _count(self, number: int, stream: Stream, sequence: int, records: int | None, now_ms: int) -> None:
        before = stream.sequence.heard_ms
        missing = stream.sequence.step(sequence, records, now_ms)
        if missing:
            self._missing(number, missing, before, now_ms)

    def _count_v9(
        self, number: int, stream: Stream, sequence: int, count: int, records: int | None, now_ms: int
    ) -> None:
        counting, before = stream.counting, stream.sequence.heard_ms
        advance = counting.learn(sequence, stream.sequence.expected, count, count if records is None else records)
        missing = stream.sequence.step(sequence, advance, now_ms)
        if missing:
            self._missing(number, counting.flows_of(missing), before, now_ms)

    def _missing(self, number: int, flows: int, since_ms: int, until_ms: int) -> None:
        if flows > 0:
            self._batch.lose(Loss(number, since_ms, until_ms, flows, "sequence"))
        else:
            self._batch.find(number, -flows)
