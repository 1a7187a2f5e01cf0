"""Sequence numbers: what of an exporter's records never came."""

from dataclasses import dataclass, field

REORDERED = 2000  # so far back it's a datagram that was overtaken; further it's an exporter that began anew
RATE = 100_000  # records a second that no exporter of ours exceeds: a jump beyond is no loss, it counts anew
LATE = 4  # so many overtaken ones in a row are an exporter that began anew
LEARNED = 3  # datagrams that tell one way of counting from the others
UNLEARNED = 8

PACKETS, RECORDS, FLOWS = 0, 1, 2  # what v9's sequence counts: datagrams by RFC 3954, records or flows in some


def signed(difference: int) -> int:
    """A difference of two numbers of 32 bits, whichever of them is ahead."""
    return (difference + 2**31) % 2**32 - 2**31


@dataclass(slots=True)
class Sequence:
    """Of one stream. `expected` is None until a datagram has come whose records could be counted."""

    expected: int | None = None
    heard_ms: int = 0
    late: int = 0
    open: int = 0  # missed since the last `settle`, may still come late
    restarts: int = 0

    def step(self, sequence: int, advance: int | None, now_ms: int) -> int:
        """How many are missing ahead of this datagram, which has `advance`; below 0: so many came late after all."""
        before, self.heard_ms = self.heard_ms, now_ms
        if sequence == self.expected and advance is not None:
            self.expected = (sequence + advance) & 0xFFFFFFFF
            self.late = 0
            return 0
        if self.expected is None or advance is None:
            self.expected = None if advance is None else (sequence + advance) % 2**32
            return 0
        gap = signed(sequence - self.expected)
        if -REORDERED <= gap < 0 and self.late < LATE:
            self.late += 1
            back = min(advance, self.open)
            self.open -= back
            return -back
        self.expected = (sequence + advance) % 2**32
        self.late = 0
        if 0 <= gap <= (max(0, now_ms - before) // 1000 + 10) * RATE:
            self.open += gap
            return gap
        self.restart()
        return 0

    def restart(self) -> None:
        self.restarts += 1
        self.late = self.open = 0


@dataclass(slots=True)
class Counting:
    """What v9's sequence counts, learned from datagrams with none missing between."""

    kind: int | None = None
    scores: list[int] = field(default_factory=lambda: [0, 0, 0])
    sequence: int = -1
    advances: tuple[int, int, int] = (0, 0, 0)
    misses: int = 0
    flows: float = 0.0  # in a datagram, smoothed

    def learn(self, sequence: int, expected: int | None, count: int, flows: int) -> int | None:
        """The number to advance by for a datagram of `count` records, or None until it's clear what is counted."""
        if sequence != expected and self.sequence >= 0:
            step = (sequence - self.sequence) % 2**32
            hits = [kind for kind, advance in enumerate(self.advances) if step == advance]
            if 0 < len(hits) < 3:
                self._vote(hits)
        self.sequence, self.advances = sequence, (1, count, flows)
        self.flows += (flows - self.flows) / 4 if self.flows else flows
        return None if self.kind is None else self.advances[self.kind]

    def _vote(self, hits: list[int]) -> None:
        for kind in hits:
            self.scores[kind] = min(self.scores[kind] + 1, 1000)
        if self.kind is None:
            by_records = max(self.scores[RECORDS:])
            if self.scores[PACKETS] >= max(LEARNED, by_records + 1):
                self.kind = PACKETS
            elif by_records >= max(LEARNED, self.scores[PACKETS] + 1):
                self.kind = RECORDS if self.scores[RECORDS] == by_records else FLOWS
        elif self.kind in hits:
            self.misses = 0
        else:
            self.misses += 1
            if self.misses >= UNLEARNED:
                self.kind, self.scores, self.misses = None, [0, 0, 0], 0

    def flows_of(self, missing: int) -> int:
        return missing if self.kind != PACKETS else round(missing * max(1.0, self.flows))
