"""Vaults, their limits and their log-ins as a file beside the catalogue, which the appliance's backup takes along.

It names the catalogue that it is of. One of another catalogue came from a backup: it is read before it is written
anew, and the catalogue goes on as the one that it is of. Vaults are known by their names, as in the manifest.
"""

import grp
import json
import logging
import os
import pwd
import secrets
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from appliance.errors import UserError
from appliance.files import written
from appliance.units import parse_duration
from appliance.vault import catalog, vaults
from appliance.vault.models import Credential, Head, Vault, vault_db

MAX_BYTES = 16 << 20  # a backup has no larger one
_VAULT = ("name", *vaults.SETTABLE, "created_at", "removed_at")
_LOGIN = ("login", "password", "kind", "networks", "created_at")
_MAX_TIME_S = 1 << 40

log = logging.getLogger(__name__)


class Account(NamedTuple):
    """A vault and its log-ins, by the names of their columns."""

    vault: dict[str, Any]
    logins: list[dict[str, Any]]


class Settings(NamedTuple):
    catalogue: str
    accounts: list[Account]


class Read(NamedTuple):
    """How many came back."""

    vaults: int
    logins: int


def keep(folder: Path) -> bool:
    """The keeper's: whether it had to be written, as the catalogue says something else. A broken one is put aside."""
    path = folder / catalog.SETTINGS
    try:
        read_back(folder)
    except UserError as error:
        path.rename(path.with_suffix(".bad"))
        log.error("%s; it is %s now", error, path.with_suffix(".bad").name)
    text = _text()
    if path.exists() and path.read_bytes() == text:
        return False
    owner, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    with written(path, 0o640, owner, group) as file:
        file.write(text)
    return True


def read_back(folder: Path) -> Read | None:
    """None where there is no file, or the catalogue's own. What it lacks stays as it is.

    In one transaction. Raises UserError for what the keeper hasn't written so.
    """
    path = folder / catalog.SETTINGS
    try:
        found = parse(_content(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, UserError) as error:
        why = str(error)[:200]
        raise UserError(f"{path}: {why}: nothing is taken from it: put it aside to go on without") from None
    with vault_db.atomic():
        head = Head.get_by_id(1)
        if head.catalogue == found.catalogue:
            return None
        for account in found.accounts:
            _put(account)
        Head.update(catalogue=found.catalogue).execute()
    return Read(len(found.accounts), sum(len(account.logins) for account in found.accounts))


def _content(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError("it is too large")
    return text


def _put(account: Account) -> None:
    name = account.vault["name"]
    Vault.insert(account.vault).on_conflict(conflict_target=[Vault.name], update=account.vault).execute()
    vault = Vault.get(Vault.name == name)
    for login in account.logins:
        row = login | {"vault": vault.id}
        Credential.insert(row).on_conflict(conflict_target=[Credential.login], update=row).execute()


def _text() -> bytes:
    with vault_db.atomic():
        Head.update(catalogue=secrets.token_hex(16)).where(Head.catalogue == "").execute()
        catalogue = Head.get_by_id(1).catalogue
        logins = defaultdict(list)
        for row in Credential.select().order_by(Credential.login):
            logins[row.__data__["vault"]].append({key: getattr(row, key) for key in _LOGIN})
        found = [
            {key: getattr(row, key) for key in _VAULT} | {"logins": logins[row.id]}
            for row in Vault.select().order_by(Vault.name)
        ]
    return json.dumps({"catalogue": catalogue, "vaults": found}, indent=1).encode()


# Reading: whatever is in the file


def parse(text: bytes) -> Settings:
    """Raises ValueError, UserError and RecursionError. Keys that it doesn't know are a newer program's."""
    try:
        said = json.loads(text)
    except ValueError:
        raise ValueError("it isn't JSON, or not all of it") from None
    said = _of(dict, said, "the file")
    catalogue = _of(str, said.get("catalogue"), "catalogue")
    if not (catalogue.isalnum() and catalogue.isascii() and len(catalogue) <= 64):
        raise ValueError("catalogue: it is no catalogue's number")
    accounts = [_account(_of(dict, item, "a vault")) for item in _of(list, said.get("vaults"), "vaults")]
    _no_double("vaults", [account.vault["name"] for account in accounts])
    _no_double("log-ins", [login["login"] for account in accounts for login in account.logins])
    return Settings(catalogue, accounts)


def _account(item: dict[str, Any]) -> Account:
    name = _name(item.get("name"))
    given = {key: item[key] for key in vaults.SETTABLE if key in item}
    _of(bool, given.get("tls_only", False), f"vault {name}: tls_only")
    _of(str, given.get("networks", ""), f"vault {name}: networks")
    given["schedule"] = _schedule(_of(str, given.get("schedule", ""), f"vault {name}: schedule"))
    removed_at = item.get("removed_at")
    times = {"created_at": _time(item), "removed_at": None if removed_at is None else _time(item, "removed_at")}
    logins = [_login(_of(dict, one, "a log-in")) for one in _of(list, item.get("logins", []), f"vault {name}: logins")]
    return Account({"name": name} | vaults.checked(given) | times, logins)


def _login(item: dict[str, Any]) -> dict[str, Any]:
    name = _name(item.get("login"))
    password = _of(str, item.get("password"), f"log-in {name}: password")
    if not vaults.is_hash(password):
        raise ValueError(f"log-in {name}: its password isn't hashed as here")
    kind = item.get("kind")
    if kind not in vaults.KINDS:
        raise ValueError(f"log-in {name}: {kind!r} is no kind of one")
    networks = vaults.networks(_of(str, item.get("networks", ""), f"log-in {name}: networks"))
    return {"login": name, "password": password, "kind": kind, "networks": networks, "created_at": _time(item)}


def _of(kind: type, value: Any, what: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{what}: it is missing, or something else")
    return value


def _name(value: Any) -> str:
    if type(value) is not str or not vaults.NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name")
    return value


def _time(item: dict[str, Any], key: str = "created_at") -> int:
    value = _of(int, item.get(key, int(time.time())), key)
    if not 0 <= value < _MAX_TIME_S:
        raise ValueError(f"{key}: {value} is no time")
    return int(value)


def _schedule(text: str) -> str:
    """What is no schedule, as one could type on a command line, expects nothing that it hadn't expected before."""
    try:
        return text if text in ("", "none") or parse_duration(text) else ""
    except UserError:
        return ""


def _no_double(what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{what}: a name is there twice")
