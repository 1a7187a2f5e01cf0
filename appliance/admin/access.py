"""Who may enter: users, open sessions, programs' tokens; and the record of what everybody changed."""

import json
import time
from datetime import datetime
from typing import Any

from appliance.accounts import manage
from appliance.accounts.models import core_db
from appliance.admin import audit, links, people
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List
from appliance.admin.models import AdminSession, AdminUser, ApiToken, Audit
from appliance.errors import UserError


def users(ask: Ask) -> Any:
    rows = list(AdminUser.select().order_by(AdminUser.name))
    tokens = list(ApiToken.select().order_by(ApiToken.name))
    return ask.page(
        "users.html",
        users=rows,
        sessions=people.sessions(),
        tokens=tokens,
        roles=people.ROLES,
        secret="",
        limits=people.typed_sites,
    )


def new_user(ask: Ask) -> Any:
    first = "first" in ask.query()  # who comes by the one-time link is to be the owner
    return ask.page(
        "user.html", typed={"role": "owner" if first else "reader"}, error="", roles=people.ROLES, first=first
    )


def add_user(ask: Ask) -> Any:
    form = ask.form()
    try:
        columns = people.columns(*(form.get(key, "") for key in ("name", "password", "role", "sites")))
        with core_db.atomic():
            user = people.add(columns)
            after = {"role": user.role, "sites": people.typed_sites(user.sites), "password": "…"}
            audit.record(ask.person.name, "added", f"admin {user.name}", {}, after)
        if user.role == "owner":
            links.forget_console(ask.config)
    except UserError as error:
        typed = form | {"password": ""}
        return ask.page("user.html", 400, typed=typed, error=str(error), roles=people.ROLES, first="first" in form)
    return ask.done("/setup" if "first" in form else "/users", f"{user.name} may enter as {user.role}.")


def change_user(ask: Ask, name: str) -> Any:
    """One of: another role, another password, blocked or not, removed."""
    form, user = ask.form(), manage.get(AdminUser, name, "admin")
    before = _recorded(user)
    if "remove" in form:
        with core_db.atomic():
            people.remove(user)
            audit.record(ask.person.name, "removed", f"admin {name}", before, {})
        return ask.done("/users", f"{name} is removed.")
    enabled = {"yes": True, "no": False}.get(form.get("enabled", ""))
    values = people.changes(user, form.get("password") or None, form.get("role") or None, enabled, form.get("sites"))
    with core_db.atomic():
        people.change(user, values)
        after = _recorded(user) | ({"password": ""} if form.get("password") else {})
        audit.record(ask.person.name, "changed", f"admin {name}", before, after)
    return ask.done("/users", f"{name} is changed; whatever was open ends.")


def _recorded(user: Any) -> dict[str, object]:
    return {"role": user.role, "enabled": bool(user.enabled), "sites": people.typed_sites(user.sites)}


def end_session(ask: Ask) -> Any:
    session = AdminSession.get_or_none(AdminSession.token == ask.form().get("session", ""))
    if session is not None:
        who = session.user.name if session.user else people.LINK
        people.leave(session.token)
        audit.record(ask.person.name, "ended", f"session {who} {session.address}", {}, {})
    return ask.done("/users", "That session is ended.")


def add_token(ask: Ask) -> Any:
    form = ask.form()
    with core_db.atomic():
        secret = people.add_token(form.get("name", ""), form.get("role", ""), form.get("sites", ""))
        after = {"role": form["role"], "sites": form.get("sites", "")}
        audit.record(ask.person.name, "added", f"token {form['name']}", {}, after)
    rows = list(AdminUser.select().order_by(AdminUser.name))
    tokens = list(ApiToken.select().order_by(ApiToken.name))
    return ask.page(
        "users.html",
        users=rows,
        sessions=people.sessions(),
        tokens=tokens,
        roles=people.ROLES,
        secret=secret,
        limits=people.typed_sites,
    )


def remove_token(ask: Ask, name: str) -> Any:
    token = manage.get(ApiToken, name, "token")
    with core_db.atomic():
        token.delete_instance()
        audit.record(ask.person.name, "removed", f"token {name}", {"role": token.role}, {})
    return ask.done("/users", f"The token {name} is no longer good.")


def record(ask: Ask) -> Any:
    def at(seconds: int) -> str:
        return datetime.fromtimestamp(seconds, ask.config.site.timezone).strftime("%Y-%m-%d %H:%M:%S")

    day = int(time.time()) - 86_400
    of = List(
        title="Record of changes",
        query=Audit.select(),
        columns=(
            Column("at", "When", Audit.id, show=at),
            Column("who", "Who", Audit.who),
            Column("action", "Did", Audit.action),
            Column("subject", "What", Audit.subject),
            Column("changes", "Before → after", show=_in_words),
        ),
        order="-at",
        search=lambda text: Audit.subject.contains(text) | Audit.who.contains(text) | Audit.changes.contains(text),
        choices=(Choice("since", "Since", {"yesterday": Audit.at > day, "last week": Audit.at > day - 6 * 86_400}),),
        empty="Nothing was changed yet.",
    )
    return of.respond(ask)


def _in_words(changes: str) -> str:
    pairs = json.loads(changes).items()
    return ", ".join(f"{key}: {_value(before)} → {_value(after)}" for key, (before, after) in pairs)


def _value(value: object) -> str:
    return "–" if value is None else str(value)


PAGES = (
    Page("/users", users, role="owner", nav="Access"),
    Page("/users/new", new_user, role="owner"),
    Page("/users/new", add_user, "POST", role="owner"),
    Page("/users/<name>", change_user, "POST", role="owner"),
    Page("/users/sessions/end", end_session, "POST", role="owner"),
    Page("/users/tokens/new", add_token, "POST", role="owner"),
    Page("/users/tokens/<name>/remove", remove_token, "POST", role="owner"),
    Page("/audit", record, nav="Record"),
)
