"""Vouchers that dealers sell on their credit: never a voucher without its money, never money without its voucher.

Two databases are written, so one of them decides. The money is reserved in the ledger first. As the vouchers are
about to appear, inside of the write of core.db that lets them, the Sale gets the batch's id (`_pass`): it can't
be released as one that was never used from then on, and one that was released lets no vouchers appear. Whoever is
killed in between leaves a Sale that `recover` completes or releases, by whether the batch is there.
"""

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import peewee

from appliance.accounts import manage, unfinished, vouchers
from appliance.accounts.models import Account, Plan, VoucherBatch
from appliance.config import Config
from appliance.crypto import load_box
from appliance.dealers import attribution, credit
from appliance.dealers.ledger_db import writing
from appliance.dealers.models import ACTIVE, BATCH, Attribution, Dealer
from appliance.dealers.selling_models import ASKED, DONE, OPEN, REFUSED, RELEASED, SOLD, Recall, Sale
from appliance.errors import UserError

MOST = 500  # vouchers in one sale
STALE_S = 60  # after which somebody else looks how a sale stands
_WAITS_S = 5.0  # for the same form that is being done by another thread
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True)
class Offer:
    """A plan that a dealer may sell, and `most` of it now; `why` not more."""

    plan: Any
    price_minor: int
    currency: str
    most: int
    why: str


@dataclass(frozen=True)
class Wish:
    """What was asked for, at the price that was shown; `key` is the form's, and sells once."""

    plan: str
    count: int
    price_minor: int
    key: str

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise UserError("that form was not ours: go back, reload the page and try again")
        if not 1 <= self.count <= MOST:
            raise UserError(f"{self.count} can't be sold at once: write 1 to {MOST}")


# What may be sold


def offers(config: Config, dealer: Any, now: int) -> list[Offer]:
    """Plans with a price in the dealer's currency; none for a dealer that isn't active."""
    if dealer.state != ACTIVE:
        return []
    plans = Plan.select().where((Plan.price_minor > 0) & (Plan.currency == dealer.currency)).order_by(Plan.name)
    room = _rooms(config, dealer, now)
    return [_offer(dealer, plan, room) for plan in plans if not plan.name.startswith(unfinished.HIDDEN)]


def _rooms(config: Config, dealer: Any, now: int) -> list[tuple[int, str]]:
    """Amounts that are left, by each limit, and what it is called."""
    rooms = [(credit.available(dealer), "the credit")]
    if dealer.day_limit_minor:
        rooms.append((dealer.day_limit_minor - sold_today(config, dealer, now), "the limit of today"))
    return rooms


def _offer(dealer: Any, plan: Any, rooms: list[tuple[int, str]]) -> Offer:
    counts = [(max(0, room // plan.price_minor), why) for room, why in rooms]
    counts.append((min(dealer.batch_limit or MOST, MOST), "the limit of one sale"))
    most, why = min(counts)
    return Offer(plan, plan.price_minor, plan.currency, most, why)


def sold_today(config: Config, dealer: Any, now: int) -> int:
    """Minor units since the site's midnight; what was released didn't happen."""
    midnight = datetime.fromtimestamp(now, config.site.timezone).replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow = midnight + timedelta(days=1)  # what a clock that was ahead has written isn't of today
    rows = Sale.select(peewee.fn.SUM(Sale.amount_minor)).where(
        (Sale.dealer == dealer.id)
        & (Sale.at >= int(midnight.timestamp()))
        & (Sale.at < int(tomorrow.timestamp()))
        & (Sale.currency == dealer.currency)
        & (Sale.state != RELEASED)
    )
    return int(rows.scalar() or 0)


# Selling


def sell(config: Config, dealer: Any, wish: Wish, now: int) -> Any:
    """The Sale as it ended. The same form sent again gives the same one, whatever has become of it."""
    found, is_new = _known(dealer, wish.key), False
    if found is None:
        found, is_new = _reserve(config, dealer, wish, now)
    return _make(config, found) if is_new else _awaited(found)


def was_asked(dealer: Any, key: str) -> bool:
    return _known(dealer, key) is not None


def _known(dealer: Any, key: str) -> Any:
    return Sale.get_or_none((Sale.dealer == dealer.id) & (Sale.key == key))


def _reserve(config: Config, dealer: Any, wish: Wish, now: int) -> tuple[Any, bool]:
    plan = manage.get(Plan, wish.plan, "plan")
    with writing():
        again = _known(dealer, wish.key)
        if again is not None:
            return again, False
        fresh = Dealer.get_by_id(dealer.id)
        _check(config, fresh, plan, wish, now)
        made = Sale.create(
            dealer=fresh,
            key=wish.key,
            batch=f"?{wish.key}",
            plan=plan.name,
            count=wish.count,
            price_minor=plan.price_minor,
            amount_minor=plan.price_minor * wish.count,
            currency=plan.currency,
            at=now,
        )
        made.batch = f"{_plain(fresh.name)}-{made.id}"
        Sale.update(batch=made.batch).where(Sale.id == made.id).execute()
        credit.reserve(made, now)
    return made, True


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "dealer"


def _check(config: Config, dealer: Any, plan: Any, wish: Wish, now: int) -> None:
    if dealer.state != ACTIVE:
        raise UserError(f"nothing can be sold now: this dealer is {dealer.state}")
    if plan.price_minor <= 0 or plan.currency != dealer.currency:
        raise UserError(f"{plan.name} can't be sold: it has no price in {dealer.currency}")
    if plan.price_minor != wish.price_minor:
        raise UserError(f"the price of {plan.name} has changed meanwhile: look at it again")
    offer = _offer(dealer, plan, _rooms(config, dealer, now))
    if wish.count > offer.most:
        raise UserError(f"{wish.count} × {plan.name} is more than {offer.why} allows: {offer.most} can be sold now")


def _make(config: Config, of: Any) -> Any:
    order = vouchers.Order(
        batch=of.batch, plan=of.plan, count=of.count, price_minor=of.price_minor, currency=of.currency
    )
    try:
        vouchers.make(order, load_box(config.paths.state), partial(_pass, of), writing)
    except Exception:
        _settle(of, int(time.time()))
        if _fresh(of).state != SOLD:
            raise
    else:
        _finish(of, int(time.time()))
    return _fresh(of)


def _pass(of: Any) -> None:
    """Inside of the writes that let the batch appear: raises UserError where the money was given back meanwhile."""
    batch = VoucherBatch.get(VoucherBatch.name == of.batch)
    still = (Sale.id == of.id) & (Sale.state == OPEN) & Sale.batch_ref.is_null()
    if not Sale.update(batch_ref=batch.id).where(still).execute():
        raise UserError("this took so long that its credit was given back: nothing was sold, try again")
    attribution.attribute(Dealer.get_by_id(of.dealer_id), BATCH, batch.id, of.batch, of.at)


def _awaited(of: Any) -> Any:
    until = time.monotonic() + _WAITS_S
    while (found := _fresh(of)).state == OPEN and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _fresh(of: Any) -> Any:
    return Sale.get_by_id(of.id)


# How a sale ends


def recover(config: Config, now: int) -> int:
    """Completes or releases what somebody was killed at; how many that were. Both databases are open."""
    sales = list(Sale.select().where((Sale.state == OPEN) & _is_stale(Sale, now)).limit(1000))
    recalls = list(Recall.select().where((Recall.state == ASKED) & _is_stale(Recall, now)).limit(1000))
    for sale in sales:
        _settle(sale, now)
    for one in recalls:
        _take_back(one, now)
    return len(sales) + len(recalls)


def _is_stale(what: Any, now: int) -> Any:
    """Of some time ago; or of a time to come, by a clock that was ahead."""
    return (what.at <= now - STALE_S) | (what.at > now + STALE_S)


def _settle(of: Any, now: int) -> None:
    """By what is there. It may still be going on: that is as good as killed, or as done, by what it has passed."""
    found = _fresh(of)
    if found.state != OPEN:
        return
    if found.batch_ref is None:
        _release(found, now)
        return
    unfinished.await_writers()
    there = (VoucherBatch.id == found.batch_ref) & (VoucherBatch.name == found.batch)
    if VoucherBatch.select().where(there).exists():
        _finish(found, now)
    else:
        _release(found, now)


def _finish(of: Any, now: int) -> None:
    with writing():
        still = (Sale.id == of.id) & (Sale.state == OPEN)
        if Sale.update(state=SOLD, done_at=now).where(still).execute():
            credit.spend(of, now)


def _release(of: Any, now: int) -> None:
    """As long as it is how `of` says; else somebody else has gone on with it."""
    same = Sale.batch_ref.is_null() if of.batch_ref is None else Sale.batch_ref == of.batch_ref
    with writing():
        still = (Sale.id == of.id) & (Sale.state == OPEN) & same
        if not Sale.update(state=RELEASED, done_at=now).where(still).execute():
            return
        credit.release(of, now)
        if of.batch_ref is not None:
            mine = (Attribution.kind == BATCH) & (Attribution.ref == of.batch_ref) & (Attribution.dealer == of.dealer)
            Attribution.delete().where(mine).execute()


# Taking back


def recall(of: Any, now: int, code: str = "") -> int:
    """Vouchers of a sale that nobody has used, all or one: they can't be used any more, and the credit is there again.

    How many.
    """
    if of.state != SOLD:
        raise UserError("that sale isn't complete: nothing can be taken back")
    unused = (Account.batch == of.batch_ref) & (vouchers.state(now) == "unused")
    query = vouchers.select(Account.id, Account.name).where(unused & (Account.name == code) if code else unused)
    rows = list(query.tuples())
    if not rows:
        raise UserError("nothing is left to take back: it is used, or was taken back already")
    with writing():
        Recall.insert_many(
            [{"sale": of.id, "account": account, "code": name, "at": now} for account, name in rows]
        ).on_conflict_ignore().execute()
    asked = Recall.select().where((Recall.sale == of.id) & (Recall.state == ASKED))
    return sum(_take_back(one, now) for one in list(asked.where(Recall.code == code) if code else asked))


def _take_back(one: Any, now: int) -> bool:
    """Whether the credit is given back by this call. A voucher that the provider has removed can't be used either."""
    unused = (Account.id == one.account) & Account.first_login_at.is_null() & Account.enabled
    Account.update(enabled=False, valid_until=now, changed_at=now).where(unused).execute()
    left = Account.get_or_none(Account.id == one.account)
    used = left is not None and (left.enabled or left.first_login_at is not None)
    with writing():
        still = (Recall.id == one.id) & (Recall.state == ASKED)
        if not Recall.update(state=REFUSED if used else DONE, done_at=now).where(still).execute():
            return False
        if not used:
            credit.give_back(one, now)
    return not used
