"""What the catalogue knows of a cluster: which segments wait for it, are being loaded, are in it. No server is asked.

A load's number is written here before the first row is sent and its segment stays as it is from then on, so that after
a crash the cluster can be asked whether that segment, by its SHA-256, is in it. Compaction never mixes what is loaded
with what isn't: what becomes of loaded ones is loaded.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

from collector.store.catalog import Catalog
from collector.store.models import ASKED, BEGUN, HISTORY, LOADED, WAITS, Lost, SegmentFile

_RANDOM_BITS = 20
GONE = "server"  # the cause of what a server of the cluster has lost
TOLD = "store_told"  # which routers the cluster knows
_BEGAN = "store"  # what the catalogue keeps since it knows of a cluster
_TAKEN = "store_taken"  # and since it knows what that had before
_ELSEWHERE = -1  # the row of a journal that isn't this disk's
_OF_EARLIER = "of what an earlier disk received this is what it had loaded; what it hadn't isn't known here"


class Begun(NamedTuple):
    """A load whose end isn't known here. `absent_ms` is when the cluster first said that it hasn't got it."""

    load: int
    segment: int
    sha256: str
    shard: int
    day: str
    was: int
    at_ms: int
    absent_ms: int | None


class Loaded(NamedTuple):
    load: int
    sha256: str
    shard: int
    day: str


class Waiting(NamedTuple):
    """What isn't in the cluster: `since_ms` is when the oldest of it came, `asked` files are of the history."""

    files: int
    rows: int
    bytes: int
    since_ms: int | None
    asked: int
    history: int
    loaded_until_ms: int | None


def day_of(segment: SegmentFile) -> date:
    """All that is loaded of it has this one (UTC)."""
    return datetime.fromtimestamp(segment.received_from_ms / 1000, UTC).date()


# Which


def begin_history(catalog: Catalog, now_ms: int) -> int:
    """What was there before a cluster was configured isn't loaded by itself; the time of that."""
    began = catalog.kept(_BEGAN)
    if began is None:
        began = b"%d" % now_ms
        with catalog.transaction():
            catalog.run("UPDATE segment SET state = ? WHERE state = ?", HISTORY, WAITS)
            catalog.keep(_BEGAN, began)
    return int(began)


def end_history(catalog: Catalog) -> None:
    """No cluster is configured: what comes now is history where there is one again."""
    catalog.run("DELETE FROM kept WHERE name IN (?, ?)", _BEGAN, _TAKEN)


def ask(catalog: Catalog, since_ms: int, until_ms: int) -> int:
    """History of a time is to be loaded too: how many flows that are."""
    where = "state = ? AND received_from_ms < ? AND received_until_ms >= ? AND damaged IS NULL"
    with catalog.transaction():
        (rows,) = catalog.one(f"SELECT sum(rows) FROM segment WHERE {where}", HISTORY, until_ms, since_ms)  # noqa: S608
        catalog.run(f"UPDATE segment SET state = {ASKED:d} WHERE {where}", HISTORY, until_ms, since_ms)  # noqa: S608
    return int(rows or 0)


def waiting(catalog: Catalog) -> Waiting:
    sums = "count(*), sum(rows), sum(bytes + ends_bytes), min(received_from_ms)"
    new, asked = f"{WAITS:d}, {BEGUN:d}", f"{ASKED:d}"
    files, rows, size, since = catalog.one(f"SELECT {sums} FROM segment WHERE state IN ({new})")  # noqa: S608
    (of_history,) = catalog.one(f"SELECT count(*) FROM segment WHERE state IN ({asked})")  # noqa: S608
    (left,) = catalog.one("SELECT count(*) FROM segment WHERE state = ?", HISTORY)
    (until,) = catalog.one("SELECT max(received_until_ms) FROM loaded WHERE replaced = 0")
    return Waiting(files, rows or 0, size or 0, since, of_history, left, until)


# One after the other


def begin(catalog: Catalog, segment: SegmentFile, shard: int, now_ms: int) -> int | None:
    """Its load, which is larger than all before; None where the segment isn't as it was any more."""
    with catalog.transaction():
        found = catalog.one("SELECT sha256, state, damaged FROM segment WHERE id = ?", segment.id)
        if found != (segment.sha256, segment.state, None):
            return None
        (last,) = catalog.one("SELECT max(load) FROM (SELECT load FROM begun UNION ALL SELECT load FROM loaded)")
        load = max((last or 0) + 1, now_ms << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))
        catalog.run(
            "INSERT INTO begun (load, segment, sha256, shard, day, was, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            load, segment.id, segment.sha256, shard, day_of(segment).isoformat(), segment.state, now_ms,
        )  # fmt: skip
        catalog.run("UPDATE segment SET state = ? WHERE id = ?", BEGUN, segment.id)
    return load


def end(catalog: Catalog, segment: int, load: int, shard: int) -> None:
    """It is in the cluster by this load. Others of the same segment that were begun are left over."""
    fields = "journal_after, journal_until, received_from_ms, received_until_ms, first_ms, last_ms"
    fields += ", odd_first_ms, odd_last_ms"
    with catalog.transaction():
        found = catalog.one("SELECT sha256, received_from_ms FROM segment WHERE id = ?", segment)
        if found is not None:
            day = datetime.fromtimestamp(found[1] / 1000, UTC).date().isoformat()
            catalog.run(
                f"INSERT OR IGNORE INTO loaded (load, sha256, shard, day, rows, {fields})"  # noqa: S608
                f" SELECT ?, sha256, ?, ?, rows, {fields} FROM segment WHERE id = ?",
                load, shard, day, segment,
            )  # fmt: skip
        catalog.run("UPDATE segment SET state = ? WHERE id = ?", LOADED, segment)
        catalog.run("DELETE FROM begun WHERE load = ?", load)
        catalog.run("UPDATE begun SET over = 1 WHERE segment = ?", segment)


def give_up(catalog: Catalog, load: int) -> None:
    """It never becomes part of the cluster: its segment waits again, and what of it was sent is to be removed."""
    with catalog.transaction():
        catalog.run(
            "UPDATE segment SET state = (SELECT was FROM begun WHERE load = ?)"
            " WHERE state = ? AND id = (SELECT segment FROM begun WHERE load = ?)",
            load, BEGUN, load,
        )  # fmt: skip
        catalog.run("UPDATE begun SET over = 1 WHERE load = ?", load)


def absent(catalog: Catalog, load: int, now_ms: int) -> None:
    catalog.run("UPDATE begun SET absent_ms = ? WHERE load = ? AND absent_ms IS NULL", now_ms, load)


def begin_again(catalog: Catalog, load: int, now_ms: int) -> None:
    """To wait for what the cluster says of it."""
    catalog.run("UPDATE begun SET at_ms = ?, absent_ms = NULL WHERE load = ?", now_ms, load)


def begun(catalog: Catalog, over: bool = False) -> list[Begun]:
    fields = ", ".join(Begun._fields)
    rows = catalog.rows(f"SELECT {fields} FROM begun WHERE over = ? ORDER BY load", int(over))  # noqa: S608
    return [Begun._make(row) for row in rows]


def forget(catalog: Catalog, load: int) -> None:
    catalog.run("DELETE FROM begun WHERE load = ?", load)


# Afterwards


class Line(NamedTuple):
    """Of the cluster's table `loads`; the odd times are 1 and 0 where there are none."""

    load: int
    sha256: str
    shard: int
    day: str
    rows: int
    received_from_ms: int
    received_until_ms: int
    first_ms: int
    last_ms: int
    odd_first_ms: int
    odd_last_ms: int


def knows_earlier(catalog: Catalog) -> bool:
    return catalog.kept(_TAKEN) is not None


def take_over(catalog: Catalog, lines: Iterable[Line], exporters: Mapping[int, str], now_ms: int) -> int:
    """What the cluster has of this site already, as an earlier disk loaded it; how many loads that are.

    What is on this disk, as on one that was put back from an older copy, counts here.
    """
    fields = ", ".join((*Line._fields, "journal_after", "journal_until"))
    with catalog.transaction():
        here = {sha256 for (sha256,) in catalog.rows("SELECT sha256 FROM segment UNION SELECT sha256 FROM begun")}
        rows = [
            (*line[:-2], *((None, None) if line.odd_first_ms > line.odd_last_ms else line[-2:]), _ELSEWHERE, _ELSEWHERE)
            for line in lines
            if line.sha256 not in here
        ]
        (before,) = catalog.one("SELECT count(*) FROM loaded")
        values = "?, " * (len(Line._fields) + 2)
        catalog.run_many(f"INSERT OR IGNORE INTO loaded ({fields}, copied) VALUES ({values}1)", rows)  # noqa: S608
        (after,) = catalog.one("SELECT count(*) FROM loaded")
        catalog.know_exporters(exporters)
        catalog.keep(_TAKEN, b"%d" % now_ms)
    return int(after - before)


def of_earlier(catalog: Catalog, since_ms: int, until_ms: int) -> list[str]:
    """A note, where the cluster has flows of a time that an earlier disk received."""
    where = "journal_until = ? AND replaced = 0 AND received_from_ms < ? AND received_until_ms >= ?"
    found = catalog.one(f"SELECT 1 FROM loaded WHERE {where} LIMIT 1", _ELSEWHERE, until_ms, since_ms)  # noqa: S608
    return [] if found is None else [_OF_EARLIER]


def uncopied(catalog: Catalog) -> list[Loaded]:
    """Loads that not every shard is known to have been told of."""
    fields = ", ".join(Loaded._fields)
    return [Loaded._make(row) for row in catalog.rows(f"SELECT {fields} FROM loaded WHERE copied = 0 ORDER BY load")]  # noqa: S608


def copied(catalog: Catalog, loads: Iterable[int]) -> None:
    catalog.run_many("UPDATE loaded SET copied = 1 WHERE load = ?", [(load,) for load in loads])


def replace(catalog: Catalog, after: int, until: int, old: Sequence[SegmentFile]) -> None:
    """Within a transaction: these rows of the journal were decoded anew, so what of them is in the cluster is not to
    count any more. `old` are the segments that had them."""
    if old:
        catalog.run(
            "UPDATE loaded SET replaced = 1 WHERE replaced = 0 AND journal_after >= ? AND journal_until <= ?"
            " AND received_from_ms >= ? AND received_until_ms <= ?",
            after, until, min(s.received_from_ms for s in old), max(s.received_until_ms for s in old),
        )  # fmt: skip


def replaced(catalog: Catalog, told: bool = False) -> list[Loaded]:
    """Loads that don't count any more, which the cluster was `told` or not."""
    fields = ", ".join(Loaded._fields)
    rows = catalog.rows(f"SELECT {fields} FROM loaded WHERE replaced = ? ORDER BY load", 1 + told)  # noqa: S608
    return [Loaded._make(row) for row in rows]


def told(catalog: Catalog, loads: Iterable[int]) -> None:
    catalog.run_many("UPDATE loaded SET replaced = 2 WHERE load = ?", [(load,) for load in loads])


def at_home(catalog: Catalog, shard: int) -> list[int]:
    """Loads that this shard is to have."""
    return [load for (load,) in catalog.rows("SELECT load FROM loaded WHERE shard = ? AND replaced = 0", shard)]


def gone(catalog: Catalog, missing: Iterable[int]) -> None:
    """A server has lost these loads: what of them is on this disk waits again, as a whole, the rest is lost.

    What else is in the segments that wait doesn't count any more. Other lines that the server had are told anew.
    """
    fields = "journal_after, journal_until, received_from_ms, received_until_ms, rows"
    with catalog.transaction():
        for load in missing:
            row = catalog.one(f"SELECT {fields} FROM loaded WHERE load = ? AND replaced = 0", load)  # noqa: S608
            if row is not None and not _wait_again(catalog, *row[:4]):
                catalog.lose([Lost(0, row[2], row[3], row[4], GONE)], row[1])
            catalog.run("UPDATE loaded SET replaced = 1 WHERE load = ?", load)
        catalog.run("UPDATE loaded SET copied = 0 WHERE replaced = 0")
        catalog.run("UPDATE loaded SET replaced = 1 WHERE replaced = 2")
        catalog.keep(TOLD, b"{}")


def _wait_again(catalog: Catalog, after: int, until: int, from_ms: int, until_ms: int) -> bool:
    """The segments around these rows of the journal; whether there are any, and all can be loaded."""
    around = "state = ? AND journal_after <= ? AND journal_until >= ? AND received_from_ms <= ?"
    around += " AND received_until_ms >= ?"
    bounds = "min(journal_after), max(journal_until), min(received_from_ms), max(received_until_ms), count(damaged)"
    values = (LOADED, after, until, until_ms, from_ms)
    whole = catalog.one(f"SELECT {bounds} FROM segment WHERE {around}", *values)  # noqa: S608
    *whole, damaged = whole
    if whole[0] is None or damaged:
        return False
    catalog.run(f"UPDATE segment SET state = {WAITS:d} WHERE {around}", *values)  # noqa: S608
    catalog.run(
        "UPDATE loaded SET replaced = 1 WHERE replaced = 0 AND journal_after >= ? AND journal_until <= ?"
        " AND received_from_ms >= ? AND received_until_ms <= ?",
        *whole,
    )
    return True


def expire(catalog: Catalog, before_ms: int) -> None:
    """Within a transaction: of days that the cluster drops, too; and loads of segments that went before their end."""
    held = "min(first_ms, received_from_ms) < until_ms AND max(last_ms, received_until_ms) >= since_ms"
    held = f"EXISTS (SELECT 1 FROM hold WHERE released_ms IS NULL AND {held})"  # noqa: S608
    catalog.run(f"DELETE FROM loaded WHERE received_until_ms < ? AND NOT {held}", before_ms)  # noqa: S608
    catalog.run("UPDATE begun SET over = 1 WHERE segment NOT IN (SELECT id FROM segment)")


def same(catalog: Catalog, parts: Iterable[SegmentFile]) -> bool:
    """Within a transaction: whether they are still there, and their states what they were."""
    states = dict(catalog.rows("SELECT id, state FROM segment"))
    return all(states.get(part.id) == part.state for part in parts)
