"""Payouts: invoices become a file of transfers for the bank, each once, until the bank says what became of it."""

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from peewee import chunked, fn

from appliance.config import Config
from appliance.dealers import invoices, money, months, pain001
from appliance.dealers.document import Party
from appliance.dealers.ledger_db import writing
from appliance.dealers.models import SUSPENDED, Dealer, Invoice, InvoicePayment, Payout, PayoutLine
from appliance.errors import Conflict, UserError

_PIECE = 500  # rows in one statement
SENT, PAID, FAILED = "sent", "paid", "failed"  # states of a line
_PARTY = ("name", "street", "house", "city", "postcode", "country", "company_id", "vat_id", "email", "phone", "contact")


@dataclass(frozen=True)
class Proposal:
    """An invoice that isn't paid, what remains of it, and whether it can be in a payout now."""

    invoice: Any
    dealer: Any
    amount_minor: int
    included: bool
    why: str


def propose(config: Config, now: int | None = None) -> list[Proposal]:
    """Every issued invoice with something to pay, the one due first at the beginning."""
    now = int(time.time()) if now is None else now
    paid = invoices.paid_sql()
    open_ = Invoice.number.is_null(False) & Invoice.cancelled_at.is_null() & (Invoice.kind == invoices.INVOICE)
    query = Invoice.select().where(open_ & (paid < Invoice.total_minor)).order_by(Invoice.due_at, Invoice.id)
    found: list[Any] = list(query)
    standing = _standing(found)
    return [_proposal(config, row, *standing[row.id], now) for row in found]


def _standing(rows: Sequence[Any]) -> dict[int, tuple[Any, int, int]]:
    """By invoice: its dealer, what remains to be paid, and what is on its way; in three queries for all."""
    ids = [row.id for row in rows]
    known = {dealer.id: dealer for dealer in Dealer.select().where(Dealer.id.in_({row.dealer_id for row in rows}))}
    paid = _sums(InvoicePayment, InvoicePayment.invoice.in_(ids))
    sent = _sums(PayoutLine, PayoutLine.invoice.in_(ids) & (PayoutLine.state == SENT))
    return {row.id: (known[row.dealer_id], row.total_minor - paid.get(row.id, 0), sent.get(row.id, 0)) for row in rows}


def _sums(model: Any, chosen: Any) -> dict[int, int]:
    query = model.select(model.invoice, fn.SUM(model.amount_minor)).where(chosen).group_by(model.invoice)
    return dict(query.tuples())


def _proposal(config: Config, invoice: Any, dealer: Any, rest: int, sent: int, now: int) -> Proposal:
    why = _obstacle(dealer, sent)
    due = months.day(invoice.due_at - 1, config.site.timezone)
    when = f"{'overdue since' if now >= invoice.due_at else 'due'} {due}"
    return Proposal(invoice, dealer, rest, not why, why or when)


def _obstacle(dealer: Any, sent: int) -> str:
    if sent:
        return "it is in a payout that the bank hasn't confirmed"
    if dealer.state == SUSPENDED:
        return "the dealer is suspended"
    if not dealer.iban:
        return "the dealer has no account (IBAN)"
    if not dealer.city or not dealer.country:
        return "the dealer's city or country is missing, and banks want both"
    return ""


def make(
    config: Config, chosen: Sequence[Any], who: str, now: int | None = None, execute_on: date | None = None
) -> Any:
    """One Payout for invoices of one currency. Raises UserError; then nothing was made.

    Two at once: the second finds the invoices on their way.
    """
    now = int(time.time()) if now is None else now
    day = execute_on or months.day(now, config.site.timezone)
    if not config.dealer.iban or not config.dealer.city or not config.dealer.country:
        raise UserError("no payout can be made: fill in [dealer] iban, city and country")
    with writing():
        rows: list[Any] = list(Invoice.select().where(Invoice.id.in_([row.id for row in chosen])).order_by(Invoice.id))
        if len({row.currency for row in rows}) != 1:
            raise UserError("a payout is of invoices in one currency: choose at least one, and make one for each")
        standing = _standing(rows)
        for row in rows:
            _can_be_in(row, *standing[row.id])
        payout = Payout.create(
            currency=rows[0].currency,
            message_id=f"GH{day:%Y%m%d}-{secrets.token_hex(6)}",
            execute_on=str(day),
            total_minor=sum(rest for _, rest, _ in standing.values()),
            created_at=now,
            who=who,
        )
        lines = [_line(payout, row, *standing[row.id][:2]) for row in rows]
        for piece in chunked(lines, _PIECE):
            PayoutLine.insert_many(piece).execute()
    return payout


def _can_be_in(row: Any, dealer: Any, rest: int, sent: int) -> None:
    if row.number is None or row.kind != invoices.INVOICE or row.cancelled_at is not None or rest <= 0:
        raise Conflict(f"{invoices.called(row)} can't be paid out: nothing is due for it")
    if why := _obstacle(dealer, sent):
        raise Conflict(f"{row.number} of {dealer.name} can't be paid out: {why}")


def _line(payout: Any, row: Any, dealer: Any, rest: int) -> dict[str, Any]:
    return {
        "payout": payout,
        "invoice": row,
        "dealer": dealer,
        "amount_minor": rest,
        "end_to_end": f"{row.number}.{payout.id}",
        "name": invoices.seller_of(dealer).name,
        "iban": dealer.iban,
        "bic": dealer.bic,
    }


def get(message_id: str) -> Any:
    row = Payout.get_or_none(Payout.message_id == message_id)
    if row is None:
        raise UserError(f"there is no payout {message_id!r}: see `gatehouse dealer payout`")
    return row


def lines_of(payout: Any) -> list[Any]:
    return list(PayoutLine.select().where(PayoutLine.payout == payout).order_by(PayoutLine.id))


def file_of(config: Config, payout: Any) -> bytes:
    """The pain.001 file; it names the same message each time, so that the bank takes it once."""
    return pain001.pain001(
        pain001.Order(
            message_id=payout.message_id,
            created_at=payout.created_at,
            execute_on=date.fromisoformat(payout.execute_on),
            by=invoices.buyer_of(config),
            iban=config.dealer.iban,
            bic=config.dealer.bic,
            currency=payout.currency,
            transfers=[_transfer(line) for line in lines_of(payout)],
        )
    )


def _transfer(line: Any) -> pain001.Transfer:
    facts = json.loads(line.invoice.seller)
    to = Party(**{key: facts[key] for key in _PARTY} | {"name": line.name})
    return pain001.Transfer(line.end_to_end, to, line.iban, line.bic, line.amount_minor, line.invoice.number)


# What became of it


def confirm(payout: Any, at: int, who: str, lines: Iterable[Any] | None = None) -> int:
    """Marks its transfers paid that are on their way, or those of `lines`; returns how many."""
    done = 0
    with writing():
        for line in lines_of(payout) if lines is None else list(lines):
            done += settle_line(line, at, payout.message_id, f"payout line {line.id}", who)
    return done


def settle_line(line: Any, at: int, reference: str, source: str, who: str) -> bool:
    """The bank has made this transfer. False where that was known."""
    with writing():
        taken = PayoutLine.update(state=PAID, done_at=at).where((PayoutLine.id == line.id) & (PayoutLine.state == SENT))
        if not taken.execute():
            return False
        invoices.pay(line.invoice, line.amount_minor, at, reference, source=source, who=who, payout_line=line)
        _close(line.payout_id, at)
    return True


def fail(line: Any, at: int) -> None:
    """The bank hasn't made this transfer; its invoice can be in another payout."""
    with writing():
        failed = PayoutLine.update(state=FAILED, done_at=at)
        if not failed.where((PayoutLine.id == line.id) & (PayoutLine.state == SENT)).execute():
            shown = money.text(line.amount_minor, line.payout.currency)
            raise Conflict(f"the transfer of {shown} to {line.name} isn't on its way any more")
        _close(line.payout_id, at)


def _close(payout: int, at: int) -> None:
    if not PayoutLine.select().where((PayoutLine.payout == payout) & (PayoutLine.state == SENT)).exists():
        Payout.update(closed_at=at).where((Payout.id == payout) & Payout.closed_at.is_null()).execute()
