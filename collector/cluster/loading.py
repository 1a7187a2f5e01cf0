"""One segment into a cluster: rows, then totals, then the line that makes them count."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from collector.cluster import tables
from collector.cluster.client import Host
from collector.flows import COLUMNS
from collector.store import compaction, counting, duck, loads, packing
from collector.store.models import SegmentFile
from collector.store.rollups import GRAINS
from collector.store.unpacking import File

PORTION = 131_072  # rows in memory at once, of 200 bytes
_EPOCH = date(1970, 1, 1).toordinal()
NO_ODD = (1, 0)


def shard_of(sha256: str, count: int) -> int:
    """The one that a segment goes to, so that two who load the same one meet there."""
    return int(sha256[:8], 16) % count + 1


def send(host: Host, site: str, segment: SegmentFile, folder: Path, load: int) -> list[int]:
    """All but the line that counts; the exporters that are in it.

    Raises duckdb.Error where the segment can't be read, and what Host raises.
    """
    day, exporters = loads.day_of(segment), set[int]()
    with duck_of(folder) as con:
        for columns in _portions(con, File(folder / segment.path, segment.columns), segment.rows):
            exporters.update(np.unique(columns["exporter"]).tolist())
            host.insert("flows", _of(site, day, load, len(columns["first"])) | columns)
        for totals in _totals(con, segment, folder):
            host.insert("totals", _of(site, day, load, len(totals["at"])) | totals)
    return sorted(exporters)


def commit(host: Host, line: dict[str, Any]) -> None:
    """From now on the load counts; the same again on other shards only tells of it."""
    host.insert("loads", {name: [line[name]] for name in tables.columns("loads")})


def line(site: str, segment: SegmentFile, load: int, shard: int, exporters: Sequence[int], at: int) -> dict[str, Any]:
    """Of `loads`, at a time in seconds."""
    odd = NO_ODD if segment.odd_first_ms is None else (segment.odd_first_ms, segment.odd_last_ms)
    return {
        **{"site": site, "day": loads.day_of(segment), "load": load, "sha256": segment.sha256, "shard": shard},
        **{"rows": segment.rows, "exporters": list(exporters)},
        **{"received_from_ms": segment.received_from_ms, "received_until_ms": segment.received_until_ms},
        **{"first_ms": segment.first_ms, "last_ms": segment.last_ms, "odd_first_ms": odd[0], "odd_last_ms": odd[1]},
        "at": datetime.fromtimestamp(at, UTC),
    }


def found(host: Host, site: str, sha256: str, shard: int, but: Iterable[int] = ()) -> tuple[int, int] | None:
    """The load of a segment that counts and lies on this shard, and the shard; `but` those don't count."""
    where = f"site = '{site}' AND sha256 = '{sha256}' AND shard = {shard:d}"  # the first two of harmless letters
    where += " AND load NOT IN (SELECT load FROM replaced)"
    where += "".join(f" AND load != {load:d}" for load in but)
    ((count, load),) = host.rows(f"SELECT count(), min(load) FROM loads WHERE {where}")  # noqa: S608
    return (int(load), shard) if count else None


def duck_of(folder: Path) -> Any:
    """What reading a segment takes is the machine's again afterwards."""
    temporary = folder.with_name("temporary") / "loading"
    temporary.mkdir(parents=True, exist_ok=True)
    return duck.aside(temporary)


def _of(site: str, day: date, load: int, rows: int) -> dict[str, Any]:
    days = day.toordinal() - _EPOCH
    return {"site": [site] * rows, "day": np.full(rows, days, "u2"), "load": np.full(rows, load, "u8")}


def _portions(con: duckdb.DuckDBPyConnection, file: File, rows: int) -> Iterator[dict[str, NDArray[Any]]]:
    kinds = {"client_hi": "UBIGINT", "client_lo": "UBIGINT", "twin": "BOOLEAN"}
    chosen = [f"{file.raw(name, kind)} AS {name}" for name, kind in kinds.items()]
    chosen[-1] = f"CAST({file.raw('twin', 'BOOLEAN')} AS UTINYINT) AS twin"
    chosen += [f"{file.column(column.name)} AS {column.name}" for column in COLUMNS]
    for begin in range(0, rows, PORTION):
        where = f"file_row_number BETWEEN {begin} AND {begin + PORTION - 1}"
        yield con.execute(f"SELECT {', '.join(chosen)} FROM {file.source} WHERE {where}").fetchnumpy()  # noqa: S608


def _totals(con: duckdb.DuckDBPyConnection, segment: SegmentFile, folder: Path) -> Iterator[dict[str, list[Any]]]:
    """What the sealer counted of it, again."""
    names = tables.columns("totals")[4:]
    for columns in compaction.read(con, [segment], folder):
        sums = counting.count(packing.settled(columns))
        rows = [(grain, *row) for grain, of in enumerate(GRAINS) for row in sums[of.table]]
        if rows:
            yield dict(zip(("grain", *names), map(list, zip(*rows, strict=True)), strict=True))
