"""What stands on an invoice: facts as they were when it was issued, and the sums that follow from them. Pure."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from appliance.dealers import money
from appliance.errors import UserError

SELF_BILLED, CREDIT_NOTE = 389, 261  # UNTDID 1001: a self-billed invoice, a self-billed credit note

STANDARD, EXEMPT, REVERSE = "S", "E", "AE"  # UNTDID 5305, as EN 16931 has it
REVERSE_REASON, REVERSE_CODE = "Reverse charge: the customer accounts for the VAT", "VATEX-EU-AE"
EXEMPT_REASON = "The supplier isn't registered for VAT"


@dataclass(frozen=True)
class Party:
    """A seller or a buyer; `country` has two letters."""

    name: str
    street: str
    house: str
    city: str
    postcode: str
    country: str
    company_id: str = ""
    vat_id: str = ""
    email: str = ""
    phone: str = ""
    contact: str = ""

    def missing(self) -> tuple[str, ...]:
        """What a law wants to see on an invoice and isn't known."""
        needed = ("name", "street", "city", "postcode", "country", "company_id")
        return tuple(key for key in needed if not getattr(self, key))

    @property
    def address(self) -> tuple[str, ...]:
        street = f"{self.street} {self.house}".strip()
        return tuple(line for line in (street, f"{self.postcode} {self.city}".strip(), self.country) if line)


@dataclass(frozen=True)
class Vat:
    """One for a whole invoice, as it follows from what the seller is."""

    category: str
    percent: Decimal
    reason: str = ""
    code: str = ""


@dataclass(frozen=True)
class Line:
    """`net_minor` is below zero for what is taken back."""

    text: str
    net_minor: int


@dataclass(frozen=True)
class Document:
    """`first_day` and `last_day` are both inside of what is billed. A credit note names the invoice it is `of`."""

    number: str
    kind: int
    issued: date
    due: date
    first_day: date
    last_day: date
    currency: str
    seller: Party
    buyer: Party
    vat: Vat
    lines: tuple[Line, ...]
    iban: str = ""
    bic: str = ""
    contract: str = ""
    of: str = ""
    of_issued: date | None = None
    notes: tuple[str, ...] = ()

    @property
    def net_minor(self) -> int:
        return sum(line.net_minor for line in self.lines)

    @property
    def vat_minor(self) -> int:
        """Of the sum, rounded once (BR-CO-17)."""
        return vat_of(self.net_minor, self.vat)

    @property
    def total_minor(self) -> int:
        return self.net_minor + self.vat_minor

    @property
    def title(self) -> str:
        return "Credit note" if self.kind == CREDIT_NOTE else "Invoice"


def vat_of(net_minor: int, vat: Vat) -> int:
    return money.rounded(net_minor * vat.percent / 100)


def vat(tax: str, percent: str) -> Vat:
    """Of a dealer: `tax` is payer, non-payer or foreign; `percent` counts for payers only. Raises UserError."""
    if tax == "foreign":
        return Vat(REVERSE, Decimal(0), REVERSE_REASON, REVERSE_CODE)
    if tax == "non-payer":
        return Vat(EXEMPT, Decimal(0), EXEMPT_REASON)
    if not percent:
        raise UserError("no rate of VAT is set, neither the dealer's nor [dealer] vat_rate")
    return Vat(STANDARD, Decimal(percent))


def known_vat(category: str, percent: str) -> Vat:
    """As it was kept."""
    reason, code = {REVERSE: (REVERSE_REASON, REVERSE_CODE), EXEMPT: (EXEMPT_REASON, "")}.get(category, ("", ""))
    return Vat(category, Decimal(percent or 0), reason, code)
