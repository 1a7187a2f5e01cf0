"""The admin's pages for sessions and accounts: looked at live, and one change for many."""

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from appliance.accounts.models import Account, AccountUsage, LiveChange, Plan, Session, core_db
from appliance.admin import people
from appliance.admin.models import AdminSession, Audit
from appliance.config import Config
from tests.unit.test_admin import Browser, app, box, browser  # noqa: F401

# ruff: noqa: F811
pytestmark = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
NAMES = [f"a{n:02}" for n in range(60)]


@pytest.fixture
def filled(box: Config) -> Iterator[Config]:
    with core_db.connection_context():
        Plan.create(name="fast")
        plan = Plan.get(Plan.name == "home")
        for number, name in enumerate(NAMES):
            row = Account.create(name=name, plan=plan, password=b"", created_at=1, overrides='{"vlan": 7}')
            if number < 3:
                Session.create(
                    unique_id=name,
                    account_ref=row,
                    account=name,
                    nas="hall",
                    acct_session_id=name,
                    mac=f"02:00:00:00:00:0{number}",
                    started_at=1000 + number,
                    updated_at=2000,
                    session_s=1000,
                    output_octets=10**9,
                )
    yield box


def plans_of(*names: str) -> list[str]:
    with core_db.connection_context():
        rows = Account.select(Account, Plan).join(Plan).where(Account.name.in_(names)).order_by(Account.name)
        return [row.plan.name for row in rows]


def live(one: Browser, url: str, tag: str = "") -> Any:
    one.headers = {"HTTP_X_LIVE": "1", "HTTP_IF_NONE_MATCH": f'"{tag}"'}
    reply = one.get(url)
    one.headers = {}
    return reply


def test_a_live_list_is_sent_again_only_when_it_differs(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    first = live(one, "/sessions?state=online")
    tag = re.search(r'data-tag="([0-9a-f]+)"', first.body)
    assert tag
    assert first.headers["Etag"] == f'"{tag[1]}"'
    again = live(one, "/sessions?state=online", tag[1])
    assert (again.status, again.body) == (304, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", again.headers["X-As-Of"])
    with core_db.connection_context():
        Session.update(output_octets=2 * 10**9).where(Session.account == "a01").execute()
    changed = live(one, "/sessions?state=online", tag[1])
    assert changed.status == 200
    assert re.findall(r'data-id="(\d+)"', changed.body) == ["3", "2", "1"]
    assert live(one, "/sessions?state=ended", tag[1]).status == 200


def test_sessions_are_found_by_account_device_and_address(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    with core_db.connection_context():
        Session.update(framed_ip="198.51.100.9", ended_at=3000).where(Session.account == "a02").execute()
    for text, wanted in (
        ("a0", ["a02", "a01", "a00"]),
        ("a01", ["a01"]),
        ("02-00-00-00-00-01", ["a01"]),
        ("198.51.100.9", ["a02"]),
        ("b", []),
    ):
        found = json.loads(one.get(f"/sessions?format=json&q={text}").body)
        assert [row["account"] for row in found] == wanted, text


def test_a_page_that_looks_by_itself_keeps_nobody_logged_in(
    filled: Config, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = browser(app, "reader")
    began = int(time.time())
    monkeypatch.setattr(time, "time", lambda: began + people.IDLE_S - 60.0)
    assert live(one, "/sessions").status == 200
    with core_db.connection_context():
        assert AdminSession.get().used_at <= began
    assert one.get("/sessions").status == 200
    with core_db.connection_context():
        assert AdminSession.get().used_at > began


def test_a_session_has_its_own_page(filled: Config, app: Any) -> None:
    with core_db.connection_context():
        row = Session.get(Session.account == "a01")
        told = {"kind": "coa", "reason": "speed", "rate": "1M/2M", "created_at": 1, "next_try_at": 1}
        LiveChange.create(session=row, state="refused", **told)
        today = int(f"{datetime.now(filled.site.timezone):%Y%m%d}")
        AccountUsage.create(account=row.account_ref, day=today, input_octets=1, output_octets=10**9)
    page = browser(app, "reader").get(f"/sessions/{row.id}").body
    for word in ("02:00:00:00:00:01", "change 1M/2M", "refused", "8Mbit/s on average", 'class="chart"', ": 1G</title>"):
        assert word in page, word
    assert "Another plan" not in page
    for nothing in ("999", "x", "9" * 30):
        assert browser(app, "reader").get(f"/sessions/{nothing}").status == 400


def test_sessions_are_cut_after_a_look_and_each_result_is_said(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    assert one.post("/sessions/cut", {}).status == 303
    asked = one.post("/sessions/cut", {"session": "2"})
    assert "a01 at hall (02:00:00:00:00:01)" in asked.body
    done = one.post("/sessions/cut", {"session": "2", "sure": "1"})
    assert "this router isn&#39;t in the list any more" in done.body
    with core_db.connection_context():
        assert Audit.select().where(Audit.action == "cut").count() == 1


def test_the_plan_of_a_session_is_changed_from_there(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    asked = one.post("/sessions/plan", {"session": "2", "to_plan": "fast"})
    assert "Change the plan to fast: 1 account?" in asked.body
    assert plans_of("a01") == ["home"]
    one.post("/sessions/plan", {"session": "2", "to_plan": "fast", "sure": "1", "seen": "1"})
    assert plans_of("a00", "a01") == ["home", "fast"]
    with core_db.connection_context():
        assert Account.get(Account.name == "a01").overrides == '{"vlan": 7}'


def test_one_change_for_all_that_a_list_shows(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    form = {"action": "plan", "to_plan": "fast", "scope": "all", "view": "?q=a0"}
    asked = one.post("/accounts/many", form)
    assert "10 accounts?" in asked.body
    assert re.findall(r"<li>(a\d\d)</li>", asked.body) == NAMES[:10]
    seen = re.search(r'name="seen" value="(\d+)"', asked.body)
    assert seen
    with core_db.connection_context():
        Account.create(name="a0x", plan=Plan.get(), password=b"", created_at=1)
    late = one.post("/accounts/many", {**form, "sure": "1", "seen": seen[1]})
    assert (late.status, "has changed since" in late.body) == (400, True)
    assert set(plans_of(*NAMES)) == {"home"}
    done = one.post("/accounts/many", {**form, "sure": "1", "seen": "11"})
    assert "11 done, 0 not" in done.body
    assert plans_of(*NAMES) == ["fast"] * 10 + ["home"] * 50
    with core_db.connection_context():
        last = Audit.select().where(Audit.subject == "account a03").get()
    assert (last.who, json.loads(last.changes)) == ("operator", {"plan": ["home", "fast"]})


def test_what_cannot_be_done_for_one_is_said_and_done_for_the_others(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    with core_db.connection_context():
        Plan.update(quota_bytes=1, slow_down_bps=1).where(Plan.name == "home").execute()
        Account.update(overrides='{"quota_bytes": null}').where(Account.name == "a02").execute()
    done = one.post("/accounts/many", {"action": "block", "scope": "all", "view": "?q=a0", "sure": "1", "seen": "10"})
    assert "9 done, 1 not" in done.body
    assert "a slow speed needs a quota" in done.body
    with core_db.connection_context():
        assert Account.select().where(~Account.enabled).count() == 9


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ({"action": "plan", "to_plan": "gone"}, "there is no plan"),
        ({"action": "until", "to_until": "soon"}, "is no time"),
        ({"action": "explode"}, "choose what to do first"),
    ],
)
def test_nothing_is_done_for_anybody_when_the_wish_is_wrong(
    filled: Config, app: Any, form: dict[str, str], word: str
) -> None:
    reply = browser(app, "operator").post("/accounts/many", {**form, "account": "1", "sure": "1", "seen": "1"})
    assert (reply.status, word in reply.body) == (400, True)


def test_accounts_are_removed_and_given_an_end_in_bulk(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    yes = {"scope": "chosen", "sure": "1", "seen": "1", "account": "5"}
    one.post("/accounts/many", {"action": "until", "to_until": "2035-01-31T18:00", **yes})
    with core_db.connection_context():
        assert Account.get_by_id(5).valid_until == 2053875600
    one.post("/accounts/many", {"action": "remove", **yes})
    with core_db.connection_context():
        assert Account.get_or_none(Account.id == 5) is None
        assert Account.select().count() == 59
