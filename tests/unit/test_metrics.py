"""/metrics: what Prometheus reads, that octets are counted once whatever becomes of their session, who may."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance import modules
from appliance.accounts.metrics import COUNTED_EVERY_S, Collector, Traffic
from appliance.accounts.models import Account, Plan, Session, VoucherBatch, core_db
from appliance.admin import frame, people
from appliance.api import metrics
from appliance.api.metrics import Metric, Sample
from appliance.config import Config
from appliance.nas.models import Nas
from portal.module import HOTSPOT
from tests.unit import test_admin
from tests.unit.test_api import Program

box, app = test_admin.box, test_admin.app

DOCS = Path(__file__).parents[2] / "docs/api.md"
Figures = dict[tuple[str, ...], float]


def parsed(text: str) -> Figures:
    """By name and the labels' values; each family is there once, with its help."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type in ("gauge", "counter") for family in families)
    return {(s.name.removeprefix("gatehouse_"), *s.labels.values()): s.value for f in families for s in f.samples}


@pytest.fixture
def scraper(box: Config, app: Any) -> Iterator[Program]:
    with core_db.connection_context():
        token = people.add_token("prometheus", "reader")
    yield Program(app, token)


def scrape(program: Program) -> Figures:
    status, text, headers = program.ask("GET", "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return parsed(text)


def session(number: int, **values: Any) -> Any:
    common = {"unique_id": str(number), "account": "anna", "acct_session_id": "1", "mac": "", "nas": "hall"}
    return Session.create(**common | {"started_at": 1, "updated_at": 1} | values)


def test_the_figures(box: Config, scraper: Program) -> None:
    with core_db.connection_context():
        plan = Plan.get()
        batch = VoucherBatch.create(name="may", plan=plan, created_at=1)
        for name, of in (("anna", None), ("bob", None), ("code", batch)):
            Account.create(name=name, plan=plan, password=b"", created_at=1, batch=of)
        Nas.create(name='ha"l\\l', address="192.0.2.8", secret=b"", seen_at=7)
        Nas.create(name="attic", address="192.0.2.9", secret=b"")
        session(1, nas='ha"l\\l', input_octets=5)
        session(2, nas='ha"l\\l', ended_at=9)
    found = scrape(scraper)
    expected = {
        ("sessions_online", 'ha"l\\l'): 1,
        ("sessions_online", "attic"): 0,
        ("sessions_total",): 2,
        ("octets_total", 'ha"l\\l', "input"): 0,
        ("accounts", "account"): 2,
        ("accounts", "voucher"): 1,
        ("router_heard_timestamp_seconds", 'ha"l\\l'): 7,
        ("router_silent", 'ha"l\\l'): 1,
        ("session_changes_waiting",): 0,
        ("module_enabled", "hotspot"): 1,
        ("mails", "failed"): 0,
        ("radius_up", "authentication"): 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert 0 < found["disk_free_bytes", "state"] < found["disk_size_bytes", "state"]
    assert [key for key in found if key[0] == "build_info"]
    with core_db.connection_context():
        Session.update(input_octets=1_000, output_octets=2**40).where(Session.id == 1).execute()
    again = scrape(scraper)
    assert (again["octets_total", 'ha"l\\l', "input"], again["octets_total", 'ha"l\\l', "output"]) == (995, 2**40)


def test_octets_count_once(box: Config) -> None:
    traffic = Traffic()

    def look() -> tuple[int, int]:
        traffic.look(Session.select().count() and max(row.id for row in Session.select()))
        return traffic.octets["hall", "input"], traffic.octets["hall", "output"]

    with core_db.connection_context():
        one = session(1, input_octets=100, output_octets=10)
        lost = session(2, input_octets=7, ended_at=1)
        assert look() == (0, 0)  # from before this process
        one.input_octets = 150
        one.save()
        assert look() == (50, 0)
        assert look() == (50, 0)
        one.input_octets, one.ended_at = 160, 9
        one.save()
        session(3, input_octets=1_000, output_octets=1, ended_at=9)  # came and went between two looks
        new = session(4, input_octets=20_000)
        assert look() == (21_060, 1)
        assert look() == (21_060, 1)
        lost.ended_at, lost.input_octets = None, 9  # heard of again
        lost.save()
        look()
        lost.input_octets = 10
        lost.save()
        new.ended_at, new.input_octets = 9, 20_005
        new.save()
        assert look() == (21_066, 1)
        Session.delete().execute()
        assert look() == (21_066, 1)
        assert traffic.look(0) == []


def test_accounts_are_not_counted_each_time(box: Config) -> None:
    def people_seen(of: Collector, now: int) -> float:
        (found,) = [m for m in of.read(now) if m.name == "accounts"]
        return next(s.value for s in found.samples if s.labels["kind"] == "account")

    with core_db.connection_context():
        of = Collector(box)
        assert people_seen(of, 1000) == 0
        Account.create(name="anna", plan=Plan.get(), password=b"", created_at=1)
        assert people_seen(of, 1000 + COUNTED_EVERY_S - 1) == 0
        assert people_seen(of, 1000 + COUNTED_EVERY_S) == 1
        Account.delete().execute()
        assert people_seen(of, 500) == 0  # the clock was put right


def test_only_a_token_that_is_good(box: Config, app: Any, scraper: Program) -> None:
    for program in (Program(app), Program(app, "gh_wrong")):
        assert program.refused("GET", "/metrics")[0] == 401
    assert scraper.refused("POST", "/metrics")[0] == 405


def test_a_module_that_is_not_enabled_has_none(box: Config, scraper: Program) -> None:
    modules.set_enabled(box, HOTSPOT, False)
    found = scrape(Program(frame.Frame(box).app(), scraper.token))
    assert found["module_enabled", "hotspot"] == 0
    assert not [key for key in found if key[0] in ("sessions_online", "accounts", "router_silent")]


def test_the_handbook_names_them_all(box: Config, scraper: Program) -> None:
    with core_db.connection_context():
        session(1)
    handbook = set(re.findall(r"gatehouse_[a-z_]+", DOCS.read_text(encoding="utf-8").split("## Metrics")[1]))
    only_there = {"gatehouse_service_up", "gatehouse_logins_total"}  # systemd, and FreeRADIUS while it runs
    only_there |= {name for name in handbook if name.startswith("gatehouse_site_")}  # test_sites.py
    only_there |= {"gatehouse_database_bytes"} if "postgresql" in box.database_url else set()
    with core_db.connection_context():
        Nas.create(name="hall", address="192.0.2.8", secret=b"", seen_at=7)
    assert {f"gatehouse_{name}" for name, *_ in scrape(scraper)} == handbook - only_there


def test_labels_are_escaped() -> None:
    nasty = 'a"b\\c\nd{}=,'
    text = metrics.text([Metric("x", "gauge", "Of x.", [Sample({"router": nasty, "kind": ""}, 1.5)])])
    assert parsed(text) == {("x", nasty, ""): 1.5}
