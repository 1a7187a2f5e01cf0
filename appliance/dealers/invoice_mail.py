"""Issued invoices by e-mail: the PDF into the outbox of messages, once; somebody else sends what is in there."""

import logging
from typing import Any

import peewee

from appliance import mail
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.dealers import invoices, money
from appliance.dealers.document import CREDIT_NOTE, Document
from appliance.dealers.ledger_db import writing
from appliance.dealers.models import Dealer, Invoice
from appliance.errors import UserError

AT_ONCE = 20  # a page takes a tenth of a second
_RECENT_S = 7 * 86_400  # what is older was there before messages could be sent

log = logging.getLogger(__name__)


def run(config: Config, box: SecretBox, now: int) -> int:
    """Puts those into the outbox that weren't yet, a few at once; returns how many."""
    if not config.dealer.mail_invoices or not config.mail.host:
        return 0
    done = 0
    for row in _unsent(now):
        try:
            post(config, box, row, now)
        except UserError as error:
            log.warning("invoice %s isn't mailed: %s", row.number, error)
            _mark(row, now)
        else:
            done += 1
    return done


def _unsent(now: int) -> list[Any]:
    """A credit note only if its invoice was sent."""
    first = Invoice.alias()
    recent = (Invoice.issued_at > now - _RECENT_S) & Invoice.mailed_at.is_null() & Invoice.cancelled_at.is_null()
    query = (
        Invoice.select()
        .join(Dealer, on=(Dealer.id == Invoice.dealer))
        .join(first, peewee.JOIN.LEFT_OUTER, on=(first.id == Invoice.corrects))
        .where(recent & (Dealer.email != "") & (Invoice.corrects.is_null() | first.mailed_at.is_null(False)))
    )
    return list(query.order_by(Invoice.id).limit(AT_ONCE))


def post(config: Config, box: SecretBox, invoice: Any, now: int) -> None:
    """Also again, when somebody asks for it. Raises UserError.

    Who falls between the two databases mails it twice, which is better than never.
    """
    from appliance.dealers import invoice_pdf  # it loads fpdf2, which a process that mails nothing needn't carry

    dealer = Dealer.get_by_id(invoice.dealer_id)
    if invoice.number is None:
        raise UserError(f"{invoices.called(invoice)} is a draft: issue it first")
    if not dealer.email:
        raise UserError(f"dealer {dealer.name} has no e-mail address")
    document = invoices.as_document(config, invoice)
    attachment = mail.Attachment(f"{document.number}.pdf", invoice_pdf.pdf(document))
    subject = f"{document.title} {document.number}"
    with core_db.atomic():
        mail.post(dealer.email, subject, _text(document), box, now, attachment)
    _mark(invoice, now)


def _mark(invoice: Any, now: int) -> None:
    with writing():
        Invoice.update(mailed_at=now).where(Invoice.id == invoice.id).execute()


def _text(document: Document) -> str:
    total = money.text(document.total_minor, document.currency)
    what = f"{document.title.lower()} {document.number} over {total}"
    if document.kind == CREDIT_NOTE:
        about = f"It takes back invoice {document.of} of {document.of_issued}."
    elif document.iban:
        about = f"We pay it by {document.due} to your account that ends in {document.iban[-4:]}."
    else:
        about = "We know no account of yours to pay it to: please tell us."
    return (
        f"Hello,\n\nattached is {what} for {document.first_day} to {document.last_day},"
        f" which we have issued in your name.\n\n{about}\n\n{document.buyer.name}\n"
    )
