"""Many appliances on one database: who may work on it, what each says of itself, and the pages about them."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import config, modules
from appliance.accounts.database import open_core
from appliance.accounts.models import core_db
from appliance.admin import frame
from appliance.config import Config
from appliance.crypto import key_file
from appliance.errors import UserError
from appliance.nas.models import Nas
from appliance.sites import overview, registry, reporter
from appliance.sites.models import Site
from portal.module import HOTSPOT
from tests.unit.test_admin import attack, box, browser  # noqa: F401 (a fixture)

pytestmark = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)


@pytest.fixture
def toml(toml: Path) -> Path:
    """The first appliance of many; the file ends with [site]."""
    toml.write_text(f'{toml.read_text()}key = "hq"\n')
    state = config.load(toml).paths.state
    (state / "machine").write_text("one")
    with open_core(config.load(toml)):
        registry.enter(config.load(toml))
    return toml


@pytest.fixture
def app(box: Config) -> Any:  # noqa: F811
    return frame.Frame(box).app()


def other(box: Config, key: str, machine: str = "two", sealed_by: bytes = bytes(32)) -> Config:  # noqa: F811
    folder = box.paths.state.parent / f"{key}-{machine}"
    text = box.text.replace('key = "hq"', f'key = "{key}"').replace(str(box.paths.state), f"{folder}/state")
    made = config.parse(text, folder / "gatehouse.toml")
    key_file(made.paths.state).parent.mkdir(parents=True)
    key_file(made.paths.state).write_bytes(sealed_by)
    (made.paths.state / "machine").write_text(machine)
    return made


def refused(of: Config) -> str:
    with core_db.connection_context(), pytest.raises(UserError) as error:
        registry.enter(of)
    return str(error.value)


def test_who_may_not_work_on_the_database_hears_why(box: Config) -> None:  # noqa: F811
    with core_db.connection_context():
        registry.enter(box)  # again
        registry.add("north", "North")
    assert "waits for its box" in refused(other(box, "north", "new"))
    assert "another machine's" in refused(other(box, "hq"))
    assert "no site 'south'" in refused(other(box, "south"))
    with core_db.connection_context():
        Site.update(machine="two").where(Site.key == "north").execute()
        registry.enter(other(box, "north", "two"))
    assert "another key" in refused(other(box, "north", "2", b"2" * 32))
    alone = config.parse(box.text.replace('key = "hq"', ""), box.file)
    assert "set [site] key" in refused(alone)


def test_a_site_says_how_it_is(box: Config, app: Any) -> None:  # noqa: F811
    modules.set_enabled(box, HOTSPOT, False)  # its services would be waited for
    with core_db.connection_context():
        reporter.report(box)
        site = registry.get("hq")
        assert abs(site.ahead_ms) < 1000
        assert abs(site.reported_at - time.time()) < 60
        assert site.modules == ""
        assert json.loads(site.problems)  # nothing runs here
        assert json.loads(site.settings)["site.timezone"] == "Europe/Prague"
        assert overview.state(site, registry.database_now()).endswith("problems")
        assert overview.state(site, site.reported_at + registry.SILENT_S + 1) == "silent"
    page = browser(app, "reader").get("/sites/hq").body
    assert "service admin" in page
    assert "last heard" not in page


def test_another_box_of_the_same_name_says_nothing(box: Config) -> None:  # noqa: F811
    modules.set_enabled(box, HOTSPOT, False)
    with core_db.connection_context():
        reporter.report(replace(box, paths=other(box, "hq").paths))
        assert registry.get("hq").reported_at is None


def test_the_pages_of_sites(box: Config, app: Any) -> None:  # noqa: F811
    attack(app, [page for page in frame.pages(box) if "/sites" in page.path])
    with core_db.connection_context():
        registry.add("north", "<b>North")
        Nas.create(name="attic", address="192.0.2.7", secret=b"", site="north")
    one = browser(app, "owner")
    listed = one.get("/sites").body
    assert "&lt;b&gt;North" in listed
    assert "not joined" in listed
    assert [row["key"] for row in json.loads(one.get("/sites?format=json&q=nor").body)] == ["north"]
    assert "attic" in one.get("/sites/north").body
    assert one.post("/sites/north", {"title": "Far north"}).status == 303
    assert "routers belong to" in one.post("/sites/north/remove").body
    with core_db.connection_context():
        Nas.delete().execute()
    assert one.post("/sites/hq/remove").status == 400
    assert one.post("/sites/north/remove").status == 303
    assert "is removed" in one.get("/sites").body
    assert "north" not in one.get("/sites").body
    api = json.loads(one.get("/api/v1/sites").body)["items"]
    assert [(row["key"], row["online"]) for row in api] == [("hq", 0)]
    assert 'gatehouse_site_sessions_online{site="hq"} 0' in one.get("/metrics").body
