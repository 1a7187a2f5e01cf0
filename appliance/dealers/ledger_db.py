"""Opening the ledger, which neither FreeRADIUS nor the portal can: ledger.db, or a schema beside the core database.

What is in PostgreSQL is there for all appliances of a fleet; a file of each says that it was there before.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from appliance import db
from appliance.config import Config
from appliance.dealers.models import ledger_db
from appliance.errors import UserError

STATE, FILE = "dealers", "ledger.db"  # below `paths.state`
SCHEMA = "dealers"  # in PostgreSQL
MADE = "ledger.made"  # beside it: from then on a missing ledger is a lost one
_IN_SERVER = "postgresql"  # in that file, when it was made there
_BUSY_MS = 20_000


def path(config: Config) -> Path:
    """Of the file, where the database is SQLite's."""
    return config.paths.state / STATE / FILE


def is_in_server(config: Config) -> bool:
    return db.sqlite_path(config.database_url) is None


def url(config: Config) -> str:
    return config.database_url if is_in_server(config) else f"sqlite:///{path(config)}"


def is_made(config: Config) -> bool:
    """Whether this appliance has ever opened it."""
    return path(config).with_name(MADE).exists() if is_in_server(config) else path(config).exists()


def unopened(config: Config) -> Any:
    return db.connect(url(config), _BUSY_MS, schema=SCHEMA if is_in_server(config) else "")


def bind(config: Config) -> None:
    """Makes the ledger once; each thread has a connection of its own. Raises UserError where it is lost."""
    file, in_server = path(config), is_in_server(config)
    if not file.parent.is_dir():
        raise UserError(f"{file.parent}: there is no ledger yet: run `gatehouse enable dealer`")
    made = file.with_name(MADE)
    before = made.read_text(encoding="ascii").strip() if made.exists() else None
    _is_elsewhere(file, before, in_server)
    database = unopened(config)
    with database.connection_context():
        steps = db.migrations("appliance.dealers.migrations")
        if not in_server:
            db.migrate(database, steps)
        elif before == _IN_SERVER and not db.version(database):
            raise UserError(f"the dealers' ledger isn't in the database: {_LOST.format(made=made)}")
        else:
            db.make_schema(database, SCHEMA, steps)
    vars(database)[_BOUND] = url(config)
    ledger_db.initialize(database)
    _mark(made, _IN_SERVER if in_server else "", before)
    if not in_server and file.stat().st_uid == os.geteuid():
        file.chmod(0o660)  # the admin's pages write it too; -wal and -shm take the database's mode


_LOST = "restore a backup; or remove {made}, and a new and empty ledger begins"
_BOUND = "gatehouse_url"


def is_bound(config: Config) -> bool:
    return getattr(ledger_db.obj, _BOUND, None) == url(config)


def _is_elsewhere(file: Path, before: str | None, in_server: bool) -> None:
    """Raises UserError for a ledger that is lost, or in the other place."""
    if in_server:
        if has_dealers(file):
            words = "move it there with `gatehouse database move`, or put that file aside"
            raise UserError(f"{file} has a ledger that isn't in the database which [database] url names: {words}")
    elif before == _IN_SERVER:
        raise UserError("the dealers' ledger is in PostgreSQL, and [database] url doesn't name it any more")
    elif before is not None and not file.exists():
        raise UserError(f"{file} is lost: {_LOST.format(made=file.with_name(MADE))}")


def has_dealers(file: Path) -> bool:
    """Whether there is a file with more in it than an empty ledger."""
    if not file.exists():
        return False
    with closing(sqlite3.connect(file)) as database:
        try:
            return database.execute("SELECT 1 FROM dealer LIMIT 1").fetchone() is not None
        except sqlite3.OperationalError:  # no such table
            return False
        except sqlite3.DatabaseError as error:
            raise UserError(f"{file}: it can't be read: {error}") from None


def _mark(made: Path, where: str, before: str | None) -> None:
    if before != where:
        made.write_text(where, encoding="ascii")
        if made.stat().st_uid == os.geteuid():
            made.chmod(0o660)


def writing() -> AbstractContextManager[None]:
    """A transaction that is the only writer from its beginning, of all nodes: what it reads holds until it commits."""
    return db.writing(ledger_db)


def ledger_sql(text: str, values: Sequence[object] = ()) -> Any:
    """A statement for both engines; `?` stands for each value."""
    database = ledger_db.obj
    return database.execute_sql(text if database.param == "?" else text.replace("?", database.param), values)
