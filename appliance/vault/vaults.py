"""Vaults and their log-ins, for commands, pages and the API alike. Raises UserError."""

import functools
import re
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import argon2

from appliance.crypto import new_password
from appliance.errors import Conflict, UserError
from appliance.vault.models import DROP, FULL, READ, Credential, Vault, Version

KINDS = (FULL, READ, DROP)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
HASHER = argon2.PasswordHasher()
_NUMBERS = {
    "quota_bytes": (1, 2**60),
    "quota_files": (1, 10**9),
    "rate_bps": (0, 10**12),
    "max_sessions": (1, 1000),
    "keep_days": (0, 36_500),
    "keep_versions": (0, 100_000),
    "lock_days": (0, 36_500),
}
_MAY_BE_NONE = ("quota_bytes", "quota_files")
SETTABLE = (*_NUMBERS, "networks", "tls_only", "schedule")


def everyone() -> list[Any]:
    return list(Vault.select().where(Vault.removed_at.is_null()).order_by(Vault.name))


def named(name: str) -> Any:
    found = Vault.get_or_none((Vault.name == name) & Vault.removed_at.is_null())
    if found is None:
        raise UserError(f"there is no vault {name!r}")
    return found


def create(name: str, **settings: Any) -> Any:
    """Its settings are those of SETTABLE. It has no log-in yet."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r}: a vault's name has a-z, 0-9, '.', '_' and '-', at most 63, and begins with a-z or 0-9"
        )
    if Vault.get_or_none(Vault.name == name):
        raise Conflict(f"there is a vault {name!r} already, or what it had is still kept")
    return Vault.create(name=name, created_at=int(time.time()), **checked(settings))


def change(vault: Any, **settings: Any) -> Any:
    """A shorter lock is for what comes from now on: what is locked stays so for as long as it was told."""
    if found := checked(settings):
        Vault.update(found).where(Vault.id == vault.id).execute()
    return Vault.get_by_id(vault.id)


def remove(vault: Any, force: bool = False) -> None:
    """Its log-ins end at once; what it has is kept until its retention ends, then the name is free again."""
    if not force and Version.select().where((Version.vault == vault) & Version.left_age.is_null()).exists():
        raise Conflict(
            f"the vault {vault.name!r} has files: say so if they are to go, once their time to be kept is over"
        )
    Credential.delete().where(Credential.vault == vault).execute()
    Vault.update(removed_at=int(time.time())).where(Vault.id == vault.id).execute()


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """As they are kept. Raises UserError."""
    for key, value in settings.items():
        if key not in SETTABLE:
            raise UserError(f"{key}: a vault has no such setting")
        if key in _NUMBERS and not (value is None and key in _MAY_BE_NONE):
            low, high = _NUMBERS[key]
            if not isinstance(value, int) or not low <= value <= high:
                raise UserError(f"{key}: a number between {low} and {high} is needed, not {value!r}")
    if "networks" in settings:
        settings["networks"] = networks(settings["networks"])
    return settings


def networks(text: str | Sequence[str]) -> str:
    """Networks and addresses as they are kept, parted by a space."""
    words = re.split(r"[\s,]+", text.strip()) if isinstance(text, str) else text
    try:
        return " ".join(str(ip_network(word, strict=False)) for word in words if word)
    except ValueError as error:
        raise UserError(f"networks: {error}") from None


def is_allowed(address: str, *lists: str) -> bool:
    """Whether an address is in each of the lists that has any; of a vault, and of a log-in."""
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None) or found
    return all(not text or any(mapped in ip_network(word) for word in text.split()) for text in lists)


# Log-ins


def add_login(vault: Any, login: str, kind: str = FULL, networks_: str = "", password: str | None = None) -> str:
    """Returns the password, which can't be had again."""
    if not NAME.fullmatch(login):
        raise UserError(f"{login!r}: a log-in has a-z, 0-9, '.', '_' and '-', at most 63, and begins with a-z or 0-9")
    if kind not in KINDS:
        raise UserError(f"kind: one of {', '.join(KINDS)} is needed, not {kind!r}")
    if Credential.get_or_none(Credential.login == login):
        raise Conflict(f"there is a log-in {login!r} already")
    word = _fit(password)
    Credential.create(
        vault=vault,
        login=login,
        password=HASHER.hash(word),
        kind=kind,
        networks=networks(networks_),
        created_at=int(time.time()),
    )
    return word


def add_drop(vault: Any, login: str, address: str = "") -> str:
    """A log-in that can only bring new files, from that address if one is given; for what stands in a script."""
    return add_login(vault, login, DROP, address)


def logins(vault: Any) -> list[Any]:
    return list(Credential.select().where(Credential.vault == vault).order_by(Credential.login))


def login_named(login: str) -> Any:
    found = Credential.get_or_none(Credential.login == login)
    if found is None:
        raise UserError(f"there is no log-in {login!r}")
    return found


def set_password(login: str, password: str | None = None) -> str:
    """Returns it; a new one is made where none is given."""
    credential, word = login_named(login), _fit(password)
    Credential.update(password=HASHER.hash(word)).where(Credential.id == credential.id).execute()
    return word


def remove_login(login: str) -> None:
    Credential.delete().where(Credential.id == login_named(login).id).execute()


@functools.cache
def _nobody() -> str:
    return HASHER.hash("nobody has this password")


def verify(login: str, password: str) -> Any:
    """The log-in whose password it is, with its `vault`; else None, after as long a time."""
    found = Credential.get_or_none(Credential.login == login)
    try:
        HASHER.verify(found.password if found else _nobody(), password)
    except (argon2.exceptions.VerificationError, UnicodeEncodeError):
        return None
    return found if found and found.vault.removed_at is None else None


def is_hash(text: str) -> bool:
    """Whether `verify` can take it, at no more than a few times the cost of ours."""
    try:
        said = argon2.extract_parameters(text)
    except ValueError:
        return False
    costs = ((said.memory_cost, HASHER.memory_cost), (said.time_cost, HASHER.time_cost))
    return (
        said.type is HASHER.type
        and text.isascii()
        and text.isprintable()
        and all(0 < cost <= 4 * ours for cost, ours in (*costs, (said.parallelism, HASHER.parallelism)))
    )


def used(credential: Any, address: str) -> None:
    change_ = {Credential.used_at: int(time.time()), Credential.used_from: address}
    Credential.update(change_).where(Credential.id == credential.id).execute()


def _fit(password: str | None) -> str:
    if password is None:
        return new_password()
    if not 8 <= len(password) <= 128 or not password.isprintable():
        raise UserError("password: 8 to 128 characters are needed, none of them a control character")
    return password
