"""Reading what is kept: which segments can matter, their flows as a relation of DuckDB, and how complete they are."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np

from collector.filters import conditions
from collector.flows import FLOW
from collector.store import completeness, duck, ends, packing, segments, sets, tail
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, SEGMENTS, Certificate, SegmentFile, beside
from collector.store.models import Range as Range
from collector.store.tail import Tail
from collector.store.unpacking import TYPES, File
from collector.wanted import Held, Wanted

Answer = TypeVar("Answer")
Client = tuple[int, int, int]  # upper half, and the lowest and highest lower half of a range of addresses
End = tuple[int, int, int | None]  # halves of an address, and a port
_FEW_FILES = 2
_LAGS = (
    "SELECT exporter, min(received - last) AS least, count(*) AS flows FROM {} AS flows"
    " WHERE (marks & 3) = 0 GROUP BY exporter ORDER BY exporter"
)


class Reading:
    """What is kept in a folder `flows/`, as of its opening. `con` runs the SQL that it gives.

    `site` is whose these flows are, where there are several.
    """

    site = ""
    alone = True  # no cluster is asked, too

    def __init__(self, folder: Path, memory_mb: int = duck.MEMORY_MB, temporary: Path | None = None) -> None:
        self.folder = folder
        self._memory_mb, self._temporary = memory_mb, temporary
        self._damaged: dict[str, str] = {}
        self._read_tail: Tail | None = None

    def __enter__(self) -> "Reading":
        with ExitStack() as stack:
            self.catalog = stack.enter_context(Catalog(self.folder / CATALOG))
            stack.enter_context(self.catalog.as_of_now())
            self.con: duckdb.DuckDBPyConnection = duck.reader(self._temporary, self._memory_mb)
            stack.callback(self.con.close)
            self.exporters = self.catalog.exporters()  # first of all, as it fixes what the catalogue is as of
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def relation(
        self,
        range: Range,
        clients: Sequence[Client] | None = None,
        exporters: Iterable[int] | None = None,
        files: Sequence[SegmentFile] | None = None,
    ) -> str:
        """SQL of FLOW's columns, one row per flow as exported, of all flows that overlap a range of time.

        With `clients` flows are left out of which neither end is in one of those ranges of addresses; what stands
        behind the destination's address counts as that end. So may flows of exporters that aren't asked for.
        `files` are the only segments to look into.
        """
        wanted = None if exporters is None else list(exporters)
        among = self.files(range, clients) if files is None else files
        parts = [part for file in among for part in self._parts(file, range, clients, wanted)]
        if self._reaches_tail(range):
            parts.append(self._of_tail(range, wanted))
        return "\nUNION ALL\n".join(parts) or _nothing()

    def flows(self, wanted: Wanted) -> Iterator[str]:
        """SQL of what is wanted, all of it `together` or one part after the other: each is over before the next."""
        root = wanted.root
        relation = self.relation(wanted.range, conditions.clients(root), conditions.exporters(root))
        yield f"SELECT * FROM ({relation}) AS flows WHERE {conditions.sql(root)}"  # noqa: S608

    def sums(self, wanted: Wanted, held: Held | None = None) -> str | None:
        """SQL of rows with the columns of a group and showing.PARTIAL, several of a group; None: flows are at hand."""
        return None

    def progress(self) -> float:
        """In hundredths."""
        return float(self.con.query_progress())

    def lags(self, range: Range) -> list[tuple[int, int, int]]:
        """By exporter: how long after its last packet a flow came at least, and of how many flows that is known."""
        files = list(_telling(self.files(range)))
        rows = self.con.execute(_LAGS.format(f"({self.relation(range, files=files)})")).fetchall()
        return [(exporter, least, flows) for exporter, least, flows in rows]

    def who(self, wanted: Wanted, end: End, events: bool = False) -> str:
        """SQL of the flows of a time that may have an address and port at any end, or of the NAT events.

        All that have them are there, and some that haven't.
        """
        range = wanted.range
        parts = [part for file in self.files(range) for part in self._having(file, range, end, events)]
        if self._reaches_tail(range):
            parts.append(f"SELECT * FROM ({self._of_tail(range, None)}) WHERE (nat_event <> 0) = {events}")  # noqa: S608
        return "\nUNION ALL\n".join(parts) or _nothing()

    def _having(self, segment: SegmentFile, range: Range, end: End, events: bool) -> Iterator[str]:
        """By the order of clients what is the client's own address, by the second order what is any other."""
        hi, lo, _ = end
        file = File(self.folder / SEGMENTS / segment.path, segment.columns)
        kind = file.within("nat_event", 1, 255) if events else file.within("nat_event", 0, 0)
        common = [condition for condition in (kind, *self._when(segment, file, range)) if condition]
        own = file.between("client", hi, lo, lo)
        # Half of an address is 0 after NAT where it is the same as before.
        halves = ("client_lo", "peer_lo", "nat_client_lo", "nat_peer_lo")
        others = _any(file.within(name, lo, lo) or "true" for name in halves)
        if "false" in common:
            return
        if own != "false":
            yield file.relation(" AND ".join([*common, f"({own})"]))
        if others != "false" and own != "true":
            rows = self._rows(segment, range, end, events)
            if rows != "false":
                yield file.relation(" AND ".join([*common, rows, others, f"NOT ({own})"]))

    def _rows(self, segment: SegmentFile, range: Range, end: End, events: bool) -> str:
        """Condition on which of a segment's rows can have an end that isn't the client's own."""
        hi, lo, port = end
        slots = ends.EVENTS if events else ends.slots(range.since_ms, range.until_ms)
        if not segment.ends_bytes or port is None or slots is None:
            return "true"
        try:
            data = beside(self.folder / SEGMENTS / segment.path).read_bytes()
        except OSError:
            return "true"
        if hashlib.sha256(data).hexdigest() != segment.ends_sha256:
            return "true"
        spans = ends.spans(data, hi, lo, port, slots)
        return _any(f"file_row_number BETWEEN {first} AND {last}" for first, last in spans)

    @property
    def tail(self) -> Tail:
        """What has come but isn't sealed yet; read once."""
        if self._read_tail is None:
            self._read_tail = tail.read(self.folder, self.catalog, self.exporters)
            flows = self._read_tail.flows
            self.con.register("tail", {name: np.ascontiguousarray(flows[name]) for name in FLOW.names or ()})
        return self._read_tail

    def _reaches_tail(self, range: Range) -> bool:
        """Whether what isn't sealed can have flows of that time: decoding it is the slow part of a small question."""
        if self._read_tail is None:
            begins_ms = tail.begins_ms(self.folder, self.catalog)
            return begins_ms is not None and range.until_ms > begins_ms - packing.ODD_MS
        return True

    def _of_tail(self, range: Range, exporters: list[int] | None) -> str:
        if not len(self.tail.flows):
            return _nothing()
        among = "" if exporters is None else " AND " + _any(f"exporter = {number}" for number in exporters)
        return f"SELECT * FROM tail WHERE first < {range.until_ms} AND last >= {range.since_ms}{among}"  # noqa: S608

    def files(self, range: Range, clients: Sequence[Client] | None = None) -> list[SegmentFile]:
        """The segments that can have such flows, and are as they were written."""
        found = self.catalog.segments(range.since_ms, range.until_ms)
        return [s for s in found if self._reads(s) and (clients is None or _may_have(s, clients)) and self._sound(s)]

    def _reads(self, segment: SegmentFile) -> bool:
        """Whether its flows are read from this disk."""
        return True

    def sure(self, range: Range, ask: Callable[[], Answer]) -> Answer:
        """What is answered without the segments that can't be read, which are lost in its certificate."""
        try:
            return ask()
        except (duckdb.OutOfMemoryException, duckdb.InterruptException):
            raise
        except duckdb.Error:
            if not self.doubt(range):
                raise
            return ask()

    def doubt(self, range: Range) -> bool:
        """Looks whether the segments of a time are as they were written, when DuckDB couldn't read one.

        Those that aren't are left out from now on, and lost in certificates; whether there were any. Then ask anew.
        """
        found = False
        for segment in self.files(range):
            try:
                whole = segments.digest(self.folder / SEGMENTS / segment.path) == segment.sha256
            except OSError:
                whole = False
            if not whole:
                self._damaged[segment.path] = "it isn't as it was written"
                found = True
        return found

    def certificate(self, range: Range, exporters: Iterable[int] | None = None) -> Certificate:
        asked = None if exporters is None else {0, *exporters}
        sealed = completeness.certificate(self.catalog, range, asked, self._sound, self._reads)
        tail = self.tail if self._reaches_tail(range) else Tail()
        received = tail.flows["received"]
        present = int(((received >= range.since_ms) & (received < range.until_ms)).sum())
        late = completeness.out_of_reach(self.catalog, range) if self.alone else []
        late += [
            completeness.within(loss, range)
            for loss in tail.losses
            if loss.until_ms >= range.since_ms
            and loss.since_ms < range.until_ms
            and (asked is None or loss.exporter in asked)
        ]
        notes = [f"{path}: {why}" for path, why in self._damaged.items()]
        if tail.more:
            notes.append("what came last isn't read yet")
        return Certificate(
            sealed.present + present,
            sealed.lost + sum(loss.flows for loss in late),
            [*sealed.losses, *late],
            max(sealed.complete_until_ms, tail.until_ms),
            notes,
        )

    def _sound(self, segment: SegmentFile) -> bool:
        """Whether the file is there, whole by its size, and not known to be damaged; remembers why not."""
        why = segment.damaged or self._damaged.get(segment.path)
        try:
            size = (self.folder / SEGMENTS / segment.path).stat().st_size
            if size != segment.size_bytes:
                why = f"it has {size} bytes, {segment.size_bytes} were written"
        except OSError as error:
            why = str(error.strerror)
        if why:
            self._damaged[segment.path] = why
        return not why

    def _parts(
        self, segment: SegmentFile, range: Range, clients: Sequence[Client] | None, exporters: list[int] | None
    ) -> Iterator[str]:
        file = File(self.folder / SEGMENTS / segment.path, segment.columns)
        common = self._when(segment, file, range)
        low, high = segment.columns["exporter"]
        if exporters is not None and not (low == high and low in exporters):
            common.append(_any(f"{file.raw('exporter', 'UINTEGER')} = {number}" for number in exporters))
        for where in [""] if clients is None else _ends(file, clients):
            if where != "false" and "false" not in common:
                yield file.relation(" AND ".join([*common, *([where] if where else [])]))

    @staticmethod
    def _when(segment: SegmentFile, file: File, range: Range) -> list[str]:
        """Conditions that a flow overlaps a time, none where all do."""
        conditions = []
        if segment.odd_first_ms is not None or segment.first_ms < range.since_ms or segment.last_ms >= range.until_ms:
            longest = segment.columns["duration"].high
            began = file.began(range.since_ms - max(0, longest), range.until_ms - 1)
            conditions += [began] if began else []
            conditions.append(f"{file.last()} >= {range.since_ms}")
        return conditions


def _telling(files: Sequence[SegmentFile]) -> Iterator[SegmentFile]:
    """All that can show a clock ahead of ours; of others a few of each router."""
    seen: dict[object, int] = defaultdict(int)
    for file in files:
        its = file.columns["exporter"]
        if file.columns["lag"].low < 0 or seen[its] < _FEW_FILES:
            seen[its] += 1
            yield file


def _ends(file: File, clients: Sequence[Client]) -> Iterator[str]:
    """Conditions that exclude each other: the first can be asked of the file's order, the second looks at few rows."""
    low, high = file.bounds["twin"]
    client = _any(f"({file.between('client', *range)})" for range in clients)
    peer = _any(f"({file.between('peer', *range)})" for range in clients)
    outer = _any(f"({file.between('nat_client', *range)})" for range in clients)
    outside = [f"(via AND {outer})"] if file.bounds["via"].high and outer != "false" else []
    if all(packing.is_local(4 if hi == 0 else 6, hi, a, b) for hi, a, b in clients):
        yield client
        others = _any((peer, *outside))
        if high and others != "false":
            yield f"{'' if low == high else 'twin AND '}{others} AND NOT {client}"
    else:
        yield _any((client, peer, *outside))


def _any(conditions: Iterable[str]) -> str:
    parts = [condition for condition in conditions if condition not in ("false", "(false)")]
    return "(" + " OR ".join(parts) + ")" if parts else "false"


def _may_have(segment: SegmentFile, clients: Sequence[Client]) -> bool:
    for hi, low, high in clients:
        family = 4 if hi == 0 and high < 2**32 else 6
        if not packing.is_local(family, hi, low, high):
            return True
        if sets.may_have(segment.clients, family, *((low, high) if family == 4 else (hi, hi))):
            return True
    return False


def _nothing() -> str:
    chosen = ", ".join(f"NULL::{TYPES[name]} AS {name}" for name in FLOW.names or ())
    return f"SELECT {chosen} WHERE false"
