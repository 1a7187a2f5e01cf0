"""The admin's pages for vouchers: made after a preview, printed, extended, taken back; found in any spelling."""

import json
import re
import time
from typing import Any

import pytest

from appliance.accounts import vouchers
from appliance.accounts.models import Account, Plan, VoucherBatch, core_db
from appliance.admin.models import Audit
from appliance.config import Config
from tests.unit.test_admin import app, box, browser  # noqa: F401

# ruff: noqa: F811
one_engine = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
ORDER = {
    "name": "summer",
    "plan": "home",
    "count": "5",
    "price": "4.50",
    "currency": "EUR",
    "unused_until": "2031-12-31",
    "prefix": "vip",
    "length": "12",
}


def codes() -> list[str]:
    with core_db.connection_context():
        return [row.name for row in Account.select().where(Account.batch.is_null(False)).order_by(Account.id)]


@pytest.fixture
def made(box: Config, app: Any) -> Any:
    one = browser(app, "operator")
    assert one.post("/vouchers/new", {**ORDER, "sure": "1"}).headers["Location"] == "/vouchers/batch/summer"
    return one


@one_engine
def test_nothing_is_made_before_the_preview_was_said_yes_to(box: Config, app: Any) -> None:
    one = browser(app, "operator")
    preview = one.post("/vouchers/new", ORDER)
    assert preview.status == 200
    assert "Make 5 vouchers?" in preview.body
    assert "4.50 EUR each" in preview.body
    assert codes() == []
    kept = dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', preview.body))
    kept.pop("form_token")
    assert kept == ORDER
    again = one.post("/vouchers/new", {**kept, "back": "1"}).body
    assert 'value="4.50"' in again
    assert "<option selected>home" in again
    assert one.post("/vouchers/new", {**kept, "sure": "1"}).status == 303
    assert len(codes()) == 5
    with core_db.connection_context():
        last = Audit.select().order_by(Audit.id.desc()).get()
    assert (last.action, last.subject) == ("added", "batch summer")
    assert json.loads(last.changes)["count"] == [None, 5]


@one_engine
@pytest.mark.parametrize(
    ("key", "value"),
    [("count", "many"), ("price", "free"), ("length", "4"), ("name", "a b"), ("plan", "gone"), ("unused_until", "x")],
)
def test_what_cannot_be_made_is_said_and_what_was_typed_is_kept(box: Config, app: Any, key: str, value: str) -> None:
    reply = browser(app, "operator").post("/vouchers/new", {**ORDER, key: value, "sure": "1"})
    assert reply.status == 400
    assert 'role="alert"' in reply.body
    assert 'value="vip"' in reply.body
    assert codes() == []


def test_batches_show_what_became_of_them(made: Any) -> None:
    with core_db.connection_context():
        used, blocked = codes()[:2]
        Account.update(first_login_at=int(time.time())).where(Account.name == used).execute()
        Account.update(enabled=False).where(Account.name == blocked).execute()
    (row,) = json.loads(made.get("/vouchers?format=json").body)
    assert [row[key] for key in ("made", "unused", "used", "lapsed", "revoked")] == [5, 3, 1, 0, 1]
    assert row["price"] == "4.50 EUR"
    with core_db.connection_context():
        VoucherBatch.update(unused_until=1).execute()
    (late,) = json.loads(made.get("/vouchers?format=json").body)
    assert [late[key] for key in ("made", "unused", "used", "lapsed", "revoked")] == [5, 0, 1, 3, 1]
    with core_db.connection_context():
        VoucherBatch.update(unused_until=None).execute()
    listed = json.loads(made.get("/vouchers/batch/summer?state=unused&format=json").body)
    assert [one["name"] for one in listed] == codes()[2:]
    with core_db.connection_context():
        VoucherBatch.create(name="~half one", plan=Plan.get(), created_at=1)
    assert "half one" not in made.get("/vouchers").body


def test_a_voucher_is_found_in_any_spelling(made: Any) -> None:
    code = codes()[3]
    typed = vouchers.grouped(code).upper().replace(" ", "%20-")
    assert made.get(f"/vouchers/find?code={typed}").headers["Location"] == f"/accounts/{code}"
    assert "there is no voucher" in made.get("/vouchers/find?code=nothing").body
    page = made.get(f"/accounts/{code}").body
    assert 'href="/vouchers/batch/summer"' in page


@one_engine
def test_what_is_unused_is_printed_as_pdf_and_as_a_page(made: Any) -> None:
    with core_db.connection_context():
        Account.update(first_login_at=1).where(Account.name == codes()[0]).execute()
    page = made.get("/vouchers/batch/summer/print").body
    assert re.findall(r"<code>([^<]+)</code>", page) == [vouchers.grouped(code) for code in codes()[1:]]
    assert page.count("<svg") == 4
    reply = made.get("/vouchers/batch/summer/print?format=80mm")
    assert reply.headers["Content-Type"] == "application/pdf"
    assert 'filename="summer-80mm.pdf"' in reply.headers["Content-Disposition"]
    assert made.content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", made.content)) == 4
    assert "nothing to print" in made.get("/vouchers/batch/summer/print?from=4").body


def test_a_batch_is_extended_revoked_and_removed(made: Any) -> None:
    assert made.post("/vouchers/batch/summer/extend", {"unused_until": "2032-01-31"}).status == 303
    with core_db.connection_context():
        assert VoucherBatch.get().unused_until == 1959202800  # the end of that day in Prague
        Account.update(first_login_at=int(time.time())).where(Account.name == codes()[0]).execute()
    wrong = made.post("/vouchers/batch/summer/extend", {"unused_until": "2001-01-01"})
    assert (wrong.status, 'value="2001-01-01"' in wrong.body) == (400, True)
    asked = made.post("/vouchers/batch/summer/remove")
    assert "4 vouchers that nobody has ever logged in with go" in asked.body
    assert len(codes()) == 5
    asked = made.post("/vouchers/batch/summer/revoke")
    assert "1 active" in asked.body
    assert made.post("/vouchers/batch/summer/revoke", {"sure": "1"}).status == 303
    with core_db.connection_context():
        assert not Account.select().where(Account.enabled, Account.batch.is_null(False)).exists()
    used = codes()[0]
    assert made.post("/vouchers/batch/summer/remove", {"sure": "1"}).headers["Location"] == "/vouchers/batch/summer"
    assert codes() == [used]


@one_engine
def test_readers_print_nothing(made: Any, app: Any) -> None:
    assert browser(app, "reader").get("/vouchers/batch/summer/print").status == 403
