"""Invoices and their payments: states, credit notes, files for the bank and what it says about them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.dealers import dealers, invoice_pdf, invoices, ledger, months, pain001, payouts, settlement
from appliance.dealers.document import Party
from appliance.dealers.latin import latin
from appliance.dealers.models import Invoice, ledger_db
from appliance.errors import Conflict, UserError
from tests.unit.dealer_money import book, conf_in, dealer, earn

NOW = 1_793_000_000  # 26 October 2026
BEFORE, DAY_S = NOW - 40 * 86_400, 86_400


@pytest.fixture
def conf(books: Path) -> Iterator[Config]:
    with book(conf_in(books)) as config:
        yield config


def invoice(conf: Config, who: Any, amount_minor: int = 10_000, currency: str = "CZK", before: int = BEFORE) -> Any:
    earn(who, amount_minor, before, currency)
    period = months.of(before, conf.site.timezone)
    (made,) = settlement.run(conf, period, "jana", [who], NOW).settled
    return invoices.issue(conf, invoices.draft(conf, made, NOW), NOW)


def state(row: Any, now: int = NOW) -> str:
    """As one row says and as a list says, which have to agree."""
    fresh = Invoice.get_by_id(row.id)
    listed = Invoice.select(invoices.state_sql(now)).where(Invoice.id == row.id).scalar()
    assert invoices.state(fresh, invoices.paid_minor(fresh), now) == listed
    return str(listed)


def test_an_invoice_is_paid_in_parts_and_says_how_it_stands(conf: Config) -> None:
    eva = dealer("eva", tax="payer", vat_id="CZ12345678")
    row = invoice(conf, eva)
    assert (row.net_minor, row.vat_minor, row.total_minor) == (10_000, 2_100, 12_100)
    assert (state(row), state(row, row.due_at - 1), state(row, row.due_at)) == ("issued", "issued", "overdue")
    assert months.day(row.due_at - 1, conf.site.timezone) == date(2026, 11, 9)
    assert invoices.pay(row, 100, NOW, source="bank 1")
    assert invoices.pay(row, 100, NOW, source="bank 1") is None
    assert state(row) == "partly paid"
    for wrong in (12_001, 0, -101):
        with pytest.raises(UserError, match=r"can't be paid for GH1-00001: 120\.00.CZK remains"):
            invoices.pay(row, wrong, NOW)
    with pytest.raises(Conflict, match="is paid, at least in part"):
        invoices.cancel(conf, row, "wrong", NOW)
    invoices.pay(row, -100, NOW, "the bank sent it back")
    invoices.pay(row, 12_100, NOW)
    assert state(row, NOW + 16 * DAY_S) == "paid"
    assert ledger.balances(eva, "CZK") | {"accrued": 0, "payable": 0, "paid": 12_100, "vat": -2_100} == ledger.balances(
        eva, "CZK"
    )
    assert list(ledger.verify()) == []


def test_a_credit_note_takes_an_invoice_back_and_a_better_one_follows(conf: Config) -> None:
    eva = dealer("eva", tax="payer", vat_id="CZ12345678")
    row = invoice(conf, eva)
    note = invoices.cancel(conf, row, "no payer of VAT", NOW)
    assert (state(row), state(note), note.number, note.total_minor) == ("cancelled", "issued", "GH1-00002", 12_100)
    for wrong, why in ((row, "cancelled already"), (note, "can't be taken back")):
        with pytest.raises(Conflict, match=why):
            invoices.cancel(conf, wrong, "again", NOW)
    dealers.change(eva, {"tax": "non-payer", "vat_id": ""})
    draft = Invoice.get(Invoice.number.is_null())
    assert draft.id == invoices.draft(conf, row.settlement, NOW).id
    better = invoices.issue(conf, draft, NOW)
    assert (better.number, better.total_minor, ledger.balance(eva, "CZK", "payable")) == ("GH1-00003", 10_000, 10_000)
    documents = {each.number: invoices.as_document(conf, each) for each in (row, note, better)}
    assert documents["GH1-00002"].of == "GH1-00001" and "no payer of VAT" in documents["GH1-00002"].notes
    assert invoice_pdf.pdf(documents["GH1-00003"]).startswith(b"%PDF")


def test_an_issued_invoice_is_frozen(conf: Config) -> None:
    eva = dealer("eva")
    row = invoice(conf, eva)
    dealers.change(eva, {"street": "Jiná", "iban": ""})
    frozen = invoices.as_document(conf, Invoice.get_by_id(row.id))
    assert (frozen.seller.street, frozen.iban) == ("Příčná", "CZ6508000000192000145399")
    for change in ("UPDATE invoice SET total_minor = 1", "DELETE FROM invoice", "UPDATE invoice_payment SET at = 1"):
        if "payment" in change:
            invoices.pay(row, 1, NOW)
        with pytest.raises(Exception, match="never"):
            ledger_db.execute_sql(change)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"company_id": ""}, "the dealer's company id is missing"),
        ({"tax": "payer"}, "the dealer's vat id is missing"),
        ({"self_billing_from": None}, "no agreement on self-billing"),
        ({"self_billing_from": NOW + 1}, "no agreement on self-billing"),
        ({"self_billing_until": NOW}, "no agreement on self-billing"),
    ],
)
def test_what_the_law_wants_is_asked_for(conf: Config, facts: dict[str, Any], why: str) -> None:
    eva = dealer("eva", **facts)
    with pytest.raises(UserError, match=why):
        invoice(conf, eva)
    assert Invoice.get().number is None


def test_a_payout_is_made_once_and_its_file_is_the_same_each_time(conf: Config) -> None:
    eva, jan = dealer("eva"), dealer("jan", iban="", country="SK")
    first, second = invoice(conf, eva), invoice(conf, jan, 5_000)
    invoices.pay(first, 4_000, NOW)
    shown = {each.dealer.name: (each.amount_minor, each.included, each.why) for each in payouts.propose(conf, NOW)}
    assert shown == {
        "eva": (6_000, True, "due 2026-11-09"),
        "jan": (5_000, False, "the dealer has no account (IBAN)"),
    }
    with pytest.raises(Conflict, match=r"GH2-00001 of jan can't be paid out: the dealer has no account"):
        payouts.make(conf, [first, second], "jana", NOW)
    dealers.change(jan, {"iban": "SK3112000000198742637541", "bic": ""})
    payout = payouts.make(conf, [first, second], "jana", NOW, date(2026, 11, 30))
    assert (payout.total_minor, payout.closed_at) == (11_000, None)
    with pytest.raises(Conflict, match="is in a payout that the bank hasn't confirmed"):
        payouts.make(conf, [first], "jana", NOW)
    with pytest.raises(Conflict, match="in a payout that the bank hasn't confirmed"):
        invoices.cancel(conf, second, "wrong", NOW)
    with pytest.raises(UserError, match=r"50\.00.CZK are in a payout"):
        invoices.pay(second, 1, NOW)
    file = payouts.file_of(conf, payouts.get(payout.message_id))
    assert valid(file) and file == payouts.file_of(conf, payout)
    assert b"<EndToEndId>GH1-00001.1</EndToEndId>" in file and b"<TwnNm>Brno</TwnNm>" in file
    _, theirs = payouts.lines_of(payout)
    payouts.fail(theirs, NOW)
    assert payouts.confirm(payout, NOW, "jana") == 1
    assert payouts.confirm(payout, NOW, "jana") == 0
    assert (state(first), state(second), payouts.get(payout.message_id).closed_at) == ("paid", "issued", NOW)
    assert [each.invoice.id for each in payouts.propose(conf, NOW) if each.included] == [second.id]
    assert payouts.make(conf, [second], "jana", NOW).message_id != payout.message_id


def test_a_payout_has_one_currency(conf: Config) -> None:
    eva = dealer("eva")
    with pytest.raises(UserError, match="one currency"):
        payouts.make(conf, [invoice(conf, eva), invoice(conf, eva, currency="EUR")], "jana", NOW)
    with pytest.raises(UserError, match="one currency"):
        payouts.make(conf, [], "jana", NOW)
    with pytest.raises(UserError, match=r"fill in \[dealer\] iban"):
        payouts.make(replace(conf, dealer=replace(conf.dealer, iban="")), list(Invoice.select()), "jana", NOW)


ORDER = pain001.Order(
    "GH20261130-1",
    NOW,
    date(2026, 11, 30),
    Party("Síť & spol.", "Hlavní", "1", "Praha", "110 00", "CZ"),
    "CZ6508000000192000145399",
    "",
    "EUR",
    (
        pain001.Transfer(
            "GH1-1", Party("Ж" * 90, "", "", "София", "1000", "BG"), "BG80BNBG96611020345678", "", 1, "<&>"
        ),
        pain001.Transfer(
            "GH2-1", Party("A", "Ulice", "1", "Brno", "", "CZ"), "CZ6508000000192000145399", "GIBACZPX", 999, "x" * 200
        ),
    ),
)


def valid(file: bytes) -> bool:
    from lxml import etree
    from sepaxml import validation

    path = Path(validation.__file__).parent / "schemas" / "pain.001.001.09.xsd"
    return bool(etree.XMLSchema(file=str(path)).validate(etree.fromstring(file)))


def test_the_file_is_as_its_schema_says() -> None:
    file = pain001.pain001(ORDER)
    assert valid(file)
    assert not valid(file.replace(b"<CtrlSum>10.00<", b"<CtrlSum>10.001.0<"))
    assert b"NOTPROVIDED" in file and b"<TwnNm>Sofiya</TwnNm>" in file and b"AdrLine" not in file
    assert valid(pain001.pain001(replace(ORDER, currency="CZK")))


def test_names_are_spelled_with_the_letters_that_banks_know() -> None:
    assert latin("Žofie Dvořáková & synové", 70) == "Zofie Dvorakova + synove"
    assert latin("Щука Їжак Йосип Ёлка", 70) == "Shchuka Izhak Yosip Elka"
    assert latin("Ψαρράς Ώρα — Straße 北京", 70) == "Psarras Ora - Strasse .."
    assert len(latin("ж" * 90, 70)) == 70
