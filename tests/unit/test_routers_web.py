"""The pages for routers: added, changed, given a new secret, checked, removed; and their scripts, with who saw them."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import config, modules, wishes
from appliance.accounts.models import Session, core_db
from appliance.admin import frame
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.crypto import load_box
from appliance.doctor import run
from appliance.doctor.findings import BAD, Finding, Report
from appliance.nas import coa
from appliance.nas.clients import gateway_secret
from appliance.nas.models import GATEWAY, Nas
from appliance.service import ANSWERED
from collector import exporters
from collector.module import NETFLOW
from portal.module import HOTSPOT
from tests.unit import routeros
from tests.unit.test_admin import NASTY, Browser, app, box, browser  # noqa: F401 (fixtures)
from tests.unit.test_doctor import SECRET, Router, router  # noqa: F401 (fixture)

FORM = {"address": "192.0.2.7", "kind": "mikrotik", "coa": "coa", "coa_port": "", "message_authenticator": "1"}


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'core.db'}"


@pytest.fixture
def operator(app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:  # noqa: F811
    monkeypatch.setattr(coa, "TRY_S", 0.1)
    yield browser(app, "operator")


def of(name: str) -> Nas:
    with core_db.connection_context():
        found: Nas = Nas.get(Nas.name == name)
        return found


def granted(box: Config, refusal: str = "") -> int:  # noqa: F811
    """What root makes of what was asked for; how many there were."""
    with wishes.folder(box.paths.state) as folder:
        numbers = wishes.waiting(folder)
        for number in numbers:
            asked = wishes.read(folder, number)
            assert (asked.who, asked.settings, asked.modules, asked.files) == ("operator", {}, {}, {})
            (box.paths.state / ANSWERED / number).write_text(refusal)
            wishes.remove(folder, f"{number}.json")
    return len(numbers)


def secret_in(page: str) -> str:
    (shown,) = re.findall(r"shown only now: <code>([0-9a-f]{32})</code>", page)
    return str(shown)


def test_a_router_is_added_changed_and_removed_and_all_of_it_is_on_record(box: Config, operator: Browser) -> None:  # noqa: F811
    made = operator.post("/routers/new", FORM | {"name": "attic"})
    secret = secret_in(made.body)
    seal = load_box(box.paths.state)
    assert seal.open(of("attic").secret) == secret
    assert "shown only now" not in operator.get("/routers/attic").body
    assert granted(box) == 1
    changed = operator.post("/routers/attic", FORM | {"coa": "none", "coa_port": "1701"})
    assert changed.status == 303
    page = operator.get(changed.headers["Location"])
    assert ("FreeRADIUS is being told" in page.body, page.headers["Refresh"]) == (True, "2")
    assert granted(box, "it can't be") == 1
    page = operator.get(changed.headers["Location"])
    assert ("told: it can&#39;t be" in page.body, "Refresh" in page.headers) == (True, False)
    assert (of("attic").coa, of("attic").coa_port) == ("none", 1701)
    plain = {key: value for key, value in FORM.items() if key != "message_authenticator"}
    operator.post("/routers/attic", plain)
    assert "can be forged" in operator.get("/routers/attic").body
    new = secret_in(operator.post("/routers/attic/secret").body)
    assert seal.open(of("attic").secret) == new != secret
    assert "shown only now" not in operator.post("/routers/attic/secret", {"secret": SECRET}).body
    assert seal.open(of("attic").secret) == SECRET
    assert operator.post("/routers/attic/remove").headers["Location"] == "/routers"
    assert operator.get("/routers/attic").status == 400
    assert granted(box) == 4
    with core_db.connection_context():
        rows = [row for row in Audit.select().order_by(Audit.id) if row.subject == "router attic"]
    assert [row.action for row in rows] == ["added", "changed", "changed", "changed", "changed", "removed"]
    told = "".join(row.changes for row in rows)
    assert not [known for known in (secret, new, SECRET) if known in told]
    assert json.loads(rows[1].changes) == {"coa": ["coa", "none"], "coa_port": [1700, 1701]}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"name": NASTY}, "can&#39;t name a router"),
        ({"address": ""}, "an address is needed"),
        ({"address": "192.0.2.1/24"}, "has host bits set"),
        ({"address": NASTY}, "write 192.0.2.7"),
        ({"coa_port": "x"}, "a port is between 1 and 65535"),
        ({"coa_port": "70000"}, "a port is between 1 and 65535"),
        ({"kind": "gateway"}, "kind: there is no"),
        ({"coa": "all"}, "CoA: there is no"),
        ({"secret": "2short"}, "8 to 64 letters and digits"),
        ({"tunnel": "1"}, "tunnels are off"),
    ],
)
def test_what_cannot_be_is_said_and_what_was_typed_is_kept(operator: Browser, typed: dict[str, str], said: str) -> None:
    reply = operator.post("/routers/new", FORM | {"name": "attic"} | typed)
    assert (reply.status, said in reply.body) == (400, True), reply.body
    assert "<script>alert" not in reply.body
    kept = {"address": "192.0.2.7"} | typed
    assert kept["address"] == "" or f'value="{kept["address"]}"' in reply.body or "&lt;script" in reply.body
    assert "2short" not in reply.body
    operator.post("/routers/new", FORM | {"name": "cellar", "address": "192.0.2.9"})
    if "name" not in typed and "secret" not in typed:
        reply = operator.post("/routers/cellar", FORM | {"address": "192.0.2.9"} | typed)
        assert reply.status == (303 if typed.get("address") == "" else 400)
    clash = operator.post("/routers/new", FORM | {"name": "cellar", "address": "192.0.2.10"})
    assert (clash.status, "cellar" in clash.body) == (400, True), clash.body


def test_the_own_gateway_is_not_for_hands(box: Config, operator: Browser) -> None:  # noqa: F811
    with core_db.connection_context():
        gateway_secret(box, load_box(box.paths.state))
    assert "the configuration sets it up" in operator.get(f"/routers/{GATEWAY}").body
    for where in ("", "/secret", "/remove"):
        assert operator.post(f"/routers/{GATEWAY}{where}", FORM).status == 400
    assert of(GATEWAY).coa_port == 3799


def test_a_script_is_seen_by_operators_only_and_who_saw_it_is_on_record(
    app: Any,  # noqa: F811
    operator: Browser,
) -> None:
    operator.post("/routers/new", FORM | {"name": "attic", "secret": SECRET})
    reader = browser(app, "reader")
    assert "/attic/script" not in reader.get("/routers/attic").body
    assert reader.get("/routers/attic/script").status == 403
    assert reader.post("/routers/attic/script", {"services": "hotspot"}).status == 403
    form = {
        "services": "pppoe",
        "routeros": "7",
        "server": "198.51.100.2",
        "ntp": "192.0.2.123",
        "traffic_flow": "2055",
    }
    assert SECRET not in operator.get("/routers/attic/script").body
    assert SECRET in operator.post("/routers/attic/script", form).body
    file = operator.post("/routers/attic/script", form | {"download": "1"})
    assert file.headers["Content-Disposition"] == 'attachment; filename="attic.rsc"'
    there = routeros.Router((7, 15))
    there.paste(file.body)
    assert there.objects["/radius"][0]["secret"] == SECRET
    assert there.said[-1] == "gatehouse: done"
    for wrong in ({"routeros": "5"}, {"server": NASTY}, {"traffic_flow": "0"}, {"services": "pop"}):
        reply = operator.post("/routers/attic/script", form | wrong)
        assert (reply.status, SECRET in reply.body, "<script>alert" in reply.body) == (400, False, False)
    with core_db.connection_context():
        seen = [row.who for row in Audit.select() if row.action == "saw the script of"]
    assert seen == ["operator", "operator"]


def test_a_router_gets_the_portals_login_page(box: Config, app: Any, operator: Browser) -> None:  # noqa: F811
    operator.post("/routers/new", FORM | {"name": "attic", "address": "127.0.0.2"})
    assert operator.get("/routers/attic/login.html").status == 400  # on loopback no guest would find it
    settled = config.parse(
        f'{box.text}[radius]\npublic_address = "198.51.100.2"\n[portal]\nhttp_port = 8081\n', box.file
    )
    one = browser(frame.Frame(settled).app(), "operator")
    file = one.get("/routers/attic/login.html")
    assert 'action="http://198.51.100.2:8081/mikrotik"' in file.body
    assert file.headers["Content-Disposition"] == 'attachment; filename="login.html"'
    shown = one.get("/routers/attic/script").body
    for name in ("login", "status", "logout", "error"):
        assert f"/routers/attic/{name}.html" in shown
        assert one.get(f"/routers/attic/{name}.html").body.count('name="page"') == (name != "login")
    assert one.get("/routers/attic/alogin.html").status == 400
    there = routeros.Router((7, 15), {"/ip hotspot profile": [{"name": "hsprof1"}]})
    there.paste(one.post("/routers/attic/script", {"services": "hotspot", "routeros": "7", "download": "1"}).body)
    (garden,) = there.objects["/ip hotspot walled-garden ip"]
    assert (garden["dst-address"], garden["dst-port"]) == ("198.51.100.2", "80,443,8081,8443")
    assert browser(app, "reader").get("/routers/attic/login.html").status == 403


def test_a_router_in_a_tunnel_gets_its_script_without_root(box: Config, app: Any, operator: Browser) -> None:  # noqa: F811
    more = '[tunnel]\nenabled = true\n[radius]\npublic_address = "198.51.100.2"\n'
    settled = config.parse(box.text + more, box.file)
    settled.paths.run.mkdir(exist_ok=True)
    own = "c2VydmVyc2VydmVyc2VydmVyc2VydmVyc2VydmVyc2U="
    (settled.paths.run / "tunnel.pub").write_text(own)
    one = browser(frame.Frame(settled).app(), "operator")
    made = one.post("/routers/new", FORM | {"name": "barn", "tunnel": "1", "address": ""})
    assert "through its tunnel" in made.body
    text = one.post("/routers/barn/script", {"services": "hotspot", "routeros": "7", "download": "1"}).body
    assert own in text
    assert of("barn").tunnel_key
    assert one.post("/routers/barn", FORM | {"address": "192.0.2.8"}).status == 303  # the tunnel is taken away
    assert (of("barn").tunnel_address, of("barn").address) == (None, "192.0.2.8")


def test_a_router_is_checked_at_once(box: Config, operator: Browser, router: Router) -> None:  # noqa: F811
    form = FORM | {"address": "127.0.0.1", "coa_port": str(router.port)}
    operator.post("/routers/new", form | {"name": "attic", "secret": SECRET})
    page = operator.post("/routers/attic/check").body
    assert "It was never heard of." in page
    assert "/radius incoming" not in page
    operator.post("/routers/attic/secret", {"secret": "another0secret"})
    page = operator.post("/routers/attic/check").body
    assert "Disconnect and CoA don&#39;t reach it" in page
    assert "another0secret" not in page


def test_a_router_is_silent_after_three_intervals_on_every_page(box: Config, operator: Browser) -> None:  # noqa: F811
    operator.post("/routers/new", FORM | {"name": "attic"})
    told = {"account": "anna", "nas": "attic", "acct_session_id": "1", "mac": "x", "started_at": 1}
    for intervals, is_silent in ((2, False), (4, True)):
        seen_at = int(time.time()) - intervals * box.radius.interim_interval_s
        with core_db.connection_context():
            Session.delete().execute()
            Session.create(unique_id="1", updated_at=seen_at, **told)
            Nas.update(seen_at=seen_at).where(Nas.name == "attic").execute()
        for page in ("/", "/routers", "/routers/attic"):
            assert ("router attic is silent" in operator.get(page).body) == is_silent, page


def test_the_list_shows_how_routers_are_doing(
    box: Config,  # noqa: F811
    operator: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "ADMIN", "root")
    operator.post("/routers/new", FORM | {"name": "attic"})
    operator.post("/routers/new", FORM | {"name": "barn", "address": "192.0.2.8"})
    told = {"account": "anna", "nas": "attic", "acct_session_id": "1", "mac": "x", "started_at": 1, "updated_at": 1}
    with core_db.connection_context():
        Session.create(unique_id="1", **told)
        Session.create(unique_id="2", ended_at=2, **told)
        Nas.update(seen_at=5).where(Nas.name == "attic").execute()
    run.keep(box, run.COMMAND, Report(7, (Finding("router attic", BAD, "It is away."),)))
    page = operator.get("/routers").body
    assert "router attic is silent" in page
    rows = {row["name"]: row for row in json.loads(operator.get("/routers?format=json").body)}
    assert (rows["attic"]["online"], rows["attic"]["doctor"]) == (1, BAD)
    assert (rows["barn"]["online"], rows["barn"]["doctor"], rows["barn"]["wrong"]) == (0, None, None)
    silent = json.loads(operator.get("/routers?format=json&silence=silent").body)
    assert [row["name"] for row in silent] == ["attic"]


def rendered(box: Config) -> list[exporters.Exporter]:  # noqa: F811
    with core_db.connection_context():
        return exporters.parse(NETFLOW.render(box)[0].text)


@pytest.mark.parametrize("hotspot", [True, False], ids=["with the hotspot", "without"])
def test_flows_are_switched_on_where_somebody_keeps_them(box: Config, hotspot: bool) -> None:  # noqa: F811
    one = browser(frame.Frame(box).app(), "operator")
    assert 'name="netflow"' not in one.get("/routers/new").body
    modules.set_enabled(box, HOTSPOT, hotspot)
    modules.set_enabled(box, NETFLOW, True)
    one = browser(frame.Frame(box).app(), "operator")
    assert one.get("/routers").body.count('href="/routers"') == 1, "shared by two modules, there once"
    made = one.post("/routers/new", FORM | {"name": "attic", "netflow": "1", "netflow_from": "192.0.2.7, 2001:DB8::7"})
    assert "kept, from 192.0.2.7 2001:db8::7" in made.body
    (attic,) = [e for e in rendered(box) if e.name == "attic" and e.network.version == 6]
    assert (str(attic.network), attic.collected) == ("2001:db8::7/128", True)
    wrong = one.post("/routers/attic", FORM | {"netflow": "1", "netflow_from": NASTY})
    assert (wrong.status, "<script>alert" in wrong.body) == (400, False)
    one.post("/routers/attic", FORM | {"netflow_from": ""})
    assert (of("attic").netflow, of("attic").netflow_from) == (False, "")


def test_what_no_form_shows_stays(box: Config, operator: Browser) -> None:  # noqa: F811
    operator.post("/routers/new", FORM | {"name": "attic"})
    with core_db.connection_context():
        Nas.update(netflow=True, netflow_from="192.0.2.8").execute()
    operator.post("/routers/attic", FORM | {"coa": "none"})
    assert (of("attic").coa, of("attic").netflow, of("attic").netflow_from) == ("none", True, "192.0.2.8")
