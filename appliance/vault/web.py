"""The pages of vaults: which there are, how full each is, its limits, who may log in."""

from collections.abc import Mapping
from typing import Any

from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Column, List
from appliance.admin.paths import part
from appliance.errors import UserError
from appliance.units import format_ago, format_bytes, parse_bytes
from appliance.vault import alerts, desk, vaults
from appliance.vault.browse import EVENTS, Room
from appliance.vault.models import Credential, Event, Vault, Version, vault_db

NUMBERS = ("quota_files", "max_sessions", "keep_days", "keep_versions", "lock_days")
KINDS = {
    "full": "brings, reads, changes",
    "read": "only reads",
    "drop": "only brings new files",
}
_MAY_BE_EMPTY = ("quota_files", "quota_bytes")
_RECENT = 10


def url(name: object) -> str:
    return f"/vaults/{part(name)}"


def listed(ask: Ask) -> Any:
    with desk.opened(ask.config):
        alarms = alerts.by_vault()
        of = List(
            title="Vaults",
            query=Vault.select().where(Vault.removed_at.is_null()),
            columns=(
                Column("name", "Name", Vault.name, link=lambda row: url(row["name"])),
                Column("used_files", "Files", Vault.used_files, number=True, show="{:,}".format),
                Column("used_bytes", "Kept", Vault.used_bytes, number=True, show=format_bytes),
                Column("quota_bytes", "Of at most", Vault.quota_bytes, number=True, show=format_bytes),
                Column("keep_days", "Old versions, days", Vault.keep_days, number=True),
                Column("lock_days", "Locked, days", Vault.lock_days, number=True, show=lambda days: str(days or "–")),
                Column("last_at", "Last upload", show=lambda at: format_ago(ask.now - at)),
                Column("alarm", "Alarm"),
            ),
            order="name",
            search=lambda text: Vault.name.contains(text),
            empty="No vault yet. Make the first one: its log-in and password are made with it.",
            fill=lambda rows: [
                {**row, "last_at": _last_at(row["id"]), "alarm": alarms.get(str(row["name"]), "")} for row in rows
            ],
        )
        return of.respond(ask, "vaults.html", may=ask.person.may("operator"))


def _last_at(vault: Any) -> int | None:
    last = Version.select(Version.stored_ms).where(Version.vault == vault).order_by(Version.id.desc()).first()
    return last.stored_ms // 1000 if last else None


# New ones


def new(ask: Ask) -> Any:
    return ask.page("vault_new.html", typed=_typed(Vault()), error="", kinds=KINDS)


def add(ask: Ask) -> Any:
    form = ask.form()
    name = form.get("name", "").strip()
    try:
        with desk.opened(ask.config):
            with vault_db.atomic():
                vault = vaults.create(name, **_settings(form))
                login = form.get("login", "").strip() or name
                password = vaults.add_login(vault, login)
                audit.record(ask.person.name, "added", f"vault {name}", {}, _recorded(vault) | {"login": login})
            return _vault_page(ask, vault, shown={"login": login, "password": password})
    except UserError as error:
        return ask.page("vault_new.html", 400, typed=form, error=str(error), kinds=KINDS)


def _settings(form: Mapping[str, str]) -> dict[str, Any]:
    """Of the form, as `vaults` wants them; only what it has."""
    found: dict[str, Any] = {key: _number(key, form[key]) for key in NUMBERS if key in form}
    if "quota" in form:
        found["quota_bytes"] = parse_bytes(form["quota"].strip()) if form["quota"].strip() else None
    if "rate" in form:
        found["rate_bps"] = parse_bytes(form["rate"].strip()) * 8 if form["rate"].strip() else 0
    if "networks" in form:
        found["networks"] = form["networks"]
    if "schedule" in form:
        found["schedule"] = alerts.schedule(form["schedule"])
    return found | {"tls_only": "tls_only" in form}


def _number(key: str, text: str) -> int | None:
    plain = text.strip().replace(",", "")
    if not plain and key in _MAY_BE_EMPTY:
        return None
    if not plain.isdecimal() or len(plain) > 12:
        raise UserError(f"{key.replace('_', ' ')}: a whole number is needed, not {text[:40]!r}")
    return int(plain)


def _typed(vault: Any) -> dict[str, str]:
    """As the form says it."""
    typed = {key: "" if getattr(vault, key) is None else str(getattr(vault, key)) for key in NUMBERS}
    typed |= {"networks": str(vault.networks), "schedule": str(vault.schedule)}
    typed["quota"] = format_exactly(vault.quota_bytes) if vault.quota_bytes else ""
    typed["rate"] = format_exactly(vault.rate_bps // 8) if vault.rate_bps else ""
    return typed | ({"tls_only": "1"} if vault.tls_only else {})


def format_exactly(size: int) -> str:
    """As `parse_bytes` reads it back, whatever it is."""
    for suffix, unit in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def _recorded(vault: Any) -> dict[str, object]:
    return {key: getattr(vault, key) for key in vaults.SETTABLE}


# One of them


def shown(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config):
        return _vault_page(ask, vaults.named(name))


def _vault_page(
    ask: Ask,
    vault: Any,
    typed: Mapping[str, str] | None = None,
    error: str = "",
    shown: Mapping[str, str] | None = None,
) -> Any:
    zone = ask.config.site.timezone
    recent = list(Event.select().where(Event.vault == vault).order_by(Event.n.desc()).limit(_RECENT))
    return ask.page(
        "vault.html",
        400 if error else 200,
        vault=vault,
        room=Room(vault, url(vault.name), ask.person.may("operator")),
        base=url(vault.name),
        words=EVENTS,
        typed=typed or _typed(vault),
        error=error,
        shown=shown or {},
        logins=vaults.logins(vault),
        kinds=KINDS,
        alarms=alerts.of_vault(vault),
        series=alerts.series(vault, ask.now),
        events=recent,
        when=lambda ms: desk.shown(ms / 1000, zone),
        last_at=_last_at(vault.id),
        unconfirmed=Version.select().where((Version.vault == vault) & (Version.confirmed == False)).count(),  # noqa: E712
    )


def change(ask: Ask, name: str) -> Any:
    form = ask.form()
    with desk.opened(ask.config):
        vault = vaults.named(name)
        before = _recorded(vault)
        try:
            with vault_db.atomic():
                changed = vaults.change(vault, **_settings(form))
                audit.record(ask.person.name, "changed", f"vault {name}", before, _recorded(changed))
        except UserError as error:
            return _vault_page(ask, vault, form, str(error))
    return ask.done(url(name), f"Vault {name} is changed.")


def remove(ask: Ask, name: str) -> Any:
    """What it has is kept for as long as its retention says; its log-ins end."""
    with desk.opened(ask.config):
        vault = vaults.named(name)
        with vault_db.atomic():
            before = _recorded(vault)
            vaults.remove(vault, force=ask.form().get("name", "").strip() == name)
            audit.record(ask.person.name, "removed", f"vault {name}", before, {})
    return ask.done("/vaults", f"Vault {name} is removed; what it had is kept until its time is over.")


# Its log-ins


def add_login(ask: Ask, name: str) -> Any:
    form = ask.form()
    login, kind = form.get("login", "").strip(), form.get("kind", "")
    with desk.opened(ask.config):
        vault = vaults.named(name)
        try:
            with vault_db.atomic():
                networks = form.get("networks", "")
                password = vaults.add_login(vault, login, kind, networks)
                after = {"kind": kind, "networks": networks, "password": "…"}
                audit.record(ask.person.name, "added", f"login {login} of vault {name}", {}, after)
        except UserError as error:
            return _vault_page(ask, vault, error=str(error))
        return _vault_page(ask, vault, shown={"login": login, "password": password})


def change_login(ask: Ask, name: str, login: str) -> Any:
    """Another password, or none any more."""
    form = ask.form()
    with desk.opened(ask.config):
        vault = vaults.named(name)
        found = Credential.get_or_none((Credential.login == login) & (Credential.vault == vault))
        if found is None:
            raise UserError(f"vault {name} has no log-in {login!r}")
        subject = f"login {login} of vault {name}"
        with vault_db.atomic():
            if "remove" in form:
                vaults.remove_login(login)
                audit.record(ask.person.name, "removed", subject, {"kind": found.kind}, {})
                return ask.done(url(name), f"{login} may not log in any more.")
            password = vaults.set_password(login)
            audit.record(ask.person.name, "changed", subject, {"password": "old"}, {"password": "new"})
        return _vault_page(ask, vault, shown={"login": login, "password": password})


def forget(ask: Ask, name: str) -> Any:
    """A series that comes no more raises no alarm."""
    number = ask.form().get("series", "")
    with desk.opened(ask.config):
        vault = vaults.named(name)
        series = alerts.forget(vault, int(number) if number.isdecimal() and len(number) < 19 else -1)
        audit.record(ask.person.name, "changed", f"vault {name}", {"expected": series}, {"expected": None})
    return ask.done(url(name), f"{series} is expected no more, until it comes again.")


PAGES = (
    Page("/vaults", listed, nav="Vaults"),
    Page("/vaults/new", new, role="operator"),
    Page("/vaults/new", add, "POST"),
    Page("/vaults/<name>", shown),
    Page("/vaults/<name>", change, "POST"),
    Page("/vaults/<name>/forget", forget, "POST"),
    Page("/vaults/<name>/remove", remove, "POST", role="owner"),
    Page("/vaults/<name>/logins/new", add_login, "POST"),
    Page("/vaults/<name>/logins/<login>", change_login, "POST"),
)
