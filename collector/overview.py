"""What the first page says of flows."""

from collections.abc import Iterator
from datetime import datetime

from appliance.config import Config
from appliance.errors import Unavailable
from appliance.service import Attention, Point, Tile
from appliance.units import format_ago, format_bytes
from collector import facts, module, senders
from collector.store import rollups
from collector.store.catalog import Catalog
from collector.store.models import Range
from collector.web_parts import octets

_HOUR_MS, _DAY_MS, _HOURS = 3_600_000, 86_400_000, 24
_NAMED = 3


def attention(config: Config, now: int) -> Iterator[Attention]:
    for problem in module.problems(config):
        yield Attention(problem, "/flows/storage")
    try:
        found = senders.every(config, now)
    except Unavailable:
        return
    for one in found:
        if one.on and (silence := one.silent_s(now)):
            yield Attention(f"{one.router} sent its last flows {format_ago(silence)}", senders.url(one.router))
    if never := [one.router for one in found if one.on and one.heard is None]:
        who = ", ".join(never[:_NAMED]) + (f" and {len(never) - _NAMED} more" if len(never) > _NAMED else "")
        yield Attention(f"no flows yet from {who}", "/flows/exporters")


def tiles(config: Config, now: int) -> Iterator[Tile]:
    try:
        with facts.catalog(config) as catalog:
            day = rollups.whole(catalog, Range(now * 1000 - _DAY_MS, now * 1000))
            points = list(_hours(catalog, config, now))
            (exporters,) = catalog.one("SELECT count(*) FROM exporter")
    except Unavailable:
        return
    yield Tile(octets(day.bytes), "carried by flows of the last day", "/flows/statistics", points=points)
    yield Tile(format_bytes(day.flows), "flows of the last day", "/flows?from=1d+ago")
    yield Tile(f"{exporters:,}", "exporters of flows", "/flows/exporters")


def _hours(catalog: Catalog, config: Config, now: int) -> Iterator[Point]:
    last = now * 1000 // _HOUR_MS * _HOUR_MS
    span = Range(last - (_HOURS - 1) * _HOUR_MS, now * 1000)
    found = {point.at_ms: point.total.bytes for point in rollups.over_time(catalog, span, _HOUR_MS)}
    for at_ms in range(span.since_ms, last + 1, _HOUR_MS):
        label = f"{datetime.fromtimestamp(at_ms / 1000, config.site.timezone):%H:%M}"
        yield Point(label, found.get(at_ms, 0), octets(found.get(at_ms, 0)))
