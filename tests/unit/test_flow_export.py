"""Answers as table, JSON and CSV, from the command and through the worker that pages ask."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance import cli, config, db
from appliance.accounts.database import open_core
from appliance.accounts.models import Session, core_db
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from collector import export, questions, search, worker
from collector.filters.language import parse
from collector.search import Known, Query
from collector.store.models import Lost
from collector.whose import FOREVER_MS, Holding
from tests.flows.kept import keep
from tests.flows.stand_in import HOUR_MS, SINCE_MS, InMemory, random_flows

COUNT = 3000
FLOWS = random_flows(COUNT)
FLOWS["bytes"] = np.minimum(FLOWS["bytes"], 2**40)
PERIOD: dict[str, Any] = {"since_ms": SINCE_MS, "until_ms": SINCE_MS + 2 * HOUR_MS}
FROM = ("--from", "2026-09-21T14:00Z", "--to", "2026-09-21T17:00Z")
LOST = Lost(1, SINCE_MS, SINCE_MS + 1000, 12, "sequence")


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """One with flows on its data disk."""
    folder = tmp_path_factory.mktemp("flows")
    text = f'[paths]\nstate = "{folder}/state"\nrun = "{folder}/run"\ndata = "{folder}/data"\n'
    file = folder / "gatehouse.toml"
    file.write_text(f'{text}[database]\nurl = "sqlite:///{folder}/core.db"\n[site]\ntimezone = "Europe/Prague"\n')
    loaded = config.load(file)
    with open_core(loaded, create=True):
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
        Session.create(
            unique_id="1", account="=anna", nas="gw", acct_session_id="1", mac="aa:00:00:00:00:01",
            framed_ip="10.0.0.1", started_at=SINCE_MS // 1000 - 60, updated_at=0,
        )  # fmt: skip
    keep(loaded.paths.data / "flows", FLOWS[:2000], FLOWS[2000:], exporters=("192.0.2.1", "192.0.2.2"), losses=[LOST])
    return loaded


@pytest.fixture
def gatehouse(appliance: Config, capfdbinary: Any) -> Any:
    def run(*words: str) -> tuple[int, str, str]:
        status = cli.main(["--config", str(appliance.file), "flows", *words])
        said = capfdbinary.readouterr()
        return status, said.out.decode(), said.err.decode()

    return run


def test_a_table_for_people_ends_with_how_complete_it_is(gatehouse: Any) -> None:
    status, out, err = gatehouse("search", "tcp", "and", "flags", "SA", *FROM, "--sort", "bytes", "--limit", "2")
    head, *rows, empty, certificate, lost = out.splitlines()
    assert (status, err, len(rows), empty) == (0, "", 2, "")
    assert head.split("  ")[0] == "FIRST PACKET"
    assert "1.1T" in rows[0]
    assert certificate == f"99.60 % of flows present: 12 of {COUNT + 12:,} lost"
    assert lost.startswith("12 lost 2026-09-21 16:13:20–16:13:21: sequence gap")
    assert lost.endswith("at 192.0.2.1")


def test_json_is_an_object_a_line(gatehouse: Any) -> None:
    status, out, err = gatehouse("search", "--json", "--utc", "--columns", "domain,first,exporter,src_mac", *FROM)
    found = {row["domain"]: row for row in map(json.loads, out.splitlines())}
    assert (status, len(found)) == (0, COUNT)
    assert "99.60 %" in err
    flow = next(flow for flow in FLOWS if not flow["src_mac"] and flow["exporter"] == 2)
    at = np.datetime64(int(flow["first"]), "ms")
    expected = {"domain": int(flow["domain"]), "first": f"{at}+00:00", "exporter": "192.0.2.2", "src_mac": None}
    assert found[int(flow["domain"])] == expected


def test_csv_is_of_all_and_no_formula(gatehouse: Any) -> None:
    status, out, err = gatehouse("search", "--csv", "--columns", "domain,account,flags,src_mac", *FROM)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (status, len(rows)) == (0, COUNT)
    assert {row["account"] for row in rows} == {"", "'=anna"}
    assert sorted(int(row["domain"]) for row in rows) == list(range(COUNT))
    assert "99.60 %" in err


def test_sums_by_what_one_likes(gatehouse: Any) -> None:
    status, out, _ = gatehouse("top", "account,protocol", "ipv4", *FROM, "--json", "--sort", "flows", "--limit", "1")
    (row,) = map(json.loads, out.splitlines())
    assert (row["account"], row["protocol"]) == (None, "tcp")
    assert set(row) == {"account", "protocol", "flows", "packets", "bytes"}
    status, out, _ = gatehouse("search", "account", "'=anna'", *FROM, "--json", "--columns", "src,dst,nat_dst")
    assert status == 0
    assert out
    assert all("10.0.0.1" in line for line in out.splitlines())


@pytest.mark.parametrize("by", ["service", "protocol", "client", "destination", "interface", "exporter"])
def test_totals_of_a_period_are_those_of_its_flows(gatehouse: Any, by: str) -> None:
    status, out, err = gatehouse("stats", "--by", by, *FROM, "--json", "--limit", "100")
    rows = list(map(json.loads, out.splitlines()))
    sound = [flow for flow in FLOWS if not flow["marks"] & 2]
    times = 2 if by == "interface" else 1  # in by one, out by another
    assert status == 0
    assert "99.60 %" in err
    assert sum(row["flows"] for row in rows) >= len(sound)
    assert sum(row["flows"] for row in rows) <= times * len(sound)
    named = {row[by]: row["flows"] for row in rows}
    if by == "protocol":
        numbers = {"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58}
        assert named == {name: sum(f["protocol"] == number for f in sound) for name, number in numbers.items()}
    if by == "exporter":
        assert named["192.0.2.2"] == sum(flow["exporter"] == 2 for flow in sound)


def test_totals_by_account_are_those_of_its_addresses(gatehouse: Any) -> None:
    status, out, _ = gatehouse("stats", "--by", "account", *FROM, "--json", "--limit", "100")
    named = {row["account"]: row for row in map(json.loads, out.splitlines())}
    _, out, _ = gatehouse("stats", "--by", "client", *FROM, "--json", "--limit", "100")
    clients = {row["client"]: row for row in map(json.loads, out.splitlines())}
    assert status == 0
    assert named["=anna"]["bytes"] == clients["10.0.0.1"]["bytes"] > 0
    assert named["not known"]["flows"] == sum(row["flows"] for row in clients.values()) - named["=anna"]["flows"]


def test_totals_over_time_and_what_is_kept(gatehouse: Any) -> None:
    status, out, _ = gatehouse("stats", "--step", "15m", *FROM)
    head, *rows = out.splitlines()
    assert (status, head.split()) == (0, ["FROM", "FLOWS", "PACKETS", "BYTES"])
    assert rows[0].startswith("2026-09-21T16:00+02:00")
    assert gatehouse("stats", "--step", "90s", *FROM)[0] == 1
    status, out, _ = gatehouse("storage")
    assert (status, out.splitlines()[0].split(" in ")[0]) == (0, "3,000 flows")
    assert "needs" in out or "need" in out or "isn't known yet" in out
    status, out, _ = gatehouse("exporters", "--json")
    assert [row["address"] for row in json.loads(out)] == ["192.0.2.1", "192.0.2.2"]
    assert gatehouse("hold", "list")[0] == 0
    status, _, err = gatehouse("hold", "add", "--reason", "court", *FROM)
    assert (status, err.count("\n")) == (1, 1), "the process that keeps flows doesn't run here"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", "prt", "80"), "filter, position 1: a condition is expected here"),
        (("search", "--columns", "nothing"), "there is no column 'nothing'"),
        (("search", "--from", "soon"), "From: 'soon' is no time"),
        (("search", "--from", "1970-01-01"), "From: a period of at most 3700 days can be asked for"),
        (("search", "--from", "9000000000000s ago", "--to", "8999999999999s ago"), "not before the end"),
        (("search", "--from", "now", "--to", "9999-12-31T23:59:59-23:59"), "To: '9999-12-31T23:59:59-23:59' is no"),
        (("search", "account", "nobody"), "no session of account 'nobody' is known in this period"),
        (("top", "nothing"), "there is no column 'nothing'"),
    ],
)
def test_a_mistake_is_one_line(gatehouse: Any, words: tuple[str, ...], said: str) -> None:
    status, out, err = gatehouse(*words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert said in err


def test_without_flows_it_says_so(appliance: Config, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "other.toml"
    text = appliance.text.replace(str(appliance.paths.data), str(tmp_path))
    file.write_text(text)
    assert cli.main(["--config", str(file), "flows", "search"]) == 1
    assert "no flows are kept there" in capsys.readouterr().err


def test_other_commands_load_neither_numpy_nor_duckdb() -> None:
    code = "import sys; from appliance import cli; from collector import worker;"
    code += " print({'numpy', 'duckdb'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_csv_ends_when_nobody_takes_it_and_the_next_question_is_answered() -> None:
    with InMemory(random_flows(60_000)) as reading:
        prepared = search.prepare(reading, Query(parse(""), **PERIOD))
        blocks = export.csv(prepared)
        assert next(blocks).startswith(b"first,duration,protocol")
        blocks.close()  # type: ignore[attr-defined]
        assert reading.con.execute("SELECT 42").fetchall() == [(42,)]
        with pytest.raises(Exception, match="nothing_there"):
            list(
                export.csv(
                    replace(
                        prepared, statements=iter(["SELECT first FROM nothing_there"]), columns=prepared.columns[:1]
                    )
                )
            )


def test_who_asks_the_worker_itself_asks_no_endless_period() -> None:
    with pytest.raises(UserError, match="since_ms: a period of at most 3700 days"):
        questions.query({"since_ms": 0, "until_ms": 2**52})


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", 'a,"b"\nc', "plain"])
def test_names_in_csv(name: str) -> None:
    held = Holding(0x0A000001, 4, 0, FOREVER_MS, name, "", 1, "")
    with InMemory(FLOWS[:100]) as reading:
        query = Query(parse("account x"), **PERIOD, columns=("account",))
        query = replace(query, filter=parse("host 10.0.0.1"))
        prepared = search.prepare(reading, query, Known({}, lambda since, until: [held]))
        rows = list(csv.reader(io.StringIO(b"".join(export.csv(prepared)).decode(), newline="")))
    assert {row[0] for row in rows[1:]} == {name if name[0] in "ap" else f"'{name}"}


def test_a_progress_bar_is_for_terminals_only() -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb") as screen:
        progress = export.Progress(lambda: 50.0, terminal)
        progress.block(b"a\nb\n")
        shown = screen.read1(100)
        progress.done()
    assert b"[############             ]  50 %  2 rows, 4B" in shown
    nowhere = io.StringIO()
    export.Progress(lambda: 50.0, nowhere).block(b"a\n")
    assert nowhere.getvalue() == ""


# Through the worker


@pytest.fixture
def pool(appliance: Config) -> Iterator[worker.Pool]:
    pool = worker.Pool()
    yield pool
    pool.close()


SEARCH = {"ask": "search", "filter": "tcp", "columns": ["domain"], **PERIOD}
SLOW = " and ".join(["not (port in [1, 2, 3] and host in [10.9.9.9 10.9.9.8])"] * 130)


def test_the_worker_answers_and_is_kept(pool: worker.Pool, appliance: Config) -> None:
    head, *pieces, last = pool.ask(appliance, SEARCH)
    assert isinstance(head, dict)
    assert isinstance(last, dict)
    assert [column["name"] for column in head["columns"]] == ["domain"]
    found = [row[0] for piece in pieces if isinstance(piece, dict) for row in piece["rows"]]
    assert sorted(found) == [int(flow["domain"]) for flow in FLOWS if flow["protocol"] == 6]
    assert last["certificate"]["lost"] == 12
    assert last["lines"][0].startswith("99.60 %")
    first = pool._idle[0][1].pid
    with pytest.raises(UserError, match="filter, position 1: a condition"):
        list(pool.ask(appliance, {**SEARCH, "filter": "nonsense"}))
    with pytest.raises(UserError, match="limit: a whole number"):
        list(pool.ask(appliance, {**SEARCH, "limit": "x"}))
    with pytest.raises(UserError, match="can't be asked"):
        list(pool.ask(appliance, {"ask": "anything"}))
    with pytest.raises(UserError, match="flows of the site 'east' aren't here"):
        list(pool.ask(appliance, {**SEARCH, "ask": "totals", "site": "east", "order": "bytes"}))
    *blocks, last = pool.ask(appliance, {**SEARCH, "ask": "csv"})
    assert all(isinstance(block, bytes) for block in blocks)
    assert b"".join(block for block in blocks if isinstance(block, bytes)).count(b"\n") == len(found) + 1
    assert [one.pid for _, one in pool._idle] == [first]


def test_what_is_only_away_is_told_from_what_is_wrong(appliance: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(config: Config, request: object) -> Iterator[Any]:
        raise Unavailable("the cluster doesn't answer")

    monkeypatch.setattr(questions, "answer", away)
    said = io.BytesIO()
    worker._answer(appliance, {}, said)
    assert json.loads(said.getvalue().splitlines()[0]) == {"error": "the cluster doesn't answer", "away": True}


def test_whoever_stops_reading_ends_it(pool: worker.Pool, appliance: Config) -> None:
    answer = pool.ask(appliance, SEARCH)
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    assert pool._idle == []


def test_a_search_that_takes_too_long_is_ended(pool: worker.Pool, appliance: Config) -> None:
    list(pool.ask(appliance, SEARCH))
    pid, folder = pool._idle[0][1].pid, Path(pool._idle[0][1]._folder.name)
    assert folder.is_dir()
    with pytest.raises(Unavailable, match="longer than 0 s"):
        list(pool.ask(appliance, {**SEARCH, "filter": SLOW}, timeout_s=0.001))
    assert not Path(f"/proc/{pid}").exists()
    assert pool._idle == []
    assert not folder.exists(), "what it had laid down is gone with it"


def test_two_at_once_and_a_killed_one_is_told(
    pool: worker.Pool, appliance: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PATIENCE_S", 0.01)
    first, second = pool.ask(appliance, SEARCH), pool.ask(appliance, SEARCH)
    next(first), next(second)
    with pytest.raises(Unavailable, match="2 searches run already"):
        next(pool.ask(appliance, SEARCH))
    second.close()  # type: ignore[attr-defined]
    list(first)
    os.kill(pool._idle[0][1].pid, 9)
    pool._idle[0][1]._process.wait()
    assert list(pool.ask(appliance, SEARCH)), "another one is started"


def test_it_ends_by_itself(appliance: Config) -> None:
    one = worker.Worker(appliance, idle_s=0.1)
    try:
        assert one._process.wait(60) == 0
        with pytest.raises(worker.Gone):
            one.line(1)
    finally:
        one.kill()


def test_it_ends_with_who_asked_while_it_still_searches(appliance: Config) -> None:
    one = worker.Worker(appliance)
    try:
        assert one._process.stdin is not None
        one.send({**SEARCH, "filter": SLOW, "order": "bytes"})
        one._process.stdin.close()
        assert one._process.wait(60) in (0, 1)
    finally:
        one.kill()


def test_a_spoiled_segment_is_a_loss_and_no_error(tmp_path: Path, appliance: Config, capfdbinary: Any) -> None:
    """Of the same size as before: DuckDB only notices when it reads it."""
    folder = tmp_path / "data/flows"
    keep(folder, FLOWS[:2000], FLOWS[2000:], exporters=("192.0.2.1", "192.0.2.2"))
    spoiled = sorted((folder / "segments").glob("*.parquet"))[0]
    spoiled.write_bytes(bytes(spoiled.stat().st_size))
    file = tmp_path / "gatehouse.toml"
    file.write_text(appliance.file.read_text().replace(str(appliance.paths.data), str(tmp_path / "data")))
    asked = (
        ("search", *FROM, "--json"),
        ("who", "--ip", "10.0.0.1", "--at", "2026-09-21T14:13:21Z", "--reason", "case 1"),
    )
    for words in asked:
        cli.main(["--config", str(file), "flows", *words])
        out, err = (said.decode() for said in capfdbinary.readouterr())
        assert "damaged" in out + err, words
        assert "can't be read" not in out + err
        assert words[0] == "who" or 0 < len(out.splitlines()) < COUNT
