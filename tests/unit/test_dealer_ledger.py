"""The ledger: what it has, and that nobody changes it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import argon2
import peewee
import pytest

from appliance import db
from appliance.config import Config
from appliance.dealers import attribution, dealers, ledger
from appliance.dealers import ledger_db as opening
from appliance.dealers.models import MODELS, Posting, ledger_db
from appliance.errors import Conflict, UserError
from tests.unit.dealer_box import Shop, configuration, opened


@pytest.fixture
def conf(books: Path) -> Iterator[Config]:
    with opened(configuration(books)) as config:
        yield config


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_models_and_migrations_say_the_same(conf: Config, model: type[peewee.Model]) -> None:
    table = model._meta.table_name
    columns = {column.name: column for column in ledger_db.get_columns(table)}
    assert set(columns) == {field.column_name for field in model._meta.sorted_fields}
    for field in model._meta.sorted_fields:
        if not field.primary_key:
            assert columns[field.column_name].null == field.null, f"{table}.{field.column_name}"


def post(dealer: Any, amount: int, source: str) -> Any:
    entries = {"accrued": amount, "expense": -amount}
    return ledger.post(dealer, "commission", ("payment", source), "EUR", entries, 5)


def test_a_posting_is_made_once_and_balances_need_no_sum(conf: Config) -> None:
    eva, ota = dealers.add("eva"), dealers.add("ota")
    assert post(eva, 100, "1").n == 1
    assert post(eva, 100, "1") is None
    post(ota, 7, "2")
    post(eva, -30, "3")
    ledger.post(eva, "settle", ("settlement", "1"), "EUR", {"accrued": -70, "payable": 70}, 6)
    assert ledger.balances(eva, "EUR") == dict.fromkeys(ledger.ACCOUNTS, 0) | {"payable": 70, "expense": -70}
    assert ledger.balance(eva, "EUR") == ledger.balance(eva, "EUR", "accrued", at=6) == 70
    assert (ledger.balance(ota, "EUR"), ledger.balance(ota, "CZK")) == (7, 0)
    assert [line.posting.amount_minor for line in ledger.statement(eva)] == [100, -30, 70]
    assert list(ledger.verify()) == []


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("commission", {"accrued": 1, "expense": -2}),
        ("commission", {"accrued": 1, "wallet": -1}),
        ("commission", {"accrued": 1.0, "expense": -1.0}),
        ("gift", {"accrued": 1, "expense": -1}),
    ],
)
def test_what_does_not_balance_is_not_posted(conf: Config, kind: str, entries: Any) -> None:
    with pytest.raises(ValueError, match=r"sum to|account|whole|kind"):
        ledger.post(dealers.add("eva"), kind, ("payment", "1"), "EUR", entries, 5)
    assert not Posting.select().exists()


@pytest.mark.parametrize("table", ["posting", "entry", "scheme_version"])
def test_nothing_of_the_ledger_is_changed_or_removed(conf: Config, table: str) -> None:
    Shop().dealer()
    post(dealers.get("eva"), 100, "1")
    truncate = () if db.is_sqlite(ledger_db) else (f"TRUNCATE {table} CASCADE",)
    for change in (f"UPDATE {table} SET id = id + 1", f"DELETE FROM {table}", *truncate):
        with pytest.raises(peewee.IntegrityError, match=r"never|nothing"):
            ledger_db.execute_sql(change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE posting SET amount_minor = 101, rate = 'more' WHERE n = 2", "posting 2: it isn't what was written"),
        ("UPDATE posting SET note = 'so' WHERE n = 1", "posting 1: it isn't what was written"),
        ("UPDATE entry SET amount_minor = amount_minor * 2 WHERE posting_id = 1", "posting 1: it isn't"),
        ("UPDATE entry SET balance_minor = 1 WHERE posting_id = 3 AND account = 'accrued'", "stands there as 1"),
        ("DELETE FROM entry WHERE posting_id = 2; DELETE FROM posting WHERE n = 2", "posting 2 isn't there"),
    ],
)
def test_who_gets_past_the_triggers_is_found_out(conf: Config, change: str, said: str) -> None:
    eva = dealers.add("eva")
    for n in range(3):
        post(eva, 100, str(n))
    if db.is_sqlite(ledger_db):
        for name in ("posting_stays", "posting_is_kept", "entry_stays", "entry_is_kept"):
            ledger_db.execute_sql(f"DROP TRIGGER {name}")
    else:
        ledger_db.execute_sql("SET session_replication_role = replica")
    for statement in change.split("; "):
        ledger_db.execute_sql(statement)
    assert any(said in problem for problem in ledger.verify(eva))


def test_a_record_can_be_checked_without_the_ledger(conf: Config) -> None:
    eva = dealers.add("eva")
    head = ledger.START
    for n in range(2):
        post(eva, 100, f"{n} ěš")
    for line in ledger.statement(eva):
        text = json.loads(json.dumps(ledger.record(line.posting, line.entries)))
        head = ledger.digest(head, text)
        assert line.posting.hash == head
    assert ledger.head(eva) == head


def test_dealers_are_checked_as_they_are_entered(conf: Config) -> None:
    eva = dealers.add("eva", iban="cz65 0800 0000 1920 0014 5399", country="cz", vat_rate="21 %", login="Eva")
    assert (eva.iban, eva.country, eva.vat_rate, eva.login) == ("CZ6508000000192000145399", "CZ", "21", "eva")
    for wrong in ({"iban": "CZ6508000000192000145398"}, {"tax": "none"}, {"vat_rate": "-1"}, {"email": "a b"}):
        with pytest.raises(UserError):
            dealers.change(eva, wrong)
    with pytest.raises(UserError, match="before it begins"):
        dealers.change(dealers.get("eva"), {"contract_from": 10, "contract_until": 10})
    with pytest.raises(Conflict, match="log-in"):
        dealers.add("ota", login="eva")


def test_an_ended_dealer_does_not_log_in(conf: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dealers, "_hasher", argon2.PasswordHasher(time_cost=1, memory_cost=64))
    dealers._nobodys.cache_clear()
    eva = dealers.add("eva", login="eva")
    assert dealers.verify("eva", "") is None
    password = dealers.set_password(eva)
    assert dealers.verify("EVA", password) == eva
    assert dealers.verify("eva", password + "x") is None
    assert dealers.verify("ota", password) is None
    for state, found in (("suspended", eva), ("ended", None)):
        dealers.change(eva, {"state": state})
        assert dealers.verify("eva", password) == found


def test_a_customer_is_one_dealers_at_a_time(conf: Config) -> None:
    eva, ota = dealers.add("eva"), dealers.add("ota")
    attribution.attribute(eva, "account", 1, "bob", 100)
    for since, until in ((0, None), (50, 101), (200, 300)):
        with pytest.raises(Conflict, match="dealer eva's"):
            attribution.attribute(ota, "account", 1, "bob", since, until)
    attribution.attribute(ota, "account", 1, "bob", 50, 100)
    attribution.hand_over("account", 1, "bob", ota, 200)
    found = [attribution.of("account", 1, at) for at in (49, 50, 99, 100, 199, 200)]
    assert found == [None, ota, ota, eva, eva, ota]
    assert attribution.of("batch", 1, 100) is None


def test_a_ledger_that_is_lost_is_not_begun_anew(tmp_path: Path) -> None:
    conf = configuration(tmp_path)
    with opened(conf):
        dealers.add("eva")
    for file in opening.path(conf).parent.glob("ledger.db*"):
        file.unlink()
    with pytest.raises(UserError, match="is lost: restore a backup"):
        opening.bind(conf)
    (opening.path(conf).parent / opening.MADE).unlink()
    opening.bind(conf)
