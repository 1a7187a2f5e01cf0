"""What sales bring to dealers: schemes, and that each payment counts once."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts import erasure, sales
from appliance.accounts.models import Account, Charge, Payment, VoucherBatch, core_db
from appliance.config import Config
from appliance.dealers import (
    agreements,
    attribution,
    dealers,
    earning,
    ledger,
    month_end,
    months,
    schemes,
    simulator,
    wording,
)
from appliance.dealers.models import Attribution, Posting
from appliance.dealers.models import ledger_db as database
from appliance.dealers.schemes import Facts, Terms, entitled
from appliance.errors import UserError
from tests.unit.dealer_box import DAY, Shop, configuration, opened

PRAGUE = ZoneInfo("Europe/Prague")
NOW = DAY + 10 * schemes.DAY_S


@pytest.fixture
def conf(books: Path) -> Iterator[Config]:
    with opened(configuration(books)) as config:
        yield config


def of(amount: int, kind: str = "renewal", at: int = DAY, **more: Any) -> Facts:
    return Facts(
        kind, more.get("plan", "home"), amount, more.get("currency", "EUR"), at, more.get("began", DAY), PRAGUE
    )


def accrued(dealer: Any) -> list[tuple[str, int]]:
    rows = Posting.select().where(Posting.dealer == dealer).order_by(Posting.n)
    return [(row.kind, row.amount_minor) for row in rows]


# Schemes


@pytest.mark.parametrize(
    ("terms", "facts", "paid", "volume", "earned"),
    [
        ('{"percent": "10"}', of(1000), 1000, 0, 100),
        ('{"percent": "12.5"}', of(1004), 1004, 0, 126),  # 125.5
        ('{"percent": "10"}', of(1000), 333, 0, 33),
        ('{"percent": "10"}', of(1000), -5, 0, 0),
        ('{"percent": "10"}', of(1000), 5000, 0, 100),
        ('{"fixed_minor": 500}', of(1000, "activation"), 1000, 0, 500),
        ('{"fixed_minor": 500}', of(1000, "voucher"), 500, 0, 250),
        ('{"fixed_minor": 500}', of(1000), 1000, 0, 0),
        ('{"fixed_minor": 500, "percent": "10"}', of(1000, "activation"), 1000, 0, 600),
        ('{"percent": "10", "plans": {"home": {"percent": "20"}}}', of(1000), 1000, 0, 200),
        ('{"percent": "10", "plans": {"gold": {"percent": "20"}}}', of(1000), 1000, 0, 100),
        ('{"percent": "10", "currency": "CZK"}', of(1000), 1000, 0, 0),
        ('{"tiers": [[0, "5"], [10000, "10"]]}', of(1000), 1000, 0, 50),
        ('{"tiers": [[0, "5"], [10000, "10"]]}', of(1000), 1000, 9500, 75),  # half in each
        ('{"tiers": [[0, "5"], [10000, "10"]]}', of(1000), 1000, 10000, 100),
        ('{"tiers": [[0, "0"], [10050, "10"]]}', of(100), 100, 10049, 10),  # 9.9: nothing falls between two tiers
    ],
)
def test_what_a_sale_earns(terms: str, facts: Facts, paid: int, volume: int, earned: int) -> None:
    assert entitled(schemes.parse(terms), facts, paid, volume) == earned
    assert schemes.parse(schemes.dump(schemes.parse(terms))) == schemes.parse(terms)


def test_months_are_those_of_the_sites_calendar() -> None:
    begin = int(datetime(2026, 1, 31, 12, tzinfo=PRAGUE).timestamp())
    end = int(datetime(2026, 2, 28, 12, tzinfo=PRAGUE).timestamp())
    terms = Terms(Decimal(10), months=1)
    assert entitled(terms, of(1000, at=end - 1, began=begin), 1000) == 100
    assert entitled(terms, of(1000, at=end, began=begin), 1000) == 0
    assert schemes.volume_span(replace(terms, volume="year"), begin, PRAGUE) == (
        int(datetime(2026, 1, 1, tzinfo=PRAGUE).timestamp()),
        int(datetime(2027, 1, 1, tzinfo=PRAGUE).timestamp()),
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"percent": 10.5}',
        '{"percent": "101"}',
        '{"percent": "x"}',
        '{"rate": "10"}',
        '{"percent": "NaN"}',
        '{"fixed_minor": -1}',
        '{"fixed_minor": true}',
        '{"tiers": [[1, "5"]]}',
        '{"tiers": [[0, "5"], [0, "6"]]}',
        '{"tiers": [[0]]}',
        '{"tiers": 5}',
        '{"percent": "10", "tiers": [[0, "5"]]}',
        '{"plans": {"gold": {"hold_days": 5}}}',
        '{"plans": 5}',
        '{"volume": "week"}',
        '{"currency": "eur"}',
        "[]",
        "{",
    ],
)
def test_what_cannot_be_terms(text: str) -> None:
    with pytest.raises(UserError):
        schemes.parse(text)


@given(
    amount=st.integers(1, 10**9),
    parts=st.lists(st.integers(1, 10**9), max_size=5),
    before=st.integers(0, 10**6),
    percent=st.decimals(0, 100, places=4),
    fixed=st.integers(0, 10**6),
)
def test_parts_of_a_payment_bring_what_the_whole_does(
    amount: int, parts: list[int], before: int, percent: Decimal, fixed: int
) -> None:
    tiers = ((0, percent), (10**5, Decimal(7)), (10**6, Decimal("0.5")))
    for terms in (Terms(percent, fixed), Terms(tiers=tiers)):
        facts, paid, got = of(amount, "activation"), 0, 0
        standing = earning.begin(terms, facts, before)
        for part in [*parts, amount]:
            now = min(part, amount - paid)
            paid += now
            more, standing = earning.step(standing, amount, now)
            got += more
        assert got == entitled(terms, facts, amount, before)
        assert earning.step(standing, amount, -amount)[0] == -got


# Taking over


def test_each_payment_is_taken_over_once_and_the_last_one_closes_exactly(conf: Config) -> None:
    shop = Shop()
    eva, bob = shop.dealer(terms='{"percent": "33.33"}'), shop.customer()
    shop.mine(eva, bob)
    charge = shop.charge(bob, 1000)
    for amount in (1, 332, 334):
        sales.pay(charge, amount, DAY)
        earning.take_over(conf, NOW)
        assert earning.take_over(conf, NOW) == 0
    sales.pay(charge, 333, DAY)
    assert earning.take_over(conf, NOW) == 1
    assert accrued(eva) == [("commission", 0), ("commission", 111), ("commission", 111), ("commission", 111)]
    assert ledger.balance(eva, "EUR", "accrued") == 333
    assert list(ledger.verify()) == []


def test_a_refund_takes_its_part_back(conf: Config) -> None:
    shop = Shop()
    eva, bob = shop.dealer(), shop.customer()
    shop.mine(eva, bob)
    payment = sales.pay(shop.charge(bob), 1000, DAY)
    sales.refund(payment, 333, DAY + 5)
    earning.take_over(conf, NOW)
    assert accrued(eva) == [("commission", 100), ("refund", -33)]
    sales.refund(payment, 667, DAY + 6)
    earning.take_over(conf, NOW)
    assert ledger.balance(eva, "EUR") == 0


def test_a_hold_is_kept_for_what_comes_back_too(conf: Config) -> None:
    shop = Shop()
    eva, bob = shop.dealer(terms='{"percent": "10", "hold_days": 14}'), shop.customer()
    shop.mine(eva, bob)
    sales.refund(sales.pay(shop.charge(bob), 1000, DAY), 100, DAY + 5)
    earning.take_over(conf, NOW)
    assert {row.due_at for row in Posting.select()} == {DAY + 14 * schemes.DAY_S}


def test_whose_a_sale_is_is_asked_for_the_time_of_the_charge(conf: Config) -> None:
    shop = Shop()
    eva, ota, bob = shop.dealer(), shop.dealer("ota", '{"percent": "50"}'), shop.customer()
    shop.mine(eva, bob, DAY - 10, DAY)
    shop.mine(ota, bob, DAY)
    early, late = shop.charge(bob, at=DAY - 1), shop.charge(bob, at=DAY)
    before = shop.charge(bob, at=DAY - 11)
    for charge in (early, late, before):
        sales.pay(charge, 1000, DAY + 5)
    earning.take_over(conf, NOW)
    assert (accrued(eva), accrued(ota)) == ([("commission", 100)], [("commission", 500)])


def test_what_was_sold_before_it_was_said_whose_it_is_comes_after(conf: Config) -> None:
    shop = Shop()
    eva, bob = dealers.add("eva"), shop.customer()
    sales.pay(shop.charge(bob), 400, DAY)
    assert earning.take_over(conf, NOW) == 0
    shop.mine(eva, bob, DAY)
    assert earning.take_over(conf, NOW) == 0
    agreements.add_scheme("ten", Terms(Decimal(10)), 0)
    agreements.assign(eva, agreements.get("ten"), 0)
    assert earning.take_over(conf, NOW) == 1
    assert accrued(eva) == [("commission", 40)]


def test_a_charge_stays_under_its_version_and_with_its_dealer(conf: Config) -> None:
    shop = Shop()
    eva, ota, bob = shop.dealer(), dealers.add("ota"), shop.customer()
    row = shop.mine(eva, bob)
    charge = shop.charge(bob)
    sales.pay(charge, 500, DAY)
    earning.take_over(conf, NOW)
    agreements.add_version("eva", Terms(Decimal(90)), DAY - 5)
    attribution.end(row, DAY - 5)
    shop.mine(ota, bob, DAY - 5)
    sales.pay(charge, 500, DAY + 5)
    sales.pay(shop.charge(bob, at=DAY - 6), 1000, DAY + 5)
    earning.take_over(conf, NOW)
    assert accrued(eva) == [("commission", 50), ("commission", 50), ("commission", 100)]


def test_who_has_left_is_known_by_name_and_stays_whose_they_were(conf: Config) -> None:
    shop = Shop()
    eva, ota = shop.dealer(terms='{"percent": "10", "months": 1}'), shop.dealer("ota", '{"percent": "50"}')
    first, later = shop.customer(), 150 * schemes.DAY_S
    shop.mine(eva, first, 0, DAY + 2 * later)
    shop.charge(first, at=DAY)
    over = shop.charge(first, at=DAY + later)
    first.delete_instance()
    sales.pay(over, 1000, DAY + later)
    second = shop.customer()
    shop.mine(ota, second, DAY + later // 2)
    now_theirs = shop.charge(second, at=DAY + later + 1)
    second.delete_instance()
    sales.pay(now_theirs, 1000, DAY + later + 1)
    earning.take_over(conf, DAY + 2 * later)
    assert accrued(eva) == [], "her month was over"
    assert accrued(ota) == [("commission", 500), ("commission", 500)]


@pytest.mark.parametrize("note", ["", "x\ny", "x" * 201])
def test_a_correction_needs_a_reason_that_can_be_printed(conf: Config, note: str) -> None:
    with pytest.raises(UserError, match="a reason is needed"):
        earning.correct(Shop().dealer(), "EUR", 100, note, NOW)


@pytest.mark.parametrize("key", ["months", "hold", "clawback"])
def test_endless_numbers_are_no_terms(key: str) -> None:
    with pytest.raises(UserError):
        wording.terms({"percent": "10", key: "9" * 5000}, "EUR")


def test_volume_adds_up_over_a_month(conf: Config) -> None:
    shop = Shop()
    eva, bob = shop.dealer(terms='{"tiers": [[0, "0"], [1500, "10"]]}'), shop.customer()
    shop.mine(eva, bob)
    for at in (DAY, DAY + 1, DAY + 2, DAY + 40 * schemes.DAY_S):
        sales.pay(shop.charge(bob, at=at), 1000, at)
    earning.take_over(conf, NOW)
    assert accrued(eva) == [("commission", 0), ("commission", 50), ("commission", 100), ("commission", 0)]


def test_vouchers_earn_with_their_first_login(conf: Config) -> None:
    shop = Shop()
    eva = shop.dealer(terms='{"percent": "10", "fixed_minor": 5}')
    batch = VoucherBatch.create(name="may", plan=shop.plan, price_minor=500, currency="EUR", created_at=0)
    attribution.attribute(eva, "batch", batch.id, "may", 0)
    rows = [{"name": f"v{n}", "password": b"", "plan": shop.plan, "batch": batch, "created_at": 0} for n in range(4)]
    Account.insert_many(rows).execute()
    assert earning.take_over(conf, NOW) == 0
    Account.update(first_login_at=NOW).where(Account.name == "v1").execute()
    Account.update(first_login_at=5, enabled=False).where(Account.name == "v2").execute()  # by a clock that was wrong
    assert earning.take_over(conf, NOW) == 1
    assert earning.take_over(conf, NOW + 2 * schemes.DAY_S) == 1
    assert accrued(eva) == [("commission", 55), ("commission", 55)]
    assert [(row.account, row.at, row.plan) for row in Charge.select().order_by(Charge.id)] == [
        *(("v1", NOW, "home"), ("v2", 5, "home")),
    ]
    assert {row.amount_minor for row in Payment.select()} == {500}


def test_a_customer_who_leaves_early_is_taken_back(conf: Config) -> None:
    shop = Shop()
    eva, bob, ann = (
        shop.dealer(terms='{"percent": "10", "clawback_days": 30}'),
        shop.customer(),
        shop.customer("ann"),
    )
    for account in (bob, ann):
        shop.mine(eva, account)
        sales.pay(shop.charge(account, kind="activation"), 1000, DAY)
    earning.take_over(conf, NOW)
    bob.delete_instance()
    assert (earning.take_over(conf, NOW), earning.take_over(conf, NOW)) == (1, 0)
    ann.delete_instance()
    assert earning.take_over(conf, DAY + 30 * schemes.DAY_S) == 0
    assert accrued(eva) == [("commission", 100), ("commission", 100), ("clawback", -100)]


def test_a_core_database_of_before_brings_nothing_twice_and_nothing_is_missed(conf: Config) -> None:
    shop = Shop()
    eva, bob = shop.dealer(), shop.customer()
    shop.mine(eva, bob)
    kept = sales.pay(shop.charge(bob, source="one"), 1000, DAY)
    lost = sales.pay(shop.charge(bob, source="two"), 1000, DAY)
    earning.take_over(conf, NOW)
    Payment.delete().where(Payment.id == lost.id).execute()
    sales.pay(Charge.get(source="two"), 500, DAY)
    Payment.update(id=lost.id).where(Payment.id > kept.id).execute()  # as numbers begin anew in a restored database
    earning.take_over(conf, NOW)
    assert [amount for _, amount in accrued(eva)] == [100, 100, 0]


def test_payments_are_read_in_pages(conf: Config) -> None:
    shop = Shop()
    eva, bob = shop.dealer(), shop.customer()
    shop.mine(eva, bob)
    for charge in [shop.charge(bob) for _ in range(7)]:
        sales.pay(charge, 1000, DAY)
    assert earning.catch_up(conf, NOW, limit=2) == 7
    assert earning.catch_up(conf, NOW, limit=2) == 0


@pytest.mark.parametrize("books", ["postgresql"], indirect=True)
def test_a_payment_that_appears_after_one_with_a_higher_number_counts(conf: Config) -> None:
    """Where several write at once, for however long one of them takes."""
    shop = Shop()
    eva, bob = shop.dealer(), shop.customer()
    shop.mine(eva, bob)
    slow, quick = shop.charge(bob), [shop.charge(bob) for _ in range(5)]

    def others() -> None:
        with core_db.connection_context(), database.connection_context():
            for charge in quick:
                sales.pay(charge, 1000, DAY)
            assert earning.catch_up(conf, NOW, limit=2) == 5

    with core_db.atomic():
        sales.pay(slow, 1000, DAY)
        thread = threading.Thread(target=others)
        thread.start()
        thread.join()
        assert len(accrued(eva)) == 5
    with core_db.atomic():
        assert earning.catch_up(conf, NOW, limit=2) == 1
        locks = "SELECT count(*) FROM pg_locks WHERE relation = 'payment'::regclass AND mode = 'ShareLock'"
        assert core_db.execute_sql(locks).fetchone() == (0,), "nobody else waits for the rest of a longer write"


def test_who_is_erased_is_forgotten_with_their_dealer_too(conf: Config) -> None:
    shop = Shop()
    eva, bob, ann, zoe = shop.dealer(), shop.customer(), shop.customer("ann"), shop.customer("zoe")
    for account in (bob, ann, zoe):
        shop.mine(eva, account)
        sales.pay(shop.charge(account), 500, DAY)
    earning.take_over(conf, NOW)
    earning.take_over(conf, NOW)
    erasure.erase(erasure.Person("bob"), "anonymise", conf)
    ann.delete_instance()
    earning.take_over(conf, NOW + 2 * schemes.DAY_S)
    names = [row.name for row in eva.attributions.order_by(Attribution.id)]
    assert names == [f"erased-{bob.id}", "ann", "zoe"]
    sales.pay(Charge.get(account=f"erased-{bob.id}"), 500, DAY)  # the books go on
    earning.take_over(conf, NOW)
    assert accrued(eva)[3:] == [("commission", 50)]


# Other terms


def test_the_simulator_comes_to_what_the_ledger_does(conf: Config) -> None:
    shop = Shop()
    terms = '{"tiers": [[0, "3.3"], [1500, "10"]], "plans": {"gold": {"fixed_minor": 70}}}'
    eva, ota = shop.dealer(terms=terms), shop.dealer("ota", terms)
    for n, dealer in enumerate((eva, ota)):
        account = shop.customer(f"c{n}")
        shop.mine(dealer, account)
        for day in range(5):
            charge = shop.charge(account, 777 + day, DAY + day * 9 * schemes.DAY_S)
            payment = sales.pay(charge, 333, charge.at)
            sales.pay(charge, 444, charge.at + 5)
            if day % 2:
                sales.refund(payment, 111, charge.at + 9)
        account.delete_instance()
    earning.take_over(conf, NOW)
    span = (DAY + 9 * schemes.DAY_S, DAY + 30 * schemes.DAY_S)
    rows = simulator.simulate(conf, schemes.parse(terms), *span)
    assert [(row.dealer, row.payments) for row in rows] == [("eva", 8), ("ota", 8)]
    assert all(row.then_minor == row.now_minor > 0 for row in rows)
    assert all(row.received_minor == 3 * 777 - 2 * 111 for row in rows)
    (twice,) = simulator.simulate(conf, Terms(Decimal(50)), *span, dealers=[ota])
    assert (twice.dealer, twice.then_minor, twice.now_minor) == ("ota", rows[1].then_minor, 1055)
    assert Posting.select().where(Posting.kind == "commission").count() == 20


def test_a_month_end_takes_over_what_was_sold_though_no_keeper_runs(conf: Config, monkeypatch: Any) -> None:
    """In several looks, of which some bring nothing to anybody."""
    shop = Shop()
    eva, bob, stranger = shop.dealer(), shop.customer(), shop.customer("stranger")
    shop.mine(eva, bob)
    earning.catch_up(conf, NOW)
    for account in (stranger, bob, stranger, bob):
        sales.pay(shop.charge(account), 1000, DAY)
    take_over = earning.take_over
    monkeypatch.setattr(earning, "take_over", lambda config, now: take_over(config, now, limit=1))
    outcome = month_end.run(conf, months.of(DAY, PRAGUE), "jana", NOW + 31 * schemes.DAY_S)
    assert [made.amount_minor for made in outcome.settled] == [200]
