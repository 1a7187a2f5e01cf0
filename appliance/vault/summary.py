"""How the vault is, as anybody may read it who may read its catalogue; nothing is made by it."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import NamedTuple

from appliance.config import Config
from appliance.vault import catalog

REPLICA_OLD_S = 2 * 86_400


class Summary(NamedTuple):
    vaults: int
    files: int
    kept_bytes: int


@contextlib.contextmanager
def _opened(config: Config) -> Iterator[sqlite3.Connection | None]:
    path = catalog.path(config)
    if not path.exists():
        yield None
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)) as database:
            yield database
    except sqlite3.Error as error:
        raise OSError(str(error)) from None


def read(config: Config) -> Summary | None:
    """None where there was never a vault. Raises OSError."""
    with _opened(config) as database:
        if database is None:
            return None
        sums = "count(*), coalesce(sum(used_files), 0), coalesce(sum(used_bytes), 0)"
        (row,) = database.execute(f"SELECT {sums} FROM vault WHERE removed_at IS NULL")  # noqa: S608
        return Summary(*row)


def problems(config: Config) -> list[str]:
    """Lines. Raises OSError."""
    with _opened(config) as database:
        if database is None:
            return []
        faults = database.execute("SELECT kind, text FROM fault WHERE over_ms IS NULL ORDER BY at_ms LIMIT 20")
        found = [f"vault: {kind}: {text}" for kind, text in faults]
        for name, problem, pulled_at in database.execute("SELECT name, problem, pulled_at FROM replica"):
            if problem and (pulled_at is None or pulled_at < time.time() - REPLICA_OLD_S):
                found.append(f"vault: second copy {name}: {problem}")
        return found


def alerts(config: Config) -> list[str]:
    """What is late, nearly full or can't be restored; the rest is among the problems. Raises OSError."""
    with _opened(config) as database:
        if database is None:
            return []
        query = (
            "SELECT text FROM alert WHERE over_at IS NULL AND (kind IN ('late', 'quota', 'backup', 'history')"
            " OR subject LIKE 'source %' OR subject LIKE 'offer %') ORDER BY id LIMIT 50"
        )
        return [f"vault: {text}" for (text,) in database.execute(query)]
