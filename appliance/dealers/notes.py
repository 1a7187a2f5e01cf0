"""What the keeper has found, for pages and commands of all nodes: a row of the ledger, which only it writes."""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from appliance.config import Config
from appliance.dealers import desk
from appliance.dealers.ledger_db import ledger_sql

_NAME = "keeper"


@dataclass(frozen=True)
class Notes:
    """`broken` are lines about a ledger that was changed; `unsettled` is a month that is over, with what is due in it.

    `told` are the lines that somebody was sent by e-mail. Times are UTC seconds, 0 is never.
    """

    verified_at: int = 0
    broken: tuple[str, ...] = ()
    unsettled: str = ""
    unsettled_dealers: int = 0
    looked_at: int = 0
    failed: tuple[str, ...] = ()
    told: tuple[str, ...] = field(default=())


def read(config: Config) -> Notes:
    with desk.opened(config):
        row = ledger_sql("SELECT value FROM note WHERE name = ?", (_NAME,)).fetchone()
    try:
        found = json.loads(row[0]) if row else {}
        lists: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        return Notes(**lists)
    except (ValueError, TypeError, AttributeError):  # another version's
        return Notes()


def change(config: Config, **values: Any) -> Notes:
    noted = replace(read(config), **values)
    text = "INSERT INTO note (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    with desk.opened(config):
        ledger_sql(text, (_NAME, json.dumps(asdict(noted))))
    return noted
