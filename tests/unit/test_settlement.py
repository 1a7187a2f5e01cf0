"""Month ends: what is due and why, once, whoever settles and however often."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import peewee
import pytest

from appliance.config import Config
from appliance.dealers import agreements, dealers, earning, invoices, ledger, month_end, months, settlement
from appliance.dealers.models import Invoice, Settlement, SettlementLine, ledger_db
from appliance.dealers.schemes import Terms
from appliance.errors import UserError
from tests.unit.dealer_money import book, conf_in, dealer, earn, memory

PRAGUE = ZoneInfo("Europe/Prague")
OCTOBER, NOVEMBER = months.period("2026-10", PRAGUE), months.period("2026-11", PRAGUE)
LATER = NOVEMBER.until + 1


@pytest.fixture
def conf(books: Path) -> Iterator[Config]:
    with book(conf_in(books)) as config:
        yield config


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=PRAGUE).timestamp())


def reasons(conf: Config, period: months.Period = OCTOBER) -> list[tuple[int, bool, str]]:
    return [(row.amount_minor, row.included, row.why) for row in settlement.preview(conf, period)]


def settled(conf: Config, period: months.Period = OCTOBER) -> list[tuple[str, str, int]]:
    result = settlement.run(conf, period, "jana", now=LATER)
    return [(made.dealer.name, made.currency, made.amount_minor) for made in result.settled]


def test_months_begin_at_midnight_of_the_site_whatever_the_clock_does() -> None:
    assert OCTOBER.until - OCTOBER.since == (31 * 24 + 1) * 3600  # the night of 25 October is longer
    assert OCTOBER.until == NOVEMBER.since == at("2026-11-01 00:00")
    assert months.of(OCTOBER.until - 1, PRAGUE) == OCTOBER and months.of(OCTOBER.until, PRAGUE) == NOVEMBER
    assert months.before(at("2026-12-31 23:59"), PRAGUE) == NOVEMBER
    assert months.period("2026-12", PRAGUE).until == at("2027-01-01 00:00")
    with pytest.raises(UserError, match="write it as 2026-10"):
        months.period("2026-13", PRAGUE)


def test_each_line_says_why_it_is_in_or_out(conf: Config) -> None:
    eva = dealer("eva")
    earn(eva, 700, at("2026-09-30 23:59"))
    earn(eva, 100, OCTOBER.since)
    earn(eva, 200, OCTOBER.until - 1)
    earn(eva, 400, OCTOBER.until)
    earn(eva, 800, at("2026-10-20 12:00"), due_at=at("2026-11-03 12:00"))
    earn(eva, 0, at("2026-10-21 12:00"), note="no scheme held then")
    assert reasons(conf) == [
        (700, True, "late: of 2026-09, which it wasn't settled with"),
        (100, True, "of 2026-10"),
        (800, False, "on hold until 2026-11-03"),
        (0, False, "no scheme held then"),
        (200, True, "of 2026-10"),
        (400, False, "after the month: it is of 2026-11"),
    ]
    assert settled(conf) == [("eva", "CZK", 1000)]
    assert next(why for _, included, why in reasons(conf) if not included) == "on hold until 2026-11-03"
    assert settled(conf, NOVEMBER) == [("eva", "CZK", 1200)]
    assert ledger.balances(eva, "CZK") | {"accrued": 0} == ledger.balances(eva, "CZK")
    assert list(ledger.verify()) == []


def test_a_month_is_settled_once_and_what_comes_late_is_in_the_next(conf: Config) -> None:
    eva = dealer("eva")
    earn(eva, 1000, at("2026-10-10 12:00"))
    assert settled(conf) == [("eva", "CZK", 1000)]
    earn(eva, 50, at("2026-10-11 12:00"))
    result = settlement.run(conf, OCTOBER, "jana", now=LATER)
    assert not result.settled and "settled already, with 10.00" in result.skipped[0][2]
    assert "it is for the next month" in reasons(conf)[0][2]
    assert settled(conf, NOVEMBER) == [("eva", "CZK", 50)]
    assert settled(conf, NOVEMBER) == []
    assert Invoice.select().count() == 2


def test_what_is_too_little_or_negative_is_carried(conf: Config) -> None:
    eva, jan, ota = dealer("eva"), dealer("jan"), dealer("ota")
    scheme = agreements.add_scheme("ten", Terms(minimum_minor=500), 0)
    agreements.assign(eva, scheme.scheme, 0)
    earn(eva, 499, at("2026-10-10 12:00"))
    earn(jan, 300, at("2026-10-10 12:00"))
    earn(jan, -301, at("2026-10-11 12:00"))
    earn(ota, 100, at("2026-10-10 12:00"))
    dealers.change(ota, {"state": "suspended"})
    assert settled(conf) == []
    assert [(included, why.replace("\u00a0", " ")) for _, included, why in reasons(conf)] == [
        (False, "4.99 CZK is carried: payouts begin at 5.00 CZK"),
        *[(False, "−0.01 CZK in all is carried: more was taken back than earned")] * 2,
        (False, "the dealer is suspended: it waits until they are active again"),
    ]
    earn(eva, 1, at("2026-11-10 12:00"))
    earn(jan, 10, at("2026-11-10 12:00"))
    assert settled(conf, NOVEMBER) == [("eva", "CZK", 500), ("jan", "CZK", 9)]
    dealers.change(eva, {"state": "ended"})
    earn(eva, 1, at("2026-12-10 12:00"))
    result = settlement.run(conf, months.period("2026-12", PRAGUE), "jana", now=2**31)
    assert [made.amount_minor for made in result.settled] == [1]  # nobody waits for more


def test_currencies_are_never_netted(conf: Config) -> None:
    eva = dealer("eva")
    earn(eva, 1000, at("2026-10-10 12:00"))
    earn(eva, -400, at("2026-10-10 12:00"), "EUR")
    earn(eva, 700, at("2026-10-10 12:00"), "USD")
    assert settled(conf) == [("eva", "CZK", 1000), ("eva", "USD", 700)]
    assert [invoice.currency for invoice in Invoice.select().order_by(Invoice.id)] == ["CZK", "USD"]


def test_a_month_that_runs_is_only_looked_at(conf: Config) -> None:
    dealer("eva")
    with pytest.raises(UserError, match="isn't over before 2026-11-01"):
        settlement.run(conf, OCTOBER, "jana", now=OCTOBER.until - 1)
    plan = next(settlement.plans(conf, OCTOBER))
    assert (plan.state, plan.why, plan.rows) == ("nothing", "nothing is due", ())


def test_whatever_was_undone_in_the_middle_is_undone_whole(conf: Config, monkeypatch: Any) -> None:
    eva = dealer("eva")
    earn(eva, 1000, at("2026-10-10 12:00"))
    monkeypatch.setattr(invoices, "draft", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        settled(conf)
    assert Settlement.select().count() == SettlementLine.select().count() == 0
    assert ledger.balance(eva, "CZK", "payable") == 0


def start(folder: Path, pause_s: float = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.unit.dealer_money", str(folder), "2026-10", str(pause_s)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_two_at_once_and_one_killed_in_the_middle_have_one_result() -> None:
    """Real processes on one ledger: the first is killed while it settles, two others find the rest."""
    with memory() as folder, book(conf_in(folder)):
        for n in range(24):
            who = dealer(f"dealer-{n:02}", login=None)
            with ledger_db.atomic():
                for day in range(1, 11):
                    earn(who, 100 + n, at(f"2026-10-{day:02} 12:00"))
        first = start(folder, 0.05)
        while not Settlement.select().count() > 2 and first.poll() is None:
            time.sleep(0.002)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        assert 2 < Settlement.select().count() < 24
        both = [start(folder), start(folder)]
        for process in both:
            assert (process.communicate()[1], process.returncode) == ("", 0)
        assert Settlement.select().count() == Invoice.select().count() == 24
        assert SettlementLine.select().count() == 240
        assert {invoice.number for invoice in Invoice.select()} == {f"GH{n}-00001" for n in range(1, 25)}
        for made in Settlement.select():
            n = int(made.dealer.name[-2:])
            assert made.amount_minor == 10 * (100 + n) == ledger.balance(made.dealer, "CZK", "payable")
        assert list(ledger.verify()) == []


def test_numbers_have_no_gap_and_drafts_have_none(conf: Config) -> None:
    eva = dealer("eva")
    for month in range(1, 4):
        earn(eva, 1000, at(f"2026-{month:02}-10 12:00"))
        settled(conf, months.period(f"2026-{month:02}", PRAGUE))
    drafts = list(Invoice.select().order_by(Invoice.id))
    assert [draft.number for draft in drafts] == [None] * 3
    nowhere = replace(conf, dealer=replace(conf.dealer, city=""))
    with pytest.raises(UserError, match=r"fill in \[dealer\] city"):
        invoices.issue(nowhere, drafts[0], LATER)
    assert [invoices.issue(conf, drafts[n], LATER).number for n in (2, 0, 2)] == ["GH1-00001", "GH1-00002", "GH1-00001"]
    note = invoices.cancel(conf, drafts[2], "the address was wrong", LATER)
    assert (note.number, note.total_minor) == ("GH1-00003", 1000)
    again = invoices.draft(conf, drafts[2].settlement, LATER)
    assert invoices.issue(conf, again, LATER).number == "GH1-00004"
    assert invoices.issue(conf, drafts[1], LATER).number == "GH1-00005"


def test_a_month_end_issues_what_is_settled_and_leaves_replacements_to_a_person(conf: Config, monkeypatch: Any) -> None:
    monkeypatch.setattr(earning, "catch_up", lambda *_: None)  # nothing was sold
    eva, jan, ota = dealer("eva"), dealer("jan"), dealer("ota")
    for who in (eva, jan, ota):
        earn(who, 1000, at("2026-10-10 12:00"))
    settlement.run(conf, OCTOBER, "jana", [ota], LATER)  # and killed before the invoice
    first = month_end.run(conf, OCTOBER, "jana", LATER, [eva])
    assert [row.number for row in first.issued] == ["GH1-00001"]
    invoices.cancel(conf, first.issued[0], "the address was wrong", LATER)
    rest = month_end.run(conf, OCTOBER, "jana", LATER).issued
    assert [row.number for row in rest] == ["GH2-00001", "GH3-00001"]
    assert month_end.run(conf, OCTOBER, "jana", LATER).issued == ()
    assert [row.dealer.name for row in month_end.drafts_of("2026-10")] == ["eva"]


def test_a_series_ends_in_a_letter_as_the_dealers_number_follows(conf: Config) -> None:
    assert [replace(conf.dealer, series=series).series for series in ("", "G", "2026GH")] == ["", "G", "2026GH"]
    with pytest.raises(ValueError, match="series: 'GH1' can't be one: write it as GH"):
        replace(conf.dealer, series="GH1")


def test_no_two_dealers_have_a_number_in_common(conf: Config) -> None:
    for n in (1, 11):
        earn(dealer(f"dealer-{n}"), 1000, at("2026-10-10 12:00"))
    settled(conf)
    one, two = Invoice.select()
    Invoice.update(number="GH11-00001").where(Invoice.id == one.id).execute()
    with pytest.raises(peewee.IntegrityError, match="number"):
        Invoice.update(number="GH11-00001").where(Invoice.id == two.id).execute()
