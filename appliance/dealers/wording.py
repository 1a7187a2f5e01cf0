"""A scheme's terms as people type and read them."""

from collections.abc import Iterator, Mapping
from typing import Any

from appliance.dealers import money, schemes
from appliance.dealers.schemes import VOLUMES, Terms
from appliance.errors import UserError

OF_PLAN = ("percent", "fixed", "months")  # words that may be said of one plan
WORDS = (*OF_PLAN, "tiers", "volume", "hold", "clawback", "minimum", "plans", "currency")
_MOST_PLANS = 200


def terms(words: Mapping[str, str], currency: str) -> Terms:
    """`tiers` has lines `FROM PERCENT`, `plans` lines `PLAN percent=… fixed=… months=…`. Raises UserError."""
    currency = words.get("currency", "").strip().upper() or currency
    found = Terms(
        **_simple(words, currency),
        tiers=tuple(_tiers(words.get("tiers", ""), currency)),
        volume=words.get("volume", "").strip() or Terms.volume,
        plans=dict(_plans(words.get("plans", ""), currency)),
        hold_days=_days(words, "hold"),
        clawback_days=_days(words, "clawback"),
        minimum_minor=_amount(words, "minimum", currency) or 0,
        currency=currency,
    )
    return schemes.parse(schemes.dump(found))


def _simple(words: Mapping[str, str], currency: str) -> dict[str, Any]:
    percent = words.get("percent", "").strip()
    months = words.get("months", "").strip()
    if months and not (months.isdecimal() and len(months) < 5 and 0 < int(months) <= 1200):
        raise UserError(f"months: {months[:20]!r} is no number of months: write 12, or nothing for ever")
    return {
        "percent": schemes.percent(percent) if percent else None,
        "fixed_minor": _amount(words, "fixed", currency),
        "months": int(months) if months else None,
    }


def _amount(words: Mapping[str, str], key: str, currency: str) -> int | None:
    text = words.get(key, "").strip()
    if not text:
        return None
    minor = money.parse(text, currency)
    if minor < 0:
        raise UserError(f"{key}: {text!r} is below zero")
    return minor


def _days(words: Mapping[str, str], key: str) -> int:
    text = words.get(key, "").strip() or "0"
    if not text.isdecimal() or len(text) > 4 or int(text) > 3650:
        raise UserError(f"{key}: {text[:20]!r} is no number of days: write 14")
    return int(text)


def _tiers(text: str, currency: str) -> Iterator[tuple[int, Any]]:
    for line in _lines(text):
        parts = line.replace("%", " ").split()
        if len(parts) != 2:
            raise UserError(f"tiers: {line[:60]!r}: write from how much on and how many percent, such as 1000 7.5")
        yield money.parse(parts[0], currency), schemes.percent(parts[1])


def _plans(text: str, currency: str) -> Iterator[tuple[str, Terms]]:
    found = _lines(text)
    if len(found) > _MOST_PLANS:
        raise UserError(f"plans: {_MOST_PLANS} at most")
    for line in found:
        plan, *pairs = line.split()
        words = dict(pair.partition("=")[::2] for pair in pairs)
        if not pairs or set(words) - set(OF_PLAN):
            raise UserError(f"plans: {line[:60]!r}: write PLAN percent=10 fixed=2.00 months=12, or one of these")
        yield plan, Terms(**_simple(words, currency))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace(";", "\n").splitlines() if line.strip()]


def typed(of: Terms) -> dict[str, str]:
    """As `terms` reads it back."""

    def amount(minor: int | None) -> str:
        return money.plain(minor, of.currency or "EUR") if minor else ""

    plans = [
        " ".join([plan, *(f"{key}={value}" for key, value in _own(own, amount).items() if value)])
        for plan, own in sorted(of.plans.items())
    ]
    return _own(of, amount) | {
        "tiers": "\n".join(
            f"{money.plain(since, of.currency or 'EUR')} {schemes.plain(rate)}" for since, rate in of.tiers
        ),
        "volume": of.volume,
        "hold": str(of.hold_days or ""),
        "clawback": str(of.clawback_days or ""),
        "minimum": amount(of.minimum_minor),
        "plans": "\n".join(plans),
        "currency": of.currency,
    }


def _own(of: Terms, amount: Any) -> dict[str, str]:
    return {
        "percent": "" if of.percent is None else schemes.plain(of.percent),
        "fixed": amount(of.fixed_minor),
        "months": str(of.months or ""),
    }


def sentences(of: Terms) -> Iterator[str]:
    """What it comes to, for people."""
    currency = of.currency or "EUR"
    yield _earned(of, currency)
    for plan, own in sorted(of.plans.items()):
        yield f"for plan {plan}: {_earned(own, currency)}"
    if of.hold_days:
        yield f"held for {of.hold_days} days from the payment"
    if of.clawback_days:
        yield f"taken back where a new customer’s account is removed within {of.clawback_days} days"
    if of.minimum_minor:
        yield f"settled from {money.text(of.minimum_minor, currency)} on"


def _earned(of: Terms, currency: str) -> str:
    parts = []
    if of.tiers:
        tiers = ", ".join(f"{schemes.plain(rate)} % from {money.text(since, currency)}" for since, rate in of.tiers)
        parts.append(f"{tiers} of {_VOLUMES[of.volume]}")
    elif of.percent:
        parts.append(f"{schemes.plain(of.percent)} % of the money received")
    if of.fixed_minor:
        parts.append(f"{money.text(of.fixed_minor, currency)} for each new customer or voucher")
    text = " and ".join(parts) or "nothing"
    return f"{text}, for {of.months} months of each customer" if of.months else text


_VOLUMES = dict(zip(VOLUMES, ("a month’s sales", "a year’s sales", "all sales"), strict=True))
