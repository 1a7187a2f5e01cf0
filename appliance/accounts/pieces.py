"""Long work on the core database in short writes, so that no login and no accounting packet waits for it."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from appliance.accounts.models import core_db

Item = TypeVar("Item")

FIRST = 100  # rows, until it is known how quick the disk is
LARGEST = 500
AIM_S = 0.01  # well under the 50 ms that a login may wait for a writer, also where a piece turns out slower


def in_pieces(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cuts work so that what the caller does with a piece takes about 10 ms, and rests as long after each.

    SQLite lets waiting writers in only between two transactions, and they look no oftener than every 25 ms.
    """
    rest, size = iter(items), FIRST
    while piece := list(islice(rest, size)):
        began = time.monotonic()
        yield piece
        took = time.monotonic() - began
        size = max(1, min(LARGEST, int(size * min(2.0, AIM_S / max(took, 0.001)))))
        time.sleep(min(took, 1.0))


def execute(sql: str, *values: object) -> Any:
    """One statement, which is a transaction of its own outside of `atomic()`; `?` stands for each value."""
    marked = sql if core_db.param == "?" else sql.replace("?", core_db.param)
    return core_db.execute_sql(marked, values)


def sql_of(database: Any, text: str) -> str:
    """A statement with `?` for values, as the engine of a database that isn't the models' own has it."""
    return text if database.param == "?" else text.replace("?", str(database.param))


def marks(values: Sequence[object]) -> str:
    return ", ".join("?" for _ in values)


def delete_accounts(where: str, *values: object) -> int:
    """Accounts and all that hangs on them, in pieces, each as long as it is still meant; returns how many."""
    ids = [row[0] for row in execute(f"SELECT id FROM account WHERE {where}", *values).fetchall()]
    return sum(
        execute(f"DELETE FROM account WHERE id IN ({marks(piece)}) AND ({where})", *piece, *values).rowcount
        for piece in in_pieces(ids)
    )
