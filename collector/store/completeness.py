"""How complete what is kept of a time is: what is there, and losses with their cause; no flow is opened for it."""

from collections.abc import Callable, Iterable

from collector.store.catalog import Catalog
from collector.store.models import Certificate, Lost, Range, SegmentFile


def certificate(
    catalog: Catalog,
    range: Range,
    exporters: Iterable[int] | None = None,
    sound: Callable[[SegmentFile], bool] = lambda segment: True,
    among: Callable[[SegmentFile], bool] = lambda segment: True,
) -> Certificate:
    """By when flows were received. Those of a segment that isn't `sound` are lost; totals don't need the file.

    Segments that aren't `among` those looked at count neither way.
    """
    wanted = None if exporters is None else {0, *exporters}
    present, losses = 0, []
    for segment in filter(among, catalog.segments(range.since_ms, range.until_ms)):
        count = share(segment.received_from_ms, segment.received_until_ms, range, segment.rows)
        if sound(segment):
            present += count
        elif count:
            losses.append(Lost(0, segment.received_from_ms, segment.received_until_ms, count, "damaged"))
    for loss in catalog.losses(range.since_ms, range.until_ms):
        if wanted is None or loss.exporter in wanted:
            losses.append(within(loss, range))
    (until_ms,) = catalog.one("SELECT max(received_until_ms) FROM segment")
    return Certificate(present, sum(loss.flows for loss in losses), losses, int(until_ms or 0))


def within(loss: Lost, range: Range) -> Lost:
    return loss._replace(flows=share(loss.since_ms, loss.until_ms, range, loss.flows))


def share(since_ms: int, until_ms: int, range: Range, count: int) -> int:
    """Of something spread over a time, what falls into a range of it."""
    inside = min(until_ms + 1, range.until_ms) - max(since_ms, range.since_ms)
    return round(count * max(0, inside) / max(1, until_ms + 1 - since_ms))
