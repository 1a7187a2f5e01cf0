"""What is charged, and what is paid for it."""

import json
import time

import pytest

from appliance.accounts import imports_csv, manage, sales, sales_import
from appliance.accounts.models import Account, Charge, Payment, Plan, VoucherBatch
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.errors import UserError
from tests.unit.conftest import Gatehouse

BOX = SecretBox(bytes(32))


def charges() -> list[tuple[str, str, int]]:
    return [(row.kind, row.plan, row.amount_minor) for row in Charge.select().order_by(Charge.id)]


def test_an_account_is_charged_as_it_begins_and_goes_on(core: str) -> None:
    home = Plan.create(name="home", price_minor=990, currency="EUR")
    free, gold = Plan.create(name="free"), Plan.create(name="gold", price_minor=5000, currency="CZK")
    bob, _ = manage.add_account("bob", "home", None, BOX, valid_until=100)
    manage.add_account("eve", "free", None, BOX)
    manage.add_account("guest", "home", None, BOX, sold=False)
    for until in (90, 200, 200, 150, 200, 300, None, 400):  # what was typed wrong and is mended isn't charged anew
        manage.change_account(bob, {"overrides": {}, "valid_until": until})
    assert charges() == [("activation", "home", 990), ("renewal", "home", 990), ("renewal", "home", 990)]
    manage.change_account(bob, {"overrides": {}, "plan": free, "valid_until": 900})
    manage.change_account(bob, {"overrides": {}, "plan": gold})
    assert charges()[3:] == [("activation", "gold", 5000)]
    assert {row.account for row in Charge.select()} == {"bob"}
    bob.delete_instance()
    assert {row.account_ref for row in Charge.select()} == {None}
    batch = VoucherBatch.create(name="may", plan=home, created_at=0)
    code = Account.create(name="v", password=b"", plan=home, batch=batch, valid_until=5, created_at=0)
    manage.change_account(code, {"overrides": {}, "valid_until": 500})
    assert len(charges()) == 4


def test_money_for_a_charge_is_neither_more_than_it_nor_less_than_nothing(core: str) -> None:
    Plan.create(name="home", price_minor=1000, currency="EUR")
    manage.add_account("bob", "home", None, BOX)
    charge = Charge.get()
    first = sales.pay(charge, 600, 5, "cash", source="bank:1")
    assert sales.pay(charge, 600, 5, "cash", source="bank:1") == first
    with pytest.raises(UserError, match="only 400"):
        sales.pay(charge, 401, 6)
    sales.refund(first, 500, 7)
    with pytest.raises(UserError, match="more than is left"):
        sales.refund(first, 101, 8)
    assert (sales.paid_minor(charge), sales.open_minor(charge)) == (100, 900)
    with pytest.raises(UserError, match="give it back"):
        sales.cancel(charge, 9)
    sales.refund(first, 100, 9)
    with pytest.raises(UserError, match="refund itself"):
        sales.refund(Payment.get(amount_minor=-100), 1, 9)
    sales.cancel(charge, 10)
    with pytest.raises(UserError, match="cancelled"):
        sales.pay(Charge.get(), 1, 11)
    for amount, currency in ((0, "EUR"), (-5, "EUR"), (5, "eur")):
        with pytest.raises(UserError):
            sales.charge("renewal", amount, currency, 5, "x")


def test_plans_have_prices(gatehouse: Gatehouse) -> None:
    assert gatehouse("plan", "add", "home", "--price", "9.90", "--currency", "eur")[0] == 0
    assert "9.90 EUR" in gatehouse("plan", "list")[1]
    assert gatehouse("plan", "set", "home", "--price", "10")[0] == 0
    (row,) = json.loads(gatehouse("plan", "list", "--json")[1])
    assert (row["price_minor"], row["currency"]) == (1000, "EUR")
    assert gatehouse("plan", "set", "home", "--down", "5M", "--price", "none")[0] == 0
    (row,) = json.loads(gatehouse("plan", "list", "--json")[1])
    assert (row["price_minor"], row["currency"]) == (0, "")
    for wrong in (("--price", "5"), ("--currency", "EUR"), ("--price", "1.234", "--currency", "EUR")):
        assert gatehouse("plan", "set", "home", *wrong)[0] != 0


def test_first_logins_are_recorded_a_few_at_a_time(core: str) -> None:
    home = Plan.create(name="home")
    now = int(time.time())
    for name, price in (("may", 500), ("gift", 0)):
        batch = VoucherBatch.create(name=name, plan=home, price_minor=price, currency="EUR", created_at=0)
        rows = [
            {"name": f"{name}{n}", "password": b"", "plan": home, "batch": batch, "first_login_at": now - n}
            for n in range(5)
        ]
        Account.insert_many([row | {"created_at": 0} for row in rows]).execute()
    assert [sales.record_first_logins(now, limit=3) for _ in range(3)] == [3, 2, 0]
    assert (Charge.select().count(), Payment.select().count()) == (5, 5)


def table(*lines: str) -> bytes:
    return "\n".join(("date;account;amount;currency;method;reference;kind", *lines)).encode()


def test_a_table_of_payments_pays_what_is_open_and_comes_once(core: str) -> None:
    Plan.create(name="home", price_minor=1000, currency="EUR")
    bob, _ = manage.add_account("bob", "home", None, BOX, valid_until=5)
    manage.change_account(bob, {"overrides": {}, "valid_until": 6})
    content = table(
        "2026-01-05;bob;12,50;EUR;bank;VS 1;",
        "2026-01-05;bob;1.00;eur;cash;;",
        "2026-01-05;bob;1.00;eur;cash;;",  # paid twice, and not the same line
        "2026-01-06;bob;30;EUR;cash;;renewal",
    )
    noted: list[int] = []
    found = sales_import.read(content, Config())
    assert [[part for _, part in row.parts] for row in found.rows] == [[1000, 250], [100], [100], []]
    assert sales_import.write(found, lambda: noted.append(1)) == 4
    assert sales_import.write(found) == 4
    assert sales_import.read(content, Config()).known == [2, 3, 4, 5]
    assert [sales.open_minor(row) for row in Charge.select().order_by(Charge.id)] == [0, 550, 0]
    assert ([row.amount_minor for row in Payment.select()], noted) == ([1000, 250, 100, 100, 3000], [1])


WRONG = (
    ("2026-01-05;eve;1;EUR;;;", "no account 'eve'"),
    ("2026-01-05;bob;11;EUR;;;", "has 10.00 EUR open"),
    ("2026-01-05;bob;1;CZK;;;", "has nothing open"),
    ("2026-01-05;bob;-1;EUR;;;", "no price"),
    ("2026-01-05;bob;0;EUR;;;", "more than nothing"),
    ("2999-01-05;bob;1;EUR;;;", "that has come"),
    ("0001-01-01;bob;1;EUR;;;", "that has come"),
    (";bob;1;EUR;;;", "a day or a time"),
    ("2026-01-05;bob;1;EUR;;;gift", "no kind"),
)


@pytest.mark.parametrize("header", [b'"date,account', b'"' + b"x" * 200_000 + b'"', b"date\rname,account"])
def test_a_broken_first_line_is_said(core: str, header: bytes) -> None:
    for read in (lambda: sales_import.read(header, Config()), lambda: imports_csv.read(header, "home", Config())):
        with pytest.raises(UserError, match="the first line can’t be read"):
            read()


def test_what_is_wrong_in_a_table_is_said_by_its_line(core: str) -> None:
    Plan.create(name="home", price_minor=1000, currency="EUR")
    manage.add_account("bob", "home", None, BOX)
    found = sales_import.read(table(*(line for line, _ in WRONG)), Config())
    assert [line for line, _ in found.errors] == list(range(2, 2 + len(WRONG)))
    for (_, text), (_, said) in zip(found.errors, WRONG, strict=True):
        assert said in text
    with pytest.raises(UserError, match="line 2: "):
        sales_import.write(found)
    assert not Payment.select().exists()
