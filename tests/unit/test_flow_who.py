"""Whose an address was: through NAT and sessions to the account, with what the clocks leave open, and on record."""

import json
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance import cli, config, db
from appliance.accounts.database import open_core
from appliance.accounts.models import Session, core_db
from appliance.admin import audit
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.nas.models import Nas
from collector import search, whose
from collector.filters import vocabulary
from collector.flows import FLOW
from collector.whose import Holding, disjoint
from tests.flows.kept import keep

T = 1_790_000_000_000  # all happens around this moment
PUBLIC, SHARED, ONE_TO_ONE = "203.0.113.7", "203.0.113.8", "203.0.113.99"
ANNA, BEN, CARL = "10.0.0.1", "10.0.0.2", "10.0.0.3"
SESSIONS = (  # account, address, begin and end in s from T, address outside
    ("anna", ANNA, -3600, 1800, None),
    ("dora", ANNA, 1800, None, None),
    ("ben", BEN, -3600, None, None),
    ("carl", CARL, -86_400, None, ONE_TO_ONE),
)


def flow(src: str, dst: str, begin_s: float, end_s: float, lag_s: float = 15.0, **other: Any) -> Any:
    found = np.zeros(1, FLOW)
    found["first"], found["last"] = T + begin_s * 1000, T + end_s * 1000
    found["received"] = T + (end_s + lag_s) * 1000
    found["exporter"], found["family"], found["protocol"], found["packets"] = 1, 4, 6, 1
    ends: dict[str, str] = {
        "src": src,
        "dst": dst,
        **{side: other.pop(side) for side in ("nat_src", "nat_dst") if side in other},
    }
    for side, text in ends.items():
        address, _, port = text.partition(":")
        found[f"{side}_lo"], found[f"{side}_port"] = int(IPv4Address(address)), int(port or 0)
    for name, value in other.items():
        found[name] = value
    return found


WEB = "198.51.100.1:443"
FLOWS = (
    flow(f"{ANNA}:5000", WEB, -60, 60, nat_src=f"{PUBLIC}:40000", nat_dst=WEB),
    flow(f"{BEN}:6000", WEB, -60, 60, nat_src=f"{PUBLIC}:40001", nat_dst=WEB),
    flow(WEB, f"{PUBLIC}:40002", -60, 60, nat_src=WEB, nat_dst=f"{BEN}:6001"),
    flow(f"{BEN}:5353", WEB, -60, 60, protocol=17, nat_src=f"{PUBLIC}:40000", nat_dst=WEB),
    flow("10.0.0.77:1", WEB, -60, 60, nat_src=f"{PUBLIC}:40003"),
    flow(f"{ANNA}:7000", WEB, 1799, 1801, nat_src=f"{PUBLIC}:40004"),
    flow(f"{CARL}:1000", WEB, -7200, -7200, nat_src=f"{SHARED}:1024", nat_event=1),
    flow(f"{CARL}:1000", WEB, 7200, 7200, nat_src=f"{SHARED}:1024", nat_event=2),
    flow(f"{BEN}:1001", WEB, 10_000, 10_000, nat_src=f"{SHARED}:1024", nat_event=1),
    flow(f"{ANNA}:9000", WEB, 50_000, 50_001, lag_s=-20, exporter=2, nat_src=f"{PUBLIC}:40009"),
    flow(f"{BEN}:9000", WEB, 50_000, 50_001, lag_s=-20, exporter=2, nat_src=f"{PUBLIC}:40010"),
)


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("who")
    text = f'[paths]\nstate = "{folder}/state"\nrun = "{folder}/run"\ndata = "{folder}/data"\n'
    file = folder / "gatehouse.toml"
    file.write_text(f'{text}[database]\nurl = "sqlite:///{folder}/core.db"\n[site]\ntimezone = "Europe/Prague"\n')
    loaded = config.load(file)
    with open_core(loaded, create=True):
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
        for number, (account, address, begin, end, outside) in enumerate(SESSIONS, 1):
            Session.create(
                unique_id=str(number), account=account, nas="gw", acct_session_id="1", mac=f"aa:00:00:00:00:0{number}",
                framed_ip=outside or address, host_ip=address if outside else None, started_at=T // 1000 + begin,
                updated_at=0, ended_at=None if end is None else T // 1000 + end,
            )  # fmt: skip
    keep(loaded.paths.data / "flows", np.concatenate(FLOWS), exporters=("192.0.2.1", "192.0.2.2"))
    return loaded


def at(seconds: float) -> str:
    return datetime.fromtimestamp(T / 1000 + seconds, UTC).isoformat()


@pytest.fixture
def gatehouse(appliance: Config, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SUDO_USER", "officer")

    def run(ip: str, seconds: float, *words: str) -> tuple[int, str, str]:
        asked = ("flows", "who", "--ip", ip, "--at", at(seconds), "--reason", "case 12/345", *words)
        status = cli.main(["--config", str(appliance.file), *asked])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def accounts(answer: tuple[int, str, str]) -> list[tuple[str | None, str, int]]:
    """Account, how, and by how much the time would have to be wrong."""
    status, out, err = answer
    assert (status, err) == (0, "")
    return [(f["held"] and f["held"]["account"], f["how"], f["off_ms"]) for f in json.loads(out)["found"]]


@pytest.mark.parametrize(
    ("ip", "seconds", "words", "expected"),
    [
        (PUBLIC, 0, ("--port", "40001"), [("ben", "flow through NAT", 0)]),
        (PUBLIC, 0, ("--port", "40002"), [("ben", "flow through NAT", 0)]),
        (PUBLIC, 0, ("--port", "40000", "--protocol", "tcp"), [("anna", "flow through NAT", 0)]),
        (PUBLIC, 0, ("--port", "40000", "--protocol", "17"), [("ben", "flow through NAT", 0)]),
        (PUBLIC, 0, ("--port", "40003"), [(None, "flow through NAT", 0)]),
        (PUBLIC, 63, ("--port", "40001"), [("ben", "flow through NAT", 3000)]),
        (PUBLIC, 80, ("--port", "40001", "--slack", "30s"), [("ben", "flow through NAT", 20_000)]),
        (ANNA, 0, (), [("anna", "flow", 0)]),
        (ANNA, 900, (), [("anna", "session", 0)]),
        (ONE_TO_ONE, 900, ("--port", "1"), [("carl", "session", 0)]),
        (SHARED, 0, ("--port", "1024"), [("carl", "NAT event", 0)]),
        (SHARED, 7203, ("--port", "1024"), [("carl", "NAT event", 3000)]),
        (SHARED, 10_060, ("--port", "1024"), [("ben", "NAT event", 0)]),
        ("::ffff:" + ANNA, 900, (), [("anna", "session", 0)]),
    ],
)
def test_who_it_was(gatehouse: Any, ip: str, seconds: float, words: tuple[str, ...], expected: Any) -> None:
    assert accounts(gatehouse(ip, seconds, *words, "--json")) == expected


def test_all_who_may_have_been_it_are_told(gatehouse: Any) -> None:
    found = accounts(gatehouse(PUBLIC, 0, "--port", "40000", "--json"))
    assert sorted(name or "" for name, *_ in found) == ["anna", "ben"]
    at_change = accounts(gatehouse(PUBLIC, 1799, "--port", "40004", "--json"))
    assert [name for name, *_ in at_change] == ["anna", "dora"]
    assert at_change[0][2] == 0
    assert at_change[1][2] == 1000
    status, out, _ = gatehouse(PUBLIC, 0, "--port", "40000")
    assert status == 0
    assert "2 accounts are possible" in out
    assert "10.0.0.1" in out
    assert "aa:00:00:00:00:03" in out
    assert "Clock of 192.0.2.1: at most 15.0 s behind ours, by 5 flows" in out
    assert out.splitlines()[-1] == "No flows are known to be lost"


def test_a_routers_wrong_clock_widens_the_search(gatehouse: Any) -> None:
    """It is 20 s ahead: what really happened at 49,985 it calls 50,005."""
    found = accounts(gatehouse(PUBLIC, 49_982, "--port", "40009", "--json"))
    assert found == [("dora", "flow through NAT", 18_000)]
    status, out, _ = gatehouse(PUBLIC, 49_982, "--port", "40009")
    assert "Clock of 192.0.2.2: 20.0 s ahead of ours or more" in out
    assert status == 0
    assert gatehouse(PUBLIC, 49_970, "--port", "40009")[0] == 1


def records(appliance: Config) -> list[Any]:
    with open_core(appliance):
        return list(Audit.select().order_by(Audit.id).dicts())


def test_each_question_stands_in_the_record(gatehouse: Any, appliance: Config) -> None:
    before = len(records(appliance))
    gatehouse(PUBLIC, 0, "--port", "40001", "--json")
    status, out, err = gatehouse("192.0.2.200", 0)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "nobody is known to have had address 192.0.2.200 at 2026-09-21T16:13:20" in err
    first, second = records(appliance)[before:]
    assert (first["who"], first["action"]) == ("officer", "asked whose")
    assert first["subject"] == "address 203.0.113.7 port 40001 at 2026-09-21T16:13:20.000+02:00"
    assert json.loads(first["changes"]) == {"found": [None, "ben"], "reason": [None, "case 12/345"]}
    assert json.loads(second["changes"])["found"] == [None, "nobody"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reason", "  "), "a reason is needed"),
        (("--reason", "case\n12"), "a reason is needed"),
        (("--ip", "nobody"), "'nobody' is no address"),
        (("--at", "soon"), "'soon' is no time"),
        (("--protocol", "300"), "is no protocol"),
        (("--slack", "much"), "is not a duration"),
    ],
)
def test_a_question_that_is_none(gatehouse: Any, appliance: Config, words: tuple[str, ...], said: str) -> None:
    before = len(records(appliance))
    status, out, err = gatehouse(PUBLIC, 0, *words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert len(records(appliance)) == before


def test_an_answer_that_can_not_be_recorded_is_none(
    gatehouse: Any, appliance: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("appliance.admin.audit.record", refuse)
    status, out, err = gatehouse(PUBLIC, 0, "--port", "40001")
    assert (status, out) == (1, "")
    assert "ben" not in err


def held(since: int, until: int, session: int) -> Holding:
    return Holding(1, 4, since, until, f"account {session}", "", session, "")


def test_one_address_is_one_accounts_at_a_time() -> None:
    found = list(disjoint([held(100, 200, 2), held(0, whose.FOREVER_MS, 1), held(150, 160, 3), held(150, 170, 4)]))
    assert [(one.since_ms, one.until_ms, one.session) for one in found] == [(0, 100, 1), (100, 150, 2), (150, 170, 4)]


def test_sessions_of_a_period(appliance: Config) -> None:
    with open_core(appliance):
        found = whose.holdings(T, T + 1000)
        assert {one.account for one in found} == {"anna", "ben", "carl"}
        assert len([one for one in found if one.account == "carl"]) == 2, "both of its addresses"
        assert {one.account for one in whose.holdings(T + 1_900_000, T + 1_901_000, {ANNA})} == {"dora"}
        assert whose.overlapping(PUBLIC, T, T) == []


def test_the_path_of_the_data_disk_is_not_needed_for_help(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--config", str(tmp_path / "none.toml"), "flows", "who", "--ip", "1.2.3.4"])
    assert "--at" in capsys.readouterr().err


DOCS = Path(__file__).parents[2] / "docs/netflow.md"


@pytest.mark.parametrize("heading", ["Searching", "Statistics", "Whose address was it?"])
def test_the_handbooks_commands(appliance: Config, heading: str, capfdbinary: Any) -> None:
    """In one shell as they are printed; each `gatehouse` of them is called in this process's Python."""
    section = DOCS.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    called = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert called
    for words in called:
        assert words[:2] == ["gatehouse", "flows"]
        words = words[: words.index(">")] if ">" in words and words[-1] == "flows.csv" else words
        assert cli.main(["--config", str(appliance.file), *words[1:]]) == 0, words


def test_the_handbook_names_all_words_of_a_filter_and_all_columns() -> None:
    section = DOCS.read_text().split("\n## Searching\n")[1].split("\n## ")[0]
    for word in vocabulary.WORDS:
        if word not in NFDUMPS:
            assert re.search(rf"`[^`]*\b{word}\b", section), word
    for column in (*search.COLUMNS, *search.SUM_COLUMNS):
        assert f"`{column}`" in section, column


NFDUMPS = ("protocol", "interface", "router", "flowdir", "all", "icmp-type", "icmp-code")  # other words for the same


def test_sessions_at_other_sites_have_other_addresses(appliance: Config) -> None:
    """Many sites have the same private ones; routers of no site, or that are gone, may be at any."""
    with open_core(appliance), core_db.atomic() as changes:
        for number, (name, site) in enumerate((("gw", "north"), ("roof", "south"), ("tent", None))):
            if site:
                core_db.execute_sql("INSERT INTO site (key, created_at, changed_at) VALUES (?, 0, 0)", (site,))
            Nas.create(name=name, address=f"192.0.2.{number}", secret=b"", site=site)
        Session.update(nas="tent").where(Session.account == "carl").execute()
        everyone = {one.account for one in whose.holdings(T - 1000, T + 1000)}
        assert {one.account for one in whose.holdings(T - 1000, T + 1000, site="north")} == everyone
        assert [one.account for one in whose.holdings(T - 1000, T + 1000, site="south")] == ["carl"] * 2
        assert not whose.overlapping(ANNA, T, T, "south")
        assert whose.overlapping(ANNA, T, T, "north")
        changes.rollback()


def test_a_box_with_a_database_of_its_own_knows_nobody_of_another_site(appliance: Config) -> None:
    lone = replace(appliance, site=replace(appliance.site, key="north"))
    assert [whose.site_of(lone, key) for key in ("", "north", "east")] == ["", "", whose.NOWHERE]
    with open_core(appliance), core_db.atomic() as changes:
        Nas.create(name="roof", address="192.0.2.1", secret=b"")
        assert whose.overlapping(ANNA, T, T)
        assert not whose.overlapping(ANNA, T, T, whose.NOWHERE)
        assert whose.exporters({1: "192.0.2.1"}) == {1: "roof"}
        assert whose.exporters({1: "192.0.2.1"}, whose.NOWHERE) == {1: "192.0.2.1"}
        changes.rollback()


def test_a_router_gives_its_name_to_its_sites_addresses_only(appliance: Config) -> None:
    with open_core(appliance), core_db.atomic() as changes:
        core_db.execute_sql("INSERT INTO site (key, created_at, changed_at) VALUES ('south', 0, 0)")
        Nas.create(name="roof", address="192.0.2.1", secret=b"", site="south")
        Nas.create(name="tent", address="192.0.2.2", secret=b"")
        of = {1: "192.0.2.1", 2: "192.0.2.2"}
        assert whose.exporters(of, "south") == {1: "roof", 2: "tent"}
        assert whose.exporters(of, "north") == {1: "192.0.2.1", 2: "tent"}
        changes.rollback()


def test_sessions_are_of_the_site_that_their_router_was_of_then(appliance: Config) -> None:
    """It was given to another one since, or it is gone, or its site is."""

    def moved(action: str, before: str, after: str | None) -> None:
        audit.record("ann", action, "router gw", {"site": before}, {"site": after})
        Audit.update(at=T // 1000 + 10**6).execute()

    def sites() -> list[str]:
        return [site for site in ("north", "south", "west") if whose.overlapping(ANNA, T, T, site)]

    with open_core(appliance), core_db.atomic() as changes:
        for site in ("north", "south", "west"):
            core_db.execute_sql("INSERT INTO site (key, created_at, changed_at) VALUES (?, 0, 0)", (site,))
        Session.update(nas="gw", ended_at=T // 1000 + 60).execute()
        assert sites() == ["north", "south", "west"]
        gw = Nas.create(name="gw", address="192.0.2.1", secret=b"", site="south")
        assert sites() == ["south"]
        moved("changed", "north", "south")
        assert sites() == ["north"]
        Session.update(ended_at=None).execute()
        assert sites() == ["north", "south"]
        gw.delete_instance()
        Audit.delete().execute()
        moved("removed", "west", None)
        assert sites() == ["west"]
        Session.update(nas="gateway-south").execute()
        assert sites() == ["south"]
        changes.rollback()
