"""The doctor's checks of dealers: what invoices need, whether messages go, months are settled, the ledger is whole."""

import time
from collections.abc import Iterator

from appliance.config import Config
from appliance.dealers import desk, ledger_db, notes, overview
from appliance.dealers.models import ACTIVE, Dealer
from appliance.doctor.findings import BAD, OK, WARN, Check, Finding

SUBJECT = "dealers"
_DAY_S = 86_400
_VERIFIED_WITHIN_S = 3 * _DAY_S


def facts(config: Config) -> Iterator[Finding]:
    if not ledger_db.is_made(config):
        return
    with desk.opened(config):
        count = Dealer.select().where(Dealer.state == ACTIVE).count()
    if missing := config.dealer.missing():
        words = ", ".join(missing).replace("_", " ")
        sentence = f"No invoice of a dealer can be issued: {words} of your own isn't filled in."
        yield Finding(SUBJECT, BAD if count else WARN, sentence, f"Fill in [dealer] in {config.file}.", ())
    elif not config.dealer.iban:
        yield Finding(SUBJECT, WARN, "No payout can be made: [dealer] iban isn't filled in.", "Fill it in.", ())
    if config.dealer.mail_invoices and not config.mail.host:
        sentence = "Invoices aren't sent: no mail server is set up."
        remedy = "Fill in [mail], or set [dealer] mail_invoices = false."
        yield Finding(SUBJECT, WARN, sentence, remedy, ("gatehouse mail test ADDRESS",))


def standing(config: Config) -> Iterator[Finding]:
    if not ledger_db.is_made(config):
        return
    noted = notes.read(config)
    found = [
        Finding(SUBJECT, BAD, f"The ledger was changed: {line}.", "Put back a backup.", ("gatehouse dealer verify",))
        for line in noted.broken[:10]
    ]
    with desk.opened(config):
        if overview.is_unsettled(noted):
            sentence = f"{noted.unsettled} isn't settled: {noted.unsettled_dealers} dealers have something due in it."
            found.append(Finding(SUBJECT, WARN, sentence, "Settle it.", ("gatehouse dealer settle",)))
        if count := overview.overdue(int(time.time())):
            sentence = f"{count} invoices of dealers are overdue."
            found.append(Finding(SUBJECT, WARN, sentence, "Pay them.", ("gatehouse dealer payout",)))
    if noted.verified_at and noted.verified_at < int(time.time()) - _VERIFIED_WITHIN_S:
        sentence = "Nobody has verified the ledger for days."
        found.append(Finding(SUBJECT, WARN, sentence, "Look at the service dealers.", ("gatehouse status",)))
    good = "The ledger is whole, and nothing of dealers waits."
    yield from found or ([Finding(SUBJECT, OK, good)] if noted.verified_at else ())


CHECKS = (Check("dealers: facts", facts), Check("dealers", standing))
