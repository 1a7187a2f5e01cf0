"""Who is limited to some sites neither sees nor changes what is of others, whatever address they try."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from appliance import config
from appliance.accounts.models import Account, LiveChange, Plan, Refusal, Session, core_db, reach
from appliance.admin import frame, people
from appliance.admin import reach as reaching
from appliance.admin.models import AdminUser
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.nas import clients, tunnel
from appliance.nas.models import Nas
from appliance.service import ASKED
from appliance.sites import registry
from appliance.sites.models import Site, SiteSetting
from tests.unit.test_admin import PASSWORD, Browser, box, browser  # noqa: F401 (a fixture)
from tests.unit.test_sites import app, toml  # noqa: F401 (fixtures)

pytestmark = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
MODELS = (Nas, Session, LiveChange, Refusal, Site, SiteSetting)
UNTYPED = re.compile("southern-(router-)?guest|southern title|of-none|02:00:00:50:75:74|198\\.51\\.100\\.50")
THEIRS = re.compile("southern|02:00:00:50:75:74|198\\.51\\.100\\.50")


@pytest.fixture
def sites(box: Config) -> Iterator[dict[str, int]]:  # noqa: F811
    """north and southern with a router and a session each, one session of no site; sessions by site."""
    with core_db.connection_context():
        found = {}
        for key, mac, address in (
            ("north", "02:00:00:60:72:74", "198.51.100.60"),
            ("southern", "02:00:00:50:75:74", "198.51.100.50"),
        ):
            registry.add(key, f"{key} title")
            secret = load_box(box.paths.state).seal("0123456789abcdef")
            Nas.create(name=f"{key}-router", address=address, secret=secret, site=key)
            found[key] = session(f"{key}-router", mac)
            LiveChange.create(session=found[key], kind="coa", reason="speed", created_at=1, next_try_at=2**40)
            Refusal.create(
                at=1, name=f"{key}-guest", account="", nas=f"{key}-router", mac=mac, reason="unknown", times=1
            )
        found[""] = session("southern-of-none", "02:00:00:50:75:74")
        people.add(people.columns("ned", PASSWORD, "reader", "north=operator"))
        people.add(people.columns("olga", PASSWORD, "operator", "north=owner, southern=reader"))
    yield found


def session(nas: str, mac: str) -> int:
    now = int(time.time())
    values = {"account": f"{nas}-guest", "nas": nas, "acct_session_id": "1", "mac": mac, "framed_ip": "198.51.100.50"}
    values["framed_ip"] = "198.51.100.60" if nas.startswith("north") else "198.51.100.50"
    return int(Session.create(unique_id=nas, started_at=now, updated_at=now, **values).id)


def rows() -> str:
    with core_db.connection_context():
        found = [row for model in MODELS for row in model.select().order_by(model._meta.sorted_fields[0]).dicts()]
    return repr([{key: bytes(v) if isinstance(v, memoryview) else v for key, v in row.items()} for row in found])


def at(path: str, key: str, number: int) -> str:
    names = {"name": f"{key}-router", "key:path": f"{key}-router", "key": key, "number": str(number), "page": "login"}
    if path.startswith("/api/v1/sessions"):
        names["key:path"] = str(number)
    if path.startswith("/api/v1/sites"):
        names["key:path"] = key
    return re.sub(r"<([\w:]+)>", lambda found: names[found[1]], path)


def test_no_address_shows_or_changes_what_is_of_another_site(
    box: Config,  # noqa: F811
    app: Any,  # noqa: F811
    sites: dict[str, int],
) -> None:
    ned = browser(app, "ned")
    token, before, tried = ned.token(), rows(), 0
    form = {
        "name": "evil",
        "site": "southern",
        "title": "x",
        "address": "192.0.2.1",
        "kind": "other",
        "sure": "1",
        "cut": "1",
    }
    for page in frame.pages(box):
        if page.open or page.path == "/leave" or (reaching.kind(page.path) == reaching.COMMON and "<" in page.path):
            continue
        for key, number in (("southern", sites["southern"]), ("southern", sites[""])):
            if "<" in page.path and reaching.kind(page.path) != reaching.ROWS:
                continue
            url = at(page.path, key, number)
            more = {"id": str(number), "ids": str(number), "session": str(number)} if "/sessions" in url else {}
            reply = ask(ned, page.method, url, {**form, **more, "form_token": token})
            tried += 1
            assert reply.status < 500, url
            assert not UNTYPED.search(reply.body), url
            if "<" in page.path:
                assert reply.status in (400, 403, 404), (page.method, url, reply.status)
    assert tried > 60
    assert rows() == before


def ask(one: Browser, method: str, url: str, form: dict[str, str]) -> Any:
    if method == "GET":
        return one.get(url)
    return one._ask(method, url, urlencode(form).encode())


def test_what_is_common_tells_nothing_of_others(box: Config, app: Any, sites: dict[str, int]) -> None:  # noqa: F811
    with core_db.connection_context():
        plan = Plan.get(name="home")
        bob = Account.create(name="bob", plan=plan, password=load_box(box.paths.state).seal("x"), created_at=1)
        Session.update(account_ref=bob, account="bob").execute()
    ned, owner = browser(app, "ned"), browser(app, "owner")
    assert "north-router" in ned.get("/accounts/bob").body
    assert "traffic today" not in ned.get("/").body
    assert "traffic today" in owner.get("/").body
    for url in ("/accounts/bob", "/accounts/bob/why", "/", "/accounts"):
        assert not THEIRS.search(ned.get(url).body), url
    for typed in ("southern", "02:00:00:50:75:74", "198.51.100.50"):
        found = ned.get(f"/search?q={typed}")
        assert not re.search(r"(routers|sessions|sites)/[^?]", found.headers.get("Location", "") + main(found.body))
        found = owner.get(f"/search?q={typed}")
        assert re.search(r"(routers|sessions)/", found.headers.get("Location", "") + main(found.body)), typed


def main(page: str) -> str:
    return page.partition("<main")[2]


@pytest.mark.parametrize(
    "url", ["/sessions", "/routers", "/refusals", "/sites", "/api/v1/sessions", "/api/v1/routers", "/api/v1/sites"]
)
def test_lists_have_ones_own_only(box: Config, app: Any, sites: dict[str, int], url: str) -> None:  # noqa: F811
    ned = browser(app, "ned")
    for more in ("", "?format=csv", "?format=json", "?q=198.51.100") if "/api" not in url else ("",):
        body = ned.get(url + more).body
        assert not THEIRS.search(body), more
        if more != "?q=198.51.100":
            assert "north" in body
    assert "southern" in browser(app, "owner").get(url).body


def test_one_may_where_one_may(box: Config, app: Any, sites: dict[str, int]) -> None:  # noqa: F811
    ned, olga = browser(app, "ned"), browser(app, "olga")
    change = {"address": "192.0.2.99", "kind": "other", "coa": "none", "coa_port": "3799", "site": "north"}
    assert ned.post("/routers/north-router", change).status == 303
    assert ned.post("/routers/north-router", {**change, "site": "southern"}).status == 400
    assert ned.post("/routers/new", {**change, "name": "new", "address": "192.0.2.98"}).status == 200
    assert ned.post("/plans/new", {"name": "more"}).status == 403  # a reader of what is common
    assert olga.post("/plans/new", {"name": "more"}).status in (200, 303)
    assert olga.get("/routers/southern-router").status == 200
    assert olga.post("/routers/southern-router", {**change, "site": "southern"}).status == 400
    assert olga.post("/sites/north", {"title": "Mine"}).status == 303
    assert olga.post("/sites/southern", {"title": "Mine"}).status == 400
    assert olga.post("/sites/north/remove").status == 403
    assert ned.post("/sessions/plan", {"plan": "home", "id": str(sites["north"])}).status == 403
    for url in ("/users", "/audit", "/metrics", "/settings", "/doctor", "/setup"):
        assert olga.get(url).status == 403, url
    with core_db.connection_context():
        assert {nas.name: nas.site for nas in Nas.select()}["new"] == "north"
        assert registry.get("southern").title == "southern title"


def test_programs_are_limited_as_people_are(box: Config, app: Any, sites: dict[str, int]) -> None:  # noqa: F811
    with core_db.connection_context():
        token = people.add_token("north", "reader", "north=operator")
    program = Browser(app)
    program.headers["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    assert [row["name"] for row in json.loads(program.get("/api/v1/routers").body)["items"]] == ["north-router"]
    assert program.get("/api/v1/routers/southern-router").status == 404
    assert program._ask("DELETE", "/api/v1/routers/southern-router", b"").status == 404
    assert program.get("/metrics").status == 403


def test_limits_are_checked_and_outlive_their_site(box: Config, sites: dict[str, int]) -> None:  # noqa: F811
    with core_db.connection_context():
        for typed, role, why in (
            ("east=reader", "reader", "there is no site"),
            ("north=boss", "reader", "is no role"),
            ("north=owner", "owner", "an owner is one everywhere"),
        ):
            with pytest.raises(UserError, match=why):
                people.limits(typed, role)
        assert people.typed_sites(people.limits("nowhere", "reader")) == "nowhere"
        people.forget_site("north")
        ned = AdminUser.get(name="ned")
        assert people.typed_sites(ned.sites) == "nowhere"
        assert reach.get() is None


def test_settings_that_count_at_all_sites_are_nobodys_who_is_limited(box: Config, app: Any, sites: None) -> None:  # noqa: F811
    with core_db.connection_context():
        people.add(people.columns("hal", PASSWORD, "reader", "hq=owner"))
    hal, owner = browser(app, "hal"), browser(app, "owner")
    offered, every = ({*re.findall(r'href="/settings/([^"]+)"', one.get("/settings").body)} for one in (hal, owner))
    assert every - offered == {"privacy", "mail"}
    for key, value in (("privacy.keep_sessions_days", "1"), ("mail.host", "mail.example.com"), ("dealer.iban", "x")):
        name = key.partition(".")[0]
        assert hal.get(f"/settings/{name}").status == 400, key
        assert hal.post(f"/settings/{name}", {key: value}).status == 400, key
    assert "interim_interval_s" in owner.get("/settings/radius").body
    assert "interim_interval_s" not in hal.get("/settings/radius").body
    assert "Nothing was changed" in done(hal, "/settings/radius", {"radius.interim_interval_s": "61"})
    assert not list((box.paths.state / ASKED).glob("*.json"))
    assert hal.post("/settings/site", {"site.name": "Mine"}).status == 303
    assert len(list((box.paths.state / ASKED).glob("*.json"))) == 1


def done(one: Browser, url: str, form: dict[str, str]) -> str:
    return str(one.get(one.post(url, form).headers["Location"]).body)


def test_nobody_takes_over_the_name_of_another_router(box: Config, app: Any, sites: None) -> None:  # noqa: F811
    with core_db.connection_context():
        Refusal.create(at=1, name="x", account="", nas="south-once", mac="02:00:00:50:75:74", reason="unknown", times=1)
    ned, owner = browser(app, "ned"), browser(app, "owner")
    form = {"address": "192.0.2.44", "kind": "other", "coa": "none", "coa_port": "3799", "site": "north"}
    for name, why in (
        ("southern-of-none", "another router"),
        ("south-once", "another router"),
        ("gateway-west", "own gateways"),
        ("gateway", "own gateways"),
    ):
        refused = ned.post("/routers/new", {**form, "name": name})
        assert (refused.status, why in refused.body) == (400, True), name
    assert owner.post("/routers/new", {**form, "name": "gateway-west"}).status == 400
    assert owner.post("/routers/new", {**form, "name": "south-once"}).status == 200
    assert ned.post("/routers/new", {**form, "name": "of-mine", "address": "192.0.2.45"}).status == 200
    assert not THEIRS.search(ned.get("/sessions?format=csv").body)


def test_a_gateway_whose_name_is_taken_is_told_in_a_line(box: Config, sites: None) -> None:  # noqa: F811
    west = config.parse(box.text.replace('key = "hq"', 'key = "west"'), box.file)
    with core_db.connection_context():
        registry.add("west", "")
        Nas.create(name="gateway-west", address="192.0.2.44", secret=b"", site="north")
        with pytest.raises(UserError, match="gateway-west"):
            clients.gateway(west, load_box(box.paths.state))


def test_addresses_in_tunnels_are_free_at_all_sites(box: Config, sites: None) -> None:  # noqa: F811
    here = replace(box, tunnel=replace(box.tunnel, enabled=True))
    with core_db.connection_context():
        first = tunnel.address_for(here, None)
        Nas.update(tunnel_address=first).where(Nas.name == "southern-router").execute()
        with reaching.limited(people.Person("ned", "reader", sites={"": "reader", "north": "operator"}), "operator"):
            assert tunnel.address_for(here, None) != first


def test_a_router_is_set_up_where_it_is_served(box: Config, app: Any, sites: None) -> None:  # noqa: F811
    owner, form = browser(app, "owner"), {"services": "hotspot", "routeros": "7", "server": "192.0.2.1"}
    with core_db.connection_context():
        Nas.update(kind="mikrotik", coa="none").execute()
    for what in ("script", "check"):
        refused = owner.post(f"/routers/north-router/{what}", form)
        assert (refused.status, "of the site north" in refused.body) == (400, True), what
    with core_db.connection_context():
        Nas.update(site="hq").where(Nas.name == "north-router").execute()
    for what in ("script", "check"):
        assert owner.post(f"/routers/north-router/{what}", form).status == 200, what
