"""Any history of sales, schemes and month ends, in any order, in parallel, and killed at any step."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from appliance.accounts import sales
from appliance.accounts.models import Account, Charge, Payment, Plan, core_db
from appliance.config import Config
from appliance.db import is_sqlite
from appliance.dealers import agreements, attribution, earning, invoices, ledger, months, schemes, settlement
from appliance.dealers.models import Dealer, Invoice, Posting, ledger_db
from appliance.errors import UserError
from tests.unit import dealer_history
from tests.unit.dealer_box import copied, count_down, opened
from tests.unit.dealer_money import conf_in, memory
from tests.unit.dealer_money import dealer as dealer_of

FIRST = 1_790_000_000  # in September 2026
LATER = FIRST + 200 * schemes.DAY_S
MONTHS = ("2026-09", "2026-10", "2026-11", "2026-12")
TERMS = (
    '{"percent": "33.33"}',
    '{"percent": "10", "fixed_minor": 777, "months": 1, "plans": {"gold": {"percent": "7.5"}}}',
    '{"tiers": [[0, "0"], [1000, "5.5"], [20000, "12.25"]], "hold_days": 20}',
    '{"percent": "50", "clawback_days": 60, "minimum_minor": 400}',
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory() as found:
        yield found


@pytest.fixture(scope="module")
def shop(books_of_module: Path) -> Path:
    make_shop(books_of_module)
    return books_of_module


def make_shop(folder: Path) -> None:
    """Two dealers, three customers and two plans, to be copied."""
    with opened(conf_in(folder)) as conf:
        plans = [Plan.create(name=name) for name in ("home", "gold")]
        for n in range(3):
            account = Account.create(name=f"c{n}", password=b"", plan=plans[n % 2], created_at=0)
            if n < 2:
                eva = dealer_of(f"d{n}", tax=("payer", "non-payer")[n], vat_id="CZ12345678", currency="EUR")
                agreements.add_scheme(f"s{n}", schemes.parse(TERMS[n]), 0)
                agreements.assign(eva, agreements.get(f"s{n}"), 0)
                attribution.attribute(eva, "account", account.id, account.name, 0)
        earning.take_over(conf, FIRST)


@contextlib.contextmanager
def copy(shop: Path, folder: Path) -> Iterator[Config]:
    copied(shop, folder)
    with opened(conf_in(folder)) as conf:
        for database in (core_db, ledger_db):
            database.execute_sql("PRAGMA synchronous = OFF" if is_sqlite(database) else "SET synchronous_commit = off")
        yield conf


def pick(model: Any, n: int) -> Any:
    rows = list(model.select().order_by(model.id))
    return rows[n % len(rows)] if rows else None


class World:
    """One method a step; `a`, `b` and `c` are numbers from which it takes what there is."""

    def __init__(self, conf: Config) -> None:
        self.conf = conf

    def charge(self, a: int, b: int, c: int) -> None:
        account = pick(Account, a)
        kind = ("activation", "renewal")[b % 2]
        at = FIRST + c % 100 * schemes.DAY_S
        source = sales.own_source("test")
        if account:
            sales.charge(kind, b + 1, "EUR", at, source, account=account, plan=account.plan.name)

    def pay(self, a: int, b: int, c: int) -> None:
        charge = pick(Charge, a)
        if charge and (rest := sales.open_minor(charge)):
            sales.pay(charge, 1 + b % rest if c % 2 else rest, charge.at + c % 50 * schemes.DAY_S)

    def refund(self, a: int, b: int, c: int) -> None:
        payment = pick(Payment, a)
        if payment:
            sales.refund(payment, 1 + b % abs(payment.amount_minor), payment.at + c)

    def version(self, a: int, b: int, c: int) -> None:
        agreements.add_version(f"s{a % 2}", schemes.parse(TERMS[b % len(TERMS)]), FIRST + c % 100 * schemes.DAY_S)

    def hand_over(self, a: int, b: int, c: int) -> None:
        account = pick(Account, a)
        if account:
            at = FIRST + c % 100 * schemes.DAY_S
            attribution.hand_over("account", account.id, account.name, pick(Dealer, b), at)

    def leave(self, a: int, b: int, c: int) -> None:
        account = pick(Account, a)
        if account and b % 3 == 0:
            account.delete_instance()

    def take_over(self, a: int, b: int, c: int) -> None:
        earning.take_over(self.conf, FIRST + c % 100 * schemes.DAY_S, limit=1 + b % 5)

    def settle(self, a: int, b: int, c: int) -> None:
        settlement.run(self.conf, months.period(MONTHS[a % len(MONTHS)], self.conf.site.timezone), "test", now=LATER)

    def issue(self, a: int, b: int, c: int) -> None:
        if invoice := pick(Invoice, a):
            invoices.issue(self.conf, invoice, LATER)

    def cancel(self, a: int, b: int, c: int) -> None:
        if invoice := pick(Invoice, a):
            invoices.cancel(self.conf, invoice, "wrong", LATER)
            invoices.draft(self.conf, invoice.settlement, LATER)

    def pay_invoice(self, a: int, b: int, c: int) -> None:
        if invoice := pick(Invoice, a):
            invoices.pay(invoice, 1 + b % invoice.total_minor, LATER)


STEPS: tuple[Callable[[World, int, int, int], None], ...] = (
    *(World.charge, World.charge, World.pay, World.pay, World.pay, World.refund, World.version, World.hand_over),
    *(World.leave, World.take_over, World.take_over, World.settle, World.issue, World.cancel, World.pay_invoice),
)
NUMBERS = st.integers(0, 20_000)


HISTORIES = st.lists(st.tuples(st.sampled_from(STEPS), NUMBERS, NUMBERS, NUMBERS), min_size=15, max_size=60)
# Not made shorter when one fails: that takes minutes, and the list of its steps says enough.
QUICKLY = settings(deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))


@settings(QUICKLY, max_examples=8)
@given(history=HISTORIES)
def test_any_history_adds_up(shop: Path, folder: Path, history: list[Any]) -> None:
    adds_up(shop, folder, history)


def adds_up(shop: Path, folder: Path, history: list[Any]) -> None:
    with copy(shop, folder / "history") as conf:
        world = World(conf)
        for step, a, b, c in history:
            with contextlib.suppress(UserError):  # what can't be is refused, and leaves nothing
                step(world, a, b, c)
        dealer_history.check()
        month_ends(conf)


def month_ends(conf: Config) -> None:
    """All of them, twice: the second time nothing is left to do."""
    before: dict[str, str] = {}
    for n in range(2):
        month_end(conf)
        dealer_history.check()
        after = dealer_history.heads()
        assert n == 0 or after == before
        before = after


# Several processes


def sell(conf: Config, count: int) -> None:
    """Charges of the two dealers' customers, each paid in two parts, some given back."""
    for n in range(count):
        account = Account.get(name=f"c{n % 2}")
        at = FIRST + n * 3600
        charge = sales.charge("renewal", 1001 + n, "EUR", at, f"t{n}", account=account, plan=account.plan.name)
        first = sales.pay(charge, 333, at)
        sales.pay(charge, charge.amount_minor - 333, at + 60)
        if n % 3 == 0:
            sales.refund(first, 100, at + 120)


def month_end(conf: Config) -> None:
    dealer_history.take_all(conf, LATER)
    for month in MONTHS:
        settlement.run(conf, months.period(month, conf.site.timezone), "test", now=LATER)
    for invoice in list(Invoice.select().where(Invoice.number.is_null())):
        invoices.issue(conf, invoice, LATER)


def figures() -> list[Any]:
    """What was earned; in which month it is settled depends on who is quicker."""
    earned = Posting.kind.in_(("commission", "refund"))
    sums = [(row.name, ledger.balance(row, "EUR", ledger.EXPENSE)) for row in Dealer.select().order_by(Dealer.id)]
    return [*sums, Posting.select().where(earned).count()]


def in_a_process(folder: Path, killed_at: int | None) -> int:
    """Its pid. It is killed by itself before that statement to the ledger."""
    pid = os.fork()
    if pid:
        return pid
    try:
        with opened(conf_in(folder)) as conf:
            if killed_at is not None:
                count_down(killed_at, ledger_db.obj)
            month_end(conf)
        os._exit(0)
    finally:
        os._exit(1)


def expected(shop: Path, folder: Path) -> list[Any]:
    with copy(shop, folder) as conf:
        sell(conf, 12)
    copied(folder, folder.with_name("sold"))
    with opened(conf_in(folder)) as conf:
        month_end(conf)
        dealer_history.check()
        return figures()


def test_several_at_once_come_to_what_one_does(shop: Path, folder: Path) -> None:
    wanted = expected(shop, folder / "one")
    pids = [in_a_process(folder / "sold", None) for _ in range(3)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    with opened(conf_in(folder / "sold")):
        dealer_history.check()
        assert figures() == wanted


def test_one_that_is_killed_at_any_step_is_gone_on_with(
    shop: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earning, "_PIECE", 2)
    wanted = expected(shop, folder / "one")
    statement, status = 3, signal.SIGKILL
    while status == signal.SIGKILL:
        status = signal.Signals(os.waitpid(in_a_process(folder / "sold", statement), 0)[1] or signal.SIGCHLD)
        statement += 5
    with opened(conf_in(folder / "sold")):
        dealer_history.check()
        assert figures() == wanted
