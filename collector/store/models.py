"""What the catalogue speaks of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

CATALOG, SEGMENTS, JOURNAL = "catalog.db", "segments", "journal.db"  # below `flows/` on the data disk

SEALED, HOUR, DAY = 0, 1, 2  # levels of a segment

# Of a segment, where a cluster takes them (collector/store/loads.py): it waits, is being loaded and stays as it is
# meanwhile, is loaded; was there before there was a cluster, and is asked for by now.
WAITS, BEGUN, LOADED, HISTORY, ASKED = range(5)


@dataclass(frozen=True)
class Range:
    """Of time, half-open."""

    since_ms: int
    until_ms: int


class Column(NamedTuple):
    """One column of a segment's file; where both bounds are the same the file doesn't have it."""

    low: int
    high: int


@dataclass(frozen=True)
class SegmentFile:
    """A file of flows, on disk under its name. `clients` is what collector/store/sets.py makes of the addresses.

    `first_ms` and `last_ms` bound the times of all flows but those whose own times can't be, which `odd` bounds.
    Journal rows after `journal_after`, up to `journal_until`, are in it, and nowhere else unless sets of them were
    still parked at its end. `ends_` is of the file beside it (ends.py), 0 where there is none.
    """

    path: str
    rows: int
    size_bytes: int
    sha256: str
    received_from_ms: int
    received_until_ms: int
    first_ms: int
    last_ms: int
    odd_first_ms: int | None
    odd_last_ms: int | None
    columns: dict[str, Column]
    clients: bytes
    level: int = SEALED
    journal_after: int = 0
    journal_until: int = 0
    parked_bytes: int = 0
    ends_bytes: int = 0
    ends_sha256: str = ""
    id: int = 0
    damaged: str | None = None
    state: int = WAITS

    @property
    def all_bytes(self) -> int:
        return self.size_bytes + self.ends_bytes


def beside(segment: Path) -> Path:
    """The file of a segment's second order."""
    return segment.with_name(f"{segment.name}.ends")


class Lost(NamedTuple):
    """Flows that aren't there, and why. `exporter` is its number in the catalogue, 0 for all of them."""

    exporter: int
    since_ms: int
    until_ms: int
    flows: int
    cause: str


class Hold(NamedTuple):
    """What no retention may take away."""

    id: int
    since_ms: int
    until_ms: int
    reason: str
    who: str
    at_ms: int
    released_by: str | None = None
    released_ms: int | None = None


@dataclass(frozen=True)
class Certificate:
    """How complete an answer is. What lies only partly within the range is counted by its share of time."""

    present: int
    lost: int
    losses: list[Lost] = field(default_factory=list)
    complete_until_ms: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.present / (self.present + self.lost) if self.present + self.lost else 1.0
