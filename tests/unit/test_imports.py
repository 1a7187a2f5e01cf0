"""Taking over from User Manager and daloRADIUS: what the files mean, and all of it or nothing."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config
from appliance.accounts import imports, imports_attributes, imports_sql, imports_user_manager, unfinished
from appliance.accounts.database import open_core
from appliance.accounts.imports_daloradius import TABLES
from appliance.accounts.models import Account, AccountUsage, Plan, VoucherBatch
from appliance.crypto import load_box
from appliance.errors import UserError
from tests.unit.conftest import Gatehouse

DATA = Path(__file__).parents[1] / "data" / "imports"
EXPORT, CSV, DUMP = DATA / "user-manager.rsc", DATA / "user-manager.csv", DATA / "daloradius.sql"
PRAGUE = ZoneInfo("Europe/Prague")
one_engine = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)


def preview(gatehouse: Gatehouse, *words: object) -> dict[str, Any]:
    status, out, error = gatehouse("import", *map(str, words), "--json")
    assert (status, error) == (0, "")
    data: dict[str, Any] = json.loads(out)
    data["accounts"] = {account.pop("name"): account for account in data["accounts"]}
    data["plans"] = {plan.pop("name"): plan for plan in data["plans"]}
    return data


def names(groups: dict[str, list[str]]) -> dict[str, str]:
    """Why, by name."""
    return {name: why for why, all_names in groups.items() for name in all_names}


# User Manager


@one_engine
def test_user_managers_profiles_are_plans(gatehouse: Gatehouse) -> None:
    data = preview(gatehouse, "user-manager", EXPORT)
    assert data["plans"]["4-Jam"] == {
        "rate_up_bps": 3_000_000,
        "rate_down_bps": 4_000_000,
        "burst": "5M/6M 2M 5 1 1M",
        "windows": "",
        "validity_s": 31 * 86_400,
        "simultaneous": 1,
    }
    night = data["plans"]["Soiree"]
    assert (night["windows"], night["quota_bytes"], night["quota_period"]) == (
        "Fr-Sa 23:00-07:00",
        20_000_000_000,
        "total",
    )
    assert night["simultaneous"] == 3
    family = data["plans"]["Family"]
    assert (family["quota_bytes"], family["quota_period"], family["simultaneous"]) == (2_000_000_000, "month", None)
    assert "validity_s" not in family
    assert data["plans"]["Hours"]["windows"] == "daily 08:00-22:00 @1M/512k, daily 22:00-08:00 @20M/10M"
    why = names(data["changed"])
    assert "count together" in why["Soiree"] or "begins with the first login" in why["Soiree"]
    assert any("limits time online" in reason for reason in data["changed"])


@one_engine
def test_user_managers_users_are_accounts(gatehouse: Gatehouse, toml: Path) -> None:
    data = preview(gatehouse, "user-manager", EXPORT)
    accounts = data["accounts"]
    assert set(accounts) == {"anna", "bob", "carl", "nor8278", "NOR9999", "dora", "eve", "fay"}
    assert accounts["anna"]["overrides"] == {"simultaneous": 2}
    assert (accounts["bob"]["values"]["enabled"], accounts["bob"]["overrides"]) == (False, {})
    assert accounts["eve"]["values"]["address"] == "198.51.100.9"
    assert accounts["eve"]["overrides"] == {"vlan": 34, "attributes": "Reply-Message = hi"}
    assert accounts["fay"]["overrides"] == {"rate_up_bps": 1_000_000, "rate_down_bps": 2_000_000, "burst": ""}
    assert (accounts["nor8278"]["batch"], accounts["NOR9999"]["batch"]) == ("4-Jam-imported", None)
    left = names(data["left_out"])
    assert left["hidden"] == "has no password in the file: export with show-sensitive"
    assert "one-time passwords" in left["otp"]
    assert left["nobody"] == "has no profile: say --plan for those"
    changed = names(data["changed"])
    assert changed["carl"].startswith("has several profiles")
    assert changed["dora"].startswith("caller-id")
    assert changed["NOR9999"].startswith("its code has capitals")
    assert gatehouse("import", "user-manager", str(EXPORT), "--yes")[0] == 0
    loaded = config.load(toml)
    with open_core(loaded):
        assert load_box(loaded.paths.state).open(Account.get(name="anna").password) == 'quo"te \\ $5 č'
        assert Account.get(name="bob").enabled in (False, 0)
        assert json.loads(Account.get(name="eve").overrides)["vlan"] == 34


@one_engine
def test_passwords_that_the_export_hides_come_from_a_csv(gatehouse: Gatehouse) -> None:
    gatehouse("plan", "add", "rest")
    data = preview(gatehouse, "user-manager", CSV, EXPORT, "--plan", "rest")
    assert data["accounts"]["hidden"]["plan"] == "Plain"
    assert data["accounts"]["new"]["plan"] == "rest"
    assert data["accounts"]["nobody"]["plan"] == "rest"
    assert "has no password in the file" in data["left_out"]
    assert "password" not in data["accounts"]["new"]
    assert "secret" not in json.dumps(data)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("4w3d", 2_678_400), ("1d12:00:00", 129_600), ("00:30:00", 1800), ("5h30m", 19_800), ("0s", 0), ("23h", 82_800)],
)
def test_times_of_routeros(text: str, wanted: int) -> None:
    assert imports_user_manager.seconds(text) == wanted


# daloRADIUS


@one_engine
def test_daloradius_groups_are_plans(gatehouse: Gatehouse) -> None:
    data = preview(gatehouse, "daloradius", DUMP)
    assert data["plans"]["Gold"] == {
        "simultaneous": 2,
        "validity_s": 604_800,
        "windows": "Mo-Fr 08:00-20:00, Sa 09:00-12:00",
        "rate_up_bps": 5_000_000,
        "rate_down_bps": 20_000_000,
        "burst": "6M/30M",
        "quota_bytes": 10**10,
        "quota_period": "total",
        "idle_timeout_s": 600,
    }
    assert data["plans"]["Stribrna-karta"] == {
        "rate_down_bps": 2_000_000,
        "rate_up_bps": 512_000,
        "session_timeout_s": 3600,
    }
    assert names(data["changed"])["Gold"] == "Max-All-Session can't be taken over"


@one_engine
def test_daloradius_users_are_accounts_with_their_usage(gatehouse: Gatehouse, toml: Path) -> None:
    data = preview(gatehouse, "daloradius", DUMP)
    accounts = data["accounts"]
    assert set(accounts) == {"anna", "bo'b", "blocked", "rejected", "ježe", "kbx4mn", "kbx4mp", "user7"} | {
        "aa-bb-cc-00-11-22"
    }
    assert (accounts["anna"]["plan"], accounts["anna"]["overrides"]) == ("Gold", {"simultaneous": 3})
    assert accounts["blocked"]["values"]["enabled"] is accounts["rejected"]["values"]["enabled"] is False
    assert (accounts["kbx4mn"]["batch"], accounts["user7"]["batch"]) == ("summer sale/Gold", None)
    assert (accounts["anna"]["values"]["address"], accounts["user7"]["values"]["address"]) == ("198.51.100.9", None)
    left = names(data["left_out"])
    assert left["hashed"] == "its password is hashed (Crypt-Password): CHAP needs the password itself"
    assert "NT-Password" in left["nt"]
    assert left["accept"] == "has no password"
    assert left["free"] == "is in no group: say --plan for those"
    assert left["bob"].startswith("its password can't be one here")
    assert gatehouse("import", "daloradius", str(DUMP), "--yes")[0] == 0
    loaded = config.load(toml)
    with open_core(loaded):
        anna = Account.get(name="anna")
        assert load_box(loaded.paths.state).open(anna.password) == 'it\'s; "fine" (really), ok\\'
        assert load_box(loaded.paths.state).open(Account.get(name="ježe").password) == "heslo č"
        assert anna.address == "198.51.100.9"
        assert anna.first_login_at == 1_769_842_800
        assert anna.valid_until == 1_962_955_113
        used = [
            (row.day, row.input_octets, row.output_octets) for row in AccountUsage.select().order_by(AccountUsage.day)
        ]
        assert used == [(20260131, 101, 5_000_002_000), (20260202, 0, 0)]
        batch = VoucherBatch.get()
        assert (batch.name, batch.price_minor, batch.currency) == ("summer-sale", 550, "EUR")
        assert {row.name for row in Account.select().where(Account.batch == batch)} == {"kbx4mn", "kbx4mp"}
        assert Account.get(name="anna").batch is None


@one_engine
def test_an_sqlite_file_says_the_same_as_the_dump(gatehouse: Gatehouse, tmp_path: Path) -> None:
    path = tmp_path / "radius.db"
    tables: dict[str, list[imports_sql.Row]] = {}
    for table, row in imports_sql.rows(DUMP, TABLES):
        tables.setdefault(table, []).append(row)
    with sqlite3.connect(path) as database:
        for table, rows in tables.items():
            database.execute(f"CREATE TABLE {table} ({', '.join(rows[0])})")
            for row in rows:
                database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in row)})", list(row.values()))
    assert preview(gatehouse, "daloradius", path) == preview(gatehouse, "daloradius", DUMP)


# All or nothing


def test_the_preview_changes_nothing_and_doing_it_twice_neither(gatehouse: Gatehouse, toml: Path) -> None:
    status, out, _ = gatehouse("import", "daloradius", str(DUMP))
    assert status == 0
    assert out.endswith("nothing was changed; with --yes it is done")
    assert "7 accounts, 2 vouchers in 1 batches; usage of 1" in out
    assert "1 × its password is hashed (Crypt-Password): CHAP needs the password itself: hashed" in out
    with open_core(config.load(toml)):
        assert Account.select().count() == Plan.select().count() == 0
    for _ in range(2):
        assert gatehouse("import", "daloradius", str(DUMP), "--yes")[0] == 0
        with open_core(config.load(toml)):
            assert (Account.select().count(), Plan.select().count(), VoucherBatch.select().count()) == (9, 2, 1)
            assert AccountUsage.select().count() == 2
    assert "9 × an account of this name is here already" in gatehouse("import", "daloradius", str(DUMP))[1]


def test_what_is_here_already_stays_as_it_is(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse("plan", "add", "Gold", "--down", "1M")
    gatehouse("account", "add", "bo'b", "--plan", "Gold", "--address", "198.51.100.9")
    gatehouse("voucher", "add", "summer-sale", "--plan", "Gold", "--count", "1")
    assert gatehouse("import", "daloradius", str(DUMP), "--yes")[0] == 0
    with open_core(config.load(toml)):
        assert Plan.get(name="Gold").rate_down_bps == 1_000_000
        assert Account.get(name="anna").plan.name == "Gold"
        assert Account.get(name="anna").address is None
        assert {batch.name for batch in VoucherBatch.select()} == {"summer-sale", "summer-sale-2"}


def test_a_failure_half_way_leaves_nothing(gatehouse: Gatehouse, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> None:
        raise UserError("the disk is full")

    for step in ("_write_piece", "_finish"):
        with monkeypatch.context() as patch:
            patch.setattr(imports, step, fail)
            assert gatehouse("import", "daloradius", str(DUMP), "--yes")[2] == "gatehouse: the disk is full"
        with open_core(config.load(toml)):
            counts = [model.select().count() for model in (Account, Plan, VoucherBatch, AccountUsage)]
            assert counts == [0, 0, 0, 0], step


def test_killed_after_the_last_word_it_is_completed_by_whoever_comes_next(
    gatehouse: Gatehouse, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(unfinished, "settle", lambda work: None)
        gatehouse("import", "daloradius", str(DUMP), "--yes")
    assert "try again in a minute" in gatehouse("import", "daloradius", str(DUMP), "--yes")[2]
    with open_core(config.load(toml)):
        assert not Account.select().where(Account.enabled).exists()  # until the very end
        assert {batch.name[0] for batch in VoucherBatch.select()} == {"+", "s"}
        VoucherBatch.update(created_at=int(time.time()) - 61).execute()
        unfinished.sweep()
        assert [batch.name for batch in VoucherBatch.select()] == ["summer-sale"]
        blocked = [account.name for account in Account.select().where(~Account.enabled).order_by(Account.name)]
        assert blocked == ["blocked", "rejected"]
        assert Account.select().where(Account.changed_at > 0).count() == 9
    assert len(json.loads(gatehouse("voucher", "list", "--json")[1])) == 1


@pytest.mark.system  # soak
def test_killed_it_can_be_repeated_without_doubles(gatehouse: Gatehouse, toml: Path, tmp_path: Path) -> None:
    count = 30_000
    big = tmp_path / "big.sql"
    users = ",".join(f"({n},'user{n}','Cleartext-Password',':=','secret{n}')" for n in range(count))
    groups = ",".join(f"('user{n}','Gold',1)" for n in range(count))
    schema = DUMP.read_text().split("INSERT INTO `radcheck`")[0].split("CREATE TABLE `radcheck`")[1]
    big.write_text(
        f"CREATE TABLE `radcheck`{schema}\nINSERT INTO `radcheck` VALUES {users};\n"
        f"INSERT INTO `radusergroup` (`username`, `groupname`, `priority`) VALUES {groups};\n"
    )
    words = [sys.executable, "-m", "appliance.cli", "--config", str(toml), "import", "daloradius", str(big), "--yes"]
    maker = subprocess.Popen(words, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    with open_core(config.load(toml)):
        while Account.select().count() < 300:
            assert maker.poll() is None
            time.sleep(0.01)
        os.kill(maker.pid, signal.SIGKILL)
        maker.wait()
        assert not Plan.select().where(Plan.name == "Gold").exists()
        assert not Account.select().where(Account.enabled).exists()
    early = gatehouse("import", "daloradius", str(big), "--yes")
    assert early[2] == (
        "gatehouse: another import of these accounts is under way, or was killed: try again in a minute"
    )
    with open_core(config.load(toml)):
        VoucherBatch.update(created_at=int(time.time()) - 61).execute()
    assert gatehouse("import", "daloradius", str(big), "--yes")[0] == 0
    with open_core(config.load(toml)):
        assert Account.select().where(Account.enabled & Account.batch.is_null()).count() == count
        assert [plan.name for plan in Plan.select()] == ["Gold"]
        assert VoucherBatch.select().count() == 0


@one_engine
def test_limits_that_do_not_go_together_are_mended(gatehouse: Gatehouse, toml: Path, tmp_path: Path) -> None:
    """A login must never stumble over them."""
    gatehouse("plan", "add", "Gold", "--down", "20M", "--up", "5M", "--burst", "30M/6M")
    path = tmp_path / "more.sql"
    more = "INSERT INTO `radreply` VALUES (9,'rejected','WISPr-Bandwidth-Max-Down',':=','50000000');\n"
    path.write_text(DUMP.read_text() + more)
    data = preview(gatehouse, "daloradius", path)
    assert data["accounts"]["rejected"]["overrides"] == {"rate_down_bps": 50_000_000, "burst": ""}
    assert "doesn't fit the plan's burst" in names(data["changed"])["rejected"]
    assert gatehouse("import", "daloradius", str(path), "--yes")[0] == 0
    assert gatehouse("plan", "set", "Gold", "--validity", "1d")[0] == 0


# Strange files


@one_engine
@pytest.mark.parametrize(
    ("source", "text", "said"),
    [
        ("user-manager", b"hello\n", "there is no /user-manager in it"),
        ("user-manager", b"/tool user-manager user\nadd username=x password=y\n", "export of RouterOS 6"),
        ("daloradius", b"hello\n", "there is no radcheck table"),
        ("daloradius", b"SQLite format 3\0" + bytes(100), "no whole SQLite database"),
        ("daloradius", b"INSERT INTO radcheck VALUES (1,'x','y');\n", "3 values for 0 columns"),
    ],
)
def test_another_file_is_one_line(gatehouse: Gatehouse, tmp_path: Path, source: str, text: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(text)
    status, out, error = gatehouse("import", source, str(path))
    assert (status, out) == (1, "")
    assert said in error
    assert str(path) in error
    assert "\n" not in error
    assert "No such file" in gatehouse("import", source, str(tmp_path / "none"))[2]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader_of_exports(text: bytes) -> None:
    start = b"/user-manager user\nadd name=x\n/user-manager limitation\nadd "
    with contextlib.suppress(UserError):
        imports_user_manager.read(start + text, {}, "p", PRAGUE, imports.Found())
    imports_user_manager.read_csv(text)


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1, max_size=5), st.booleans())
def test_any_text_comes_out_of_a_dump_as_it_was(values: list[tuple[str, str]], doubled: bool) -> None:
    def quoted(text: str) -> str:
        raw = text.encode("utf-8", "replace").decode()
        if doubled:
            return "'" + raw.replace("\\", "\\\\").replace("'", "''") + "'"
        escapes = {"\0": "\\0", "\n": "\\n", "\r": "\\r", "\x1a": "\\Z", "\\": "\\\\", "'": "\\'", '"': '\\"'}
        return "'" + "".join(escapes.get(sign, sign) for sign in raw) + "'"

    rows = ",".join(f"({quoted(a)},{quoted(b)},NULL,-1.5)" for a, b in values)
    path = Path(f"/tmp/gatehouse-dump-{os.getpid()}.sql")
    path.write_bytes(f"INSERT INTO `t` (`a`,`b`,`c`,`d`) VALUES {rows};\n".encode())
    try:
        got = [(row["a"], row["b"], row["c"], row["d"]) for _, row in imports_sql.rows(path, {"t"})]
    finally:
        path.unlink()
    assert got == [(*(t.encode("utf-8", "replace").decode() for t in pair), None, "-1.5") for pair in values]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Wk0800-2000,Sa", "Mo-Fr 08:00-20:00, Sa 00:00-24:00"),
        ("Any", ""),
        ("Al0000-2359", ""),
        ("MoTuFr0900-1700", "Mo-Tu+Fr 09:00-17:00"),
        ("Sa-Mo2305-1655|We", "Sa-Mo 23:05-16:55, We 00:00-24:00"),
    ],
)
def test_login_times(text: str, wanted: str) -> None:
    assert imports_attributes.login_time(text) == wanted


@pytest.mark.parametrize("text", ["", "Xx0800-1000", "Mo0800", "Mo2500-2600", "nonsense"])
def test_what_is_no_login_time(text: str) -> None:
    with pytest.raises((ValueError, UserError)):
        imports_attributes.login_time(text)


@pytest.mark.parametrize(
    "text", ["22 May 2032", "May 22 2032", "May 22, 2032", "2032-05-22 00:00:00", "22 May 2032 00:00"]
)
def test_dates(text: str) -> None:
    assert imports_attributes.parse_date(text, PRAGUE) == 1_968_789_600


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_attribute_breaks_the_reader(attribute: str, value: str) -> None:
    terms = imports_attributes.Terms()
    imports_attributes.take(terms, attribute, value, PRAGUE)
    for known in (*imports_attributes._PLAN, *imports_attributes._QUOTA, "expiration", "framed-ip-address"):
        imports_attributes.take(terms, known, value, PRAGUE)
