"""Vouchers sold on credit: once however often it is sent, and whole or not at all wherever somebody is killed."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import peewee
import pytest

from appliance.accounts import manage, sales, unfinished, vouchers
from appliance.accounts.models import Account, Plan, VoucherBatch, core_db
from appliance.config import Config
from appliance.crypto import key_file
from appliance.dealers import attribution, credit, dealers, ledger, selling
from appliance.dealers.models import BATCH, Dealer, ledger_db
from appliance.dealers.selling import Wish
from appliance.dealers.selling_models import DONE, OPEN, RELEASED, SOLD, Recall, Sale
from appliance.errors import Conflict, UserError
from tests.unit import dealer_box

PRICE = 5_000


@pytest.fixture
def box(books: Path) -> Iterator[Config]:
    """A dealer `shop` with credit for twenty of the plan `day`."""
    conf = dealer_box.configuration(books)
    key_file(conf.paths.state).parent.mkdir()
    key_file(conf.paths.state).write_bytes(bytes(32))
    with dealer_box.opened(conf):
        manage.add(Plan, "plan", name="day", price_minor=PRICE, currency="CZK")
        shop = dealers.add("shop", currency="CZK", login="shop")
        credit.top_up(shop, 20 * PRICE, "jana", "transfer 1", 1)
    core_db.connect()
    ledger_db.connect()
    yield conf
    core_db.close()
    ledger_db.close()


def shop() -> Any:
    return Dealer.get(Dealer.name == "shop")


def wish(number: int = 1, count: int = 2, price: int = PRICE) -> Wish:
    return Wish("day", count, price, f"key-of-a-form-{number:06}")


def now() -> int:
    return int(time.time())


def sell(box: Config, *words: Any) -> Any:
    return selling.sell(box, shop(), wish(*words), now())


def balances() -> tuple[int, int, int]:
    return tuple(ledger.balance(shop(), "CZK", account) for account in ("credit", "hold", "sales"))  # type: ignore[return-value]


def sound(credit_at_first: int = 20 * PRICE) -> None:
    """Money and vouchers are worth the same, and nothing is in between."""
    assert list(ledger.verify()) == []
    batches = {row.name: row for row in VoucherBatch.select().where(vouchers.complete())}
    sold = {row.batch: row for row in Sale.select()}
    assert {name for name, row in sold.items() if row.state == SOLD} == set(batches)
    assert not [row for row in sold.values() if row.state == OPEN]
    good = 0
    for name, row in batches.items():
        usable = int(Account.select().where(Account.batch == row, Account.enabled).count())
        made = int(Account.select().where(Account.batch == row).count())
        back = int(Recall.select().where(Recall.sale == sold[name].id, Recall.state == DONE).count())
        assert (made, usable) == (sold[name].count, made - back), name
        assert sold[name].batch_ref == row.id
        assert attribution.of(BATCH, row.id).name == "shop"
        good += usable
    assert balances() == (credit_at_first - good * PRICE, 0, good * PRICE)


def test_a_sale_takes_its_price_and_gives_vouchers(box: Config) -> None:
    sale = sell(box, 1, 3)
    assert (sale.state, sale.amount_minor) == (SOLD, 3 * PRICE)
    batch = VoucherBatch.get(VoucherBatch.id == sale.batch_ref)
    assert (batch.name, batch.price_minor, batch.currency) == (f"shop-{sale.id}", PRICE, "CZK")
    sound()
    assert sell(box, 1, 3).id == sale.id, "the same form again"
    assert sell(box, 1, 9).id == sale.id, "whatever else it says now"
    sound()


@pytest.mark.parametrize(
    ("columns", "count", "said"),
    [
        ({}, 21, "more than the credit allows: 20 can be sold now"),
        ({"batch_limit": 4}, 5, "more than the limit of one sale allows: 4 can"),
        ({"day_limit_minor": 7 * PRICE}, 8, "more than the limit of today allows: 7 can"),
        ({"state": "suspended"}, 1, "this dealer is suspended"),
        ({"currency": "EUR"}, 1, "it has no price in EUR"),
        ({}, 0, "can't be sold at once"),
        ({}, 501, "can't be sold at once"),
    ],
)
def test_what_a_limit_forbids_leaves_nothing(box: Config, columns: dict[str, Any], count: int, said: str) -> None:
    dealers.change(shop(), columns)
    with pytest.raises(UserError, match=said):
        sell(box, 1, count)
    assert Sale.select().count() == 0
    assert ledger.balance(shop(), "CZK", "credit") == 20 * PRICE


def test_the_provider_may_lend_credit(box: Config) -> None:
    dealers.change(shop(), {"credit_limit_minor": 2 * PRICE})
    assert sell(box, 1, 22).state == SOLD
    sound()
    with pytest.raises(UserError, match="0 can be sold now"):
        sell(box, 2, 1)


def test_limits_of_a_day_count_what_was_sold_that_day_only(box: Config) -> None:
    dealers.change(shop(), {"day_limit_minor": 3 * PRICE})
    sell(box, 1, 3)
    with pytest.raises(UserError, match="limit of today"):
        sell(box, 2, 1)
    assert selling.sell(box, shop(), wish(3, 3), now() + 2 * 86_400).state == SOLD


def test_another_price_than_was_shown_sells_nothing(box: Config) -> None:
    with pytest.raises(UserError, match="the price of day has changed"):
        sell(box, 1, 1, PRICE - 1)
    sound()


def test_a_name_that_is_taken_gives_the_money_back(box: Config) -> None:
    VoucherBatch.create(name="shop-1", plan=Plan.get(), created_at=1)
    with pytest.raises(Conflict):
        sell(box)
    assert [sale.state for sale in Sale.select()] == [RELEASED]
    assert balances() == (20 * PRICE, 0, 0)
    assert sell(box, 2).state == SOLD


def test_credit_is_paid_in_once_by_its_reference(box: Config) -> None:
    with pytest.raises(Conflict, match="recorded already"):
        credit.top_up(shop(), 20 * PRICE, "jana", "transfer 1", 2)
    with pytest.raises(UserError, match="more than the credit"):
        credit.top_up(shop(), -21 * PRICE, "jana", "back", 2)
    credit.top_up(shop(), -PRICE, "jana", "back", 2)
    assert credit.balance(shop()) == 19 * PRICE


# At once


def in_threads(*jobs: Callable[[], Any]) -> list[Any]:
    """What each gave or raised; each has connections of its own."""
    results: list[Any] = [None] * len(jobs)

    def run(place: int) -> None:
        with core_db.connection_context(), ledger_db.connection_context():
            try:
                results[place] = jobs[place]()
            except (UserError, peewee.OperationalError) as error:
                results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_form_sent_at_once_sells_once(box: Config) -> None:
    sold = in_threads(*[lambda: sell(box, 1, 3)] * 4)
    assert {(sale.id, sale.state) for sale in sold} == {(1, SOLD)}
    sound()


def test_many_sales_at_once_spend_no_more_than_there_is(box: Config) -> None:
    sold = in_threads(*[lambda number=number: sell(box, number, 6) for number in range(6)])
    assert sum(isinstance(sale, Sale) for sale in sold) == 3
    assert all("2 can be sold now" in str(error) for error in sold if not isinstance(error, Sale))
    sound()


def test_what_is_released_while_it_is_made_never_appears(box: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody takes the maker for dead, just before it is done; it only was slow."""

    def slow(batches: Any) -> None:
        assert in_threads(lambda: selling.recover(box, later())) == [1]

    monkeypatch.setattr(unfinished, "still_here", slow)
    with pytest.raises(UserError, match="its credit was given back"):
        sell(box)
    assert [sale.state for sale in Sale.select()] == [RELEASED]
    sound()


def test_what_is_about_to_appear_is_waited_for(box: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody takes the maker for dead between its two commits."""
    passed, real = threading.Event(), selling._pass
    looked: list[Any] = []

    def slow(of: Any) -> None:
        real(of)
        passed.set()
        time.sleep(0.3)
        looked.append(Sale.get_by_id(of.id).state)

    def look() -> Any:
        passed.wait(5)
        return selling.recover(box, later())

    monkeypatch.setattr(selling, "_pass", slow)
    sold, count = in_threads(lambda: sell(box), look)
    assert (looked, sold.state, count) == ([OPEN], SOLD, 1)
    sound()


# Killed


def killed_at(step: int, job: Callable[[], Any], box: Config) -> bool:
    """Whether a process was killed just before its n-th statement that writes; False when it was done before."""
    core_db.close()
    ledger_db.close()
    child = os.fork()
    if not child:
        try:
            dealer_box.count_down(step, core_db.obj, ledger_db.obj)
            job()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    core_db.connect()
    ledger_db.connect()
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def later() -> int:
    return now() + 2 * selling.STALE_S


def test_killed_anywhere_a_sale_is_whole_or_never_was(box: Config) -> None:
    states, step = set(), 0
    while killed_at(step, partial(sell, box, step, 1), box):
        before = VoucherBatch.select().where(vouchers.complete()).count()
        selling.recover(box, later())
        assert VoucherBatch.select().where(vouchers.complete()).count() == before, "recovering makes no vouchers"
        sound()
        assert selling.recover(box, later()) == 0
        sale = Sale.get_or_none(Sale.key == wish(step).key)
        states.add(sale.state if sale else "nothing")
        if sale and sale.state == SOLD:
            selling.recall(sale, now())  # its credit is needed for the next ones
        step += 1
    assert step > 10
    assert states == {"nothing", RELEASED, SOLD}
    sound()


def test_killed_while_it_recovers_it_recovers(box: Config) -> None:
    step = 0
    while True:
        assert killed_at(9, partial(sell, box, 100 + step, 1), box)
        if not killed_at(step, lambda: selling.recover(box, later()), box):
            break
        selling.recover(box, later())
        sound()
        step += 1
    assert step > 3
    sound()


def test_killed_anywhere_what_is_taken_back_is_paid_back_once(box: Config) -> None:
    step = 0
    while True:
        sale = sell(box, step, 1)
        if not killed_at(step, partial(selling.recall, sale, now()), box):
            break
        selling.recover(box, later())
        sound()
        if Account.select().where(Account.batch == sale.batch_ref, Account.enabled).exists():
            assert selling.recall(sale, now()) == 1, "nothing had begun"
        with pytest.raises(UserError, match="nothing is left to take back"):
            selling.recall(sale, now())
        step += 1
    assert step > 5
    sound()


# Taken back


def test_only_what_nobody_has_used_is_taken_back_and_once(box: Config) -> None:
    sale = sell(box, 1, 4)
    first, second, *_ = Account.select().where(Account.batch == sale.batch_ref).order_by(Account.id)
    Account.update(first_login_at=now()).where(Account.id == first.id).execute()
    assert selling.recall(sale, now(), second.name) == 1
    with pytest.raises(UserError, match="nothing is left"):
        selling.recall(sale, now(), second.name)
    with pytest.raises(UserError, match="nothing is left"):
        selling.recall(sale, now(), first.name)
    counts = in_threads(*[lambda: selling.recall(sale, now())] * 3)
    assert sum(count for count in counts if isinstance(count, int)) == 2
    sound()
    assert credit.balance(shop()) == 19 * PRICE
    back = Account.get(Account.id == second.id)
    back.enabled = True
    back.save()
    (state,) = [state for code, state, _ in vouchers.codes(sale.batch_ref, now()) if code == second.name]
    assert state == "lapsed", "who unblocks it by mistake gives no voucher away"


def test_a_login_that_is_noted_after_it_was_taken_back_is_no_sale(box: Config) -> None:
    sale = sell(box, 1, 1)
    account = Account.get(Account.batch == sale.batch_ref)
    assert selling.recall(sale, now()) == 1
    Account.update(first_login_at=now() + 1).where(Account.id == account.id).execute()
    assert sales.record_first_logins(now() + 5) == 0


def test_a_clock_that_was_ahead_holds_up_nothing(box: Config) -> None:
    ahead = now() + 90 * 86_400
    sale = selling.sell(box, shop(), wish(1, 1), ahead)
    assert selling.sold_today(box, shop(), now()) == 0
    Sale.update(state=OPEN).where(Sale.id == sale.id).execute()
    assert selling.recover(box, now()) == 1


def test_one_that_is_used_in_that_moment_stays_used(box: Config) -> None:
    sale = sell(box, 1, 1)
    account = Account.get(Account.batch == sale.batch_ref)
    Recall.create(sale=sale, account=account.id, code=account.name, at=now())
    Account.update(first_login_at=now()).where(Account.id == account.id).execute()
    assert selling.recover(box, later()) == 1
    assert [one.state for one in Recall.select()] == ["refused"]
    assert credit.balance(shop()) == 19 * PRICE
    sound()
