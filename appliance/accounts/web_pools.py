"""The page for pools of addresses."""

from collections.abc import Mapping
from typing import Any

from appliance.accounts import manage
from appliance.accounts.models import Pool, core_db
from appliance.accounts.web_parts import unsure
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.errors import UserError


def pools(ask: Ask) -> Any:
    return _page(ask, {}, "")


def _page(ask: Ask, typed: Mapping[str, str], error: str) -> Any:
    return ask.page("pools.html", 400 if error else 200, pools=manage.pools(), typed=typed, error=error)


def add(ask: Ask) -> Any:
    form = ask.form()
    name, first, last = (form.get(key, "").strip() for key in ("name", "first", "last"))
    try:
        with core_db.atomic():
            manage.add_pool(name, first, last)
            audit.record(ask.person.name, "added", f"pool {name}", {}, {"first": first, "last": last})
    except UserError as error:
        return _page(ask, form, str(error))
    return ask.done("/pools", f"The pool {name} is there. Plans take addresses from it when they name it.")


def remove(ask: Ask, name: str) -> Any:
    manage.get(Pool, name, "pool")
    if "back" in ask.form():
        return ask.done("/pools")
    lines = ("Who is online keeps the address until the end.",)
    if page := unsure(ask, f"Remove the pool {name}?", lines, "Remove it"):
        return page
    try:
        with core_db.atomic():
            manage.remove_pool(name)
            audit.record(ask.person.name, "removed", f"pool {name}", {}, {})
    except UserError as error:
        return _page(ask, {}, str(error))
    return ask.done("/pools", f"The pool {name} is removed.")


PAGES = (
    Page("/pools", pools, nav="Pools"),
    Page("/pools/new", add, "POST"),
    Page("/pools/<name>/remove", remove, "POST"),
)
