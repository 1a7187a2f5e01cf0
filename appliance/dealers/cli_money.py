"""`gatehouse dealer`: the month's end, invoices, payouts, the bank's statement, and whether the ledger is whole."""

import argparse
import contextlib
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from appliance.config import Config
from appliance.dealers import (
    bank_import,
    dealers,
    desk,
    earning,
    invoices,
    ledger,
    ledger_db,
    money,
    month_end,
    months,
    payouts,
    settlement,
    statement,
)
from appliance.dealers.models import Dealer, Invoice, Payout
from appliance.errors import UserError
from appliance.tables import show

WHO = "command"
_MOST_NUMBER = 200

Verb = Callable[[Any, str, Callable[[argparse.Namespace, Config], str], str], Any]


def add_parsers(verbs: Any, verb: Verb) -> None:
    words = verb(verbs, "settle", _settle, "settle a month and issue its invoices; doing it again does nothing")
    words.add_argument("month", nargs="?", default="", help="such as 2026-10; the last one by default")
    words.add_argument("--preview", action="store_true", help="only say what is due, and why each line is in or out")
    words.add_argument("--dealer", default="", help="only this one")
    words.add_argument("--json", action="store_true")
    words = verb(verbs, "correct", _correct, "what a dealer is owed more, or with a minus less, and why")
    words.add_argument("dealer")
    add_amount(words)
    words.add_argument("why")
    words = verb(verbs, "invoices", _invoices, "all invoices, or those in a state")
    words.add_argument("--state", choices=invoices.STATES)
    words.add_argument("--dealer", default="")
    words.add_argument("--json", action="store_true")
    words = verb(verbs, "invoice", _invoice, "an invoice as PDF, as XML, or in words")
    words.add_argument("number", help="or draft-N")
    words.add_argument("--pdf", type=Path, metavar="FILE")
    words.add_argument("--xml", type=Path, metavar="FILE", help="EN 16931, as it is inside of the PDF")
    words.add_argument("--issue", action="store_true", help="give a draft its number")
    words = verb(verbs, "cancel", _cancel, "take an invoice back by a credit note")
    words.add_argument("number")
    words.add_argument("reason", help="it stands on the credit note")
    words = verb(verbs, "pay", _pay, "record a payment of an invoice, with a minus one that came back")
    words.add_argument("number")
    add_amount(words)
    words.add_argument("--day", default="")
    words.add_argument("--reference", default="")
    words = verb(verbs, "payout", _payout, "what can be paid; with --make a file of transfers for the bank (pain.001)")
    words.add_argument("--make", type=Path, metavar="FILE")
    words.add_argument("--currency", default="", help="[dealer] currency by default")
    words.add_argument("--day", default="", help="on which the bank is to pay; today by default")
    words.add_argument("--confirm", metavar="ID", help="the bank has made all transfers of it")
    words.add_argument("--json", action="store_true")
    words = verb(verbs, "bank", _bank, "the bank's statement (camt.053 or CSV): what it would mark as paid")
    words.add_argument("file", type=Path)
    words.add_argument("--apply", action="store_true", help="and mark it")
    words.add_argument("--json", action="store_true")
    words = verb(verbs, "statement", _statement, "what happened with a dealer's money in a month, to verify offline")
    words.add_argument("dealer")
    words.add_argument("month", nargs="?", default="")
    words.add_argument("--output", type=Path, required=True, metavar="FILE", help=".pdf, or .csv; -: standard output")
    words = verb(verbs, "verify", _verify, "the ledger's chains of hashes, or those of statements")
    words.add_argument("files", nargs="*", type=Path, metavar="STATEMENT", help="its CSV; needs nothing else")
    words.set_defaults(run=desk.plainly()(_verify), needs_core=False)


def add_amount(words: argparse.ArgumentParser) -> None:
    """A word that may begin with a minus and have a comma, and is no option then."""
    words.add_argument("amount")
    words._negative_number_matcher = re.compile(r"-[0-9][0-9.,]*")


def _period(text: str, config: Config) -> months.Period:
    zone = config.site.timezone
    return months.period(text, zone) if text else months.before(int(time.time()), zone)


def _settle(args: argparse.Namespace, config: Config) -> str:
    period, only = _period(args.month, config), [dealers.get(args.dealer)] if args.dealer else None
    if args.preview:
        return _preview(list(settlement.plans(config, period, only)), args.json)
    outcome = month_end.run(config, period, WHO, dealers=only)
    if args.json:
        issued = [{"invoice": row.number, "dealer": row.dealer.name} for row in outcome.issued]
        return show(issued, (), True)
    return "\n".join((*outcome.lines(), *(f"{name}, {currency}: {why}" for name, currency, why in outcome.skipped)))


def _preview(plans: list[settlement.Plan], as_json: bool) -> str:
    """Each line with its reason, then what becomes of each dealer, so that an empty preview says why it is."""
    rows = [
        row._asdict() | {"amount": money.plain(row.amount_minor, row.currency)} for plan in plans for row in plan.rows
    ]
    table = show(rows, ("dealer", "amount", "currency", "kind", "included", "why"), as_json)
    return table if as_json else "\n".join((table, *(f"{p.dealer.name}, {p.currency}: {p.why}" for p in plans)))


def _correct(args: argparse.Namespace, config: Config) -> str:
    dealer = dealers.get(args.dealer)
    earning.correct(dealer, dealer.currency, money.parse(args.amount, dealer.currency), args.why, int(time.time()))
    return f"accrued {money.text(ledger.balance(dealer, dealer.currency, ledger.ACCRUED), dealer.currency)}"


def _invoices(args: argparse.Namespace, config: Config) -> str:
    now, zone = int(time.time()), config.site.timezone
    query = Invoice.select(Invoice, Dealer).join(Dealer).order_by(Invoice.id)
    rows = [_invoice_row(row, now, zone) for row in query if args.dealer in ("", row.dealer.name)]
    chosen = [row for row in rows if args.state in (None, row["state"])]
    return show(chosen, ("number", "dealer", "month", "total", "paid", "currency", "due", "state"), args.json)


def _invoice_row(row: Any, now: int, zone: Any) -> dict[str, object]:
    paid = invoices.paid_minor(row)
    return {
        "number": invoices.called(row),
        "dealer": row.dealer.name,
        "kind": row.kind,
        "month": row.period,
        "total": money.plain(row.total_minor, row.currency),
        "paid": money.plain(paid, row.currency),
        "currency": row.currency,
        "issued": desk.day(row.issued_at, zone),
        "due": desk.last_day(row.due_at, zone),
        "state": invoices.state(row, paid, now),
    }


def _found(number: str) -> Any:
    if len(number) > _MOST_NUMBER:
        raise UserError(f"there is no invoice {number[:_MOST_NUMBER]!r}…: see `gatehouse dealer invoices`")
    return invoices.get(number)


def _invoice(args: argparse.Namespace, config: Config) -> str:
    row = _found(args.number)
    if args.xml and row.number is None and not args.issue:
        raise UserError(f"{args.number} is a draft: issue it first")
    with contextlib.ExitStack() as stack:  # what can't be written is found before anything is issued
        pdf, xml = (stack.enter_context(_beside(file)) if file else None for file in (args.pdf, args.xml))
        if args.issue:
            row = invoices.issue(config, row)
        if pdf:
            from appliance.dealers import invoice_pdf  # fpdf takes a while to load

            pdf.write_bytes(invoice_pdf.pdf(invoices.as_document(config, row)))
        if xml:
            from appliance.dealers import invoice_xml

            xml.write_bytes(invoice_xml.cii(invoices.as_document(config, row)))
    facts = _invoice_row(row, int(time.time()), config.site.timezone)
    return show([{"key": key, "value": value} for key, value in facts.items()], ("key", "value"), False)


def _cancel(args: argparse.Namespace, config: Config) -> str:
    note = invoices.cancel(config, _found(args.number), args.reason)
    return f"cancelled by the credit note {note.number}"


def _pay(args: argparse.Namespace, config: Config) -> str:
    row = _found(args.number)
    at = desk.come(args.day, config.site.timezone, int(time.time()))
    invoices.pay(row, money.parse(args.amount, row.currency), at, args.reference, who=WHO)
    return f"{row.number} is {invoices.state(row, invoices.paid_minor(row), int(time.time()))}"


def _payout(args: argparse.Namespace, config: Config) -> str:
    if args.confirm:
        return f"{payouts.confirm(payouts.get(args.confirm), int(time.time()), WHO)} transfers are paid"
    found = payouts.propose(config)
    if not args.make:
        rows = [
            {
                "invoice": one.invoice.number,
                "dealer": one.dealer.name,
                "amount": money.plain(one.amount_minor, one.invoice.currency),
                "currency": one.invoice.currency,
                "included": one.included,
                "why": one.why,
            }
            for one in found
        ]
        waiting = [f"on its way: {row.message_id}" for row in Payout.select().where(Payout.closed_at.is_null())]
        table = show(rows, ("invoice", "dealer", "amount", "currency", "included", "why"), args.json)
        return table if args.json else "\n".join((table, *waiting))
    currency = args.currency or config.dealer.currency
    chosen = [one.invoice for one in found if one.included and one.invoice.currency == currency]
    day = desk.coming(args.day, config.site.timezone, int(time.time()))
    with _beside(args.make) as file, ledger_db.writing():
        made = payouts.make(config, chosen, WHO, execute_on=day)
        file.write_bytes(payouts.file_of(config, made))
    return f"{made.message_id}: {len(chosen)} transfers, {money.text(made.total_minor, made.currency)}"


@contextlib.contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """Where to write what becomes `file` once all is done; a pipe is written as it is."""
    if file.exists() and not file.is_file():
        yield file
        return
    target = file.resolve()
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    part.touch()
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _bank(args: argparse.Namespace, config: Config) -> str:
    movements = bank_import.read(_content(args.file), config)
    outcomes = bank_import.apply(config, movements, WHO) if args.apply else bank_import.look(config, movements)
    rows = [
        {
            "day": desk.day(one.movement.at, config.site.timezone),
            "amount": money.plain(one.movement.amount_minor, one.movement.currency),
            "currency": one.movement.currency,
            "state": one.state,
            "invoice": one.invoice,
            "why": one.why,
        }
        for one in outcomes
    ]
    return show(rows, ("day", "amount", "currency", "state", "invoice", "why"), args.json)


def _statement(args: argparse.Namespace, config: Config) -> str:
    dealer, period = dealers.get(args.dealer), _period(args.month, config)
    if args.output.suffix == ".pdf":
        from appliance.dealers import statement_pdf  # as above

        args.output.write_bytes(statement_pdf.pdf(config, dealer, period.since, period.until))
        return ""
    content = statement.table(config, dealer, period.since, period.until)
    if str(args.output) == "-":
        sys.stdout.buffer.write(content)
    else:
        args.output.write_bytes(content)
    return ""


def _verify(args: argparse.Namespace, config: Config) -> str:
    if args.files:
        found = [f"{file}: {line}" for file in args.files for line in statement.verify(_content(file))]
        what = "what the statements say is whole"
    else:
        with desk.opened(config):
            found = list(ledger.verify())
            what = f"the chains of {Dealer.select().count()} dealers are whole"
    args.status = 1 if found else 0
    return "\n".join(found) or what


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
