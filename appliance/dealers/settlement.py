"""Month ends: which postings of which dealers are due, why the others aren't, and that they become an invoice, once.

What is due is reckoned outside of any transaction, by the same code for a preview; then each dealer's settlement, its
draft invoice and its posting are written together, or not at all. Who writes second finds it done.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import peewee

from appliance.accounts.periods import QUARTER_S
from appliance.config import Config
from appliance.dealers import agreements, invoices, ledger, money, months, schemes
from appliance.dealers.ledger_db import ledger_sql, writing
from appliance.dealers.models import ENDED, SUSPENDED, Dealer, Settlement
from appliance.dealers.months import Period
from appliance.errors import UserError

DONE, DUE, CARRIED, NOTHING = "settled", "due", "carried", "nothing"  # what becomes of a dealer's month
_PIECE = 500  # rows in one statement


class Row(NamedTuple):
    """A posting that no settlement had before. `amount_minor` is what it earned, or took back."""

    dealer: str
    currency: str
    posting: int
    kind: str
    at: int
    amount_minor: int
    included: bool
    why: str


@dataclass(frozen=True)
class Plan:
    """A dealer's month in one currency. Its rows are included only if it is `DUE`; `why` says so for all of them."""

    dealer: Any
    currency: str
    period: Period
    state: str
    why: str
    rows: tuple[Row, ...]

    @property
    def amount_minor(self) -> int:
        return sum(row.amount_minor for row in self.rows if row.included)


class Brief(NamedTuple):
    """A plan without its rows, of which `included` of `postings` are in."""

    dealer: Any
    currency: str
    state: str
    why: str
    amount_minor: int
    included: int
    postings: int


@dataclass(frozen=True)
class Result:
    """`settled` are Settlements; `skipped` says of each other dealer why."""

    settled: tuple[Any, ...]
    skipped: tuple[tuple[str, str, str], ...]  # dealer, currency, why


def preview(config: Config, period: Period, dealers: Iterable[Any] | None = None) -> list[Row]:
    """Every posting that isn't settled yet, with the reason why it would be, or not."""
    return [row for plan in plans(config, period, dealers) for row in plan.rows]


def plans(config: Config, period: Period, dealers: Iterable[Any] | None = None) -> Iterator[Plan]:
    """One for each dealer and currency, also where nothing is due. The month may still run."""
    # As a list: while rows are read one by one, SQLite lets nobody write who has seen an older state.
    for dealer in list(Dealer.select().order_by(Dealer.name)) if dealers is None else dealers:
        for currency in ledger.currencies(dealer) or [dealer.currency]:
            yield plan(dealer, currency, period, config.site.timezone)


def briefs(config: Config, period: Period) -> Iterator[Brief]:
    """For a look at all dealers, which mustn't hold each posting of theirs."""
    for each in plans(config, period):
        included = sum(row.included for row in each.rows)
        yield Brief(each.dealer, each.currency, each.state, each.why, each.amount_minor, included, len(each.rows))


def run(
    config: Config, period: Period, who: str, dealers: Iterable[Any] | None = None, now: int | None = None
) -> Result:
    """Settles a month that is over. Doing it again does nothing; what came late is in the next month's."""
    now = int(time.time()) if now is None else now
    if now < period.until:
        ends = months.day(period.until, config.site.timezone)
        raise UserError(f"{period.name} isn't over before {ends}: look at a preview of it until then")
    settled, skipped = [], []
    for each in plans(config, period, dealers):
        made = _settle(config, each, who, now) if each.state == DUE else each.why
        if isinstance(made, str):
            skipped.append((each.dealer.name, each.currency, made))
        else:
            settled.append(made)
    return Result(tuple(settled), tuple(skipped))


# What is due


_UNSETTLED = """SELECT p.id, p.kind, p.at, p.due_at, p.note, coalesce(e.amount_minor, 0)
FROM posting p LEFT JOIN entry e ON e.posting_id = p.id AND e.account = 'accrued'
WHERE p.dealer_id = ? AND p.currency = ? AND p.kind IN ('commission', 'refund', 'clawback', 'correction')
AND (e.id IS NOT NULL OR (p.at >= ? AND p.kind <> 'correction'))
AND NOT EXISTS (SELECT 1 FROM settlement_line l WHERE l.posting_id = p.id)
ORDER BY p.at, p.n"""


def plan(dealer: Any, currency: str, period: Period, zone: ZoneInfo) -> Plan:
    found = ledger_sql(_UNSETTLED, (dealer.id, currency, period.since)).fetchall()
    rows = tuple(
        Row(dealer.name, currency, number, kind, at, amount, *_judged(period, zone, at, due_at, note, amount))
        for number, kind, at, due_at, note, amount in found
    )
    amount = sum(row.amount_minor for row in rows if row.included)
    state, why = _decided(dealer, currency, period, amount, any(row.included for row in rows))
    if state == DONE:
        rows = tuple(row._replace(included=False, why=_next_time(row, why)) for row in rows)
    elif state != DUE:
        rows = tuple(row._replace(included=False, why=why if row.included else row.why) for row in rows)
    return Plan(dealer, currency, period, state, why, rows)


def _judged(period: Period, zone: ZoneInfo, at: int, due_at: int, note: str, amount: int) -> tuple[bool, str]:
    """Whether a posting is in, and why; this is all that there is to know of it alone."""
    if at >= period.until:
        return False, f"after the month: it is of {_month(at, zone)}"
    if not amount:
        return False, note or "nothing was earned"
    if due_at > period.until:
        return False, f"on hold until {datetime.fromtimestamp(due_at, zone):%Y-%m-%d}"
    if at < period.since:
        return True, f"late: of {_month(at, zone)}, which it wasn't settled with"
    return True, f"of {period.name}"


def _month(at: int, zone: ZoneInfo) -> str:
    return _month_of(at // QUARTER_S, zone)


@lru_cache(maxsize=8192)
def _month_of(quarter: int, zone: ZoneInfo) -> str:
    return f"{datetime.fromtimestamp(quarter * QUARTER_S, zone):%Y-%m}"


def _next_time(row: Row, why: str) -> str:
    return f"{why}: it is for the next month" if row.included else row.why


def _decided(dealer: Any, currency: str, period: Period, amount: int, anything: bool) -> tuple[str, str]:
    """What becomes of a month, for all of its postings."""
    done = Settlement.get_or_none(
        (Settlement.dealer == dealer) & (Settlement.currency == currency) & (Settlement.period == period.name)
    )
    if done is not None:
        return DONE, f"{period.name} is settled already, with {money.text(done.amount_minor, currency)}"
    if not anything:
        return NOTHING, "nothing is due"
    if dealer.state == SUSPENDED:
        return CARRIED, "the dealer is suspended: it waits until they are active again"
    if amount <= 0:
        return CARRIED, f"{money.text(amount, currency)} in all is carried: more was taken back than earned"
    least = _minimum(dealer, currency, period)
    if amount < least:
        return CARRIED, f"{money.text(amount, currency)} is carried: payouts begin at {money.text(least, currency)}"
    return DUE, f"{money.text(amount, currency)} is due"


def _minimum(dealer: Any, currency: str, period: Period) -> int:
    """Of the scheme that holds as the month ends, in the dealer's own currency; who has ended gets the rest, too."""
    if dealer.state == ENDED:
        return 0
    version = agreements.version_at(dealer, period.until - 1)
    if version is None or currency != dealer.currency:
        return 0
    return int(schemes.parse(version.terms).minimum_minor)


# Writing it


def _settle(config: Config, due: Plan, who: str, now: int) -> Any:
    """The Settlement, or why there is none: somebody was faster."""
    lines = [(row.posting, row.amount_minor) for row in due.rows if row.included]
    try:
        with writing():
            made = _settlement(due, who, now)
            _lines(made.id, lines)
            entries = {ledger.ACCRUED: -due.amount_minor, ledger.PAYABLE: due.amount_minor}
            ledger.post(
                due.dealer, "settle", ("settlement", str(made.id)), due.currency, entries, now, note=due.period.name
            )
            invoices.draft(config, made, now)
    except peewee.IntegrityError:  # of the lines, when another month took one of them
        return f"{due.period.name} was settled by somebody else at the same time"
    return made


def _settlement(due: Plan, who: str, now: int) -> Any:
    _, since, until = due.period
    facts = {"dealer": due.dealer, "currency": due.currency, "period": due.period.name, "since": since, "until": until}
    return Settlement.create(**facts, amount_minor=due.amount_minor, at=now, who=who)


def _lines(settlement: int, lines: Iterable[tuple[int, int]]) -> None:
    """The primary key keeps a posting from being settled twice."""
    for piece in peewee.chunked(lines, _PIECE):
        rows = ", ".join(["(?, ?, ?)"] * len(piece))
        values = tuple(chain.from_iterable((posting, settlement, amount) for posting, amount in piece))
        ledger_sql(f"INSERT INTO settlement_line (posting_id, settlement_id, amount_minor) VALUES {rows}", values)  # noqa: S608
