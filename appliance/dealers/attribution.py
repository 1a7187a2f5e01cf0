"""Whose customers and voucher batches are whose, and when."""

import time
from typing import Any

from appliance.accounts.models import Account, Charge
from appliance.dealers.ledger_db import writing
from appliance.dealers.models import ACCOUNT, BATCH, Attribution, Dealer
from appliance.errors import Conflict, UserError

ERASED = "erased-"
KINDS = (ACCOUNT, BATCH)


def attribute(dealer: Any, kind: str, ref: int, name: str, from_: int, to: int | None = None) -> Any:
    """From .. to, half-open, UTC seconds. Raises UserError where it would be two dealers' at once.

    Sales of a time that has passed are taken over by the next earning.take_over.
    """
    if kind not in KINDS:
        raise UserError(f"{kind!r} can't be a dealer's: only an {' or a '.join(KINDS)}")
    _in_order(from_, to)
    with writing():
        for other in of_all(kind, ref):
            if from_ < (2**62 if other.valid_to is None else other.valid_to) and other.valid_from < (to or 2**62):
                raise Conflict(f"{kind} {name!r} is dealer {other.dealer.name}'s in that time: end that first")
        return Attribution.create(
            dealer=dealer, kind=kind, ref=ref, name=name, valid_from=from_, valid_to=to, taken_at=None
        )


def end(row: Any, at: int) -> None:
    """What was sold before stays the dealer's. Raises UserError for an end before the beginning."""
    _in_order(row.valid_from, at)
    with writing():
        Attribution.update(valid_to=at).where(Attribution.id == row.id).execute()
    row.valid_to = at


def hand_over(kind: str, ref: int, name: str, dealer: Any, at: int) -> Any:
    """To another dealer from a time on, at once."""
    with writing():
        for row in of_all(kind, ref):
            if row.valid_from < at < (2**62 if row.valid_to is None else row.valid_to):
                end(row, at)
        return attribute(dealer, kind, ref, name, at)


def _in_order(from_: int, to: int | None) -> None:
    if to is not None and to <= from_:
        raise UserError("it would end before it begins: write a later end")


def forget_erased() -> int:
    """Names of accounts that were erased (GDPR, article 17): in core.db their sales have the same name by then."""
    named = (Attribution.kind == ACCOUNT) & ~Attribution.name.startswith(ERASED)
    forgotten = 0
    for row in list(Attribution.select().where(named)):
        sold = Charge.account_ref.is_null() & Charge.batch_ref.is_null() & (Charge.account == row.name)
        if not Account.get_or_none(Account.id == row.ref) and not Charge.get_or_none(sold):
            forgotten += Attribution.update(name=f"{ERASED}{row.ref}").where(Attribution.id == row.id).execute()
    return forgotten


def of_all(kind: str, ref: int) -> list[Any]:
    """With the dealers, the earliest first."""
    query = Attribution.select(Attribution, Dealer).join(Dealer)
    return list(query.where((Attribution.kind == kind) & (Attribution.ref == ref)).order_by(Attribution.valid_from))


def holding(kind: str, ref: int, at: int) -> Any:
    """The Attribution of that time, or None."""
    for row in of_all(kind, ref):
        if row.valid_from <= at and (row.valid_to is None or at < row.valid_to):
            return row
    return None


def of(kind: str, ref: int, at: int | None = None) -> Any:
    """The dealer whose it is at that time (UTC seconds, now by default), or None."""
    row = holding(kind, ref, int(time.time()) if at is None else at)
    return row.dealer if row else None
