"""Dealers: who they are, and how they log in."""

import re
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

import argon2
import peewee

from appliance import config_checks
from appliance.crypto import new_password
from appliance.dealers.ledger_db import writing
from appliance.dealers.models import ACTIVE, ENDED, FOREIGN, NON_PAYER, PAYER, SUSPENDED, Dealer
from appliance.errors import Conflict, UserError

STATES = (ACTIVE, SUSPENDED, ENDED)
TAXES = (PAYER, NON_PAYER, FOREIGN)
MIN_PASSWORD = 10
_TEXTS = (
    *(
        "contact",
        "email",
        "phone",
        "street",
        "house",
        "city",
        "postcode",
        "country",
        "company_id",
        "vat_id",
        "vat_rate",
    ),
    *("iban", "bic", "currency", "contract", "state", "tax"),
)
_NUMBERS = ("credit_limit_minor", "batch_limit", "day_limit_minor")
_AMOUNTS = ("credit_limit_minor", "day_limit_minor")  # in the dealer's currency
_TIMES = (("contract_from", "contract_until"), ("self_billing_from", "self_billing_until"))
COLUMNS = (*_TEXTS, *_NUMBERS, *(name for pair in _TIMES for name in pair), "login")

_hasher = argon2.PasswordHasher()


def add(name: str, **columns: Any) -> Any:
    """Raises UserError for what can't be."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise UserError(f"{name!r} can't name a dealer: use up to 63 letters, digits, '.', '_' and '-'")
    now = int(time.time())
    row = Dealer(name=name, created_at=now, changed_at=now)
    _set(row, columns)
    return _saved(row)


def change(dealer: Any, columns: Mapping[str, Any]) -> None:
    """Raises UserError for what can't be."""
    before = {name: getattr(dealer, name) for name in ("currency", *_AMOUNTS)}
    _set(dealer, columns)
    stay = [name for name in _AMOUNTS if before[name] and getattr(dealer, name)]
    if stay and dealer.currency != before["currency"]:
        words = " and ".join(name.removesuffix("_minor").replace("_", " ") for name in stay)
        raise UserError(f"{words}: set to 0 what is in {before['currency']}, and anew once {dealer.currency} is saved")
    dealer.changed_at = int(time.time())
    _saved(dealer)


def _saved(row: Any) -> Any:
    try:
        with writing():
            row.save()
    except peewee.IntegrityError:
        taken = Dealer.get_or_none((Dealer.name == row.name) & (Dealer.id != (row.id or 0)))
        what = f"dealer {row.name!r}" if taken else f"the log-in {row.login!r}"
        raise Conflict(f"{what} exists already") from None
    return row


def get(name: str) -> Any:
    row = Dealer.get_or_none(Dealer.name == name)
    if row is None:
        raise UserError(f"there is no dealer {name!r}: see `gatehouse dealer list`")
    return row


def listed() -> list[Any]:
    return list(Dealer.select().order_by(Dealer.name))


def _set(row: Any, columns: Mapping[str, Any]) -> None:
    for name, value in columns.items():
        if name not in COLUMNS:
            raise UserError(f"a dealer has no {name!r}")
        setattr(row, name, _checked(name, value))
    for since, until in _TIMES:
        if (getattr(row, since) or 0) >= (getattr(row, until) or 2**62):
            raise UserError(f"{until.removesuffix('_until').replace('_', '-')}: it would end before it begins")


def _checked(name: str, value: Any) -> Any:
    if name in _NUMBERS:
        if not isinstance(value, int) or not 0 <= value < 2**53:
            raise UserError(f"{name.replace('_', ' ')}: {value!r} is no number from 0")
        return value
    if name not in _TEXTS:
        return _login(value) if name == "login" else value
    text = str(value).strip()
    if not text.isprintable() or len(text) > 200:
        raise UserError(f"{name.replace('_', ' ')}: write up to 200 printable characters on one line")
    text = _FORMS[name](text) if name in _FORMS else text
    wrong = _WRONG.get(name)
    if wrong and not re.fullmatch(wrong[0], text):
        raise UserError(f"{text!r}: {wrong[1]}")
    return text


def _bare(text: str) -> str:
    return text.replace(" ", "").upper()


_FORMS = {"iban": _bare, "bic": _bare, "vat_id": _bare, "country": str.upper, "currency": str.upper}
_WRONG = {
    "state": ("|".join(STATES), f"a dealer is one of {', '.join(STATES)}"),
    "tax": ("|".join(TAXES), f"for VAT a dealer is one of {', '.join(TAXES)}"),
    "country": (r"([A-Z]{2})?", "a country is written by its two letters, such as CZ"),
    "currency": (r"[A-Z]{3}", "a currency is written by its three letters, such as EUR"),
    "email": (r"([^\s@]+@[^\s@]+)?", "that is no e-mail address"),
    "bic": (r"([A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?)?", "a BIC has 8 or 11 letters and digits"),
}  # fmt: skip


def _rate(text: str) -> str:
    try:
        rate = Decimal(text.removesuffix("%").strip() or "0")
    except InvalidOperation:
        rate = Decimal(-1)
    if not rate.is_finite() or not 0 <= rate < 100 or rate != rate.quantize(Decimal("0.01")):
        raise UserError(f"{text!r} is no VAT rate: write a percent such as 21, or leave it empty")
    return f"{rate.normalize():f}" if text else ""


def _iban(text: str) -> str:
    if text and not config_checks.iban(_bare(text)):
        raise UserError(f"{text!r} is no IBAN: write such as CZ65 0800 0000 1920 0014 5399")
    return _bare(text)


_FORMS |= {"iban": _iban, "vat_rate": _rate}


# Logging in


def _login(value: Any) -> str | None:
    if value is None or value == "":
        return None
    text = str(value).strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9@_.+-]{0,62}", text):
        raise UserError(f"{text!r} can't be a log-in: use up to 63 letters, digits, '@', '.', '_', '+' and '-'")
    return text.lower()


def set_password(dealer: Any, given: str | None = None) -> str:
    """The password, which is made up when none is given; it can't be shown again."""
    if dealer.login is None:
        raise UserError(f"dealer {dealer.name} has no log-in yet: give one first")
    if given is not None and (len(given) < MIN_PASSWORD or len(given.encode()) > 256 or not given.isprintable()):
        raise UserError(f"that can't be a password: use {MIN_PASSWORD} to 256 printable characters")
    chosen = given if given is not None else new_password()
    dealer.password, dealer.changed_at = _hasher.hash(chosen), int(time.time())
    _saved(dealer)
    return chosen


@cache
def _nobodys() -> str:
    return _hasher.hash("")


def verify(login: str, password: str) -> Any:
    """The dealer whose log-in it is, or None, also for one who is ended; unknown names take as long."""
    row: Any = Dealer.get_or_none(Dealer.login == login.strip().lower())
    known = row is not None and row.password != ""
    try:
        _hasher.verify(row.password if known else _nobodys(), password)
    except argon2.exceptions.VerificationError:
        return None
    return row if known and row.state != ENDED else None
