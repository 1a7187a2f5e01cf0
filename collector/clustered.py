"""How the cluster that keeps flows is, as the process that loads them said last: for pages, commands and figures.

No library of the cluster is loaded for this, and no server asked.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appliance.config import Config
from appliance.errors import Unavailable
from appliance.units import format_bytes, format_duration
from collector import facts, places
from collector.store import loads
from collector.store.loads import Waiting

STALE_S = 120  # one segment takes the loader so long at most, or a server that doesn't answer
LATE_S = 900


@dataclass(frozen=True)
class Clustered:
    """`hosts` says what is wrong with each, "" for nothing; `missing` are shards of which no host answers."""

    at_ms: int
    problem: str
    hosts: dict[str, str] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    shards: int = 0


def said(config: Config) -> Clustered | None:
    """None where it says nothing."""
    try:
        told: dict[str, Any] = json.loads((config.paths.run / places.CLUSTER).read_text(encoding="utf-8"))
        return Clustered(told["at_ms"], told["problem"], told["hosts"], tuple(told["missing"]), told["shards"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def problems(config: Config, now: int) -> Iterator[str]:
    found = said(config)
    if found is None or now - found.at_ms / 1000 > STALE_S:
        yield "the process that loads flows into the cluster doesn't say how it is"
        return
    if found.problem:
        yield f"the cluster doesn't take flows: {found.problem}"
        return
    yield from (f"the cluster: {trouble}" for trouble in found.hosts.values() if trouble)
    for shard in found.missing:
        yield f"the cluster: of shard {shard} no host in [netflow] store answers"


def lines(config: Config) -> Iterator[str]:
    """What waits, as far as the data disk can be read."""
    try:
        found = waiting(config)
    except Unavailable:
        return
    yield from words(found, config)


def waiting(config: Config) -> Waiting:
    """Raises Unavailable."""
    with facts.catalog(config) as catalog:
        return loads.waiting(catalog)


def words(found: Waiting, config: Config) -> Iterator[str]:
    def at(ms: int) -> str:
        return f"{datetime.fromtimestamp(ms / 1000, config.site.timezone):%Y-%m-%d %H:%M}"

    if found.loaded_until_ms:
        yield f"in the cluster until {at(found.loaded_until_ms)}"
    if found.files and found.since_ms is not None:
        age = format_duration(max(0, int(time.time() - found.since_ms / 1000)))
        yield f"{found.rows:,} flows wait for the cluster, {format_bytes(found.bytes)}B; the oldest came {age} ago"
    if found.asked:
        yield f"{found.asked:,} files of the history are still to be loaded"
    if found.history:
        yield f"{found.history:,} files of the time before the cluster are only here: gatehouse flows load"


def late(found: Waiting, now: int) -> bool:
    """Whether more waits than what came just now."""
    return found.since_ms is not None and now - found.since_ms / 1000 > LATE_S
