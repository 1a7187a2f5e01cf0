"""Accounts from a table: what is wrong is said by line, nothing is written before yes, and then all of it at once."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.accounts.models import Account, Plan, core_db
from appliance.admin import uploads
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.crypto import load_box
from tests.unit.test_admin import NASTY, Browser, Reply, app, box, browser  # noqa: F401

# ruff: noqa: F811
pytestmark = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
GOOD = "Name;Password;plan;valid_until;Enabled;Notes\nanna;correct horse;fast;2035-01-31T18:00;yes;x\nbob;;;;no;\n"


@pytest.fixture
def one(box: Config, app: Any) -> Iterator[Browser]:
    with core_db.connection_context():
        Plan.create(name="fast")
        Account.create(name="here", plan=Plan.get(), password=b"", created_at=1, address="198.51.100.20")
    yield browser(app, "operator")


def names() -> list[str]:
    with core_db.connection_context():
        return [row.name for row in Account.select().order_by(Account.name)]


def upload(one: Browser, content: bytes, plan: str = "home", url: str = "/accounts/import") -> Reply:
    token, mark = one.token(), "frontier"
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (("form_token", token), ("plan", plan))
    ]
    file = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'.encode()
    one.headers = {"CONTENT_TYPE": f"multipart/form-data; boundary={mark}"}
    try:
        return one._ask("POST", url, b"".join([*parts, file, content, f"\r\n--{mark}--\r\n".encode()]))
    finally:
        one.headers = {}


def yes(one: Browser, preview: Reply) -> Reply:
    kept = re.findall(r'<input type="hidden" name="(token|plan|seen)" value="([^"]*)"', preview.body)
    return one.post("/accounts/import/write", dict(kept))


def test_a_table_is_shown_then_all_of_it_is_there(one: Browser, box: Config) -> None:
    preview = upload(one, b"\xef\xbb\xbf" + GOOD.encode())
    assert "2 accounts would be made" in preview.body
    assert "correct horse" not in preview.body
    assert "mean nothing here: notes" in preview.body
    assert names() == ["here"]
    done = yes(one, preview)
    made_up = dict(re.findall(r"<tr><td>([^<]+)</td><td><code>([^<]+)</code>", done.body))
    assert list(made_up) == ["bob"]
    assert names() == ["anna", "bob", "here"]
    with core_db.connection_context():
        anna, bob = Account.get(name="anna"), Account.get(name="bob")
        sealed = load_box(box.paths.state)
        assert (sealed.open(anna.password), anna.plan.name, anna.valid_until) == ("correct horse", "fast", 2053875600)
        assert (sealed.open(bob.password), bob.plan.name, bool(bob.enabled)) == (made_up["bob"], "home", False)
        assert bool(anna.enabled)
        last = Audit.select().order_by(Audit.id.desc()).get()
        assert (last.who, last.action, last.subject) == ("operator", "imported", "2 accounts")
        assert "horse" not in last.changes
    assert "isn’t here any more" in yes(one, preview).body


def test_each_line_has_its_own_complaint_and_the_others_are_taken(one: Browser) -> None:
    lines = (
        "name,password,plan,valid_until,address,enabled",
        "here,x,,,,",
        "anna,x,gone,,,",
        "bob,x,,soon,,",
        "carl,x,,,1.2.3,",
        "dora,x,,,,perhaps",
        " ,x,,,,",
        f'"{NASTY.replace(chr(34), chr(34) * 2)}",x,,,,',
        "emil,x,,,198.51.100.20,",
        "emil,x,,,,",
    )
    preview = upload(one, "\r\n".join(lines).encode())
    said = dict(re.findall(r"<li>Line (\d+): ([^<]+)</li>", preview.body))
    words = {2: "here already", 3: "there is no plan", 4: "is no time", 5: "no IPv4 address", 6: "neither yes nor no"}
    words |= {7: "can&#39;t be a login", 9: "belongs to another account", 10: "stands in line 9 already"}
    for line, word in words.items():
        assert word in said[str(line)], line
    assert "<script>alert" not in preview.body
    assert "2 accounts would be made" in preview.body
    assert "made" in yes(one, preview).body
    assert names() == sorted([NASTY, "emil", "here"])


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "choose a file"),
        (b"user,pass\nanna,x\n", "name the columns"),
        (b"name\n", "no line below"),
        (b"name\n\xff\xfe\n", "UTF-8"),
        (b"name\n" + b"x" * 1_000_001, "up to 1000 kB"),
        (b'name,password\n"anna,x\n', "can’t be read"),
        (b"name\n" + b"".join(b"a%d\n" % n for n in range(10_001)), "more than 10,000 lines"),
    ],
)
def test_what_is_no_table_is_said(one: Browser, content: bytes, word: str) -> None:
    reply = upload(one, content, "fast")
    assert (reply.status, word in reply.body) == (400, True)
    assert "<option selected>fast" in reply.body
    assert names() == ["here"]


def test_what_changed_since_is_shown_again(one: Browser) -> None:
    preview = upload(one, GOOD.encode())
    with core_db.connection_context():
        Account.create(name="bob", plan=Plan.get(), password=b"", created_at=1)
    again = yes(one, preview)
    assert "1 account would be made" in again.body
    assert names() == ["bob", "here"]
    yes(one, again)
    assert names() == ["anna", "bob", "here"]


def test_a_file_is_for_whoever_sent_it(one: Browser, app: Any) -> None:
    preview = upload(one, GOOD.encode())
    assert "isn’t here any more" in yes(browser(app, "owner"), preview).body
    assert names() == ["here"]


def test_an_export_can_be_read_back_and_has_no_passwords(one: Browser) -> None:
    yes(one, upload(one, b"name,password\n=SUM(1),secret-word\nzoe,secret-word\n"))
    exported = one.get("/accounts?format=csv").body
    assert "secret" not in exported
    assert "password" not in exported
    header, *rows = list(csv.reader(io.StringIO(exported)))
    assert [row[header.index("name")] for row in rows] == ["'=SUM(1)", "here", "zoe"]
    with core_db.connection_context():
        Account.delete().execute()
    yes(one, upload(one, exported.encode()))
    assert names() == ["=SUM(1)", "here", "zoe"]


def test_only_a_few_files_wait(one: Browser) -> None:
    first = upload(one, GOOD.encode())
    for _ in range(uploads.KEPT):
        upload(one, GOOD.encode())
    assert "isn’t here any more" in yes(one, first).body
