"""An invoice as one sends it: pages for people, with the same facts for machines inside (Factur-X, ZUGFeRD)."""

from datetime import UTC, date, datetime, time

from appliance.accounts import sheets
from appliance.dealers import invoice_xml, money, payment_code
from appliance.dealers.document import CREDIT_NOTE, STANDARD, Document, Party
from appliance.dealers.paper import FAINT, LEFT, LINE, RIGHT, WIDTH, Attachment, Column, Paper

XML_NAME = "factur-x.xml"  # Factur-X 1.0, 6.2.2: readers look for this name
_HALF = WIDTH / 2 - 5
_CODE = 34.0  # mm, the side of the QR code


def pdf(invoice: Document) -> bytes:
    """Raises UserError. A draft has nothing for machines in it, so that nobody books it."""
    xml = invoice_xml.cii(invoice) if invoice.number else b""
    number = invoice.number or "draft"
    title = f"{invoice.title} {number}"
    paper = Paper(title, f"{title} \u00b7 {invoice.seller.name}", datetime.combine(invoice.issued, time(), UTC))
    _top(paper, invoice, number)
    _parties(paper, invoice)
    _facts(paper, invoice)
    amounts = [(line.text, money.text(line.net_minor, invoice.currency)) for line in invoice.lines]
    rows = [(str(n), *row) for n, row in enumerate(amounts, 1)]
    paper.rows((Column("#", 10), Column("Description", 120), Column("Net amount", 40, "R")), rows)
    _sums(paper, invoice)
    _payment(paper, invoice)
    _notes(paper, invoice)
    if not xml:
        return paper.done()
    about = "The same invoice for machines (EN 16931)"
    return paper.done(Attachment(XML_NAME, xml, "text/xml", "Alternative", about), _FACTUR_X)


def _top(paper: Paper, invoice: Document, number: str) -> None:
    paper.put(invoice.title, WIDTH / 2, 20, bold=True)
    kind = f"of invoice {invoice.of} \u00b7 " if invoice.kind == CREDIT_NOTE else ""
    paper.put(f"{kind}self-billed by the customer", WIDTH / 2, 9, grey=FAINT)
    bottom = paper.y
    with paper.block(LEFT + WIDTH / 2, paper.t_margin + 2):
        paper.put(number, WIDTH / 2, 13, bold=True, align="R")
    paper.set_xy(LEFT, bottom + 8)


def _parties(paper: Paper, invoice: Document) -> None:
    top, ends = paper.y, []
    for x, label, party in ((LEFT, "Supplier", invoice.seller), (LEFT + WIDTH / 2 + 5, "Customer", invoice.buyer)):
        with paper.block(x, top):
            paper.put(label, _HALF, 7.5, grey=FAINT)
            paper.put(party.name, _HALF, 10.5, bold=True)
            for text in (*party.address, "", *_registered(party)):
                paper.put(text or " ", _HALF, 9 if text else 3)
        ends.append(paper.y)
    paper.set_xy(LEFT, max(ends) + 6)


def _registered(party: Party) -> tuple[str, ...]:
    numbers = (("Company ID", party.company_id), ("VAT ID", party.vat_id))
    return tuple(f"{label} {number}" for label, number in numbers if number)


def _facts(paper: Paper, invoice: Document) -> None:
    """Side by side over the whole width."""
    facts = [
        ("Issued", day(invoice.issued)),
        ("Period", f"{day(invoice.first_day)} \u2013 {day(invoice.last_day)}"),
        ("Contract", invoice.contract),
        ("Due", "" if invoice.kind == CREDIT_NOTE else day(invoice.due)),
    ]
    shown = [fact for fact in facts if fact[1]]
    paper.rule()
    top, ends = paper.y + 2.5, []
    shares = {"Period": 2.0, "Contract": 1.5}
    unit = WIDTH / sum(shares.get(label, 1.0) for label, _ in shown)
    x = LEFT
    for label, value in shown:
        width = unit * shares.get(label, 1.0)
        with paper.block(x, top):
            paper.put(label, width - 3, 7.5, grey=FAINT)
            paper.put(value, width - 3, 9, bold=True)
        x += width
        ends.append(paper.y)
    paper.set_xy(LEFT, max(ends) + 2.5)
    paper.rule()
    paper.set_y(paper.y + 7)


def day(value: date) -> str:
    """`1 Oct 2026`: read alike in each country."""
    return f"{value.day} {value:%b %Y}"


def _sums(paper: Paper, invoice: Document) -> None:
    """Never on a page of their own without what explains them."""
    amount = invoice.currency
    tax = f"VAT {invoice.vat.percent:f} %" if invoice.vat.category == STANDARD else "VAT"
    rows = [("Net total", invoice.net_minor), (tax, invoice.vat_minor)]
    if not paper.room(26):
        paper.add_page()
    paper.set_y(paper.y + 3)
    for label, minor in rows:
        _sum(paper, label, money.text(minor, amount), 9, False)
    paper.set_y(paper.y + 1)
    paper.line(RIGHT - 80, paper.y, RIGHT, paper.y)
    paper.set_y(paper.y + 1.5)
    label = "Total credited" if invoice.kind == CREDIT_NOTE else "Total"
    _sum(paper, label, money.text(invoice.total_minor, amount), 12, True)
    paper.set_xy(LEFT, paper.y + 2)
    if invoice.vat.reason:
        paper.put(invoice.vat.reason + ".", WIDTH, 8.5, grey=FAINT)
    paper.set_y(paper.y + 5)


def _sum(paper: Paper, label: str, value: str, size: float, bold: bool) -> None:
    top = paper.y
    with paper.block(RIGHT - 80, top):
        paper.put(label, 36, size, bold)
    with paper.block(RIGHT - 44, top):
        paper.put(value, 44, size, bold, align="R")
    paper.set_y(top + size * 0.51 + 1.2)


def _payment(paper: Paper, invoice: Document) -> None:
    if invoice.kind == CREDIT_NOTE or not invoice.iban:
        return
    transfer = payment_code.Transfer(
        invoice.seller.name, invoice.iban, invoice.bic, invoice.total_minor, invoice.currency, invoice.number
    )
    code = payment_code.content(transfer) if invoice.number else None
    if not paper.room(_CODE + 8):
        paper.add_page()
    paper.rule()
    top = paper.y + 4
    facts = [("Account (IBAN)", _grouped(invoice.iban)), ("BIC", invoice.bic), ("Reference", invoice.number)]
    if invoice.currency == "CZK":
        facts.append(("Variable symbol", payment_code.variable_symbol(invoice.number)))
    paper.set_xy(LEFT, top)
    paper.put("To be paid by transfer", WIDTH - _CODE - 8, 10.5, bold=True)
    paper.set_y(paper.y + 1.5)
    for label, value in (fact for fact in facts if fact[1]):
        y = paper.y
        with paper.block(LEFT, y):
            paper.put(label, 34, 9, grey=FAINT)
        with paper.block(LEFT + 34, y):
            paper.put(value, WIDTH - _CODE - 42, 9)
        paper.set_xy(LEFT, y + LINE + 0.6)
    if code:
        paper.set_fill_color(0)
        sheets.draw_qr(paper, RIGHT - _CODE + 3, top - 3, _CODE, code)
        paper.set_xy(LEFT, max(paper.y, top + _CODE))
    paper.set_y(paper.y + 3)


def _grouped(iban: str) -> str:
    return " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))


def _notes(paper: Paper, invoice: Document) -> None:
    for note in invoice.notes:
        if not paper.room(paper.height(note, WIDTH, 8.5) + 2):
            paper.add_page()
        paper.set_x(LEFT)
        paper.put(note, WIDTH, 8.5, grey=FAINT)
        paper.set_y(paper.y + 1.5)


# Factur-X 1.0, 6.2.3: what a PDF says of the XML inside, and the words it says it in.
_FACTUR_X = (
    """<rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#">
<fx:DocumentType>INVOICE</fx:DocumentType><fx:DocumentFileName>factur-x.xml</fx:DocumentFileName>
<fx:Version>1.0</fx:Version><fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>
</rdf:Description>
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
 xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>
<pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#</pdfaSchema:namespaceURI>
<pdfaSchema:prefix>fx</pdfaSchema:prefix>
<pdfaSchema:property><rdf:Seq>"""
    + "".join(
        f'<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name>'
        "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{about}</pdfaProperty:description></rdf:li>\n"
        for name, about in (
            ("DocumentFileName", "name of the embedded XML invoice file"),
            ("DocumentType", "INVOICE"),
            ("Version", "version of the Factur-X XML schema"),
            ("ConformanceLevel", "conformance level of the embedded Factur-X data"),
        )
    )
    + "</rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>"
)
