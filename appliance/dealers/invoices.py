"""Invoices of dealers, written by the provider for them: drafts, numbers without a gap, credit notes, payments.

A draft's facts are taken anew when it is issued; from then on they are frozen, and only a credit note takes it back.
Its settlement stays then and has another draft: there is always one live invoice of it.
"""

import json
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import peewee
from peewee import fn

from appliance.config import Config
from appliance.dealers import document, ledger, money, months
from appliance.dealers.document import CREDIT_NOTE, SELF_BILLED, Document, Line, Party, Vat
from appliance.dealers.ledger_db import ledger_sql, writing
from appliance.dealers.models import Dealer, Invoice, InvoiceLine, InvoicePayment, PayoutLine
from appliance.errors import Conflict, UserError

INVOICE, CREDIT = "invoice", "credit note"  # kinds
DRAFT, ISSUED, PARTLY, PAID, OVERDUE, CANCELLED = STATES = (
    *("draft", "issued", "partly paid", "paid", "overdue", "cancelled"),
)
BY_HAND = "by hand "  # begins the source of a payment that somebody recorded
SENT = "sent"  # state of a payout's line that the bank hasn't confirmed


def get(number: str) -> Any:
    """By its number, or a draft by `draft-7`. Raises UserError."""
    is_draft = number.startswith("draft-") and number[6:].isdecimal()
    row = Invoice.get_or_none((Invoice.id == int(number[6:])) if is_draft else (Invoice.number == number))
    if row is None:
        raise UserError(f"there is no invoice {number!r}: see `gatehouse dealer invoices`")
    return row


def called(invoice: Any) -> str:
    return invoice.number or f"draft-{invoice.id}"


# States: what follows from an invoice's own columns and its payments


def paid_minor(invoice: Any) -> int:
    query = InvoicePayment.select(fn.COALESCE(fn.SUM(InvoicePayment.amount_minor), 0))
    return int(query.where(InvoicePayment.invoice == invoice).scalar())


def state(invoice: Any, paid: int, now: int) -> str:
    if invoice.number is None:
        return DRAFT
    if invoice.cancelled_at is not None:
        return CANCELLED
    if invoice.kind == CREDIT:
        return ISSUED
    if paid >= invoice.total_minor:
        return PAID
    if now >= invoice.due_at:
        return OVERDUE
    return PARTLY if paid else ISSUED


def paid_sql() -> Any:
    """What was paid for an Invoice of the query around it."""
    query = InvoicePayment.select(fn.COALESCE(fn.SUM(InvoicePayment.amount_minor), 0))
    return query.where(InvoicePayment.invoice == Invoice.id)


def state_sql(now: int) -> Any:
    """The same as `state`, for lists."""
    paid = paid_sql()
    cases = (
        (Invoice.number.is_null(), DRAFT),
        (Invoice.cancelled_at.is_null(False), CANCELLED),
        (Invoice.kind == CREDIT, ISSUED),
        (paid >= Invoice.total_minor, PAID),
        (Invoice.due_at <= now, OVERDUE),
        (paid > 0, PARTLY),
    )
    return peewee.Case(None, cases, ISSUED)


# Drafting and issuing


def draft(config: Config, settlement: Any, now: int) -> Any:
    """The one live invoice of a settlement: the one that is there, or a new draft."""
    live = (Invoice.settlement == settlement) & (Invoice.kind == INVOICE) & Invoice.cancelled_at.is_null()
    with writing():
        if found := Invoice.get_or_none(live):
            return found
        dealer = Dealer.get_by_id(settlement.dealer_id)
        lines = list(_lines(settlement))
        row = Invoice(dealer=dealer, settlement=settlement, kind=INVOICE, created_at=now, currency=settlement.currency)
        row.period, row.since, row.until = settlement.period, settlement.since, settlement.until
        row.net_minor = sum(line.net_minor for line in lines)
        _take_facts(config, row, dealer)
        row.save()
        _keep_lines(row, lines)
    return row


_GROUPED = """SELECT p.kind, p.rate, count(*), CAST(sum(l.amount_minor) AS BIGINT), max(p.note)
FROM settlement_line l JOIN posting p ON p.id = l.posting_id WHERE l.settlement_id = ?
GROUP BY p.kind, p.rate, CASE p.kind WHEN 'correction' THEN p.id END ORDER BY min(p.n)"""
_FIXED = re.compile(r"fixed ([0-9]+)")  # in a rate: minor units for each charge
_KINDS = {"commission": "Commission", "refund": "Refunded payments", "clawback": "Commission taken back"}


def _lines(settlement: Any) -> Iterator[Line]:
    """One for each kind and rate; every single posting stands in the statement."""
    for kind, rate, count, amount, note in ledger_sql(_GROUPED, (settlement.id,)).fetchall():
        if kind == "correction":
            yield Line(f"Correction: {note}" if note else "Correction", amount)
        else:
            shown = _FIXED.sub(lambda found: f"fixed {money.text(int(found[1]), settlement.currency)}", rate)
            times = f"{count} payment{'s' * (count != 1)}"
            yield Line(" · ".join(filter(None, (_KINDS[kind], shown, times))), amount)


def _keep_lines(invoice: Any, lines: list[Line]) -> None:
    for n, line in enumerate(lines, 1):
        sign = -1 if line.net_minor < 0 else 1
        amounts = {"quantity": sign, "price_minor": abs(line.net_minor), "net_minor": line.net_minor}
        InvoiceLine.create(invoice=invoice, n=n, text=line.text, **amounts)


def _take_facts(config: Config, row: Any, dealer: Any) -> None:
    """Who they are today, and the VAT that follows. A draft may lack something, which `issue` then asks for."""
    seller = asdict(seller_of(dealer)) | {"iban": dealer.iban, "bic": dealer.bic, "contract": dealer.contract}
    row.seller, row.buyer = (
        json.dumps(seller, ensure_ascii=False),
        json.dumps(asdict(buyer_of(config)), ensure_ascii=False),
    )
    try:
        vat = document.vat(dealer.tax, dealer.vat_rate or config.dealer.vat_rate)
    except UserError:
        vat = Vat(document.STANDARD, Decimal(0))
    row.vat_category, row.vat_rate = vat.category, f"{vat.percent:f}"
    row.vat_minor = document.vat_of(row.net_minor, vat)
    row.total_minor = row.net_minor + row.vat_minor


def seller_of(dealer: Any) -> Party:
    """By law they have the name that stands as their contact."""
    return Party(
        name=dealer.contact or dealer.name,
        **{
            key: getattr(dealer, key)
            for key in ("street", "house", "city", "postcode", "country", "company_id", "vat_id", "email", "phone")
        },
    )


def buyer_of(config: Config) -> Party:
    facts = config.dealer
    keys = ("name", "street", "house", "city", "postcode", "country", "company_id", "vat_id", "email")
    return Party(**{key: getattr(facts, key) for key in keys})


def issue(config: Config, invoice: Any, now: int | None = None) -> Any:
    """Gives a draft its number; raises UserError with what is missing. Who comes second finds it issued."""
    now = int(time.time()) if now is None else now
    with writing():
        row: Any = Invoice.get_by_id(invoice.id)
        if row.number is not None:
            return row
        dealer = Dealer.get_by_id(row.dealer_id)
        if why := lacking(config, dealer, now):
            raise UserError(f"{called(row)} of {dealer.name} can't be issued: {why}")
        _take_facts(config, row, dealer)
        _number(config, row, now)
        row.save()
        _post_vat(row, row.vat_minor, now)
    return row


def lacking(config: Config, dealer: Any, now: int) -> str:
    """Why no invoice of a dealer can be issued today; nothing when one can."""
    if missing := buyer_of(config).missing():
        return f"fill in [dealer] {', '.join(missing)}"
    missing = (*seller_of(dealer).missing(), *(("vat id",) if dealer.tax == "payer" and not dealer.vat_id else ()))
    if missing:
        return f"the dealer's {', '.join(missing).replace('_', ' ')} is missing"
    since, until = dealer.self_billing_from, dealer.self_billing_until
    if since is None or now < since or (until is not None and now >= until):
        return "there is no agreement on self-billing that holds today"
    try:
        document.vat(dealer.tax, dealer.vat_rate or config.dealer.vat_rate)
    except UserError as error:
        return str(error)
    return ""


def _number(config: Config, row: Any, now: int) -> None:
    """The next one of the dealer's series, in the transaction that uses it, so that no number is lost."""
    row.series = f"{config.dealer.series}{row.dealer_id}"
    text = (
        "INSERT INTO invoice_counter (dealer_id, series, last) VALUES (?, ?, 1)"
        " ON CONFLICT (dealer_id, series) DO UPDATE SET last = invoice_counter.last + 1 RETURNING last"
    )
    row.serial = int(ledger_sql(text, (row.dealer_id, row.series)).fetchone()[0])
    row.number = f"{row.series}-{row.serial:05}"
    row.issued_at = now
    zone = config.site.timezone
    due = months.day(now, zone) + timedelta(days=config.dealer.invoice_due_days + 1)
    row.due_at = months.midnight(due, zone)


def _post_vat(row: Any, vat_minor: int, now: int) -> None:
    if vat_minor:
        entries = {ledger.PAYABLE: vat_minor, ledger.VAT: -vat_minor}
        ledger.post(row.dealer_id, "vat", ("invoice", str(row.id)), row.currency, entries, now, note=row.number)


# Cancelling


def cancel(config: Config, invoice: Any, reason: str, now: int | None = None) -> Any:
    """The credit note; a draft takes the place. Raises UserError where something was paid, or is on its way."""
    now = int(time.time()) if now is None else now
    if not reason.strip() or len(reason) > 200 or not reason.isprintable():
        raise UserError("write in up to 200 characters why it is cancelled: it stands on the credit note")
    with writing():
        row: Any = Invoice.get_by_id(invoice.id)
        _can_be_cancelled(row)
        copied = ("dealer_id", "settlement_id", "currency", "period", "since", "until", "seller", "buyer")
        sums = ("vat_category", "vat_rate", "net_minor", "vat_minor", "total_minor")
        note = Invoice(kind=CREDIT, corrects=row, created_at=now, reason=reason.strip())
        for key in (*copied, *sums):
            setattr(note, key, getattr(row, key))
        _number(config, note, now)
        note.save()
        _keep_lines(note, [Line(line.text, line.net_minor) for line in lines_of(row)])
        Invoice.update(cancelled_at=now, reason=reason.strip()).where(Invoice.id == row.id).execute()
        _post_vat(note, -row.vat_minor, now)
        draft(config, row.settlement, now)
    return note


def _can_be_cancelled(row: Any) -> None:
    if row.number is None:
        raise Conflict(f"{called(row)} is a draft: its facts are taken anew when it is issued")
    if row.kind == CREDIT:
        raise Conflict(f"{row.number} is a credit note, which can't be taken back: draft another invoice")
    if row.cancelled_at is not None:
        raise Conflict(f"{row.number} is cancelled already")
    if paid_minor(row):
        raise Conflict(f"{row.number} is paid, at least in part: correct the ledger, and the next settlement has it")
    if on_its_way(row):
        raise Conflict(f"{row.number} is in a payout that the bank hasn't confirmed: say first that it failed")


def on_its_way(row: Any) -> int:
    """What payouts have sent for an invoice that no bank has confirmed."""
    query = PayoutLine.select(fn.COALESCE(fn.SUM(PayoutLine.amount_minor), 0))
    return int(query.where((PayoutLine.invoice == row) & (PayoutLine.state == SENT)).scalar())


# Paying


def pay(
    invoice: Any,
    amount_minor: int,
    at: int,
    reference: str = "",
    *,
    source: str = "",
    who: str = "",
    payout_line: Any = None,
) -> Any:
    """The payment, or None where its `source` was recorded before. Below zero is money that came back.

    Raises UserError for more than is due.
    """
    with writing():
        row: Any = Invoice.get_by_id(invoice.id)
        if source and InvoicePayment.get_or_none(InvoicePayment.source == source):
            return None
        _can_be_paid(row, amount_minor, 0 if payout_line is not None else on_its_way(row))
        made = InvoicePayment.create(
            invoice=row,
            payout_line=payout_line,
            amount_minor=amount_minor,
            at=at,
            reference=reference,
            source=source or f"{BY_HAND}{uuid.uuid4()}",
            recorded_at=int(time.time()),
            who=who,
        )
        entries = {ledger.PAYABLE: -amount_minor, ledger.PAID: amount_minor}
        note = f"{row.number} {reference}".strip()
        ledger.post(row.dealer_id, "payout", ("invoice payment", str(made.id)), row.currency, entries, at, note=note)
    return made


def _can_be_paid(row: Any, amount_minor: int, sent_minor: int) -> None:
    if row.number is None or row.kind == CREDIT or row.cancelled_at is not None:
        raise Conflict(
            f"{called(row)} is {'a credit note' if row.kind == CREDIT else state(row, 0, 0)}: nothing is due"
        )
    paid = paid_minor(row)
    if not amount_minor or not 0 <= paid + amount_minor <= row.total_minor:
        rest = money.text(row.total_minor - paid, row.currency)
        raise UserError(f"{money.text(amount_minor, row.currency)} can't be paid for {row.number}: {rest} remains")
    if paid + amount_minor + sent_minor > row.total_minor:
        sent = money.text(sent_minor, row.currency)
        raise Conflict(f"{sent} are in a payout for {row.number}: say first whether the bank has paid it")


# What stands on it


def lines_of(invoice: Any) -> list[Any]:
    return list(InvoiceLine.select().where(InvoiceLine.invoice == invoice).order_by(InvoiceLine.n))


def as_document(config: Config, invoice: Any) -> Document:
    """For `invoice_xml.cii` and `invoice_pdf.pdf`; of a draft as it would be today."""
    zone = config.site.timezone
    seller = json.loads(invoice.seller)
    iban, bic, contract = (seller.pop(key, "") for key in ("iban", "bic", "contract"))
    issued = months.day(invoice.issued_at if invoice.issued_at is not None else int(time.time()), zone)
    of: Any = Invoice.get_by_id(invoice.corrects_id) if invoice.corrects_id else None
    return Document(
        number=invoice.number or "",
        kind=CREDIT_NOTE if invoice.kind == CREDIT else SELF_BILLED,
        issued=issued,
        due=_last_day(config, invoice) if invoice.due_at else issued + timedelta(days=config.dealer.invoice_due_days),
        first_day=months.day(invoice.since, zone),
        last_day=months.day(invoice.until - 1, zone),
        currency=invoice.currency,
        seller=Party(**seller),
        buyer=Party(**json.loads(invoice.buyer)),
        vat=document.known_vat(invoice.vat_category, invoice.vat_rate),
        lines=tuple(Line(line.text, line.net_minor) for line in lines_of(invoice)),
        iban=iban,
        bic=bic,
        contract=contract,
        of=of.number if of else "",
        of_issued=months.day(of.issued_at, zone) if of else None,
        notes=tuple(note for note in (_SELF_BILLED, invoice.reason if of else "") if note),
    )


_SELF_BILLED = "Self-billed: the customer issues this document in the supplier's name and on their behalf."


def _last_day(config: Config, invoice: Any) -> date:
    return months.day(invoice.due_at - 1, config.site.timezone)
