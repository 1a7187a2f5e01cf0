"""The pages of what a vault has: files with their versions, as they are and were, and bringing old ones back."""

from typing import Any

from appliance.admin import audit, way_in
from appliance.admin.frame import Ask, Page
from appliance.vault import asking, browse, desk, vaults
from appliance.vault.browse import Room
from appliance.vault.web import url


def _room(ask: Ask, name: str) -> Room:
    person = ask.person
    return Room(vaults.named(name), url(name), person.may("operator"), person.may("operator"), person.may("owner"))


def files(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config) as store:
        return browse.files(ask, store, _room(ask, name))


def versions(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config) as store:
        return browse.versions(ask, store, _room(ask, name))


def compare(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config) as store:
        return browse.compare(ask, store, _room(ask, name))


def get(ask: Ask, name: str) -> Any:
    """Who took what is on record: a backup has secrets."""
    with desk.opened(ask.config) as store:
        room = _room(ask, name)
        version = desk.version_of(store, room.vault, ask.query().get("version", ""))
        audit.record(ask.person.name, "downloaded", f"vault {name}", {}, {"path": version.path, "version": version.id})
        return browse.get(ask, store, room)


def archive(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config) as store:
        room = _room(ask, name)
        what = {key: ask.query()[key][:300] for key in ("path", "at") if ask.query().get(key)}
        audit.record(ask.person.name, "downloaded", f"vault {name}", {}, {"archive": "yes", **what})
        return browse.archive(ask, store, room)


def deleted(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config) as store:
        return browse.deleted(ask, store, _room(ask, name))


def events(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config) as store:
        return browse.events(ask, store, _room(ask, name))


def restore(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config) as store:
        room = _room(ask, name)
        path, version = browse.restore(ask, store, room, _who(ask))
        audit.record(ask.person.name, "restored", f"vault {name}", {}, {"path": path, "version": version.id})
        return ask.done(room.url("versions", path=path), f"Version {version.id} is the present one of {path} now.")


def rewind(ask: Ask, name: str) -> Any:
    """The whole vault as it was at a time; once it is said again which vault that is."""
    form = ask.form()
    with desk.opened(ask.config):
        room = _room(ask, name)
        at_ms = desk.moment(form.get("at", ""), ask.config.site.timezone)
        if at_ms is None or form.get("name", "").strip() != name:
            return ask.done(room.url("files", at=form.get("at", "")), "Type the vault’s name to bring all of it back.")
        count = asking.ask("restore_view", _who(ask), vault=name, at=at_ms)
        audit.record(ask.person.name, "restored", f"vault {name}", {}, {"as of": form["at"][:40]})
        return ask.done(room.url("files"), f"{name} is as it was; {count} files and folders have changed by that.")


def _who(ask: Ask) -> str:
    return f"{ask.person.name} ({way_in.address() or 'here'})"


PAGES = (
    Page("/vaults/<name>/files", files),
    Page("/vaults/<name>/versions", versions),
    Page("/vaults/<name>/deleted", deleted),
    Page("/vaults/<name>/diff", compare, role="operator"),
    Page("/vaults/<name>/get", get, role="operator"),
    Page("/vaults/<name>/archive", archive, role="operator"),
    Page("/vaults/<name>/restore", restore, "POST"),
    Page("/vaults/<name>/rewind", rewind, "POST", role="owner"),
    Page("/vaults/<name>/events", events),
)
