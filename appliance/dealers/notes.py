"""What the keeper has found, for pages and commands: a small file beside the ledger, of nobody's making but its own."""

import grp
import json
import os
import pwd
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from appliance.config import Config
from appliance.dealers import ledger_db
from appliance.files import written

FILE = "keeper.json"


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
    try:
        found = json.loads((config.paths.state / ledger_db.STATE / FILE).read_bytes())
        lists: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        return Notes(**lists)
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or another version's
        return Notes()


def change(config: Config, **values: Any) -> Notes:
    noted = replace(read(config), **values)
    owner, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    with written(config.paths.state / ledger_db.STATE / FILE, 0o640, owner, group) as file:
        file.write(json.dumps(asdict(noted)).encode())
    return noted
