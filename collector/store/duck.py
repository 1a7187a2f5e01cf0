"""DuckDB as this room uses it: in memory, bounded, and without a way out."""

import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import duckdb

MEMORY_MB = 120
MOST_FILES = 65_536


def connect(temporary: Path | None = None, memory_mb: int = MEMORY_MB, threads: int = 1) -> duckdb.DuckDBPyConnection:
    """`temporary` is the folder for what doesn't fit into memory; without it such a statement fails."""
    _many_files()
    con = duckdb.connect(
        config={
            "threads": threads,
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": str(temporary) if temporary else "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        }
    )
    con.execute("SET enable_progress_bar = false")
    con.execute("SET parquet_metadata_cache = true")
    return con


@contextmanager
def aside(temporary: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database for one large piece of work. What it took, and malloc keeps, is the machine's again afterwards."""
    con = connect(temporary)
    trim()
    try:
        yield con
    finally:
        con.close()
        trim()


def trim() -> None:
    """What malloc keeps for another time."""
    ctypes.CDLL(None).malloc_trim(0)  # malloc_trim(3)


@lru_cache(maxsize=1)
def _database(temporary: Path | None, memory_mb: int) -> duckdb.DuckDBPyConnection:
    return connect(temporary, memory_mb)


def reader(temporary: Path | None, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """A connection with names of its own to a database that the process keeps: to make one takes longer than to ask."""
    return _database(temporary, memory_mb).cursor()


def _many_files() -> None:
    """A search over half a year has more files open than the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def text(value: str | Path) -> str:
    """As a literal."""
    return "'" + str(value).replace("'", "''") + "'"
