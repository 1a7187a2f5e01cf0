"""The pages for accounts; what changes anything calls what the commands call."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from peewee import JOIN

from appliance.accounts import limits, manage, terms, vouchers, wording
from appliance.accounts.limits import PLAN
from appliance.accounts.lookup import Lookup
from appliance.accounts.models import Account, Device, Plan, Registration, core_db
from appliance.accounts.periods import period_start
from appliance.accounts.web_bulk import ACTIONS, MOST, in_bulk
from appliance.accounts.web_parts import RUNNING, account_url, audited, batch_url, local, plan_names
from appliance.accounts.why import explain
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, View, begins
from appliance.crypto import load_box, new_password
from appliance.errors import UserError
from appliance.nas.models import GATEWAY
from rlm_python.authorization import authorize

_SHOWN = 20


def accounts(ask: Ask) -> Any:
    return _list(ask).respond(ask, "accounts.html", actions=ACTIONS, plans=plan_names())


def _list(ask: Ask) -> List:
    return List(
        title="Accounts",
        query=Account.select(
            Account.id,
            Account.name,
            Plan.name.alias("plan"),
            Account.enabled,
            Account.address,
            Account.valid_until,
            Account.first_login_at,
            Account.created_at,
        ).join(Plan, JOIN.LEFT_OUTER),  # there is one: so it isn't looked for before the account
        columns=(
            Column("name", "Name", Account.name, link=account_url),
            Column("plan", "Plan"),
            Column("enabled", "State", show=lambda enabled: "may log in" if enabled else "blocked"),
            Column("address", "Address"),
            Column("valid_until", "Until", Account.valid_until, show=local(ask)),
            Column("first_login_at", "First login", show=local(ask)),
            Column("created_at", "Made", Account.id, show=local(ask)),
        ),
        order="name",
        search=lambda text: begins(Account.name, text),
        choices=(
            Choice("kind", "Kind", {"accounts": Account.batch.is_null(), "vouchers": Account.batch.is_null(False)}),
            Choice("state", "State", {"may log in": Account.enabled, "blocked": ~Account.enabled}),
            Choice("plan", "Plan", {plan.name: Account.plan == plan.id for plan in Plan.select().order_by(Plan.name)}),
        ),
        empty="No account yet. Make a plan first, then an account or vouchers with it.",
    )


def change_many(ask: Ask) -> Any:
    """The chosen ones, or all that the list shows as it was filtered."""
    form = ask.form()
    view = View(_list(ask), dict(parse_qsl(form.get("view", "").lstrip("?"))))
    back = f"/accounts{view.url(page=view.page)}"
    if "back" in form:
        return ask.done(back)
    if form.get("scope") == "all":
        ids = [int(row["id"]) for row in view.ordered().limit(MOST + 1).dicts()]
    else:
        ids = [int(number) for number in ask.all("account") if number.isdecimal() and len(number) < 18]
    return in_bulk(ask, form.get("action", ""), ids, back) if ids else ask.done(back, "Choose an account first.")


def account(ask: Ask, name: str) -> Any:
    row = manage.get(Account, name, "account")
    return _account_page(ask, row, _typed(row, ask), "")


def _account_page(ask: Ask, row: Any, typed: Mapping[str, str], error: str, secret: str = "") -> Any:
    day = period_start(manage.account_columns(row)["quota_period"], ask.now, ask.config.site.timezone)
    return ask.page(
        "account.html",
        400 if error else 200,
        account=row,
        typed=typed,
        error=error,
        secret=secret,
        limits=limits.LIMITS,
        of_plan=limits.shown(manage.plan_columns(row.plan)),
        plans=plan_names(),
        used=manage.usage_since(row, day),
        why=_why(row, ask),
        devices=list(Device.select().where(Device.account == row).order_by(Device.used_at.desc())),
        sessions=manage.open_sessions(row.name, everyone=True, limit=_SHOWN),
        at=local(ask),
        registrations=list(Registration.select().where(Registration.account == row)),
        batch=row.batch,
        batch_url=batch_url,
        state=vouchers.select(vouchers.state(ask.now)).where(Account.id == row.id).scalar() if row.batch else "",
    )


def _why(row: Any, ask: Ask) -> list[str]:
    """The rules of the login themselves, as of now."""
    zone, radius = ask.config.site.timezone, ask.config.radius
    asked = Lookup(core_db.obj, zone, radius.silent_s).account(row.name, "", ask.now)
    if asked is None:
        return []
    verdict = authorize(asked, zone, ask.now)
    return list(explain(verdict, asked, zone, ask.now, GATEWAY, radius.interim_interval_s))[1:]


def _typed(row: Any, ask: Ask) -> dict[str, str]:
    own = terms.overrides(row.overrides)
    shown = limits.shown(manage.account_columns(row))
    typed = {limit.key: shown[limit.key] or limits.NONE for limit in limits.LIMITS if limit.none.keys() & own.keys()}
    until = datetime.fromtimestamp(row.valid_until, ask.config.site.timezone) if row.valid_until else None
    return typed | {
        "plan": row.plan.name,
        "address": row.address or "",
        "valid_until": until.strftime("%Y-%m-%dT%H:%M") if until else "",
    }


def change_account(ask: Ask, name: str) -> Any:
    row, form = manage.get(Account, name, "account"), ask.form()
    before = audited(row)
    try:
        with core_db.atomic():
            manage.change_account(row, _account_values(form, ask))
            audit.record(ask.person.name, "changed", f"account {name}", before, audited(row))
    except UserError as error:
        return _account_page(ask, manage.get(Account, name, "account"), form, str(error))
    return ask.done(account_url({"name": name}), f"{name} is changed. {RUNNING}")


def _account_values(form: Mapping[str, str], ask: Ask) -> dict[str, Any]:
    """A field that is left empty is as the plan says."""
    given = {limit.key: form.get(limit.key, "").strip() or PLAN for limit in limits.LIMITS}
    return {
        "plan": manage.get(Plan, form.get("plan", ""), "plan"),
        "address": wording.address(form.get("address", "")),
        "valid_until": wording.local_time(form.get("valid_until", ""), ask.config),
        "overrides": limits.overrides({}, given),
    }


def new_account(ask: Ask) -> Any:
    typed = {"plan": ask.query().get("plan", "")}
    return ask.page("account_new.html", typed=typed, error="", plans=plan_names())


def add_account(ask: Ask) -> Any:
    form = ask.form()
    try:
        with core_db.atomic():
            box, given = load_box(ask.config.paths.state), form.get("password") or None
            row, password = manage.add_account(form.get("name", ""), form.get("plan", ""), given, box)
            audit.record(ask.person.name, "added", f"account {row.name}", {}, audited(row))
    except UserError as error:
        typed = {**form, "password": ""}
        return ask.page("account_new.html", 400, typed=typed, error=str(error), plans=plan_names())
    return _account_page(ask, row, _typed(row, ask), "", secret="" if given else password)


def switch_account(ask: Ask, name: str) -> Any:
    """Blocked or not, a new password, a forgotten device, removed."""
    row, form = manage.get(Account, name, "account"), ask.form()
    if "remove" in form:
        with core_db.atomic():
            before = audited(row)
            manage.remove_account(name)
            audit.record(ask.person.name, "removed", f"account {name}", before, {})
        return ask.done("/accounts", f"{name} is removed; what the law wants of its sessions stays.")
    if "device" in form:
        Device.delete().where(Device.mac == form["device"], Device.account == row).execute()
        audit.record(ask.person.name, "forgot device", f"account {name}", {"device": form["device"]}, {})
        return ask.done(account_url({"name": name}), "That device is asked for a login again.")
    before, password = audited(row), ""
    values: dict[str, Any] = {"overrides": terms.overrides(row.overrides)}
    if "enabled" in form:
        values["enabled"] = form["enabled"] == "yes"
    if "new_password" in form:
        password = new_password()
        values["password"] = load_box(ask.config.paths.state).seal(password)
    with core_db.atomic():
        manage.change_account(row, values)
        secret = {"password": "…"} if password else {}
        audit.record(ask.person.name, "changed", f"account {name}", before, audited(row) | secret)
    return _account_page(ask, row, _typed(row, ask), "", secret=password)


PAGES = (
    Page("/accounts", accounts, nav="Accounts"),
    Page("/accounts/new", new_account, role="operator"),
    Page("/accounts/new", add_account, "POST"),
    Page("/accounts/many", change_many, "POST"),
    Page("/accounts/<name>", account),
    Page("/accounts/<name>", change_account, "POST"),
    Page("/accounts/<name>/switch", switch_account, "POST"),
)
