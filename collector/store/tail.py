"""The journal's end, which isn't sealed yet: decoded in memory, so that a flow is found seconds after it came."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import peewee
from numpy.typing import NDArray

from collector.decode import Decoder, State
from collector.flows import FLOW
from collector.journal import Journal, unpack
from collector.store.catalog import Catalog
from collector.store.models import JOURNAL, Lost

MOST = 300_000  # flows
_BYTES = 32 * 2**20  # of rows


@dataclass(frozen=True)
class Tail:
    """`more` is whether there was too much; `until_ms` until when it is complete, 0 where there is nothing."""

    flows: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, FLOW))
    losses: list[Lost] = field(default_factory=list)
    until_ms: int = 0
    more: bool = False


def begins_ms(folder: Path, catalog: Catalog) -> int | None:
    """When the first datagram of it came; None where there is none."""
    if not (folder / JOURNAL).is_file():
        return None
    journal = Journal(folder / JOURNAL, write=False)
    try:
        sealed = catalog.sealed_until()
        found = journal.read(sealed if journal.last_id() >= sealed else 0, max_bytes=1)
        return next((row.since_ms for row in found), None)
    except peewee.PeeweeException:
        return 0
    finally:
        journal.close()


def read(folder: Path, catalog: Catalog, exporters: dict[int, str]) -> Tail:
    """Routers that the catalogue doesn't know yet are added to `exporters`, under numbers for this once."""
    if not (folder / JOURNAL).is_file():
        return Tail()
    numbers = {address: number for number, address in exporters.items()}
    decoder = Decoder(State.load(catalog.kept("decoder") or b""))
    until_ms, more = 0, False
    journal = Journal(folder / JOURNAL, write=False)
    try:
        sealed = catalog.sealed_until()
        for row in journal.read(sealed if journal.last_id() >= sealed else 0, max_bytes=_BYTES):
            number = numbers.setdefault(row.exporter, max(numbers.values(), default=0) + 1)
            exporters[number] = row.exporter
            try:
                decoder.feed(number, unpack(row))
            except ValueError:
                continue
            until_ms = max(until_ms, row.until_ms)
            if decoder.waiting > MOST:
                more = True
                break
    except peewee.PeeweeException:
        more = True
    finally:
        journal.close()
    decoded = decoder.take()
    return Tail(decoded.flows, [Lost(*loss) for loss in decoded.losses], until_ms, more)
