"""Search over everything: what is found by what, whose page it leads to, and that only indexes are asked."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from appliance.accounts import finding
from appliance.accounts.models import Account, Device, Plan, Registration, Session, VoucherBatch, core_db
from appliance.accounts.unfinished import hide
from appliance.admin import audit
from appliance.config import Config
from appliance.nas.models import Nas
from tests.unit import test_admin
from tests.unit.test_admin import NASTY, browser

box, app = test_admin.box, test_admin.app


FOUND: tuple[tuple[str, list[str]], ...] = (
    ("ann", ["anna", "annabel"]),
    ("ANN", ["anna", "annabel"]),
    ("an", ["Anton", "anna", "annabel"]),
    ("kd7", ["kd7wxz9mqr42"]),
    ("KD7W XZ9", ["kd7wxz9mqr42"]),
    ("AABB.CC", ["aa:bb:cc:00:00:01", "aa:bb:cc:00:00:01"]),
    ("aa:bb", ["aa:bb:cc:00:00:01", "aa:bb:cc:00:00:01"]),
    ("198.51.100.", ["198.51.100.7", "198.51.100.8"]),
    ("192.0", ["hall"]),
    ("hom", ["home"]),
    ("rout", ["Routers"]),
    ("sess", ["Sessions"]),
    ("eva@", ["eva@example.net"]),
    ("+4206", ["+420601123456"]),
    ("gone", ["Changes of account gone"]),
    ("%", []),
    ("_nna", []),
    ("x' OR 1=1 --", []),
    ("", []),
)
STRAIGHT = (
    ("bob", "/accounts/bob"),
    ("Kd7w-Xz9m-Qr42", "/accounts/kd7wxz9mqr42"),
    ("may", "/vouchers/batch/may"),
    ("198.51.100.7", "/sessions/1"),
    ("02-00-00-00-00-07", "/sessions/1"),
    ("192.0.2.8", "/routers/hall"),
    ("plans", "/plans"),
    ("anna", None),  # there is annabel too
    ("aabbcc000001", None),  # the device, and its sessions
    ("kd7wxzunfini", None),  # of a batch that isn't complete
)


@pytest.fixture
def filled(box: Config) -> Iterator[Config]:
    with core_db.connection_context():
        plan = Plan.get()
        for name in ("anna", "Anton", "annabel", "bob", NASTY):
            Account.create(name=name, plan=plan, password=b"", created_at=1)
        for batch, code in ((VoucherBatch, "kd7wxz9mqr42"), (hide("y"), "kd7wxzunfini")):
            name = "may" if batch is VoucherBatch else str(batch)
            made = VoucherBatch.create(name=name, plan=plan, created_at=1)
            Account.create(name=code, plan=plan, password=b"", created_at=1, batch=made)
        Device.create(mac="aa:bb:cc:00:00:01", account=Account.get(Account.name == "anna"), added_at=1, used_at=1)
        Nas.create(name="hall", address="192.0.2.8", secret=b"")
        for number, (account, mac, ip, ended) in enumerate(
            (
                ("bob", "02:00:00:00:00:07", "198.51.100.7", None),
                ("anna", "aa:bb:cc:00:00:01", "198.51.100.8", 5),
            )
        ):
            Session.create(
                unique_id=str(number),
                account=account,
                nas="hall",
                acct_session_id="1",
                mac=mac,
                framed_ip=ip,
                started_at=1,
                updated_at=1,
                ended_at=ended,
            )
        for mac, contact in (("1", "eva@example.net"), ("2", "+420601123456")):
            Registration.create(kind="operator", state="waiting", mac=mac, name=NASTY, contact=contact, created_at=1)
        audit.record("owner", "removed", "account gone", {}, {})
    yield box


def test_what_is_found(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    for text, titles in FOUND:
        page = one.get("/search?" + urlencode({"q": text}))
        assert page.status == 200, text
        assert re.findall(r'<li><a href="[^"]+">([^<]+)</a>', page.body) == titles, text
        assert ("What can be found" in page.body) == (not titles), text


def test_the_whole_name_of_one_thing_leads_to_its_page(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    for text, where in STRAIGHT:
        reply = one.get("/search?" + urlencode({"q": text}))
        assert (reply.status, reply.headers.get("Location")) == ((303, where) if where else (200, None)), text


def test_readers_find_no_pages_that_are_not_theirs(filled: Config, app: Any) -> None:
    assert browser(app, "reader").get("/search?q=access").status == 200
    assert browser(app, "owner").get("/search?q=access").headers["Location"] == "/users"


def test_what_is_searched_for_is_shown_as_text(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    body = one.get("/search?q=%3Cscript%3E").body
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert" in body
    assert one.get("/search?q=a%00b").status == 200


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("aa:bb:cc:dd:ee:ff", "aa:bb:cc:dd:ee:ff"),
        ("AABBCCDDEEFF", "aa:bb:cc:dd:ee:ff"),
        ("aabb.ccdd.eeff", "aa:bb:cc:dd:ee:ff"),
        ("AA-BB-C", "aa:bb:c"),
        ("aa:b", "aa:b"),
        ("aabb.cc", "aa:bb:cc"),
        ("1234", ""),
        ("cafe", ""),
        ("aabbccddeeff0", ""),
        ("198.51.100.7", ""),
        ("", ""),
    ],
)
def test_any_spelling_of_a_mac(text: str, spelling: str) -> None:
    assert finding.mac_beginning(text) == spelling


def test_nothing_looks_at_all_accounts_or_all_sessions(
    filled: Config,
    app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite's own word on each statement: a SCAN is of a partial index or of a small table."""
    if "postgresql" in filled.database_url:
        pytest.skip("SQLite's plan")
    said: list[str] = []
    run = core_db.obj.execute_sql

    def explained(sql: str, params: Any = None) -> Any:
        if sql.startswith("SELECT"):
            plan = run(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()
            said.extend(f"{line[3]} <- {sql}" for line in plan if line[3].startswith("SCAN"))
        return run(sql, params)

    monkeypatch.setattr(core_db.obj, "execute_sql", explained)
    one = browser(app, "reader")
    said.clear()
    for text in ("ann", "kd7w", "aa:bb:cc", "198.51", "hall", "nothing"):
        assert one.get(f"/search?q={text}").status in (200, 303)
    allowed = ("SCAN CONSTANT ROW", "SCAN t1 USING INDEX session_")  # the indexes of who is online
    assert said
    assert [line for line in said if not line.startswith(allowed)] == []
