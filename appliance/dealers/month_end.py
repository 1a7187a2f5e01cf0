"""A month's end in one go: what was earned is settled, and its invoices are issued; a payout is somebody's own word.

Each step leaves what it did, so that it may be broken off anywhere and be run again; drafts that it left are issued by
a person.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from appliance.config import Config
from appliance.dealers import earning, invoices, months, settlement
from appliance.dealers.models import Dealer, Invoice
from appliance.dealers.months import Period
from appliance.dealers.settlement import DUE
from appliance.errors import UserError


@dataclass(frozen=True)
class Outcome:
    """`settled` and `issued` are what is new; `drafts` says why an invoice isn't issued, `skipped` why a dealer isn't
    settled: (dealer, currency, why)."""

    period: str
    settled: tuple[Any, ...]
    issued: tuple[Any, ...]
    drafts: tuple[str, ...]
    skipped: tuple[tuple[str, str, str], ...]

    def lines(self) -> Iterator[str]:
        yield f"{self.period}: {len(self.settled)} settled, {len(self.issued)} invoices issued"
        yield from self.drafts


def last(config: Config, now: int) -> Period:
    """The last month that is over."""
    return months.before(now, config.site.timezone)


def is_due(config: Config, now: int) -> bool:
    """Whether the day has come on which months end by themselves."""
    return months.day(now, config.site.timezone).day >= config.dealer.month_end_day


def run(
    config: Config, period: Period, who: str, now: int | None = None, dealers: Iterable[Any] | None = None
) -> Outcome:
    """Settles, and issues the month's invoices, those too that somebody was killed before. A draft that replaces a
    cancelled one is left to a person. Raises UserError for a month that isn't over."""
    now = int(time.time()) if now is None else now
    earning.catch_up(config, now)
    asked = None if dealers is None else list(dealers)
    result = settlement.run(config, period, who, asked, now)
    mine = None if asked is None else {int(getattr(dealer, "id", dealer)) for dealer in asked}
    new = [one for one in drafts_of(period.name) if (mine is None or one.dealer_id in mine) and not _replaces(one)]
    issued, drafts = issue(config, new, now)
    return Outcome(period.name, result.settled, tuple(issued), tuple(drafts), result.skipped)


def _replaces(draft: Any) -> bool:
    """One that was cancelled."""
    before = Invoice.select().where((Invoice.settlement == draft.settlement_id) & Invoice.cancelled_at.is_null(False))
    return bool(before.exists())


def drafts_of(period: str = "") -> list[Any]:
    chosen = Invoice.number.is_null() & ((Invoice.period == period) if period else True)
    return list(Invoice.select(Invoice, Dealer).join(Dealer).where(chosen).order_by(Dealer.name, Invoice.id))


def issue(config: Config, drafts: Iterable[Any], now: int) -> tuple[list[Any], list[str]]:
    """The issued ones, and a line for each that can't be yet."""
    issued, left = [], []
    for draft in drafts:
        try:
            issued.append(invoices.issue(config, draft, now))
        except UserError as error:
            left.append(str(error))
    return issued, left


def unsettled(config: Config, now: int) -> tuple[str, int]:
    """The last month that is over, and how many dealers have something due in it; slow with many of them."""
    period = last(config, now)
    return period.name, sum(plan.state == DUE for plan in settlement.briefs(config, period))
