"""Whatever happens in whatever order: the sums hold, nothing is settled or paid twice, numbers have no gap."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peewee import fn

from appliance.config import Config
from appliance.dealers import dealers, invoices, ledger, months, payouts, settlement
from appliance.dealers.models import Invoice, InvoicePayment, PayoutLine, Settlement, SettlementLine
from appliance.errors import UserError
from tests.unit.dealer_money import book, conf_in, dealer, earn
from tests.unit.test_settlement import PRAGUE

MONTHS = [months.period(f"2026-{month:02}", PRAGUE) for month in (8, 9, 10)]
NOW = MONTHS[-1].until + 86_400
_names = itertools.count()


@pytest.fixture(scope="module")
def conf(books_of_module: Path) -> Iterator[Config]:
    with book(conf_in(books_of_module)) as config:
        yield config


Number = st.integers(0, 3)
Step = st.one_of(
    st.tuples(st.just("earn"), st.integers(-3_000, 9_999), st.integers(0, 2), st.integers(0, 40)),
    st.tuples(st.just("settle"), st.integers(0, 2)),
    st.tuples(st.just("issue"), Number),
    st.tuples(st.just("cancel"), Number),
    st.tuples(st.just("draft"), Number),
    st.tuples(st.just("payout"), Number),
    st.tuples(st.sampled_from(["confirm", "fail"]), Number),
    st.tuples(st.just("pay"), Number, st.sampled_from([-2_000, 1, 2_000, 5_000])),
    st.tuples(st.just("tax"), st.sampled_from(["payer", "non-payer", "foreign"])),
)
BEGUN = [("tax", "payer"), ("earn", 5_000, 0, 0), ("settle", 0), ("issue", 0)]  # so that there is something to do


class History:
    """What can be done with one dealer; a thing that isn't there is left out, one that can't be is refused."""

    def __init__(self, conf: Config) -> None:
        self.conf, self.who = conf, dealer(f"eva-{next(_names)}", vat_id="CZ12345678", vat_rate="21", iban=IBAN)
        self.earned = 0

    def do(self, name: str, *given: Any) -> None:
        step: Callable[..., None] = getattr(self, name)
        with contextlib.suppress(UserError):
            step(*given)

    def earn(self, amount: int, month: int, hold_days: int) -> None:
        at = MONTHS[month].since + 20 * 86_400
        earn(self.who, amount, at, due_at=at + hold_days * 86_400)
        self.earned += amount

    def settle(self, month: int) -> None:
        settlement.run(self.conf, MONTHS[month], "jana", [self.who], NOW)

    def tax(self, tax: str) -> None:
        dealers.change(self.who, {"tax": tax})

    def _of(self, model: Any, n: int) -> Iterator[Any]:
        found = list(model.select().where(model.dealer == self.who).order_by(model.id))
        yield from found[n % len(found) :][:1] if found else []

    def issue(self, n: int) -> None:
        for row in self._of(Invoice, n):
            invoices.issue(self.conf, row, NOW)

    def cancel(self, n: int) -> None:
        for row in self._of(Invoice, n):
            invoices.cancel(self.conf, row, "wrong", NOW)

    def draft(self, n: int) -> None:
        for made in self._of(Settlement, n):
            invoices.draft(self.conf, made, NOW)

    def pay(self, n: int, amount: int) -> None:
        for row in self._of(Invoice, n):
            invoices.pay(row, amount, NOW)

    def payout(self, n: int) -> None:
        for row in self._of(Invoice, n):
            payouts.make(self.conf, [row], "jana", NOW)

    def confirm(self, n: int) -> None:
        for line in self._of(PayoutLine, n):
            payouts.confirm(line.payout, NOW, "jana")

    def fail(self, n: int) -> None:
        for line in self._of(PayoutLine, n):
            payouts.fail(line, NOW)


IBAN = "CZ6508000000192000145399"


def total(query: Any, column: Any) -> int:
    return int(query.select(fn.COALESCE(fn.SUM(column), 0)).scalar())


@given(st.lists(Step, min_size=4, max_size=20))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_books_hold_after_any_history(conf: Config, steps: list[tuple[Any, ...]]) -> None:
    history = History(conf)
    for step in [*BEGUN, *steps]:
        history.do(*step)
    who = history.who
    assert list(ledger.verify(who)) == []
    books = ledger.balances(who, "CZK")
    settled = 0
    for made in Settlement.select().where(Settlement.dealer == who):
        lines = SettlementLine.select().where(SettlementLine.settlement == made)
        assert made.amount_minor == total(lines, SettlementLine.amount_minor) > 0
        assert Invoice.select().where(Invoice.settlement == made, Invoice.kind == "invoice").count() > 0
        settled += made.amount_minor
        its = list(Invoice.select().where(Invoice.settlement == made, Invoice.kind == "invoice"))
        assert sum(invoices.paid_minor(row) for row in its) <= max(row.total_minor for row in its)
    rows: list[Any] = list(Invoice.select().where(Invoice.dealer == who))
    serials = sorted(row.serial for row in rows if row.serial is not None)
    assert serials == list(range(1, len(serials) + 1))
    live = [row for row in rows if row.kind == "invoice" and row.cancelled_at is None]
    assert len({row.settlement_id for row in live}) == len(live)
    paid = sum(invoices.paid_minor(row) for row in rows)
    vat = sum(row.vat_minor for row in live if row.number is not None)
    assert all(0 <= invoices.paid_minor(row) <= row.total_minor for row in live)
    assert books["accrued"] == history.earned - settled
    assert (books["payable"], books["paid"], books["vat"]) == (settled + vat - paid, paid, -vat)
    assert books["expense"] == -history.earned
    once = PayoutLine.select(PayoutLine.id).where(PayoutLine.dealer == who, PayoutLine.state == "paid")
    assert InvoicePayment.select().where(InvoicePayment.payout_line.in_(once)).count() == once.count()
    assert all(invoices.on_its_way(row) + invoices.paid_minor(row) <= row.total_minor for row in live)
