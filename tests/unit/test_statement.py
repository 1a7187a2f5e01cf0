"""Statements: what a dealer can verify with nothing but the file."""

import csv
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.dealers import invoices, ledger, statement, statement_pdf
from appliance.dealers.models import Dealer
from appliance.errors import UserError
from tests.unit.dealer_money import book, conf_in, dealer, earn
from tests.unit.test_payouts import BEFORE, NOW, invoice

FOREVER = 2**40


@pytest.fixture
def conf(books: Path) -> Iterator[Config]:
    with book(conf_in(books)) as config:
        eva = dealer("eva")
        invoices.pay(invoice(config, eva), 4_000, NOW, "bank")
        earn(eva, 500, NOW, "EUR", note='=cmd("a", б)')
        earn(eva, -200, NOW)
        yield config


def made(conf: Config) -> bytes:
    return statement.table(conf, Dealer.get(), 0, FOREVER)


Lines = list[dict[str, str]]


def with_record(line: dict[str, str], **facts: object) -> None:
    line["record"] = json.dumps(json.loads(line["record"]) | facts, sort_keys=True, separators=(",", ":"))


def forge_everything(lines: Lines) -> None:
    """Also the hashes: what stands in an older statement gives it away, or the sums."""
    record = json.loads(lines[1]["record"]) | {
        "amount_minor": 99_900,
        "entries": {"accrued": 99_900, "expense": -99_900},
    }
    lines[1]["record"], lines[1]["amount"] = json.dumps(record), "999.00"
    previous = lines[0]["hash"]
    for line in lines[1:-1]:
        line["hash"] = previous = ledger.digest(previous, json.loads(line["record"]))
    lines[-1]["hash"] = previous


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda lines: with_record(lines[1], amount_minor=99_900), "posting 1: its hash isn't that of its record"),
        (lambda lines: lines[1].update(amount="999.00"), "posting 1: what it shows isn't what its record says"),
        (lambda lines: lines[1].update(date="2020-01-01 00:00+0000"), "posting 1: what it shows"),
        (lambda lines: lines.pop(2), "posting 3: posting 2 should stand here"),
        (lambda lines: lines.pop(-2), "the closing balance isn't what the postings sum up to"),
        (lambda lines: lines[-1].update(record='{"CZK paid":1}'), "the closing balance isn't"),
        (lambda lines: lines[0].update(record='{"CZK paid":1}'), "nothing is before the first posting"),
        (forge_everything, "the closing balance isn't"),
    ],
)
def test_whatever_was_changed_is_found(conf: Config, forge: Callable[[Lines], object], why: str) -> None:
    assert list(statement.verify(made(conf))) == []
    assert any(why in problem for problem in statement.verify(forged(conf, forge)))


def forged(conf: Config, forge: Callable[[Lines], object]) -> bytes:
    lines = list(csv.DictReader(io.StringIO(made(conf).decode())))
    forge(lines)
    text = io.StringIO()
    writer = csv.DictWriter(text, statement.COLUMNS)
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().encode()


def test_a_part_begins_where_the_one_before_ended(conf: Config) -> None:
    whole = list(csv.DictReader(io.StringIO(made(conf).decode())))
    assert [line["what"] for line in whole[1:-1]] == ["commission", "settle", "payout", "commission", "refund"]
    assert whole[4]["note"] == '\'=cmd("a", б)'
    assert json.loads(whole[-1]["record"]) == {
        **{"CZK accrued": -200, "CZK paid": 4_000, "CZK payable": 6_000},
        "EUR accrued": 500,
    }
    later = statement.table(conf, Dealer.get(), FOREVER, FOREVER + 1)
    opening, closing = csv.DictReader(io.StringIO(later.decode()))
    assert (opening["number"], opening["hash"], opening["record"]) == (
        *("5", ledger.head(Dealer.get())),
        whole[-1]["record"],
    )
    assert list(statement.verify(later)) == [] and closing["hash"] == opening["hash"]


@pytest.mark.parametrize("content", [b"", b"\xff", b"number,date\n1,2\n", b'"' * 99, b"a,b"])
def test_what_is_no_statement_is_said(content: bytes) -> None:
    with pytest.raises(UserError, match="that is no statement"):
        list(statement.verify(content))


def test_a_record_that_is_none_of_the_ledger_is_said(conf: Config) -> None:
    with pytest.raises(UserError, match="its record isn't one of the ledger's"):
        list(statement.verify(made(conf).replace(b'""kind"":', b'""sort"":')))


@pytest.mark.parametrize(
    "facts",
    [
        {"at": "x"},
        {"at": 10**18},
        {"at": True},
        {"currency": 5},
        {"amount_minor": 1.5},
        {"note": None},
        {"note": "\ud800"},
        {"entries": {"accrued": 2**80, "expense": -(2**80)}},
    ],
)
def test_values_that_no_ledger_has_are_said(conf: Config, facts: dict[str, object]) -> None:
    with pytest.raises(UserError, match="posting 1: its record isn't one of the ledger's"):
        list(statement.verify(forged(conf, lambda lines: rehashed(lines, facts))))


@pytest.mark.parametrize("end", [0, -1])
@pytest.mark.parametrize("record", ['{"CZK accrued":"x"}', '{"CZK accrued":null}', "[" * 100_000])
def test_balances_that_are_no_numbers_are_said(conf: Config, record: str, end: int) -> None:
    with pytest.raises(UserError, match="that is no statement"):
        list(statement.verify(forged(conf, lambda lines: lines[end].update(record=record))))


def rehashed(lines: Lines, facts: dict[str, object]) -> None:
    with_record(lines[1], **facts)
    if "\\ud800" not in lines[1]["record"]:
        lines[1]["hash"] = ledger.digest(lines[0]["hash"], json.loads(lines[1]["record"]))


def test_on_pages_it_has_the_table_inside(conf: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pypdf import PdfReader

    path = tmp_path / "s.pdf"
    path.write_bytes(statement_pdf.pdf(conf, Dealer.get(), BEFORE, 1_900_000_000))
    text = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout
    assert "settled, not paid yet" in text and "60.00 CZK" in text
    assert ledger.head(Dealer.get())[:40] in text.replace("\n", "")
    (table,) = PdfReader(path).attachments["statement.csv"]
    assert list(statement.verify(table)) == []
    monkeypatch.setattr(statement_pdf, "MOST", 4)
    with pytest.raises(UserError, match="take the table"):
        statement_pdf.pdf(conf, Dealer.get(), BEFORE, 1_900_000_000)
