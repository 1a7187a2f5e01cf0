"""The ledger opened for pages, programs, figures and commands: bound once a process, a connection for each thread."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta, tzinfo

import peewee

from appliance.accounts import manage, vouchers
from appliance.accounts.models import Account
from appliance.config import Config
from appliance.dealers import ledger_db as opening
from appliance.dealers.models import BATCH, ledger_db
from appliance.errors import UserError

DAY = "%Y-%m-%d"
FIRST, LAST = date(2000, 1, 1), date(2100, 12, 31)  # what the ledger believes, and every zone can say

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
    with _lock:
        if not opening.is_bound(config):
            opening.bind(config)


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """What a command runs into becomes the one line of a UserError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{where}{error.strerror or error}") from error
    except peewee.PeeweeException as error:
        raise UserError(f"a database can’t be used: {str(error).partition(chr(10))[0]}") from error
    except OverflowError as error:
        raise UserError("a number is larger than any that is kept here") from error


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
    return _begin(typed_day(text), zone) if text.strip() else None


def typed_day(text: str) -> date:
    """From FIRST to LAST. Raises UserError."""
    try:
        found = date.fromisoformat(text.strip())
    except ValueError:
        raise UserError(f"{text[:40]!r} is no day: write 2027-01-31") from None
    if not FIRST <= found <= LAST:
        raise UserError(f"{text[:40]!r}: write a day from {FIRST} to {LAST}")
    return found


def _begin(of: date, zone: tzinfo) -> int:
    return int(datetime(of.year, of.month, of.day, tzinfo=zone).timestamp())


def come(text: str, zone: tzinfo, now: int) -> int:
    """When a day began that has come; now for today, and for an empty field. Raises UserError."""
    if not text.strip():
        return now
    found, today = typed_day(text), datetime.fromtimestamp(now, zone).date()
    if found > today:
        raise UserError(f"{text[:40]!r}: that day hasn’t come yet")
    return now if found == today else _begin(found, zone)


def coming(text: str, zone: tzinfo, now: int) -> date:
    """A day from today on, which an empty field is. Raises UserError."""
    today = datetime.fromtimestamp(now, zone).date()
    found = typed_day(text) if text.strip() else today
    if found < today:
        raise UserError(f"{text[:40]!r} is over: the bank pays today or later")
    return found


def end_of(text: str, zone: tzinfo) -> int | None:
    """UTC seconds at which it is over, as spans of time are half-open."""
    return _begin(typed_day(text) + timedelta(days=1), zone) if text.strip() else None


def last_day(until: int | None, zone: tzinfo) -> str:
    """The last day of a half-open time."""
    return "" if until is None else day(until - 1, zone)
