"""Who may use the pages: users with roles, their browsers, and programs. Each runs inside an open core database."""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import argon2

from appliance.accounts import manage
from appliance.admin.models import AdminSession, AdminUser, ApiToken
from appliance.errors import UserError
from appliance.sites.models import Site

ROLES = ("reader", "operator", "owner")  # each may do what those before may
LINK = "one-time link"
NOWHERE = "nowhere"
IDLE_S = 8 * 3600
MIN_PASSWORD = 10
HASHER = argon2.PasswordHasher()  # its parameters are RFC 9106's second choice
MAX_SESSIONS = 100  # of one user; the one that wasn't used for longest gives way
_SEEN_EVERY_S = 60  # a look at a page needn't write each time


@dataclass(frozen=True)
class Person:
    """Who asks. `form_token` is empty for programs, which send no forms.

    `sites` is None for who is everywhere, else the role by site, and for what is common by "" (reach.py).
    """

    name: str
    role: str
    form_token: str = ""
    session: str = ""
    sites: Mapping[str, str] | None = None

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


def columns(name: str, password: str, role: str, sites: str = "") -> dict[str, Any]:
    """Of a new one; `sites` as they are typed. Not for transactions: a password's hash takes a quarter of a second.

    Raises UserError for a short password, an unknown role or site.
    """
    return {
        "name": manage.name(name, "admin"),
        "password": hashed(password),
        "role": _role(role),
        "sites": limits(sites, role),
        "created_at": int(time.time()),
    }


def add(columns: Mapping[str, Any]) -> Any:
    """Raises UserError for a name that is taken."""
    return manage.add(AdminUser, "admin", **columns)


def has_owner() -> bool:
    return bool(AdminUser.select().where((AdminUser.role == "owner") & AdminUser.enabled).exists())


def changes(
    user: Any,
    password: str | None = None,
    role: str | None = None,
    enabled: bool | None = None,
    sites: str | None = None,
) -> dict[str, Any]:
    """New values of columns, for `change`; not for transactions, as `columns`."""
    values: dict[str, Any] = {}
    if password is not None:
        values["password"] = hashed(password)
    if role is not None:
        values["role"] = _role(role)
    if enabled is not None:
        values["enabled"] = enabled
    typed = typed_sites(user.sites) if sites is None else sites
    return values | {"sites": limits(typed, values.get("role", user.role))}


def change(user: Any, values: Mapping[str, Any]) -> None:
    """A new password, a lower role or a block ends what the user has open. The last owner stays."""
    if not values.get("enabled", True) or values.get("role", "owner") != "owner":
        _keep_an_owner(user)
    manage.change(user, "admin", values)
    AdminSession.delete().where(AdminSession.user == user).execute()


def remove(user: Any) -> None:
    _keep_an_owner(user)
    user.delete_instance()


def _keep_an_owner(user: Any) -> None:
    others = AdminUser.select().where((AdminUser.role == "owner") & AdminUser.enabled & (AdminUser.id != user.id))
    if user.role == "owner" and user.enabled and not others.exists():
        raise UserError(f"{user.name} is the only owner: make another one first")


def limits(typed: str, role: str) -> str:
    """As it is kept: `north=operator, south=reader`; nothing is everywhere, `nowhere` no site at all."""
    found: dict[str, str] = {}
    for word in typed.replace(",", " ").split():
        key, _, there = word.partition("=")
        if word == NOWHERE:
            continue
        if not Site.select().where(Site.key == key).exists():
            raise UserError(f"there is no site {key!r}: write north=operator, south=reader")
        found[key] = _role(there)
    if not typed.strip():
        return ""
    if _role(role) == "owner":
        raise UserError("an owner is one everywhere: who is limited to sites is reader or operator of what is common")
    return json.dumps(found, sort_keys=True)


def typed_sites(kept: str) -> str:
    if not kept:
        return ""
    return ", ".join(f"{key}={role}" for key, role in json.loads(kept).items()) or NOWHERE


def forget_site(key: str) -> None:
    """One that is gone: who was limited to it stays limited."""
    for model in (AdminUser, ApiToken):
        for row in model.select().where(model.sites != ""):
            left = {site: role for site, role in json.loads(row.sites).items() if site != key}
            model.update(sites=json.dumps(left, sort_keys=True)).where(model.id == row.id).execute()


def _sites(row: Any) -> Mapping[str, str] | None:
    return {"": row.role, **json.loads(row.sites)} if row.sites else None


def _role(role: str) -> str:
    if role not in ROLES:
        raise UserError(f"{role!r} is no role: {', '.join(ROLES)}")
    return role


def hashed(password: str) -> str:
    if len(password) < MIN_PASSWORD or not password.isprintable() or len(password) > 128:
        raise UserError(f"a password here needs {MIN_PASSWORD} to 128 printable characters")
    return HASHER.hash(password)


def check(name: str, password: str) -> Any:
    """The user, or None; as slow for a name that there isn't."""
    user = AdminUser.get_or_none((AdminUser.name == name) & AdminUser.enabled)
    try:
        HASHER.verify(user.password if user else _nobody(), password)
    except argon2.exceptions.VerificationError:
        return None
    return user


@cache
def _nobody() -> str:
    return HASHER.hash(secrets.token_hex())


# Browsers


def enter(user: Any, address: str, agent: str) -> str:
    """A new cookie; `user` is None for who came by a one-time link."""
    cookie, now = secrets.token_urlsafe(32), int(time.time())
    AdminSession.delete().where(AdminSession.used_at < now - IDLE_S).execute()
    kept = AdminSession.select(AdminSession.token).where(AdminSession.user == user)
    for old in kept.order_by(AdminSession.used_at.desc()).offset(MAX_SESSIONS - 1):
        old.delete_instance()
    AdminSession.create(
        token=_digest(cookie),
        user=user,
        form_token=secrets.token_urlsafe(16),
        address=address,
        agent=agent[:200],
        created_at=now,
        used_at=now,
    )
    return cookie


def by_cookie(cookie: str, used: bool = True) -> Person | None:
    """Renewed as long as it is used by a person; a page that only looks again uses nothing."""
    now = int(time.time())
    session = AdminSession.get_or_none(AdminSession.token == _digest(cookie))
    if session is None or not now - IDLE_S < session.used_at <= now + IDLE_S:
        return None
    user = session.user
    if user is not None and not user.enabled:
        return None
    if used and abs(now - session.used_at) > _SEEN_EVERY_S:
        AdminSession.update(used_at=now).where(AdminSession.token == session.token).execute()
    if user is None:
        return Person(LINK, "owner", session.form_token, session.token)
    return Person(user.name, user.role, session.form_token, session.token, _sites(user))


def leave(session: str) -> None:
    AdminSession.delete().where(AdminSession.token == session).execute()


def sessions() -> Sequence[Any]:
    alive = AdminSession.used_at > int(time.time()) - IDLE_S
    return list(AdminSession.select().where(alive).order_by(AdminSession.used_at.desc()))


# Programs


def add_token(name: str, role: str, sites: str = "") -> str:
    """What the program sends as `Authorization: Bearer …`; it can't be shown again."""
    token = f"gh_{secrets.token_urlsafe(32)}"
    now = int(time.time())
    values = {"role": _role(role), "sites": limits(sites, role), "created_at": now}
    manage.add(ApiToken, "token", name=manage.name(name, "token"), token=_digest(token), **values)
    return token


def by_token(token: str) -> Person | None:
    row = ApiToken.get_or_none(ApiToken.token == _digest(token))
    if row is None:
        return None
    now = int(time.time())
    if row.used_at is None or abs(now - row.used_at) > _SEEN_EVERY_S:
        ApiToken.update(used_at=now).where(ApiToken.id == row.id).execute()
    return Person(f"token {row.name}", row.role, sites=_sites(row))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
