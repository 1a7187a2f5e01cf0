"""Statistics: sales, vouchers that came to use, customers who stayed away, by plan, month and dealer."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import urlencode

from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Column, List
from appliance.admin.rows import By, Rows
from appliance.dealers import desk, money, months, statistics
from appliance.dealers.months import Period
from appliance.dealers.statistics import Sold, Used
from appliance.dealers.web import url as dealer_url
from appliance.service import Point

SPANS = {"3": "3 months", "6": "6 months", "12": "12 months", "24": "2 years", "60": "5 years"}


class Asked(NamedTuple):
    """What the URL asks for; `month` may still run."""

    months: str
    currency: str
    span: list[Period]
    currencies: list[str]

    def url(self, page: str, **other: str) -> str:
        return f"/dealer-statistics{page}?" + urlencode({"months": self.months, "currency": self.currency} | other)


def _asked(ask: Ask) -> Asked:
    query, zone = ask.query(), ask.config.site.timezone
    count = query.get("months", "") if query.get("months") in SPANS else "12"
    found = statistics.currencies()
    currency = query.get("currency", "") if query.get("currency") in found else ""
    own = ask.config.dealer.currency
    currency = currency or (own if own in found or not found else found[0])
    span = statistics.until(months.of(ask.now, zone), int(count), zone)
    return Asked(count, currency, span, found or [currency])


def shown(ask: Ask) -> Any:
    asked = _asked(ask)
    with desk.opened(ask.config):
        sold = statistics.sold(asked.span, asked.currency)
        dealers = statistics.by_dealer(asked.span[0].since, asked.span[-1].until, asked.currency)
    stayed = statistics.churn(asked.span, ask.config.site.timezone)
    used = {period.name: statistics.conversion(period) for period in asked.span}
    plans = _by_plan(sold)
    return ask.page(
        "dealer_statistics.html",
        asked=asked,
        spans=SPANS,
        received=_points(asked, {name: _sum(by).paid_minor for name, by in sold.items()}),
        customers=[Point(name, one.active, f"{one.active} customers") for name, one in stayed.items()],
        plans=plans,
        most=max((one.paid_minor for one in plans.values()), default=0),
        total=_sum(plans),
        stayed=stayed,
        used=_by_month(used),
        used_by_plan=_used_by_plan(used),
        dealers=dealers[:20],
        text=lambda minor: money.text(minor, asked.currency),
        url=dealer_url,
        anything=bool(plans or dealers or any(used.values())),
    )


def _points(asked: Asked, values: dict[str, int]) -> list[Point]:
    return [Point(name, max(0, minor), money.text(minor, asked.currency)) for name, minor in values.items()]


def _sum(of: dict[str, Sold]) -> Sold:
    return Sold(*(sum(values) for values in zip(*of.values(), strict=True))) if of else Sold()


def _by_plan(sold: dict[str, dict[str, Sold]]) -> dict[str, Sold]:
    """Who brought most first."""
    found: dict[str, Sold] = {}
    for by in sold.values():
        for plan, one in by.items():
            found[plan] = Sold(*(a + b for a, b in zip(found.get(plan, Sold()), one, strict=True)))
    return dict(sorted(found.items(), key=lambda pair: (-pair[1].paid_minor, pair[0])))


def _by_month(used: dict[str, dict[str, Used]]) -> dict[str, Used]:
    return {name: _used(list(by.values())) for name, by in used.items() if by}


def _used_by_plan(used: dict[str, dict[str, Used]]) -> dict[str, Used]:
    plans = sorted({plan for by in used.values() for plan in by})
    return {plan: _used([by[plan] for by in used.values() if plan in by]) for plan in plans}


def _used(of: Sequence[Used]) -> Used:
    return Used(sum(one.printed for one in of), sum(one.used for one in of))


# The same as lists, for spreadsheets


def sales(ask: Ask) -> Any:
    asked = _asked(ask)
    rows = [
        {
            "month": name,
            "plan": plan,
            "sales": one.times,
            "charged": one.amount_minor,
            "received": one.paid_minor,
            "currency": asked.currency,
        }
        for name, by in statistics.sold(asked.span, asked.currency).items()
        for plan, one in by.items()
    ]
    of = List(
        title="Sales by month and plan",
        query=Rows([{**row, "id": f"{row['month']} {row['plan']}"} for row in rows]),
        columns=(
            Column("month", "Month", By(lambda row: row["month"])),
            Column("plan", "Plan", By(lambda row: row["plan"])),
            Column("sales", "Sales", By(lambda row: row["sales"]), number=True),
            *_amounts(("charged", "Charged"), ("received", "Received")),
            Column("currency", "Currency"),
        ),
        order="-month",
        search=lambda text: lambda row: text in (row["plan"], row["month"]),
        empty="Nothing was sold in that time.",
        fill=lambda rows: [_in_words(row, asked.currency, ("charged", "received")) for row in rows],
        keeps=("months", "currency"),
    )
    return of.respond(ask, "dealer_statistics_list.html", asked=asked)


def by_dealer(ask: Ask) -> Any:
    asked = _asked(ask)
    with desk.opened(ask.config):
        found = statistics.by_dealer(asked.span[0].since, asked.span[-1].until, asked.currency)
    rows = [
        {
            "dealer": one.dealer,
            "received": one.base_minor,
            "earned": one.earned_minor,
            "printed": one.vouchers.printed,
            "used": one.vouchers.used,
            "share": one.vouchers.share,
            "currency": asked.currency,
        }
        for one in found
    ]
    of = List(
        title="Dealers in that time",
        query=Rows(rows),
        columns=(
            Column("dealer", "Dealer", By(lambda row: row["dealer"]), link=lambda row: dealer_url(row["dealer"])),
            *_amounts(("received", "Money received"), ("earned", "Earned")),
            Column("currency", "Currency"),
            Column("printed", "Vouchers", By(lambda row: row["printed"]), number=True),
            Column("used", "Used", By(lambda row: row["used"]), number=True),
            Column("share", "Used, %", By(lambda row: row["share"]), number=True),
        ),
        order="-received",
        search=lambda text: lambda row: text in str(row["dealer"]),
        empty="No dealer has earned anything in that time.",
        row_id="dealer",
        fill=lambda rows: [_in_words(row, asked.currency, ("received", "earned")) for row in rows],
        keeps=("months", "currency"),
    )
    return of.respond(ask, "dealer_statistics_list.html", asked=asked)


def _amounts(*pairs: tuple[str, str]) -> list[Column]:
    return [Column(key, title, By(itemgetter(key)), number=True) for key, title in pairs]


def _in_words(row: Any, currency: str, keys: Sequence[str]) -> Any:
    return {**row, **{key: money.plain(row[key], currency) for key in keys}}


PAGES = (
    Page("/dealer-statistics", shown, nav="Statistics"),
    Page("/dealer-statistics/sales", sales),
    Page("/dealer-statistics/dealers", by_dealer),
)
