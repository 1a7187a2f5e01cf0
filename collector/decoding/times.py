"""When a flow began and ended, out of the many ways in which exporters say it."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.decoding.fields import Piece
from collector.decoding.records import Array, Records, Sets
from collector.flows import MARK_SUSPECT, MARK_TIME

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
AHEAD_MS: Final = HOUR_MS  # what ends later than this after its export has no time that could be believed
BEHIND_MS: Final = DAY_MS  # nor what ended that long before it
LONGEST_MS: Final = 50 * DAY_MS  # as much as 32 bits of ms can tell
DISORDER_MS: Final = 1000  # the exporter's own clocks may differ by so much

NTP_TO_UNIX_S: Final = 2_208_988_800

# what tells the start, what tells the end, and how, in order of preference
KINDS: Final = (
    ("ms", 152, 153),
    ("us", 154, 155),
    ("ns", 156, 157),
    ("s", 150, 151),
    ("delta", 158, 159),
    ("uptime", 22, 21),
)
EVENTS: Final = (("ms", 323), ("us", 324), ("ns", 325), ("s", 322), ("ms", 258))


def _absolute(kind: str, piece: Piece, records: Records) -> Array:
    value = records.count_of(piece)
    if kind == "s":
        return value.astype(np.int64) * 1000
    if kind == "ms":
        return value.astype(np.int64)
    seconds, fraction = (value >> 32).astype(np.int64), (value & 0xFFFFFFFF).astype(np.int64)
    ms = (seconds - NTP_TO_UNIX_S) * 1000 + (fraction * 1000 >> 32)
    # NTP's format by RFC 7011 6.1.9; before 1970 it isn't that, but a plain count that some send
    plain = (value // (1000 if kind == "us" else 1_000_000)).astype(np.int64)
    return np.where(seconds < NTP_TO_UNIX_S, plain, ms)


def _since_boot(pieces: Mapping[int, Piece], records: Records, sets: Sets) -> tuple[Array, NDArray[np.bool_]]:
    """The exporter's uptime at export, in ms of 32 bits, and where it is known."""
    if 160 not in pieces:
        uptime = sets.of_records("uptime")
        return uptime, uptime >= 0
    boot = records.number(pieces[160]).astype(np.int64)
    known = (boot > 0) & (boot < sets.of_records("exported") + HOUR_MS)
    return sets.of_records("exported") - boot & 0xFFFFFFFF, known


class Times:
    """Of a block of records; `first`, `last` and `marks` are the answer."""

    def __init__(self, pieces: Mapping[int, Piece], records: Records, sets: Sets) -> None:
        self._pieces, self._records, self._sets = pieces, records, sets
        self.reference = sets.of_records("reference")
        self.marks = sets.of_records("marks").astype(np.uint8)
        start, end = self._edge(1), self._edge(2)
        if start is None and end is None:
            start = end = self._event()
        first, last = self._completed(start, end)
        self._believable(first, last)

    def _edge(self, side: int) -> Array | None:
        """Ms since 1970, the start (1) or the end (2); 0 where it isn't known."""
        for kind in KINDS:
            name, piece = kind[0], self._pieces.get(int(kind[side]))
            if piece is None:
                continue
            if name == "uptime":
                return self._of_uptime(piece)
            if name == "delta":
                return self.reference - (self._records.count_of(piece) // 1000).astype(np.int64)
            return self._shifted(_absolute(name, piece, self._records))
        return None

    def _of_uptime(self, piece: Piece) -> Array:
        """Signed in 32 bits: so neither the wrap after 49.7 days nor a start slightly ahead goes astray."""
        at = self._records.number(piece).astype(np.int64)
        uptime, known = _since_boot(self._pieces, self._records, self._sets)
        ago = (uptime - at).astype(np.int32).astype(np.int64)
        if known.all():
            return self.reference - ago
        if self.reference is self._sets.of_records("reference"):
            self.reference = np.where(known, self.reference, self._sets.of_records("received"))
        self.marks = np.where(known, self.marks, self.marks | MARK_TIME)
        return np.where(known, self.reference - ago, self._relative(at))

    def _relative(self, at: Array) -> Array:
        """Without the time of boot only the duration is known: the end is put at the time of receipt."""
        end = self._pieces.get(21)
        ended = at if end is None else self._records.number(end).astype(np.int64)
        return self.reference - (ended - at).astype(np.int32).astype(np.int64)

    def _shifted(self, ms: Array) -> Array:
        """By as much as the exporter's clock is beside the time; 0 stays what isn't known."""
        shift = self._sets.of_records("shift")
        return np.where(ms > 0, ms + shift, 0) if shift.any() else ms

    def _event(self) -> Array | None:
        for kind, number in EVENTS:
            if number in self._pieces:
                return self._shifted(_absolute(kind, self._pieces[number], self._records))
        return None

    def _completed(self, start: Array | None, end: Array | None) -> tuple[Array, Array]:
        """Both edges from one of them and the duration, if there is one."""
        duration = self._duration()
        if start is None:
            end = np.zeros_like(self.reference) if end is None else end
            start = np.where(end > 0, end - duration, 0)
        if end is None:
            end = np.where(start > 0, start + duration, 0)
        return start, end

    def _duration(self) -> Array:
        for number, per_ms in ((161, 1), (162, 1000)):
            if number in self._pieces:
                ms = self._records.count_of(self._pieces[number]) // per_ms
                return np.minimum(ms, LONGEST_MS).astype(np.int64)
        return np.zeros(1, np.int64)

    def _believable(self, first: Array, last: Array) -> None:
        """Unknown times become that of the export; impossible ones too, and are marked as such."""
        unknown = (last <= 0) | (first <= 0)
        if unknown.any():
            first = np.where(first <= 0, np.where(last <= 0, self.reference, last), first)
            last = np.where(last <= 0, first, last)
            self.marks = np.where(unknown, self.marks | MARK_TIME, self.marks)
        wrong = (last > self.reference + AHEAD_MS) | (last < self.reference - BEHIND_MS) | (first < last - LONGEST_MS)
        wrong |= first > last + DISORDER_MS
        if wrong.any():
            lost = wrong & (first <= last + DISORDER_MS)
            first, last = np.where(lost, self.reference, first), np.where(lost, self.reference, last)
            self.marks = np.where(wrong, self.marks | MARK_SUSPECT, self.marks)
            self.marks = np.where(lost, self.marks | MARK_TIME, self.marks)
        self.first, self.last = np.minimum(first, last), last
