"""What operators do with plans, pools and accounts: checked values in, rows changed, errors for people.

Commands and pages call these functions; none of them prints. Each runs inside an open core database.
"""

import json
import re
import time
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, summarize_address_range
from typing import Any

import peewee

from appliance.accounts import limits, sales, terms
from appliance.accounts.models import (
    Account,
    AccountUsage,
    LiveChange,
    Plan,
    Pool,
    PoolAddress,
    Session,
    VoucherBatch,
    core_db,
)
from appliance.crypto import SecretBox, new_password
from appliance.errors import Conflict, UserError

MAX_POOL_ADDRESSES = 65_536


def name(text: str, what: str) -> str:
    """A name for a plan, pool or router: it stands in files and command lines, so it is kept simple."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", text):
        raise UserError(f"{text!r} can't name a {what}: use up to 63 letters, digits, '.', '_' and '-'")
    return text


def account_name(text: str) -> str:
    """A login: anything printable without spaces at its ends that fits RADIUS (RFC 2865, 5.1)."""
    if not text or text != text.strip() or not text.isprintable() or len(text.encode()) > 253:
        raise UserError(f"{text!r} can't be a login: use 1 to 253 printable characters, no space at either end")
    return text


def password(text: str) -> str:
    """RFC 2865, 5.2: at most 128 bytes."""
    if not text or not text.isprintable() or len(text.encode()) > 128:
        raise UserError("that can't be a password: use 1 to 128 printable characters on one line")
    return text


def get(model: Any, wanted: str, what: str) -> Any:
    row = model.get_or_none(model.name == wanted)
    if row is None:
        raise UserError(f"there is no {what} {wanted!r}: see `gatehouse {what} list`")
    return row


def add(model: Any, what: str, **values: Any) -> Any:
    try:
        with core_db.atomic():
            return model.create(**values)
    except peewee.IntegrityError:
        raise Conflict(_clash(model, what, values)) from None


def change(row: Any, what: str, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        setattr(row, key, value)
    try:
        with core_db.atomic():
            row.save()
    except peewee.IntegrityError:
        raise Conflict(_clash(type(row), what, values)) from None


def _clash(model: Any, what: str, values: Mapping[str, Any]) -> str:
    address = values.get("address")
    if address and model.select().where(model.address == address).exists():
        return f"the address {address} belongs to another {what} already"
    return f"{what} {values.get('name')!r} exists already: use `gatehouse {what} set`"


# Pools


def add_pool(pool: str, first: str, last: str) -> None:
    """Raises UserError for a range that is upside down, too large or overlaps another pool's."""
    addresses = _range(first, last)
    with core_db.atomic():
        row = add(Pool, "pool", name=name(pool, "pool"))
        for batch in peewee.chunked([{"ip": ip, "pool": row.id} for ip in addresses], 500):
            try:
                PoolAddress.insert_many(batch).execute()
            except peewee.IntegrityError:
                raise UserError(f"{first}-{last} overlaps another pool: see `gatehouse pool list`") from None


def _range(first: str, last: str) -> list[str]:
    try:
        low, high = IPv4Address(first), IPv4Address(last)
        networks = list(summarize_address_range(low, high))
    except (AddressValueError, ValueError, TypeError):
        raise UserError(f"{first}-{last} is no range: write 198.51.100.16-198.51.100.30") from None
    if int(high) - int(low) >= MAX_POOL_ADDRESSES:
        raise UserError(f"{first}-{last} has more than {MAX_POOL_ADDRESSES} addresses: make several pools")
    return [str(ip) for network in networks for ip in network]


def remove_pool(pool: str) -> None:
    row = get(Pool, pool, "pool")
    if plan := Plan.get_or_none(Plan.pool == row):
        raise UserError(f"plan {plan.name!r} takes its addresses from pool {pool!r}: change the plan first")
    for account in Account.select().where(Account.overrides.contains('"pool_id"')):
        if terms.overrides(account.overrides).get("pool_id") == row.id:
            raise UserError(f"account {account.name!r} takes its addresses from pool {pool!r}: change it first")
    row.delete_instance()


def pools() -> list[dict[str, object]]:
    now = int(time.time())
    rows = []
    for pool in Pool.select().order_by(Pool.name):
        addresses = PoolAddress.select().where(PoolAddress.pool == pool)
        ips = sorted((IPv4Address(a.ip), a.held_until > now) for a in addresses)
        held = sum(is_held for _, is_held in ips)
        rows.append(
            {
                "name": pool.name,
                "first": str(ips[0][0]),
                "last": str(ips[-1][0]),
                "size": len(ips),
                "held": held,
            }
        )
    return rows


# Plans and accounts


def add_plan(plan: str, columns: dict[str, Any]) -> None:
    """`columns` are those that differ from the model's defaults; raises UserError."""
    limits.check(plan_columns(Plan()) | columns)
    add(Plan, "plan", name=name(plan, "plan"), changed_at=int(time.time()), **columns)


def change_plan(plan: str, columns: dict[str, Any]) -> None:
    row = get(Plan, plan, "plan")
    limits.check(plan_columns(row) | columns)
    for account in Account.select().where((Account.plan == row) & (Account.overrides != "")):
        _check_own(account.name, plan_columns(row) | columns | terms.overrides(account.overrides))
    change(row, "plan", {**columns, "changed_at": int(time.time())})


def plan_columns(plan: Any) -> dict[str, Any]:
    return {column: getattr(plan, column) for column in terms.OVERRIDABLE}


def account_columns(account: Any) -> dict[str, Any]:
    """The limits that hold for this account: its plan's, and its own instead."""
    return plan_columns(account.plan) | terms.overrides(account.overrides)


def _check_own(login: str, columns: Mapping[str, Any]) -> None:
    try:
        limits.check(columns)
    except UserError as error:
        raise UserError(f"account {login!r} has limits of its own, and with them: {error}") from None


def remove_plan(plan: str) -> None:
    row = get(Plan, plan, "plan")
    if count := Account.select().where(Account.plan == row).count():
        raise Conflict(f"{count} accounts have plan {plan!r}: give them another one first")
    if batch := VoucherBatch.get_or_none(VoucherBatch.plan == row):
        raise Conflict(f"the voucher batch {batch.name!r} has plan {plan!r}")
    row.delete_instance()


def add_account(
    login: str,
    plan: str,
    secret: str | None,
    box: SecretBox,
    overrides: dict[str, Any] | None = None,
    sold: bool = True,
    **values: Any,
) -> tuple[Account, str]:
    """The account and its password, which is made up when `secret` is None; it can't be shown again.

    A plan that has a price is charged, unless the account isn't `sold`.
    """
    chosen = password(secret) if secret is not None else new_password()
    limits.check(plan_columns(get(Plan, plan, "plan")) | (overrides or {}))
    now = int(time.time())
    with core_db.atomic():
        row = add(
            Account,
            "account",
            name=account_name(login),
            plan=get(Plan, plan, "plan"),
            password=box.seal(chosen),
            created_at=now,
            overrides=_json(overrides or {}),
            **values,
        )
        if sold:
            sales.activated(row, row.plan, now)
    return row, chosen


def accounts() -> list[Any]:
    """All but vouchers, which are listed by their batch."""
    return list(Account.select().where(Account.batch.is_null()).order_by(Account.name))


def change_account(account: Any, values: Mapping[str, Any]) -> None:
    """`values` are columns; `overrides` among them is a mapping of the account's own limits.

    Another plan, or a longer validity, is charged where the plan has a price.
    """
    plan, own = values.get("plan", account.plan), values["overrides"]
    before, now = (account.plan_id, account.valid_until), int(time.time())
    limits.check(plan_columns(plan) | own)
    with core_db.atomic():
        change(account, "account", {**values, "overrides": _json(own), "changed_at": now})
        sales.changed(account, *before, now)


def _json(overrides: Mapping[str, Any]) -> str:
    return json.dumps(overrides, sort_keys=True) if overrides else ""


def remove_account(login: str) -> None:
    """Its sessions stay, as the operator has to keep them, under the login's text; its usage goes."""
    account = get(Account, login, "account")
    with core_db.atomic():
        running = (Session.account_ref == account) & Session.ended_at.is_null()
        Session.update(check_at=0).where(running).execute()  # their routers are told at once
        account.delete_instance()


def open_sessions(login: str | None = None, everyone: bool = False, limit: int = 1000) -> list[Any]:
    """Newest first; `everyone` includes those that have ended."""
    query = Session.select().order_by(Session.started_at.desc()).limit(limit)
    if not everyone:
        query = query.where(Session.ended_at.is_null())
    if login is not None:
        query = query.where(Session.account == login)
    return list(query)


def live_changes(everything: bool = False, limit: int = 1000) -> list[Any]:
    """Newest first; `everything` includes what is done or refused."""
    query = LiveChange.select(LiveChange, Session).join(Session).order_by(LiveChange.id.desc()).limit(limit)
    return list(query if everything else query.where(LiveChange.ended_at.is_null()))


def usage_since(account: Account, day: int) -> int:
    """Octets both ways since that day (YYYYMMDD)."""
    total = peewee.fn.sum(AccountUsage.input_octets + AccountUsage.output_octets)
    return int(
        AccountUsage.select(total).where((AccountUsage.account == account) & (AccountUsage.day >= day)).scalar() or 0
    )
