"""How long flows stay: so many days, so many GB, what a hold covers for as long as it stands. Pure, but for `apply`."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.config import Config
from collector.journal import Journal
from collector.store import loads, rollups
from collector.store.catalog import Catalog
from collector.store.models import BEGUN, JOURNAL, LOADED, WAITS, Hold, Lost, SegmentFile

GB = 10**9
DAY_MS = 86_400_000
FREE_SHARE, FREE_BYTES = 30, 256 * 2**20  # of the disk at least this stays free: a thirtieth, or so many
BALLAST, BALLAST_BYTES = "ballast", 32 * 2**20
_TREND_DAYS = 7
NOT_LOADED = (WAITS, BEGUN)
WAITED = "cluster"  # the cause of what is lost of these
AGEING_MS = 3_600_000  # at most, from one look at what is too old to the next, a minute later


@dataclass(frozen=True)
class Room:
    """Of the file system that flows are on."""

    size_bytes: int
    free_bytes: int

    @property
    def wanted_bytes(self) -> int:
        """That have to go, so that there is air."""
        return max(0, max(FREE_BYTES, self.size_bytes // FREE_SHARE) - self.free_bytes)


@dataclass(frozen=True)
class Elsewhere:
    """With a cluster: how long stays what is in it, and how long and how much may wait for it, 0 as the disk allows.

    Nothing has waited for longer than since `since_ms`, when there came to be a cluster.
    """

    keep_days: int
    wait_days: int
    wait_bytes: int
    since_ms: int = 0

    def is_over(self, segment: SegmentFile, now_ms: int) -> bool:
        if segment.state == LOADED:
            return segment.received_until_ms < now_ms - self.keep_days * DAY_MS
        waits_ms = max(segment.received_until_ms, self.since_ms)
        return segment.state in NOT_LOADED and waits_ms < now_ms - self.wait_days * DAY_MS


def too_old(
    segments: Iterable[SegmentFile], keep_days: int, now_ms: int, cluster: Elsewhere | None = None
) -> Iterator[SegmentFile]:
    for segment in segments:
        if segment.received_until_ms < now_ms - keep_days * DAY_MS or (cluster and cluster.is_over(segment, now_ms)):
            yield segment


def too_much(segments: Sequence[SegmentFile], excess_bytes: int) -> Iterator[SegmentFile]:
    """The oldest that are together so large."""
    for segment in segments:
        if excess_bytes <= 0:
            return
        excess_bytes -= segment.all_bytes
        yield segment


def held(segment: SegmentFile, holds: Iterable[Hold]) -> bool:
    begin, end = min(segment.first_ms, segment.received_from_ms), max(segment.last_ms, segment.received_until_ms)
    return any(begin < hold.until_ms and end >= hold.since_ms for hold in holds)


def to_go(
    segments: Sequence[SegmentFile],
    holds: Sequence[Hold],
    keep_days: int,
    keep_bytes: int,
    room: Room,
    now_ms: int,
    cluster: Elsewhere | None = None,
) -> list[SegmentFile]:
    """`segments` in order of receipt; `keep_bytes` 0 is as much as there is room for. What waits for a cluster goes
    last of all."""
    free = [segment for segment in segments if not held(segment, holds)]
    going = {segment.id: segment for segment in too_old(free, keep_days, now_ms, cluster)}
    if cluster is not None:
        free.sort(key=lambda segment: (segment.state != LOADED, segment.state in NOT_LOADED))
        waiting = [segment for segment in free if segment.state in NOT_LOADED and segment.id not in going]
        excess = sum(segment.all_bytes for segment in waiting) - cluster.wait_bytes if cluster.wait_bytes else 0
        going |= {segment.id: segment for segment in too_much(waiting, excess)}
    used = sum(segment.all_bytes for segment in segments)
    gone = sum(segment.all_bytes for segment in going.values())
    excess = max(used - keep_bytes if keep_bytes else 0, room.wanted_bytes) - gone
    rest = [segment for segment in free if segment.id not in going]
    return [*going.values(), *too_much(rest, excess)]


def apply(config: Config, folder: Path, catalog: Catalog, now_ms: int) -> list[SegmentFile]:
    """Takes from the catalogue what may go; its files go when nobody reads them. Totals stay."""
    settings, now_ms = config.netflow, _ageing(catalog, now_ms)
    keep_bytes, cluster = settings.keep_gb * GB, _cluster(config, catalog, now_ms)
    going = to_go(
        catalog.segments(), catalog.holds(), settings.keep_days, keep_bytes, room(folder), now_ms, cluster
    )  # fmt: skip
    with catalog.transaction():
        catalog.remove(going, now_ms)
        if cluster is not None:
            _lose(catalog, [segment for segment in going if segment.state in NOT_LOADED])
        loads.expire(catalog, now_ms - settings.keep_days * DAY_MS)
        rollups.expire(catalog, now_ms)
        if not catalog.holds():
            catalog.run("DELETE FROM loss WHERE until_ms < ?", now_ms - settings.keep_days * DAY_MS)
    journal = Journal(folder / JOURNAL)
    try:
        journal.expire(settings.journal_hours, settings.journal_gb * GB, catalog.sealed_until(), now_ms)
    finally:
        journal.close()
    return going


def _cluster(config: Config, catalog: Catalog, now_ms: int) -> Elsewhere | None:
    """Before anything goes, what was there before it is told from what waits for it: no loader need have been here."""
    of = config.netflow
    if not of.store:
        loads.end_history(catalog)
        return None
    since_ms = loads.begin_history(catalog, now_ms)
    return Elsewhere(of.store_keep_days, of.store_wait_days, of.store_wait_gb * GB, since_ms)


def _lose(catalog: Catalog, waiting: Iterable[SegmentFile]) -> None:
    """What waited for a cluster for too long, or where there is no room for it."""
    for segment in waiting:
        loss = Lost(0, segment.received_from_ms, segment.received_until_ms, segment.rows, WAITED)
        catalog.lose([loss], segment.journal_until)


def _ageing(catalog: Catalog, now_ms: int) -> int:
    """The time by which ages are told: it runs after the machine's clock, so that one that is wrong for an hour, as
    without a battery before it is set, takes days of flows away and not all of them."""
    before_ms = int(catalog.kept("ageing") or now_ms)
    at_ms = min(now_ms, before_ms + AGEING_MS)
    catalog.keep("ageing", b"%d" % at_ms)
    return at_ms


def room(folder: Path) -> Room:
    usage = shutil.disk_usage(folder)
    return Room(usage.total, usage.free)


def take_on_ballast(folder: Path) -> None:
    """Room for the catalogue on a full disk, taken while there is some."""
    path = folder / BALLAST
    if room(folder).wanted_bytes == 0 and (not path.exists() or path.stat().st_size < BALLAST_BYTES):
        path.write_bytes(bytes(BALLAST_BYTES))


def drop_ballast(folder: Path) -> bool:
    """Whether there was some."""
    path = folder / BALLAST
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


@dataclass(frozen=True)
class Forecast:
    """`day_bytes` is what a day takes at the rate of the last ones, 0 where that isn't known yet."""

    day_bytes: int
    day_flows: int
    used_bytes: int
    free_bytes: int
    keep_days: int
    keep_bytes: int

    @property
    def needed_bytes(self) -> int:
        return self.day_bytes * self.keep_days

    def lines(self) -> list[str]:
        if not self.day_bytes:
            return ["What a day takes isn't known yet."]
        room_bytes = min(self.used_bytes + self.free_bytes, self.keep_bytes or 2**63)
        need = f"{self.keep_days} days at today's rate need {_gb(self.needed_bytes)}"
        if self.needed_bytes <= room_bytes:
            return [f"{need}, and there is room for {_gb(room_bytes)}."]
        days = room_bytes // self.day_bytes
        return [f"{need}, but there is only room for {_gb(room_bytes)}: flows are kept for {days} days."]


def forecast(config: Config, folder: Path, catalog: Catalog, now_ms: int) -> Forecast:
    since_ms = now_ms - _TREND_DAYS * DAY_MS
    segments = catalog.segments()
    lately = [s for s in segments if s.received_from_ms >= since_ms]
    begun = min((s.received_from_ms for s in lately), default=now_ms)
    days = max((now_ms - begun) / DAY_MS, 1 / 24)
    return Forecast(
        round(sum(s.all_bytes for s in lately) / days),
        round(sum(s.rows for s in lately) / days),
        sum(s.all_bytes for s in segments),
        room(folder).free_bytes,
        config.netflow.disk_days,
        config.netflow.keep_gb * GB,
    )


def _gb(number: int) -> str:
    return f"{number / GB:.0f} GB" if number >= 10 * GB else f"{number / GB:.1f} GB"
