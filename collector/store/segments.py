"""Segments: files of flows, written whole or not at all."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from appliance.files import fsync_folder
from collector.store import duck, ends, packing
from collector.store.models import SEALED, Column, SegmentFile, beside

UNFINISHED = ".new-"
PACKED = "packed"
# A client's search decodes a few of these; compaction reads parts of what was just sealed.
ROW_GROUP, SEALED_ROW_GROUP = 40_960, 16_384
_FORMAT = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, COMPRESSION_LEVEL 1"


def write(
    flows: NDArray[np.void],
    folder: Path,
    con: duckdb.DuckDBPyConnection | None = None,
    journal: tuple[int, int] = (0, 0),
) -> SegmentFile:
    """A segment of at least one flow; nobody knows of it until the catalogue does."""
    packed = packing.pack(flows)
    con = con or duck.connect()
    with registered(con, packed):
        return write_packed(packed, folder, con, journal)


@contextmanager
def registered(con: duckdb.DuckDBPyConnection, packed: packing.Packed) -> Iterator[None]:
    """Its columns are the table PACKED meanwhile."""
    con.register(PACKED, packed.columns or {"up": np.zeros(packed.rows, np.bool_)})
    try:
        yield
    finally:
        con.unregister(PACKED)


def write_packed(
    packed: packing.Packed,
    folder: Path,
    con: duckdb.DuckDBPyConnection,
    journal: tuple[int, int],
    level: int = SEALED,
    parked_bytes: int = 0,
) -> SegmentFile:
    """Of what is registered."""
    path = folder / name(packed.received[0], level)
    row_group = SEALED_ROW_GROUP if level == SEALED else ROW_GROUP
    ends_bytes, ends_sha256 = _beside(path, ends.pack(packed, row_group))
    size, sha256 = _copy(con, f"SELECT * FROM {PACKED}", path, packed.bounds, row_group)  # noqa: S608
    odd_first_ms, odd_last_ms = packed.odd or (None, None)
    return SegmentFile(
        path=path.name,
        rows=packed.rows,
        size_bytes=size,
        sha256=sha256,
        received_from_ms=packed.received[0],
        received_until_ms=packed.received[1],
        first_ms=packed.times[0],
        last_ms=packed.times[1],
        odd_first_ms=odd_first_ms,
        odd_last_ms=odd_last_ms,
        columns=packed.bounds,
        clients=packed.clients,
        level=level,
        journal_after=journal[0],
        journal_until=journal[1],
        parked_bytes=parked_bytes,
        ends_bytes=ends_bytes,
        ends_sha256=ends_sha256,
    )


def name(received_ms: int, level: int) -> str:
    return f"{received_ms:013d}-{level}-{secrets.token_hex(4)}.parquet"


def _copy(
    con: duckdb.DuckDBPyConnection, query: str, path: Path, bounds: dict[str, Column], row_group: int
) -> tuple[int, str]:
    """Size and SHA-256 of the file, which is on disk under its name. What it leaves out is in its own metadata too."""
    with _appearing(path) as new:
        form = f"{_FORMAT}, ROW_GROUP_SIZE {row_group}, KV_METADATA {{bounds: {duck.text(json.dumps(bounds))}}}"
        con.execute(f"COPY ({query}) TO {duck.text(new)} ({form})")
        return new.stat().st_size, digest(new)


def _beside(segment: Path, data: bytes) -> tuple[int, str]:
    """Size and SHA-256 of the segment's second order, which is on disk."""
    with _appearing(beside(segment)) as new:
        new.write_bytes(data)
    return len(data), hashlib.sha256(data).hexdigest()


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """What is written under the name that is given is on disk under its own in the end, or not at all."""
    new = path.with_name(UNFINISHED + path.name)
    try:
        yield new
        with new.open("r+b") as file:
            new.chmod(0o640)
            os.fsync(file.fileno())
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: Path, known: Sequence[str]) -> list[Path]:
    """Takes away what was written and never named by the catalogue, after a crash."""
    keep = {*known, *(beside(Path(path)).name for path in known)}
    orphans = [path for path in folder.iterdir() if path.name not in keep]
    for path in orphans:
        path.unlink()
    return orphans
