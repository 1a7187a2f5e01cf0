"""The hotspot's pages for plans, accounts and sessions; what changes anything calls what the commands call."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from appliance.accounts import limits, manage, terms, wording
from appliance.accounts.limits import PLAN
from appliance.accounts.lookup import Lookup
from appliance.accounts.models import Account, Device, Plan, Session, core_db
from appliance.accounts.periods import period_start
from appliance.accounts.why import explain
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List
from appliance.crypto import load_box, new_password
from appliance.errors import UserError
from appliance.nas.models import GATEWAY
from appliance.nas.sessions import cut
from appliance.units import format_ago, format_bytes
from rlm_python.authorization import authorize

_RUNNING = "Running sessions follow within seconds."
_SHOWN = 20


def local(ask: Ask) -> Callable[[int], str]:
    """A time as people at the site say it."""
    return lambda seconds: datetime.fromtimestamp(seconds, ask.config.site.timezone).strftime("%Y-%m-%d %H:%M")


def account_url(row: Mapping[str, object], key: str = "name") -> str:
    return f"/accounts/{quote(str(row[key]), safe='')}"


# Sessions


def sessions(ask: Ask) -> Any:
    online = Session.ended_at.is_null()
    of = List(
        title="Sessions",
        query=Session.select(
            Session.id,
            Session.account,
            Session.nas,
            Session.mac,
            Session.framed_ip,
            Session.started_at,
            Session.updated_at,
            Session.ended_at,
            Session.terminate_cause,
            Session.output_octets,
            Session.input_octets,
        ),
        columns=(
            Column("account", "Account", Session.account, link=partial(account_url, key="account")),
            Column("nas", "Router", Session.nas),
            Column("mac", "Device", Session.mac),
            Column("framed_ip", "Address"),
            Column("started_at", "Since", Session.id, show=local(ask)),
            Column("updated_at", "Last told", show=lambda at: format_ago(ask.now - at)),
            Column("output_octets", "Down", Session.output_octets, number=True, show=format_bytes),
            Column("input_octets", "Up", Session.input_octets, number=True, show=format_bytes),
            Column("terminate_cause", "Ended by"),
        ),
        order="-started_at",
        search=_of_session,
        choices=(Choice("state", "State", {"online": online, "ended": Session.ended_at.is_null(False)}),),
        empty="Nobody was online yet. A guest who logs in appears here within seconds.",
    )
    return of.respond(ask, "sessions.html")


def _of_session(text: str) -> Any:
    return Session.account.startswith(text) | (Session.mac == text.lower()) | (Session.framed_ip == text)


def cut_sessions(ask: Ask) -> Any:
    """Each chosen one; a router that can't be told is named, the others are let go all the same."""
    ids = [int(number) for number in ask.all("session") if number.isdecimal()]
    box, said = load_box(ask.config.paths.state), []
    for session in Session.select().where(Session.id.in_(ids), Session.ended_at.is_null()):
        try:
            said.append(cut(session, box))
        except UserError as error:
            said.append(str(error))
        audit.record(ask.person.name, "cut", f"session {session.account} {session.mac}", {}, {})
    return ask.done("/sessions?state=online", "; ".join(said) or "Choose a session first.")


# Accounts


def accounts(ask: Ask) -> Any:
    of = List(
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
        ).join(Plan),
        columns=(
            Column("name", "Name", Account.name, link=account_url),
            Column("plan", "Plan"),
            Column("enabled", "State", show=lambda enabled: "may log in" if enabled else "blocked"),
            Column("address", "Address"),
            Column("valid_until", "Until", Account.valid_until, show=local(ask)),
            Column("first_login_at", "First login", Account.first_login_at, show=local(ask)),
            Column("created_at", "Made", Account.id, show=local(ask)),
        ),
        order="name",
        search=lambda text: Account.name.startswith(text),
        choices=(
            Choice("kind", "Kind", {"accounts": Account.batch.is_null(), "vouchers": Account.batch.is_null(False)}),
            Choice("state", "State", {"may log in": Account.enabled, "blocked": ~Account.enabled}),
            Choice("plan", "Plan", {plan.name: Account.plan == plan.id for plan in Plan.select().order_by(Plan.name)}),
        ),
        empty="No account yet. Make a plan first, then an account or vouchers with it.",
    )
    return of.respond(ask, "accounts.html")


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
        plans=_plan_names(),
        used=manage.usage_since(row, day),
        why=_why(row, ask),
        devices=list(Device.select().where(Device.account == row).order_by(Device.used_at.desc())),
        sessions=manage.open_sessions(row.name, everyone=True, limit=_SHOWN),
        at=local(ask),
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
    before = _audited(row)
    try:
        with core_db.atomic():
            manage.change_account(row, _account_values(form, ask))
            audit.record(ask.person.name, "changed", f"account {name}", before, _audited(row))
    except UserError as error:
        return _account_page(ask, manage.get(Account, name, "account"), form, str(error))
    return ask.done(account_url({"name": name}), f"{name} is changed. {_RUNNING}")


def _account_values(form: Mapping[str, str], ask: Ask) -> dict[str, Any]:
    """A field that is left empty is as the plan says."""
    given = {limit.key: form.get(limit.key, "").strip() or PLAN for limit in limits.LIMITS}
    return {
        "plan": manage.get(Plan, form.get("plan", ""), "plan"),
        "address": wording.address(form.get("address", "")),
        "valid_until": wording.local_time(form.get("valid_until", ""), ask.config),
        "overrides": limits.overrides({}, given),
    }


def _audited(row: Any) -> dict[str, object]:
    return {
        "plan": row.plan.name,
        "enabled": bool(row.enabled),
        "address": row.address,
        "valid_until": row.valid_until,
        **terms.overrides(row.overrides),
    }


def new_account(ask: Ask) -> Any:
    typed = {"plan": ask.query().get("plan", "")}
    return ask.page("account_new.html", typed=typed, error="", plans=_plan_names())


def add_account(ask: Ask) -> Any:
    form = ask.form()
    try:
        with core_db.atomic():
            box, given = load_box(ask.config.paths.state), form.get("password") or None
            row, password = manage.add_account(form.get("name", ""), form.get("plan", ""), given, box)
            audit.record(ask.person.name, "added", f"account {row.name}", {}, _audited(row))
    except UserError as error:
        typed = {**form, "password": ""}
        return ask.page("account_new.html", 400, typed=typed, error=str(error), plans=_plan_names())
    return _account_page(ask, row, _typed(row, ask), "", secret="" if given else password)


def switch_account(ask: Ask, name: str) -> Any:
    """Blocked or not, a new password, a forgotten device, removed."""
    row, form = manage.get(Account, name, "account"), ask.form()
    if "remove" in form:
        with core_db.atomic():
            before = _audited(row)
            manage.remove_account(name)
            audit.record(ask.person.name, "removed", f"account {name}", before, {})
        return ask.done("/accounts", f"{name} is removed; what the law wants of its sessions stays.")
    if "device" in form:
        Device.delete().where(Device.mac == form["device"], Device.account == row).execute()
        audit.record(ask.person.name, "forgot device", f"account {name}", {"device": form["device"]}, {})
        return ask.done(account_url({"name": name}), "That device is asked for a login again.")
    before, password = _audited(row), ""
    values: dict[str, Any] = {"overrides": terms.overrides(row.overrides)}
    if "enabled" in form:
        values["enabled"] = form["enabled"] == "yes"
    if "new_password" in form:
        password = new_password()
        values["password"] = load_box(ask.config.paths.state).seal(password)
    with core_db.atomic():
        manage.change_account(row, values)
        secret = {"password": "…"} if password else {}
        audit.record(ask.person.name, "changed", f"account {name}", before, _audited(row) | secret)
    return _account_page(ask, row, _typed(row, ask), "", secret=password)


# Plans


def plans(ask: Ask) -> Any:
    rows = [
        {"plan": row, "words": wording.plan(row), "count": _count(row), "week": wording.week(row.windows)}
        for row in Plan.select().order_by(Plan.name)
    ]
    return ask.page("plans.html", rows=rows)


def _count(row: Any) -> int:
    return int(Account.select().where(Account.plan == row).count())


def plan(ask: Ask, name: str) -> Any:
    row = manage.get(Plan, name, "plan")
    return _plan_page(ask, name, limits.shown(manage.plan_columns(row)), "", row)


def new_plan(ask: Ask) -> Any:
    return _plan_page(ask, "", {}, "", None)


def _plan_page(ask: Ask, name: str, typed: Mapping[str, str], error: str, row: Any) -> Any:
    status = 400 if error else 200
    summary = wording.plan(row) if row else ()
    week = wording.week(row.windows) if row else ()
    return ask.page(
        "plan.html",
        status,
        name=name,
        typed=typed,
        error=error,
        plan=row,
        limits=limits.LIMITS,
        words=summary,
        week=week,
    )


def save_plan(ask: Ask, name: str = "") -> Any:
    """A field that is left empty is no limit."""
    form = ask.form()
    row = manage.get(Plan, name, "plan") if name else None
    before = limits.shown(manage.plan_columns(row)) if row else {}
    wanted = name or form.get("name", "").strip()
    try:
        with core_db.atomic():
            given = {limit.key: form.get(limit.key, "").strip() or limits.NONE for limit in limits.LIMITS}
            columns = limits.values(given)
            if row:
                manage.change_plan(name, columns)
            else:
                manage.add_plan(wanted, columns)
            after = limits.shown(manage.plan_columns(manage.get(Plan, wanted, "plan")))
            audit.record(ask.person.name, "changed" if row else "added", f"plan {wanted}", before, after)
    except UserError as error:
        return _plan_page(ask, name, form, str(error), row)
    return ask.done(f"/plans/{wanted}", f"Plan {wanted} is saved. {_RUNNING if row else ''}".strip())


def remove_plan(ask: Ask, name: str) -> Any:
    before = limits.shown(manage.plan_columns(manage.get(Plan, name, "plan")))
    with core_db.atomic():
        manage.remove_plan(name)
        audit.record(ask.person.name, "removed", f"plan {name}", before, {})
    return ask.done("/plans", f"Plan {name} is removed.")


def _plan_names() -> list[str]:
    return [row.name for row in Plan.select(Plan.name).order_by(Plan.name)]


PAGES = (
    Page("/sessions", sessions, nav="Sessions"),
    Page("/sessions/cut", cut_sessions, "POST"),
    Page("/accounts", accounts, nav="Accounts"),
    Page("/accounts/new", new_account, role="operator"),
    Page("/accounts/new", add_account, "POST"),
    Page("/accounts/<name>", account),
    Page("/accounts/<name>", change_account, "POST"),
    Page("/accounts/<name>/switch", switch_account, "POST"),
    Page("/plans", plans, nav="Plans"),
    Page("/plans/new", new_plan, role="operator"),
    Page("/plans/new", save_plan, "POST"),
    Page("/plans/<name>", plan),
    Page("/plans/<name>", save_plan, "POST"),
    Page("/plans/<name>/remove", remove_plan, "POST"),
)
