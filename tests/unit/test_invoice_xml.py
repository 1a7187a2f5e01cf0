"""Invoices for machines, judged by the rules of EN 16931 themselves."""

import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.dealers import document, invoice_xml, invoices, settlement
from appliance.dealers.document import CREDIT_NOTE, SELF_BILLED, Document, Line, Party
from appliance.dealers.models import Invoice
from appliance.dealers.months import period
from appliance.errors import UserError
from tests.unit.dealer_money import book, conf_in, dealer, earn
from tests.unit.en16931 import complaints

DEALER = Party("Žofie Dvořáková & synové", "Příčná", "12a", "Brno", "602 00", "CZ", "12345678", "CZ12345678", "z@d.cz")
PROVIDER = Party(
    "Síť s.r.o.", "Hlavní", "1", "Praha", "110 00", "CZ", "87654321", "CZ87654321", "fa@sit.cz", contact="J"
)
LINES = (Line("Commission 10 %, 81 payments", 123_456), Line("Commission 7.5 %", 3), Line("Refunds", -1_017))
OCTOBER = period("2026-10", ZoneInfo("Europe/Prague"))
INVOICE = Document(
    number="SB1-00001",
    kind=SELF_BILLED,
    issued=date(2026, 11, 1),
    due=date(2026, 11, 15),
    first_day=date(2026, 10, 1),
    last_day=date(2026, 10, 31),
    currency="CZK",
    seller=DEALER,
    buyer=PROVIDER,
    vat=document.vat("payer", "21"),
    lines=LINES,
    iban="CZ6508000000192000145399",
    bic="GIBACZPX",
    contract="2026/7",
    notes=("Self-billed by the customer under contract 2026/7.",),
)


def variants() -> dict[str, Document]:
    nobody = replace(DEALER, vat_id="", email="", company_id="12345678")
    abroad = replace(DEALER, country="SK", vat_id="SK2020202020")
    return {
        "payer": INVOICE,
        "non-payer": replace(INVOICE, seller=nobody, vat=document.vat("non-payer", "")),
        "foreign": replace(INVOICE, seller=abroad, vat=document.vat("foreign", ""), currency="EUR"),
        "foreign-without-vat-number": replace(
            INVOICE, seller=replace(nobody, country="CH"), vat=document.vat("foreign", "")
        ),
        "credit-note": replace(
            INVOICE, kind=CREDIT_NOTE, number="SB1-00002", of="SB1-00001", of_issued=date(2026, 11, 1)
        ),
        "no-cents": replace(INVOICE, currency="JPY", iban="", bic="", contract="", notes=()),
        "one-line": replace(INVOICE, lines=(Line("A" * 300 + " <&> \x00", 1),), vat=document.vat("payer", "12.5")),
    }


def from_the_ledger(folder: Path) -> dict[str, Document]:
    """As settlements of dealers of each kind make them, with what was taken back, and a credit note."""
    made = {}
    with book(conf_in(folder)) as conf:
        for tax in ("payer", "non-payer", "foreign"):
            who = dealer(tax, tax=tax, vat_id="" if tax == "non-payer" else "CZ12345678", contract="2026/7")
            for amount, rate in ((10_001, "10 %"), (5_000, "5 % + fixed 500"), (-333, "10 %")):
                earn(who, amount, OCTOBER.since, rate=rate)
            settlement.run(conf, OCTOBER, "jana", [who], OCTOBER.until)
            row = invoices.issue(conf, Invoice.get(Invoice.number.is_null()), OCTOBER.until)
            made[f"ledger-{tax}"] = invoices.as_document(conf, row)
        made["ledger-credit"] = invoices.as_document(conf, invoices.cancel(conf, row, "it was wrong", OCTOBER.until))
    return made


def test_invoices_of_each_kind_keep_the_rules_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    documents = variants() | from_the_ledger(tmp_path)
    assert [line.text for line in documents["ledger-payer"].lines] == [
        "Commission · 10 % · 1 payment",
        "Commission · 5 % + fixed 5.00 CZK · 1 payment",
        "Refunded payments · 10 % · 1 payment",
    ]
    judged = {name: invoice_xml.cii(one) for name, one in documents.items()}
    wrong = judged["payer"].replace(b"<ram:GrandTotalAmount>1481.55<", b"<ram:GrandTotalAmount>1481.56<")
    assert wrong != judged["payer"]
    found = complaints(tmp_path, {**judged, "wrong": wrong})
    assert [rule for rule in found.pop("wrong") if "BR-CO-15" in rule]
    assert found == {name: [] for name in judged}


def test_the_sums_are_those_of_the_lines() -> None:
    assert (INVOICE.net_minor, INVOICE.vat_minor, INVOICE.total_minor) == (122_442, 25_713, 148_155)
    assert document.vat_of(50, document.vat("payer", "1")) == 1  # half a cent is one
    assert document.vat_of(-50, document.vat("payer", "1")) == -1
    assert b'<ram:BilledQuantity unitCode="C62">-1<' in invoice_xml.cii(INVOICE)
    assert not re.search(rb"ChargeAmount>-", invoice_xml.cii(INVOICE))


def test_what_can_not_be_is_said() -> None:
    with pytest.raises(UserError, match="three decimals"):
        invoice_xml.cii(replace(INVOICE, currency="KWD"))
    with pytest.raises(UserError, match="no rate of VAT"):
        document.vat("payer", "")
    assert replace(DEALER, company_id="", city="").missing() == ("city", "company_id")
    assert document.vat("payer", "21").percent == Decimal(21)
