"""How complete what is kept of a time is: what is there, and losses with their cause; no flow is opened for it."""

from collections.abc import Callable, Iterable

from collector.store.catalog import Catalog
from collector.store.models import Certificate, Lost, Range, SegmentFile

OUT_OF_REACH = "only in the cluster, which isn't configured any more"


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


def out_of_reach(catalog: Catalog, range: Range) -> list[Lost]:
    """What was loaded into a cluster and isn't here any more, where no cluster is configured."""
    here = "journal_after <= l.journal_after AND journal_until >= l.journal_until"
    here += " AND received_from_ms <= l.received_from_ms AND received_until_ms >= l.received_until_ms"
    when = "first_ms < ? AND last_ms >= ? OR odd_first_ms < ? AND odd_last_ms >= ?"
    rows = catalog.rows(
        f"SELECT received_from_ms, received_until_ms, max(rows) FROM loaded AS l WHERE replaced = 0 AND ({when})"  # noqa: S608
        f" AND NOT EXISTS (SELECT 1 FROM segment WHERE {here}) GROUP BY sha256",
        *(range.until_ms, range.since_ms) * 2,
    )
    found = [within(Lost(0, since, until, flows, OUT_OF_REACH), range) for since, until, flows in rows]
    flows = sum(loss.flows for loss in found)
    if not flows:
        return []
    since, until = min(loss.since_ms for loss in found), max(loss.until_ms for loss in found)
    return [Lost(0, max(range.since_ms, since), min(range.until_ms, until), flows, OUT_OF_REACH)]


def within(loss: Lost, range: Range) -> Lost:
    return loss._replace(flows=share(loss.since_ms, loss.until_ms, range, loss.flows))


def share(since_ms: int, until_ms: int, range: Range, count: int) -> int:
    """Of something spread over a time, what falls into a range of it."""
    inside = min(until_ms + 1, range.until_ms) - max(since_ms, range.since_ms)
    return round(count * max(0, inside) / max(1, until_ms + 1 - since_ms))
