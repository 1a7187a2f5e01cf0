"""Prepaid credit: what a dealer has paid before, and sells vouchers on. Each runs inside an open ledger."""

import secrets
from typing import Any

from appliance.dealers import ledger
from appliance.dealers.ledger import BANK, CREDIT, HOLD, SALES
from appliance.dealers.ledger_db import writing
from appliance.errors import Conflict, UserError


def top_up(dealer: Any, amount_minor: int, who: str, reference: str, at: int) -> Any:
    """Money that came in. The same reference counts once; below zero it is money given back, of what is there."""
    if not amount_minor:
        raise UserError("nothing is no amount to top up")
    reference = reference.strip()[:200]
    with writing():
        if amount_minor < 0 and balance(dealer) + amount_minor < 0:
            raise UserError("that is more than the credit there is")
        source = ("top-up", reference or secrets.token_hex(8))
        moves = {CREDIT: amount_minor, BANK: -amount_minor}
        done = ledger.post(dealer, "top-up", source, dealer.currency, moves, at, note=f"{reference} by {who}".strip())
    if done is None:
        raise Conflict(f"credit with the reference {reference!r} was recorded already")
    return done


def balance(dealer: Any) -> int:
    """Below zero it is owed."""
    return ledger.balance(dealer, dealer.currency, CREDIT)


def available(dealer: Any) -> int:
    """What can be sold on it, with how far the provider lets it go below zero."""
    return balance(dealer) + int(dealer.credit_limit_minor)


def reserve(of: Any, at: int) -> None:
    """For a Sale, in the transaction that makes it."""
    _move(of, "reserve", CREDIT, HOLD, at)


def spend(of: Any, at: int) -> None:
    """Its vouchers are there."""
    _move(of, "sold", HOLD, SALES, at)


def release(of: Any, at: int) -> None:
    """They never will be."""
    _move(of, "release", HOLD, CREDIT, at)


def give_back(recall: Any, at: int) -> None:
    """For one voucher of a sale."""
    of = recall.sale
    moves = {SALES: -of.price_minor, CREDIT: of.price_minor}
    ledger.post(of.dealer_id, "recall", ("recall", str(recall.id)), of.currency, moves, at, note=f"of {of.batch}")


def _move(of: Any, kind: str, source: str, target: str, at: int) -> None:
    moves = {source: -of.amount_minor, target: of.amount_minor}
    ledger.post(of.dealer_id, kind, ("sale", str(of.id)), of.currency, moves, at, note=f"{of.count} × {of.plan}")
