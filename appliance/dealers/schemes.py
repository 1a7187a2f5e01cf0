"""What a dealer earns on a sale; pure. Percents are Decimal, amounts whole minor units, halves go up."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, NamedTuple

from appliance.errors import UserError

DAY_S = 86_400
VOLUMES = ("month", "year", "ever")  # for how long sales add up, on the site's calendar
BEGINNINGS = ("activation", "voucher")  # kinds of charges with which a customer begins
Tier = tuple[int, Decimal]


@dataclass(frozen=True)
class Terms:
    """`percent` of the money received; `fixed_minor` for each beginning; `months`: for so long from a customer's
    first charge, None for ever.

    `tiers` replace the percent: each (from, percent) is for the part of the volume from there to the next one's, so
    that there is no gap between them. `plans` replace percent, fixed, months and tiers for some plans. Amounts are in
    `currency`; where it is given, sales in another one earn nothing.
    """

    percent: Decimal | None = None
    fixed_minor: int | None = None
    months: int | None = None
    tiers: tuple[Tier, ...] = ()
    volume: str = "month"
    plans: Mapping[str, "Terms"] = field(default_factory=dict)
    hold_days: int = 0
    clawback_days: int = 0
    minimum_minor: int = 0
    currency: str = ""

    def of_plan(self, plan: str) -> "Terms":
        own = self.plans.get(plan)
        if own is None:
            return self
        mine = {name: getattr(own, name) for name in ("percent", "fixed_minor", "months", "tiers")}
        return replace(self, **mine, plans={})


class Facts(NamedTuple):
    """What counts of a charge; `began_at` is when the customer's first one was. Times are UTC seconds."""

    kind: str
    plan: str
    amount_minor: int
    currency: str
    at: int
    began_at: int
    zone: tzinfo


class Earned(NamedTuple):
    """For the whole charge, not rounded, and in words how it comes to that."""

    minor: Decimal
    rate: str
    why: str


def entitled(terms: Terms, facts: Facts, paid_minor: int, volume_before: int = 0) -> int:
    """For a charge of which so much is paid."""
    return share(rounded(whole(terms, facts, volume_before).minor), facts.amount_minor, paid_minor)


def share(whole_minor: int, amount_minor: int, paid_minor: int) -> int:
    """Of what the whole charge earns. What is paid over the charge, or below zero, doesn't count."""
    return rounded(Decimal(whole_minor) * max(0, min(paid_minor, amount_minor)) / amount_minor)


def rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def whole(terms: Terms, facts: Facts, volume_before: int = 0) -> Earned:
    """What the whole charge earns once all of it is paid."""
    if terms.currency and terms.currency != facts.currency:
        return Earned(Decimal(0), "0", f"the scheme is for sales in {terms.currency}")
    own = terms.of_plan(facts.plan)
    if own.months is not None and facts.at >= _months_later(facts.began_at, own.months, facts.zone):
        return Earned(Decimal(0), "0", f"the {own.months} months since the customer's beginning are over")
    if own.tiers:
        minor, rate = _by_volume(own.tiers, volume_before, facts.amount_minor)
    else:
        percent = own.percent or Decimal(0)
        minor, rate = facts.amount_minor * percent / 100, f"{plain(percent)} %" if percent else ""
    if own.fixed_minor and facts.kind in BEGINNINGS:
        minor, rate = minor + own.fixed_minor, " + ".join(filter(None, (rate, f"fixed {own.fixed_minor}")))
    return Earned(minor, rate or "0", "" if rate else f"nothing is earned on a {facts.kind} of this plan")


def _by_volume(tiers: tuple[Tier, ...], before: int, amount: int) -> tuple[Decimal, str]:
    """Each part of the amount by the tier that it falls into."""
    minor, parts = Decimal(0), []
    for n, (since, percent) in enumerate(tiers):
        until = tiers[n + 1][0] if n + 1 < len(tiers) else before + amount
        part = min(before + amount, until) - max(before, since)
        if part > 0:
            minor += part * percent / 100
            parts.append(f"{plain(percent)} % of {part}")
    return minor, " + ".join(parts)


def _months_later(at: int, months: int, zone: tzinfo) -> int:
    """The same day of a later month on the site's calendar, or that month's last one."""
    begin = datetime.fromtimestamp(at, zone)
    year, month = divmod(begin.year * 12 + begin.month - 1 + months, 12)
    for day in range(begin.day, 0, -1):
        try:
            return int(begin.replace(year=year, month=month + 1, day=day).timestamp())
        except ValueError:
            continue
    raise AssertionError  # each month has a first day


def volume_span(terms: Terms, at: int, zone: tzinfo) -> tuple[int, int]:
    """The half-open time in which sales add up to the volume of a sale at that time (UTC seconds)."""
    day = datetime.fromtimestamp(at, zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if terms.volume == "month":
        return int(day.timestamp()), _months_later(int(day.timestamp()), 1, zone)
    if terms.volume == "year":
        begin = int(day.replace(month=1).timestamp())
        return begin, _months_later(begin, 12, zone)
    return 0, 2**62


def due_at(terms: Terms, at: int) -> int:
    return at + terms.hold_days * DAY_S


def plain(number: Decimal) -> str:
    """Without zeros at its end."""
    return f"{number.normalize():f}"


# As JSON

_PLANS_OWN = ("percent", "fixed_minor", "months", "tiers")


def dump(terms: Terms) -> str:
    return json.dumps(_values(terms), sort_keys=True)


def _values(terms: Terms) -> dict[str, Any]:
    found = {each.name: getattr(terms, each.name) for each in fields(terms)}
    found |= {
        "percent": None if terms.percent is None else plain(terms.percent),
        "tiers": [[since, plain(percent)] for since, percent in terms.tiers],
        "plans": {plan: _values(own) for plan, own in sorted(terms.plans.items())},
    }
    kept = Terms()
    return {name: value for name, value in found.items() if value not in (None, [], {}, getattr(kept, name))}


def parse(text: str) -> Terms:
    """Raises UserError for what can't be terms."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise UserError(f"a scheme's terms: {error}") from None
    return _terms(given, tuple(each.name for each in fields(Terms)), "")


def _terms(given: Any, known: tuple[str, ...], where: str) -> Terms:
    if not isinstance(given, dict):
        raise UserError(f'{where}a scheme\'s terms are an object, such as {{"percent": "10"}}')
    if unknown := set(given) - set(known):
        raise UserError(f"{where}a scheme's terms have no {min(unknown)!r}: there are {', '.join(known)}")
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if "percent" in values:
        values["percent"] = percent(values["percent"], where)
    for name in ("fixed_minor", "months", "hold_days", "clawback_days", "minimum_minor"):
        if name in values:
            values[name] = _whole_number(values[name], f"{where}{name}")
    values["tiers"] = _tiers(values.get("tiers", ()), where)
    plans = values.get("plans", {})
    if not isinstance(plans, dict):
        raise UserError("plans: give terms by the name of a plan")
    values["plans"] = {str(plan): _terms(own, _PLANS_OWN, f"plan {plan}: ") for plan, own in plans.items()}
    return checked(Terms(**values), where)


def checked(terms: Terms, where: str = "") -> Terms:
    if terms.percent is not None and terms.tiers:
        raise UserError(f"{where}tiers have percents of their own: leave the percent out")
    if terms.currency and not re.fullmatch("[A-Z]{3}", str(terms.currency)):
        raise UserError(f"{where}{terms.currency!r} is no currency: write its three letters, such as EUR")
    if terms.volume not in VOLUMES:
        raise UserError(f"{where}{terms.volume!r}: volume adds up for a {', '.join(VOLUMES)}")
    return terms


def percent(value: Any, where: str = "") -> Decimal:
    """Up to 100, with up to four decimals; never from a float."""
    try:
        if isinstance(value, float):
            raise InvalidOperation
        number = Decimal(str(value).removesuffix("%").strip())
        if not 0 <= number <= 100 or number != number.quantize(Decimal("0.0001")):
            raise InvalidOperation
    except InvalidOperation:
        raise UserError(f"{where}{value!r} is no percent: write a number from 0 to 100, such as 12.5") from None
    return number


def _whole_number(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise UserError(f"{what}: {value!r} is no whole number from 0")
    return value


def _tiers(given: Any, where: str) -> tuple[Tier, ...]:
    try:
        tiers = tuple((_whole_number(since, f"{where}tier"), percent(rate, where)) for since, rate in given)
    except (TypeError, ValueError):
        raise UserError(f"{where}a tier has from how much on it is for, and a percent") from None
    starts = [since for since, _ in tiers]
    if tiers and (starts[0] != 0 or starts != sorted(set(starts))):
        raise UserError(f"{where}the first tier begins at 0, and each at more than the one before")
    return tiers
