"""Wishes on a real appliance: asked by the admin's user, granted by root, whatever happens meanwhile."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import wishes
from appliance.service import ASKED
from tests.lab.appliance import Appliance
from tests.lab.namespace import CommandFailed, wait_until
from tests.lab.world import World

pytestmark = pytest.mark.system  # half a minute and more

ADMIN = ("setpriv", "--reuid=gatehouse-admin", "--regid=gatehouse-admin", "--clear-groups", "--no-new-privs")
ASK = """
import json, sys
from pathlib import Path
from appliance import config, wishes
settings, modules, files = json.load(sys.stdin)
files = {name: text.encode() for name, text in files.items()}
print(wishes.wish(config.load(Path(sys.argv[1])), "jana", settings, modules, files))
"""


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    """A fresh one, without modules; nothing runs."""
    made = Appliance(world.gw, world.directory / "appliance")
    made.prepare('[gateway]\nlan = "lan0"\nwan = "wan0"')
    made.config_file.write_text(f"# the café\n{made.config_file.read_text()}")
    made.cli("apply")
    return made


@pytest.fixture(autouse=True)
def unchanged(appliance: Appliance) -> Iterator[None]:
    before = appliance.config_file.read_text()
    yield
    appliance.config_file.write_text(before)
    (appliance.directory / "state/enabled/hotspot").unlink(missing_ok=True)


def ask(
    world: World,
    appliance: Appliance,
    settings: dict[str, Any],
    modules: dict[str, bool] | None = None,
    files: dict[str, str] | None = None,
) -> str:
    """As the user that the pages run as."""
    words = as_admin(appliance, "-c", ASK, str(appliance.config_file))
    return world.gw.run(*words, stdin=json.dumps([settings, modules or {}, files or {}])).stdout.strip()


def as_admin(appliance: Appliance, *argv: str) -> tuple[str, ...]:
    words = appliance.words(*argv)
    python = words.index("env")
    return (*words[:python], *ADMIN, *words[python:])


def outcome(appliance: Appliance, number: str) -> str | None:
    return wishes.outcome(appliance.config(), number)


def test_what_is_asked_for_is_done_and_comments_stay(world: World, appliance: Appliance) -> None:
    number = ask(world, appliance, {"site.name": "Café"}, {"hotspot": True})
    assert outcome(appliance, number) is None
    assert "granted" in appliance.cli("apply", "--wishes")
    assert outcome(appliance, number) == ""
    assert appliance.config().site.name == "Café"
    assert "# the café" in appliance.config_file.read_text()
    assert "hotspot" in (appliance.directory / "run/settings/modules").read_text()
    assert 'name = "Café"' in (appliance.directory / "run/gatehouse.toml").read_text()
    assert not list((appliance.directory / "state" / ASKED).iterdir())


def test_what_a_program_refuses_changes_nothing_and_is_said(world: World, appliance: Appliance) -> None:
    before = appliance.config_file.read_text()
    appliance.config_file.write_text(before + '[portal]\ncertificate = "/etc/hostname"\nkey = "/etc/hostname"\n')
    broken = appliance.config_file.read_text()
    number = ask(world, appliance, {"site.name": "Café"}, {"hotspot": True})
    assert "refuses its configuration" in appliance.cli("apply", "--wishes")
    assert "nginx refuses its configuration" in (outcome(appliance, number) or "")
    assert appliance.config_file.read_text() == broken
    assert not (appliance.directory / "state/enabled/hotspot").exists()


def test_one_bad_wish_holds_up_no_other(world: World, appliance: Appliance) -> None:
    asked = appliance.directory / "state" / ASKED
    bad = "1000000000000000000-00000000"
    (asked / f"{bad}.json").symlink_to("/etc/shadow")
    (asked / "0.json").mkdir()
    good = ask(world, appliance, {"site.name": "Second"})
    appliance.cli("apply", "--wishes")
    assert "can't be read" in (outcome(appliance, bad) or "")
    assert outcome(appliance, good) == ""
    assert Path("/etc/shadow").stat().st_size > 0


def test_the_admins_user_can_neither_answer_nor_read_what_is_roots(world: World, appliance: Appliance) -> None:
    state = appliance.directory / "state"
    for words in (
        ("touch", str(state / "answers" / "x")),
        ("touch", str(state / "enabled" / "x")),
        ("mv", str(state / ASKED), str(state / "other")),
        ("cat", str(state / "keys" / "ca.pem")),
        ("sh", "-c", f"echo >> {appliance.config_file}"),
    ):
        assert world.gw.run(*ADMIN, *words, check=False).returncode != 0, words
    with pytest.raises(CommandFailed, match="only root can do this"):
        world.gw.run(*as_admin(appliance, "-m", "appliance.cli", "apply", "--wishes"))


def test_a_cut_in_the_middle_leaves_the_wish_to_be_granted_anew(world: World, appliance: Appliance) -> None:
    number = ask(world, appliance, {"site.name": "After the cut"}, {"hotspot": True})
    marker = appliance.directory / "state/enabled/hotspot"
    before = appliance.config_file.read_text()
    granting = world.gw.popen(*appliance.words("-m", "appliance.cli", "apply", "--wishes"), log="cut.log")
    wait_until(marker.exists, 30, "it to begin")
    granting.send_signal(signal.SIGKILL)
    granting.wait()
    assert appliance.config_file.read_text() == before
    assert outcome(appliance, number) is None
    appliance.cli("apply", "--wishes")
    assert outcome(appliance, number) == ""
    assert appliance.config().site.name == "After the cut"


def test_two_at_once_take_turns(world: World, appliance: Appliance) -> None:
    numbers = [ask(world, appliance, {"dhcp.lease_s": 600 + n}) for n in range(2)]
    words = appliance.words("-m", "appliance.cli", "apply", "--wishes")
    both = [world.gw.popen(*words, log=f"both{n}.log") for n in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert [outcome(appliance, number) for number in numbers] == ["", ""]
    assert appliance.config().dhcp.lease_s == 601


def test_a_given_certificate_is_shown_and_its_key_is_read_by_nobody_else(world: World, appliance: Appliance) -> None:
    run, state = appliance.directory / "run", appliance.directory / "state"
    given = openssl(world)
    number = ask(world, appliance, {}, {"hotspot": True}, {"portal.certificate": given, "admin.certificate": given})
    appliance.cli("apply", "--wishes")
    assert outcome(appliance, number) == ""
    assert f"ssl_certificate {state}/tls/portal.pem;" in (run / "nginx.conf").read_text()
    for path in (state / "tls/portal.pem", state / "keys/given-admin.pem"):
        assert path.read_text() == given
        assert world.gw.run(*ADMIN, "cat", str(path), check=False).returncode != 0
    digest = (run / "settings/portal-certificate").read_text()
    ask(world, appliance, {}, {}, {"portal.certificate": openssl(world)})
    assert "granted" in appliance.cli("apply", "--wishes")
    assert (run / "settings/portal-certificate").read_text() != digest  # nginx starts anew
    ask(world, appliance, {}, {}, {"portal.certificate": ""})
    appliance.cli("apply", "--wishes")
    assert "ssl_certificate" not in (run / "nginx.conf").read_text()
    assert not (state / "tls/portal.pem").exists()


def openssl(world: World) -> str:
    """A certificate and its key, as another program writes them."""
    words = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    return world.gw.run(*words, "-keyout", "-", "-subj", "/CN=login.example.net", "-days", "90").stdout
