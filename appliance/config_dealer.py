"""The section [dealer]: who the provider is by law, as its dealers' invoices name it, and how months end."""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from appliance.config_checks import EMAIL, between, iban

_COUNTRY = re.compile(r"[A-Z]{2}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_BIC = re.compile(r"[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?")
_SERIES = re.compile(r"[A-Z0-9]{0,7}[A-Z]")  # no digit at its end: the dealer's own number follows
LEGAL = ("name", "street", "city", "postcode", "country", "company_id")  # without these no invoice is issued


@dataclass(frozen=True)
class Dealer:
    """The provider, who is the buyer on a self-billed invoice: `country` is ISO 3166's, `currency` ISO 4217's.

    `vat_rate` (percent) is what dealers who pay VAT charge, unless their own page says otherwise. Payouts leave the
    account `iban`. Numbers of invoices begin with `series`. With `automatic_month_end` a month is settled and its
    invoices issued by themselves, on the day `month_end_day` of the next one.
    """

    name: str = ""
    street: str = ""
    house: str = ""
    city: str = ""
    postcode: str = ""
    country: str = ""
    company_id: str = ""
    vat_id: str = ""
    vat_rate: str = ""
    iban: str = ""
    bic: str = ""
    email: str = ""
    currency: str = "EUR"
    invoice_due_days: int = 14
    series: str = ""
    mail_invoices: bool = True
    automatic_month_end: bool = False
    month_end_day: int = 2
    alert_mail: str = ""

    def __post_init__(self) -> None:
        for key, shape, example in (
            ("country", _COUNTRY, "CZ"),
            ("bic", _BIC, "FIOBCZPPXXX"),
            ("series", _SERIES, "GH"),
        ):
            if (text := getattr(self, key)) and not shape.fullmatch(text):
                raise ValueError(f"{key}: {text[:40]!r} can't be one: write it as {example}")
        if not _CURRENCY.fullmatch(self.currency):
            raise ValueError(f"currency: {self.currency[:40]!r} is no currency: write EUR")
        if self.iban and not iban(self.iban):
            raise ValueError(f"iban: {self.iban[:40]!r} is no IBAN: its check digits are wrong")
        if self.vat_rate and not _is_percent(self.vat_rate):
            raise ValueError(f"vat_rate: {self.vat_rate[:40]!r} is no percentage: write 21")
        for key in ("email", "alert_mail"):
            if (text := getattr(self, key)) and not EMAIL.fullmatch(text):
                raise ValueError(f"{key}: an e-mail address such as office@example.net is needed")
        between(self, "invoice_due_days", 0, 365)
        between(self, "month_end_day", 1, 28)

    def missing(self) -> list[str]:
        """Keys that an invoice can't do without."""
        return [key for key in LEGAL if not getattr(self, key)]


def _is_percent(text: str) -> bool:
    try:
        return 0 <= Decimal(text) <= 100
    except InvalidOperation:
        return False
