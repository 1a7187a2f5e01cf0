"""Modules on and off, and the page that waits until root has done what was asked for."""

import contextlib
import subprocess
from typing import Any
from urllib.parse import quote

from appliance import apply as applying
from appliance import config as configuration
from appliance import modules, wishes
from appliance.accounts.models import core_db
from appliance.admin import audit, drafts, way_in
from appliance.admin.frame import Ask, Page
from appliance.core import CORE


def show(ask: Ask) -> Any:
    return _show(ask, "", "")


def _show(ask: Ask, error: str, unsure: str) -> Any:
    """`unsure` is the module whose switch was refused."""
    running = modules.running(ask.config)
    states: dict[str, str] = {}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        states = applying.states(ask.config, running)
    rows = []
    for module in (*modules.MODULES, CORE):
        services = applying.services(ask.config, [module]) if module in running else []
        told = [(service.description, states.get(service.name) or "not known") for service in services]
        rows.append({"module": module, "on": module in running, "services": told})
    return ask.page("modules.html", 400 if error else 200, rows=rows, core=CORE, error=error, unsure=unsure)


def switch(ask: Ask, name: str) -> Any:
    form, now = ask.form(), configuration.load(ask.config.file)
    module, on = modules.by_name(name), form.get("on") == "yes"
    try:
        way_in.verify(now, now, [name] if on else [], form)
    except way_in.Unsure as error:
        return _show(ask, str(error), name)
    before = module in modules.enabled(ask.config)
    with core_db.atomic():
        audit.record(ask.person.name, "switched", f"module {name}", {"on": before}, {"on": on})
        number = wishes.wish(ask.config, ask.person.name, modules={name: on})
    return ask.done(waiting_url(number, "/modules"))


def waiting_url(number: str, back: str) -> str:
    return f"/wishes/{number}?back={quote(back, safe='/')}"


def wait(ask: Ask, name: str) -> Any:
    """Asked again and again; the admin's process may be another one each time. `name` is the wish's id."""
    back = ask.query().get("back", "/")
    if not back.startswith("/") or back.startswith(("//", "/\\")):
        back = "/"
    said = wishes.outcome(ask.config, name)
    if said is None:
        return ask.page("wish.html", refusal="", back=back)
    if said and (form := drafts.form_url(ask, name)):
        return ask.done(form)
    if said:
        return ask.page("wish.html", refusal=said, back=back)
    return ask.done(back, "It is done.")


PAGES = (
    Page("/modules", show, role="owner", nav="Modules"),
    Page("/modules/<name>", switch, "POST", role="owner"),
    Page("/wishes/<name>", wait, role="owner"),
)
