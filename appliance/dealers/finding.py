"""What the search box finds of dealers: by the beginning of a name or a log-in, an invoice's number, an e-mail."""

from collections.abc import Iterator
from typing import Any

from appliance.admin.paths import part
from appliance.config import Config
from appliance.dealers import desk, ledger_db
from appliance.dealers.models import Dealer, Invoice, Payout, Scheme
from appliance.errors import UserError
from appliance.service import Hit, Search

_MOST = 5


def hits(config: Config, text: str) -> Iterator[Hit]:
    if not ledger_db.is_made(config):
        return
    try:
        with desk.opened(config):
            yield from list(_hits(text))
    except UserError:
        return


def _hits(text: str) -> Iterator[Hit]:
    begins = _begins(Dealer.name, text) | _begins(Dealer.login, text.lower()) | _begins(Dealer.email, text)
    for dealer in Dealer.select().where(begins).order_by(Dealer.name).limit(_MOST):
        exact = text in (dealer.name, dealer.login)
        yield Hit("Dealers", dealer.name, f"/dealers/{part(dealer.name)}", dealer.contact, exact=exact)
    for scheme in Scheme.select().where(_begins(Scheme.name, text)).order_by(Scheme.name).limit(_MOST):
        yield Hit("Schemes", scheme.name, f"/schemes/{part(scheme.name)}", exact=scheme.name == text)
    rows = Invoice.select(Invoice, Dealer).join(Dealer).where(_begins(Invoice.number, text))
    for row in rows.order_by(Invoice.number).limit(_MOST):
        yield Hit("Invoices", str(row.number), f"/invoices/{row.id}", f"of {row.dealer.name}", exact=row.number == text)
    for payout in Payout.select().where(_begins(Payout.message_id, text)).limit(_MOST):
        yield Hit("Payouts", payout.message_id, f"/payouts/{payout.id}", exact=payout.message_id == text)


def _begins(field: Any, text: str) -> Any:
    return (field >= text) & (field < text + chr(0x10FFFF))


SEARCH = Search(
    hits,
    (
        ("Dealers", "by how their name, log-in or e-mail address begins"),
        ("Invoices and payouts", "by how their number begins"),
    ),
)
