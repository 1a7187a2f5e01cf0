"""What a copy of another appliance's vaults erases at last: not when it is erased there, but its own time after that.

Counted by this vault's own clock, from when the erasing was first seen here; and never more than half of it unasked.
"""

import contextlib
import logging
from pathlib import Path
from typing import Any

import peewee

from appliance.vault import following, objects
from appliance.vault.clock import DAY_MS
from appliance.vault.manifest import Manifest
from appliance.vault.models import Head, VaultModel
from appliance.vault.sources import Source, place_of, rows
from appliance.vault.store import Store

_HOUR_MS = 3_600_000

log = logging.getLogger(__name__)


class Seen(VaultModel):
    """Up to which event a copy was at the end of an hour of this vault's own clock."""

    id = peewee.AutoField()
    source = peewee.ForeignKeyField(Source)
    n = peewee.BigIntegerField()
    age_ms = peewee.BigIntegerField()


def run(store: Store) -> None:
    """For each copy, after it was pulled."""
    for source in rows():
        note(source, Head.get_by_id(1).age_ms)
        if count := erase(store, source):
            log.info("%d contents of the copy of %s were erased, as their time was over", count, source.name)


def note(source: Any, age_ms: int) -> None:
    last = Seen.select().where(Seen.source == source).order_by(Seen.n.desc()).first()
    if source.head_n and (last is None or last.n < source.head_n):
        hour_ms = (age_ms // _HOUR_MS + 1) * _HOUR_MS
        Seen.insert(source=source, n=source.head_n, age_ms=hour_ms).on_conflict(
            conflict_target=[Seen.source, Seen.age_ms], update={Seen.n: source.head_n}
        ).execute()


def erase(store: Store, source: Any, most: bool = False) -> int:
    """How many contents went. More than half of the copy only if it is said so; else that is kept as `held`."""
    if source.keep_days is None:
        return 0
    before_ms = Head.get_by_id(1).age_ms - source.keep_days * DAY_MS
    over = (Seen.source == source) & (Seen.age_ms <= before_ms)
    upto = Seen.select(peewee.fn.MAX(Seen.n)).where(over).scalar()
    if upto is None:
        return 0
    place = place_of(store, source.name)
    with following.alone(place):
        gone = outlived(place, upto)
        there = list((place / objects.OBJECTS).glob("*/*"))
        going = [file for file in there if bytes.fromhex(file.name) in gone]
        if len(going) * 2 > len(there) and not most:
            _hold(source, f"{len(going)} of its {len(there)} contents were erased there and are to go here: nothing is")
            return 0
        for file in going:
            source.bytes -= file.stat().st_size
            file.unlink()
    source.held = ""
    source.save(only=[Source.held, Source.bytes])
    Seen.delete().where(over).execute()
    return len(going)


def _hold(source: Any, text: str) -> None:
    source.held = f"{text}, unless you say `gatehouse vault forget {source.name}`"
    source.save(only=[Source.held])


def outlived(place: Path, upto: int) -> set[bytes]:
    """Hashes of contents all of whose versions were erased by an event up to that one."""
    erased: set[int] = set()
    gone: set[bytes] = set()
    alive: set[bytes] = set()
    with contextlib.closing(_lines(place)) as lines:
        for n, record in lines:
            if n <= upto:
                erased.update(record.get("versions", ()))
    with contextlib.closing(_lines(place)) as lines:
        for _, record in lines:
            if "sha256" in record:
                (gone if record["version"] in erased else alive).add(bytes.fromhex(record["sha256"]))
    return gone - alive


def _lines(place: Path) -> Any:
    with Manifest(place, write=False) as file:
        for line in file.lines():
            yield line.record["n"], line.record
