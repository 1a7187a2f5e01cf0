"""The first page's figures, the list of refusals and what the rules say of them."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.accounts.models import Account, Plan, Refusal, Session, Traffic, core_db
from appliance.accounts.overview import day_begins
from appliance.config import Config
from tests.unit.test_admin import NASTY, app, box, browser  # noqa: F401

# ruff: noqa: F811
pytestmark = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)


@pytest.fixture
def filled(box: Config) -> Iterator[Config]:
    now = int(time.time())
    with core_db.connection_context():
        plan = Plan.get()
        Plan.update(windows="Mo 08:00-09:00").execute()
        anna = Account.create(name="anna", plan=plan, password=b"", created_at=1)
        for at, name, account, reason, times in (
            (now, "anna", "anna", "window", 2),
            (now, NASTY, "", "unknown", 1),
            (now, "annna", "", "unknown", 40),
            (now - 2 * 86_400, "anna", "anna", "password", 7),
        ):
            Refusal.create(
                at=at, name=name, account=account, nas="hall", mac="aa:bb:cc:00:00:01", reason=reason, times=times
            )
        Session.create(
            unique_id="1", account_ref=anna, account="anna", nas="hall", acct_session_id="1", mac="", started_at=now,
            updated_at=now,
        )  # fmt: skip
        Traffic.create(hour=now // 3600, input_octets=10**9, output_octets=2 * 10**9)
        Traffic.create(hour=now // 3600 - 40, input_octets=10**12, output_octets=0)
    yield box


def test_the_first_page_has_the_day_and_leads_to_its_lists(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    page = one.get("/").body
    tiles = dict(re.findall(r'<a href="([^"]+)"><strong>([^<]+)</strong>', page))
    assert tiles["/sessions?state=online"] == "1"
    assert tiles["/refusals?since=today"] == "43"
    assert "3G" in tiles.values()
    assert page.count('class="bar"') == 24
    parts = re.findall(r'<li><a href="(/refusals\?[^"]+)">([^<]+)</a>', page)
    assert [words for _, words in parts] == ["41 × no account of this name", "2 × outside of the plan’s hours"]
    listed = json.loads(one.get(parts[0][0].replace("&amp;", "&") + "&format=json").body)
    assert [(row["name"], row["times"]) for row in listed] == [("annna", 40), (NASTY, 1)]
    for url in tiles:
        assert one.get(url).status == 200, url


def test_days_begin_at_the_site(filled: Config) -> None:
    assert day_begins(filled, 1_800_000_000) == 1_799_967_600  # 2027-01-15 00:00 in Prague


def test_a_refusal_leads_to_its_account_and_to_why_at_that_time(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    page = one.get("/refusals").body
    assert "<script>alert" not in page
    assert "outside of the plan’s hours" in page
    links = re.findall(r'<a href="([^"]+)">Why\?</a>', page)
    assert len(links) == 2
    asked = one.get(links[0].replace("&amp;", "&"))
    assert re.search(r'name="at" value="\d{4}-\d\d-\d\dT\d\d:\d\d"', asked.body)
    assert 'value="aa:bb:cc:00:00:01"' in asked.body
    assert "let in at" in one.get("/accounts/anna/why?at=2031-03-03T08:30").body
    refused = one.get("/accounts/anna/why?at=2031-03-03T09:30")
    assert "refused by window" in refused.body
    wrong = one.get("/accounts/anna/why?at=soon")
    assert (wrong.status, 'value="soon"' in wrong.body) == (400, True)
