"""The month's end: what would be settled and why, then that it is, with its invoices."""

from typing import Any, NamedTuple

import peewee

from appliance.accounts.models import core_db
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List
from appliance.admin.rows import By, Rows
from appliance.dealers import dealers, desk, invoices, ledger_db, money, month_end, months, settlement
from appliance.dealers.models import Dealer, Invoice, Settlement
from appliance.dealers.months import Period
from appliance.dealers.settlement import CARRIED, DONE, DUE, NOTHING, Brief
from appliance.dealers.web import KINDS
from appliance.dealers.web import url as dealer_url
from appliance.errors import UserError

WORDS = {DUE: "due", DONE: "settled", CARRIED: "carried on", NOTHING: "nothing due"}
_PAST = 24


class Sum(NamedTuple):
    """What is due in one currency."""

    currency: str
    dealers: int
    amount_minor: int


def shown(ask: Ask) -> Any:
    return _page(ask, _period(ask))


def _period(ask: Ask) -> Period:
    zone = ask.config.site.timezone
    asked = ask.query().get("period", "") or ask.form().get("period", "")
    return months.period(asked, zone) if asked else months.before(ask.now, zone)


def _page(ask: Ask, period: Period, error: str = "") -> Any:
    with desk.opened(ask.config):
        found = list(settlement.briefs(ask.config, period))
        shown_ = [plan for plan in found if plan.postings or plan.state != NOTHING]
        return ask.page(
            "settlement.html",
            400 if error else 200,
            error=error,
            period=period,
            before=months.of(period.since - 1, ask.config.site.timezone).name,
            after=months.of(period.until, ask.config.site.timezone).name,
            over=ask.now >= period.until,
            plans=sorted(shown_, key=lambda plan: (list(WORDS).index(plan.state), plan.dealer.name)),
            words=WORDS,
            sums=_sums(found),
            invoices=_invoices(period),
            drafts=month_end.drafts_of(period.name),
            lacking=lambda draft: invoices.lacking(ask.config, draft.dealer, ask.now),
            past=_past(),
            missing=ask.config.dealer.missing(),
            text=money.text,
            url=dealer_url,
            may=ask.person.may("operator"),
        )


def _sums(plans: list[Brief]) -> list[Sum]:
    found: dict[str, Sum] = {}
    for plan in plans:
        if plan.state == DUE:
            before = found.get(plan.currency, Sum(plan.currency, 0, 0))
            found[plan.currency] = Sum(plan.currency, before.dealers + 1, before.amount_minor + plan.amount_minor)
    return [found[currency] for currency in sorted(found)]


def _invoices(period: Period) -> dict[tuple[str, str], Any]:
    """The live invoice of a dealer's settlement, by dealer and currency."""
    live = (Invoice.period == period.name) & (Invoice.kind == "invoice") & Invoice.cancelled_at.is_null()
    rows = Invoice.select(Invoice, Dealer).join(Dealer).where(live)
    return {(row.dealer.name, row.currency): row for row in rows}


def _past() -> list[tuple[str, str, int, int]]:
    """Month, currency, dealers and amount."""
    count, total = peewee.fn.COUNT(Settlement.id), peewee.fn.SUM(Settlement.amount_minor)
    rows: Any = Settlement.select(Settlement.period, Settlement.currency, count, total)
    rows = rows.group_by(Settlement.period, Settlement.currency).order_by(Settlement.period.desc()).limit(_PAST)
    return list(rows.tuples())


def run(ask: Ask) -> Any:
    """Settles what is due, and issues the invoices."""
    period = _period(ask)
    try:
        with desk.opened(ask.config):
            outcome = month_end.run(ask.config, period, ask.person.name, ask.now)
            with core_db.atomic():
                after = {"settled": len(outcome.settled), "invoices": [row.number for row in outcome.issued]}
                audit.record(ask.person.name, "settled", f"month {period.name}", {}, after)
    except UserError as error:
        return _page(ask, period, str(error))
    return ask.done(f"/settlement?period={period.name}", " ".join(f"{line}." for line in outcome.lines())[:800])


def draft_again(ask: Ask) -> Any:
    """Another invoice of a settlement whose invoice was cancelled."""
    form = ask.form()
    number = form.get("settlement", "")
    with desk.opened(ask.config):
        row = Settlement.get_or_none(Settlement.id == (int(number) if number.isdecimal() else 0))
        if row is None:
            raise UserError("there is no such settlement")
        with ledger_db.writing():
            made = invoices.draft(ask.config, row, ask.now)
            audit.record(ask.person.name, "drafted", f"invoice {invoices.called(made)}", {}, {"period": row.period})
    return ask.done(f"/invoices/{made.id}", "A new draft, with today’s facts.")


def lines(ask: Ask, name: str) -> Any:
    """Each posting of a dealer that isn't settled yet: in or out, and why."""
    period, zone = _period(ask), ask.config.site.timezone
    with desk.opened(ask.config):
        dealer = dealers.get(name)
        rows = [
            {
                "posting": row.posting,
                "at": row.at,
                "kind": row.kind,
                "amount": money.plain(row.amount_minor, row.currency),
                "currency": row.currency,
                "included": "in" if row.included else "out",
                "why": row.why,
            }
            for row in settlement.preview(ask.config, period, [dealer])
        ]
    of = List(
        title=f"{name} in {period.name}",
        query=Rows(rows),
        columns=(
            Column("posting", "Posting", By(lambda row: row["posting"]), number=True),
            Column("at", "When", By(lambda row: row["at"]), show=lambda at: desk.day(at, zone)),
            Column("kind", "What", By(lambda row: row["kind"]), show=lambda kind: KINDS.get(kind, kind)),
            Column("amount", "Amount", number=True),
            Column("currency", "Currency"),
            Column("included", "In or out", By(lambda row: row["included"])),
            Column("why", "Why", By(lambda row: row["why"])),
        ),
        order="at",
        choices=(
            Choice(
                "included",
                "In or out",
                {word: lambda row, word=word: row["included"] == word for word in ("in", "out")},
            ),
        ),
        empty="Nothing that isn’t settled already.",
        row_id="posting",
        keeps=("period",),
    )
    return of.respond(ask, "settlement_lines.html", period=period.name, base=dealer_url(name))


PAGES = (
    Page("/settlement", shown, nav="Month end"),
    Page("/settlement", run, "POST"),
    Page("/settlement/draft", draft_again, "POST"),
    Page("/settlement/of/<name>", lines),
)
