"""Files that bring many things at once, each with a preview: sales out of a table, the bank's statement."""

from typing import Any

from appliance.accounts import sales_import
from appliance.accounts.models import core_db
from appliance.accounts.web_parts import local
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.uploads import Uploads
from appliance.dealers import bank_import, desk, money
from appliance.errors import UserError

MOST_BYTES = 2_000_000
_SHOWN, _COMPLAINTS = 50, 100
STATES = {
    bank_import.MATCHED: "marks as paid",
    bank_import.KNOWN: "known already",
    bank_import.UNMATCHED: "nobody knows what for",
    bank_import.OTHER: "nothing to do with dealers",
}

_tables, _statements = Uploads(), Uploads()


# Sales


def sales_form(ask: Ask) -> Any:
    return _sales_form(ask, "")


def _sales_form(ask: Ask, error: str) -> Any:
    return ask.page(
        "sales_import.html",
        400 if error else 200,
        error=error,
        columns=sales_import.COLUMNS,
        needed=sales_import.NEEDED,
        currency=ask.config.dealer.currency,
        most=MOST_BYTES,
    )


def sales_preview(ask: Ask) -> Any:
    try:
        content = ask.upload("file", MOST_BYTES)
        table = sales_import.read(content, ask.config)
    except UserError as error:
        return _sales_form(ask, str(error))
    token = _tables.keep(ask.person.name, content, ask.now) if table.rows and not table.errors else ""
    return _sales_page(ask, table, token)


def _sales_page(ask: Ask, table: sales_import.Table, token: str) -> Any:
    sums: dict[str, int] = {}
    for row in table.rows:
        sums[row.currency] = sums.get(row.currency, 0) + row.amount_minor
    return ask.page(
        "sales_preview.html",
        table=table,
        rows=table.rows[:_SHOWN],
        errors=table.errors[:_COMPLAINTS],
        sums=sums,
        token=token,
        text=money.text,
        at=local(ask),
    )


def sales_write(ask: Ask) -> Any:
    form, who = ask.form(), ask.person.name
    try:
        content = _tables.take(form.get("token", ""), who, ask.now)
        table = sales_import.read(content, ask.config)
        count = len(table.rows)
        if form.get("seen", "") != str(count):  # something was recorded meanwhile
            return _sales_page(ask, table, _tables.keep(who, content, ask.now))
        sales_import.write(table, lambda: audit.record(who, "imported", f"{count} sales", {}, {}))
    except UserError as error:
        return _sales_form(ask, str(error))
    return ask.done("/sales", f"{count} lines are recorded.")


# The bank's statement


def bank_form(ask: Ask) -> Any:
    return _bank_form(ask, "")


def _bank_form(ask: Ask, error: str) -> Any:
    return ask.page("bank_import.html", 400 if error else 200, error=error, most=MOST_BYTES)


def bank_preview(ask: Ask) -> Any:
    """Nothing is marked as paid before that was said yes to."""
    with desk.opened(ask.config):
        try:
            content = ask.upload("file", MOST_BYTES)
            outcomes = bank_import.look(ask.config, bank_import.read(content, ask.config))
        except UserError as error:
            return _bank_form(ask, str(error))
    matched = sum(one.state == bank_import.MATCHED for one in outcomes)
    token = _statements.keep(ask.person.name, content, ask.now) if matched else ""
    return _bank_page(ask, outcomes, token)


def _bank_page(ask: Ask, outcomes: list[bank_import.Outcome], token: str) -> Any:
    zone = ask.config.site.timezone
    order = list(STATES)
    return ask.page(
        "bank_preview.html",
        outcomes=sorted(outcomes, key=lambda one: order.index(one.state))[:500],
        counts={state: sum(one.state == state for one in outcomes) for state in STATES},
        states=STATES,
        token=token,
        text=money.text,
        day=lambda at: desk.day(at, zone),
    )


def bank_write(ask: Ask) -> Any:
    form, who = ask.form(), ask.person.name
    with desk.opened(ask.config):
        try:
            content = _statements.take(form.get("token", ""), who, ask.now)
            outcomes = bank_import.apply(ask.config, bank_import.read(content, ask.config), who)
        except UserError as error:
            return _bank_form(ask, str(error))
    paid = [one.invoice for one in outcomes if one.state == bank_import.MATCHED]
    with core_db.atomic():
        audit.record(who, "imported", "bank statement", {}, {"movements": len(outcomes), "invoices": paid[:200]})
    what = "1 movement was" if len(paid) == 1 else f"{len(paid)} movements were"
    return ask.done("/invoices?state=paid", f"{what} taken over.")


PAGES = (
    Page("/sales/import", sales_form, role="operator"),
    Page("/sales/import", sales_preview, "POST"),
    Page("/sales/import/write", sales_write, "POST"),
    Page("/payouts/statement", bank_form, role="operator"),
    Page("/payouts/statement", bank_preview, "POST"),
    Page("/payouts/statement/write", bank_write, "POST"),
)
