"""Flows of another site, as the cluster has them: nothing of them is on this disk, and what waits there isn't known."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TypeVar

from appliance.config import Config
from appliance.errors import Unavailable, UserError
from collector import whose
from collector.cluster import asked, client
from collector.cluster.client import Host
from collector.cluster.parted import Load
from collector.cluster.reading import ClusterReading
from collector.store import duck
from collector.store.models import Certificate, SegmentFile
from collector.store.reading import Client, Range

_Kind = TypeVar("_Kind", bound="Elsewhere")


class Elsewhere(ClusterReading):
    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._cluster.__exit__)
            self.con = duck.reader(self._temporary, self._memory_mb)
            stack.callback(self.con.close)
            self._loads_of: dict[Range, list[Load]] = {}
            self._look()
            self.exporters = dict(row for host in self._answering() for row in host.rows(asked.exporters(self._site)))
            if not self.exporters:
                sites = {str(row[0]) for host in self._answering() for row in host.rows(asked.SITES)}
                there = ", ".join(sorted(site or "one without a key" for site in sites)) or "none yet"
                raise UserError(f"the cluster has no flows of a site {self._site!r}; there are: {there}")
            self._stack = stack.pop_all()
        return self

    def _answering(self) -> list[Host]:
        """Raises Unavailable where there is none."""
        if self._away or not self._hosts:
            raise Unavailable(f"the cluster doesn't answer: {self._away}")
        return list(self._hosts.values())

    def files(self, range: Range, clients: Iterable[Client] | None = None) -> list[SegmentFile]:
        return []

    def _reaches_tail(self, range: Range) -> bool:
        return False

    def _which(self, range: Range) -> str:
        return asked.began(range)

    def _loads(self, range: Range) -> list[Load]:
        """Each shard knows all, but for what was loaded while it was away."""
        if range not in self._loads_of:
            found = {
                row[0]: Load._make(row)
                for host in self._answering()
                for row in host.rows(asked.loads(self._site, self._which(range)))
            }
            self._loads_of[range] = list(found.values())
        return self._loads_of[range]

    def _own_certificate(self, range: Range, exporters: Iterable[int] | None) -> Certificate:
        return Certificate(0, 0)

    def _copies(self, range: Range) -> list[SegmentFile]:
        return []

    def _notes(self) -> Iterator[str]:
        yield from super()._notes()
        yield f"of {self._site} this is what has come into the cluster; what it lost on the way is told there"


def opened(config: Config, site: str, memory_mb: int, temporary: Path, kind: type[_Kind]) -> _Kind:
    """Raises UserError for what is configured wrongly."""
    if config.netflow.cluster is None:
        raise UserError(f"flows of the site {site!r} aren't here: without [netflow] store each site keeps its own")
    found = kind(Path(), client.opened(config), site, memory_mb, temporary)
    found.site = whose.site_of(config, site)
    return found
