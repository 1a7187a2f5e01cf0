"""From the configuration to files: verified first, installed whole, readable by those who need them."""

import contextlib
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.appliance import Appliance
from tests.lab.namespace import CommandFailed, wait_until
from tests.lab.world import World

NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    """Prepared and enabled, but not running."""
    made = Appliance(world.gw, world.directory / "appliance")
    made.prepare('[gateway]\nlan = "lan0"\nwan = "wan0"')
    made.cli("enable", "hotspot")
    made.cli("nas", "add", "attic", "--address", "192.0.2.7", "--secret-stdin", stdin="0123456789abcdef\n")
    made.cli("apply")
    return made


def test_pages_come_and_go_with_their_module(world: World) -> None:
    """A fresh box has no module, and yet somebody has to set it up."""
    fresh = Appliance(world.gw, world.directory / "fresh")
    fresh.prepare('[gateway]\nlan = "lan0"\nwan = "wan0"')
    up = world.gw.popen(*fresh.words("-m", "appliance.cli", "up"), log="fresh.log")

    def healthy() -> bool:
        with contextlib.suppress(CommandFailed):
            return fresh.cli("health").strip() == "all is well"
        return False

    def accounts() -> str:
        code = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8090/accounts")
        return world.gw.run(*code, check=False).stdout

    try:
        wait_until(healthy, 20, "a box with nothing enabled")
        assert {row["service"] for row in fresh.json("status") if row["service"]} == {"admin", "web"}
        assert accounts() == "404"
        fresh.cli("enable", "hotspot")
        wait_until(healthy, 30, "the hotspot")
        wait_until(lambda: accounts() == "303", 15, "the hotspot's pages")
        fresh.cli("disable", "hotspot")
        wait_until(healthy, 20, "the box without the hotspot")
        wait_until(lambda: accounts() == "404", 15, "the pages to go")
    finally:
        up.terminate()
        up.wait(60)


@pytest.fixture
def toml(appliance: Appliance) -> Iterator[Path]:
    """The configuration file, as it was before once the test is over."""
    before = appliance.config_file.read_text()
    yield appliance.config_file
    appliance.config_file.write_text(before)
    appliance.cli("apply")


def rendered(appliance: Appliance) -> dict[str, str]:
    run = appliance.directory / "run"
    return {str(p.relative_to(run)): p.read_text() for p in sorted(run.rglob("*")) if p.is_file()}


def test_a_second_run_changes_nothing(appliance: Appliance) -> None:
    assert "all is well" in appliance.cli("check")
    before = rendered(appliance)
    assert appliance.cli("apply").strip() == "nothing changed"
    assert rendered(appliance) == before


def test_only_what_reads_a_changed_file_is_restarted(appliance: Appliance, toml: Path) -> None:
    toml.write_text(toml.read_text() + "[radius]\nauthentication_port = 11812\n")
    changed = "changed: radius-authentication, radius-accounting, gateway, portal, jobs, admin"  # all ask there
    assert appliance.cli("apply").strip() == changed
    toml.write_text(toml.read_text() + '[dhcp]\ndns = ["192.0.2.53"]\n')
    assert appliance.cli("apply").strip() == "changed: admin, dnsmasq"  # the doctor's page tells whom it asks
    toml.write_text(toml.read_text() + "[admin]\nport = 18090\n")
    assert appliance.cli("apply").strip() == "changed: web"


def test_radsec_is_there_only_when_it_is_asked_for(appliance: Appliance, toml: Path) -> None:
    def services() -> list[str]:
        return [row["service"] for row in appliance.json("status")]

    assert "radius-radsec" not in services()
    toml.write_text(toml.read_text() + "[radius]\nradsec_port = 2083\n")
    assert "radius-radsec" in appliance.cli("apply")
    assert "radius-radsec" in services()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            '[portal]\ncertificate = "/none.pem"\nkey = "/none.key"\n',
            "[portal] certificate: there is no file /none.pem",
        ),
        ('[portal]\ncertificate = "/etc/hostname"\nkey = "/etc/hostname"\n', "nginx refuses its configuration"),
        ("[radius]\nauthentication_portt = 1\n", "[radius] authentication_portt: unknown key"),
        ('[radius]\ncertificate = "/etc/hostname"\nkey = "/etc/hostname"\n', "[radius] certificate, key: PEM files"),
        ("[radius]\naccounting_status_port = 1812\n", "four different ports are needed"),
    ],
)
def test_what_a_program_refuses_changes_nothing(appliance: Appliance, toml: Path, more: str, said: str) -> None:
    before = rendered(appliance)
    toml.write_text(toml.read_text() + more)
    for command in ("check", "apply"):
        with pytest.raises(CommandFailed) as error:
            appliance.cli(command)
        assert said in str(error.value)
    assert rendered(appliance) == before


def test_services_read_what_was_verified_and_a_boot_survives_a_mistake(appliance: Appliance, toml: Path) -> None:
    paths, before = appliance.config().paths, toml.read_text()
    toml.write_text(before + "[site]\nnaame = 1\n")
    assert (paths.run / "gatehouse.toml").read_text() == before
    shutil.rmtree(paths.run)
    paths.run.mkdir(mode=0o755)
    with pytest.raises(CommandFailed, match="unknown key"):
        appliance.cli("apply")
    appliance.cli("--config", str(toml), "apply", "--boot")
    assert (paths.run / "gatehouse.toml").read_text() == before
    assert (paths.run / "dnsmasq.conf").exists()


def test_a_version_before_goes_on_by_what_it_knows(appliance: Appliance, toml: Path) -> None:
    paths, before = appliance.config().paths, toml.read_text()
    appliance.cli("apply")
    later = before + "[site]\nin_a_later_version = 1\n"
    for file in (toml, paths.state / "gatehouse.toml"):
        file.write_text(later)
    shutil.rmtree(paths.run)
    paths.run.mkdir(mode=0o755)
    appliance.cli("--config", str(toml), "apply", "--boot")
    assert (paths.run / "gatehouse.toml").read_text() == before
    assert toml.read_text() == later, "it is the operator's"


def test_a_mistake_at_the_first_boot_is_one_line(appliance: Appliance, toml: Path) -> None:
    for file in appliance.config().paths.state.glob("gatehouse*.toml"):
        file.unlink()
    toml.write_text(toml.read_text() + "[site]\nnaame = 1\n")
    with pytest.raises(CommandFailed, match=r"\n[^\n]*naame: unknown key[^\n]*; no configuration has worked here yet$"):
        appliance.cli("--config", str(toml), "apply", "--boot")


def test_only_those_who_need_it_read_it(appliance: Appliance, world: World) -> None:
    paths = appliance.config().paths
    core = paths.state / "core" / "core.db"
    assert stat.S_IMODE(core.stat().st_mode) == 0o660
    assert core.group() == "gatehouse-core"
    assert stat.S_IMODE(core.parent.stat().st_mode) == 0o2770
    key = paths.state / "keys" / "password.key"
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_size) == (0o640, 32)
    secret = (paths.run / "gateway.secret").read_text().strip()
    for path in (core, key, paths.run / "gateway.secret", paths.run / "raddb" / "clients.conf"):
        assert world.gw.run(*NOBODY, "cat", str(path), check=False).returncode != 0, path
    for root in (paths.run, paths.state, paths.log):
        for path in root.rglob("*"):
            if path.is_file() and world.gw.run(*NOBODY, "test", "-r", str(path), check=False).returncode == 0:
                assert secret not in path.read_text(errors="replace"), path


def test_secrets_are_sealed_in_the_database(appliance: Appliance) -> None:
    core = appliance.config().paths.state / "core"
    written = b"".join(path.read_bytes() for path in core.iterdir())
    assert b"attic" in written
    assert b"0123456789abcdef" not in written


def test_a_module_without_a_name(appliance: Appliance) -> None:
    with pytest.raises(CommandFailed, match="there is no module 'hotspott'; there are: hotspot"):
        appliance.cli("enable", "hotspott")
