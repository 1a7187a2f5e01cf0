"""What is done to the catalogue without looking at flows: holds, requests to decode anew, room on the disk."""

import json
from pathlib import Path

from appliance.config import Config
from appliance.errors import UserError
from collector.holding import Anew, Held, Load, Released
from collector.journal import Journal
from collector.store import loads, retention
from collector.store.catalog import Catalog
from collector.store.models import JOURNAL, SEGMENTS, beside

READERS_MS = 900_000  # so long a reader may have a file's name before it opens it
MAX_ASKED = 16

Span = tuple[int, int]


def answer(catalog: Catalog, request: Held | Released | Anew | Load, now_ms: int) -> int:
    if isinstance(request, Held):
        return _hold(catalog, request, now_ms)
    if isinstance(request, Released):
        return _release(catalog, request, now_ms)
    if isinstance(request, Load):
        return loads.ask(catalog, request.since_ms, request.until_ms)
    return _ask(catalog, request)


def _hold(catalog: Catalog, held: Held, now_ms: int) -> int:
    with catalog.transaction():
        catalog.run(
            "INSERT INTO hold (since_ms, until_ms, reason, who, at_ms) VALUES (?, ?, ?, ?, ?)",
            held.since_ms, held.until_ms, held.reason, held.who, now_ms,
        )  # fmt: skip
        return int(catalog.one("SELECT max(id) FROM hold")[0])


def _release(catalog: Catalog, released: Released, now_ms: int) -> int:
    with catalog.transaction():
        found = catalog.one("SELECT id FROM hold WHERE id = ? AND released_ms IS NULL", released.id)
        if found is None:
            raise UserError(f"there is no hold {released.id} that isn't released")
        catalog.run("UPDATE hold SET released_by = ?, released_ms = ? WHERE id = ?", released.who, now_ms, released.id)
    return released.id


def _ask(catalog: Catalog, request: Anew) -> int:
    journal = Journal(catalog.path.with_name(JOURNAL), write=False)
    try:
        period = journal.period(request.since_ms, request.until_ms)
    finally:
        journal.close()
    if period is None:
        raise UserError("the journal has no datagrams of that time any more")
    waiting = asked(catalog)
    if len(waiting) >= MAX_ASKED:
        raise UserError("too many periods wait to be decoded already: try again later")
    with catalog.transaction():
        catalog.keep("redecode", json.dumps([*waiting, (request.since_ms, request.until_ms)]).encode())
    return period[1] - period[0] + 1


def asked(catalog: Catalog) -> list[Span]:
    """Periods that are to be decoded anew."""
    return [(since, until) for since, until in json.loads(catalog.kept("redecode") or b"[]")]


def done(catalog: Catalog, span: Span) -> None:
    with catalog.transaction():
        catalog.keep("redecode", json.dumps([other for other in asked(catalog) if other != span]).encode())


def keep_room(config: Config, folder: Path, catalog: Catalog, now_ms: int) -> None:
    """Takes away what may not stay any longer. On a full disk files go at once, whoever reads them."""
    retention.apply(config, folder, catalog, now_ms)
    take_away_files(catalog, folder / SEGMENTS, now_ms, retention.room(folder).wanted_bytes > 0)
    retention.take_on_ballast(folder)


def take_away_files(catalog: Catalog, folder: Path, now_ms: int, at_once: bool = False) -> None:
    before_ms = now_ms if at_once else now_ms - READERS_MS
    for (path,) in catalog.rows("SELECT path FROM gone WHERE at_ms <= ? OR at_ms > ?", before_ms, now_ms):
        remove(folder / path)
        catalog.run("DELETE FROM gone WHERE path = ?", path)


def remove(segment: Path) -> None:
    """Its files, as far as they are there."""
    for path in (segment, beside(segment)):
        path.unlink(missing_ok=True)
