"""What the journal and the catalogue say of exporters, storage and holds: small tables, read where they lie.

Neither numpy nor DuckDB is loaded for this. The files belong to the collector; here they are only read.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import peewee

from appliance.config import Config
from appliance.errors import Unavailable
from collector import noted, places
from collector.journal import Journal
from collector.noted import Noted
from collector.store import rollups
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, JOURNAL, Hold

RATE_S = 300  # over which rates are taken
DAY_MS = 86_400_000
TREND_DAYS = 7


@contextmanager
def catalog(config: Config) -> Iterator[Catalog]:
    """Raises Unavailable where it can't be read, as when the data disk is away."""
    path = folder(config) / CATALOG
    _must_be(path)
    try:
        with Catalog(path) as opened:
            yield opened
    except peewee.PeeweeException as error:
        raise Unavailable(f"the catalogue of flows can't be read now: {error}") from None


@contextmanager
def journal(config: Config) -> Iterator[Any]:
    """Runs statements over the journal, as `catalog`."""
    path = folder(config) / JOURNAL
    _must_be(path)
    opened = Journal(path, write=False)
    try:
        yield opened
    except peewee.PeeweeException as error:
        raise Unavailable(f"the journal of flows can't be read now: {error}") from None
    finally:
        opened.close()


def _must_be(path: Path) -> None:
    try:
        path.stat()
    except OSError:
        raise Unavailable("nothing is kept yet, or the data disk is away") from None


def folder(config: Config) -> Path:
    return config.paths.data / places.DISK


@dataclass(frozen=True)
class Heard:
    """An address that sends. `lost` flows are of the last day; `noted` is for the doctor."""

    address: str
    collected: bool = False
    datagrams: int = 0
    bytes: int = 0
    first_ms: int = 0
    last_ms: int = 0
    datagrams_s: float = 0.0
    flows_s: float = 0.0
    lost: int = 0
    noted: Noted = Noted()


def heard(config: Config, now: int) -> list[Heard]:
    """All that ever sent, by address."""
    since = (now - RATE_S) * 1000
    with journal(config) as opened:
        rows = opened.heard()
        lately = dict(
            opened.run("SELECT exporter, sum(datagrams) FROM datagrams WHERE until_ms >= ? GROUP BY 1", since)
        )
    known = _catalogued(config, now)
    return [
        Heard(*row, datagrams_s=lately.get(row.exporter, 0) / RATE_S, **known.get(row.exporter, {}))  # type: ignore[misc]
        for row in rows
    ]


def _catalogued(config: Config, now: int) -> dict[str, dict[str, Any]]:
    """By address; nothing where the first segment isn't sealed yet."""
    since = now * 1000 - DAY_MS
    try:
        with catalog(config) as opened:
            numbers = opened.exporters()
            lost = dict(opened.run("SELECT exporter, sum(flows) FROM loss WHERE until_ms >= ? GROUP BY 1", since))
            notes = _notes(opened)
            sums = _sums(opened, now)
    except Unavailable:
        return {}
    return {
        address: {
            "lost": lost.get(number, 0),
            "flows_s": sums.flows.get(number, 0) / RATE_S,
            "noted": replace(
                noted.read(notes.get(str(number), {})),
                lost=lost.get(number, 0),
                inside=sums.inside.get(number),
                flow_bytes=sums.octets.get(number, 0),
            ),
        }
        for number, address in numbers.items()
    }


class _Sums(NamedTuple):
    """By exporter: flows of the last minutes, octets of the last day, the share of flows whose client is private."""

    flows: dict[int, int]
    octets: dict[int, int]
    inside: dict[int, float]


def _sums(opened: Catalog, now: int) -> _Sums:
    """Of all exporters at once, by whole hours: there may be hundreds, and the first page asks too."""
    service, client = (rollups.KINDS.index(kind) for kind in ("service", "client"))
    minute, hour = (grain.span_ms for grain in rollups.GRAINS[:2])
    lately, day = ((now * 1000 - past) // span * span for past, span in ((RATE_S * 1000, minute), (DAY_MS, hour)))
    by = "FROM {} WHERE kind = ? AND at >= ?"
    minutes, hours = (by.format(grain.table) for grain in rollups.GRAINS[:2])
    flows = dict(opened.run(f"SELECT exporter, sum(flows) {minutes} GROUP BY 1", service, lately))
    octets = dict(opened.run(f"SELECT exporter, CAST(total(bytes) AS INTEGER) {hours} GROUP BY 1", service, day))
    of: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    ipv4 = f"SELECT exporter, thing, sum(flows) {hours} AND length(thing) = 4 GROUP BY 1, 2"
    for exporter, address, count in opened.run(ipv4, client, day):
        of[exporter][not ip_address(bytes(address)).is_global] += count  # a client is the private end, if any is
    return _Sums(flows, octets, {exporter: counts[1] / sum(counts) for exporter, counts in of.items() if sum(counts)})


def _notes(opened: Catalog) -> dict[str, Any]:
    try:
        found = json.loads(opened.kept(noted.NAME) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# Storage


@dataclass(frozen=True)
class Level:
    title: str
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Storage:
    """`day_bytes` is what a day takes, as the last ones did; 0 where that isn't known yet."""

    levels: Sequence[Level]
    journal_bytes: int
    catalog_bytes: int
    first_ms: int | None
    last_ms: int | None
    day_bytes: int
    day_rows: int
    disk_free: int
    disk_size: int
    damaged: Sequence[str] = ()

    @property
    def bytes(self) -> int:
        return sum(level.bytes for level in self.levels) + self.journal_bytes + self.catalog_bytes

    @property
    def rows(self) -> int:
        return sum(level.rows for level in self.levels)

    @property
    def days_left(self) -> float | None:
        """Until the disk is full, at today's rate."""
        return self.disk_free / self.day_bytes if self.day_bytes else None


LEVELS = ("just sealed", "of an hour", "of a day")


def storage(config: Config, now: int) -> Storage:
    """Raises Unavailable where the disk is away."""
    since = now * 1000 - TREND_DAYS * DAY_MS
    with catalog(config) as opened:
        levels = opened.rows(
            "SELECT level, count(*), sum(rows), sum(bytes + ends_bytes) FROM segment GROUP BY level ORDER BY level"
        )
        first, last = opened.one("SELECT min(received_from_ms), max(received_until_ms) FROM segment")
        took, rows, began = opened.one(
            "SELECT sum(bytes + ends_bytes), sum(rows), min(received_from_ms) FROM segment WHERE received_from_ms >= ?",
            since,
        )
        damaged = opened.rows("SELECT path, damaged FROM segment WHERE damaged IS NOT NULL")
    days = max(1 / 24, (now * 1000 - began) / DAY_MS) if began else 1.0
    where = folder(config)
    disk = shutil.disk_usage(where)
    return Storage(
        [Level(LEVELS[min(level, 2)], files, count, size) for level, files, count, size in levels],
        _size(where / JOURNAL),
        _size(where / CATALOG),
        first,
        last,
        round((took or 0) / days),
        round((rows or 0) / days),
        disk.free,
        disk.total,
        [f"{path}: {why}" for path, why in damaged],
    )


def _size(path: Path) -> int:
    files = [path, path.with_name(f"{path.name}-wal")]
    return sum(file.stat().st_size for file in files if file.exists())


def holds(config: Config) -> list[Hold]:
    """The newest first, those that are released too."""
    with catalog(config) as opened:
        return opened.holds(released=True)[::-1]


# How it flows


@dataclass(frozen=True)
class Flow:
    """`lost` flows and `dropped` datagrams of the last day, by cause; `lag_s` is what waits for the sealer."""

    rows: int
    bytes: int
    files: int
    journal_bytes: int
    lag_s: float
    lost: Mapping[str, int]
    dropped: Mapping[str, int]


def flow(config: Config, now: int) -> Flow:
    since = now * 1000 - DAY_MS
    with catalog(config) as opened:
        files, rows, size = opened.one("SELECT count(*), sum(rows), sum(bytes + ends_bytes) FROM segment")
        sealed = opened.sealed_until()
        lost = dict(opened.run("SELECT cause, sum(flows) FROM loss WHERE until_ms >= ? GROUP BY 1", since))
    with journal(config) as kept:
        waiting = kept.one("SELECT since_ms FROM datagrams WHERE id > ? ORDER BY id LIMIT 1", sealed)
        dropped = dict(kept.run("SELECT cause, sum(datagrams) FROM dropped WHERE until_ms >= ? GROUP BY 1", since))
    lag_s = max(0.0, now - waiting[0] / 1000) if waiting else 0.0
    return Flow(rows or 0, size or 0, files, _size(folder(config) / JOURNAL), lag_s, lost, dropped)
