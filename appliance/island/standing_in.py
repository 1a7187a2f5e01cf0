"""The site's own copy in place of the central database, for who only reads it: a box has to come up without that."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import peewee

from appliance import db
from appliance.accounts.database import open_core
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.errors import UserError
from appliance.island import places, snapshot


@contextmanager
def open_core_or_copy(config: Config, create: bool = False) -> Iterator[bool]:
    """Bound to the models and open; whether it is the central database itself. Raises UserError without either."""
    with ExitStack() as stack:
        try:
            stack.enter_context(open_core(config, create))
            is_central = True
        except UserError as error:
            is_away = isinstance(error.__cause__, peewee.OperationalError) and places.is_wanted(config)
            copy = snapshot.current(places.copy_link(config)) if is_away else None
            if copy is None:
                raise
            core_db.initialize(db.connect(f"sqlite:///{copy.path}"))
            stack.enter_context(core_db.connection_context())
            is_central = False
        yield is_central
