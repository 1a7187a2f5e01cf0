"""To whom this appliance offers its vaults, or a copy that it keeps: by a token that is good for nothing else.

The keeper signs how far the manifest goes, and which certificate the admin's pages show; those hand both out.
"""

import grp
import hashlib
import json
import os
import pwd
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peewee

from appliance.config import Config
from appliance.errors import Conflict, UserError
from appliance.files import written
from appliance.vault import signing, vaults
from appliance.vault.access import CERTIFICATE_HASH
from appliance.vault.models import GOOD, Head, Object, VaultModel
from appliance.vault.pieces import Folder
from appliance.vault.store import Store

SIGNED = "offered.json"  # beside the catalogue
COPIES = "replicas"  # below `vault/` of the data disk
OLD_S = 2 * 86_400
_SIGN_EVERY_S = 600
_SEEN_EVERY_S = 60


class Offer(VaultModel):
    """`token` is its hash. `kept` is the name of a copy that is kept here, empty for the vaults of this appliance.

    The rest is what the other side says of its copy, when it asks.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    token = peewee.TextField(unique=True)
    kept = peewee.TextField(default="")
    networks = peewee.TextField(default="")
    created_at = peewee.BigIntegerField()
    used_at = peewee.BigIntegerField(null=True)
    used_from = peewee.TextField(default="")
    head_n = peewee.BigIntegerField(default=0)
    pulled_at = peewee.BigIntegerField(null=True)
    verified_at = peewee.BigIntegerField(null=True)
    bad = peewee.IntegerField(default=0)


def add(name: str, networks: str = "", kept: str = "") -> str:
    """Its token, which can't be shown again. One of that name gets another one."""
    if not vaults.NAME.fullmatch(name):
        raise UserError(f"{name!r}: a name has a-z, 0-9, '.', '_' and '-', at most 63, and begins with a-z or 0-9")
    token = f"ghc_{secrets.token_urlsafe(32)}"
    values = {"token": _digest(token), "kept": kept, "networks": vaults.networks(networks)}
    found = Offer.get_or_none(Offer.name == name)
    if found is not None and found.kept != kept:
        raise Conflict(f"{name} is offered something else already: take another name")
    if found is not None:
        Offer.update(values).where(Offer.id == found.id).execute()
    else:
        Offer.create(name=name, created_at=int(time.time()), **values)
    return token


def remove(name: str) -> None:
    if not Offer.delete().where(Offer.name == name).execute():
        raise UserError(f"nothing is offered to {name!r}")


def find(token: str, address: str, now: int) -> Any:
    """The offer of a token, if it may be used from there; else None."""
    found = Offer.get_or_none(Offer.token == _digest(token)) if token else None
    if found is None:
        return None
    try:
        if not vaults.is_allowed(address, found.networks):
            return None
    except ValueError:
        return None
    if found.used_at is None or abs(now - found.used_at) > _SEEN_EVERY_S or found.used_from != address:
        Offer.update(used_at=now, used_from=address).where(Offer.id == found.id).execute()
    return found


TOLD = ("n", "pulled_at", "verified_at", "bad")


def told(offer: Any, said: Mapping[str, int], now: int) -> None:
    """What the other side says of its copy; shown, and trusted for nothing."""
    times = {key: min(said[key], now) or None for key in ("pulled_at", "verified_at")}
    Offer.update(head_n=said["n"], bad=min(said["bad"], 1 << 31), **times).where(Offer.id == offer.id).execute()


# What it is given


def place_of(store: Store, offer: Any) -> Path:
    return store.readable() / COPIES / offer.kept if offer.kept else store.readable()


def head(store: Store, offer: Any) -> dict[str, Any]:
    """Signed by whose vaults these are. Raises UserError where there is none yet."""
    try:
        found = signing.read(place_of(store, offer)) if offer.kept else _signed(store)["head"]
    except (OSError, ValueError, KeyError):
        found = None
    if found is None:
        raise UserError("nothing is signed yet: try again in a minute")
    return found


def statement(store: Store) -> dict[str, Any] | None:
    """By which this appliance is known, to anybody who asks; None where it offers nothing."""
    try:
        found: dict[str, Any] = _signed(store)["statement"]
    except (OSError, ValueError, KeyError):
        return None
    return found


def _signed(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store.state / SIGNED).read_bytes())
    return found


def content(store: Store, offer: Any, sha256: str, at: int) -> bytes | None:
    """Of the vaults only what the catalogue has, and takes for good."""
    known = offer.kept or Object.select().where((Object.sha256 == sha256) & (Object.state == GOOD)).exists()
    return Folder(place_of(store, offer)).content(sha256, at) if known else None


# By the keeper


def sign(config: Config, store: Store, now: int) -> bool:
    """Whether it had to be written anew: as something changed, or so that others see that somebody is still there."""
    path = store.state / SIGNED
    if not Offer.select().exists():
        path.unlink(missing_ok=True)
        return False
    private, vault_head = signing.key(store.state), Head.get_by_id(1)
    facts: dict[str, Any] = {"n": vault_head.n, "sha256": vault_head.sha256, "bytes": vault_head.bytes}
    certificate = (config.paths.run / CERTIFICATE_HASH).read_text("ascii").strip()
    try:
        before = _signed(store)
        same = {key: before["head"][key] for key in facts} == facts
        same &= (before["statement"]["certificate"], before["head"]["key"]) == (certificate, signing.public(private))
        if same and 0 <= now - before["head"]["at"] < _SIGN_EVERY_S:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        pass
    said = {
        "head": signing.signed(private, **facts, at=now),
        "statement": signing.signed(private, certificate=certificate, at=now),
    }
    owner, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    with written(path, 0o640, owner, group) as file:
        file.write(json.dumps(said).encode())
    return True


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def rows() -> list[Any]:
    return list(Offer.select().order_by(Offer.name))


def is_behind(offer: Any, now: int) -> bool:
    """Who only brings something back needn't follow."""
    return not offer.kept and bool((offer.pulled_at or offer.created_at) < now - OLD_S)
