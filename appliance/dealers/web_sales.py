"""The register of sales: what was charged, what was paid for it, and what a dealer earns on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import peewee

from appliance.accounts import manage, sales
from appliance.accounts.models import Account, Charge, Payment, Plan, core_db
from appliance.accounts.web_parts import local, plan_names
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, Row, begins
from appliance.admin.paths import part
from appliance.dealers import desk, money
from appliance.dealers.models import Dealer, Posting
from appliance.dealers.web import KINDS as POSTINGS
from appliance.dealers.web import url as dealer_url
from appliance.errors import Missing, UserError

KINDS = {"activation": "began with a plan", "renewal": "went on", "voucher": "voucher used"}
BY_HAND = {kind: KINDS[kind] for kind in ("activation", "renewal")}

_PAID: Any = Payment.select(peewee.fn.COALESCE(peewee.fn.SUM(Payment.amount_minor), 0)).where(
    Payment.charge == Charge.id
)
_OPEN = Charge.cancelled_at.is_null() & (Charge.amount_minor > _PAID)
_STATES = {
    "open": _OPEN,
    "paid": Charge.cancelled_at.is_null() & (Charge.amount_minor <= _PAID),
    "cancelled": Charge.cancelled_at.is_null(False),
}


def listed(ask: Ask) -> Any:
    at = local(ask)
    of = List(
        title="Sales",
        query=Charge.select(
            Charge.id,
            Charge.at,
            Charge.kind,
            Charge.account,
            Charge.batch,
            Charge.plan,
            Charge.amount_minor,
            _PAID.alias("paid_minor"),
            Charge.currency,
            Charge.cancelled_at,
            Charge.source,
        ),
        columns=(
            Column("at", "When", Charge.at, show=at, link=lambda row: f"/sales/{row['id']}"),
            Column("kind", "What", Charge.kind, show=lambda kind: KINDS.get(kind, kind)),
            Column("account", "Account", Charge.account, link=_account_url),
            Column("batch", "Batch", Charge.batch, link=_batch_url),
            Column("plan", "Plan", Charge.plan),
            Column("amount", "Amount", Charge.amount_minor, number=True),
            Column("paid", "Paid", number=True),
            Column("currency", "Currency"),
            Column("state", "State"),
            Column("source", "Source"),
        ),
        order="-at",
        search=_search,
        choices=(
            Choice("state", "State", _STATES),
            Choice("kind", "What", {kind: Charge.kind == kind for kind in KINDS}, KINDS),
        ),
        empty="Nothing was sold yet. Plans with a price, and batches of vouchers with one, sell by themselves.",
        fill=_filled,
    )
    return of.respond(ask, "sales.html", may=ask.person.may("operator"))


def _account_url(row: Row) -> str:
    return f"/accounts/{part(row['account'])}" if row["account"] else ""


def _batch_url(row: Row) -> str:
    return f"/vouchers/batch/{part(row['batch'])}" if row["batch"] else ""


def _search(text: str) -> Any:
    return begins(Charge.account, text) | (Charge.batch == text) | (Charge.source == text) | (Charge.plan == text)


def _filled(rows: Sequence[Row]) -> Sequence[Row]:
    return [{**row, **_words(row)} for row in rows]


def _words(row: Row) -> dict[str, str]:
    amount, paid, currency = int(str(row["amount_minor"])), int(str(row["paid_minor"])), str(row["currency"])
    state = "paid" if paid >= amount else "partly paid" if paid else "open"
    return {
        "amount": money.plain(amount, currency),
        "paid": money.plain(paid, currency),
        "state": "cancelled" if row["cancelled_at"] else state,
    }


def payments(ask: Ask) -> Any:
    """Money as it came, refunds with a minus."""
    at = local(ask)
    of = List(
        title="Payments",
        query=Payment.select(
            Payment.id,
            Payment.at,
            Payment.amount_minor,
            Charge.currency,
            Charge.account,
            Charge.batch,
            Charge.plan,
            Payment.method,
            Payment.reference,
            Payment.charge.alias("charge_id"),
        ).join(Charge),
        columns=(
            Column("at", "When", Payment.at, show=at, link=lambda row: f"/sales/{row['charge_id']}"),
            Column("amount", "Amount", Payment.amount_minor, number=True),
            Column("currency", "Currency"),
            Column("account", "Account", Charge.account, link=_account_url),
            Column("batch", "Batch", Charge.batch, link=_batch_url),
            Column("plan", "Plan", Charge.plan),
            Column("method", "How", Payment.method),
            Column("reference", "Reference", Payment.reference),
        ),
        order="-at",
        search=lambda text: begins(Charge.account, text) | (Payment.reference == text) | (Charge.batch == text),
        choices=(
            Choice("kind", "What", {"money": Payment.refund_of.is_null(), "refunds": Payment.refund_of.is_null(False)}),
        ),
        empty="No money was recorded yet.",
        fill=lambda rows: [
            {**row, "amount": money.plain(int(str(row["amount_minor"])), str(row["currency"]))} for row in rows
        ],
    )
    return of.respond(ask, "sales_payments.html")


# By hand


def new(ask: Ask) -> Any:
    typed = {"day": desk.day(ask.now, ask.config.site.timezone), "paid": "1", "account": ask.query().get("account", "")}
    return _form(ask, typed, "")


def _form(ask: Ask, typed: Mapping[str, str], error: str) -> Any:
    plans = {row.name: _price(row) for row in Plan.select(Plan.name, Plan.price_minor, Plan.currency)}
    return ask.page(
        "sale_new.html",
        400 if error else 200,
        typed=typed,
        error=error,
        kinds=BY_HAND,
        plans=plan_names(),
        prices={name: price for name, price in plans.items() if price},
        currency=ask.config.dealer.currency,
    )


def _price(plan: Any) -> str:
    return money.text(plan.price_minor, plan.currency) if plan.price_minor else ""


def add(ask: Ask) -> Any:
    form = ask.form()
    try:
        with core_db.atomic():
            charge = _charged(ask, form)
            if "paid" in form:
                reference, how = form.get("reference", "").strip(), form.get("method", "").strip()
                sales.pay(charge, charge.amount_minor, charge.at, how, reference)
            after = {"amount": money.text(charge.amount_minor, charge.currency), "plan": charge.plan}
            audit.record(ask.person.name, "sold", f"account {charge.account}", {}, after | {"paid": "paid" in form})
    except UserError as error:
        return _form(ask, form, str(error))
    return ask.done(f"/sales/{charge.id}", "The sale is recorded.")


def _charged(ask: Ask, form: Mapping[str, str]) -> Any:
    name = form.get("account", "").strip()
    account = manage.get(Account, name, "account")
    plan = manage.get(Plan, form.get("plan", ""), "plan")
    currency = form.get("currency", "").strip().upper() or plan.currency or ask.config.dealer.currency
    amount = money.parse(form["amount"], currency) if form.get("amount", "").strip() else plan.price_minor
    if not amount:
        raise UserError(f"plan {plan.name} has no price: write the amount")
    kind = form.get("kind", "") if form.get("kind") in BY_HAND else "renewal"
    when = desk.come(form.get("day", ""), ask.config.site.timezone, ask.now)
    return sales.charge(kind, amount, currency, when, sales.own_source("hand"), account=account, plan=plan.name)


# One of them


def _found(number: str) -> Any:
    row = Charge.get_or_none(Charge.id == int(number)) if number.isdecimal() and len(number) < 19 else None
    if row is None:
        raise Missing("there is no such sale")
    return row


def shown(ask: Ask, number: str) -> Any:
    return _page(ask, _found(number))


def _page(ask: Ask, charge: Any, error: str = "") -> Any:
    rows = list(Payment.select().where(Payment.charge == charge).order_by(Payment.at, Payment.id))
    with desk.opened(ask.config):
        earned = list(
            Posting.select(Posting, Dealer).join(Dealer).where(Posting.charge == charge.source).order_by(Posting.id)
        )
    return ask.page(
        "sale.html",
        400 if error else 200,
        charge=charge,
        payments=rows,
        earned=earned,
        paid=sum(row.amount_minor for row in rows),
        open=sales.open_minor(charge),
        error=error,
        kinds=KINDS,
        postings=POSTINGS,
        text=money.text,
        plain=money.plain,
        at=local(ask),
        may=ask.person.may("operator"),
        dealer_url=dealer_url,
        today=desk.day(ask.now, ask.config.site.timezone),
    )


def pay(ask: Ask, number: str) -> Any:
    """A payment, or with `refund` a part of one that is given back."""
    form, charge = ask.form(), _found(number)
    try:
        minor = money.parse(form.get("amount", ""), charge.currency)
        when = desk.come(form.get("day", ""), ask.config.site.timezone, ask.now)
        reference = form.get("reference", "").strip()
        with core_db.atomic():
            if "refund" in form:
                sales.refund(_payment(charge, form["refund"]), minor, when, reference)
            else:
                sales.pay(charge, minor, when, form.get("method", "").strip(), reference)
            what = "refunded" if "refund" in form else "paid"
            after = {"amount": money.text(minor, charge.currency), "reference": reference}
            audit.record(ask.person.name, what, f"sale {charge.source}", {}, after)
    except UserError as error:
        return _page(ask, charge, str(error))
    return ask.done(f"/sales/{number}", "It is recorded; the dealer’s commission follows within seconds.")


def _payment(charge: Any, number: str) -> Any:
    known = int(number) if number.isdecimal() and len(number) < 19 else 0
    found = Payment.get_or_none((Payment.charge == charge) & (Payment.id == known))
    if found is None:
        raise UserError("there is no such payment of this sale")
    return found


def cancel(ask: Ask, number: str) -> Any:
    charge = _found(number)
    try:
        with core_db.atomic():
            sales.cancel(charge, ask.now)
            audit.record(ask.person.name, "cancelled", f"sale {charge.source}", {}, {"cancelled": True})
    except UserError as error:
        return _page(ask, charge, str(error))
    return ask.done(f"/sales/{number}", "The sale is cancelled: nobody is to pay for it any more.")


PAGES = (
    Page("/sales", listed, nav="Sales"),
    Page("/sales/payments", payments),
    Page("/sales/new", new, role="operator"),
    Page("/sales/new", add, "POST"),
    Page("/sales/<number>", shown),
    Page("/sales/<number>/pay", pay, "POST"),
    Page("/sales/<number>/cancel", cancel, "POST"),
)
