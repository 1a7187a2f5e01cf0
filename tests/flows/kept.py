"""Flows as the sealer would have kept them, for who asks about them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from collector.store import counting, packing, rollups, segments
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, SEGMENTS, Lost


def keep(
    folder: Path, *parts: NDArray[np.void], exporters: Sequence[str] = ("192.0.2.1",), losses: Sequence[Lost] = ()
) -> None:
    """A segment of each part and its totals, in the folder `flows/` of a data disk; exporters are numbered from 1."""
    (folder / SEGMENTS).mkdir(parents=True, exist_ok=True)
    written = [segments.write(flows, folder / SEGMENTS) for flows in parts]
    with Catalog(folder / CATALOG, write=True) as catalog, catalog.transaction():
        catalog.know_exporters(dict(enumerate(exporters, 1)))
        for segment, flows in zip(written, parts, strict=True):
            catalog.add(segment)
            rollups.add(catalog, counting.count(packing.pack(flows)))
        catalog.lose(losses, 0)
