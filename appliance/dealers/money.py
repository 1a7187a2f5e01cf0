"""Amounts: whole minor units of a currency (ISO 4217) everywhere, decimals and text at the edges. Never floats."""

import re
from decimal import ROUND_HALF_UP, Decimal

from appliance.accounts.vouchers import minor_digits as minor_digits
from appliance.errors import UserError


def decimal(minor: int, currency: str) -> Decimal:
    return Decimal(minor).scaleb(-minor_digits(currency))


def plain(minor: int, currency: str) -> str:
    """`-1234.50`, as machines read it."""
    return f"{decimal(minor, currency):.{minor_digits(currency)}f}"


def text(minor: int, currency: str) -> str:
    """`1 234.50 EUR`, for people; thousands are held together by a space that breaks no line."""
    sign = "\u2212" if minor < 0 else ""
    return f"{sign}{decimal(abs(minor), currency):,.{minor_digits(currency)}f} {currency}".replace(",", "\u00a0")


def parse(text: str, currency: str) -> int:
    """Minor units of `1234.50` or `-5`; a comma does for the point. Raises UserError.

    `1.500` is no amount in a currency with two decimals: it may mean a thousand and a half.
    """
    digits = minor_digits(currency)
    match = re.fullmatch(r"([+-]?)([0-9]{1,12})(?:[.,]([0-9]{1,3}))?", text.strip())
    if not match or len(match[3] or "") > digits:
        example = "1250" if not digits else "1250." + "0" * digits
        raise UserError(f"{text!r} is no amount in {currency}: write it as {example}")
    minor = int(match[2] + (match[3] or "")[:digits].ljust(digits, "0"))
    return -minor if match[1] == "-" else minor


def parse_iso(text: str, currency: str) -> int:
    """As machines write it (ISO 20022): a point, and up to five decimals, of which the last may be zeros."""
    match = re.fullmatch(r"([0-9]+)\.([0-9]{1,5})", text.strip())
    if not match:
        return parse(text, currency)
    kept = match[2].rstrip("0")
    return parse(f"{match[1]}.{kept}" if kept else match[1], currency)


def rounded(amount: Decimal) -> int:
    """Half away from zero, as people and tax offices round."""
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))
