"""From the journal into segments: rows are decoded in their order, and what they gave is named in one transaction.

Whatever is in it (segment, totals, losses, what the decoder has learnt, the last row) is there after a crash, or none
of it: then the same rows are decoded again.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import duckdb

from collector import noted
from collector.decode import Decoded, Decoder, State
from collector.journal import Journal, Row, unpack
from collector.store import counting, duck, packing, rollups, segments
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, JOURNAL, SEGMENTS, Lost, SegmentFile

BATCH = 200_000  # flows of a segment, about; more are never in memory
FEW = 5_000
SOON_MS, LATER_MS = 60_000, 300_000  # from a flow's receipt to its segment: of many, of few
USUAL_FLOWS = 12  # in a datagram, where nothing better is known

_LOCK = "sealer.lock"
_TEMPORARY = "temporary"


class Sealer:
    """The only writer of the catalogue and of segments in a folder `flows/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments = folder / SEGMENTS
        self._stack = ExitStack()

    def __enter__(self) -> "Sealer":
        with ExitStack() as stack:
            stack.enter_context(_locked(self.folder / _LOCK))
            self.segments.mkdir(exist_ok=True)
            (self.folder / _TEMPORARY).mkdir(exist_ok=True)
            self.catalog = stack.enter_context(Catalog(self.folder / CATALOG, write=True))
            self.journal = Journal(self.folder / JOURNAL, write=False)
            stack.callback(self.journal.close)
            self.con = duck.connect(self.folder / _TEMPORARY)
            stack.callback(self.con.close)
            gone = [path for (path,) in self.catalog.rows("SELECT path FROM gone")]
            segments.sweep(self.segments, [*(s.path for s in self.catalog.segments()), *gone])
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def aside(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A database beside the one that seals, for what takes much."""
        return duck.aside(self.folder / _TEMPORARY)

    def _begin(self) -> None:
        self._until = self.catalog.sealed_until()
        if self.journal.last_id() < self._until:
            self._until = 0  # a new one took its place
        self._after, self._since_ms = self._until, 0
        self._decoder = Decoder(State.load(self.catalog.kept("decoder") or b""))
        self._datagrams = 0
        self._unread: list[Lost] = []
        self._numbers: dict[str, int] = {}

    # Rows in

    def gather(self) -> bool:
        """Decodes what has come, up to a batch; whether there is more."""
        for row in self.journal.read(self._until):
            self._feed(row)
            if self._decoder.waiting >= BATCH:
                return True
        return False

    def number(self, address: str) -> int:
        """An exporter's, in the catalogue."""
        if address not in self._numbers:
            self._numbers[address] = self.catalog.exporter(address)
        return self._numbers[address]

    def _feed(self, row: Row) -> None:
        number = self.number(row.exporter)
        try:
            datagrams = unpack(row)
        except ValueError:
            self._unread.append(Lost(number, row.since_ms, row.until_ms, row.datagrams * USUAL_FLOWS, "journal"))
            datagrams = []
        self._decoder.feed(number, datagrams)
        self._datagrams += len(datagrams)
        self._until = row.id
        self._since_ms = self._since_ms or row.since_ms

    @property
    def waits(self) -> bool:
        """Whether there is something to seal."""
        return self._until > self._after

    def due(self, now_ms: int) -> bool:
        if not self.waits:
            return False
        waiting = self._decoder.waiting
        age_ms = now_ms - self._since_ms
        return waiting >= BATCH or age_ms >= (LATER_MS if waiting < FEW else SOON_MS) or age_ms < 0

    # Segments out

    def seal(self) -> SegmentFile | None:
        """What was gathered, on disk and known when it returns."""
        decoded = self._decoder.take()
        segment, sums = self.write(decoded, (self._after, self._until), parked_bytes(self._decoder.state))
        with self.catalog.transaction():
            if segment is not None:
                self.catalog.add(segment)
                rollups.add(self.catalog, sums)
            self._lose(decoded)
            self._tell(decoded)
            self.catalog.keep("decoder", self._decoder.state.dump())
            self.catalog.keep("sealed", str(self._until).encode())
        self._after, self._since_ms, self._datagrams, self._unread = self._until, 0, 0, []
        return segment

    def write(self, decoded: Decoded, journal: tuple[int, int], parked: int) -> tuple[SegmentFile | None, rollups.Sums]:
        """A segment that the catalogue doesn't know yet, and its totals."""
        if not len(decoded.flows):
            return None, {}
        packed = packing.pack(decoded.flows)
        decoded.flows = decoded.flows[:0]  # half of the memory
        sums = counting.count(packed)
        with segments.registered(self.con, packed):
            return segments.write_packed(packed, self.segments, self.con, journal, parked_bytes=parked), sums

    def _lose(self, decoded: Decoded) -> None:
        """With the datagrams that the collector couldn't take, as flows by how many there usually are in one."""
        after = int(self.catalog.kept("dropped") or 0)
        each = max(1, round(sum(facts.flows for facts in decoded.exporters.values()) / (self._datagrams or 1)))
        dropped = self.journal.dropped(after)
        losses = [Lost(0, drop.since_ms, drop.until_ms, drop.datagrams * each, drop.cause) for drop in dropped]
        told = unexplained([Lost(*loss) for loss in decoded.losses], sum(loss.flows for loss in losses))
        self.catalog.lose([*told, *self._unread, *losses], self._until)
        if dropped:
            self.catalog.keep("dropped", str(dropped[-1].id).encode())

    def _tell(self, decoded: Decoded) -> None:
        """What the decoder noticed, for the doctor of routers."""
        if not decoded.exporters and not decoded.refused and not decoded.notes:
            return
        known = json.loads(self.catalog.kept(noted.NAME) or b"{}")
        noticed = noted.added(
            known, decoded.exporters, decoded.refused, decoded.notes, decoded.interfaces, self._since_ms
        )
        self.catalog.keep(noted.NAME, json.dumps(noticed).encode())

    # Names given and taken

    def exchange(self, new: Iterable[SegmentFile], old: Iterable[SegmentFile], now_ms: int) -> None:
        """Within a transaction. Files of the old ones stay until nobody reads them."""
        for segment in new:
            self.catalog.add(segment)
        self.catalog.remove(old, now_ms)


def unexplained(losses: Iterable[Lost], dropped: int) -> Iterator[Lost]:
    """What this machine couldn't take is missing in the routers' own count, too: the same flows aren't lost twice."""
    for loss in losses:
        known = min(dropped, loss.flows) if loss.cause == "sequence" else 0
        dropped -= known
        if loss.flows > known:
            yield loss._replace(flows=loss.flows - known)


def parked_bytes(state: State) -> int:
    return sum(stream.parked_bytes for exporter in state.exporters.values() for stream in exporter.streams.values())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits until another one, which is about to end, has ended."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
