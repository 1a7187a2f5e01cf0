"""Dealers on a running appliance: the keeper takes sales over under its own user, also when it is killed, and a backup
brings the ledger back as it was."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.lab.appliance import Appliance
from tests.lab.namespace import CommandFailed, wait_until
from tests.lab.world import World


@pytest.fixture(scope="module")
def appliance(world: World) -> Iterator[Appliance]:
    made = world.appliance()
    made.cli("enable", "dealer")
    made.cli("plan", "add", "surf", "--down", "20M", "--price", "20.00", "--currency", "EUR")
    made.cli("dealer", "scheme", "add", "ten", "--percent", "10", "--from", "2026-01-01")
    made.cli("dealer", "add", "kiosk", "--login", "kiosk")
    made.cli("dealer", "scheme", "assign", "kiosk", "ten", "--from", "2026-01-01")
    yield made


def balance(appliance: Appliance) -> Any:
    (row,) = appliance.json("dealer", "list")
    return row["accrued"]


def sell(appliance: Appliance, name: str) -> None:
    appliance.cli("account", "add", name, "--plan", "surf")
    appliance.cli("dealer", "attribute", "kiosk", "account", name, "--from", "2026-01-01")
    (sale,) = appliance.json("sales", "list", "--account", name)
    appliance.cli("sales", "pay", str(sale["number"]))


def test_a_sale_is_earned_on_by_itself_and_once(appliance: Appliance) -> None:
    sell(appliance, "anna")
    wait_until(lambda: balance(appliance) == "2.00", 20, "the commission")
    state = appliance.config().paths.state / "dealers"
    assert {path.group() for path in state.iterdir()} == {"gatehouse-dealers"}
    appliance.kill("dealers")
    sell(appliance, "bob")
    wait_until(lambda: balance(appliance) == "4.00", 20, "the next one, after kill -9")
    assert "dealers are whole" in appliance.cli("dealer", "verify")
    assert "1 active" in appliance.cli("status")


def test_a_backup_has_the_ledger_and_one_that_was_changed_is_refused(appliance: Appliance) -> None:
    key, file = appliance.directory / "key", appliance.directory / "back.age"
    public = appliance.cli("backup-key", str(key)).strip()
    appliance.cli("backup", str(file), "--recipient", public)
    ledger: Path = appliance.config().paths.state / "dealers" / "ledger.db"
    sell(appliance, "carl")
    wait_until(lambda: balance(appliance) == "6.00", 20, "a sale after the backup")
    appliance.cli("restore", str(file), "--identity", str(key), "--yes")
    assert balance(appliance) == "4.00"
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("DROP TRIGGER posting_stays")
        database.execute("UPDATE posting SET amount_minor = amount_minor + 1 WHERE n = 1")
        database.commit()
    appliance.cli("backup", str(file), "--recipient", public)
    with pytest.raises(CommandFailed, match=r"database/ledger\.db can't be used: dealer kiosk, posting 1"):
        appliance.cli("restore", str(file), "--identity", str(key), "--yes")
