"""What was sold, by plan, month and dealer; which vouchers came to use; who came and who stayed away.

Sales are core.db's, what dealers earned is the ledger's. Both are open, and read as they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import peewee

from appliance.accounts.models import Account, Charge, Payment, Plan, VoucherBatch
from appliance.dealers import months
from appliance.dealers.models import BATCH, Attribution, Dealer, Posting
from appliance.dealers.months import Period

EARNED = ("commission", "refund", "clawback", "correction")
CUSTOMERS = ("activation", "renewal")  # kinds of a charge; a voucher's guest is nobody whom one knows again
MOST_MONTHS = 60
_IDS = 500  # in one statement


class Sold(NamedTuple):
    """`paid_minor` came in during that time, whatever it was for."""

    times: int = 0
    amount_minor: int = 0
    paid_minor: int = 0


class Used(NamedTuple):
    """Vouchers made in a time, and how many of these have logged in until now."""

    printed: int
    used: int

    @property
    def share(self) -> int:
        return round(100 * self.used / self.printed) if self.printed else 0


class Stayed(NamedTuple):
    """Customers of a month: who bought or went on, who of them for the first time; who did the month before only."""

    active: int
    new: int
    lost: int
    before: int

    @property
    def share(self) -> int:
        """Of the month before, in percent."""
        return round(100 * self.lost / self.before) if self.before else 0


class Earned(NamedTuple):
    """`base_minor` is the money of customers that commissions were on."""

    dealer: str
    base_minor: int
    earned_minor: int
    vouchers: Used


def until(last: Period, count: int, zone: ZoneInfo) -> list[Period]:
    """The month and those before it, the earliest first."""
    found = [last]
    while len(found) < min(count, MOST_MONTHS):
        found.append(months.of(found[-1].since - 1, zone))
    return found[::-1]


def currencies() -> list[str]:
    """Those in which something was sold or may be."""
    rows: Any = Charge.select(Charge.currency).distinct().tuples()
    plans: Any = Plan.select(Plan.currency).where(Plan.currency != "").distinct().tuples()
    return sorted({currency for (currency,) in (*rows, *plans)})


def sold(span: Iterable[Period], currency: str) -> dict[str, dict[str, Sold]]:
    """By month's name and plan."""
    return {month.name: _sold_in(month, currency) for month in span}


def _sold_in(month: Period, currency: str) -> dict[str, Sold]:
    count, total = peewee.fn.COUNT(Charge.id), peewee.fn.SUM(Charge.amount_minor)
    valid = (Charge.currency == currency) & Charge.cancelled_at.is_null()
    charges: Any = (
        Charge.select(Charge.plan, count, total)
        .where(valid & (Charge.at >= month.since) & (Charge.at < month.until))
        .group_by(Charge.plan)
        .tuples()
    )
    payments: Any = (
        Payment.select(Charge.plan, peewee.fn.SUM(Payment.amount_minor))
        .join(Charge)
        .where((Charge.currency == currency) & (Payment.at >= month.since) & (Payment.at < month.until))
        .group_by(Charge.plan)
        .tuples()
    )
    found = {plan: Sold(number, amount) for plan, number, amount in charges}
    for plan, paid in payments:
        found[plan] = found.get(plan, Sold())._replace(paid_minor=paid)
    return found


def conversion(month: Period) -> dict[str, Used]:
    """By plan."""
    used = peewee.fn.COUNT(Account.first_login_at)
    rows: Any = (
        Account.select(Plan.name, peewee.fn.COUNT(Account.id), used)
        .join(VoucherBatch)
        .join(Plan, on=(VoucherBatch.plan == Plan.id))
        .where((VoucherBatch.created_at >= month.since) & (VoucherBatch.created_at < month.until))
        .group_by(Plan.name)
        .tuples()
    )
    return {name: Used(printed, count) for name, printed, count in rows}


def churn(span: Sequence[Period], zone: ZoneInfo) -> dict[str, Stayed]:
    """By month's name; the month before the first one is looked at, too."""
    before = _customers(months.of(span[0].since - 1, zone))
    known = _known(span[0].since)
    found = {}
    for month in span:
        active = _customers(month)
        found[month.name] = Stayed(len(active), len(active - known), len(before - active), len(before))
        known |= active
        before = active
    return found


def _customers(month: Period) -> set[str]:
    return _accounts((Charge.at >= month.since) & (Charge.at < month.until))


def _known(ends: int) -> set[str]:
    return _accounts(Charge.at < ends)


def _accounts(when: Any) -> set[str]:
    bought = Charge.kind.in_(CUSTOMERS) & Charge.cancelled_at.is_null()
    rows: Any = Charge.select(Charge.account).where(when & bought).distinct().tuples()
    return {name for (name,) in rows}


def by_dealer(since: int, ends: int, currency: str) -> list[Earned]:
    """Who brought most first; those who neither earned nor had vouchers are left out."""
    base, amount = peewee.fn.SUM(Posting.base_minor), peewee.fn.SUM(Posting.amount_minor)
    when = (Posting.at >= since) & (Posting.at < ends) & (Posting.currency == currency)
    rows: Any = (
        Posting.select(Posting.dealer, base, amount)
        .where(when & Posting.kind.in_(EARNED))
        .group_by(Posting.dealer)
        .tuples()
    )
    sums = {dealer: (base, amount) for dealer, base, amount in rows}
    vouchers = _vouchers_by_dealer(since, ends)
    rows = Dealer.select(Dealer.id, Dealer.name).tuples()
    names = dict(rows)
    found = [
        Earned(names[key], *sums.get(key, (0, 0)), vouchers.get(key, Used(0, 0)))
        for key in names
        if key in sums or key in vouchers
    ]
    return sorted(found, key=lambda one: (-one.base_minor, one.dealer))


def _vouchers_by_dealer(since: int, ends: int) -> dict[int, Used]:
    """Of batches that came to a dealer in that time."""
    when = (Attribution.valid_from >= since) & (Attribution.valid_from < ends) & (Attribution.kind == BATCH)
    rows: Any = Attribution.select(Attribution.ref, Attribution.dealer).where(when).tuples()
    owner = dict(rows)
    found: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    refs = list(owner)
    for at in range(0, len(refs), _IDS):
        for batch, printed, used in _counted(refs[at : at + _IDS]):
            found[owner[batch]][0] += printed
            found[owner[batch]][1] += used
    return {dealer: Used(printed, used) for dealer, (printed, used) in found.items()}


def _counted(batches: Sequence[int]) -> Any:
    used = peewee.fn.COUNT(Account.first_login_at)
    query = Account.select(Account.batch, peewee.fn.COUNT(Account.id), used).where(Account.batch.in_(batches))
    return query.group_by(Account.batch).tuples()
