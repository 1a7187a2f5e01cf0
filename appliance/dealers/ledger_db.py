"""Opening ledger.db, which neither FreeRADIUS nor the portal can."""

import os
from pathlib import Path
from typing import Any

from appliance import db
from appliance.config import Config
from appliance.dealers.models import ledger_db
from appliance.errors import UserError

STATE, FILE = "dealers", "ledger.db"  # below `paths.state`
MADE = "ledger.made"  # beside it: from then on a missing ledger is a lost one
_BUSY_MS = 20_000


def path(config: Config) -> Path:
    return config.paths.state / STATE / FILE


def bind(config: Config) -> None:
    """Makes the ledger once; each thread has a connection of its own. Raises UserError where it is lost."""
    file = path(config)
    if not file.parent.is_dir():
        raise UserError(f"{file.parent}: there is no ledger yet: run `gatehouse enable dealer`")
    made = file.with_name(MADE)
    if made.exists() and not file.exists():
        raise UserError(f"{file} is lost: restore a backup; or remove {made}, and a new and empty ledger begins")
    ledger_db.initialize(db.connect(f"sqlite:///{file}", _BUSY_MS))
    with ledger_db.connection_context():
        db.migrate(ledger_db.obj, db.migrations("appliance.dealers.migrations"))
    if not made.exists():
        made.touch(mode=0o660)
    if file.stat().st_uid == os.geteuid():
        file.chmod(0o660)  # the admin's pages write it too; -wal and -shm take the database's mode


def writing() -> Any:
    """A transaction that is the only writer from its beginning: what it reads holds until it commits."""
    return ledger_db.atomic("IMMEDIATE")
