"""What another system's files hold, shown before anything is done and then taken over as a whole or not at all."""

import json
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import peewee

from appliance.accounts import limits, manage, unfinished
from appliance.accounts.models import Account, AccountUsage, Plan, VoucherBatch, core_db
from appliance.accounts.pieces import execute, in_pieces, marks
from appliance.accounts.terms import voucher_code
from appliance.crypto import SecretBox
from appliance.errors import UserError
from appliance.tables import show

SHOWN_NAMES = 8  # of each group in the preview; --json has all
_ROUND = 500


@dataclass
class FoundAccount:
    """`values` are columns of the account, `overrides` those of its plan that are different for it.

    `usage` is octets from and to the guest by day (YYYYMMDD).
    """

    name: str
    password: str
    plan: str
    values: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    batch: str | None = None
    usage: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass
class FoundBatch:
    name: str
    plan: str
    price_minor: int = 0
    currency: str = ""


@dataclass
class Found:
    """Everything from the files; `left_out` and `changed` are names by the reason why."""

    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    accounts: dict[str, FoundAccount] = field(default_factory=dict)
    batches: dict[str, FoundBatch] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, why: str, name: str) -> None:
        self.left_out.setdefault(why, []).append(name)

    def change(self, why: str, name: str) -> None:
        names = self.changed.setdefault(why, [])
        if name not in names[-1:]:
            names.append(name)

    def add(self, account: FoundAccount) -> None:
        """Takes it, unless it can't be an account here."""
        for check, text, why in (
            (manage.account_name, account.name, "its name can't be a login here (1 to 253 printable characters)"),
            (manage.password, account.password, "its password can't be one here (1 to 128 printable characters)"),
        ):
            try:
                check(text)
            except UserError:
                self.leave_out(why, account.name)
                return
        if account.name in self.accounts:
            self.leave_out("is in the files twice: the first one counts", account.name)
            return
        self.accounts[account.name] = account


def plan_name(text: str, taken: Iterable[str]) -> str:
    """A name that a plan can have here, like the one it had."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-._")[:50] or "imported"
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique


def is_voucher(account: FoundAccount, found: Found) -> bool:
    """One code is name and password, and the login page finds it however it is typed."""
    if account.name != account.password:
        return False
    if voucher_code(account.name) != account.name:
        found.change(
            "its code has capitals or hyphens: it is an account, with the code for name and password", account.name
        )
        return False
    return True


# Before

_CLASHES = (
    "SELECT a.name, a.changed_at, b.name FROM account a LEFT JOIN voucher_batch b ON b.id = a.batch_id WHERE a.name IN"
)


def settle_clashes(found: Found) -> None:
    """Takes out what is here already, and says so; repeating a finished import therefore does nothing."""
    names = list(found.accounts)
    for start in range(0, len(names), _ROUND):
        some = names[start : start + _ROUND]
        for name, changed_at, batch in execute(f"{_CLASHES} ({marks(some)})", *some).fetchall():
            if changed_at < 0 or (batch or "").startswith(unfinished.HIDDEN):
                raise UserError("another import of these accounts is under way, or was killed: try again in a minute")
            found.leave_out("an account of this name is here already", found.accounts.pop(name).name)
    here = {plan.name for plan in Plan.select(Plan.name)}
    for name in [a.name for a in found.accounts.values() if a.plan not in found.plans and a.plan not in here]:
        found.leave_out(f"there is no plan {found.accounts.pop(name).plan!r} here", name)
    _addresses(found)
    _check_limits(found)
    for name in here & set(found.plans):
        del found.plans[name]
        found.change("a plan of this name is here already: the accounts get that one, as it is", name)
    used = {account.batch for account in found.accounts.values()}
    found.batches = {name: batch for name, batch in found.batches.items() if name in used}
    taken = {batch.name for batch in VoucherBatch.select(VoucherBatch.name)}
    for batch in found.batches.values():
        batch.name = plan_name(batch.name, taken)
        taken.add(batch.name)


def _check_limits(found: Found) -> None:
    """What doesn't go together here is left away: else a login would stumble over it."""
    defaults = manage.plan_columns(Plan())
    for name, values in found.plans.items():
        if not _fit(defaults | values):
            values.pop("burst", None)
            found.change("its burst doesn't fit its speed: it comes without", name)
    here = {plan.name: manage.plan_columns(plan) for plan in Plan.select()}
    for account in found.accounts.values():
        plan = here.get(account.plan) or defaults | found.plans[account.plan]
        if account.overrides and not _fit(plan | account.overrides):
            account.overrides["burst"] = ""
            found.change("its own speed doesn't fit the plan's burst: it comes without a burst", account.name)


def _fit(columns: dict[str, Any]) -> bool:
    try:
        limits.check(columns)
    except UserError:
        return False
    return True


def _addresses(found: Found) -> None:
    taken = {row.address for row in Account.select(Account.address).where(Account.address.is_null(False))}
    for account in found.accounts.values():
        address = account.values.get("address")
        if address in taken:
            account.values["address"] = None
            found.change("its fixed address belongs to another account: it comes without", account.name)
        elif address:
            taken.add(address)


def preview(found: Found, columns: dict[str, Any]) -> str:
    """For people; `columns` says how to write a plan's values."""
    vouchers = sum(account.batch is not None for account in found.accounts.values())
    with_usage = sum(bool(account.usage) for account in found.accounts.values())
    plans = [
        {"plan": name, **{c: text(values) for c, text in columns.items()}, "accounts": _holders(found, name)}
        for name, values in found.plans.items()
    ]
    parts = [
        show(plans, ("plan", *columns, "accounts"), as_json=False) if plans else "no new plans",
        f"{len(found.accounts) - vouchers} accounts, {vouchers} vouchers in {len(found.batches)} batches;"
        f" usage of {with_usage}",
    ]
    for title, groups in (("left out", found.left_out), ("not quite the same here", found.changed)):
        if groups:
            parts.append("\n".join([f"{title}:", *(f"  {_group(why, names)}" for why, names in groups.items())]))
    return "\n\n".join(parts)


def _holders(found: Found, plan: str) -> int:
    return sum(account.plan == plan for account in found.accounts.values())


def _group(why: str, names: list[str]) -> str:
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names[:SHOWN_NAMES])
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"{len(names)} × {why}: {shown}{more}"


def as_json(found: Found) -> str:
    """Everything but the passwords."""
    accounts = [
        {key: value for key, value in vars(account).items() if key != "password"} for account in found.accounts.values()
    ]
    return json.dumps(
        {
            "plans": [{"name": name, **values} for name, values in found.plans.items()],
            "batches": [vars(batch) for batch in found.batches.values()],
            "accounts": accounts,
            "left_out": found.left_out,
            "changed": found.changed,
        },
        indent=2,
    )


# Doing it


def write(found: Found, box: SecretBox, noted: Callable[[], None] = lambda: None) -> None:
    """All of it appears at once; `unfinished.sweep` clears away what a killed run left, so that it can be repeated.

    `noted` is done as it appears, or not at all.
    """
    if not found.accounts and not found.plans:
        return
    plans, hidden = _make_plans(found)
    works: list[Any] = []
    batches: dict[str | None, Any] = {None: None}
    try:
        work = unfinished.begin("import", next(iter(plans.values())))
        works.append(work)
        for key, batch in found.batches.items():
            batches[key] = unfinished.begin(batch.name, plans[batch.plan])
            works.append(batches[key])
        for piece in in_pieces(found.accounts.values()):
            _write_piece(piece, plans, batches, work, box)
            unfinished.still_here(works)
        for rows in in_pieces(_usage(found, work)):
            AccountUsage.insert_many(rows).execute()
            unfinished.still_here(works)
        with core_db.atomic():
            _finish(found, batches, work, hidden)
            noted()
    except BaseException:
        for made in works:
            unfinished.remove(made)
        unfinished.remove_plans(list(hidden))
        raise
    unfinished.settle(work)


def _make_plans(found: Found) -> tuple[dict[str, Any], dict[int, str]]:
    """Plans by name, and those that are hidden until all is there: their final names by their ids."""
    wanted = {account.plan for account in found.accounts.values()} - set(found.plans)
    plans = {name: manage.get(Plan, name, "plan") for name in wanted}
    hidden = {}
    for name, values in found.plans.items():
        plans[name] = Plan.create(name=unfinished.hide(name), **values)
        hidden[plans[name].id] = name
    return plans, hidden


def _write_piece(
    piece: list[FoundAccount], plans: dict[str, Any], batches: dict[str | None, Any], work: Any, box: SecretBox
) -> None:
    now = int(time.time())
    rows = [
        {
            **{"address": None, "valid_until": None, "first_login_at": None, **account.values},
            "enabled": False,  # until all is there
            "changed_at": unfinished.mark(work, account.values.get("enabled", True)),
            "name": account.name,
            "password": box.seal(account.password),
            "plan": plans[account.plan],
            "batch": batches[account.batch],
            "overrides": json.dumps(account.overrides, sort_keys=True) if account.overrides else "",
            "created_at": now,
        }
        for account in piece
    ]
    try:
        Account.insert_many(rows).execute()
    except peewee.IntegrityError:
        raise UserError("an account or plan changed in between: nothing was taken over, look again") from None


def _usage(found: Found, work: Any) -> Iterator[dict[str, int]]:
    wanted = [unfinished.mark(work, enabled) for enabled in (False, True)]
    for row in list(Account.select(Account.id, Account.name).where(Account.changed_at.in_(wanted))):
        for day, octets in found.accounts[row.name].usage.items():
            yield {"account": row.id, "day": day, "input_octets": octets[0], "output_octets": octets[1]}


def _finish(found: Found, batches: dict[str | None, Any], work: Any, hidden: dict[int, str]) -> None:
    final: dict[Any, dict[str, Any]] = {work: {"name": unfinished.SETTLING + work.name}}
    for key, batch in found.batches.items():
        price = {"price_minor": batch.price_minor, "currency": batch.currency}
        final[batches[key]] = {"name": batch.name, "unused_until": None, **price}
    try:
        unfinished.finish(final, hidden)
    except peewee.IntegrityError:
        raise UserError("a plan or batch of the same name was made in between: nothing was taken over") from None
