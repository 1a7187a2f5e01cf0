"""What is kept of people: for how long, handed over and erased on request."""

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from appliance import config, db
from appliance.accounts import retention, sales
from appliance.accounts.database import open_core
from appliance.accounts.models import (
    Account,
    AccountUsage,
    Charge,
    Device,
    LiveChange,
    LoginSlot,
    Payment,
    Plan,
    Pool,
    PoolAddress,
    Session,
    core_db,
)
from appliance.config import Privacy
from tests.unit.conftest import Gatehouse

DAY = 86_400
NOW = 1_800_000_000


def session(number: int, **values: Any) -> Session:
    given = {"account": "anna", "nas": "attic", "acct_session_id": f"s{number}", "mac": "aa:bb:cc:00:11:22"}
    times = {"started_at": NOW - 3600, "updated_at": NOW, "ended_at": NOW}
    row: Session = Session.create(unique_id=f"u{number}", **{**given, **times, **values})
    return row


def test_sessions_are_deleted_when_they_ended_long_enough_ago(core: str) -> None:
    old = NOW - 180 * DAY
    session(1, started_at=old - 10 * DAY, ended_at=old - 1)
    session(2, started_at=old - 10 * DAY, ended_at=old)
    session(3, started_at=old - 10 * DAY, ended_at=None)
    session(4)
    LiveChange.create(session=1, kind="coa", reason="x", created_at=1, next_try_at=1)
    assert retention.run(Privacy(keep_sessions_days=180), NOW) == 1
    assert [row.acct_session_id for row in Session.select().order_by(Session.id)] == ["s2", "s3", "s4"]
    assert LiveChange.select().count() == 0
    assert retention.run(Privacy(keep_sessions_days=180), NOW) == 0


def test_more_sessions_than_fit_into_one_piece_or_round(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_ROUND", 150)
    rows = [
        {
            "unique_id": f"u{n}",
            "account": "x",
            "nas": "n",
            "acct_session_id": "",
            "mac": "",
            "started_at": n,
            "updated_at": n,
            "ended_at": n,
        }
        for n in range(700)
    ]
    Session.insert_many(rows).execute()
    assert retention.delete_sessions(600, 200) == 200
    assert retention.delete_sessions(600) == 400
    assert Session.select().count() == 100


def test_a_pools_addresses_forget_whose_they_were(core: str) -> None:
    pool, plan = Pool.create(name="p"), Plan.create(name="p")
    account = Account.create(name="anna", plan=plan, password=b"", created_at=0)
    for ip, until in (("198.51.100.1", NOW - 181 * DAY), ("198.51.100.2", NOW - DAY)):
        PoolAddress.create(ip=ip, pool=pool, account=account, mac="aa:bb:cc:00:11:22", held_until=until)
    retention.run(Privacy(), NOW)
    kept = [(row.ip, row.mac) for row in PoolAddress.select().order_by(PoolAddress.ip)]
    assert kept == [("198.51.100.1", None), ("198.51.100.2", "aa:bb:cc:00:11:22")]


def test_removing_an_account_reads_only_its_own_sessions(core: str) -> None:
    """Else each removal would read all sessions there are, inside of a write, for the foreign key."""
    if core.startswith("sqlite"):
        steps = core_db.execute_sql("EXPLAIN QUERY PLAN SELECT 1 FROM session WHERE account_id = 7").fetchall()
        assert "USING COVERING INDEX session_account" in str(steps)
    else:
        assert "session_account" in [index.name for index in core_db.get_indexes("session")]


@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
@pytest.mark.system  # soak
def test_old_sessions_are_deleted_while_accounting_writes(toml: Path) -> None:
    loaded = config.load(toml)
    path = db.sqlite_path(loaded.database_url)
    assert path is not None
    with open_core(loaded):
        rows = ((f"u{n}", n, n, n) for n in range(50_000))
        core_db.obj.connection().executemany(
            "INSERT INTO session (unique_id, account, nas, acct_session_id, mac, started_at, updated_at, ended_at)"
            " VALUES (?, 'x', 'n', '', '', ?, ?, ?)",
            rows,
        )
    writes = 0

    def clean() -> None:
        with open_core(loaded):
            retention.delete_sessions(10**6)

    cleaner = threading.Thread(target=clean)
    with sqlite3.connect(path, timeout=0.2, isolation_level=None) as accounting:
        cleaner.start()
        while cleaner.is_alive():
            accounting.execute("BEGIN IMMEDIATE")  # raises when the database stays locked
            accounting.execute(
                "INSERT INTO job_lease VALUES ('x', 'y', 1) ON CONFLICT (name) DO UPDATE SET held_until = 2"
            )
            accounting.execute("COMMIT")
            writes += 1
            time.sleep(0.002)
        left = accounting.execute("SELECT count(*) FROM session").fetchone()[0]
    assert left == 0
    assert writes > 10


# One person


@pytest.fixture
def anna(gatehouse: Gatehouse, toml: Path) -> None:
    """With something in every table, beside somebody else."""
    gatehouse("plan", "add", "home", "--price", "9.90", "--currency", "EUR")
    gatehouse("pool", "add", "public", "198.51.100.16-198.51.100.17")
    for name in ("anna", "bob"):
        gatehouse("account", "add", name, "--plan", "home", "--valid-until", "2031-12-31")
    with open_core(config.load(toml)):
        for number, name in ((1, "anna"), (2, "bob")):
            account = Account.get(name=name)
            mac = f"aa:bb:cc:00:00:0{number}"
            Device.create(mac=mac, account=account, added_at=NOW, used_at=NOW)
            LoginSlot.create(account=account, mac=mac, held_until=NOW)
            AccountUsage.create(account=account, day=20270115, input_octets=5, output_octets=7)
            PoolAddress.update(account=account, mac=mac, held_until=NOW).where(
                PoolAddress.ip == f"198.51.100.1{5 + number}"
            ).execute()
            addresses = {"framed_ip": f"198.51.100.1{5 + number}", "host_ip": f"10.0.0.{number}"}
            row = session(number, account=name, account_ref=account, mac=mac, output_octets=9, **addresses)
            LiveChange.create(session=row, kind="coa", reason="x", created_at=1, next_try_at=1)
            sales.pay(Charge.get(account=name), 500, NOW, "bank", f"from {name}")
            session(10 + number, account=mac, account_ref=account, mac=mac, output_octets=9, **addresses)
        session(21, account="anna", account_ref=None)  # from before her account was made anew


def everything() -> str:
    """All rows of all tables as text."""
    models: tuple[Any, ...] = (Account, AccountUsage, Charge, Device, LoginSlot, Payment, PoolAddress, Session)
    tables = [model.select().tuples() for model in models]
    rows = [[bytes(v) if isinstance(v, memoryview) else v for v in row] for table in tables for row in table]
    return "\n".join(sorted(map(str, rows)))


def test_without_yes_it_only_says_what_there_is(gatehouse: Gatehouse, toml: Path, anna: None) -> None:
    with open_core(config.load(toml)):
        before = everything()
    status, out, _ = gatehouse("account", "erase", "anna")
    assert status == 0
    lines = {" ".join(line.split()) for line in out.splitlines()}
    assert {
        "account 1 goes",
        "devices remembered 1 go",
        "days of usage 1 go",
        "addresses from pools 1 become free",
        "logins under way 1 go",
        "charges and their payments 1 stay without name and references",
        "sessions 3 stay without name, MAC and addresses",
        "nothing was changed; with --yes it is done; logs and backups have copies of their own",
    } < lines
    with open_core(config.load(toml)):
        assert everything() == before


@pytest.mark.parametrize(("how", "left"), [("anonymise", 5), ("delete", 2), ("keep", 5)])
def test_erased(gatehouse: Gatehouse, toml: Path, anna: None, how: str, left: int) -> None:
    status, out, _ = gatehouse("account", "erase", "anna", "--sessions", how, "--yes")
    assert status == 0
    assert "anna is erased" in out
    with open_core(config.load(toml)):
        text = everything()
        for trace in ("anna", "aa:bb:cc:00:00:01", "aa:bb:cc:00:11:22", "10.0.0.1", "'u1'", "'s1'", "'u21'"):
            assert (trace in text) == (how == "keep"), trace
        assert [account.name for account in Account.select()] == ["bob"]
        assert Session.select().count() == left
        assert sum(row.output_octets for row in Session.select()) == (18 if how == "delete" else 36)
        bob = Account.get(name="bob")
        for model in (AccountUsage, Device, LoginSlot):
            assert [row.account for row in model.select()] == [bob]
        assert [(row.account, row.mac) for row in PoolAddress.select().order_by(PoolAddress.ip)] == [
            (None, None),
            (bob, "aa:bb:cc:00:00:02"),
        ]
        assert Session.select().where(Session.account_ref == bob).count() == 2
        assert [row.reference for row in Payment.select().order_by(Payment.id)] == ["", "from bob"]
    again = gatehouse("account", "erase", "anna", "--yes")
    assert (again[0] == 0) == (how == "keep")  # her sessions can still be erased without an account


def test_who_is_online_has_to_go_first(gatehouse: Gatehouse, toml: Path, anna: None) -> None:
    with open_core(config.load(toml)):
        now = int(time.time())
        session(30, account_ref=Account.get(name="anna"), started_at=now, updated_at=now, ended_at=None)
    status, _, error = gatehouse("account", "erase", "anna", "--yes")
    assert (status, error) == (1, "gatehouse: anna is online: first `gatehouse session remove anna`")
    with open_core(config.load(toml)):
        assert Session.select().where(Session.account == "anna").count() == 3
        Session.update(updated_at=now - 901).where(Session.ended_at.is_null()).execute()  # nobody reports it
    assert gatehouse("account", "erase", "anna", "--yes")[0] == 0


def test_nobody_is_one_line(gatehouse: Gatehouse) -> None:
    for verb in ("erase", "export"):
        assert gatehouse("account", verb, "carl")[2].startswith("gatehouse: there is no account 'carl', and no session")


def test_all_data_of_a_person_as_json(gatehouse: Gatehouse, anna: None, tmp_path: Path) -> None:
    data = json.loads(gatehouse("account", "export", "anna")[1])
    assert data["account"]["valid_until"] == "2031-12-31T00:00:00+01:00"
    assert data["account"]["plan"] == "home"
    assert "password" not in data["account"]
    assert [row["mac"] for row in data["devices"]] == ["aa:bb:cc:00:00:01"]
    assert data["usage"] == [{"day": "2027-01-15", "octets_from": 5, "octets_to": 7}]
    assert [row["address"] for row in data["addresses"]] == ["198.51.100.16"]
    assert [row["mac"] for row in data["logins_under_way"]] == ["aa:bb:cc:00:00:01"]
    assert sorted(row["session_id"] for row in data["sessions"]) == ["s1", "s11", "s21"]
    assert [row["payments"][0]["reference"] for row in data["charges"]] == ["from anna"]
    assert "bob" not in json.dumps(data)
    gatehouse("account", "export", "anna", "--output", str(tmp_path / "a.json"))
    assert json.loads((tmp_path / "a.json").read_text()) == data
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
