"""The admin's own pages: the way in and out, and the first thing that is seen."""

import logging
from typing import Any

import bottle

from appliance import modules
from appliance.admin import audit, links, people, reach, way_in
from appliance.admin.frame import COOKIE, Ask, Page
from appliance.admin.models import AdminUser
from appliance.doctor import renewal, run
from appliance.sites import overview as sites

WRONG = "Wrong name or password."

log = logging.getLogger(__name__)


def login_page(ask: Ask) -> Any:
    return ask.page("login.html", name="", error="", first=not AdminUser.select().exists())


def login(ask: Ask) -> Any:
    """The cookie is SameSite=Strict and new with each login, so another site's form gains nothing here."""
    form = ask.form()
    name, password = form.get("name", "")[:64], form.get("password", "")[:200]
    address = way_in.address()
    if wait_s := ask.frame.tries.wait_s((f"address {address}", f"name {name}"), ask.now):
        error = f"Too many tries: wait {wait_s} seconds."
        return ask.page("login.html", 429, name=name, error=error, first=False)
    user = people.check(name, password)
    if user is None:
        log.warning("admin login refused: name=%s address=%s", ascii(name), address)
        return ask.page("login.html", 403, name=name, error=WRONG, first=False)
    return _enter(ask, user, user.name)


def enter(ask: Ask) -> Any:
    """By a one-time link."""
    if not links.redeem(ask.config, ask.query().get("token", "")):
        text = "Each link works once. Make a new one on the appliance: gatehouse admin-link"
        return ask.page("message.html", 403, title="This link can't be used any more", text=text)
    return _enter(ask, None, people.LINK)


def _enter(ask: Ask, user: Any, name: str) -> Any:
    address = way_in.address()
    cookie = people.enter(user, address, bottle.request.get_header("User-Agent", ""))
    audit.record(name, "logged in", f"address {address}", {}, {})
    log.info("admin logged in: name=%s address=%s", ascii(name), address)
    bottle.response.set_cookie(COOKIE, cookie, path="/", max_age=people.IDLE_S * 4, **ask.frame.cookie_flags)
    if user is not None:
        bottle.response.status, bottle.response.headers["Location"] = 303, "/"
        return ""
    # No redirect: a browser that came from elsewhere wouldn't send the new cookie with it (SameSite).
    return ask.page("entered.html", where="/" if AdminUser.select().exists() else "/users/new?first=1")


def leave(ask: Ask) -> Any:
    people.leave(ask.person.session)
    answer = ask.done("/login")
    answer.delete_cookie(COOKIE, path="/")
    return answer


def start(ask: Ask) -> Any:
    """What needs attention first, then each module's figures."""
    enabled, attention = modules.enabled(ask.config), []
    telling = reach.modules_of(ask.person, ask.config, enabled)
    if reach.is_here(ask.person, ask.config):
        attention = [*run.attention(ask.config, ask.now), *renewal.attention(ask.config, ask.now)]
    attention += [line for module in telling for line in module.attention(ask.config, ask.now)]
    if ask.config.fleet:
        attention += sites.attention(ask.config, ask.now)
    tiles = [tile for module in telling for tile in module.tiles(ask.config, ask.now)]
    absent = [module for module in modules.MODULES if module not in enabled]
    return ask.page("start.html", attention=attention, tiles=tiles, absent=absent, fresh=not enabled)


PAGES = (
    Page("/", start, nav="Start"),
    Page("/login", login_page, open=True),
    Page("/login", login, "POST", open=True),
    Page("/enter", enter, open=True),
    Page("/leave", leave, "POST", role="reader"),
)
