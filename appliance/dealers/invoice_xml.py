"""An invoice for machines: Cross Industry Invoice as EN 16931 has it, the XML of Factur-X and ZUGFeRD.

Which element means what: EN 16931-3-3; the BT numbers are those of EN 16931-1.
"""

from datetime import date
from functools import partial
from xml.etree.ElementTree import Element

from appliance.dealers import money
from appliance.dealers.document import CREDIT_NOTE, Document, Line, Party, Vat
from appliance.dealers.elements import document as written
from appliance.dealers.elements import element
from appliance.errors import UserError

NAMESPACES = {
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
    "qdt": "urn:un:unece:uncefact:data:standard:QualifiedDataType:100",
}
PROFILE = "urn:cen.eu:en16931:2017"
_PIECE = "C62"  # UN/ECE Recommendation 20: one
_CREDIT_TRANSFER, _SEPA_TRANSFER = "30", "58"  # UNTDID 4461
MOST_DIGITS = 2  # BR-DEC-*: no amount has more behind the point


def cii(invoice: Document) -> bytes:
    """Raises UserError for a currency that EN 16931 has no amounts for."""
    if money.minor_digits(invoice.currency) > MOST_DIGITS:
        raise UserError(f"no electronic invoice can be made in {invoice.currency}: its amounts have three decimals")
    root = element(
        "rsm:CrossIndustryInvoice",
        element(
            "rsm:ExchangedDocumentContext",
            element("ram:GuidelineSpecifiedDocumentContextParameter", element("ram:ID", PROFILE)),
        ),
        element(
            "rsm:ExchangedDocument",
            element("ram:ID", invoice.number),
            element("ram:TypeCode", str(invoice.kind)),
            _day("ram:IssueDateTime", invoice.issued),
            *(element("ram:IncludedNote", element("ram:Content", note)) for note in invoice.notes),
        ),
        element(
            "rsm:SupplyChainTradeTransaction",
            *(_line(invoice, number, line) for number, line in enumerate(invoice.lines, 1)),
            _agreement(invoice),
            element(
                "ram:ApplicableHeaderTradeDelivery",
                element("ram:ActualDeliverySupplyChainEvent", _day("ram:OccurrenceDateTime", invoice.last_day)),
            ),
            _settlement(invoice),
        ),
    )
    return written(root, NAMESPACES)


def _day(tag: str, day: date | None, kind: str = "udt") -> Element | None:
    return element(tag, element(f"{kind}:DateTimeString", f"{day:%Y%m%d}", format="102")) if day else None


def _line(invoice: Document, number: int, line: Line) -> Element | None:
    """What is taken back is a negative count of something, as no price may be negative (BR-27)."""
    amount = partial(money.plain, currency=invoice.currency)
    return element(
        "ram:IncludedSupplyChainTradeLineItem",
        element("ram:AssociatedDocumentLineDocument", element("ram:LineID", str(number))),
        element("ram:SpecifiedTradeProduct", element("ram:Name", line.text)),
        element(
            "ram:SpecifiedLineTradeAgreement",
            element("ram:NetPriceProductTradePrice", element("ram:ChargeAmount", amount(abs(line.net_minor)))),
        ),
        element(
            "ram:SpecifiedLineTradeDelivery",
            element("ram:BilledQuantity", "-1" if line.net_minor < 0 else "1", unitCode=_PIECE),
        ),
        element(
            "ram:SpecifiedLineTradeSettlement",
            element(
                "ram:ApplicableTradeTax",
                element("ram:TypeCode", "VAT"),
                element("ram:CategoryCode", invoice.vat.category),
                element("ram:RateApplicablePercent", _percent(invoice.vat)),
            ),
            element(
                "ram:SpecifiedTradeSettlementLineMonetarySummation",
                element("ram:LineTotalAmount", amount(line.net_minor)),
            ),
        ),
    )


def _percent(vat: Vat) -> str:
    return f"{vat.percent:f}"


def _agreement(invoice: Document) -> Element | None:
    contract = element("ram:ContractReferencedDocument", element("ram:IssuerAssignedID", invoice.contract))
    return element(
        "ram:ApplicableHeaderTradeAgreement",
        _party("ram:SellerTradeParty", invoice.seller, invoice.vat),
        _party("ram:BuyerTradeParty", invoice.buyer, None),
        contract,
    )


def _party(tag: str, party: Party, vat: Vat | None) -> Element | None:
    """`vat` of the seller: who has no VAT number names another that the tax office knows (BR-E-02, BR-AE-02)."""
    tax_number = party.company_id if vat is not None and not party.vat_id else ""
    return element(
        tag,
        element("ram:Name", party.name),
        element("ram:SpecifiedLegalOrganization", element("ram:ID", party.company_id)),
        element(
            "ram:DefinedTradeContact",
            element("ram:PersonName", party.contact),
            element("ram:TelephoneUniversalCommunication", element("ram:CompleteNumber", party.phone)),
            element("ram:EmailURIUniversalCommunication", element("ram:URIID", party.email)),
        ),
        element(
            "ram:PostalTradeAddress",
            element("ram:PostcodeCode", party.postcode),
            element("ram:LineOne", f"{party.street} {party.house}".strip()),
            element("ram:CityName", party.city),
            element("ram:CountryID", party.country),
        ),
        element("ram:URIUniversalCommunication", element("ram:URIID", party.email, schemeID="EM")),
        element("ram:SpecifiedTaxRegistration", element("ram:ID", party.vat_id, schemeID="VA")),
        element("ram:SpecifiedTaxRegistration", element("ram:ID", tax_number, schemeID="FC")),
    )


def _settlement(invoice: Document) -> Element | None:
    credit = invoice.kind == CREDIT_NOTE
    return element(
        "ram:ApplicableHeaderTradeSettlement",
        None if credit else element("ram:PaymentReference", invoice.number),
        element("ram:InvoiceCurrencyCode", invoice.currency),
        None if credit else _means(invoice),
        _tax(invoice),
        element(
            "ram:BillingSpecifiedPeriod",
            _day("ram:StartDateTime", invoice.first_day),
            _day("ram:EndDateTime", invoice.last_day),
        ),
        element(
            "ram:SpecifiedTradePaymentTerms",
            element("ram:Description", f"Set off against invoice {invoice.of}" if credit else ""),
            _day("ram:DueDateDateTime", invoice.due),
        ),
        _sums(invoice),
        element(
            "ram:InvoiceReferencedDocument",
            element("ram:IssuerAssignedID", invoice.of),
            _day("ram:FormattedIssueDateTime", invoice.of_issued, "qdt"),
        ),
    )


def _means(invoice: Document) -> Element | None:
    if not invoice.iban:
        return None
    return element(
        "ram:SpecifiedTradeSettlementPaymentMeans",
        element("ram:TypeCode", _SEPA_TRANSFER if invoice.currency == "EUR" else _CREDIT_TRANSFER),
        element(
            "ram:PayeePartyCreditorFinancialAccount",
            element("ram:IBANID", invoice.iban),
            element("ram:AccountName", invoice.seller.name),
        ),
        element("ram:PayeeSpecifiedCreditorFinancialInstitution", element("ram:BICID", invoice.bic)),
    )


def _tax(invoice: Document) -> Element | None:
    amount = partial(money.plain, currency=invoice.currency)
    return element(
        "ram:ApplicableTradeTax",
        element("ram:CalculatedAmount", amount(invoice.vat_minor)),
        element("ram:TypeCode", "VAT"),
        element("ram:ExemptionReason", invoice.vat.reason),
        element("ram:BasisAmount", amount(invoice.net_minor)),
        element("ram:CategoryCode", invoice.vat.category),
        element("ram:ExemptionReasonCode", invoice.vat.code),
        element("ram:RateApplicablePercent", _percent(invoice.vat)),
    )


def _sums(invoice: Document) -> Element | None:
    amount = partial(money.plain, currency=invoice.currency)
    return element(
        "ram:SpecifiedTradeSettlementHeaderMonetarySummation",
        element("ram:LineTotalAmount", amount(invoice.net_minor)),
        element("ram:TaxBasisTotalAmount", amount(invoice.net_minor)),
        element("ram:TaxTotalAmount", amount(invoice.vat_minor), currencyID=invoice.currency),
        element("ram:GrandTotalAmount", amount(invoice.total_minor)),
        element("ram:DuePayableAmount", amount(invoice.total_minor)),
    )
