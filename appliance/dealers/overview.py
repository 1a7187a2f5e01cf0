"""How the dealers' ledger is, in lines: for the first page, `gatehouse status` and `health`, the doctor, mails."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import peewee

from appliance.config import Config
from appliance.dealers import desk, ledger, ledger_db, money, notes
from appliance.dealers.models import ACTIVE, Dealer, Invoice, InvoicePayment, Settlement
from appliance.dealers.models import ledger_db as database
from appliance.errors import UserError
from appliance.service import Attention, Tile

_DAY_S = 86_400
_SHOWN = 20


def problems(config: Config) -> Iterator[str]:
    """Only what stops the ledger from being what it is. Raises OSError, UserError, peewee.PeeweeException."""
    if not ledger_db.is_made(config):
        return
    with desk.opened(config):
        Dealer.select().exists()
    for line in notes.read(config).broken[:_SHOWN]:
        yield f"dealers: {line}"


def lines(config: Config) -> Iterator[str]:
    """Raises as `problems`."""
    if not ledger_db.is_made(config):
        return
    now = int(time.time())
    with desk.opened(config):
        yield f"dealers: {Dealer.select().where(Dealer.state == ACTIVE).count()} active, {_open_words(now)}"
        yield from (f"dealers: {one.text}" for one in _found(config, now))


def attention(config: Config, now: int) -> Iterator[Attention]:
    try:
        if ledger_db.is_made(config):
            with desk.opened(config):
                yield from list(_found(config, now))
    except (OSError, UserError, peewee.PeeweeException) as error:
        yield Attention(f"the dealers' ledger can't be read: {error}", "/dealers")


def tiles(config: Config, now: int) -> Iterator[Tile]:
    if not ledger_db.is_made(config):
        return
    with desk.opened(config):
        yield Tile(f"{Dealer.select().where(Dealer.state == ACTIVE).count():,}", "active dealers", "/dealers")
        for currency, minor in sorted(to_pay().items()):
            yield Tile(money.text(minor, currency), "to be paid to dealers", _url("/invoices", state="open"))


def to_pay() -> dict[str, int]:
    """By currency, of issued invoices, less what was paid for them."""
    issued = Invoice.number.is_null(False) & Invoice.cancelled_at.is_null() & (Invoice.kind == "invoice")
    total: Any = Invoice.select(Invoice.currency, peewee.fn.SUM(Invoice.total_minor)).where(issued)
    paid: Any = InvoicePayment.select(Invoice.currency, peewee.fn.SUM(InvoicePayment.amount_minor)).join(Invoice)
    paid_by = dict(paid.where(issued).group_by(Invoice.currency).tuples())
    found = {key: total_ - paid_by.get(key, 0) for key, total_ in total.group_by(Invoice.currency).tuples()}
    return {currency: minor for currency, minor in found.items() if minor}


def overdue(now: int) -> int:
    return int(_unpaid().where(Invoice.due_at <= now).count())


def _unpaid() -> Any:
    """Issued invoices that aren't paid to the end."""
    paid = InvoicePayment.select(peewee.fn.COALESCE(peewee.fn.SUM(InvoicePayment.amount_minor), 0))
    issued = Invoice.number.is_null(False) & Invoice.cancelled_at.is_null() & (Invoice.kind == "invoice")
    return Invoice.select().where(issued & (Invoice.total_minor > paid.where(InvoicePayment.invoice == Invoice.id)))


def is_unsettled(noted: notes.Notes) -> bool:
    """Whether what the keeper has found still stands: nobody has settled anything since."""
    return bool(noted.unsettled) and not Settlement.select().where(Settlement.at >= noted.looked_at).exists()


def _open_words(now: int) -> str:
    found = ", ".join(money.text(minor, currency) for currency, minor in sorted(to_pay().items()))
    return f"{found or 'nothing'} to be paid, {overdue(now)} invoices overdue"


def _found(config: Config, now: int) -> Iterator[Attention]:
    """What somebody has to do, the worst first; the ledger is open."""
    noted = notes.read(config)
    yield from (Attention(f"the ledger was changed: {line}", "/dealers") for line in noted.broken[:_SHOWN])
    yield from (Attention(line, "/dealers") for line in noted.failed[:_SHOWN])
    missing = config.dealer.missing()
    if missing and Dealer.select().exists():
        text = f"no invoice can be issued: [dealer] {', '.join(missing)} isn't filled in"
        yield Attention(text, "/settings/dealer")
    if is_unsettled(noted):
        who = "1 dealer has" if noted.unsettled_dealers == 1 else f"{noted.unsettled_dealers} dealers have"
        text = f"{noted.unsettled} isn't settled: {who} earned something in it"
        yield Attention(text, _url("/settlement", period=noted.unsettled))
    if count := overdue(now):
        what = "1 invoice of a dealer is" if count == 1 else f"{count} invoices of dealers are"
        yield Attention(f"{what} overdue", _url("/invoices", state="overdue"))
    yield from _unsent(config, now)


def _unsent(config: Config, now: int) -> Iterator[Attention]:
    """Invoices that should have gone by e-mail since yesterday."""
    if not (config.dealer.mail_invoices and config.mail.host):
        return
    waiting = Invoice.number.is_null(False) & Invoice.mailed_at.is_null() & (Invoice.issued_at < now - _DAY_S)
    if count := Invoice.select().join(Dealer).where(waiting & (Dealer.email != "")).count():
        yield Attention(f"{count} invoices couldn't be sent by e-mail", _url("/invoices", state="unsent"))


def of_dealer(config: Config, dealer: Any, now: int) -> list[str]:
    """What is missing or over with one of them, in words."""
    found = []
    if dealer.contract_until is not None and dealer.contract_until <= now:
        found.append("the contract is over")
    if dealer.self_billing_from is None or dealer.self_billing_from > now:
        found.append("there is no agreement on self-billing: without one you may not write their invoices")
    elif dealer.self_billing_until is not None and dealer.self_billing_until <= now:
        found.append("the agreement on self-billing is over")
    if not dealer.iban:
        found.append("no bank account: nothing can be paid out")
    if not (dealer.street and dealer.city and dealer.postcode and dealer.country):
        found.append("the address isn’t complete: no invoice can be issued")
    if dealer.tax != "non-payer" and not dealer.vat_id:
        found.append("no VAT ID")
    if config.dealer.mail_invoices and not dealer.email:
        found.append("no e-mail address: invoices aren’t sent")
    return found


def verify_file(file: Path) -> Iterable[str]:
    """Of a ledger that is to come back: whether each dealer's chain is whole, line by line."""
    copy = peewee.SqliteDatabase(f"{file.as_uri()}?immutable=1", uri=True)
    try:
        with closing(copy):
            copy.connect()
            yield from verify_open(copy)
    except peewee.PeeweeException as error:
        yield f"it can't be read: {error}"


def verify_open(other: peewee.Database) -> list[str]:
    """The same of any that is open, in place of the one that is bound."""
    before = database.obj
    try:
        database.initialize(other)
        return list(ledger.verify())
    finally:
        database.initialize(before)


def _url(page: str, **asked: object) -> str:
    return f"{page}?{urlencode(asked)}"
