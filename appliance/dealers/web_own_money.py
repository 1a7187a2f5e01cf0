"""A dealer's money: what is earned, on invoices and paid, each amount down to the sale that it is for; the credit."""

from collections.abc import Callable, Sequence
from typing import Any

from appliance.accounts.web_parts import local
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, Row
from appliance.dealers import invoice_xml, invoices, months, schemes, wording
from appliance.dealers import statement as statements
from appliance.dealers.models import Entry, Invoice, InvoicePayment, Posting
from appliance.dealers.money import text as amount
from appliance.dealers.own import EARNED, Own
from appliance.dealers.web_own import BASE, around, mine, page

WORDS = {
    "commission": "commission",
    "refund": "refund to a customer",
    "clawback": "taken back",
    "correction": "correction",
    "settle": "put on an invoice",
    "vat": "VAT of an invoice",
    "payout": "paid out",
    "top-up": "credit paid in",
    "reserve": "credit set aside for vouchers",
    "sold": "vouchers handed over",
    "release": "vouchers that weren’t made",
    "recall": "voucher taken back",
}
SHOWN, MONTHS = 8, 24  # rows on the first page of money, and statements that it offers


def money(ask: Ask, own: Own) -> Any:
    when = local(ask)
    return page(
        ask,
        own,
        "own_money.html",
        "money",
        money=own.money(),
        invoices=list(own.invoices().order_by(Invoice.id.desc()).limit(SHOWN)),
        state=lambda invoice: _state(own, invoice),
        commissions=list(own.commissions().order_by(Posting.n.desc()).limit(SHOWN)),
        words=WORDS,
        when=when,
        months=_months(own),
        head=own.head(ask.now + 1),
    )


def _months(own: Own) -> list[str]:
    """This one and those before it, as far as there is something."""
    zone, first = own.config.site.timezone, own.first()
    found = [months.of(own.now, zone)]
    while len(found) < MONTHS and first is not None and found[-1].since > first:
        found.append(months.before(found[-1].since, zone))
    return [month.name for month in found]


def commissions(ask: Ask, own: Own) -> Any:
    return _postings(ask, own, "Commissions", own.commissions(), EARNED, "Nothing is earned yet.")


def statement(ask: Ask, own: Own, month: str) -> Any:
    """All of a month as it stands in the ledger; its last hash stands for all before it."""
    of = months.period(month, ask.config.site.timezone)
    head = own.head(of.until)
    query = own.recorded(of.since, of.until)
    return _postings(ask, own, f"Statement {month}", query, WORDS, "Nothing in this month.", head, month)


def statement_file(ask: Ask, own: Own, month: str) -> Any:
    """That needs nobody's word: `gatehouse dealer verify` reckons it after."""
    of = months.period(month, ask.config.site.timezone)
    content = statements.table(ask.config, own.dealer, of.since, of.until)
    return ask.file(content, f"statement-{of.name}.csv", "text/csv; charset=utf-8")


def statement_pdf(ask: Ask, own: Own, month: str) -> Any:
    from appliance.dealers import statement_pdf as paper

    of = months.period(month, ask.config.site.timezone)
    content = paper.pdf(ask.config, own.dealer, of.since, of.until)
    return ask.file(content, f"statement-{of.name}.pdf", "application/pdf")


def _postings(
    ask: Ask, own: Own, title: str, query: Any, kinds: Any, empty: str, head: Any = None, month: str = ""
) -> Any:
    of = List(
        title=title,
        query=query.select(
            Posting.id, Posting.n, Posting.at, Posting.kind, Posting.note, Posting.amount_minor, Posting.currency,
            Posting.rate, Posting.due_at, Posting.hash,
        ),
        columns=(
            Column("n", "No.", Posting.n, number=True, link=_link),
            Column("at", "When", Posting.at, show=local(ask)),
            Column("value", "Amount", Posting.amount_minor, number=True),
            Column("kind", "What", show=lambda kind: WORDS.get(kind, kind)),
            Column("rate", "Rate"),
            Column("note", "For"),
            Column("hash", "Hash", show=lambda text: f"{text[:12]}…"),
        ),
        order="-n",
        choices=(
            Choice("kind", "What", {kind: Posting.kind == kind for kind in kinds}, WORDS),
        ),
        empty=empty,
        fill=_priced(value="amount_minor"),
    )  # fmt: skip
    return of.respond(ask, "own_statement.html", **around(own, "money"), head=head, month=month)


def _priced(**columns: str) -> Callable[[Sequence[Row]], Sequence[Row]]:
    """Adds columns with the text of others, which are minor units."""

    def filled(rows: Sequence[Row]) -> Sequence[Row]:
        return [{**row, **{key: _text(row, minor) for key, minor in columns.items()}} for row in rows]

    return filled


def _text(row: Row, minor: str) -> str:
    return amount(int(str(row[minor])), str(row["currency"]))


def _link(row: Row) -> str:
    return f"{BASE}/commission/{row['id']}" if row["kind"] in EARNED else ""


def commission(ask: Ask, own: Own, posting: str) -> Any:
    """Down to what was sold, and to the scheme that says how much of it is the dealer's."""
    found = own.commission(posting)
    return page(
        ask,
        own,
        "own_commission.html",
        "money",
        found=found,
        when=local(ask),
        words=WORDS,
        terms=list(wording.sentences(schemes.parse(found.version.terms))) if found.version else [],
    )


def credit(ask: Ask, own: Own) -> Any:
    of = List(
        title="Credit",
        query=own.credits().select(
            Entry.id, Posting.at, Posting.kind, Posting.note, Entry.amount_minor, Entry.currency, Entry.balance_minor,
        ),
        columns=(
            Column("at", "When", Entry.id, show=local(ask)),
            Column("kind", "What", show=lambda kind: WORDS.get(kind, kind)),
            Column("note", "For"),
            Column("value", "Amount", Entry.amount_minor, number=True),
            Column("left", "Left", number=True),
        ),
        order="-at",
        empty="No credit was ever paid in. Ask your provider how to pay, and you can sell vouchers here.",
        fill=_priced(value="amount_minor", left="balance_minor"),
    )  # fmt: skip
    return of.respond(ask, "own_credit.html", **around(own, "money"), available=own.available())


def invoices_list(ask: Ask, own: Own) -> Any:
    state = invoices.state_sql(own.now)
    of = List(
        title="Invoices",
        query=own.invoices().select(
            Invoice.id, Invoice.number, Invoice.kind, Invoice.period, Invoice.issued_at, Invoice.due_at,
            Invoice.total_minor, Invoice.currency, state.alias("state"),
        ),
        columns=(
            Column("number", "Number", Invoice.id, link=lambda row: f"{BASE}/invoice/{row['id']}"),
            Column("kind", "What"),
            Column("period", "For", Invoice.period),
            Column("issued_at", "Issued", Invoice.issued_at, show=lambda at: local(ask)(at)[:10]),
            Column("total", "Total", Invoice.total_minor, number=True),
            Column("state", "State"),
            Column("due_at", "Due", Invoice.due_at, show=lambda at: local(ask)(at - 1)[:10]),
        ),
        order="-number",
        search=lambda text: Invoice.number.contains(text),
        choices=(Choice("state", "State", {word: state == word for word in invoices.STATES[1:]}),),
        empty="No invoices yet. Your provider writes them at the end of a month.",
        fill=_priced(total="total_minor"),
    )  # fmt: skip
    return of.respond(ask, "own_list.html", **around(own, "money"))


def _state(own: Own, invoice: Any) -> str:
    return invoices.state(invoice, invoices.paid_minor(invoice), own.now)


def invoice(ask: Ask, own: Own, invoice: str) -> Any:
    found = own.invoice(invoice)
    return page(
        ask,
        own,
        "own_invoice.html",
        "money",
        invoice=found,
        lines=invoices.lines_of(found),
        payments=list(InvoicePayment.select().where(InvoicePayment.invoice == found.id).order_by(InvoicePayment.at)),
        state=_state(own, found),
        when=local(ask),
    )


def invoice_pdf(ask: Ask, own: Own, invoice: str) -> Any:
    from appliance.dealers import invoice_pdf as paper  # it loads fpdf, which the pages needn't carry until then

    found = own.invoice(invoice)
    content = paper.pdf(invoices.as_document(ask.config, found))
    return ask.file(content, f"{found.number}.pdf", "application/pdf")


def invoice_data(ask: Ask, own: Own, invoice: str) -> Any:
    found = own.invoice(invoice)
    return ask.file(invoice_xml.cii(invoices.as_document(ask.config, found)), f"{found.number}.xml", "application/xml")


PAGES = (
    Page(f"{BASE}/money", mine(money), open=True),
    Page(f"{BASE}/money/commissions", mine(commissions), open=True),
    Page(f"{BASE}/money/credit", mine(credit), open=True),
    Page(f"{BASE}/money/invoices", mine(invoices_list), open=True),
    Page(f"{BASE}/commission/<posting>", mine(commission), open=True),
    Page(f"{BASE}/invoice/<invoice>", mine(invoice), open=True),
    Page(f"{BASE}/invoice/<invoice>/pdf", mine(invoice_pdf), open=True),
    Page(f"{BASE}/invoice/<invoice>/xml", mine(invoice_data), open=True),
    Page(f"{BASE}/statement/<month>", mine(statement), open=True),
    Page(f"{BASE}/statement/<month>/file", mine(statement_file), open=True),
    Page(f"{BASE}/statement/<month>/pdf", mine(statement_pdf), open=True),
)
