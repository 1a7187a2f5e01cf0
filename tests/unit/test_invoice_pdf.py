"""Invoices on pages: what is on them, what is inside, what banks' apps read off them."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.dealers import invoice_pdf, invoice_xml, payment_code
from appliance.dealers.document import Document, Line
from appliance.dealers.payment_code import Transfer
from tests.unit.test_invoice_xml import INVOICE, variants

EUROS = replace(INVOICE, currency="EUR", iban="DE89370400440532013000", bic="COBADEFFXXX")
NAME = "Общество «Северное сияние» и партнёры по распространению доступа в городе и за его пределами"


def shown(path: Path, invoice: Document) -> list[str]:
    """The text of each page."""
    path.write_bytes(invoice_pdf.pdf(invoice))
    done = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split("\f")[:-1]


def test_a_person_finds_everything_on_it(tmp_path: Path) -> None:
    (page,) = shown(tmp_path / "i.pdf", INVOICE)
    for text in ("Invoice", "SB1-00001", "Žofie Dvořáková & synové", "602 00 Brno", "CZ87654321", "1 Nov 2026"):
        assert text in page
    for text in ("1 Oct 2026 – 31 Oct 2026", "−10.17 CZK", "VAT 21 %", "1 481.55 CZK", "100001"):
        assert text in page
    (credit,) = shown(tmp_path / "c.pdf", variants()["credit-note"])
    assert "of invoice SB1-00001" in credit and "IBAN" not in credit
    (draft,) = shown(tmp_path / "d.pdf", replace(INVOICE, number=""))
    assert "draft" in draft and b"factur-x.xml" not in (tmp_path / "d.pdf").read_bytes()


def test_many_lines_go_over_pages_and_none_is_lost(tmp_path: Path) -> None:
    lines = tuple(Line(f"Комиссия 10 %, тариф «Дом {n}», {'оплата ' * 12}", n) for n in range(1, 46))
    pages = shown(tmp_path / "i.pdf", replace(INVOICE, lines=lines, seller=replace(INVOICE.seller, name=NAME)))
    assert len(pages) > 2
    text = "".join(pages)
    assert all(f"«Дом {n}»" in text for n in range(1, 46))
    assert all(page.count("Net amount") == 1 for page in pages[:-1])
    assert f"Page 2 of {len(pages)}" in pages[1]


def test_machines_find_the_same_invoice_inside(tmp_path: Path) -> None:
    from facturx import get_facturx_xml_from_pdf
    from pypdf import PdfReader

    path = tmp_path / "i.pdf"
    path.write_bytes(invoice_pdf.pdf(INVOICE))
    name, xml = get_facturx_xml_from_pdf(path.read_bytes(), check_xsd=False)
    assert (name, xml) == ("factur-x.xml", invoice_xml.cii(INVOICE))
    catalog: Any = PdfReader(path).trailer["/Root"]
    said = catalog["/Metadata"].get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part>" in said and "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>" in said
    assert catalog["/AF"][0].get_object()["/AFRelationship"] == "/Alternative"
    assert invoice_pdf.pdf(INVOICE) == path.read_bytes()  # whoever asks again gets the same file


@pytest.mark.parametrize("invoice", [INVOICE, EUROS], ids=["spayd", "epc"])
def test_a_phone_reads_the_code(tmp_path: Path, invoice: Document) -> None:
    path = tmp_path / "i.pdf"
    path.write_bytes(invoice_pdf.pdf(invoice))
    subprocess.run(["pdftoppm", "-r", "150", "-png", path, tmp_path / "i"], check=True)
    scan = ["zbarimg", "-q", "--raw", "--oneshot", "-Sbinary", str(tmp_path / "i-1.png")]
    read = subprocess.run(scan, capture_output=True, check=True).stdout
    transfer = Transfer(
        invoice.seller.name, invoice.iban, invoice.bic, invoice.total_minor, invoice.currency, invoice.number
    )
    assert read == payment_code.content(transfer)


def test_codes_as_their_standards_have_them() -> None:
    crowns = Transfer("Žofie * Co", "CZ6508000000192000145399", "GIBACZPX", 45_000, "CZK", "SB7-00012")
    assert payment_code.content(crowns) == (
        b"SPD*1.0*ACC:CZ6508000000192000145399+GIBACZPX*AM:450.00*CC:CZK*MSG:SB7-00012*RN:ZOFIE %2A CO*X-VS:700012"
    )
    euros = replace(crowns, currency="EUR")
    assert (
        payment_code.content(euros)
        == ("BCD\n002\n1\nSCT\nGIBACZPX\nŽofie * Co\nCZ6508000000192000145399\nEUR450.00\n\n\nSB7-00012").encode()
    )
    for none in (replace(euros, iban=""), replace(euros, amount_minor=0), replace(euros, currency="USD")):
        assert payment_code.content(none) is None
