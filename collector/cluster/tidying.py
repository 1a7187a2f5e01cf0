"""What the cluster is told beside flows, and what is taken away there: left-over loads, and days that are over."""

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from collector.cluster import asked, loading, tables
from collector.cluster.client import Host
from collector.store import loads
from collector.store.catalog import Catalog
from collector.store.loads import Begun, Loaded
from collector.store.rollups import DAY_MS

SETTLED_MS = 600_000
log = logging.getLogger(__name__)
DATED = ("flows", "ends", "totals", "loads", "replaced")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def tidy(catalog: Catalog, shards: Mapping[int, Host], site: str, keep_days: int, now_ms: int) -> None:
    """All shards are there. Raises UserError."""
    if not loads.knows_earlier(catalog):
        _take_over(catalog, shards, site, now_ms)
    for number, host in shards.items():
        if missing := _missing(catalog, host, number, site):
            log.error("%s: shard %d hasn't got %d loads any more", host.name, number, len(missing))
            loads.gone(catalog, missing)
    _routers(catalog, shards, site)
    for one in loads.uncopied(catalog):
        _copy(shards, one)
        loads.copied(catalog, [one.load])
    _replaced(catalog, shards, site)
    for left in loads.begun(catalog, over=True):
        if now_ms - left.at_ms > SETTLED_MS or now_ms < left.at_ms:
            _remove(shards[left.shard], left)
            loads.forget(catalog, left.load)
    _keep(catalog, shards, site, keep_days, now_ms)


def _take_over(catalog: Catalog, shards: Mapping[int, Host], site: str, now_ms: int) -> None:
    """Flows that this site received on a disk that is gone are found on the new one, too."""
    where = f"site = '{site}' AND load NOT IN (SELECT load FROM replaced WHERE site = '{site}')"  # noqa: S608
    names = ", ".join(name if name != "day" else "toString(day)" for name in loads.Line._fields)
    lines: dict[int, loads.Line] = {}
    routers: dict[int, str] = {}
    for number, host in shards.items():
        found = host.rows(f"SELECT {names} FROM loads WHERE {where} AND shard = {number:d}")  # noqa: S608
        lines |= {row[0]: loads.Line._make(row) for row in found}
        routers |= dict(host.rows(asked.exporters(site)))
    if count := loads.take_over(catalog, lines.values(), routers, now_ms):
        log.info("the cluster had %d loads of this site that this disk didn't know", count)


def _missing(catalog: Catalog, host: Host, number: int, site: str) -> set[int]:
    """Loads whose lines a shard had: its disk was replaced, or put back from an older copy."""
    known = loads.at_home(catalog, number)
    if not known:
        return set()
    where = f"site = '{site}' AND shard = {number:d} AND load BETWEEN {min(known):d} AND {max(known):d}"
    ((count,),) = host.rows(f"SELECT uniqExact(load) FROM loads WHERE {where}")  # noqa: S608
    if count >= len(known):
        return set()
    return {*known} - {int(load) for (load,) in host.rows(f"SELECT load FROM loads WHERE {where}")}  # noqa: S608


def _routers(catalog: Catalog, shards: Mapping[int, Host], site: str) -> None:
    known, told = catalog.exporters(), json.loads(catalog.kept(loads.TOLD) or b"{}")
    new = {number: address for number, address in known.items() if told.get(str(number)) != address}
    if new:
        rows: dict[str, list[Any]] = {"site": [site] * len(new), "exporter": list(new), "address": list(new.values())}
        for host in shards.values():
            host.insert("exporters", rows)
        catalog.keep(loads.TOLD, json.dumps(known).encode())


def _copy(shards: Mapping[int, Host], one: Loaded) -> None:
    """Of its line, where a shard was away when it was written."""
    names = tables.columns("loads")
    found = shards[one.shard].rows(f"SELECT {', '.join(names)} FROM loads WHERE load = {one.load:d} LIMIT 1")  # noqa: S608
    for number, host in shards.items():
        if number != one.shard and found and not host.rows(f"SELECT 1 FROM loads WHERE load = {one.load:d}"):  # noqa: S608
            loading.commit(host, dict(zip(names, found[0], strict=True)))


def _replaced(catalog: Catalog, shards: Mapping[int, Host], site: str) -> None:
    old = loads.replaced(catalog)
    if not old:
        return
    rows: dict[str, list[Any]] = {
        "site": [site] * len(old),
        "day": [date.fromisoformat(one.day) for one in old],
        "load": [one.load for one in old],
    }
    for host in shards.values():
        host.insert("replaced", rows)
    loads.told(catalog, [one.load for one in old])


def _remove(host: Host, left: Begun) -> None:
    """Rows that nobody counts, unless the line that counts came after all."""
    if host.rows(f"SELECT 1 FROM loads WHERE load = {left.load:d}"):  # noqa: S608
        return
    where = f"day = '{left.day}' AND load = {left.load:d}"
    for table in ("flows", "ends", "totals"):
        if host.rows(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1"):  # noqa: S608
            host.rows(f"ALTER TABLE {table} DELETE WHERE {where}")


# Days that are over


def tell(catalog: Catalog, shards: Mapping[int, Host], site: str, keep_days: int) -> None:
    """How long this site keeps what, and what of it is held: at once, as another site may drop days at any time."""
    wish = _wish(catalog, keep_days)
    chosen = "count(), argMax(keep_days, at), argMax(since_ms, at), argMax(until_ms, at)"
    for host in shards.values():
        times = "toUnixTimestamp(max(at)), toUnixTimestamp(now())"
        ((count, days, since, until, last_s, now_s),) = host.rows(
            f"SELECT {chosen}, {times} FROM keeping WHERE site = '{site}'"  # noqa: S608
        )
        if not count or (days, [*since], [*until]) != wish:
            # By the server's clock, and after what counts now: ours may have been ahead when that was written
            row: dict[str, list[Any]] = {"site": [site], "at": [datetime.fromtimestamp(max(now_s, last_s + 1), UTC)]}
            row |= {name: [value] for name, value in zip(("keep_days", "since_ms", "until_ms"), wish, strict=True)}
            host.insert("keeping", row)


def _wish(catalog: Catalog, keep_days: int) -> tuple[int, list[int], list[int]]:
    holds = catalog.holds()
    return keep_days, [hold.since_ms for hold in holds], [hold.until_ms for hold in holds]


def _keep(catalog: Catalog, shards: Mapping[int, Host], site: str, keep_days: int, now_ms: int) -> None:
    """Drops what no site keeps, where the wish that counts for this one is what it wishes."""
    tell(catalog, shards, site, keep_days)
    mine = _wish(catalog, keep_days)
    chosen = "site, argMax(keep_days, at), argMax(since_ms, at), argMax(until_ms, at)"
    for host in shards.values():
        found = host.rows(f"SELECT {chosen} FROM keeping GROUP BY site")  # noqa: S608
        wishes = {of: (days, [*since], [*until]) for of, days, since, until in found}
        if wishes.get(site) != mine:
            continue
        ((its_s,),) = host.rows("SELECT toUnixTimestamp(now())")
        for table in DATED:
            _drop(
                host, table, [*wishes.values()], min(now_ms, its_s * 1000)
            )  # a wrong clock of ours takes nothing away


def _drop(host: Host, table: str, wishes: list[tuple[int, list[int], list[int]]], now_ms: int) -> None:
    where = f"database = currentDatabase() AND table = '{table}' AND active"
    for name, text in host.rows(f"SELECT DISTINCT partition_id, partition FROM system.parts WHERE {where}"):  # noqa: S608
        found = _DAY.search(text)
        if found and all(is_over(found[0], *wish, now_ms) for wish in wishes):
            host.rows(f"ALTER TABLE {table} DROP PARTITION ID '{name}'")


def is_over(day: str, keep_days: int, since_ms: list[int], until_ms: list[int], now_ms: int) -> bool:
    """Whether a site lets go of a day, with one more around it: a segment's last flows came later than its first."""
    begin = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1000)
    end = begin + 2 * DAY_MS
    held = any(begin - DAY_MS < until and end > since for since, until in zip(since_ms, until_ms, strict=True))
    return end < now_ms - keep_days * DAY_MS and not held
