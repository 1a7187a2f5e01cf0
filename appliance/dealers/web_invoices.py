"""Invoices of dealers: which are paid, which aren't, each of them as paper and as XML, payments, cancelling."""

from collections.abc import Sequence
from typing import Any

from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, Row
from appliance.dealers import desk, invoices, ledger_db, money
from appliance.dealers.invoices import CANCELLED, CREDIT, DRAFT, ISSUED, OVERDUE, PAID, PARTLY
from appliance.dealers.models import Dealer, Invoice, InvoicePayment, PayoutLine, SettlementLine
from appliance.dealers.web import url as dealer_url
from appliance.errors import Missing, UserError

OPEN = "open"  # of the filter: whatever is still to be paid


def listed(ask: Ask) -> Any:
    zone = ask.config.site.timezone
    with desk.opened(ask.config):
        state = invoices.state_sql(ask.now)
        of = List(
            title="Invoices",
            query=Invoice.select(
                Invoice.id,
                Invoice.number,
                Dealer.name.alias("dealer"),
                Invoice.kind,
                Invoice.period,
                Invoice.issued_at,
                Invoice.due_at,
                Invoice.currency,
                Invoice.total_minor,
                invoices.paid_sql().alias("paid_minor"),
                state.alias("state"),
                Invoice.mailed_at,
            ).join(Dealer),
            columns=(
                Column("number", "Number", Invoice.number, link=lambda row: f"/invoices/{row['id']}"),
                Column("dealer", "Dealer", Dealer.name, link=lambda row: dealer_url(row["dealer"])),
                Column("kind", "What", Invoice.kind),
                Column("period", "Month", Invoice.period),
                Column("issued_at", "Issued", Invoice.issued_at, show=lambda at: desk.day(at, zone)),
                Column("due_at", "Due", Invoice.due_at, show=lambda at: desk.last_day(at, zone)),
                Column("total", "Total", Invoice.total_minor, number=True),
                Column("paid", "Paid", number=True),
                Column("currency", "Currency", Invoice.currency),
                Column("state", "State"),
                Column("mailed_at", "Sent", Invoice.mailed_at, show=lambda at: desk.day(at, zone)),
            ),
            order="-issued_at",
            search=lambda text: (Invoice.number.contains(text)) | (Dealer.name.contains(text)),
            choices=(
                Choice("state", "State", _states(state)),
                Choice("period", "Month", _periods()),
                Choice("kind", "What", {kind: Invoice.kind == kind for kind in (invoices.INVOICE, CREDIT)}),
            ),
            empty="No invoice yet: they come with the settlement of a month.",
            fill=_filled,
        )
        return of.respond(ask, "invoices.html", due=_due(ask))


def _states(state: Any) -> dict[str, Any]:
    found = {word: state == word for word in (DRAFT, ISSUED, PARTLY, PAID, OVERDUE, CANCELLED)}
    unpaid = (state == ISSUED) | (state == PARTLY) | (state == OVERDUE)
    unsent = Invoice.number.is_null(False) & Invoice.mailed_at.is_null()
    return {OPEN: unpaid & (Invoice.kind == invoices.INVOICE), **found, "unsent": unsent}


def _periods() -> dict[str, Any]:
    rows: Any = Invoice.select(Invoice.period).where(Invoice.period != "").distinct().order_by(Invoice.period.desc())
    return {period: Invoice.period == period for (period,) in rows.limit(60).tuples()}


def _filled(rows: Sequence[Row]) -> Sequence[Row]:
    return [
        {
            **row,
            "number": row["number"] or "draft",
            "total": money.plain(int(str(row["total_minor"])), str(row["currency"])),
            "paid": money.plain(int(str(row["paid_minor"])), str(row["currency"])) if row["paid_minor"] else "",
        }
        for row in rows
    ]


def _due(ask: Ask) -> list[tuple[str, str, str]]:
    """Title, amount and link of what is open, overdue and paid, by currency."""
    state, found = invoices.state_sql(ask.now), []
    for title, words in (
        ("unpaid", (ISSUED, PARTLY, OVERDUE)),
        ("overdue", (OVERDUE,)),
        ("paid", (PAID,)),
    ):
        chosen = state.in_(words) & (Invoice.kind == invoices.INVOICE)
        sums: dict[str, int] = {}
        rest = invoices.paid_sql() if title == "paid" else Invoice.total_minor - invoices.paid_sql()
        rows: Any = Invoice.select(Invoice.currency, rest).where(chosen).tuples()
        for currency, minor in rows:
            sums[currency] = sums.get(currency, 0) + minor
        link = {"unpaid": OPEN, "overdue": OVERDUE, "paid": PAID}[title]
        amounts = ", ".join(money.text(minor, currency) for currency, minor in sorted(sums.items()))
        found.append((title, amounts or "0", f"/invoices?state={link}"))
    return found


# One of them


def _found(number: str) -> Any:
    row = Invoice.get_or_none(Invoice.id == int(number)) if number.isdecimal() and len(number) < 19 else None
    if row is None:
        raise Missing("there is no such invoice")
    return row


def shown(ask: Ask, number: str) -> Any:
    with desk.opened(ask.config):
        return _page(ask, _found(number))


def _page(ask: Ask, invoice: Any, error: str = "") -> Any:
    zone = ask.config.site.timezone
    paid = invoices.paid_minor(invoice)
    chosen = InvoicePayment.invoice == invoice
    return ask.page(
        "invoice.html",
        400 if error else 200,
        invoice=invoice,
        dealer=invoice.dealer,
        called=invoices.called(invoice),
        state=invoices.state(invoice, paid, ask.now),
        paid=paid,
        rest=invoice.total_minor - paid,
        lines=invoices.lines_of(invoice),
        payments=list(InvoicePayment.select().where(chosen).order_by(InvoicePayment.at, InvoicePayment.id)),
        payouts=list(PayoutLine.select().where(PayoutLine.invoice == invoice).order_by(PayoutLine.id)),
        corrected=Invoice.get_or_none(Invoice.corrects == invoice),
        settled=SettlementLine.select().where(SettlementLine.settlement == invoice.settlement_id).count(),
        lacking=invoices.lacking(ask.config, invoice.dealer, ask.now) if invoice.number is None else "",
        error=error,
        text=money.text,
        plain=money.plain,
        day=lambda at: desk.day(at, zone),
        last_day=lambda at: desk.last_day(at, zone),
        today=desk.day(ask.now, zone),
        url=dealer_url,
        may=ask.person.may("operator"),
    )


def pdf(ask: Ask, number: str) -> Any:
    from appliance.dealers import invoice_pdf  # fpdf takes a while to load

    with desk.opened(ask.config):
        invoice = _found(number)
        content = invoice_pdf.pdf(invoices.as_document(ask.config, invoice))
    return ask.file(content, f"{invoices.called(invoice)}.pdf", "application/pdf")


def xml(ask: Ask, number: str) -> Any:
    from appliance.dealers import invoice_xml

    with desk.opened(ask.config):
        invoice = _found(number)
        if invoice.number is None:
            raise UserError("a draft has no number yet, and so no XML: issue it first")
        content = invoice_xml.cii(invoices.as_document(ask.config, invoice))
    return ask.file(content, f"{invoices.called(invoice)}.xml", "application/xml")


def issue(ask: Ask, number: str) -> Any:
    with desk.opened(ask.config):
        invoice = _found(number)
        try:
            with ledger_db.writing():
                row = invoices.issue(ask.config, invoice, ask.now)
                audit.record(ask.person.name, "issued", f"invoice {row.number}", {}, {"dealer": row.dealer.name})
        except UserError as error:
            return _page(ask, invoice, str(error))
    return ask.done(f"/invoices/{number}", f"It is issued as {row.number}.")


def pay(ask: Ask, number: str) -> Any:
    """By hand; with a minus what came back."""
    form = ask.form()
    with desk.opened(ask.config):
        invoice = _found(number)
        try:
            minor = money.parse(form.get("amount", ""), invoice.currency)
            when = desk.come(form.get("day", ""), ask.config.site.timezone, ask.now)
            reference, who = form.get("reference", "").strip(), ask.person.name
            with ledger_db.writing():
                invoices.pay(invoice, minor, when, reference, who=who)
                after = {"amount": money.text(minor, invoice.currency), "reference": reference}
                audit.record(who, "paid", f"invoice {invoice.number}", {}, after)
        except UserError as error:
            return _page(ask, invoice, str(error))
    return ask.done(f"/invoices/{number}", f"{money.text(minor, invoice.currency)} is recorded.")


def cancel(ask: Ask, number: str) -> Any:
    with desk.opened(ask.config):
        invoice = _found(number)
        try:
            reason = ask.form().get("reason", "")
            with ledger_db.writing():
                note = invoices.cancel(ask.config, invoice, reason, ask.now)
                audit.record(ask.person.name, "cancelled", f"invoice {invoice.number}", {}, {"reason": reason})
        except UserError as error:
            return _page(ask, invoice, str(error))
    return ask.done(f"/invoices/{note.id}", f"{invoice.number} is cancelled by the credit note {note.number}.")


PAGES = (
    Page("/invoices", listed, nav="Invoices"),
    Page("/invoices/<number>", shown),
    Page("/invoices/<number>/pdf", pdf),
    Page("/invoices/<number>/xml", xml),
    Page("/invoices/<number>/issue", issue, "POST"),
    Page("/invoices/<number>/pay", pay, "POST"),
    Page("/invoices/<number>/cancel", cancel, "POST"),
)
