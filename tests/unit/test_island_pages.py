"""Conflicts of islands and how a site's own copy is: as pages, commands, doctor and figures say it."""

import json
import re
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance import config, db
from appliance.accounts import erasure, retention
from appliance.accounts.database import open_core
from appliance.accounts.models import core_db
from appliance.admin import frame, people
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.errors import UserError
from appliance.island import checks, places, state
from appliance.island.models import IslandConflict
from appliance.island.queue import FIRST, Queue
from appliance.island.standing_in import open_core_or_copy
from appliance.sites import registry
from tests.unit.conftest import Gatehouse
from tests.unit.test_admin import PASSWORD, Browser, attack, box, browser  # noqa: F401 (a fixture)

pytestmark = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
NOW = int(time.time())


@pytest.fixture
def toml(toml: Path) -> Path:
    """The file ends with [site]."""
    toml.write_text(f'{toml.read_text()}key = "north"\n')
    loaded = config.load(toml)
    (loaded.paths.state / "machine").write_text("one")
    places.folder(loaded).mkdir()
    with open_core(loaded):
        registry.enter(loaded)
        registry.add("south", "South")
        for n, site in enumerate(("north", "south")):
            IslandConflict.create(
                kind="voucher", site=site, subject=f"{n}", account=f"<b>v{n}", at=NOW, found_at=NOW, detail="both"
            )
    return toml


@pytest.fixture
def app(box: Config) -> Any:  # noqa: F811
    return frame.Frame(box).app()


def test_conflicts_are_listed_until_somebody_has_seen_them(box: Config, app: Any) -> None:  # noqa: F811
    pages = [page for page in frame.pages(box) if "/islands" in page.path]
    assert len(pages) == 2
    attack(app, pages)
    one = browser(app, "operator")
    listed = one.get("/islands?state=open").body
    assert "&lt;b&gt;v0" in listed
    assert "used first on several sites" in listed
    assert "there is no own copy" in listed
    assert "Dismiss the chosen" in listed
    with core_db.connection_context():
        number = str(IslandConflict.get(site="south").id)
    assert one.post("/islands/dismiss", {"conflict": number}).status == 303
    assert one.post("/islands/dismiss", {"conflict": number}).status == 400  # it is done already
    assert one.post("/islands/dismiss", {"conflict": "x"}).status == 400
    left = json.loads(one.get("/islands?state=open&format=json").body)
    assert [row["site"] for row in left] == ["north"]
    with core_db.connection_context():
        assert Audit.get(action="dismissed").subject == "conflict voucher <b>v1"
        assert IslandConflict.get(site="south").dismissed_by
    assert "Dismiss the chosen" not in one.get("/islands?state=dismissed").body  # there is nothing to choose
    figures = browser(app, "reader").get("/metrics").body
    assert 'gatehouse_island_conflicts{kind="voucher"} 1' in figures


def test_who_is_limited_to_a_site_sees_its_conflicts(box: Config, app: Any) -> None:  # noqa: F811
    with core_db.connection_context():
        people.add(people.columns("ned", PASSWORD, "reader", "south=operator"))
        number = str(IslandConflict.get(site="north").id)
    ned = browser(app, "ned")
    assert [row["site"] for row in json.loads(ned.get("/islands?format=json").body)] == ["south"]
    assert ned.post("/islands/dismiss", {"conflict": number}).status == 400
    with core_db.connection_context():
        assert IslandConflict.get(site="north").dismissed_at is None


def test_commands_say_the_same_and_make_the_copy(gatehouse: Gatehouse, toml: Path) -> None:
    loaded = config.load(toml)
    assert "there is no own copy" in gatehouse("island", "show")[1]
    assert [finding.state for finding in checks.copy(loaded)] == ["bad"]
    with open_core(loaded):
        assert [finding.state for finding in checks.conflicts(loaded)] == ["warn"]
    with closing(Queue(places.queue_file(loaded))) as queue:
        queue.put(FIRST, NOW - 2000, {"account": "gone", "at": NOW - 2000})
    assert {finding.subject for finding in checks.copy(loaded)} == {"island", "island queue"}
    assert "1 entry waits" in "\n".join(state.lines(loaded))
    assert gatehouse("island", "copy")[1] == "1 entry is told, and the copy is made"
    assert list(state.lines(loaded)) == []
    found = json.loads(gatehouse("island", "show", "--json")[1])
    assert (found["database_reached"], found["waiting"], found["conflicts"]) == (True, 0, 3)
    rows = json.loads(gatehouse("island", "conflicts", "--json")[1])
    assert [row["kind"] for row in rows] == ["voucher", "voucher", "account"]
    assert gatehouse("island", "dismiss", *(str(row["number"]) for row in rows))[1] == "3 dismissed"
    assert gatehouse("island", "dismiss", str(rows[0]["number"]))[0] == 1
    assert json.loads(gatehouse("island", "conflicts", "--json")[1]) == []
    assert "dismissed" not in gatehouse("island", "conflicts", "--all")[2]


def test_a_person_is_forgotten_there_too(gatehouse: Gatehouse, toml: Path) -> None:
    gatehouse("plan", "add", "home")
    gatehouse("account", "add", "bob", "--plan", "home")
    loaded = config.load(toml)
    with open_core(loaded):
        IslandConflict.update(account="bob").where(IslandConflict.site == "north").execute()
        person = erasure.Person("bob")
        assert erasure.export(person, loaded.site.timezone)["conflicts_of_islands"]
        erasure.erase(person, "delete", loaded)
        assert [row.site for row in IslandConflict.select()] == ["south"]
        retention.run(loaded.privacy, NOW + (loaded.privacy.keep_sessions_days + 1) * 86_400)
        assert not IslandConflict.select().exists()


def test_while_the_database_is_away_pages_and_commands_say_so_in_a_line(
    box: Config,  # noqa: F811
    app: Any,
    gatehouse: Gatehouse,
    toml: Path,
) -> None:
    assert gatehouse("island", "copy")[0] == 0
    text = toml.read_text()
    toml.write_text(re.sub('url = ".*"', 'url = "postgresql://postgres@127.0.0.1:1/nobody"', text))
    loaded = config.load(toml)
    core_db.initialize(db.connect(loaded.database_url))
    page = Browser(app).get("/islands")
    assert (page.status, "can&#39;t be used right now" in page.body) == (503, True)
    status, said, _ = gatehouse("island", "show")
    assert status == 0
    assert "can’t be reached" in said
    status, _, error = gatehouse("account", "list")
    assert (status, error.count("\n"), "can't be reached" in error) == (1, 0, True)
    status, _, error = gatehouse("island", "copy")
    assert (status, error.count("\n")) == (1, 0)
    with open_core_or_copy(loaded) as is_central:
        assert not is_central
        assert core_db.execute_sql("SELECT count(*) FROM island_position").fetchone() == (0,)
    (places.copy_link(loaded)).unlink()
    with pytest.raises(UserError, match="can't be reached"), open_core_or_copy(loaded):
        pass
