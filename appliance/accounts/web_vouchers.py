"""The pages for vouchers: batches and what became of them, made, printed, extended, taken back and removed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from appliance.accounts import sheets, vouchers, wording
from appliance.accounts.models import Account, Plan, VoucherBatch, core_db
from appliance.accounts.web_parts import account_url, batch_url, local, plan_names, unsure
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, Row
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.island import signing

PRINTED = 240  # vouchers in one file or on one page: twenty sheets of A4, a second or two of work
_SUMS = ("made", "unused", "used", "lapsed", "revoked")
_KINDS = {"a4": "A4 cards", "58mm": "58 mm slips", "80mm": "80 mm slips"}


def batches(ask: Ask) -> Any:
    def counted(rows: Sequence[Row]) -> Sequence[Row]:
        found = vouchers.summary(ask.now, [int(str(row["id"])) for row in rows])
        none = dict.fromkeys(_SUMS, 0)
        return [{**row, **found.get(int(str(row["id"])), none), "price": _price(row)} for row in rows]

    of = List(
        title="Vouchers",
        query=VoucherBatch.select(
            VoucherBatch.id,
            VoucherBatch.name,
            Plan.name.alias("plan"),
            VoucherBatch.price_minor,
            VoucherBatch.currency,
            VoucherBatch.unused_until,
            VoucherBatch.created_at,
        )
        .join(Plan)
        .where(vouchers.complete()),
        columns=(
            Column("name", "Batch", VoucherBatch.name, link=lambda row: batch_url(str(row["name"]))),
            Column("plan", "Plan", Plan.name),
            Column("price", "Price"),
            *(Column(key, key.capitalize(), number=True) for key in _SUMS),
            Column("unused_until", "First login until", VoucherBatch.unused_until, show=_day(ask)),
            Column("created_at", "Made", VoucherBatch.id, show=local(ask)),
        ),
        order="-created_at",
        search=lambda text: VoucherBatch.name.contains(text),
        choices=(
            Choice("plan", "Plan", {p.name: VoucherBatch.plan == p.id for p in Plan.select().order_by(Plan.name)}),
        ),
        empty="No vouchers yet. Make a plan first, then a batch of vouchers with it.",
        fill=counted,
    )
    return of.respond(ask, "vouchers.html")


def _price(row: Row) -> str:
    return vouchers.format_price(int(str(row["price_minor"])), str(row["currency"]))


def _day(ask: Ask) -> Any:
    return lambda until: vouchers.last_day(until, ask.config)


def find(ask: Ask) -> Any:
    """However it is typed: the voucher is an account."""
    return ask.done(account_url({"name": vouchers.find(ask.query().get("code", "")).name}))


def batch(ask: Ask, name: str) -> Any:
    return _batch_page(ask, vouchers.get_batch(name))


def _batch_page(ask: Ask, row: Any, error: str = "", day: str | None = None) -> Any:
    word = vouchers.state(ask.now)
    counts = vouchers.counts(ask.now, [row.id]).get(row.id, dict.fromkeys(vouchers.STATES, 0))
    of = List(
        title=f"Batch {row.name}",
        query=vouchers.select(
            Account.id, Account.name, word.alias("state"), Account.first_login_at, Account.valid_until
        ).where(Account.batch == row),
        columns=(
            Column("name", "Code", Account.id, show=vouchers.grouped, link=account_url),
            Column("state", "State"),
            Column("first_login_at", "First login", Account.first_login_at, show=local(ask)),
            Column("valid_until", "Until", Account.valid_until, show=local(ask)),
        ),
        order="name",
        choices=(Choice("state", "State", {state: word == state for state in vouchers.STATES}),),
        empty="No voucher of this batch is left.",
    )
    return of.respond(
        ask,
        "voucher_batch.html",
        status=400 if error else 200,
        batch=row,
        url=batch_url(row.name),
        words=wording.plan(row.plan),
        price=vouchers.format_price(row.price_minor, row.currency),
        day=vouchers.last_day(row.unused_until, ask.config) if day is None else day,
        counts=counts,
        kinds=_KINDS,
        parts_to_print=range(0, counts["unused"], PRINTED),
        printed=PRINTED,
        error=error,
    )


# Making


def new(ask: Ask) -> Any:
    return _form(ask, {"plan": ask.query().get("plan", ""), "length": str(vouchers.LENGTH)}, "")


def _form(ask: Ask, typed: Mapping[str, str], error: str) -> Any:
    sites = ["", *signing.sites(ask.config)]
    names = plan_names()
    return ask.page("voucher_new.html", 400 if error else 200, typed=typed, error=error, plans=names, sites=sites)


def make(ask: Ask) -> Any:
    """What would be made is shown first; nothing is written before that was said yes to."""
    form = ask.form()
    if "back" in form:
        return _form(ask, form, "")
    try:
        order = _order(form, ask)
        plan = vouchers.check(order)
        if page := unsure(ask, f"Make {order.count:,} vouchers?", _preview(order, plan, ask), "Make them"):
            return page
        after = {"plan": order.plan, "count": order.count, "price_minor": order.price_minor}
        box, who = load_box(ask.config.paths.state), ask.person.name
        vouchers.make(order, box, lambda: audit.record(who, "added", f"batch {order.batch}", {}, after))
    except UserError as error:
        return _form(ask, form, str(error))
    return ask.done(batch_url(order.batch), f"{order.count:,} vouchers are made.")


def _order(form: Mapping[str, str], ask: Ask) -> vouchers.Order:
    price, currency, day = (form.get(key, "").strip() for key in ("price", "currency", "unused_until"))
    until, site = vouchers.parse_last_day(day, ask.config) if day else None, form.get("offline", "")
    return vouchers.Order(
        batch=form.get("name", "").strip(),
        plan=form.get("plan", ""),
        count=_number(form.get("count", ""), "vouchers"),
        prefix=form.get("prefix", "").strip(),
        length=_number(form.get("length", "") or str(vouchers.LENGTH), "characters"),
        price_minor=vouchers.parse_price(price, currency) if price else 0,
        currency=currency if price else "",
        unused_until=until,
        offline=signing.where(ask.config, site, until) if site else None,
    )


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UserError(f"{text!r} is no number of {what}")
    return int(text)


def _preview(order: vouchers.Order, plan: Any, ask: Ask) -> Iterator[str]:
    yield f"Batch {order.batch}, plan {order.plan}"
    yield from wording.plan(plan)
    if order.offline is not None:
        yield f"Codes of 20 characters, which {order.offline.site} takes also while it is cut off from the database"
    else:
        yield f"Codes such as {vouchers.grouped(vouchers.new_code(order))} (this one isn’t among them)"
    if order.price_minor:
        yield f"{vouchers.format_price(order.price_minor, order.currency)} each"
    if order.unused_until is not None:
        yield f"First login until {vouchers.last_day(order.unused_until, ask.config)}, else they lapse"


# On paper


def print_batch(ask: Ask, name: str) -> Any:
    """What is unused, PRINTED at a time; `format` is one of `vouchers.FORMATS`, else a page to print from."""
    row, asked = vouchers.get_batch(name), ask.query()
    begin = _number(asked.get("from", "0"), "vouchers")
    codes = vouchers.unused(row, ask.now)[begin : begin + PRINTED]
    if not codes:
        raise UserError(f"batch {name!r} has no unused vouchers from there on: nothing to print")
    form = asked.get("format", "")
    if form in vouchers.FORMATS:
        suffix = f"-{begin + 1}" if begin else ""
        return ask.file(sheets.pdf(row, codes, form, ask.config), f"{row.name}{suffix}-{form}.pdf", "application/pdf")
    cards = [(vouchers.grouped(code), *sheets.qr_path(vouchers.login_url(ask.config, code))) for code in codes]
    return ask.page("voucher_print.html", batch=row, sheet=sheets.of(row, ask.config), cards=cards)


# Changing


def extend(ask: Ask, name: str) -> Any:
    row, day = vouchers.get_batch(name), ask.form().get("unused_until", "").strip()
    before = {"unused_until": vouchers.last_day(row.unused_until, ask.config)}
    try:
        until = vouchers.parse_last_day(day, ask.config) if day else None
    except UserError as error:
        return _batch_page(ask, row, str(error), day)
    with core_db.atomic():
        count = vouchers.extend(name, until)
        audit.record(ask.person.name, "changed", f"batch {name}", before, {"unused_until": day})
    return ask.done(batch_url(name), f"{count:,} vouchers may be used first until {day or 'ever'}.")


def revoke(ask: Ask, name: str) -> Any:
    row = vouchers.get_batch(name)
    if "back" in ask.form():
        return ask.done(batch_url(name))
    counts = vouchers.counts(ask.now, [row.id]).get(row.id, {})
    lines = [f"{count:,} {state}" for state, count in counts.items() if count and state != "revoked"]
    if page := unsure(ask, f"Revoke all of {name}?", [*lines, "Who is online with one is let go."], "Revoke them"):
        return page
    count, _ = vouchers.revoke(name)
    audit.record(ask.person.name, "revoked", f"batch {name}", {}, {"vouchers": count})
    return ask.done(batch_url(name), f"{count:,} vouchers can’t log in any more.")


def remove(ask: Ask, name: str) -> Any:
    row = vouchers.get_batch(name)
    if "back" in ask.form():
        return ask.done(batch_url(name))
    unused = int(Account.select().where(Account.batch == row, Account.first_login_at.is_null()).count())
    lines = (f"{unused:,} vouchers that nobody has ever logged in with go.", "Used ones stay.")
    if page := unsure(ask, f"Remove what is unused of {name}?", lines, "Remove them"):
        return page
    removed, stay = vouchers.remove(name)
    audit.record(ask.person.name, "removed", f"batch {name}", {"vouchers": removed + stay}, {"vouchers": stay})
    return ask.done(batch_url(name) if stay else "/vouchers", f"{removed:,} vouchers are removed, {stay:,} stay.")


PAGES = (
    Page("/vouchers", batches, nav="Vouchers"),
    Page("/vouchers/find", find),
    Page("/vouchers/new", new, role="operator"),
    Page("/vouchers/new", make, "POST"),
    Page("/vouchers/batch/<name>", batch),
    Page("/vouchers/batch/<name>/print", print_batch, role="operator"),
    Page("/vouchers/batch/<name>/extend", extend, "POST"),
    Page("/vouchers/batch/<name>/revoke", revoke, "POST"),
    Page("/vouchers/batch/<name>/remove", remove, "POST"),
)
