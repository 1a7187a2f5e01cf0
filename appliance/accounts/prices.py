"""Prices of plans as people write and read them."""

from typing import Any

from appliance.accounts import vouchers
from appliance.errors import UserError

FREE = "none"
HELP = "what an account or a renewal costs, such as 9.90, with a currency; none: it is free"


def columns(price: str | None, currency: str | None, plan: Any = None) -> dict[str, Any]:
    """Columns of a plan; what wasn't given (None) stays as it is. Raises UserError."""
    if price is None and currency is None:
        return {}
    code = (currency if currency is not None else plan.currency if plan else "").strip().upper()
    if price is None:
        raise UserError("a currency needs its price: give both")
    if price.strip() in ("", FREE):
        return {"price_minor": 0, "currency": ""}
    if not code:
        raise UserError("a price needs its currency, such as EUR: give both")
    minor = vouchers.parse_price(price.strip(), code)
    return {"price_minor": minor, "currency": code if minor else ""}


def typed(plan: Any) -> dict[str, str]:
    """As a form has it."""
    if plan is None or not plan.price_minor:
        return {"price": "", "currency": plan.currency if plan else ""}
    return {"price": shown(plan).rpartition(" ")[0], "currency": plan.currency}


def shown(plan: Any) -> str:
    return vouchers.format_price(plan.price_minor, plan.currency) if plan.price_minor else ""
