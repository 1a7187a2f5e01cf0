"""The operator's command, in this process, over a core database of its own."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import cli, config, db
from appliance.accounts.database import open_core
from appliance.accounts.models import Account, core_db
from appliance.crypto import key_file, load_box
from appliance.tables import show

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gatehouse.toml"
    path.write_text(
        f'[paths]\nstate = "{tmp_path}/state"\nrun = "{tmp_path}/run"\n[site]\ntimezone = "Europe/Prague"\n'
    )
    loaded = config.load(path)
    (tmp_path / "state" / "core").mkdir(parents=True)
    key = key_file(loaded.paths.state)
    key.parent.mkdir()
    key.write_bytes(bytes(32))
    with open_core(loaded, create=True):
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
    return path


@pytest.fixture
def run(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = cli.main(["--config", str(file), *words])
        said = capsys.readouterr()
        return status, said.out.strip(), said.err.strip()

    return run


def test_plan_account_session(run: Run) -> None:
    words = ("--down", "20M", "--up", "5M", "--windows", "mon-fri 8:00-20:00", "--quota", "10G/month")
    assert run("plan", "add", "home", *words, "--session-limit", "2h", "--simultaneous", "2")[0] == 0
    status, out, _ = run("plan", "list")
    assert status == 0
    assert out.splitlines()[1].split()[:6] == ["home", "20M", "5M", "Mo-Fr", "08:00-20:00", "2h"]
    assert "10G/month" in out
    (plan,) = json.loads(run("plan", "list", "--json")[1])
    assert (plan["rate_down_bps"], plan["quota_bytes"], plan["quota_period"], plan["session_timeout_s"]) == (
        20_000_000,
        10**10,
        "month",
        7200,
    )

    status, out, _ = run("account", "add", "bob", "--plan", "home")
    password = out.split(": ")[1]
    assert len(password) == 12
    (account,) = json.loads(run("account", "list", "--json")[1])
    assert (account["name"], account["plan"], account["enabled"]) == ("bob", "home", True)
    assert password not in run("account", "list", "--json")[1]
    assert run("session", "list") == (0, "ACCOUNT  NAS  MAC  ADDRESS  STARTED  ONLINE  DOWN  UP  ENDED  CAUSE", "")


def test_password_from_standard_input_is_kept_sealed(run: Run, file: Path) -> None:
    run("plan", "add", "home")
    status, out, _ = run("account", "add", "bob", "--plan", "home", "--password-stdin", stdin="correct horse\n")
    assert (status, out) == (0, "account bob added")
    loaded = config.load(file)
    with open_core(loaded):
        sealed = bytes(Account.get(name="bob").password)
    assert b"horse" not in sealed
    assert load_box(loaded.paths.state).open(sealed) == "correct horse"


def test_set_changes_only_what_was_given_and_none_clears(run: Run) -> None:
    run("plan", "add", "home", "--down", "20M", "--session-limit", "2h", "--quota", "1G/day")
    assert run("plan", "set", "home", "--session-limit", "none", "--quota", "none")[0] == 0
    (plan,) = json.loads(run("plan", "list", "--json")[1])
    assert (plan["rate_down_bps"], plan["session_timeout_s"], plan["quota_bytes"]) == (20_000_000, None, None)


def test_block_and_unblock(run: Run) -> None:
    run("plan", "add", "home")
    run("account", "add", "bob", "--plan", "home")
    for flag, enabled in (("--block", False), ("--no-block", True)):
        assert run("account", "set", "bob", flag)[0] == 0
        assert json.loads(run("account", "list", "--json")[1])[0]["enabled"] is enabled


def test_pools(run: Run) -> None:
    assert run("pool", "add", "public", "198.51.100.16-198.51.100.30")[0] == 0
    assert run("plan", "add", "home", "--pool", "public")[0] == 0
    assert run("pool", "list")[1].splitlines()[1].split() == ["public", "198.51.100.16", "198.51.100.30", "15", "0"]
    assert "takes its addresses from pool" in run("pool", "remove", "public")[2]
    assert "overlaps another pool" in run("pool", "add", "more", "198.51.100.30-198.51.100.40")[2]
    assert len(run("pool", "list")[1].splitlines()) == 2


def test_nas(run: Run) -> None:
    status, out, _ = run("nas", "add", "attic", "--address", "192.0.2.7", "--kind", "mikrotik")
    assert status == 0
    assert "its secret, shown only now: " in out
    assert "gatehouse apply" in out
    status, out, _ = run("nas", "set", "attic", "--no-message-authenticator")
    assert "CVE-2024-3596" in out
    (nas,) = json.loads(run("nas", "list", "--json")[1])
    assert nas == {
        "name": "attic",
        "site": None,
        "address": "192.0.2.7",
        "kind": "mikrotik",
        "message_authenticator": False,
        "coa": "coa",
        "coa_port": 1700,
        "radsec": False,
        "tunnel": False,
        "netflow": False,
        "netflow_from": [],
        "seen_at": None,
        "silent": False,
    }
    assert run("nas", "remove", "attic")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "add", "a b"), "'a b' can't name a plan"),
        (("plan", "add", "x", "--down", "fast"), "fast"),
        (("plan", "add", "x", "--windows", "Mo 25:00-26:00"), "Mo 25:00-26:00"),
        (("plan", "add", "x", "--session-limit", "soon"), "'soon' is not a duration: write 90s"),
        (("plan", "add", "x", "--quota", "10G/year"), "'year' is no period for a quota"),
        (("plan", "add", "x", "--quota", "lots"), "'lots' is no amount of data"),
        (("plan", "add", "x", "--simultaneous", "0"), "'0' is no number of devices"),
        (("plan", "add", "x", "--pool", "none-such"), "there is no pool 'none-such'"),
        (("plan", "add", "home"), "plan 'home' exists already"),
        (("plan", "set", "nope", "--down", "1M"), "there is no plan 'nope': see `gatehouse plan list`"),
        (("plan", "remove", "home"), "1 accounts have plan 'home'"),
        (("account", "add", "x", "--plan", "nope"), "there is no plan 'nope'"),
        (("account", "add", " x", "--plan", "home"), "can't be a login"),
        (("account", "add", "x" * 300, "--plan", "home"), "can't be a login"),
        (("account", "add", "bob", "--plan", "home"), "account 'bob' exists already"),
        (("account", "add", "x", "--plan", "home", "--address", "300.1.1.1"), "no IPv4 address"),
        (("account", "add", "x", "--plan", "home", "--address", "198.51.100.9"), "belongs to another account"),
        (("account", "add", "x", "--plan", "home", "--valid-until", "tomorrow"), "'tomorrow' is no time"),
        (("account", "add", "x", "--plan", "home", "--password-stdin"), "can't be a password"),
        (("nas", "add", "x", "--address", "192.0.2.7/24"), "has host bits set"),
        (("nas", "add", "x", "--address", "192.0.2.8", "--coa-port", "0"), "a port is between 1 and 65535"),
        (("pool", "add", "x", "198.51.100.30-198.51.100.16"), "is no range"),
        (("pool", "add", "x", "10.0.0.0-10.9.0.0"), "more than 65536 addresses"),
        (("enable", "hotspott"), "there is no module 'hotspott'; there are: hotspot"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    run("plan", "add", "home")
    run("account", "add", "bob", "--plan", "home", "--address", "198.51.100.9")
    status, out, error = run(*words)
    assert (status, out) == (1, "")
    assert said in error
    assert error.startswith("gatehouse: ")
    assert "\n" not in error


def test_without_a_database_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f'[paths]\nstate = "{tmp_path}/none"\n')
    assert cli.main(["--config", str(file), "plan", "list"]) == 1
    assert "there is no database yet: run `gatehouse apply` first" in capsys.readouterr().err


def test_control_characters_from_outside_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in show([{"account": "a\x1b[2Jb"}], ["account"], as_json=False)


def test_devices(run: Run) -> None:
    run("plan", "add", "home", "--devices", "1")
    run("account", "add", "anna", "--plan", "home")
    run("account", "add", "bob", "--plan", "home")
    assert run("device", "add", "anna", "AA-BB-CC-00-11-22")[0] == 0
    assert "may have 1 devices" in run("device", "add", "anna", "aa:bb:cc:00:11:23")[2]
    assert run("device", "add", "bob", "aabb.cc00.1122")[0] == 0
    (row,) = json.loads(run("device", "list", "--json")[1])
    assert (row["account"], row["mac"]) == ("bob", "aa:bb:cc:00:11:22")
    assert "no MAC address" in run("device", "remove", "printer")[2]
    assert run("device", "remove", "aa:bb:cc:00:11:22")[0] == 0
    assert "no account remembers" in run("device", "remove", "aa:bb:cc:00:11:22")[2]


def test_why_says_what_the_login_would(run: Run) -> None:
    run("plan", "add", "home", "--down", "20M", "--up", "5M", "--windows", "daily 08:00-20:00")
    run("account", "add", "anna", "--plan", "home", "--session-limit", "1h")
    answer = run("why", "anna", "--at", "2031-03-03T12:00")[1]
    assert "let in at 20M down, 5M up: the plan's speed" in answer
    assert "ends in 1h, on Mon 2031-03-03 13:00:00: the longest session" in answer
    assert "Mikrotik-Rate-Limit = 5M/20M" in answer
    answer = run("why", "anna", "--at", "2031-03-03T21:00")[1]
    assert "refused by window: Your plan allows" in answer
    assert "from Tue 2031-03-04 08:00:00 on" in answer
    assert json.loads(run("why", "anna", "--at", "2031-03-03T12:00", "--json")[1])["end_rule"] == "session"
    assert "no account" in run("why", "nobody")[2]
    assert "no nas" in run("why", "anna", "--nas", "nowhere")[2]


def test_a_router_has_an_ipv4_address(run: Run) -> None:
    assert "write 192.0.2.7" in run("nas", "add", "attic", "--address", "2001:db8::7")[2]
