"""Which appliances the database is of, and whether this is one of them. Each runs inside the open core database."""

import re
import secrets
import time
from pathlib import Path
from typing import Any

import peewee

from appliance import config as configuration
from appliance.accounts.models import core_db
from appliance.admin import audit, people
from appliance.config import Config
from appliance.config_site import KEY
from appliance.crypto import derived_secret, load_box
from appliance.db import clock
from appliance.errors import Conflict, UserError
from appliance.files import written
from appliance.island.models import OfflineKey
from appliance.nas.models import GATEWAY, Nas
from appliance.service import is_enabled
from appliance.sites.models import Site

MAX_TITLE = 80
SILENT_S = 180  # three reports
OTHER_KEY = (
    "this box seals passwords with another key than the other sites, so it can't read them: join with"
    " `gatehouse site join FILE`, which brings the right one"
)


def enter(config: Config) -> None:
    """Root's, before anything is rendered. The first appliance with a key makes the database one of many sites.

    Raises UserError where this box may not work on the database.
    """
    if isinstance(core_db.obj, peewee.SqliteDatabase):
        return
    if not config.site.key:
        if Site.select().exists():
            raise UserError(f"{config.file}: many appliances work on this database: set [site] key to this one's")
        return
    mine, machine = fingerprint(config.paths.state), own_machine(config.paths.state)
    site = Site.get_or_none(Site.key == config.site.key)
    if (site is None or site.machine not in ("", machine)) and _ends(config):
        return
    if site is None:
        _found(config, mine, machine)
        return
    if Site.select().where(Site.fingerprint.not_in(("", mine))).exists():
        raise UserError(OTHER_KEY)
    if site.machine != machine:
        raise UserError(_taken(site))


def _ends(config: Config) -> bool:
    """Whether this box was the site until it was removed, and only wants to end what it did for guests."""
    if is_enabled(config, "hotspot") or not Site.select().exists():
        return False
    try:
        last = configuration.load(config.paths.state / "gatehouse.toml")  # as apply keeps it
    except UserError:
        return False
    return last.site.key == config.site.key and last.database == config.database


def _found(config: Config, mine: str, machine: str) -> None:
    key, now = config.site.key, _new_time()
    if Site.select().exists():
        raise UserError(
            f"there is no site {key!r} in this database: it was removed, or never made; `gatehouse site add {key}`"
            " on another appliance makes a file, `gatehouse site join FILE` takes it here"
        )
    if (nas := Nas.select().first()) is not None:
        load_box(config.paths.state).open(nas.secret)
    names = {"key": key, "title": config.site.name[:MAX_TITLE]}
    Site.create(**names, fingerprint=mine, machine=machine, created_at=now, changed_at=now, joined_at=now)


def _new_time() -> int:
    """No two alike, so that programs can read sites in the order in which they were made."""
    newest = Site.select(peewee.fn.MAX(Site.created_at)).scalar()
    return max(int(time.time()), (newest or 0) + 1)


def _taken(site: Any) -> str:
    if not site.machine:
        return f"the site {site.key!r} waits for its box: take its file with `gatehouse site join FILE`"
    return (
        f"the site {site.key!r} is another machine's: give this one a key of its own, or make a new file for it with"
        f" `gatehouse site add {site.key} --again` if it takes the other's place"
    )


def fingerprint(state: Path) -> str:
    """Tells keys apart, and nothing of the key."""
    return derived_secret(state, "fingerprint of the key")


def own_machine(state: Path) -> str:
    """Which box this is; made at the first time, and never in a backup."""
    path = state / "machine"
    if not path.exists():
        with written(path, 0o640, "root", "gatehouse-core") as file:
            file.write(secrets.token_hex(16).encode())
    return path.read_text(encoding="ascii").strip()


# What operators do with sites


def get(key: str) -> Any:
    site = Site.get_or_none(Site.key == key)
    if site is None:
        raise UserError(f"there is no site {key!r}: see `gatehouse site list`")
    return site


def must_be_fleet(config: Config) -> None:
    if not config.fleet:
        raise UserError(f"{config.file}: sites need [site] key and [database] url = postgresql://…: see docs/sites.md")


def add(key: str, title: str) -> Any:
    if not re.fullmatch(KEY, key):
        raise UserError(f"{key!r} can't be a site's key: use 1 to 32 small letters, digits and '-'")
    now = _new_time()
    if Site.get_or_none(Site.key == key) is not None:
        raise Conflict(f"site {key!r} exists already: --again makes another file for it")
    return Site.create(key=key, title=_title(title), created_at=now, changed_at=now)


def change(site: Any, title: str) -> None:
    site.title, site.changed_at = _title(title), int(time.time())
    site.save(only=[Site.title, Site.changed_at])


def remove(config: Config, site: Any) -> None:
    """With its gateway. Its box finds itself removed, and ends what it does for guests; its sessions stay on record."""
    if site.key == config.site.key:
        raise UserError("this is the appliance's own site: remove it from another one")
    if count := Nas.select().where(Nas.site == site.key, Nas.kind != GATEWAY).count():
        raise Conflict(
            f"{count} routers belong to the site {site.key}: remove them, or give them to another one, first"
        )
    with core_db.atomic():
        for gateway in list(Nas.select().where(Nas.site == site.key)):
            gateway.delete_instance()  # whose sessions it had is told by the record
            audit.record("removal of the site", "removed", f"router {gateway.name}", {"site": site.key}, {})
        people.forget_site(site.key)
        OfflineKey.delete().where(OfflineKey.site == site.key).execute()  # a box that was stolen signs nothing more
        site.delete_instance()


def _title(text: str) -> str:
    text = text.strip()
    if not text.isprintable() or len(text) > MAX_TITLE:
        raise UserError(f"a site's title has up to {MAX_TITLE} printable characters")
    return text


def is_silent(site: Any, now: int) -> bool:
    """`now` by the database's clock; a site that hasn't joined yet isn't missed."""
    return bool(site.machine) and now - (site.reported_at or site.joined_at or 0) > SILENT_S


def database_now() -> int:
    return clock(core_db.obj, int(time.time()))
