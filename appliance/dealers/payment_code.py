"""What banks' apps read from a QR code: a transfer that is filled in. Pure.

EPC069-12 for euros in SEPA, SPAYD 1.0 (a standard of the Czech Banking Association) for crowns.
"""

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from appliance.dealers import money

_MOST_EPC_MINOR = 99_999_999_999  # EPC069-12, 3.2: 999999999.99 euros
_MOST_SPAYD_MINOR = 999_999_999  # SPAYD 1.0, AM: ten characters with the point
_REFERENCE = 140  # characters of a message, in both
_NAME_EPC, _NAME_SPAYD = 70, 35


@dataclass(frozen=True)
class Transfer:
    """`reference` is free text, such as an invoice's number."""

    name: str
    iban: str
    bic: str
    amount_minor: int
    currency: str
    reference: str


def content(transfer: Transfer) -> bytes | None:
    """None where there is no such code: for another currency, no account, nothing to pay."""
    if not transfer.iban or transfer.amount_minor <= 0:
        return None
    if transfer.currency == "EUR" and transfer.amount_minor <= _MOST_EPC_MINOR:
        return _epc(transfer)
    if transfer.currency == "CZK" and transfer.amount_minor <= _MOST_SPAYD_MINOR:
        return _spayd(transfer)
    return None


def _epc(transfer: Transfer) -> bytes:
    """Version 2, where the BIC may be missing, in UTF-8."""
    amount = f"EUR{money.plain(transfer.amount_minor, 'EUR')}"
    lines = ("BCD", "002", "1", "SCT", transfer.bic, transfer.name[:_NAME_EPC], transfer.iban, amount)
    return "\n".join((*lines, "", "", transfer.reference[:_REFERENCE])).encode()


def _spayd(transfer: Transfer) -> bytes:
    """In ASCII, as apps differ in how they read anything else; `VS` is the variable symbol, of ten digits at most."""
    account = f"{transfer.iban}+{transfer.bic}" if transfer.bic else transfer.iban
    fields = {
        "ACC": account,
        "AM": money.plain(transfer.amount_minor, "CZK"),
        "CC": "CZK",
        "MSG": _ascii(transfer.reference, _REFERENCE),
        "RN": _ascii(transfer.name, _NAME_SPAYD),
        "X-VS": variable_symbol(transfer.reference),
    }
    words = (f"{key}:{quote(value, safe=' /:+.,-')}" for key, value in fields.items() if value)
    return "*".join(("SPD*1.0", *words)).encode()


def variable_symbol(reference: str) -> str:
    """What Czech and Slovak banks find a payment by: the digits of an invoice's number."""
    return re.sub(r"[^0-9]", "", reference)[-10:]


def _ascii(text: str, length: int) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return plain.upper()[:length].strip()
