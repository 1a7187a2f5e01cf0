"""Figures of dealers for Prometheus."""

from collections.abc import Iterator
from typing import Any

import peewee

from appliance.api.metrics import Metric, Sample, single
from appliance.config import Config
from appliance.dealers import desk, invoices, money, notes, overview
from appliance.dealers.models import ACTIVE, Dealer, Invoice
from appliance.errors import UserError


class Collector:
    def __init__(self, config: Config) -> None:
        self._config = config

    def read(self, now: int) -> Iterator[Metric]:
        try:
            with desk.opened(self._config):
                yield single("dealers_up", "gauge", "1 where the dealers' ledger can be read.", 1)
                yield from list(_figures(self._config, now))
        except (UserError, peewee.PeeweeException):
            yield single("dealers_up", "gauge", "1 where the dealers' ledger can be read.", 0)


def _figures(config: Config, now: int) -> Iterator[Metric]:
    active = Dealer.select().where(Dealer.state == ACTIVE).count()
    yield single("dealers", "gauge", "Active dealers.", active)
    owed = [Sample({"currency": key}, float(money.decimal(minor, key))) for key, minor in overview.to_pay().items()]
    yield Metric("dealer_payable", "gauge", "What issued invoices of dealers still have to get.", owed)
    state = invoices.state_sql(now)
    rows: Any = Invoice.select(state, peewee.fn.COUNT(Invoice.id)).group_by(state).tuples()
    counts = dict(rows)
    samples = [Sample({"state": word}, counts.get(word, 0)) for word in invoices.STATES]
    yield Metric("dealer_invoices", "gauge", "Invoices and credit notes of dealers.", samples)
    noted = notes.read(config)
    yield single("dealer_month_unsettled", "gauge", "Dealers with something due in the last month.", _waiting(noted))
    yield single("dealer_ledger_broken", "gauge", "1 where a posting isn't as it was written.", int(bool(noted.broken)))
    yield single(
        "dealer_ledger_verified_timestamp_seconds", "gauge", "When the chains were last verified.", noted.verified_at
    )


def _waiting(noted: notes.Notes) -> int:
    return noted.unsettled_dealers if overview.is_unsettled(noted) else 0
