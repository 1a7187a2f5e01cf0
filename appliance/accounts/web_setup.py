"""The hotspot's steps of the first run: a plan, something to log in with, and whether the login page works."""

from collections.abc import Mapping
from typing import Any

from appliance.accounts import limits, manage, sheets, vouchers
from appliance.accounts.models import Plan, VoucherBatch, core_db
from appliance.accounts.web_parts import audited, batch_url, plan_names
from appliance.admin import audit, settings
from appliance.admin.frame import Ask, Page
from appliance.core import LOOPBACK, page
from appliance.crypto import load_box
from appliance.errors import UserError

DONE = "/setup/done"
PLAN = {"name": "guest", "down": "10M", "up": "2M", "validity": "1d", "simultaneous": "1"}
TITLES = {
    "down": ("Speed to the guest", "Such as 10M, in bits a second; empty: no limit"),
    "up": ("Speed from the guest", "Such as 2M"),
    "validity": ("Valid from the first login", "Such as 2h, 1d, 30d; empty: for good"),
    "simultaneous": ("Devices at once", "With one account or voucher; empty: any number"),
}
COUNT, AT_MOST = "24", 1000
BATCH = "first"


def plan(ask: Ask) -> Any:
    return _plan(ask, PLAN, "")


def _plan(ask: Ask, typed: Mapping[str, str], error: str) -> Any:
    return ask.page(
        "setup_plan.html", 400 if error else 200, typed=typed, error=error, titles=TITLES, plans=plan_names()
    )


def save_plan(ask: Ask) -> Any:
    form = ask.form()
    name = form.get("name", "").strip()
    given = {key: form.get(key, "").strip() or limits.NONE for key in TITLES}
    try:
        with core_db.atomic():
            manage.add_plan(name, limits.values(given))
            row = manage.get(Plan, name, "plan")
            audit.record(ask.person.name, "added", f"plan {name}", {}, limits.shown(manage.plan_columns(row)))
    except UserError as error:
        return _plan(ask, form, str(error))
    return ask.done("/setup/first", f"Plan {name} is saved.")


def first(ask: Ask) -> Any:
    return _first(ask, {"count": COUNT}, "")


def _first(ask: Ask, typed: Mapping[str, str], error: str) -> Any:
    return ask.page("setup_first.html", 400 if error else 200, typed=typed, error=error, plans=plan_names())


def make_vouchers(ask: Ask) -> Any:
    form = ask.form()
    try:
        text = form.get("count", "").strip()
        if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= AT_MOST):
            raise UserError(f"{text!r} is no number of vouchers: write 1 to {AT_MOST}")
        order = vouchers.Order(batch=_batch_name(), plan=form.get("plan", ""), count=int(text))
        vouchers.check(order)
        after = {"plan": order.plan, "count": order.count}
        box, who = load_box(ask.config.paths.state), ask.person.name
        vouchers.make(order, box, lambda: audit.record(who, "added", f"batch {order.batch}", {}, after))
    except UserError as error:
        return _first(ask, form, str(error))
    return ask.done(f"{DONE}?batch={order.batch}", f"{order.count:,} vouchers are made.")


def _batch_name() -> str:
    names = {row.name for row in VoucherBatch.select(VoucherBatch.name)}
    return next(name for n in range(1, 10_000) if (name := f"{BATCH}-{n}" if n > 1 else BATCH) not in names)


def make_account(ask: Ask) -> Any:
    form = ask.form()
    try:
        with core_db.atomic():
            box = load_box(ask.config.paths.state)
            row, password = manage.add_account(form.get("name", ""), form.get("plan", ""), None, box)
            audit.record(ask.person.name, "added", f"account {row.name}", {}, audited(row))
    except UserError as error:
        return _first(ask, form, str(error))
    return _done(ask, account=row.name, password=password)


def done(ask: Ask) -> Any:
    return _done(ask, batch=ask.query().get("batch", ""))


def _done(ask: Ask, batch: str = "", account: str = "", password: str = "") -> Any:
    config = settings.current(ask.config)
    url = config.portal_url
    return ask.page(
        "setup_done.html",
        url=url,
        qr=sheets.qr_path(url),
        silent=list(page("the login page", LOOPBACK, config.portal.http_port, tls=False)),
        batch=batch,
        batch_url=batch_url(batch),
        account=account,
        password=password,
        lan=config.gateway.lan,
        own=config.gateway.enabled,
    )


PAGES = (
    Page("/setup/plan", plan, role="operator"),
    Page("/setup/plan", save_plan, "POST"),
    Page("/setup/first", first, role="operator"),
    Page("/setup/first/vouchers", make_vouchers, "POST"),
    Page("/setup/first/account", make_account, "POST"),
    Page(DONE, done, role="operator"),
)
