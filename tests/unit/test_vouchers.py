"""Vouchers: made whole or not at all, never in the way of a login, and printed so that a phone reads them."""

import csv
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config, db
from appliance.accounts import unfinished, vouchers
from appliance.accounts.database import open_core
from appliance.accounts.models import Account, AccountUsage, Plan, VoucherBatch
from appliance.accounts.wording import plan as plan_in_words
from appliance.crypto import load_box
from appliance.errors import UserError
from tests.unit.conftest import Gatehouse

PLAN = ("plan", "add", "week", "--down", "20M", "--up", "5M", "--quota", "10G", "--validity", "7d")
one_engine = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
SITE = "Kavárna U Žižky · Кав'ярня Їжак"


def listed(gatehouse: Gatehouse, *batch: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(gatehouse("voucher", "list", *batch, "--json")[1])
    return rows


def test_a_voucher_is_an_account_whose_name_and_password_are_its_code(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse(*PLAN)
    words = ("--prefix", "vip", "--price", "5.00", "--currency", "EUR", "--unused-until", "2031-12-31")
    assert gatehouse("voucher", "add", "summer", "--plan", "week", "--count", "25", *words)[0] == 0
    codes = [str(row["code"]) for row in listed(gatehouse, "summer")]
    assert len(set(codes)) == 25
    assert {row["state"] for row in listed(gatehouse, "summer")} == {"unused"}
    loaded = config.load(toml)
    with open_core(loaded):
        for code in codes:
            account = Account.get(name=code)
            assert load_box(loaded.paths.state).open(account.password) == code
            assert account.batch is not None
            assert (account.plan.name, account.batch.name, bool(account.enabled)) == ("week", "summer", True)
            assert code.startswith("vip")
            assert len(code) == 15
            assert set(code[3:]) <= set("bcdfghjkmnpqrstvwxyz23456789")
        batch = VoucherBatch.get()
        assert (batch.price_minor, batch.currency) == (500, "EUR")
        # the end of the last day on the site's clock, which is an hour ahead of UTC in winter
        assert batch.unused_until == 1956524400


def test_every_length_that_is_allowed_is_hard_to_guess() -> None:
    for length in range(1, 40):
        try:
            vouchers.Order("b", "p", 1, length=length)
        except UserError:
            continue
        assert length * math.log2(len(vouchers.ALPHABET)) >= 40


def test_the_last_day_of_unused_vouchers_is_moved(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse(*PLAN)
    gatehouse("voucher", "add", "summer", "--plan", "week", "--count", "3", "--unused-until", "2031-12-31")
    status, said, _ = gatehouse("voucher", "extend", "summer", "--unused-until", "2032-01-31")
    assert (status, said) == (0, "batch summer: 3 vouchers may be used first until 2032-01-31")
    with open_core(config.load(toml)):
        assert VoucherBatch.get().unused_until == 1959202800
    assert gatehouse("voucher", "extend", "summer", "--unused-until", "none")[0] == 0
    with open_core(config.load(toml)):
        assert VoucherBatch.get().unused_until is None
    assert gatehouse("voucher", "extend", "summer", "--unused-until", "soon")[0] == 1


def test_what_became_of_each_voucher(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse(*PLAN)
    gatehouse("voucher", "add", "summer", "--plan", "week", "--count", "6", "--unused-until", "2031-12-31")
    codes = [str(row["code"]) for row in listed(gatehouse, "summer")]
    now = int(time.time())
    with open_core(config.load(toml)):
        for code, first in zip(codes, (None, now - 60, now - 8 * 86_400, now - 60, None, None), strict=True):
            Account.update(first_login_at=first).where(Account.name == code).execute()
        AccountUsage.create(
            account=Account.get(name=codes[3]), day=20260101, input_octets=10**9, output_octets=9 * 10**9
        )
    assert gatehouse("voucher", "revoke", codes[4].upper())[0] == 0
    states = ["unused", "active", "used up", "used up", "revoked", "unused"]
    assert [row["state"] for row in listed(gatehouse, "summer")] == states
    (batch,) = listed(gatehouse)
    assert [batch[state] for state in ("unused", "active", "used_up", "lapsed", "revoked")] == [2, 1, 2, 0, 1]
    with open_core(config.load(toml)):
        VoucherBatch.update(unused_until=now - 1).execute()
    (batch,) = listed(gatehouse)
    assert [batch[state] for state in ("unused", "active", "used_up", "lapsed", "revoked")] == [0, 1, 2, 2, 1]
    assert gatehouse("voucher", "revoke", "summer")[1] == "batch summer revoked: 5 can't log in any more"
    assert listed(gatehouse)[0]["revoked"] == 6


def test_a_code_that_somebody_has_is_made_anew(
    gatehouse: Gatehouse, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gatehouse(*PLAN)
    gatehouse("account", "add", "bbbbbbbbbbbb", "--plan", "week")
    given = iter(["b" * 12, "c" * 12, "d" * 12])
    monkeypatch.setattr(vouchers, "new_code", lambda order: next(given))
    assert gatehouse("voucher", "add", "summer", "--plan", "week", "--count", "2")[0] == 0
    assert {row["code"] for row in listed(gatehouse, "summer")} == {"c" * 12, "d" * 12}
    loaded = config.load(toml)
    with open_core(loaded):
        assert load_box(loaded.paths.state).open(Account.get(name="d" * 12).password) == "d" * 12


def test_a_failure_half_way_leaves_nothing(gatehouse: Gatehouse, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gatehouse(*PLAN)
    written = vouchers._write
    calls: list[int] = []

    def fail_at_last(*words: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise UserError("the disk is full")
        written(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(vouchers, "_write", fail_at_last)
    assert gatehouse("voucher", "add", "summer", "--plan", "week", "--count", "3000")[2].endswith("the disk is full")
    with open_core(config.load(toml)):
        assert Account.select().count() == VoucherBatch.select().count() == 0


def making(toml: Path, count: int) -> "subprocess.Popen[bytes]":
    words = ["voucher", "add", "big", "--plan", "week", "--count", str(count)]
    return subprocess.Popen(
        [sys.executable, "-m", "appliance.cli", "--config", str(toml), *words],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
    )


def test_a_killed_command_leaves_nothing_that_can_be_seen_or_used(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse(*PLAN)
    maker = making(toml, 100_000)
    with open_core(config.load(toml)):
        while Account.select().count() < 300:
            assert maker.poll() is None
            time.sleep(0.01)
        os.kill(maker.pid, signal.SIGKILL)
        maker.wait()
        code = Account.get().name
    assert "This voucher had to be used before" in gatehouse("why", code)[1]  # the login's own rules say so
    assert listed(gatehouse) == []
    assert "there is no" in gatehouse("voucher", "list", "big")[2]
    with open_core(config.load(toml)):
        unfinished.sweep()
        assert Account.select().count() > 0  # its maker may still live
        VoucherBatch.update(created_at=int(time.time()) - 61).execute()
    assert gatehouse("voucher", "add", "big", "--plan", "week", "--count", "10")[0] == 0
    with open_core(config.load(toml)):
        assert Account.select().count() == 10


def test_a_command_that_was_taken_for_dead_says_so(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse(*PLAN)
    with open_core(config.load(toml)):
        batch = unfinished.begin("slow", Plan.get())
        VoucherBatch.update(created_at=1).execute()
        unfinished.sweep()
        batch.created_at = 1
        with pytest.raises(UserError, match="taken for abandoned"):
            unfinished.still_here([batch])
        with pytest.raises(UserError, match="taken for abandoned"):
            unfinished.finish({batch: {"name": "slow"}})


@one_engine
@pytest.mark.system  # soak
def test_logins_write_while_vouchers_are_made(gatehouse: Gatehouse, toml: Path) -> None:
    """As FreeRADIUS does: it gives up after 200 ms."""
    gatehouse(*PLAN)
    path = db.sqlite_path(config.load(toml).database_url)
    assert path is not None
    maker = making(toml, 20_000)
    waits: list[float] = []
    with sqlite3.connect(path, timeout=0.2, isolation_level=None) as login:
        while maker.poll() is None:
            began = time.monotonic()
            login.execute("BEGIN IMMEDIATE")  # raises when the database stays locked
            login.execute("UPDATE plan SET changed_at = changed_at + 1")
            login.execute("COMMIT")
            waits.append(time.monotonic() - began)
            time.sleep(0.002)
    assert maker.returncode == 0
    assert len(waits) > 20
    assert listed(gatehouse)[0]["unused"] == 20_000


def test_two_of_the_same_name_at_once(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse(*PLAN)
    makers = [making(toml, 2000) for _ in range(2)]
    done = sorted(maker.wait() for maker in makers)
    assert done == [0, 1]
    with open_core(config.load(toml)):
        assert Account.select().count() == 2000
        assert [batch.name for batch in VoucherBatch.select()] == ["big"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "a b", "--plan", "week", "--count", "1"), "'a b' can't name a batch"),
        (("add", "~x", "--plan", "week", "--count", "1"), "can't name a batch"),
        (("add", "x", "--plan", "nope", "--count", "1"), "there is no plan 'nope'"),
        (("add", "x", "--plan", "week", "--count", "0"), "0 is no number of vouchers: write 1 to 100000"),
        (("add", "x", "--plan", "week", "--count", "1", "--length", "8"), "write 9 to 32; shorter codes could be"),
        (("add", "x", "--plan", "week", "--count", "1", "--prefix", "V-"), "'V-' can't be a prefix"),
        (("add", "x", "--plan", "week", "--count", "1", "--price", "5"), "--price and --currency: give both"),
        (("add", "x", "--plan", "week", "--count", "1", "--price", "5.001", "--currency", "EUR"), "no price in EUR"),
        (("add", "x", "--plan", "week", "--count", "1", "--price=-5", "--currency", "EUR"), "no price in EUR"),
        (("add", "x", "--plan", "week", "--count", "1", "--price", "5", "--currency", "euro"), "no currency"),
        (("add", "x", "--plan", "week", "--count", "1", "--unused-until", "soon"), "'soon' is no day"),
        (("add", "x", "--plan", "week", "--count", "1", "--unused-until", "2020-01-01"), "2020-01-01 is over"),
        (("add", "there", "--plan", "week", "--count", "1"), "batch 'there' exists already"),
        (("list", "nope"), "there is no voucher batch 'nope': see `gatehouse voucher list`"),
        (("revoke", "nope"), "there is no batch and no voucher 'nope'"),
        (("revoke", "bob"), "there is no batch and no voucher 'bob'"),
        (("print", "there", "--output", "/nowhere/x.pdf"), "/nowhere/x.pdf can't be written: No such file"),
        (("csv", "there", "--output", "/nowhere/x.csv"), "/nowhere/x.csv can't be written: No such file"),
    ],
)
@one_engine
def test_what_is_wrong_is_one_line(gatehouse: Gatehouse, words: tuple[str, ...], said: str) -> None:
    gatehouse(*PLAN)
    gatehouse("account", "add", "bob", "--plan", "week")
    gatehouse("voucher", "add", "there", "--plan", "week", "--count", "1")
    status, out, error = gatehouse("voucher", *words)
    assert (status, out) == (1, "")
    assert said in error
    assert "\n" not in error


@given(st.integers(1, 10**9), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_prices_come_back_as_they_were(minor: int, currency: str) -> None:
    amount, shown = vouchers.format_price(minor, currency).split()
    assert (vouchers.parse_price(amount, currency), shown) == (minor, currency)


def test_prices() -> None:
    assert vouchers.parse_price("5", "EUR") == vouchers.parse_price("5.0", "EUR") == 500
    assert vouchers.parse_price("5", "JPY") == 5
    assert vouchers.parse_price("5.125", "KWD") == 5125
    assert vouchers.format_price(505, "EUR") == "5.05 EUR"


# On paper


@pytest.fixture
def batch(gatehouse: Gatehouse, toml: Path) -> list[str]:
    toml.write_text(toml.read_text() + f'name = "{SITE}"\ncontact = "+420 555 123 456"\n')
    gatehouse(*PLAN)
    words = ("--price", "150", "--currency", "CZK", "--unused-until", "2031-12-31")
    gatehouse("voucher", "add", "summer", "--plan", "week", "--count", "14", *words)
    return [str(row["code"]) for row in listed(gatehouse, "summer")]


def read_codes(pdf: Path) -> list[str]:
    """What a phone reads from the printed pages; each QR code is found once."""
    subprocess.run(["pdftoppm", "-r", "200", "-gray", pdf, pdf.with_suffix("")], check=True)
    pages = sorted(pdf.parent.glob(f"{pdf.stem}-*.pgm"))
    words = ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", *map(str, pages)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


@one_engine
@pytest.mark.parametrize(("form", "pages"), [("a4", 2), ("58mm", 14), ("80mm", 14)])
def test_each_printed_code_is_read_back(
    gatehouse: Gatehouse, toml: Path, batch: list[str], tmp_path: Path, form: str, pages: int
) -> None:
    pdf = tmp_path / "v.pdf"
    status, out, _ = gatehouse("voucher", "print", "summer", "--format", form, "--output", str(pdf))
    assert (status, out) == (0, f"{pdf}: 14 vouchers")
    assert pdf.stat().st_mode & 0o777 == 0o600
    home = config.load(toml).portal_url
    assert sorted(read_codes(pdf)) == sorted(f"{home}?code={code}" for code in batch)
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True).stdout
    assert text.count("\f") == pages
    for line in (SITE, "20 Mbit/s down, 5 up", "10 GB", "7 days from the first login", "by 2031-12-31", "150.00 CZK"):
        assert text.count(line) == 14, line
    for code in batch:
        assert f"{code[:4]} {code[4:8]} {code[8:]}" in text
    fonts = subprocess.run(["pdffonts", pdf], check=True, capture_output=True, text=True).stdout.splitlines()[2:]
    assert fonts
    assert all("DejaVu" in line and line.split()[-5:-3] == ["yes", "yes"] for line in fonts)  # embedded, subset


def test_only_what_nobody_has_used_is_removed(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse(*PLAN)
    for name in ("summer", "winter"):
        gatehouse("voucher", "add", name, "--plan", "week", "--count", "5")
    codes = [str(row["code"]) for row in listed(gatehouse, "summer")]
    with open_core(config.load(toml)):
        Account.update(first_login_at=int(time.time()) - 60).where(Account.name.in_(codes[:2])).execute()
    gatehouse("voucher", "revoke", codes[0])
    gatehouse("voucher", "revoke", codes[4])
    said = "batch summer: 3 vouchers removed; 2 that have been used stay"
    assert gatehouse("voucher", "remove", "summer")[1] == said
    assert [row["code"] for row in listed(gatehouse, "summer")] == codes[:2]
    assert gatehouse("voucher", "remove", "summer")[1] == "batch summer: 0 vouchers removed; 2 that have been used stay"
    assert gatehouse("voucher", "remove", "winter")[1] == "batch winter removed: 5 vouchers, none was ever used"
    assert [row["name"] for row in listed(gatehouse)] == ["summer"]
    assert "there is no voucher batch 'winter'" in gatehouse("voucher", "remove", "winter")[2]


@one_engine
def test_only_what_can_still_be_sold_is_printed(gatehouse: Gatehouse, batch: list[str], tmp_path: Path) -> None:
    gatehouse("voucher", "revoke", batch[0])
    assert gatehouse("voucher", "print", "summer", "--output", f"{tmp_path}/v.pdf")[1].endswith("13 vouchers")
    gatehouse("voucher", "revoke", "summer")
    assert "nothing to print" in gatehouse("voucher", "print", "summer", "--output", f"{tmp_path}/v.pdf")[2]


@one_engine
def test_without_the_font_it_says_what_is_missing(
    gatehouse: Gatehouse, batch: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.accounts import sheets

    monkeypatch.setattr(sheets, "FONTS", tmp_path)
    _, _, error = gatehouse("voucher", "print", "summer", "--output", f"{tmp_path}/v.pdf")
    assert "install the Debian package fonts-dejavu-core" in error
    assert not list(tmp_path.glob("*.pdf"))


@one_engine
def test_a_batch_as_a_table(gatehouse: Gatehouse, batch: list[str], tmp_path: Path) -> None:
    status, out, _ = gatehouse("voucher", "csv", "summer", "--output", "-")
    assert status == 0
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["code"] for row in rows] == batch
    assert rows[0]["url"] == f"http://10.10.0.1/?code={batch[0]}"
    assert (rows[0]["state"], rows[0]["price"], rows[0]["currency"]) == ("unused", "150.00", "CZK")
    assert rows[0]["unused_until"] == "2031-12-31"
    gatehouse("voucher", "csv", "summer", "--output", str(tmp_path / "v.csv"))
    assert (tmp_path / "v.csv").read_text().splitlines() == out.splitlines()


@one_engine
def test_a_plan(gatehouse: Gatehouse, toml: Path) -> None:
    words = (
        "--down",
        "512k",
        "--quota",
        "500M/day",
        "--slow",
        "64k/64k",
        "--windows",
        "Mo-Fr 8:00-20:00 @1M/1M, Sa 9:00-12:00",
    )
    assert gatehouse("plan", "add", "odd", *words, "--validity", "36h")[0] == 0
    with open_core(config.load(toml)):
        assert plan_in_words(Plan.get()) == (
            "0.5 Mbit/s down",
            "500 MB a day, then slower",
            "36 hours from the first login",
            "Mo-Fr 08:00-20:00, Sa 09:00-12:00",
        )
