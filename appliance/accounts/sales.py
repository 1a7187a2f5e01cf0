"""What is sold: charges for plans and vouchers, and the payments for them.

Everything is written once by its `source`. Free plans charge nothing, and no login waits for any of this: what a
voucher's first login sold is recorded after it.
"""

import secrets
import time
from typing import Any

import peewee

from appliance.accounts.models import Charge, Payment, core_db
from appliance.accounts.pieces import execute, in_pieces, marks
from appliance.errors import UserError

ACTIVATION, RENEWAL, VOUCHER = KINDS = ("activation", "renewal", "voucher")
AT_LOGIN = "voucher"  # the method by which vouchers are paid
_MOST_MINOR = 10**15
_LATE_S = 2 * 86_400  # how late a router may tell of a first login, for it to be seen without a whole look


# By the index account_voucher: a few steps for each batch, however many vouchers it has.
_USED = """SELECT a.id FROM voucher_batch b CROSS JOIN account a
WHERE b.price_minor > ? AND a.batch_id = b.id AND a.enabled IN (?, ?) AND a.first_login_at >= ?
AND NOT (a.enabled = ? AND coalesce(a.valid_until, a.first_login_at + 1) <= a.first_login_at)
AND NOT EXISTS (SELECT 1 FROM charge c WHERE c.source = 'voucher:' || CAST(a.id AS TEXT)) LIMIT ?"""


_CHARGE = """INSERT INTO charge (kind, account_id, account, batch_id, batch, plan, amount_minor, currency, at, source,
recorded_at) SELECT ?, a.id, a.name, b.id, b.name, p.name, b.price_minor, b.currency, a.first_login_at,
'voucher:' || CAST(a.id AS TEXT), ? FROM account a JOIN voucher_batch b ON b.id = a.batch_id
JOIN plan p ON p.id = b.plan_id WHERE b.price_minor > 0 AND a.first_login_at IS NOT NULL"""
_PAY = """INSERT INTO payment (charge_id, amount_minor, at, method, source, recorded_at)
SELECT id, amount_minor, at, ?, source, recorded_at FROM charge"""


def own_source(what: str) -> str:
    """For what a person records, who may well record the same thing twice."""
    return f"{what}:{secrets.token_hex(8)}"


def charge(
    kind: str,
    amount_minor: int,
    currency: str,
    at: int,
    source: str,
    account: Any = None,
    batch: Any = None,
    plan: str = "",
) -> Any:
    """The Charge of this source; one that was there before stays as it is."""
    _amount(amount_minor, currency)
    values = {
        "kind": kind,
        "account_ref": account,
        "account": account.name if account else "",
        "batch_ref": batch,
        "batch": batch.name if batch else "",
        "plan": plan,
        "amount_minor": amount_minor,
        "currency": currency,
        "at": at,
        "source": source,
        "recorded_at": int(time.time()),
    }
    try:
        Charge.insert(values).on_conflict_ignore().execute()
    except peewee.IntegrityError:
        raise UserError("what is to be charged was removed in between") from None
    return Charge.get(Charge.source == source)


def pay(row: Any, amount_minor: int, at: int, method: str = "", reference: str = "", source: str = "") -> Any:
    """Money for a charge, or a part of it; of a `source` once. Raises UserError for more than is open."""
    _amount(amount_minor, row.currency)
    with core_db.atomic():
        known = _held(row, source)
        if known is not None:
            return known
        rest = open_minor(row)
        if amount_minor > rest:
            raise UserError(f"only {rest} {row.currency} (in minor units) of that charge are open")
        return _paid(row, amount_minor, at, method, reference, source or own_source("hand"))


def refund(payment: Any, amount_minor: int, at: int, reference: str = "", source: str = "") -> Any:
    """Of a payment, or a part of it. Raises UserError for more than is left of it."""
    row = payment.charge
    _amount(amount_minor, row.currency)
    if payment.refund_of_id is not None:
        raise UserError("that is a refund itself: record a payment instead")
    with core_db.atomic():
        known = _held(row, source)
        if known is not None:
            return known
        before = Payment.select(peewee.fn.sum(Payment.amount_minor)).where(Payment.refund_of == payment).scalar()
        if amount_minor > payment.amount_minor + (before or 0):
            raise UserError("more than is left of that payment can't be given back")
        values = (-amount_minor, at, payment.method, reference, source or own_source("hand"), payment)
        return _paid(row, *values)


def cancel(row: Any, now: int) -> None:
    """A charge that nobody will pay. Raises UserError while there is money for it."""
    with core_db.atomic():
        _held(row, "")
        if paid_minor(row):
            raise UserError("money came in for that charge: give it back first")
        Charge.update(cancelled_at=now).where(Charge.id == row.id).execute()


def _held(row: Any, source: str) -> Any:
    """The payment of that source, if there is one. Until the transaction ends nobody else pays for this charge."""
    execute("UPDATE charge SET recorded_at = recorded_at WHERE id = ?", row.id)
    if Charge.get_by_id(row.id).cancelled_at is not None:
        raise UserError("that charge is cancelled")
    return Payment.get_or_none(Payment.source == source) if source else None


def _paid(row: Any, amount_minor: int, at: int, method: str, reference: str, source: str, refund_of: Any = None) -> Any:
    return Payment.create(
        charge=row,
        amount_minor=amount_minor,
        at=at,
        method=method,
        reference=reference,
        refund_of=refund_of,
        source=source,
        recorded_at=int(time.time()),
    )


def _amount(minor: int, currency: str) -> None:
    if not 0 < minor < _MOST_MINOR:
        raise UserError("an amount is more than nothing, and less than a thousand million million")
    if len(currency) != 3 or not (currency.isascii() and currency.isupper()):
        raise UserError(f"{currency!r} is no currency: write its three letters, such as EUR")


def paid_minor(row: Any) -> int:
    return int(Payment.select(peewee.fn.sum(Payment.amount_minor)).where(Payment.charge == row).scalar() or 0)


def open_minor(row: Any) -> int:
    return 0 if row.cancelled_at is not None else int(row.amount_minor) - paid_minor(row)


# What accounts do by themselves


def activated(account: Any, plan: Any, now: int, source: str = "activation") -> None:
    """An account begins with a plan."""
    _sold(ACTIVATION, account, plan, now, source)


def changed(account: Any, plan_before: int, until_before: int | None, now: int) -> None:
    """An account has another plan, or is valid for longer than it was; vouchers are paid for when they log in."""
    if account.batch_id is not None:
        return
    until = account.valid_until
    if account.plan_id != plan_before:
        activated(account, account.plan, now, f"plan:{account.plan_id}:{now}")
    elif until_before is not None and until is not None and until > until_before:
        _sold(RENEWAL, account, account.plan, now, f"until:{until}")


def _sold(kind: str, account: Any, plan: Any, now: int, what: str) -> None:
    if plan.price_minor:
        source = f"account:{account.id}:{what}"
        charge(kind, plan.price_minor, plan.currency, now, source, account=account, plan=plan.name)


# First logins


def record_first_logins(now: int, since: int | None = None, limit: int = 5000) -> int:
    """Vouchers of batches with a price that logged in for the first time, each charged and paid by its batch's price.

    Not of one that had been taken back when its login was noted. In short writes. `since`: from which first login on
    it is looked; without it two days back, as routers may tell late. Returns how many were recorded; less than
    `limit` means that there are no more.
    """
    begin = now - _LATE_S if since is None else since
    found = [row[0] for row in execute(_USED, 0, True, False, begin, False, limit).fetchall()]
    for piece in in_pieces(found):
        with core_db.atomic():
            execute(f"{_CHARGE} AND a.id IN ({marks(piece)}) ON CONFLICT DO NOTHING", VOUCHER, int(time.time()), *piece)
            sources = [f"voucher:{account}" for account in piece]
            execute(f"{_PAY} WHERE source IN ({marks(sources)}) ON CONFLICT DO NOTHING", AT_LOGIN, *sources)
    return len(found)
