"""A vault user's own pages: in by the log-in that FTP has, and nothing but that vault to be seen."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.visitors import Entrance
from appliance.errors import UserError
from appliance.guesses import TOO_MANY
from appliance.vault import browse, desk, vaults
from appliance.vault.browse import Room
from appliance.vault.logins import guesses
from appliance.vault.models import DROP, READ, Credential
from appliance.vault.store import Store

BASE = "/my-vault"
_TABS = (("files", "Files"), ("deleted", "Deleted"), ("events", "Timeline"))

Handler = Callable[[Ask, Store, Room], Any]


def _find(credential: int, address: str) -> Any:
    found = Credential.get_or_none(Credential.id == credential)
    return found if found is not None and _may_enter(found, address) else None


def _may_enter(credential: Any, address: str) -> bool:
    """Not who only brings files, and nobody from elsewhere."""
    vault = credential.vault
    if credential.kind == DROP or vault.removed_at is not None:
        return False
    try:
        ip_address(address)
    except ValueError:
        return not vault.networks and not credential.networks
    return vaults.is_allowed(address, vault.networks, credential.networks)


def _check(login: str, password: str, address: str) -> Any:
    """Wrong ones count together with those by FTP."""
    known: Any = Credential.get_or_none(Credential.login == login)
    if guesses.are_too_many(login, address, known.used_from if known else ""):
        raise UserError(TOO_MANY)
    found = vaults.verify(login, password)
    if found is not None and _may_enter(found, address):
        return found
    guesses.count(login, address)
    return None


ENTRANCE = Entrance(
    name="vault",
    base=BASE,
    first="files",
    opened=desk.opened,
    find=_find,
    check=_check,
    login_page="vault_login.html",
    message_page="vault_message.html",
    wrong="Wrong log-in or password, or it may not be used here.",
)


def login(ask: Ask) -> Any:
    return ENTRANCE.log_in(ask, _entered)


def _entered(found: Any, address: str) -> None:
    vaults.used(found, address)
    audit.record(f"vault login {found.login}", "logged in", f"vault {found.vault.name}", {}, {"address": address})


def _mine(handler: Handler, form: bool = False) -> Callable[..., Any]:
    def inside(ask: Ask, store: Store, credential: Any) -> Any:
        may = credential.kind not in (READ, DROP)
        return handler(ask, store, Room(credential.vault, BASE, may, tabs=_TABS, login=str(credential.login)))

    return ENTRANCE.mine(inside, form)


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


PAGES = (
    Page(f"{BASE}/login", ENTRANCE.ask_login, open=True),
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
    Page(f"{BASE}/leave", ENTRANCE.mine(ENTRANCE.leave, form=True), "POST", open=True),
)
