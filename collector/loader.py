"""The process that loads flows into a cluster. It seals nothing, so that a cluster that is away holds up nothing here.

`python -m collector.loader`.
"""

import contextlib
import json
import logging
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peewee

from appliance import process
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from collector import places
from collector.sealer import usable
from collector.store import loads
from collector.store.catalog import Catalog
from collector.store.models import CATALOG

if TYPE_CHECKING:
    from collector.cluster.client import Cluster

TICK_S, MEET_S, TIDY_S = 3.0, 30.0, 60.0
FIRST_S, LONGEST_S = 5.0, 60.0  # until the next attempt, after a failure

log = logging.getLogger(__name__)


@dataclass
class Said:
    """What others read of it. `hosts` says what is wrong with each, "" for nothing."""

    at_ms: int = 0
    problem: str = ""
    hosts: dict[str, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    shards: int = 0
    loaded: int = 0


class Loader:
    """One tick after the other; `over` ends a long one between two segments."""

    def __init__(self, config: Config, over: threading.Event) -> None:
        self._config, self._over = config, over
        self._cluster: Cluster | None = None
        self._said = Said()
        self._wait_s = 0.0
        self._tidied_s = -TIDY_S

    def tick(self) -> float:
        """Seconds until the next one."""
        try:
            folder = usable(self._config)
            if (folder / CATALOG).is_file():
                with contextlib.closing(Catalog(folder / CATALOG, write=True)) as catalog:
                    self._work(folder, catalog)
            self._told("")
            self._wait_s = 0.0
        except UserError as error:
            self._fail(str(error))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.exception("an answer that nobody expects")
            self._fail(f"a server of the cluster answers what can't be: {error}")
        except _failures() as error:
            self._fail(f"{type(error).__name__}: {error}")
        self._write()
        return self._wait_s or TICK_S

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.__exit__()
            self._cluster = None

    def _work(self, folder: Path, catalog: Catalog) -> None:
        from collector.cluster import client
        from collector.cluster.filling import Filler
        from collector.cluster.tidying import tell, tidy

        loads.begin_history(catalog, _now_ms())
        if self._cluster is None:
            self._cluster = client.opened(self._config)
        site = self._config.site.key
        filler = Filler(folder, catalog, self._cluster, site)
        shards = filler.meet()
        self._said.hosts = {host.name: self._cluster.trouble.get(host.name, "") for host in self._cluster.hosts}
        self._said.missing, self._said.shards = filler.missing, len(shards) + len(filler.missing)
        tell(catalog, shards, site, self._config.netflow.keep_days)
        until_s = time.monotonic() + MEET_S
        while time.monotonic() < until_s and not self._over.is_set() and filler.step(_now_ms()):
            self._said.loaded += 1
        if not filler.missing and time.monotonic() - self._tidied_s >= TIDY_S:
            tidy(catalog, shards, site, self._config.netflow.keep_days, _now_ms())
            self._tidied_s = time.monotonic()

    def _fail(self, problem: str) -> None:
        self.close()
        self._wait_s = min(LONGEST_S, max(FIRST_S, 2 * self._wait_s))
        self._told(problem)

    def _told(self, problem: str) -> None:
        if problem and problem != self._said.problem:
            log.error("%s", problem)
        elif self._said.problem and not problem:
            log.info("the cluster takes flows again")
        self._said.problem = problem

    def _write(self) -> None:
        self._said.at_ms = _now_ms()
        path = self._config.paths.run / places.CLUSTER
        new = path.with_name(f".{path.name}")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps(asdict(self._said)), encoding="utf-8")
            new.replace(path)


def _failures() -> tuple[type[BaseException], ...]:
    """Of our own disk; DuckDB's too, if it is loaded."""
    loaded: Any = sys.modules.get("duckdb")
    return (OSError, peewee.PeeweeException, *([loaded.Error] if loaded is not None else []))


def _now_ms() -> int:
    return int(time.time() * 1000)


def serve(config: Config, over: threading.Event) -> None:
    if config.netflow.cluster is None:
        raise Unavailable("no cluster keeps flows: [netflow] store is empty")
    loader = Loader(config, over)
    while not over.wait(loader.tick()):
        pass
    loader.close()


if __name__ == "__main__":
    process.run("gatehouse-flows-loader", "Loads flows into the cluster.", serve)
