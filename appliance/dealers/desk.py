"""The ledger opened for pages, programs, figures and commands: bound once a process, a connection for each thread."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta, tzinfo

from appliance.accounts import manage, vouchers
from appliance.accounts.models import Account
from appliance.config import Config
from appliance.dealers import ledger_db as opening
from appliance.dealers.models import BATCH, ledger_db
from appliance.errors import UserError

DAY = "%Y-%m-%d"

_lock = threading.Lock()


@contextlib.contextmanager
def opened(config: Config) -> Iterator[None]:
    """Raises UserError where the module was never enabled."""
    _bind(config)
    mine = ledger_db.is_closed()
    if mine:
        ledger_db.connect()
    try:
        yield
    finally:
        if mine:
            ledger_db.close()


def _bind(config: Config) -> None:
    where = str(opening.path(config))
    with _lock:
        if ledger_db.obj is None or ledger_db.obj.database != where:
            opening.bind(config)


def reference(kind: str, name: str) -> int:
    """The id in core.db, which is open, of what may be a dealer's. Raises UserError."""
    if kind == BATCH:
        return int(vouchers.get_batch(name).id)
    return int(manage.get(Account, name, "account").id)


# Days of the site's calendar


def day(seconds: int | None, zone: tzinfo) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, zone).strftime(DAY)


def begin_of(text: str, zone: tzinfo) -> int | None:
    """UTC seconds at which a day begins; None for an empty field. Raises UserError."""
    if not text.strip():
        return None
    try:
        found = date.fromisoformat(text.strip())
        return int(datetime(found.year, found.month, found.day, tzinfo=zone).timestamp())
    except (ValueError, OverflowError):
        raise UserError(f"{text[:40]!r} is no day: write 2027-01-31") from None


def end_of(text: str, zone: tzinfo) -> int | None:
    """UTC seconds at which it is over, as spans of time are half-open."""
    begins = begin_of(text, zone)
    if begins is None:
        return None
    after = datetime.fromtimestamp(begins, zone).date() + timedelta(days=1)
    return int(datetime(after.year, after.month, after.day, tzinfo=zone).timestamp())


def last_day(until: int | None, zone: tzinfo) -> str:
    """The last day of a half-open time."""
    return "" if until is None else day(until - 1, zone)
