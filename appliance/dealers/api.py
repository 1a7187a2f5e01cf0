"""Dealers, what they earn and their invoices, and what was sold, for programs. No password, no bank account."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from appliance.accounts import manage, sales
from appliance.accounts.models import Account, Charge, Payment
from appliance.api.resources import Call, Field, Resource, Values
from appliance.api.shapes import MAX_NUMBER, TIME, Flag, Maybe, Number, Part, Text
from appliance.api.web import routes
from appliance.dealers import dealers, desk, invoices, ledger, ledger_db
from appliance.dealers.models import Dealer, Invoice, Posting
from appliance.errors import UserError

MINOR = Number(-MAX_NUMBER, MAX_NUMBER)
SOME = Number(1, 10**15)
CURRENCY = Text(max=3)
_FACTS = ("contact", "email", "phone", "street", "house", "city", "postcode", "country", "company_id", "vat_id", "tax")
_GIVEN = (*_FACTS, "vat_rate", "currency", "state")


# Dealers


def _dealers(call: Call, asked: Values) -> Any:
    with desk.opened(call.config):
        query = Dealer.select()
        return query.where(Dealer.state == asked["state"]) if "state" in asked else query


def _dealer(call: Call, key: str) -> Any:
    with desk.opened(call.config):
        return Dealer.get_or_none(Dealer.name == key)


def _show_dealers(call: Call, rows: Sequence[Any]) -> list[Values]:
    with desk.opened(call.config):
        return [
            {key: getattr(row, key) for key in ("name", *_GIVEN, "login", "created_at")}
            | {f"{key}_minor": ledger.balance(row, row.currency, key) for key in ledger.OWN[:4]}
            for row in rows
        ]


@contextmanager
def _alone(call: Call) -> Iterator[None]:
    with desk.opened(call.config), ledger_db.writing():
        yield


def _add_dealer(call: Call, given: Values) -> tuple[str, Values]:
    columns = {"currency": call.config.dealer.currency} | {k: v for k, v in given.items() if k in _GIVEN}
    return str(dealers.add(given["name"], **columns).name), {}


def _change_dealer(call: Call, row: Any, given: Values) -> Values:
    dealers.change(row, {key: given[key] for key in _GIVEN if key in given})
    return {}


DEALERS = Resource(
    name="dealers",
    one="dealer",
    about="Those who sell for a commission. Log-ins, passwords and bank accounts are made on the pages only.",
    fields=(
        Field("name", Text(max=63), "letters, digits, '.', '_' and '-'", new=True, needed=True),
        *(Field(key, Text(max=200, min=0), key.replace("_", " "), new=True, change=True) for key in _FACTS),
        Field("vat_rate", Text(max=20, min=0), "percent; empty: as in the settings", new=True, change=True),
        Field("currency", CURRENCY, "ISO 4217", new=True, change=True),
        Field("state", Text(max=20), "active, suspended or ended", new=True, change=True),
        Field("login", Maybe(Text()), "to the dealer's own pages"),
        Field("accrued_minor", MINOR, "earned and not settled; cents"),
        Field("payable_minor", MINOR, "settled and not paid"),
        Field("paid_minor", MINOR, "paid until now"),
        Field("credit_minor", MINOR, "for vouchers"),
        Field("created_at", TIME, "UTC seconds"),
    ),
    sample={"name": "kiosk"},
    query=_dealers,
    filters=(Part("state", Text(max=20), "active, suspended or ended"),),
    order=(Dealer.id,),
    find=_dealer,
    show=_show_dealers,
    add=_add_dealer,
    change=_change_dealer,
    alone=_alone,
)


# What they earn


def _postings(call: Call, asked: Values) -> Any:
    with desk.opened(call.config):
        query = Posting.select(Posting, Dealer).join(Dealer)
        for key, field in (("dealer", Dealer.name), ("kind", Posting.kind), ("charge", Posting.charge)):
            query = query.where(field == asked[key]) if key in asked else query
        return query


_POSTED = ("n", "kind", "currency", "amount_minor", "at", "due_at", "charge", "base_minor", "rate", "note", "hash")


def _show_postings(call: Call, rows: Sequence[Any]) -> list[Values]:
    return [{"id": row.id, "dealer": row.dealer.name} | {key: getattr(row, key) for key in _POSTED} for row in rows]


COMMISSIONS = Resource(
    name="commissions",
    one="posting",
    about="Every posting of the dealers' ledger: commissions, refunds, settlements, payments, voucher credit.",
    fields=(
        Field("id", Number(1, MAX_NUMBER), "its number"),
        Field("dealer", Text(), "whose"),
        Field("n", Number(1, MAX_NUMBER), "the dealer's n-th"),
        Field("kind", Text(), "commission, refund, clawback, correction, settle, payout, ..."),
        Field("currency", CURRENCY, "ISO 4217"),
        Field("amount_minor", MINOR, "cents"),
        Field("at", TIME, "UTC seconds"),
        Field("due_at", TIME, "when its hold is over"),
        Field("charge", Text(min=0), "the source of the sale that it is on"),
        Field("base_minor", MINOR, "the money received that it is on"),
        Field("rate", Text(min=0), "as the scheme says"),
        Field("note", Text(min=0), "why"),
        Field("hash", Text(), "of it and of the hash before"),
    ),
    query=_postings,
    filters=(
        Part("dealer", Text(max=63), "whose"),
        Part("kind", Text(max=20), "of what kind"),
        Part("charge", Text(max=200), "on which sale"),
    ),
    order=(Posting.id,),
    newest_first=True,
    key="id",
    show=_show_postings,
)


def _invoices(call: Call, asked: Values) -> Any:
    with desk.opened(call.config):
        query = Invoice.select(Invoice, Dealer).join(Dealer)
        query = query.where(Dealer.name == asked["dealer"]) if "dealer" in asked else query
        return query.where(invoices.state_sql(call.now) == asked["state"]) if "state" in asked else query


def _show_invoices(call: Call, rows: Sequence[Any]) -> list[Values]:
    keys = (
        "id",
        "number",
        "kind",
        "period",
        "currency",
        "net_minor",
        "vat_minor",
        "total_minor",
        "issued_at",
        "due_at",
    )
    found = []
    with desk.opened(call.config):
        for row in rows:
            paid = invoices.paid_minor(row)
            state = invoices.state(row, paid, call.now)
            found.append(
                {key: getattr(row, key) for key in keys}
                | {"dealer": row.dealer.name, "paid_minor": paid, "state": state}
            )
    return found


INVOICES = Resource(
    name="invoices",
    one="invoice",
    about="Invoices and credit notes of dealers, drafts too.",
    fields=(
        Field("id", Number(1, MAX_NUMBER), "its number here"),
        Field("number", Maybe(Text()), "null for a draft"),
        Field("dealer", Text(), "whose"),
        Field("kind", Text(), "invoice or credit note"),
        Field("period", Text(min=0), "the month"),
        Field("currency", CURRENCY, "ISO 4217"),
        Field("net_minor", MINOR, "cents"),
        Field("vat_minor", MINOR, "cents"),
        Field("total_minor", MINOR, "cents"),
        Field("paid_minor", MINOR, "cents"),
        Field("issued_at", Maybe(TIME), "UTC seconds"),
        Field("due_at", Maybe(TIME), "UTC seconds"),
        Field("state", Text(), f"{', '.join(invoices.STATES)}"),
    ),
    query=_invoices,
    filters=(Part("dealer", Text(max=63), "whose"), Part("state", Text(max=20), "such as overdue")),
    order=(Invoice.id,),
    newest_first=True,
    key="id",
    show=_show_invoices,
)


# What was sold


def _charges(call: Call, asked: Values) -> Any:
    query = Charge.select()
    return query.where(Charge.account == asked["account"]) if "account" in asked else query


def _charge(call: Call, key: str) -> Any:
    return Charge.get_or_none(Charge.source == key)


def _show_charges(call: Call, rows: Sequence[Any]) -> list[Values]:
    keys = ("source", "kind", "account", "batch", "plan", "amount_minor", "currency", "at", "cancelled_at")
    return [{key: getattr(row, key) for key in keys} | {"paid_minor": sales.paid_minor(row)} for row in rows]


def _add_charge(call: Call, given: Values) -> tuple[str, Values]:
    """Of a source once: sent again, it is the same."""
    account = manage.get(Account, given["account"], "account")
    row = sales.charge(
        str(given["kind"]),
        given["amount_minor"],
        given["currency"],
        given.get("at", call.now),
        f"api:{given['source']}",
        account=account,
        plan=given.get("plan", account.plan.name),
    )
    return str(row.source), {}


CHARGES = Resource(
    name="charges",
    one="sale",
    about="What was sold. A program's own sales are known by their `source`: sent again, nothing happens.",
    fields=(
        Field("source", Text(max=100), "what it came from; a program's gets api: before it", new=True, needed=True),
        Field("kind", Text(max=20), "activation, renewal; or voucher", new=True, needed=True),
        Field("account", Text(max=253, min=0), "whose", new=True, needed=True),
        Field("batch", Text(min=0), "of a voucher"),
        Field("plan", Text(max=63, min=0), "the account's unless it says otherwise", new=True),
        Field("amount_minor", SOME, "cents", new=True, needed=True),
        Field("currency", CURRENCY, "ISO 4217", new=True, needed=True),
        Field("at", TIME, "UTC seconds; now unless it says otherwise", new=True),
        Field("paid_minor", MINOR, "cents"),
        Field("cancelled_at", Maybe(TIME), "UTC seconds"),
    ),
    query=_charges,
    filters=(Part("account", Text(max=253), "whose"),),
    order=(Charge.id,),
    newest_first=True,
    key="source",
    find=_charge,
    show=_show_charges,
    add=_add_charge,
)


def _payments(call: Call, asked: Values) -> Any:
    query = Payment.select(Payment, Charge).join(Charge)
    return query.where(Charge.source == asked["charge"]) if "charge" in asked else query


def _payment(call: Call, key: str) -> Any:
    return Payment.get_or_none(Payment.source == key)


def _show_payments(call: Call, rows: Sequence[Any]) -> list[Values]:
    keys = ("source", "amount_minor", "at", "method", "reference")
    return [
        {key: getattr(row, key) for key in keys}
        | {"charge": row.charge.source, "currency": row.charge.currency, "refund": row.refund_of_id is not None}
        for row in rows
    ]


def _add_payment(call: Call, given: Values) -> tuple[str, Values]:
    charge = Charge.get_or_none(Charge.source == given["charge"])
    if charge is None:
        raise UserError(f"there is no sale {given['charge']!r}")
    source = f"api:{given['source']}"
    how = (given.get("at", call.now), given.get("method", ""), given.get("reference", ""))
    return str(sales.pay(charge, given["amount_minor"], *how, source).source), {}


PAYMENTS = Resource(
    name="payments",
    one="payment",
    about="Money that came for sales; refunds are below zero. Known by their `source` as sales are.",
    fields=(
        Field("source", Text(max=100), "what it came from; a program's gets api: before it", new=True, needed=True),
        Field("charge", Text(max=200), "the source of the sale", new=True, needed=True),
        Field("amount_minor", MINOR, "cents", new=True, needed=True),
        Field("currency", CURRENCY, "the sale's"),
        Field("at", TIME, "UTC seconds; now unless it says otherwise", new=True),
        Field("method", Text(max=100, min=0), "such as cash", new=True),
        Field("reference", Text(max=200, min=0), "such as a receipt's number", new=True),
        Field("refund", Flag(), "given back"),
    ),
    query=_payments,
    filters=(Part("charge", Text(max=200), "for which sale"),),
    order=(Payment.id,),
    newest_first=True,
    key="source",
    find=_payment,
    show=_show_payments,
    add=_add_payment,
)

RESOURCES = (DEALERS, COMMISSIONS, INVOICES, CHARGES, PAYMENTS)
PAGES = routes(*RESOURCES)
