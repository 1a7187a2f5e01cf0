"""What can be said of a dealer, as forms ask it: read from what was typed, and back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from appliance.config import Config
from appliance.dealers import desk, money
from appliance.dealers.models import ACTIVE, ENDED, FOREIGN, NON_PAYER, PAYER, SUSPENDED
from appliance.errors import UserError

TAXES = {PAYER: "pays VAT", NON_PAYER: "pays no VAT", FOREIGN: "in another country: reverse charge"}


class Field(NamedTuple):
    """`kind` is an input's type, `day`s are columns of seconds, `last` ones half-open ends, `money` minor units."""

    name: str
    title: str
    kind: str = "text"
    hint: str = ""
    options: Mapping[str, str] | None = None


class Fields(NamedTuple):
    title: str
    fields: tuple[Field, ...]


FIELDS = (
    Fields(
        "Who it is",
        (
            Field("contact", "Name by law", hint="As on invoices; left empty, the name above"),
            Field("email", "E-mail", "email", "Invoices go there"),
            Field("phone", "Phone", "tel"),
            Field("street", "Street"),
            Field("house", "House number"),
            Field("postcode", "Postcode"),
            Field("city", "City"),
            Field("country", "Country", hint="Two letters, such as CZ"),
            Field("state", "State", options={ACTIVE: "active", SUSPENDED: "suspended", ENDED: "ended"}),
        ),
    ),
    Fields(
        "Tax and bank",
        (
            Field("company_id", "Company ID"),
            Field("tax", "Value added tax", options=TAXES),
            Field("vat_id", "VAT ID"),
            Field("vat_rate", "VAT, percent", hint="Of who pays it; left empty, as in the settings"),
            Field("iban", "Account (IBAN)"),
            Field("bic", "Its bank (BIC)"),
            Field("currency", "Currency", hint="Three letters"),
        ),
    ),
    Fields(
        "Contract",
        (
            Field("contract", "Contract", hint="Its number, or where it lies"),
            Field("contract_from", "From", "day"),
            Field("contract_until", "Last day", "last"),
            Field("self_billing_from", "Agreement on self-billing from", "day", "You may write their invoices since"),
            Field("self_billing_until", "Its last day", "last"),
        ),
    ),
    Fields(
        "Their pages",
        (
            Field("login", "Log-in", hint="At /dealer on these pages’ address; left empty, none"),
            Field("credit_limit_minor", "Credit below zero", "money", "0: vouchers are sold for what was paid before"),
            Field("batch_limit", "Vouchers at once", "number", "0: any number"),
            Field("day_limit_minor", "Vouchers a day, worth", "money", "0: any sum"),
        ),
    ),
)
_ALL = tuple(field for group in FIELDS for field in group.fields)


def read(form: Mapping[str, str], config: Config, currency: str) -> dict[str, Any]:
    """The columns that the form has; raises UserError. What they may be is `dealers`' to say."""
    zone, found = config.site.timezone, dict[str, Any]()
    for field in _ALL:
        if field.name not in form:
            continue
        text = form[field.name].strip()
        if field.kind == "day":
            found[field.name] = desk.begin_of(text, zone)
        elif field.kind == "last":
            found[field.name] = desk.end_of(text, zone)
        elif field.kind == "money":
            found[field.name] = money.parse(text or "0", form.get("currency", "").strip() or currency)
        elif field.kind == "number":
            found[field.name] = _whole(text or "0", field.title)
        else:
            found[field.name] = text.replace(" ", "") if field.name in ("iban", "bic") else text
    if "login" in found:
        found["login"] = found["login"] or None
    return found


def _whole(text: str, title: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise UserError(f"{title}: a whole number is needed, not {text[:40]!r}")
    return int(text)


def typed(dealer: Any, config: Config) -> dict[str, str]:
    """As the form says it."""
    zone, found = config.site.timezone, dict[str, str]()
    for field in _ALL:
        value = getattr(dealer, field.name)
        if field.kind == "day":
            found[field.name] = desk.day(value, zone)
        elif field.kind == "last":
            found[field.name] = desk.last_day(value, zone)
        elif field.kind == "money":
            found[field.name] = money.plain(value, dealer.currency) if value else ""
        else:
            found[field.name] = "" if value is None else str(value)
    return found
