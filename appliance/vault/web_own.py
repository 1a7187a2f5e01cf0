"""A vault user's own pages: in by the log-in that FTP has, and nothing but that vault to be seen."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from appliance.admin import audit, way_in
from appliance.admin.frame import Ask, Page
from appliance.admin.people import Person
from appliance.errors import UserError
from appliance.vault import browse, desk, guesses, vaults, visitors
from appliance.vault.browse import Room
from appliance.vault.models import Credential
from appliance.vault.store import Store
from appliance.vault.visitors import Sessions

BASE = "/my-vault"
COOKIE = "gatehouse-vault"
WRONG = "Wrong log-in or password, or it may not be used here."
_TABS = (("files", "Files"), ("deleted", "Deleted"), ("events", "Timeline"))
_FORGED = "That form was not ours: go back, reload the page and try again"

log = logging.getLogger(__name__)

Handler = Callable[[Ask, Store, Room], Any]


def _sessions(ask: Ask) -> Sessions:
    found: Sessions = ask.frame.memory.setdefault("vault sessions", Sessions())
    return found


def login_page(ask: Ask) -> Any:
    return ask.page("vault_login.html", login="", error="")


def login(ask: Ask) -> Any:
    """As for the admin's pages each try counts, by address and by name; and wrong ones together with those by FTP."""
    form, address = ask.form(), way_in.address()
    name, password = form.get("login", "")[:64], form.get("password", "")[:200]
    if wait_s := ask.frame.tries.wait_s((f"vault address {address}", f"vault name {name}"), ask.now):
        return ask.page("vault_login.html", 429, login=name, error=f"Too many tries: wait {wait_s} seconds.")
    try:
        return _log_in(ask, name, password, address)
    except UserError as error:
        return ask.page("vault_login.html", 400, login=name, error=str(error))


def _log_in(ask: Ask, name: str, password: str, address: str) -> Any:
    with desk.opened(ask.config):
        if guesses.are_too_many(name, address, Credential.get_or_none(Credential.login == name)):
            return ask.page("vault_login.html", 429, login=name, error=f"{guesses.TOO_MANY}.")
        found = vaults.verify(name, password)
        if found is None or not visitors.may_enter(found, address):
            guesses.count(name, address)
            log.warning("vault log-in refused: login=%s address=%s", ascii(name), address)
            return ask.page("vault_login.html", 403, login=name, error=WRONG)
        vaults.used(found, address)
        audit.record(f"vault login {found.login}", "logged in", f"vault {found.vault.name}", {}, {"address": address})
        cookie = _sessions(ask).enter(found, address, ask.now)
    answer = ask.done(f"{BASE}/files")
    answer.set_cookie(COOKIE, cookie, path=BASE, **ask.frame.cookie_flags)
    return answer


def _mine(handler: Handler, form: bool = False) -> Callable[[Ask], Any]:
    """For who has logged in; a form has to have come from our own page."""

    def answered(ask: Ask) -> Any:
        try:
            return entered(ask)
        except UserError as error:
            return ask.page("vault_message.html", 400, title=str(error), base=BASE)

    def entered(ask: Ask) -> Any:
        with desk.opened(ask.config) as store:
            found = _sessions(ask).find(ask.cookie(COOKIE), way_in.address(), ask.now)
            if found is None:
                return ask.done(f"{BASE}/login")
            session, credential = found
            if form and not secrets.compare_digest(ask.sent_token().encode(), session.form_token.encode()):
                return ask.page("vault_message.html", 403, title=_FORGED, base=BASE)
            vault = credential.vault
            mine = replace(ask, person=Person("", "reader", session.form_token))
            room = Room(vault, BASE, visitors.may_change(credential), tabs=_TABS, login=str(credential.login))
            return handler(mine, store, room)

    return answered


def _home(ask: Ask, store: Store, room: Room) -> Any:
    return ask.done(room.url("files"))


def _restore(ask: Ask, store: Store, room: Room) -> Any:
    path, version = browse.restore(ask, store, room, room.login)
    what = {"path": path, "version": version.id}
    audit.record(f"vault login {room.login}", "restored", f"vault {room.vault.name}", {}, what)
    return ask.done(room.url("versions", path=path), f"That version is the present one of {path} now.")


def _get(ask: Ask, store: Store, room: Room) -> Any:
    _taken(ask, room)
    return browse.get(ask, store, room)


def _archive(ask: Ask, store: Store, room: Room) -> Any:
    _taken(ask, room)
    return browse.archive(ask, store, room)


def _taken(ask: Ask, room: Room) -> None:
    what = {key: value[:300] for key, value in ask.query().items() if key in ("version", "path", "at")}
    audit.record(f"vault login {room.login}", "downloaded", f"vault {room.vault.name}", {}, what)


def _leave(ask: Ask, store: Store, room: Room) -> Any:
    _sessions(ask).leave(ask.cookie(COOKIE))
    answer = ask.done(f"{BASE}/login")
    answer.delete_cookie(COOKIE, path=BASE)
    return answer


PAGES = (
    Page(f"{BASE}/login", login_page, open=True),
    Page(f"{BASE}/login", login, "POST", open=True),
    Page(BASE, _mine(_home), open=True),
    Page(f"{BASE}/files", _mine(browse.files), open=True),
    Page(f"{BASE}/versions", _mine(browse.versions), open=True),
    Page(f"{BASE}/deleted", _mine(browse.deleted), open=True),
    Page(f"{BASE}/events", _mine(browse.events), open=True),
    Page(f"{BASE}/diff", _mine(browse.compare), open=True),
    Page(f"{BASE}/get", _mine(_get), open=True),
    Page(f"{BASE}/archive", _mine(_archive), open=True),
    Page(f"{BASE}/restore", _mine(_restore, form=True), "POST", open=True),
    Page(f"{BASE}/leave", _mine(_leave, form=True), "POST", open=True),
)
