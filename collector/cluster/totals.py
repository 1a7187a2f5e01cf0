"""Statistics of a site from the totals that its segments brought into the cluster; no flow is looked at."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from appliance.config import Config
from collector.cluster import asked, elsewhere
from collector.cluster.asked import Where
from collector.cluster.elsewhere import Elsewhere
from collector.cluster.reading import OthersError
from collector.store import duck, rollups
from collector.store.models import Range
from collector.store.rollups import GRAINS, KINDS, REST, Grain, Point, Total

Parts = Sequence[tuple[Grain, Range]]
Sums = dict[tuple[int | str, ...], list[int]]


class SiteTotals(Elsewhere):
    """As collector/store/rollups.py has them of one box, but each thing by its name: all loads are in whole.

    Raises UserError where no server answers; what a shard that is away has is missing, and in the certificate.
    """

    def _which(self, range: Range) -> str:
        return asked.received(range)  # a flow counts in the minute in which it was received

    def top(
        self, range: Range, by: str, order: str = "bytes", limit: int = 10, exporters: Sequence[int] | None = None
    ) -> list[Total]:
        place = asked.TOTALS.index(order)
        found = self._sums(by, _spans(range), ("hex(thing)",), exporters, (order, limit))
        largest = sorted(found.items(), key=lambda row: (-row[1][place], row[0]))[:limit]
        named = [Total(bytes.fromhex(str(key)), *values) for (key,), values in largest]
        all_ = self.whole(range, exporters, by)[1:]
        rest = [value - sum(taken) for value, *taken in zip(all_, *(total[1:] for total in named), strict=True)]
        return named + ([Total(REST, *rest)] if any(rest) else [])

    def whole(self, range: Range, exporters: Sequence[int] | None, by: str = "service") -> Total:
        return Total(REST, *self._sums(by, _spans(range), (), exporters).get((), [0] * len(asked.TOTALS)))

    def over_time(
        self, range: Range, step_ms: int, by: str | None = None, exporters: Sequence[int] | None = None
    ) -> list[Point]:
        keys = (f"intDiv(at, {step_ms:d}) * {step_ms:d}", "hex(thing)" if by else "''")
        found = self._sums(by or "service", [rollups.steps(range, step_ms)], keys, exporters)
        return [
            Point(int(at), Total(bytes.fromhex(str(thing)), *values)) for (at, thing), values in sorted(found.items())
        ]

    def _sums(
        self,
        by: str,
        parts: Parts,
        keys: Sequence[str],
        exporters: Sequence[int] | None,
        largest: tuple[str, int] | None = None,
    ) -> Sums:
        """By the values of `keys`. Where a shard is away all that the others have comes, as each knows a part."""
        found = self._where(Range(min(of.since_ms for _, of in parts), max(of.until_ms for _, of in parts)))
        if found is None:
            return {}
        grains = [(GRAINS.index(grain), of) for grain, of in parts]
        sums: Sums = {}
        try:
            for block in self._asked(_sql(found[0], by, grains, keys, exporters, largest), [found[1]]):
                columns = [block[f"column_{number}"].tolist() for number in range(len(keys) + len(asked.TOTALS))]
                for row in zip(*columns, strict=True):
                    key, values = row[: len(keys)], row[len(keys) :]
                    sums[key] = [one + more for one, more in zip(sums.get(key, [0] * len(values)), values, strict=True)]
        except OthersError:
            return self._sums(by, parts, keys, exporters, largest)
        return sums


def _spans(range: Range) -> Parts:
    return list(rollups.spans(range, {}))


def _sql(
    where: Where,
    by: str,
    grains: Sequence[tuple[int, Range]],
    keys: Sequence[str],
    exporters: Sequence[int] | None,
    largest: tuple[str, int] | None,
) -> Callable[[bool], str]:
    kind = KINDS.index(by)
    return lambda whole: asked.totals(replace(where, whole=whole), kind, grains, keys, exporters, largest)


@contextmanager
def opened(config: Config, site: str) -> Iterator[SiteTotals]:
    """Raises UserError for what is configured wrongly, or can't be asked."""
    with (
        TemporaryDirectory(prefix="gatehouse-totals-") as folder,
        elsewhere.opened(config, site, duck.MEMORY_MB, Path(folder), SiteTotals) as found,
    ):
        yield found
