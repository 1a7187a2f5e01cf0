"""Invoices by e-mail: each once, with its PDF, and only those that are to be sent."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import mail
from appliance.accounts.models import Mail
from appliance.config import Config
from appliance.config import Mail as Settings
from appliance.crypto import SecretBox
from appliance.dealers import dealers, invoice_mail, invoices
from appliance.dealers.models import Invoice
from appliance.errors import UserError
from tests.unit.dealer_box import opened
from tests.unit.dealer_money import conf_in, dealer
from tests.unit.test_payouts import NOW, invoice

BOX = SecretBox(b"k" * 32)


@pytest.fixture
def conf(books: Path) -> Iterator[Config]:
    with opened(conf_in(books)) as config:
        yield replace(config, mail=Settings(host="localhost", sender="office@example.net"))


def run(conf: Config, now: int = NOW + 60) -> list[str]:
    """The subjects of what came into the outbox."""
    before = Mail.select().count()
    assert invoice_mail.run(conf, BOX, now) == Mail.select().count() - before
    return [row.subject for row in Mail.select().order_by(Mail.id)][before:]


def test_an_issued_invoice_is_mailed_once_with_its_pages(conf: Config) -> None:
    row = invoice(conf, dealer("eva"))
    assert run(replace(conf, mail=Settings())) == []
    assert run(replace(conf, dealer=replace(conf.dealer, mail_invoices=False))) == []
    assert run(conf) == ["Invoice GH1-00001"]
    assert run(conf) == []
    (letter,) = mail.due(BOX, NOW + 60)
    assert letter.recipient == "zofie@example.net"
    assert "over 100.00 CZK for 2026-09-01 to 2026-09-30" in letter.body and "ends in 5399" in letter.body
    assert letter.attachment and letter.attachment.name == "GH1-00001.pdf"
    assert letter.attachment.content.startswith(b"%PDF")
    invoices.cancel(conf, row, "wrong", NOW)
    assert run(conf) == ["Credit note GH1-00002"]


def test_what_nobody_waits_for_is_not_mailed(conf: Config) -> None:
    eva, jan = dealer("eva"), dealer("jan", email="")
    invoices.cancel(conf, invoice(conf, eva), "before it was sent", NOW)
    draft = invoices.draft(conf, Invoice.get().settlement, NOW)
    old = invoice(conf, jan)
    assert run(conf) == []
    with pytest.raises(UserError, match="draft-3 is a draft"):
        invoice_mail.post(conf, BOX, draft, NOW)
    with pytest.raises(UserError, match="dealer jan has no e-mail address"):
        invoice_mail.post(conf, BOX, old, NOW)
    dealers.change(jan, {"email": "jan@example.net"})
    assert run(conf, NOW + 8 * 86_400) == []
    assert run(conf) == ["Invoice GH2-00001"]
