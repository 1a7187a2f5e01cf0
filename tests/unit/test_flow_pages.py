"""The pages of flows: with data, without, with the disk away, with nasty words, for each role."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import jsonschema  # type: ignore[import-untyped]
import pytest
import schemathesis

from appliance import data_disk, modules, wishes
from appliance.accounts.models import core_db
from appliance.admin import frame, people
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from appliance.nas.models import Nas
from appliance.sites.models import Site
from collector import checks, facts, noted, places, web_parts, worker
from collector.decoding.batch import WRONG_ORDER
from collector.module import NETFLOW
from collector.noted import Noted
from collector.store.catalog import Catalog
from collector.store.models import CATALOG
from collector.sums import BY
from portal.module import HOTSPOT
from tests.flows import bulk
from tests.unit import flow_box, test_admin, test_api, test_metrics, test_sealing
from tests.unit.flow_box import CLIENT, NOW, ROUTER, SERVER, STRANGER
from tests.unit.test_admin import NASTY, Browser, browser
from tests.unit.test_api import Program

PAGES = ("/flows", "/flows?from=1d+ago", "/flows/statistics", "/flows/exporters", "/flows/storage")
CERTIFICATE = {
    "present": 99_959,
    "lost": 41,
    "losses": [[1, (NOW - 700) * 1000, (NOW - 600) * 1000, 41, "sequence"]],
    "complete_until_ms": NOW * 1000,
    "notes": [],
}


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    """SQLite only: of the core database these pages ask what others' tests ask of both engines."""
    return f"sqlite:///{tmp_path / 'core.db'}"


@pytest.fixture
def box(toml: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Config]:
    toml.write_text(toml.read_text().replace("[paths]\n", f'[paths]\ndata = "{tmp_path}/data"\n'))
    loaded: Config = request.getfixturevalue("hotspot")
    modules.set_enabled(loaded, NETFLOW, True)
    yield loaded


hotspot = test_admin.box  # with the hotspot, and one person of each role


@pytest.fixture
def full(box: Config) -> Config:
    with core_db.connection_context():
        flow_box.fill(box)
    return box


@pytest.fixture
def reader(box: Config) -> Browser:
    return browser(frame.Frame(box, lambda: NOW).app(), "reader")


@pytest.fixture
def operator(box: Config) -> Browser:
    return browser(frame.Frame(box, lambda: NOW).app(), "operator")


@pytest.fixture
def owner(box: Config) -> Browser:
    return browser(frame.Frame(box, lambda: NOW).app(), "owner")


class Answers:
    """In the worker's place: what it was asked, and what it says."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.rows = rows
        self.totals: Mapping[str, Any] = {}
        self.error: UserError | None = None
        self.closed = 0

    def __call__(self, config: Config, request: Mapping[str, Any], timeout_s: float = 0) -> Iterator[Any]:
        self.asked.append(request)
        try:
            if self.error:
                raise self.error
            if request["ask"] == "totals":
                yield self.totals
                return
            if request["ask"] == "csv":
                yield b"src,dst\n"
                yield b"10.10.0.5,198.51.100.80\n"
            else:
                names = request["columns"] or [*request["group"], "flows", "packets", "bytes"]
                yield {"columns": [{"name": name} for name in names]}
                yield {"rows": [[row.get(name) for name in names] for row in self.rows]}
            yield {"certificate": CERTIFICATE, "exporters": [[1, "attic"]], "lines": ["99.95 % of flows present"]}
        finally:
            self.closed += 1


FLOW = {
    "first": "2026-11-26T14:00:00.123+01:00",
    "duration": 1500,
    "exporter": "attic",
    "protocol": "tcp",
    "src": CLIENT,
    "src_port": 40_000,
    "dst": SERVER,
    "dst_port": 443,
    "packets": 12,
    "bytes": 1_500_000,
    "flows": 3,
}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    found = Answers([FLOW])
    monkeypatch.setattr(worker, "ask", found)
    return found


def test_each_page_says_something_before_the_first_flow(reader: Browser, answers: Answers) -> None:
    for url in PAGES:
        assert reader.get(url).status == 200, url
    assert "No router sends flows yet" in reader.get("/flows/exporters").body
    assert "nothing is kept yet" in reader.get("/flows/storage").body
    assert "nothing is kept yet" in reader.get("/flows/statistics").body
    assert 'href="/flows?q=host+10.1.2.3' in reader.get("/flows").body
    assert not answers.asked[1:]


def test_a_search_is_its_url(full: Config, reader: Browser, answers: Answers) -> None:
    shown = reader.get("/flows?q=dst+port+443&from=2h+ago&sort=-bytes&limit=20&columns=src,dst,bytes").body
    asked = answers.asked[-1]
    assert {key: asked[key] for key in ("filter", "order", "limit", "columns", "group")} == {
        "filter": "dst port 443",
        "order": "-bytes",
        "limit": 20,
        "columns": ["src", "dst", "bytes"],
        "group": [],
    }
    assert 7_100_000 < asked["until_ms"] - asked["since_ms"] < 7_300_000
    view = "/flows?q=dst+port+443&amp;from=2h+ago&amp;sort=-bytes&amp;columns=src%2Cdst%2Cbytes&amp;limit=20"
    assert f'href="{view}&amp;format=csv"' in shown
    assert f'href="{view.replace("-bytes", "bytes")}"' in shown  # a second click turns the order round
    assert f"q=dst+port+443+and+src+host+{CLIENT}&amp;" in shown
    assert 'aria-sort="descending"' in shown
    assert "99.95 % of the flows are here" in shown
    assert "sequence gap" in shown
    assert ">attic</td>" in shown  # in the certificate's losses, by its name


def test_a_grouped_search_shows_sums(full: Config, reader: Browser, answers: Answers) -> None:
    shown = reader.get("/flows?group=src&group=&sort=-flows&q=proto+tcp+or+proto+udp").body
    assert (answers.asked[-1]["group"], answers.asked[-1]["order"]) == (["src"], "-flows")
    assert f"q=%28proto+tcp+or+proto+udp%29+and+src+host+{CLIENT}" in shown


def test_files_are_of_that_view_and_all_rows_can_be_had(full: Config, reader: Browser, answers: Answers) -> None:
    reply = reader.get("/flows?q=any&limit=20&format=csv")
    assert reply.body == "src,dst\n10.10.0.5,198.51.100.80\n"
    assert reply.headers["Content-Disposition"].startswith('attachment; filename="flows-2')
    assert answers.asked[-1]["limit"] == 20
    as_json = json.loads(reader.get("/flows?columns=src,bytes&q=any&limit=0&format=json").body)
    assert as_json == {"flows": [{"src": CLIENT, "bytes": 1_500_000}], "certificate": ["99.95 % of flows present"]}
    assert answers.asked[-1]["limit"] is None
    answers.error = UserError("the search was broken off")
    assert reader.get("/flows?q=any&format=csv").status == 400
    answers.error = None
    assert reader.get("/flows?q=any&format=csv").status == 200  # whatever went wrong, the turn is given back
    assert answers.closed == len(answers.asked)


def test_what_is_wrong_is_said_at_its_field_and_kept(full: Config, reader: Browser, answers: Answers) -> None:
    shown = reader.get("/flows?q=host+10.1.2.3+adn+port+25")
    assert (shown.status, answers.asked) == (400, [])
    assert 'aria-invalid="true"' in shown.body
    assert "filter, position 15" in shown.body
    assert f"host 10.1.2.3 adn port 25\n{' ' * 14}^" in shown.body
    assert 'value="host 10.1.2.3 adn port 25"' in shown.body
    late = reader.get("/flows?q=any&from=whenever&to=now")
    assert (late.status, "From: &#39;whenever&#39; is no time" in late.body) == (400, True)
    assert 'value="whenever"' in late.body
    assert reader.get("/flows?q=any&from=now&to=1h+ago").status == 400
    assert reader.get("/flows?q=any&limit=x").status == 400
    answers.error = Unavailable("the search took longer than 30 s: ask a shorter period")
    assert "ask a shorter period" in reader.get("/flows?q=any").body


def test_nasty_words_are_escaped(full: Config, operator: Browser, answers: Answers) -> None:
    answers.rows = [dict.fromkeys(FLOW, NASTY), dict.fromkeys(FLOW, "<script>alert</script>")]  # one is a link
    with core_db.connection_context():
        Nas.update(name=NASTY).where(Nas.name == "attic").execute()
    for url in (
        "/flows?" + "q=%3Cscript%3Ealert(1)%3C/script%3E&from=%3Cscript%3Ealert(1)%3C/script%3E",
        "/flows?q=any&sort=%3Cscript%3Ealert&group=%3Cscript%3Ealert&columns=%3Cscript%3Ealert",
        "/flows?q=any",
        "/flows/statistics?from=%3Cscript%3Ealert(1)%3C/script%3E&by=%3Cscript%3Ealert",
        "/flows/statistics?from=3h+ago",
        "/flows/exporters",
        "/flows/storage",
        "/",
    ):
        reply = operator.get(url)
        assert "<script>alert" not in reply.body, url
        assert reply.status in (200, 400), url


def test_statistics_come_from_the_sums(full: Config, reader: Browser, answers: Answers) -> None:
    shown = reader.get("/flows/statistics?from=1h+ago&by=bytes").body
    assert not answers.asked
    rows = re.findall(r"<tr><td>(?:<a [^>]+>)?([^<]+)(?:</a>)?</td><td class=\"bar\">", shown)
    for name in ("tcp/https", "udp/dns", "tcp", "udp", "10.10.0.8", "198.51.100.88", "attic", "attic, 1", "anna"):
        assert name in rows, name
    assert rows.index("tcp/https") < rows.index("udp/dns")
    assert 'href="/flows?q=proto+tcp+and+port+https&amp;from=1h+ago&amp;to=now"' in shown
    assert 'href="/accounts/anna"' in shown
    assert shown.count('class="s0"') > 50  # the bars of the largest service
    assert "style=" not in shown
    by_flows = reader.get("/flows/statistics?from=1h+ago&by=flows").body
    assert by_flows.index("udp/dns") < by_flows.index("tcp/https")
    assert "Nothing was counted" in reader.get("/flows/statistics?from=400d+ago&to=399d+ago").body


@pytest.fixture
def fleet(full: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """As one of three sites, whose flows are in a cluster; the database stays a file here."""
    monkeypatch.setattr(Config, "fleet", True)
    with core_db.connection_context():
        for number, key in enumerate(("north", "south", "west")):
            Site.create(key=key, title=key, created_at=number, changed_at=number)
    store = replace(full.netflow, store="clickhouse://box@ch1,ch2/flows?cluster=hotspots")
    return replace(full, netflow=store, site=replace(full.site, key="north"))


def test_another_site_is_asked_for_by_its_key(fleet: Config, answers: Answers) -> None:
    reader = browser(frame.Frame(fleet, lambda: NOW).app(), "reader")
    form = reader.get("/flows").body
    assert re.findall(r"<option>(north|south|west)</option>", form) == ["south", "west"]
    shown = reader.get("/flows?q=any&site=south").body
    assert answers.asked[-1]["site"] == "south"
    assert "<option selected>south</option>" in shown
    assert f"src+host+{CLIENT}&amp;from=1h+ago&amp;site=south" in shown
    assert reader.get("/flows?q=any&site=south&format=csv").status == 200
    assert (answers.asked[-1]["ask"], answers.asked[-1]["site"]) == ("csv", "south")
    row = {"key": "tcp/https", "flows": 3, "packets": 12, "bytes": 1_500_000}
    answers.totals = {
        "steps": [{"at_ms": (NOW - 600) * 1000, **row}],
        "clients": [],
        "tables": {by: [row] if by == "service" else [] for by in BY},
        "certificate": CERTIFICATE,
        "exporters": [[1, "attic"]],
    }
    shown = reader.get("/flows/statistics?from=1h+ago&site=south").body
    assert [answers.asked[-1][name] for name in ("ask", "site", "order")] == ["totals", "south", "bytes"]
    assert 'href="/flows?q=proto+tcp+and+port+https&amp;site=south&amp;from=1h+ago&amp;to=now"' in shown
    assert 'from=today&amp;to=now&amp;by=bytes&amp;site=south"' in shown  # a preset
    assert ">attic</td>" in shown  # in the certificate's losses
    assert "tcp/https" in reader.get("/flows/statistics?from=1h+ago&site=north").body  # its own: the worker isn't asked
    assert answers.asked[-1]["site"] == "south"
    answers.error = UserError("the cluster has no flows of a site 'east'; there are: south")
    for url in ("/flows?q=any&site=east", "/flows/statistics?site=east"):
        reply = reader.get(url)
        assert (reply.status, "no flows of a site &#39;east&#39;" in reply.body) == (400, True), url
    for url in ("/flows?q=any&site=%3Cscript%3E", "/flows/statistics?site=%3Cscript%3E"):
        reply = reader.get(url)
        assert (reply.status, "<script>" in reply.body, "be the key of one" in reply.body) == (400, False, True), url


def test_no_site_is_offered_where_each_keeps_its_own(fleet: Config, answers: Answers) -> None:
    alone = replace(fleet, netflow=replace(fleet.netflow, store=""))
    reader = browser(frame.Frame(alone, lambda: NOW).app(), "owner")
    for url in ("/flows", "/flows/statistics", "/flows/who"):
        assert 'name="site"' not in reader.get(url).body


def test_exporters_and_who_should_be_one(full: Config, operator: Browser) -> None:
    shown = operator.get("/flows/exporters").body
    collected, rest = shown.split("Switched on, and not heard yet")
    waiting, others = rest.split("They send, and nothing of it is kept")
    assert (ROUTER in collected, "hall" in waiting, STRANGER in others) == (True, True, True)
    assert "Add it as a router" in others
    assert operator.get("/flows/exporters/hall").status == 200
    page = operator.get("/flows/exporters/attic").body
    assert f"exporter+{ROUTER}" in page
    assert "20.0 each second now" in page
    assert operator.get("/flows/exporters/nobody").status == 400


def test_a_router_is_switched_on_by_the_page(full: Config, operator: Browser, reader: Browser) -> None:
    with core_db.connection_context():
        Nas.update(address=STRANGER).where(Nas.name == "shed").execute()
    assert "Keep flows of shed" in operator.get("/flows/exporters").body
    assert "Keep flows of shed" not in reader.get("/flows/exporters").body
    assert reader.post("/flows/exporters/shed/switch", {"on": "yes"}).status == 403
    assert operator.post("/flows/exporters/shed/switch", {"on": "yes"}).status == 303
    with core_db.connection_context():
        assert Nas.get(Nas.name == "shed").netflow
        last = Audit.select().order_by(Audit.id.desc()).get()
    assert (last.who, last.subject, json.loads(last.changes)) == ("operator", "router shed", {"netflow": [False, True]})
    with wishes.folder(full.paths.state) as folder:
        assert len(list(wishes.waiting(folder))) == 1
    assert operator.post("/flows/exporters/shed/switch", {"on": "no"}).status == 303
    with core_db.connection_context():
        assert not Nas.get(Nas.name == "shed").netflow


def test_storage_says_how_the_cluster_is(full: Config) -> None:
    store = replace(full.netflow, store="clickhouse://box@ch1,ch2/flows?cluster=hotspots")
    of = replace(full, netflow=store)
    reader = browser(frame.Frame(of, lambda: NOW).app(), "reader")
    shown = reader.get("/flows/storage").body
    assert "the process that loads flows into the cluster doesn" in shown
    assert "5,000 flows wait for the cluster" in shown
    said = {"at_ms": NOW * 1000, "problem": "", "hosts": {"ch1:9000": "", "ch2:9000": "<b>"}, "missing": [2]}
    (of.paths.run / places.RUN).mkdir(parents=True, exist_ok=True)
    (of.paths.run / places.CLUSTER).write_text(json.dumps(said | {"shards": 2}))
    shown = reader.get("/flows/storage").body
    assert "<td>ch1:9000</td><td>answers</td>" in shown
    assert "<td>ch2:9000</td><td>&lt;b&gt;</td>" in shown
    assert "of shard 2 no host" in shown
    assert "in the cluster for 180." in shown


def test_storage_with_a_forecast(full: Config, reader: Browser) -> None:
    shown = reader.get("/flows/storage").body
    assert "5,000 flows from" in shown
    assert "180 days of it need" in shown
    assert "case 7" in shown
    assert "Hold these flows" not in shown


def test_the_disk_goes_away(full: Config, reader: Browser, answers: Answers) -> None:
    flow_box.unplug(full)
    answers.error = UserError("no flows are kept there")
    for url in PAGES:
        assert reader.get(url).status in (200, 400), url
    shown = reader.get("/flows/exporters").body
    assert "Who sends can’t be told" in shown
    assert "attic" in shown  # it is switched on all the same
    assert "data disk is away" in reader.get("/flows/storage").body


def test_the_first_page_says_it(full: Config, reader: Browser) -> None:
    shown = reader.get("/").body
    assert "flows of the last day" in shown
    assert "no flows yet from hall" in shown


def test_the_search_box_leads_to_flows(full: Config, reader: Browser) -> None:
    shown = reader.get("/search?q=10.99.0.7").body
    assert 'href="/flows?q=host+10.99.0.7&amp;from=1d+ago"' in shown
    assert "/flows?q=host" not in reader.get("/search?q=25").body


def test_the_pages_load_neither_numpy_nor_duckdb(full: Config) -> None:
    """They would cost the admin's process ten times its memory."""
    code = (
        "import sys; from pathlib import Path; from appliance import config; from appliance.admin import frame;"
        "from appliance.api import metrics, resources;"
        f"c = config.load(Path({str(full.file)!r})); frame.Frame(c).app(); metrics.collectors(c);"
        "from appliance.doctor import run; import collector.checks;"
        "assert 'collector.web' in sys.modules;"
        "print([name for name in ('numpy', 'duckdb', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


FOUND = {
    "client": CLIENT,
    "port": 40_000,
    "how": "flow through NAT",
    "first_ms": (NOW - 100) * 1000,
    "last_ms": None,
    "flows": 2,
    "off_ms": 1500,
    "held": {"account": NASTY, "mac": NASTY, "session": 1, "nas": NASTY, "since_ms": NOW * 1000, "until_ms": None},
}
TOLD = {
    "subject": "address 198.51.100.20 port 40000 at …",
    "site": "north",
    "found": [FOUND, FOUND | {"held": None}],
    "accounts": [NASTY],
    "slack_ms": 6000,
    "clocks": [{"exporter": 1, "ahead_ms": 1000, "behind_ms": 200, "flows": 7, "router": NASTY}],
    "lines": ["all of 7"],
}
QUESTION = {"ip": "198.51.100.20", "port": "40000", "protocol": "tcp", "slack": "5", "reason": "case 7"}


def test_whose_an_address_was(full: Config, owner: Browser, operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mapping[str, Any]] = []

    def ask(config: Config, request: Mapping[str, Any], timeout_s: float) -> Iterator[Any]:
        asked.append(request)
        yield TOLD

    monkeypatch.setattr(worker, "ask", ask)
    assert operator.get("/flows/who").status == 403
    at = {"at": "2026-10-25T02:30:00+01:00"}
    shown = owner.post("/flows/who", QUESTION | at)
    assert (shown.status, "<script>alert" in shown.body) == (200, False)
    assert asked[-1] == {
        "ask": "who",
        "site": "",
        "ip": "198.51.100.20",
        "port": 40_000,
        "protocol": 6,
        "at_ms": 1_792_891_800_000,
        "slack_ms": 5000,
        "who": "owner",
        "reason": "case 7",
    }
    assert "2026-10-25 02:29:54 to 2026-10-25 02:30:06" in shown.body
    assert "a flow that was translated to it, 2 flows" in shown.body
    assert 'href="/audit?q=address%20198.51.100.20"' in shown.body
    for wrong, said in (
        ({"ip": "1.2.3"}, "Address: &#39;1.2.3&#39;"),
        ({"port": "70000"}, "Port: &#39;70000&#39;"),
        ({"reason": " "}, "Reason: say why"),
        ({"at": "noon"}, "Time: &#39;noon&#39;"),
        ({"protocol": "x"}, "Protocol: there are"),
        ({"slack": "7"}, "Clock: choose"),
        ({"site": "So<th"}, "Site: &#39;So&lt;th&#39; can&#39;t be"),
    ):
        reply = owner.post("/flows/who", QUESTION | at | wrong)
        assert (reply.status, said in reply.body, 'value="case 7"' in reply.body) == (400, True, "reason" not in wrong)
    assert len(asked) == 1
    shown = owner.post("/flows/who", QUESTION | at | {"site": "south"})
    assert (asked[-1]["site"], "<dt>Site</dt><dd>north</dd>" in shown.body) == ("south", True)  # as it is answered


def test_flows_are_held_and_released(full: Config, owner: Browser, operator: Browser) -> None:
    """By the sealer, which the pages ask over its socket; without it nothing is said to be held."""
    form = {"from": "yesterday", "to": "now", "reason": "case 8"}
    assert operator.post("/flows/holds/new", form).status == 403
    away = owner.post("/flows/holds/new", form)
    assert (away.status, "doesn&#39;t answer" in away.body, 'value="case 8"' in away.body) == (400, True, True)
    with flow_box.holder(full):
        assert owner.post("/flows/holds/new", form | {"reason": ""}).status == 400
        assert owner.post("/flows/holds/new", form).status == 303
        assert "case 8" in owner.get("/flows/storage").body
        assert owner.post("/flows/holds/2/release", {"reason": "closed"}).status == 303
        assert "released" in owner.get("/flows/storage").body
        assert owner.post("/flows/holds/2/release", {"reason": "again"}).status == 400
        assert owner.post("/flows/holds/x/release", {"reason": "again"}).status == 400
    with core_db.connection_context():
        found = [(a.who, a.action, a.subject) for a in Audit.select().where(Audit.subject.contains("hold"))]
    assert found == [("owner", "held", "flows hold 2"), ("owner", "released", "flows hold 2")]


# Programs


@pytest.fixture
def program(full: Config) -> Program:
    with core_db.connection_context():
        token = people.add_token("billing", "reader")
    return Program(frame.Frame(full, lambda: NOW).app(), token)


def test_programs_search_and_sum_too(program: Program, answers: Answers) -> None:
    found = program.get(f"/flows?filter=host+{CLIENT}&from={NOW - 7200}&to={NOW}&order=-bytes&limit=5")
    assert found["items"][0] | {"src": CLIENT, "bytes": 1_500_000, "vlan": None} == found["items"][0]
    assert found["certificate"]["losses"][0] == {
        "exporter": "attic",
        "since_ms": (NOW - 700) * 1000,
        "until_ms": (NOW - 600) * 1000,
        "flows": 41,
        "cause": "sequence",
    }
    asked = answers.asked[-1]
    assert (asked["since_ms"], asked["until_ms"], asked["limit"]) == ((NOW - 7200) * 1000, NOW * 1000, 5)
    answers.error = UserError("filter, position 1: a condition is expected here")
    assert "position 1" in program.refused("GET", "/flows?filter=x")[1]
    answers.error = Unavailable("2 searches run already: try again in a moment")
    assert program.refused("GET", "/flows")[0] == 503
    top = program.get(f"/flows/top?by=client&limit=2&from={NOW - 3600}")["items"]
    assert [row["key"] for row in top] == ["10.10.0.8", "10.10.0.7", "other"]
    steps = program.get(f"/flows/over-time?step=600&by=service&from={NOW - 3600}&to={NOW}")
    assert {row["key"] for row in steps["items"]} == {"tcp/https", "udp/dns"}
    assert steps["items"][0]["at"] % 600 == 0
    assert 59 * 300 <= sum(row["flows"] for row in steps["items"] if row["key"] == "tcp/https") <= 70 * 300
    senders = {row["address"]: row for row in program.get("/exporters")["items"]}
    assert (senders[ROUTER]["router"], senders[ROUTER]["datagrams"], senders[ROUTER]["lost_flows"]) == ("attic", 30, 41)
    assert (senders[STRANGER]["router"], senders[STRANGER]["on"]) == (None, False)
    for query in ("?limit=2000", "?from=5&to=5", "?order=colour", "/top?by=colour", "/over-time?step=60&from=0"):
        assert program.refused("GET", f"/flows{query}")[0] == 400, query


def test_the_document_fits_the_answers(full: Config, program: Program, answers: Answers) -> None:
    document = program.get("/openapi.json")
    for name, query in (("flows", ""), ("flows/top", ""), ("flows/over-time", "?by=protocol"), ("exporters", "")):
        schema = document["paths"][f"/api/v1/{name}"]["get"]["responses"]["200"]["content"]["application/json"]
        answer = program.get(f"/{name}{query}")
        jsonschema.validate(answer, {**schema["schema"], "components": document["components"]})
        assert answer["items"], name


def test_figures_for_prometheus(full: Config, program: Program) -> None:
    found = test_metrics.scrape(program)
    expected = {
        ("flow_storage_up",): 1,
        ("flow_datagrams_total", ROUTER, "yes"): 30,
        ("flow_datagrams_total", STRANGER, "no"): 12,
        ("flow_datagram_bytes_total", ROUTER, "yes"): 12_000,
        ("flow_flows",): 5000,
        ("flow_segments",): 1,
        ("flow_segment_bytes",): 70_000,
        ("flow_lost_flows", "sequence"): 41,
        ("flow_dropped_datagrams", "kernel"): 3,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert 0 < found["flow_journal_lag_seconds",] < 600
    handbook = (Path(__file__).parents[2] / "docs/netflow.md").read_text(encoding="utf-8")
    for name, *_ in found:
        assert not name.startswith("flow_") or f"gatehouse_{name}" in handbook, name
    flow_box.unplug(full)
    assert test_metrics.scrape(program)["flow_storage_up",] == 0


# The doctor of routers


def test_the_doctor_says_what_is_wrong_with_a_router(full: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with core_db.connection_context():
        found = list(checks.routers(full))
    said = {finding.subject: finding for finding in found}
    assert "1m30s behind" in said["flows of attic"].sentence
    assert "/system ntp client set enabled=yes" in said["flows of attic"].commands
    assert "has sent nothing yet" in said["flows of hall"].sentence
    assert STRANGER in said["flows of others"].sentence
    with core_db.connection_context():
        Nas.update(netflow=False).where(Nas.name == "attic").execute()
        said = {finding.subject: finding for finding in checks.routers(full)}
    assert said["flows of attic"].commands == ("gatehouse nas set attic --netflow on", "gatehouse apply")
    monkeypatch.setattr(data_disk, "ready", lambda config: config.paths.data)
    kept = list(checks.kept(full))
    assert any("3 datagrams of the last day were lost here (kernel)" in finding.sentence for finding in kept)


@pytest.mark.parametrize(
    ("of", "sentence", "command"),
    [
        (Noted(waiting=900, waiting_since_ms=1), "wait for a template", "v9-template-refresh=20"),
        (Noted(refused={"cut": 3, "version": 9}), "12 pieces of what it sent couldn't be read", "check-for-updates"),
        (Noted(behind_ms=-7000), "Its clock is 7s ahead", "ntp client"),
        (Noted(behind_ms=0, drift_ms=9000), "goes wrong by 9 seconds a day", "ntp client"),
        (Noted(flows=10, timeless=9), "no absolute time", "version=9"),
        (Noted(notes={WRONG_ORDER: 1}), "the wrong way round", "version=ipfix"),
        (Noted(flows=9, suspect=2), "2 of its flows have counters or times that can't be", "check-for-updates"),
        (Noted(sampling=128), "one packet in 128", "packet-sampling=no"),
        (Noted(flows=900, inside=0.0), "it sees them after NAT", "traffic-flow set interfaces="),
        (Noted(radius_bytes=10**9, flow_bytes=10**8), "10.0 times as much", "fasttrack-connection"),
        (Noted(flows=9000, lost=1000), "1,000 of its flows (10.00%)", ""),
        (Noted(jumps=7), "was set 7 times", "ntp client"),
        (Noted(notes={"restart": 9}), "started anew 9 times", "/log print"),
    ],
)
def test_each_doubt_has_the_command_that_mends_it(of: Noted, sentence: str, command: str) -> None:
    (doubt,) = noted.doubts(of, "dst-address=192.0.2.1", NOW)
    assert sentence in doubt.sentence
    assert command in "\n".join(doubt.commands)
    assert "TARGET" not in "\n".join(doubt.commands)
    (other,) = noted.doubts(of, "", NOW)
    assert not other.commands  # what isn't RouterOS has no such words


def test_where_a_router_looks_is_told_by_its_clients(full: Config) -> None:
    def inside() -> float | None:
        (one,) = [heard for heard in facts.heard(full, NOW) if heard.address == ROUTER]
        assert one.noted.flow_bytes > 10**8
        return one.noted.inside

    assert inside() == 1.0
    with Catalog(flow_box.folder(full) / CATALOG, write=True) as catalog, catalog.transaction():
        catalog.run("UPDATE total_hour SET thing = x'05000001' WHERE kind = 1 AND thing = x'0a0a0001'")
    assert inside() == 0.875
    with Catalog(flow_box.folder(full) / CATALOG, write=True) as catalog, catalog.transaction():
        catalog.run("DELETE FROM total_hour WHERE kind = 1 AND thing <> x'05000001'")
    assert inside() == 0.0


def test_a_router_that_is_well_is_left_alone() -> None:
    fine = Noted(
        versions=(9,), sampling=1, flows=9000, behind_ms=200, drift_ms=10, inside=0.9, lost=2, flow_bytes=10**9,
        radius_bytes=10**9,
    )  # fmt: skip
    assert list(noted.doubts(fine, "x", NOW)) == []


def test_what_was_noticed_is_of_today_and_yesterday() -> None:
    seen, day = flow_box.Seen(skew_ms=500, waiting=0), 86_400_000
    kept: dict[str, Any] = {}
    for at_ms in (10 * day, 10 * day + 7_200_000, 11 * day, 12 * day):
        refused = {(3, "cut"): 1}
        kept = json.loads(json.dumps(noted.added(kept, {3: seen}, refused, {}, {}, at_ms)))
        seen = seen._replace(skew_ms=seen.skew_ms + 1000, jumps=seen.jumps + 1)
    found = noted.read(kept["3"])
    assert (found.flows, found.refused, found.jumps) == (2000, {"cut": 2}, 2)
    assert found.drift_ms == 2000 * 24 // 46
    assert found.behind_ms == 2500
    waits = noted.added(kept, {3: seen._replace(waiting=5)}, {}, {}, {}, 12 * day + 1)
    still = noted.added(waits, {3: seen._replace(waiting=9)}, {}, {}, {}, 12 * day + 9)
    assert noted.read(still["3"]).waiting_since_ms == 12 * day + 1
    assert noted.read(noted.added(still, {3: seen}, {}, {}, {}, 12 * day + 10)["3"]).waiting == 0


# What is asked of all pages and routes


def test_who_may_what(full: Config, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    app, every = frame.Frame(full, lambda: NOW).app(), test_admin.routes(full)
    ours = [page for page in every if page.path.startswith(("/flows", "/api/v1/flows", "/api/v1/exporters"))]
    assert len(ours) > 10
    monkeypatch.setattr(test_admin, "routes", lambda box: ours)
    test_admin.test_no_page_is_shown_to_strangers(full, app)
    test_admin.test_forms_need_their_token(full, app)
    for role in people.ROLES:
        test_admin.test_each_role_reaches_its_own_pages_only(full, app, role)


def test_answers_are_as_described(full: Config, answers: Answers) -> None:
    """Whatever fits the document."""
    app = frame.Frame(full, lambda: NOW).app()
    with core_db.connection_context():
        program = Program(app, people.add_token("tester", "owner"))
    schema = schemathesis.openapi.from_wsgi(f"{test_api.ROOT}/openapi.json", test_api.let_in(app, program))
    ours = ("/flows", "/flows/top", "/flows/over-time", "/exporters")
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    found = [one for one in operations if one.path.removeprefix(test_api.ROOT) in ours]
    assert len(found) == len(ours)
    for operation in found:
        test_api.check(operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE), program, 3)


def test_from_a_datagram_to_the_page(box: Config, reader: Browser) -> None:
    """With the sealer and the worker themselves."""
    here = flow_box.folder(box)
    here.mkdir(parents=True)
    with core_db.connection_context():
        Nas.create(name="roof", address=test_sealing.ROUTER, secret=b"", netflow=True)
    sent = bulk.some_flows(3000, 1, (NOW - 1800) * 1000)
    test_sealing.send(here, sent)
    assert test_sealing.seal(here) == 1
    try:
        shown = reader.get("/flows?from=1h+ago&sort=-bytes&limit=20").body
        assert "All flows are here" in shown
        assert shown.count('<a href="/flows?q=exporter+roof') == 20
        assert f"{web_parts.octets(int(sent['bytes'].max()))}</td>" in shown
        narrower = re.search(r'href="(/flows\?q=src\+host[^"]+)"', shown)
        assert narrower
        client = unquote_plus(narrower[1]).split("src host ")[1].split("&")[0]
        inside = reader.get(narrower[1].replace("&amp;", "&")).body
        link = r'<a href="/flows\?q=[^"]+'
        sources = re.findall(rf'<td>{link}">([0-9a-f.:]+)</a></td><td>{link}src\+port', inside)
        assert set(sources) == {client}
        lines = reader.get("/flows?from=1h+ago&limit=0&format=csv").body.splitlines()
        assert (lines[0].split(",")[:2], len(lines)) == (["first", "duration"], 3001)
        assert len(json.loads(reader.get("/flows?from=1h+ago&limit=7&format=json").body)["flows"]) == 7
        unknown = reader.get("/flows?q=exporter+nobody").body
        assert "no exporter is called &#39;nobody&#39;; there are: roof" in unknown
    finally:
        worker._POOL.close()
    statistics = reader.get("/flows/statistics?from=1h+ago&by=flows").body
    assert "3,000" in statistics
    assert "<dd>IPFIX</dd>" in reader.get("/flows/exporters/roof").body


def test_without_the_hotspot_all_of_it_is_there(full: Config, answers: Answers) -> None:
    modules.set_enabled(full, HOTSPOT, False)
    alone = browser(frame.Frame(full, lambda: NOW).app(), "owner")
    for url in ("/", *PAGES, "/flows/who", "/flows/exporters/attic", "/routers", "/api"):
        assert alone.get(url).status == 200, url
    assert alone.get("/flows/statistics?from=1h+ago").status == 200
