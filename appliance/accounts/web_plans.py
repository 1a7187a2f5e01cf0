"""The pages for plans."""

from collections.abc import Mapping
from typing import Any

from appliance.accounts import limits, manage, prices, wording
from appliance.accounts.models import Account, Plan, core_db
from appliance.accounts.web_parts import RUNNING
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import counted
from appliance.admin.paths import part
from appliance.errors import UserError


def plans(ask: Ask) -> Any:
    rows = [
        {
            "plan": row,
            "words": wording.plan(row),
            "count": _count(row),
            "week": wording.week(row.windows),
            "price": prices.shown(row),
        }
        for row in Plan.select().order_by(Plan.name)
    ]
    return ask.page("plans.html", rows=rows)


def _count(row: Any) -> str:
    return counted(Account.select(Account.id).where(Account.plan == row))


def plan(ask: Ask, name: str) -> Any:
    row = manage.get(Plan, name, "plan")
    return _plan_page(ask, name, _typed(row), "", row)


def _typed(row: Any) -> dict[str, str]:
    return limits.shown(manage.plan_columns(row)) | prices.typed(row)


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
        price=prices.shown(row) if row else "",
        words=summary,
        week=week,
    )


def save_plan(ask: Ask, name: str = "") -> Any:
    """A field that is left empty is no limit."""
    form = ask.form()
    row = manage.get(Plan, name, "plan") if name else None
    before = _typed(row) if row else {}
    wanted = name or form.get("name", "").strip()
    try:
        with core_db.atomic():
            given = {limit.key: form.get(limit.key, "").strip() or limits.NONE for limit in limits.LIMITS}
            columns = limits.values(given) | prices.columns(form.get("price", ""), form.get("currency", ""), row)
            if row:
                manage.change_plan(name, columns)
            else:
                manage.add_plan(wanted, columns)
            after = _typed(manage.get(Plan, wanted, "plan"))
            audit.record(ask.person.name, "changed" if row else "added", f"plan {wanted}", before, after)
    except UserError as error:
        return _plan_page(ask, name, form, str(error), row)
    return ask.done(f"/plans/{part(wanted)}", f"Plan {wanted} is saved. {RUNNING if row else ''}".strip())


def remove_plan(ask: Ask, name: str) -> Any:
    before = _typed(manage.get(Plan, name, "plan"))
    with core_db.atomic():
        manage.remove_plan(name)
        audit.record(ask.person.name, "removed", f"plan {name}", before, {})
    return ask.done("/plans", f"Plan {name} is removed.")


PAGES = (
    Page("/plans", plans, nav="Plans"),
    Page("/plans/new", new_plan, role="operator"),
    Page("/plans/new", save_plan, "POST"),
    Page("/plans/<name>", plan),
    Page("/plans/<name>", save_plan, "POST"),
    Page("/plans/<name>/remove", remove_plan, "POST"),
)
