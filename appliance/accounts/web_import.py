"""Accounts out of a table: shown with what is wrong in which line, then all good ones appear at once."""

from collections.abc import Mapping
from typing import Any

from appliance.accounts import imports, imports_csv, unfinished
from appliance.accounts.imports_csv import COLUMNS, Table
from appliance.accounts.web_parts import local, plan_names
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.uploads import Uploads
from appliance.crypto import load_box
from appliance.errors import UserError

MOST_BYTES = 1_000_000
_SHOWN, _COMPLAINTS = 20, 100


_uploads = Uploads()  # they hold passwords, which reach no disk in plain


def form(ask: Ask) -> Any:
    return _form(ask, {}, "")


def _form(ask: Ask, typed: Mapping[str, str], error: str) -> Any:
    status = 400 if error else 200
    return ask.page(
        "import.html", status, typed=typed, error=error, plans=plan_names(), columns=COLUMNS, most=MOST_BYTES
    )


def preview(ask: Ask) -> Any:
    """Nothing is written before that was said yes to."""
    typed = ask.form()
    try:
        content = ask.upload("file", MOST_BYTES)
        table = imports_csv.read(content, typed.get("plan", ""), ask.config)
    except UserError as error:
        return _form(ask, typed, str(error))
    token = _uploads.keep(ask.person.name, content, ask.now) if table.found.accounts else ""
    return _preview_page(ask, table, token, typed.get("plan", ""))


def _preview_page(ask: Ask, table: Table, token: str, plan: str) -> Any:
    accounts = list(table.found.accounts.values())
    return ask.page(
        "import_preview.html",
        table=table,
        count=len(accounts),
        accounts=accounts[:_SHOWN],
        errors=table.errors[:_COMPLAINTS],
        notes=table.notes[:_COMPLAINTS],
        token=token,
        plan=plan,
        at=local(ask),
    )


def write(ask: Ask) -> Any:
    typed, who = ask.form(), ask.person.name
    try:
        content = _uploads.take(typed.get("token", ""), who, ask.now)
        unfinished.sweep()
        table = imports_csv.read(content, typed.get("plan", ""), ask.config)
        count = len(table.found.accounts)
        if typed.get("seen", "") != str(count):
            token = _uploads.keep(who, content, ask.now)
            return _preview_page(ask, table, token, typed.get("plan", ""))
        names = {"names": ", ".join(list(table.found.accounts)[:_COMPLAINTS])}
        box = load_box(ask.config.paths.state)
        imports.write(table.found, box, lambda: audit.record(who, "imported", f"{count} accounts", {}, names))
    except UserError as error:
        return _form(ask, typed, str(error))
    return ask.page("imported.html", count=count, passwords=list(imports_csv.passwords(table)))


PAGES = (
    Page("/accounts/import", form, role="operator"),
    Page("/accounts/import", preview, "POST"),
    Page("/accounts/import/write", write, "POST"),
)
