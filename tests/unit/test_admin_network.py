"""The admin's pages for devices, DHCP leases and pools of addresses."""

import json
import re
import time
from typing import Any

import pytest

from appliance.accounts.models import Account, Device, Plan, Pool, Session, core_db
from appliance.admin.models import Audit
from appliance.admin.rows import By, Rows
from appliance.config import Config
from portal.dhcp import lease_file
from tests.unit.test_admin import app, box, browser  # noqa: F401

# ruff: noqa: F811
one_engine = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)


@pytest.fixture
def filled(box: Config) -> Config:
    now = int(time.time())
    with core_db.connection_context():
        plan = Plan.get()
        for number, name in enumerate(("anna", "bob")):
            row = Account.create(name=name, plan=plan, password=b"", created_at=1)
            Device.create(mac=f"aa:bb:cc:00:00:0{number}", account=row, added_at=1, used_at=2)
        Session.create(
            unique_id="1", account="anna", nas="gateway", acct_session_id="1", mac="aa:bb:cc:00:00:00", started_at=1,
            updated_at=1,
        )  # fmt: skip
    file = lease_file(box)
    file.parent.mkdir(parents=True)
    file.write_text(
        f"{now + 600} aa:bb:cc:00:00:00 10.80.0.9 annas-phone *\n"
        f"{now + 600} aa:bb:cc:00:00:07 10.80.0.10 <script> *\n"
        f"{now - 600} aa:bb:cc:00:00:08 10.80.0.11 gone *\n"
    )
    return box


@one_engine
def test_leases_are_those_that_hold_with_the_session_of_each(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    page = one.get("/leases").body
    assert re.findall(r"<td>(10\.80\.0\.\d+)</td>", page) == ["10.80.0.9", "10.80.0.10"]
    assert '<a href="/sessions/1">anna</a>' in page
    assert "<script>*" not in page
    for view, wanted in (
        ("sort=-ip", ["10.80.0.10", "10.80.0.9"]),
        ("state=online", ["10.80.0.9"]),
        ("q=ANNAS", ["10.80.0.9"]),
        ("q=00:07", ["10.80.0.10"]),
        ("page=2", ["10.80.0.9", "10.80.0.10"]),
    ):
        found = json.loads(one.get(f"/leases?format=json&{view}").body)
        assert [row["ip"] for row in found] == wanted, view
    assert "10.80.0.9" not in one.get("/leases?page=2").body
    lease_file(filled).unlink()
    assert "No device has an address" in one.get("/leases").body


def test_rows_in_memory_answer_as_a_query_does() -> None:
    rows = Rows([{"n": n} for n in (3, 1, 2)])
    by = By(lambda row: row["n"])
    assert [row["n"] for row in rows.order_by(by.desc()).offset(1).limit(1).dicts()] == [2]
    assert rows.where(lambda row: row["n"] > 1).count() == 2


@one_engine
def test_devices_are_forgotten_after_a_look(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    found = json.loads(one.get("/devices?format=json&q=ann").body)
    assert [(row["mac"], row["account"]) for row in found] == [("aa:bb:cc:00:00:00", "anna")]
    assert json.loads(one.get("/devices?format=json&q=AA-BB-CC-00-00-01").body)[0]["account"] == "bob"
    form = {"device": "aa:bb:cc:00:00:01"}
    assert "aa:bb:cc:00:00:01 of bob" in one.post("/devices/forget", form).body
    assert one.post("/devices/forget", {**form, "sure": "1"}).headers["Location"] == "/devices"
    assert one.post("/devices/forget", {"sure": "1"}).status == 303
    with core_db.connection_context():
        assert [row.mac for row in Device.select()] == ["aa:bb:cc:00:00:00"]
        assert Audit.select().where(Audit.subject == "account bob").count() == 1


@one_engine
def test_pools_are_made_and_removed(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    form = {"name": "public", "first": "198.51.100.16", "last": "198.51.100.30"}
    assert one.post("/pools/new", form).headers["Location"] == "/pools"
    assert "<td>198.51.100.30</td>" in one.get("/pools").body
    wrong = one.post("/pools/new", {**form, "name": "other"})
    assert (wrong.status, "overlaps another pool" in wrong.body, 'value="198.51.100.30"' in wrong.body) == (
        400,
        True,
        True,
    )
    with core_db.connection_context():
        Plan.update(pool=Pool.get()).execute()
    assert one.post("/pools/public/remove").status == 200
    refused = one.post("/pools/public/remove", {"sure": "1"})
    assert (refused.status, "change the plan first" in refused.body) == (400, True)
    with core_db.connection_context():
        Plan.update(pool=None).execute()
    assert one.post("/pools/public/remove", {"sure": "1"}).status == 303
    with core_db.connection_context():
        assert Pool.select().count() == 0
