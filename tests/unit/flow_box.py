"""An appliance whose flows module has something to show: a journal and a catalogue as the collector writes them."""

import json
import selectors
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from appliance import data_disk, verbs
from appliance.accounts.models import Session
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.listener import Listener
from appliance.nas.models import Nas
from collector import holding, noted, places
from collector.journal import OTHERS, Datagram, Heard, Journal
from collector.store import keeping, rollups
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, JOURNAL, SEALED, Column, Lost, SegmentFile

NOW = int(time.time()) - 3000  # as when the suite has run for long
ROUTER, STRANGER, SILENT = "192.0.2.7", "203.0.113.9", "192.0.2.8"
CLIENT, SERVER = "10.10.0.5", "198.51.100.80"


def folder(config: Config) -> Path:
    return config.paths.data / places.DISK


def fill(config: Config) -> None:
    """A router that sends, a stranger, one that is switched on and silent; sums of some hours, losses, a hold."""
    here = folder(config)
    here.mkdir(parents=True)
    routers(config)
    journal = Journal(here / JOURNAL)
    journal.append([Datagram((NOW - 5) * 1000, ROUTER, b"x" * 400) for _ in range(30)], drops=3)
    stranger = Heard(STRANGER, False, 12, 9000, (NOW - 900) * 1000, (NOW - 5) * 1000)
    forged = Heard(OTHERS, False, 30_000, 9_000_000, (NOW - 800) * 1000, (NOW - 700) * 1000)
    journal.append([], others=[stranger, forged])
    journal.close()
    with Catalog(here / CATALOG, write=True) as catalog, catalog.transaction():
        number = 1
        catalog.know_exporters({number: ROUTER})
        catalog.add(segment())
        rollups.add(catalog, sums(number))
        catalog.lose([Lost(number, (NOW - 700) * 1000, (NOW - 600) * 1000, 41, "sequence")], 1)
        catalog.keep(
            noted.NAME,
            json.dumps(noted.added({}, {number: SEEN}, {}, {}, {number: {1: "ether1"}}, NOW * 1000)).encode(),
        )
        catalog.run(
            "INSERT INTO hold (since_ms, until_ms, reason, who, at_ms) VALUES (?, ?, 'case 7', 'jana', ?)",
            (NOW - 9000) * 1000, (NOW - 5000) * 1000, NOW * 1000,
        )  # fmt: skip


class Seen(NamedTuple):
    flows: int = 1000
    suspect: int = 0
    timeless: int = 0
    sampling: int = 1
    skew_ms: int = 90_000
    versions: tuple[int, ...] = (9,)
    waiting: int = 0
    jumps: int = 0


SEEN = Seen()


def routers(config: Config) -> None:
    box = load_box(config.paths.state)
    Nas.create(name="attic", address=ROUTER, secret=box.seal("x" * 16), netflow=True)
    Nas.create(name="hall", address=SILENT, secret=box.seal("x" * 16), netflow=True)
    Nas.create(name="shed", address="192.0.2.99", secret=box.seal("x" * 16))
    Session.create(
        unique_id="1", account="anna", nas="attic", acct_session_id="1", mac="02:00:00:00:00:01",
        framed_ip=CLIENT, started_at=NOW - 90_000, updated_at=NOW,
    )  # fmt: skip


def segment() -> SegmentFile:
    began, ended = (NOW - 7200) * 1000, (NOW - 60) * 1000
    columns = {"exporter": Column(1, 1)}
    return SegmentFile(
        "a.parquet", 5000, 70_000, "0" * 64, began, ended, began, ended, None, None, columns, b"", SEALED, 0, 1
    )


def sums(exporter: int) -> rollups.Sums:
    found: rollups.Sums = {grain.table: [] for grain in rollups.GRAINS}
    things = (
        *((0, rollups.service(6, 443), 300, 9_000_000), (0, rollups.service(17, 53), 700, 90_000)),
        *((1, bytes([10, 10, 0, n]), 100, 1_000_000 * n) for n in range(1, 9)),
        *((2, bytes([198, 51, 100, 80 + n]), 100, 500_000 * n) for n in range(1, 9)),
        *((3, n.to_bytes(4, "big"), 100, 900_000) for n in (1, 2)),
    )
    for grain in rollups.GRAINS:
        times = {(NOW - 60 * n) * 1000 // grain.span_ms * grain.span_ms for n in range(120)}
        share = max(1, grain.span_ms // rollups.MINUTE_MS)
        for at in sorted(times):
            for kind, thing, flows, octets in things:
                row = (kind, at, exporter, thing, flows * share, flows * share, octets * share, octets * share // 4)
                found[grain.table].append(row)
    return found


def unplug(config: Config) -> None:
    """As when the data disk is pulled out: an empty mount point."""
    folder(config).rename(config.paths.data / "elsewhere")


def has_disk(config: Config) -> bool:
    return data_disk.mounted(config.paths.data) is not None


def _held(catalog: Catalog, line: bytes) -> bytes:
    try:
        return verbs.encode_answer(holding.Done(keeping.answer(catalog, holding.VERBS.decode(line), NOW * 1000)))
    except UserError as error:
        return verbs.encode_error(str(error))


@contextmanager
def holder(config: Config) -> Iterator[None]:
    """The sealer's socket for holds, with the catalogue behind it."""
    path = config.paths.run / holding.SOCKET
    path.parent.mkdir(parents=True, exist_ok=True)
    selector, ended = selectors.DefaultSelector(), threading.Event()

    def serve() -> None:
        with Catalog(folder(config) / CATALOG, write=True) as catalog:
            listener = Listener(path, lambda line: _held(catalog, line), selector)
            listener.open()
            ready.set()
            while not ended.is_set():
                for key, _ in selector.select(0.05):
                    key.data()
            listener.close()

    ready = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        ended.set()
        thread.join()
        selector.close()
