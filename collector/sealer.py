"""The process that keeps flows: seals what the collector wrote, and does what has to be done to segments later.

What decoding needs is loaded only once there is something to decode, and after a long quiet time the process begins
anew without it. `python -m collector.sealer`.
"""

import contextlib
import gc
import logging
import os
import selectors
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import peewee

from appliance import data_disk, process, verbs
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from appliance.listener import Listener
from appliance.service import python
from collector import holding, places
from collector.journal import Journal
from collector.store import keeping, retention
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, JOURNAL

if TYPE_CHECKING:
    from collector.store.sealing import Sealer

TICK_S = 2.0
UPKEEP_S = 60.0
QUIET_S = 900.0  # without a row, and what decoding needs is unloaded

log = logging.getLogger(__name__)


def usable(config: Config) -> Path:
    """The folder of flows on the data disk, which may be full. Raises Unavailable, UserError for a wrong disk."""
    path = config.paths.data
    seen = data_disk.mounted(path)
    if seen is None:
        raise Unavailable("the data disk is away: see `gatehouse disk list`")
    found = data_disk.verdict([], seen, data_disk.last_used(config), path)
    if found.state not in (data_disk.READY, data_disk.FULL):
        raise Unavailable(data_disk.line(found))
    folder = path / places.DISK
    if not folder.is_dir():
        raise Unavailable(f"{folder} is missing: run `gatehouse apply`")
    return folder


class Keeper:
    """One tick after the other; each does at most one long thing, so that who asks is answered between."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sealer: Sealer | None = None
        self._problem = ""
        self._worked_s = self._upkeep_s = time.monotonic()
        self._compacts = True

    def tick(self) -> bool:
        """Whether there is more to do at once."""
        try:
            folder = usable(self._config)
            if self._sealer is None and not self._has_work(folder):
                return self._rest(folder)
            return self._work(folder)
        except UserError as error:
            self._fail(str(error))
        except _failures() as error:
            self._fail(f"{type(error).__name__}: {error}")
            self._relieve()
        return False

    def answer(self, line: bytes) -> bytes:
        try:
            with contextlib.closing(Catalog(usable(self._config) / CATALOG, write=True)) as catalog:
                number = keeping.answer(catalog, holding.VERBS.decode(line), int(time.time() * 1000))
        except UserError as error:
            return verbs.encode_error(str(error))
        except (OSError, peewee.PeeweeException) as error:
            return verbs.encode_error(f"the catalogue can't be written: {error}")
        return verbs.encode_answer(holding.Done(number))

    def close(self) -> None:
        if self._sealer is not None:
            with contextlib.suppress(*_failures()):
                self._sealer.__exit__(None, None, None)
            self._sealer = None
            gc.collect()

    def _has_work(self, folder: Path) -> bool:
        if not (folder / JOURNAL).is_file():
            return False
        journal = Journal(folder / JOURNAL, write=False)
        try:
            with contextlib.closing(Catalog(folder / CATALOG, write=True)) as catalog:
                return journal.last_id() != catalog.sealed_until() or keeping.asked(catalog) != []
        finally:
            journal.close()

    def _rest(self, folder: Path) -> bool:
        if time.monotonic() - self._upkeep_s >= UPKEEP_S and (folder / JOURNAL).is_file():
            self._upkeep_s = time.monotonic()
            with contextlib.closing(Catalog(folder / CATALOG, write=True)) as catalog:
                keeping.keep_room(self._config, folder, catalog, int(time.time() * 1000))
        return False

    def _work(self, folder: Path) -> bool:
        from collector.store import duck, sealing  # numpy and DuckDB come with it

        if self._sealer is None:
            self._sealer = sealing.Sealer(folder).__enter__()
        sealer, now_ms = self._sealer, int(time.time() * 1000)
        self._problem = ""
        is_full = sealer.gather()
        if more := is_full or sealer.waits:
            self._worked_s = time.monotonic()
        if sealer.due(now_ms):
            sealer.seal()
            if not is_full:
                duck.trim()  # the next is a while away
            return True
        return bool(self._upkeep(sealer, folder, now_ms)) or self._begin_anew(more)

    def _upkeep(self, sealer: "Sealer", folder: Path, now_ms: int) -> bool:
        from collector.store import anew, upkeep

        asked = keeping.asked(sealer.catalog)
        if asked and (rows := anew.redecode(sealer, *asked[0])) is not None:
            log.info("%d rows were decoded anew", rows)
            keeping.done(sealer.catalog, asked[0])
            return True
        self._compacts = self._compacts and upkeep.compact(sealer, now_ms)
        if self._compacts:
            return True
        if time.monotonic() - self._upkeep_s >= UPKEEP_S:
            self._upkeep_s, self._compacts = time.monotonic(), True
            keeping.keep_room(self._config, folder, sealer.catalog, now_ms)
            upkeep.scrub(sealer)
        return False

    def _begin_anew(self, more: bool) -> bool:
        """The memory of a quiet night is everybody's."""
        if not more and time.monotonic() - self._worked_s > QUIET_S:
            self.close()
            log.info("nothing comes: beginning anew")
            os.execv(sys.executable, [*python("collector.sealer"), *sys.argv[1:]])  # noqa: S606
        return False

    def _fail(self, problem: str) -> None:
        self.close()
        if problem != self._problem:
            log.error("%s", problem)
        self._problem = problem

    def _relieve(self) -> None:
        """On a full disk: the oldest go at once."""
        with contextlib.suppress(OSError, peewee.PeeweeException, UserError):
            folder = usable(self._config)
            if retention.room(folder).wanted_bytes:
                retention.drop_ballast(folder)
                with contextlib.closing(Catalog(folder / CATALOG, write=True)) as catalog:
                    keeping.keep_room(self._config, folder, catalog, int(time.time() * 1000))


def _failures() -> tuple[type[BaseException], ...]:
    """Of a disk; DuckDB's too, if it is loaded."""
    loaded = sys.modules.get("duckdb")
    return (OSError, peewee.PeeweeException, sqlite3.Error, *([loaded.Error] if loaded is not None else []))


def serve(config: Config, over: threading.Event) -> None:
    keeper = Keeper(config)
    with selectors.DefaultSelector() as selector:
        listener = Listener(config.paths.run / holding.SOCKET, keeper.answer, selector)
        listener.open()
        more = False
        while not over.is_set():
            for key, _ in selector.select(0 if more else TICK_S):
                key.data()
            listener.expire()
            more = keeper.tick()
        listener.close()
    keeper.close()


if __name__ == "__main__":
    process.run("gatehouse-flows", "Keeps the flows that were received.", serve)
