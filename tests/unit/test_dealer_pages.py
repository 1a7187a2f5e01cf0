"""The provider's pages of dealers: attacked as all are, and a month from the first sale to the paid invoice."""

import contextlib
import html
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import peewee
import pytest

from appliance import core, modules
from appliance.accounts.models import Charge, Mail, Plan, VoucherBatch, core_db
from appliance.admin import frame, people
from appliance.admin.models import Audit
from appliance.config import Config, Dealer
from appliance.config import Mail as MailSection
from appliance.crypto import load_box
from appliance.dealers import (
    checks,
    dealers,
    desk,
    earning,
    keeper,
    ledger,
    ledger_db,
    month_end,
    overview,
    settlement,
)
from appliance.dealers.models import Invoice, Payout, Posting
from appliance.dealers.models import ledger_db as database
from appliance.dealers.module import DEALER
from tests.unit import dealer_world, test_admin
from tests.unit.conftest import Gatehouse
from tests.unit.dealer_world import customer, dealer, last_month, sold, taken
from tests.unit.test_admin import NASTY, browser
from tests.unit.test_admin_import import upload
from tests.unit.test_api import Program

OURS = ("/dealers", "/schemes", "/settlement", "/invoices", "/payouts", "/sales", "/dealer-statistics", "/api/v1/")
MAIL = MailSection(host="mail.example.net", sender="box@example.net")


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'core.db'}"


@pytest.fixture
def box(toml: Path, request: pytest.FixtureRequest) -> Iterator[Config]:
    toml.write_text(toml.read_text() + dealer_world.LEGAL)
    loaded: Config = request.getfixturevalue("hotspot")
    modules.set_enabled(loaded, DEALER, True)
    (loaded.paths.state / ledger_db.STATE).mkdir()
    yield loaded
    database.close()


hotspot = test_admin.box


@pytest.fixture
def app(box: Config) -> Any:
    return frame.Frame(box).app()


@pytest.fixture
def kiosk(box: Config) -> Any:
    """A dealer with a customer who bought last month."""
    with core_db.connection_context(), desk.opened(box):
        Plan.update(price_minor=1000, currency="EUR").execute()
        made = dealer("kiosk", login="kiosk", email="kiosk@example.net")
        sold(customer("anna", made), 10_000, last_month().since + 3600)
        taken(box)
        return made


def test_every_page_is_attacked(box: Config, app: Any, kiosk: Any) -> None:
    """As all of the admin's are: strangers, roles, forms without their token."""
    pages = [page for page in test_admin.routes(box) if page.path.startswith(OURS)]
    assert len(pages) > 30
    test_admin.attack(app, pages)


def test_nasty_words_are_escaped_everywhere(box: Config, app: Any, kiosk: Any) -> None:
    with core_db.connection_context(), desk.opened(box):
        dealers.change(kiosk, {"contact": NASTY, "contract": NASTY, "street": NASTY})
        ledger.post(kiosk, "correction", ("hand", "1"), "EUR", {"accrued": 5, "expense": -5}, 1, note=NASTY)
        Charge.create(
            kind="renewal", account=NASTY, plan=NASTY, amount_minor=5, currency="EUR", at=1, source=NASTY, recorded_at=1
        )
    one = browser(app, "owner")
    found = [page.path for page in test_admin.routes(box) if page.method == "GET" and page.path.startswith(OURS)]
    pages = [path.replace("<name>", "kiosk").replace("<number>", "1") for path in found]
    for path in (*pages, "/", f"/sales?{urlencode({'q': NASTY})}", f"/dealers?{urlencode({'q': NASTY})}"):
        reply = one.get(path)
        assert reply.status < 500, (path, reply.body)
        kind = reply.headers["Content-Type"].partition(";")[0]
        assert kind != "text/html" or "<script>alert" not in reply.body, path


def test_what_was_typed_is_kept_beside_the_line_that_says_why(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    for url, form, why in (
        ("/dealers/new", {"name": "a b", "email": "x@example.net"}, "can&#39;t name a dealer"),
        ("/dealers/new", {"name": "ok", "iban": "CZ00"}, "IBAN"),
        ("/dealers/kiosk", {"vat_rate": "many", "phone": "777"}, "many"),
        ("/dealers/kiosk/attribution", {"kind": "account", "what": "nobody"}, "there is no account"),
        ("/dealers/kiosk/scheme", {"scheme": "none"}, "there is no scheme"),
        ("/dealers/kiosk/credit", {"amount": "1,234.5"}, "is no amount"),
        ("/schemes/new", {"name": "x", "percent": "101"}, "is no percent"),
        ("/schemes/new", {"name": "x", "tiers": "5 5"}, "begins at 0"),
        ("/sales/new", {"account": "nobody", "plan": "home"}, "there is no account"),
        ("/payouts", {}, "choose at least one invoice"),
    ):
        reply = one.post(url, form)
        assert (reply.status, 'role="alert"' in reply.body) == (400, True), (url, reply.status)
        assert why in reply.body, (url, re.findall(r'role="alert">([^<]*)', reply.body))
        if url in ("/dealers/new", "/schemes/new", "/dealers/kiosk"):
            for value in form.values():
                assert html.escape(value, quote=False) in reply.body, (url, value)


def test_a_month_from_the_first_sale_to_the_paid_invoice(box: Config, app: Any, kiosk: Any) -> None:
    one, month = browser(app, "operator"), last_month().name
    before = one.get(f"/settlement?period={month}").body
    assert "10.00 EUR" in before.replace("\xa0", " ")
    assert f"of {month}" in one.get(f"/settlement/of/kiosk?period={month}").body
    assert one.post("/settlement", {"period": month}).headers["Location"] == f"/settlement?period={month}"
    with desk.opened(box):
        (invoice,) = list(Invoice.select())
    assert (invoice.number, invoice.net_minor) == ("1-00001", 1000)
    assert one.post("/settlement", {"period": month}).status == 303
    assert one.get(f"/invoices/{invoice.id}/pdf").status == 200
    assert one.content.startswith(b"%PDF")
    assert one.get(f"/invoices/{invoice.id}/xml").status == 200
    assert b"CrossIndustryInvoice" in one.content
    listed = json.loads(one.get("/invoices?state=open&format=json").body)
    assert [(row["number"], row["dealer"], row["total"], row["state"]) for row in listed] == [
        ("1-00001", "kiosk", "10.00", "issued")
    ]
    made = one.post("/payouts", {"invoice": str(invoice.id)}).headers["Location"]
    assert one.get(f"{made}/file").status == 200
    assert b"pain.001" in one.content
    assert one.post("/invoices/1/cancel", {"reason": "wrong"}).status == 400  # it is on its way
    assert one.post(made, {}).status == 303
    assert json.loads(one.get("/invoices?state=paid&format=json").body)[0]["paid"] == "10.00"
    assert "Every issued invoice is paid" in one.get("/payouts").body
    with core_db.connection_context(), desk.opened(box):
        assert (Invoice.select().count(), Payout.select().count()) == (1, 1)
        assert not list(ledger.verify())
        acts = {(row.action, row.subject.split()[0]) for row in Audit.select() if row.who == "operator"}
    assert {("settled", "month"), ("made", "payout"), ("confirmed", "payout")} <= acts


def test_a_cancelled_invoice_leads_to_a_better_one(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    one.post("/settlement", {"period": last_month().name})
    note = one.post("/invoices/1/cancel", {"reason": "another address"}).headers["Location"]
    assert "another address" in one.get(note).body
    again = one.post("/settlement/draft", {"settlement": "1"}).headers["Location"]
    assert one.get(f"{again}/xml").status == 400  # a draft has no number
    assert one.post(f"{again}/issue").status == 303
    assert one.post(f"{again}/pay", {"amount": "4", "reference": "cash"}).status == 303
    rows = json.loads(one.get("/invoices?format=json").body)
    assert sorted(row["state"] for row in rows) == ["cancelled", "issued", "partly paid"]


def test_a_dealer_is_added_changed_and_gets_a_log_in(box: Config, app: Any) -> None:
    one = browser(app, "operator")
    assert '<option value="non-payer" selected>' in one.get("/dealers/new").body
    form = {
        "name": "corner",
        "contact": "Corner Ltd",
        "tax": "payer",
        "contract_until": "2035-12-31",
        "login": "corner",
    }
    assert one.post("/dealers/new", form).headers["Location"] == "/dealers/corner"
    page = one.get("/dealers/corner").body
    assert 'value="2035-12-31"' in page
    assert "No VAT ID" in page
    again = dict(re.findall(r'<input id="([a-z_]+)" name="[a-z_]+" type="[a-z]+" value="([^"]*)"', page))
    assert one.post("/dealers/corner", {**again, "credit_limit_minor": "50"}).status == 303
    with desk.opened(box):
        assert dealers.get("corner").credit_limit_minor == 5000
        assert dealers.get("corner").contract_until == dealers.get("corner").contract_until
    shown = one.post("/dealers/corner/password").body
    password = re.search(r"shown only now: <code>([^<]+)</code>", shown)
    assert password
    with desk.opened(box):
        assert dealers.verify("corner", password[1]).name == "corner"
    assert password[1] not in one.get("/dealers/corner").body
    with core_db.connection_context():
        assert password[1] not in "".join(row.changes for row in Audit.select())


def test_a_customer_and_a_scheme_become_a_dealers_on_their_page(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    with core_db.connection_context():
        VoucherBatch.create(name="may", plan=Plan.get(), price_minor=100, currency="EUR", created_at=1)
    assert one.post("/dealers/kiosk/attribution", {"kind": "batch", "what": "may", "from": "2026-01-01"}).status == 303
    assert 'href="/vouchers/batch/may"' in one.get("/dealers/kiosk").body
    with desk.opened(box):
        last = max(row.id for row in kiosk.attributions)
    assert one.post("/dealers/kiosk/attribution/end", {"id": str(last)}).status == 303
    typed = {"name": "steps", "tiers": "0 5\n1000 7.5", "hold": "14", "plans": "home percent=20", "currency": "EUR"}
    assert one.post("/schemes/new", typed).headers["Location"] == "/schemes/steps"
    page = html.unescape(one.get("/schemes/steps").body)
    assert "5 % from 0.00 EUR, 7.5 % from 1" in page
    assert "plan home: 20 % of the money received" in page
    later = {**typed, "hold": "", "from": "2035-01-01"}
    assert one.post("/schemes/steps", later).status == 303
    assert "Version 2" in one.get("/schemes/steps").body


def test_a_sale_by_hand_a_part_a_refund_and_what_the_dealer_earns(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    where = one.post("/sales/new", {"account": "anna", "plan": "home", "amount": "50", "kind": "renewal"}).headers[
        "Location"
    ]
    assert one.post(f"{where}/pay", {"amount": "20", "method": "cash"}).status == 303
    assert one.post(f"{where}/pay", {"amount": "40"}).status == 400
    with core_db.connection_context(), desk.opened(box):
        taken(box)
    page = one.get(where).body
    assert "2.00" in page
    assert 'href="/dealers/kiosk"' in page
    refund = re.search(r'name="refund" value="(\d+)"', page)
    assert refund
    assert one.post(f"{where}/pay", {"refund": refund[1], "amount": "20"}).status == 303
    with core_db.connection_context(), desk.opened(box):
        taken(box)
        assert [row.amount_minor for row in Posting.select().order_by(Posting.id)][-2:] == [200, -200]
    assert one.post(f"{where}/cancel").status == 303
    assert "cancelled" in one.get(where).body
    assert json.loads(one.get("/sales?state=open&format=json").body) == []
    assert len(json.loads(one.get("/sales/payments?format=json").body)) == 3


def test_statistics_count_what_was_sold(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "reader")
    page = one.get("/dealer-statistics").body.replace("\xa0", " ")
    assert "100.00 EUR" in page
    (row,) = json.loads(one.get("/dealer-statistics/sales?format=json").body)
    assert (row["month"], row["plan"], row["sales"], row["received"]) == (last_month().name, "home", 1, "100.00")
    (row,) = json.loads(one.get("/dealer-statistics/dealers?format=json").body)
    assert (row["dealer"], row["received"], row["earned"]) == ("kiosk", "100.00", "10.00")


def test_lists_are_exported_and_the_first_page_says_what_to_do(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "reader")
    (row,) = json.loads(one.get("/dealers?format=json").body)
    assert (row["name"], row["accrued"], row["payable"]) == ("kiosk", "10.00", "0.00")
    assert one.get("/dealers/kiosk/postings?format=csv").body.splitlines()[1].startswith("1,")
    assert "active dealers" in one.get("/").body


def test_last_year_under_other_terms_is_shown_and_nothing_is_written(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    shown = html.unescape(one.post("/schemes/ten", {"percent": "25", "simulate": "1"}).body).replace("\xa0", " ")
    assert "25.00 EUR" in shown
    assert "in place of 10.00 EUR, +150 %" in shown
    assert "Version 2" not in one.get("/schemes/ten").body


def test_programs_sell_once_and_see_no_secrets(box: Config, app: Any, kiosk: Any) -> None:
    with core_db.connection_context(), desk.opened(box):
        dealers.set_password(kiosk)
        program = Program(app, people.add_token("shop", "operator"))
    sale = {"source": "order 7", "kind": "renewal", "account": "anna", "amount_minor": 500, "currency": "EUR"}
    for _ in range(2):
        assert program.ask("POST", "/charges", sale)[0] == 201
        paid = {"source": "p7", "charge": "api:order 7", "amount_minor": 500}
        assert program.ask("POST", "/payments", paid)[0] == 201
    with core_db.connection_context(), desk.opened(box):
        taken(box)
        assert ledger.balance(kiosk, "EUR", "accrued") == 1050
    (row,) = program.ask("GET", "/dealers?state=active")[1]["items"]
    assert (row["name"], row["accrued_minor"]) == ("kiosk", 1050)
    assert not {"password", "iban", "bic"} & set(row)
    posted = program.ask("GET", "/commissions?dealer=kiosk")[1]["items"]
    assert [(one["n"], one["amount_minor"]) for one in posted] == [(2, 50), (1, 1000)]
    assert program.ask("POST", "/dealers", {"name": "corner", "country": "CZ"})[0] == 201
    assert program.ask("PATCH", "/dealers/corner", {"state": "suspended"})[0] == 200
    assert program.ask("PATCH", "/dealers/corner", {"iban": "x"})[0] == 400
    browser(app, "operator").post("/settlement", {"period": last_month().name})
    (invoice,) = program.ask("GET", "/invoices?state=issued")[1]["items"]
    assert (invoice["dealer"], invoice["net_minor"], invoice["paid_minor"]) == ("kiosk", 1000, 0)
    figures = program.ask("GET", "/metrics")[1]
    assert 'gatehouse_dealer_payable{currency="EUR"} 10.0' in figures
    assert "gatehouse_dealers_up 1" in figures


def test_what_somebody_has_to_do_is_found_and_told_once(box: Config, app: Any, kiosk: Any) -> None:
    conf = replace(box, dealer=replace(box.dealer, alert_mail="me@example.net"), mail=MAIL)
    secrets = load_box(box.paths.state)
    now = int(time.time())
    with core_db.connection_context(), desk.opened(conf):
        keeper._month_end(conf, now)
        keeper._verify(conf, now)
        for _ in range(2):
            keeper.tell(conf, secrets, now)
        (letter,) = list(Mail.select())
        assert f"{last_month().name} isn't settled: 1 dealer has" in secrets.open(letter.body)
        assert any("isn't settled" in one.sentence for one in checks.standing(conf))
        month_end.run(conf, last_month(), "me")
        assert not [one for one in overview.attention(conf, now) if "isn't settled" in one.text]
        assert [one.state for one in checks.standing(conf)] == ["ok"]
    assert any("isn't filled in" in one.sentence for one in checks.facts(replace(box, dealer=Dealer())))
    with sqlite3.connect(ledger_db.path(conf)) as other:
        other.execute("DROP TRIGGER posting_stays")
        other.execute("UPDATE posting SET amount_minor = 7")
    with core_db.connection_context(), desk.opened(conf):
        keeper._verify(conf, now)
        assert next(one.state for one in checks.standing(conf)) == "bad"
        assert "the ledger was changed" in next(iter(overview.attention(conf, now))).text
        assert "posting 1" in next(iter(overview.problems(conf)))


def test_a_search_finds_dealers_and_invoices(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    one.post("/settlement", {"period": last_month().name})
    assert one.get("/search?q=kio").headers.get("Location", "") in ("/dealers/kiosk", "")
    assert "/invoices/1" in one.get("/search?q=1-0000").body


def test_sales_come_out_of_a_table_after_a_look_at_it_and_once(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    table = b"date,account,amount,currency,kind\n2026-01-31,anna,12.50,EUR,renewal\n"
    wrong = upload(one, table + b"2026-01-31,nobody,1,EUR,renewal\n", url="/sales/import").body
    assert "Line 3: there is no account" in html.unescape(wrong)
    assert 'name="token"' not in wrong
    preview = upload(one, table, url="/sales/import").body
    assert "1 line would be recorded" in preview
    with core_db.connection_context():
        assert Charge.select().count() == 1
    kept = dict(re.findall(r'<input type="hidden" name="(token|seen)" value="([^"]*)"', preview))
    assert one.post("/sales/import/write", kept).status == 303
    assert one.post("/sales/import/write", kept).status == 400
    assert "1 line was recorded before" in upload(one, table, url="/sales/import").body
    with core_db.connection_context():
        assert Charge.select().count() == 2


def test_the_banks_statement_marks_invoices_as_paid_after_a_look_at_it(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    one.post("/settlement", {"period": last_month().name})
    statement = b"date,amount,reference\n2026-11-20,-10.00,invoice 1-00001\n2026-11-20,-3.00,coffee\n"
    preview = upload(one, statement, url="/payouts/statement").body
    assert "1 movement would mark invoices as paid" in preview
    assert json.loads(one.get("/invoices?state=paid&format=json").body) == []
    kept = dict(re.findall(r'<input type="hidden" name="(token)" value="([^"]*)"', preview))
    assert one.post("/payouts/statement/write", kept).status == 303
    assert json.loads(one.get("/invoices?state=paid&format=json").body)[0]["number"] == "1-00001"
    assert "0 movements would" in upload(one, statement, url="/payouts/statement").body
    assert "choose a file" in upload(one, b"", url="/payouts/statement").body


def test_a_month_ends_by_itself_on_its_day_where_that_is_wished(box: Config, app: Any, kiosk: Any) -> None:
    on = replace(box, dealer=replace(box.dealer, automatic_month_end=True, month_end_day=2))
    until = last_month().until
    with core_db.connection_context(), desk.opened(box):
        keeper._month_end(on, until + 3600)
        assert not Invoice.select().exists()
        keeper._month_end(on, until + 86_400 + 3600)
        keeper._month_end(on, until + 86_400 + 7200)
        assert [row.number for row in Invoice.select()] == ["1-00001"]


def test_the_pages_may_write_to_the_ledger_only_while_the_module_is_there(box: Config) -> None:
    folder = box.paths.state / ledger_db.STATE
    assert folder in core.ADMIN.writes(box)
    modules.set_enabled(box, DEALER, False)
    assert folder not in core.ADMIN.writes(box)


def test_the_keeper_goes_on_with_the_others_where_one_job_fails(box: Config, kiosk: Any) -> None:
    done: list[str] = []

    def fails(_: int) -> None:
        raise peewee.OperationalError("gone")

    todo = [keeper.Job("one", 60, fails), keeper.Job("two", 60, lambda _: done.append("two"))]
    core_db.connect()
    with contextlib.closing(core_db), desk.opened(box):
        keeper.tick(todo, 1)
        assert Plan.select().exists()
    assert (done, todo[0].failed) == (["two"], "gone")


# What is typed wrong


def test_a_day_that_is_a_slip_or_to_come_is_refused_in_every_form(box: Config, app: Any, kiosk: Any) -> None:
    one = browser(app, "operator")
    one.post("/settlement", {"period": last_month().name})
    slip, coming = "write a day from 2000-01-01", "that day hasn’t come yet"
    sale = {"account": "anna", "plan": "home", "amount": "5"}
    for url, form, day, why in (
        ("/sales/new", sale, "0001-01-01", slip),
        ("/sales/new", sale, "2099-01-01", coming),
        ("/sales/1/pay", {"amount": "1"}, "2099-01-01", coming),
        ("/invoices/1/pay", {"amount": "1"}, "1999-12-31", slip),
        ("/invoices/1/pay", {"amount": "1"}, "2099-01-01", coming),
        ("/payouts", {"invoice": "1"}, "0001-01-01", slip),
        ("/payouts", {"invoice": "1"}, "2020-01-01", "is over: the bank pays today or later"),
    ):
        reply = one.post(url, form | {"day": day})
        assert (reply.status, why in html.unescape(reply.body)) == (400, True), (url, day, reply.status)
    for key, day in (("from", "0001-01-01"), ("until", "9999-12-31")):
        reply = one.post("/dealers/kiosk/attribution", {"kind": "account", "what": "anna", key: day})
        assert (reply.status, slip in reply.body) == (400, True), (key, reply.status)
    assert one.post("/dealers/kiosk", {"contract_until": "9999-12-31"}).status == 400


def test_numbers_that_are_far_too_long_are_nobodys(box: Config, app: Any, kiosk: Any) -> None:
    one, long = browser(app, "operator"), "9" * 30
    one.post("/settlement", {"period": last_month().name})
    made = one.post("/payouts", {"invoice": "1"}).headers["Location"]
    for url, form in ((made, {"failed": long}), (made, {"paid": long}), ("/sales/1/pay", {"refund": long})):
        assert one.post(url, form | {"amount": "1"}).status == 400


def test_commands_end_in_one_line(box: Config, kiosk: Any, gatehouse: Gatehouse, tmp_path: Path) -> None:
    assert gatehouse("dealer", "settle")[0] == 0
    no, long = str(tmp_path / "no" / "file"), "9" * 20
    assert gatehouse("dealer", "set", "kiosk", "--credit-limit", "7.50")[0] == 0
    pay = ("dealer", "pay", "1-00001", "1", "--day")
    for words, why in (
        (("sales", "pay", long), "larger than any"),
        (("sales", "pay", "1", "1", "--day", "2099-01-01"), "hasn’t come yet"),
        (("sales", "add", "anna", "--amount", "5", "--day", "0001-01-01"), "from 2000-01-01"),
        (("dealer", "invoice", f"draft-{long}"), "larger than any"),
        (("dealer", "invoice", f"draft-{long * 300}"), "there is no invoice"),
        (("dealer", "invoice", "1-00001", "--pdf", no), "No such file"),
        (("dealer", "invoice", "1-00001", "--xml", no), "No such file"),
        (("dealer", "statement", "kiosk", "--output", no), "No such file"),
        (("dealer", "set", "kiosk", "--vat-rate", "NaN"), "is no VAT rate"),
        (("dealer", "set", "kiosk", "--vat-rate", "sNaN"), "is no VAT rate"),
        (("dealer", "attribute", "kiosk", "account", "anna", "--until", "9999-12-31"), "to 2100-12-31"),
        ((*pay, "2099-01-01"), "hasn’t come yet"),
        ((*pay, "0001-01-01"), "from 2000-01-01"),
        (("dealer", "payout", "--confirm", "none"), "see `gatehouse dealer payout`"),
        (("dealer", "pay", "1-00001", "-5,00"), "can't be paid for"),
        (("dealer", "top-up", "kiosk", "-5,00"), "more than the credit"),
        (("dealer", "set", "kiosk", "--currency", "CZK"), "credit limit: set to 0 what is in EUR"),
    ):
        status, _, said = gatehouse(*words)
        assert (status, why in said, said.count("\n")) == (1, True, 0), (words, said)


def test_an_invoice_is_issued_only_with_its_file(box: Config, kiosk: Any, gatehouse: Gatehouse, tmp_path: Path) -> None:
    with core_db.connection_context(), desk.opened(box):
        earning.catch_up(box)
        settlement.run(box, last_month(), "me")
    issue = ("dealer", "invoice", "draft-1", "--issue", "--pdf")
    assert "No such file" in gatehouse(*issue, str(tmp_path / "no" / "i.pdf"))[2]
    assert "draft-1" in gatehouse("dealer", "invoices")[1]
    assert gatehouse(*issue, str(tmp_path / "i.pdf"))[0] == 0
    assert (tmp_path / "i.pdf").read_bytes().startswith(b"%PDF") and "1-00001" in gatehouse("dealer", "invoices")[1]


def test_a_payout_is_made_only_with_its_file(box: Config, kiosk: Any, gatehouse: Gatehouse, tmp_path: Path) -> None:
    assert gatehouse("dealer", "settle")[0] == 0
    file, make = tmp_path / "bank" / "p.xml", ("dealer", "payout", "--currency", "EUR", "--make")
    assert gatehouse(*make, str(file))[0] == 1
    file.parent.mkdir()
    assert gatehouse(*make, str(file.parent))[0] == 1
    assert "is over" in gatehouse(*make, str(file), "--day", "2020-01-01")[2]
    assert list(file.parent.iterdir()) == []
    with desk.opened(box):
        assert not Payout.select().exists()
    assert gatehouse(*make, str(file))[0] == 0
    assert list(file.parent.iterdir()) == [file]
    assert b"pain.001" in file.read_bytes()
    assert gatehouse(*make, str(file))[0] == 1  # nothing is left to pay; the file stays
    assert b"pain.001" in file.read_bytes()


def test_a_broken_ledger_is_one_line(box: Config, gatehouse: Gatehouse) -> None:
    ledger_db.path(box).write_bytes(b"no database " * 1000)
    for verb in (("dealer", "list"), ("dealer", "verify")):
        database.close()
        status, _, said = gatehouse(*verb)
        assert (status, "can’t be used" in said, said.count("\n")) == (1, True, 0), said
