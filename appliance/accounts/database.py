"""The core database, opened as the configuration says. Services import this, and not all that `apply` renders."""

from collections.abc import Iterator
from contextlib import contextmanager

import peewee

from appliance import db
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.errors import UserError


@contextmanager
def open_core(config: Config, create: bool = False) -> Iterator[None]:
    """Bound to the models and open; raises UserError where it isn't there yet, or can't be reached."""
    bind_core(config, create)
    try:
        core_db.connect()
    except peewee.OperationalError as error:
        raise UserError(f"the database can't be reached: {' '.join(str(error).split())}") from error
    with core_db.connection_context():
        yield


def bind_core(config: Config, create: bool = False) -> None:
    """For who opens and closes it himself; raises as `open_core` does."""
    sqlite = db.sqlite_path(config.database_url)
    if sqlite is not None and not create and not sqlite.exists():
        raise UserError(f"{sqlite}: there is no database yet: run `gatehouse apply` first")
    core_db.initialize(db.connect(config.database_url))
