"""Sums of a period from rollups, by what people ask for: rows with `key`, `flows`, `packets` and `bytes`.

Neither a flow nor numpy is opened for them, so the pages read them in their own process.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from collector import whose
from collector.filters.names import PROTOCOLS, SERVICES, name_of
from collector.periods import Period, step_ms
from collector.store import completeness, rollups
from collector.store.catalog import Catalog
from collector.store.models import Certificate, Range
from collector.store.rollups import Point, Total

MEASURES = ("bytes", "flows", "packets")
BY = ("service", "protocol", "client", "destination", "exporter", "interface")
REST = "other"
TOP = 10
CLIENTS = 500  # the largest, of which accounts are made
_ALL = 2**31  # services are few
_WITH_INTERFACES = 20  # exporters

Row = Mapping[str, Any]


class Totals(Protocol):
    """Where totals are: questions as rollups.py has them, of one catalogue or of a site in a cluster."""

    @property
    def exporters(self) -> Mapping[int, str]: ...

    def top(
        self, range: Range, by: str, order: str = "bytes", limit: int = 10, exporters: Sequence[int] | None = None
    ) -> list[Total]: ...

    def whole(self, range: Range, exporters: Sequence[int]) -> Total: ...

    def over_time(
        self, range: Range, step_ms: int, by: str | None = None, exporters: Sequence[int] | None = None
    ) -> list[Point]: ...

    def certificate(self, range: Range) -> Certificate: ...


class Kept:
    """The totals of one open catalogue."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.exporters = catalog.exporters()

    def top(
        self, range: Range, by: str, order: str = "bytes", limit: int = 10, exporters: Sequence[int] | None = None
    ) -> list[Total]:
        return rollups.top(self._catalog, range, by, order, limit, exporters)

    def whole(self, range: Range, exporters: Sequence[int]) -> Total:
        return rollups.whole(self._catalog, range, exporters)

    def over_time(
        self, range: Range, step_ms: int, by: str | None = None, exporters: Sequence[int] | None = None
    ) -> list[Point]:
        return rollups.over_time(self._catalog, range, step_ms, by, exporters=exporters)

    def certificate(self, range: Range) -> Certificate:
        return completeness.certificate(self._catalog, range)


class Sums:
    """Of one period; `site` is that of the routers, as whose.site_of gives it."""

    def __init__(self, totals: Totals, period: Period, site: str = "") -> None:
        self._totals = totals
        self._range = Range(period.since_ms, period.until_ms)
        self.exporters = whose.exporters(totals.exporters, site)

    def top(self, by: str, order: str = "bytes", limit: int = 10) -> list[Row]:
        """The largest first; what is below the bound of the rollups comes last, as `other`."""
        if by in ("client", "destination"):
            totals = self._totals.top(self._range, by, order, limit)
            return [_row(rollups.label(by, total.key) or REST, total) for total in totals]
        found = {
            "service": self._services,
            "protocol": self._protocols,
            "exporter": self._each,
            "interface": self._ways,
        }
        rows = sorted(found[by](), key=lambda row: (row["key"] == REST, -row[order], str(row["key"])))
        return [row for row in rows if row["flows"]][:limit]

    def over_time(self, step_ms: int, by: str | None = None) -> list[Row]:
        """Rows with `at_ms` too, in order; `key` is None where it isn't asked by what."""
        if by == "exporter":
            parts = [(name, number) for number, name in self.exporters.items()]
            rows = [row for name, number in parts for row in self._steps(step_ms, None, [number], name)]
            return sorted(rows, key=lambda row: (row["at_ms"], row["key"]))
        if by == "protocol":
            return list(_added(self._steps(step_ms, "service"), lambda key: key.partition("/")[0]))
        return list(self._steps(step_ms, by))

    def _steps(
        self, step_ms: int, by: str | None, exporters: Sequence[int] | None = None, name: str | None = None
    ) -> Iterator[Row]:
        for point in self._totals.over_time(self._range, step_ms, by, exporters):
            key = name if by is None else service(point.total.key)
            yield {"at_ms": point.at_ms, **_row(key, point.total)}

    def _services(self) -> list[Row]:
        totals = self._totals.top(self._range, "service", limit=_ALL)
        return [_row(service(total.key), total) for total in totals]

    def _protocols(self) -> list[Row]:
        rows = ({"at_ms": 0, **row} for row in self._services())
        return [
            {name: row[name] for name in ("key", *MEASURES)} for row in _added(rows, lambda key: key.partition("/")[0])
        ]

    def _each(self) -> list[Row]:
        return [_row(name, self._totals.whole(self._range, [number])) for number, name in self.exporters.items()]

    def _ways(self) -> list[Row]:
        """An interface's number means something with its router only."""
        found = []
        for number, name in list(self.exporters.items())[:_WITH_INTERFACES]:
            for total in self._totals.top(self._range, "interface", limit=_ALL, exporters=[number]):
                if total.key:
                    found.append(_row(f"{name}, {rollups.label('interface', total.key)}", total))
        return found

    def certificate(self) -> Certificate:
        return self._totals.certificate(self._range)


@dataclass(frozen=True)
class Figures:
    """What a page of statistics says: `steps` by service, `tables` by each of BY; exporters' names by number."""

    steps: Sequence[Row]
    clients: Sequence[Row]
    tables: Mapping[str, Sequence[Row]]
    certificate: Certificate
    exporters: Mapping[int, str]


def figures(totals: Totals, period: Period, order: str, site: str = "") -> Figures:
    sums = Sums(totals, period, site)
    steps, clients = sums.over_time(step_ms(period), "service"), sums.top("client", order, CLIENTS)
    return Figures(steps, clients, {by: sums.top(by, order, TOP) for by in BY}, sums.certificate(), sums.exporters)


def service(key: bytes) -> str:
    """`tcp/https`: a protocol, and the name or number of its port where it has ports."""
    if not key:
        return REST
    protocol, port = map(int, rollups.label("service", key).split("/"))
    title = name_of(PROTOCOLS, protocol) or f"protocol {protocol}"
    return f"{title}/{name_of(SERVICES, port) or port}" if protocol in (6, 17, 33, 132, 136) else title


def _row(key: object, total: Total) -> Row:
    return {"key": key, "flows": total.flows, "packets": total.packets, "bytes": total.bytes}


def _added(rows: Iterable[Row], of: Any) -> Iterator[Row]:
    """Rows of one step whose keys are the same in the end, as one."""
    sums: dict[tuple[int, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(MEASURES, 0))
    for row in rows:
        sums[row["at_ms"], of(str(row["key"]))] = {
            name: sums[row["at_ms"], of(str(row["key"]))][name] + row[name] for name in MEASURES
        }
    for (at_ms, key), values in sums.items():
        yield {"at_ms": at_ms, "key": key, **values}
