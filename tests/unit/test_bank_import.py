"""Statements of the bank: which invoices they mark as paid, and what they say of the rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import Config
from appliance.dealers import bank_files, bank_import, invoices, ledger, payouts
from appliance.dealers.models import InvoicePayment
from appliance.errors import UserError
from tests.unit.dealer_money import PROVIDER, book, conf_in, dealer
from tests.unit.test_payouts import NOW, invoice, state
from tests.unit.test_settlement import PRAGUE

HEAD = '<?xml version="1.0"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.{}"><BkToCstmrStmt><Stmt>'
ACCOUNT = "<Acct><Id><IBAN>CZ6508000000192000145399</IBAN></Id></Acct>"


@pytest.fixture
def conf(books: Path) -> Iterator[Config]:
    with book(conf_in(books)) as config:
        yield config


def entry(amount: str, details: str, side: str = "DBIT", reference: str = "B1", status: str = "BOOK") -> str:
    return (
        f'<Ntry><Amt Ccy="CZK">{amount}</Amt><CdtDbtInd>{side}</CdtDbtInd><Sts>{status}</Sts>'
        f"<BookgDt><Dt>2026-11-03</Dt></BookgDt><AcctSvcrRef>{reference}</AcctSvcrRef><NtryDtls>{details}</NtryDtls></Ntry>"
    )


def transaction(end_to_end: str = "", text: str = "", amount: str = "") -> str:
    refs = f"<Refs><EndToEndId>{end_to_end}</EndToEndId></Refs>" if end_to_end else ""
    amount = f'<AmtDtls><TxAmt><Amt Ccy="CZK">{amount}</Amt></TxAmt></AmtDtls>' if amount else ""
    return f"<TxDtls>{refs}{amount}<RmtInf><Ustrd>{text}</Ustrd></RmtInf></TxDtls>"


def camt(*entries: str, version: str = "02") -> bytes:
    return f"{HEAD.format(version)}{ACCOUNT}{''.join(entries)}</Stmt></BkToCstmrStmt></Document>".encode()


def said(conf: Config, content: bytes) -> list[tuple[str, str]]:
    """First looked at, then applied: both have to say the same."""
    movements = bank_import.read(content, conf)
    looked, applied = bank_import.look(conf, movements), bank_import.apply(conf, movements, "jana")
    assert [outcome[1:] for outcome in looked] == [outcome[1:] for outcome in applied]
    return [(outcome.state, outcome.invoice or outcome.why) for outcome in applied]


@pytest.mark.parametrize("version", ["02", "08"])
def test_transfers_of_a_payout_are_found_by_what_they_are_called(conf: Config, version: str) -> None:
    eva, jan = dealer("eva"), dealer("jan")
    rows = [invoice(conf, eva), invoice(conf, jan, 5_000)]
    payout = payouts.make(conf, rows, "jana", NOW)
    one, two = (line.end_to_end for line in payouts.lines_of(payout))
    both = transaction(one, amount="100.00") + transaction(two, amount="50.00")
    content = camt(entry("150.00", both), entry("9.90", transaction(text="fee")), version=version)
    assert said(conf, content) == [
        ("matched", "GH1-00001"),
        ("matched", "GH2-00001"),
        ("unmatched", "it names no invoice"),
    ]
    assert [state(row) for row in rows] == ["paid", "paid"]
    assert said(conf, content)[:2] == [("known", "it was read before")] * 2
    assert InvoicePayment.select().count() == 2
    back = camt(entry("100.00", transaction(one, "account closed"), "CRDT", "B2"))
    assert said(conf, back) == [("matched", "GH1-00001")]
    assert said(conf, back) == [("known", "it was read before")]
    assert state(rows[0]) == "issued" and ledger.balance(eva, "CZK", "payable") == 10_000
    assert [each.included for each in payouts.propose(conf, NOW)] == [True]
    assert list(ledger.verify()) == []


def test_a_payout_that_was_booked_in_one_sum_is_found_by_its_message(conf: Config) -> None:
    row = invoice(conf, dealer("eva"))
    payout = payouts.make(conf, [row], "jana", NOW)
    batch = f"<Btch><MsgId>{payout.message_id}</MsgId></Btch>"
    assert said(conf, camt(entry("90.00", batch)))[0][0] == "unmatched"
    assert said(conf, camt(entry("100.00", batch))) == [("matched", "GH1-00001")]
    assert state(row) == "paid" and payouts.get(payout.message_id).closed_at


def test_what_was_paid_by_hand_is_found_by_the_number_it_names(conf: Config) -> None:
    row = invoice(conf, dealer("eva"))
    content = (
        b"Date;Amount;Reference\n"
        b"3.11.2026;-40,00;faktura gh1-00001\n"
        b"3.11.2026;-40,00;faktura gh1-00001\n"
        b"4.11.2026;-1 000.00;GH1-00001\n"
        b"4.11.2026;-20.00;/VS/100001/SS/\n"
        b"5.11.2026;700.00;GH1-00001\n"
        b"5.11.2026;-1.00;GH1-00001 and GH1-00009\n"
    )
    assert said_once(conf, content) == [
        ("matched", "it names GH1-00001"),
        ("matched", "it names GH1-00001"),
        ("unmatched", "it names GH1-00001, of which 20.00 CZK remains to be paid"),
        ("matched", "it names GH1-00001"),
        ("other", "money that came in"),
        ("unmatched", "it names GH1-00001, of which 0.00 CZK remains to be paid"),
    ]
    assert state(row) == "paid"
    assert {outcome[0] for outcome in said_once(conf, content)} == {"known", "unmatched", "other"}
    assert invoices.paid_minor(row) == 10_000


def said_once(conf: Config, content: bytes) -> list[tuple[str, str]]:
    outcomes = bank_import.apply(conf, bank_import.read(content, conf), "jana")
    return [(outcome.state, outcome.why.replace("\u00a0", " ")) for outcome in outcomes]


def test_a_transfer_in_a_payout_is_the_one_that_a_movement_with_its_number_is(conf: Config) -> None:
    row = invoice(conf, dealer("eva"))
    payouts.make(conf, [row], "jana", NOW)
    assert said_once(conf, b"date,amount,reference\n2026-11-03,-99.00,GH1-00001\n")[0][0] == "unmatched"
    assert said_once(conf, b"date,amount,reference\n2026-11-03,-100.00,GH1-00001\n")[0][0] == "matched"
    assert payouts.propose(conf, NOW) == [] and state(row) == "paid"


def test_a_transfer_that_was_marked_failed_and_was_made_is_left_to_a_person(conf: Config) -> None:
    row = invoice(conf, dealer("eva"))
    payout = payouts.make(conf, [row], "jana", NOW)
    (line,) = payouts.lines_of(payout)
    payouts.fail(line, NOW)
    why = "it was marked failed, and the bank has made it"
    batch = f"<Btch><MsgId>{payout.message_id}</MsgId></Btch>"
    for content in (camt(entry("100.00", transaction(line.end_to_end))), camt(entry("100.00", batch))):
        ((state_, said_),) = said(conf, content)
        assert state_ == "unmatched" and said_.endswith(why)
    assert invoices.paid_minor(row) == 0


def test_one_that_was_confirmed_and_came_back_was_made(conf: Config) -> None:
    payout = payouts.make(conf, [invoice(conf, dealer("eva"))], "jana", NOW)
    payouts.confirm(payout, NOW, "jana")
    (line,) = payouts.lines_of(payout)
    assert said(conf, camt(entry("100.00", transaction(line.end_to_end), "CRDT", "B2")))[0][0] == "matched"
    assert said(conf, camt(entry("100.00", transaction(line.end_to_end))))[0][0] == "known"


def test_what_was_recorded_by_hand_does_not_count_again(conf: Config) -> None:
    row = invoice(conf, dealer("eva"))
    at = bank_import.read(camt(entry("40.00", "")), conf)[0].at
    invoices.pay(row, 4_000, at - 2 * 86_400, "bank")
    content = b"date,amount,reference\n2026-11-03,-40.00,GH1-00001\n"
    why = "it names GH1-00001, and may be the one recorded by hand on 2026-11-01"
    assert said(conf, content) == [("unmatched", why)]
    assert invoices.paid_minor(row) == 4_000
    assert said(conf, content.replace(b"-11-", b"-12-")) == [("matched", "GH1-00001")]
    invoices.pay(row, -4_000, at, "it was another's")
    assert said(conf, content) == [("matched", "GH1-00001")]


def test_what_was_recorded_by_hand_is_not_the_transfer_of_the_other_half(conf: Config) -> None:
    row = invoice(conf, dealer("eva"))
    invoices.pay(row, 5_000, bank_import.read(camt(entry("50.00", "")), conf)[0].at, "bank")
    payout = payouts.make(conf, [row], "jana", NOW)
    assert said(conf, b"date,amount,reference\n2026-11-03,-50.00,GH1-00001\n")[0][0] == "unmatched"
    assert [line.state for line in payouts.lines_of(payout)] == [payouts.SENT]


def test_a_bank_may_write_more_zeros_and_a_table_may_not(conf: Config) -> None:
    (movement,) = bank_import.read(camt(entry("1.50000", "")), conf)
    assert movement.amount_minor == -150
    for text in ("1.500", '"1,500"'):
        with pytest.raises(UserError, match="is no amount in CZK"):
            bank_import.read(f"date,amount,reference\n2026-11-03,{text},x\n".encode(), conf)
    with pytest.raises(UserError, match="is no amount in CZK"):
        bank_import.read(camt(entry("1.505", "")), conf)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><Document/>", "declares a document type"),
        (b"<Document>", "can't be read as XML"),
        (b"<Document/>", "there is no statement in it"),
        (camt().replace(b"CZ65", b"CZ66"), "a statement of the account CZ66"),
        (camt(entry("x", "")), "'x' is no amount in CZK"),
        (camt(entry("1.00", "").replace("2026-11-03", "today")), "'today' is no day"),
        (b"date,amount\n", "a table needs the columns"),
        (b"date,amount,reference\n2026-11-03,ten,x\n", "line 2: 'ten' is no amount in CZK"),
        (b'date,amount,reference\n2026-11-03,1,"' + b"x" * 140_000, "can't be read as a table"),
        (b"<?xml version='1.0' encoding='utf-7x'?><Document/>", "can't be read as XML"),
        (b"\xff\xfe", "save it as CSV in UTF-8"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><Document/>".encode("utf-16-le"), "the file isn't in UTF-8"),
        ("<Document/>".encode("utf-16-be"), "the file isn't in UTF-8"),
    ],
)
def test_what_is_no_statement_is_said_in_one_line(conf: Config, content: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why) as error:
        bank_import.read(content, conf)
    assert "\n" not in str(error.value)


def test_what_is_only_expected_does_not_count(conf: Config) -> None:
    assert bank_import.read(camt(entry("1.00", "", status="PDNG")), conf) == []


@settings(max_examples=25)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f"<Stmt>{text}</Stmt>".encode()))
def test_any_bytes_are_a_statement_or_refused(content: bytes) -> None:
    try:
        bank_files.read(content, PRAGUE, PROVIDER.currency)
    except UserError as error:
        assert str(error)
