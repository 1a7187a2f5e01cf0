"""A certificate by ACME on a real appliance: nginx, nftables, and an authority out in the Internet."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import renewal
from tests.acme_server import tls_pem
from tests.lab.addresses import LAN, WAN, WEB
from tests.lab.appliance import Appliance
from tests.lab.namespace import wait_until
from tests.lab.world import World

pytestmark = pytest.mark.system  # half a minute and more
NAME, PORT = "login.example.net", 14_000
SERVER = Path(__file__).parents[1] / "acme_server.py"
CONFIG = f"""
[gateway]
lan = "lan0"
wan = "wan0"
[portal]
hostname = "{NAME}"
[admin]
listen = "0.0.0.0"
[acme]
enabled = true
directory = "https://{WEB}:{PORT}/directory"
"""


@pytest.fixture(scope="module")
def appliance(world: World) -> Iterator[Appliance]:
    pem = tls_pem(world.directory / "authority.pem", str(WEB))
    world.net.popen(
        *(sys.executable, str(SERVER), str(PORT), str(pem), f"{WAN.ip}:80", f"https://{WEB}:{PORT}"),
        log="authority.log",
    )
    made = Appliance(world.gw, world.directory / "renewed")
    made.start(CONFIG)
    yield made
    made.stop()


def words(appliance: Appliance) -> tuple[str, ...]:
    given = appliance.words("-m", "appliance.cli", "certificate", "renew")
    at = given.index("env")
    return (*given[: at + 1], f"SSL_CERT_FILE={appliance.directory.parent / 'authority.pem'}", *given[at + 1 :])


def served(world: World, port: int, address: str) -> str:
    ask = (
        f"echo | openssl s_client -connect {address}:{port} -servername {NAME} 2>/dev/null | openssl x509 -noout -ext "
    )
    return world.gw.run("sh", "-c", f"{ask} subjectAltName -issuer").stdout


def is_open(world: World) -> bool:
    ask = ("curl", "-s", "-o", "/dev/null", "--max-time", "2", f"http://{WAN.ip}/")
    return world.net.run(*ask, check=False).returncode == 0


def test_a_killed_run_leaves_nothing_that_matters(world: World, appliance: Appliance) -> None:
    run = appliance.directory / "run"
    cut = world.gw.popen(*words(appliance), log="cut.log")
    wait_until(lambda: list((run / renewal.CHALLENGES).iterdir()), 20, "a challenge")
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    assert appliance.config().portal.certificate is None


def test_it_is_got_shown_and_told_to_phones(world: World, appliance: Appliance) -> None:
    run, state = appliance.directory / "run", appliance.directory / "state"
    assert "option=114" not in (run / "dnsmasq.conf").read_text()
    assert "there is a new certificate" in world.gw.run(*words(appliance), timeout_s=90).stdout
    assert not list((run / renewal.CHALLENGES).iterdir())
    assert not is_open(world)
    assert "gatehouse-acme" not in world.gw.run("nft", "list", "ruleset").stdout
    config = appliance.config()
    assert config.portal.certificate == state / "tls/portal.pem"
    for port, address in ((config.portal.https_port, str(LAN.ip)), (config.admin.port, str(WAN.ip))):
        found = served(world, port, address)
        assert f"DNS:{NAME}" in found, port
        assert "Test authority" in found
    assert f"dhcp-option=114,https://{NAME}/" in (run / "dnsmasq.conf").read_text()
    assert "nothing to do yet" in world.gw.run(*words(appliance)).stdout


def test_what_fails_is_told_by_the_doctor_and_the_old_one_stays(world: World, appliance: Appliance) -> None:
    before = (appliance.directory / "state/tls/portal.pem").read_bytes()
    text = appliance.config_file.read_text()
    appliance.config_file.write_text(text.replace(f"{WEB}:{PORT}", f"{WEB}:1").replace(NAME, "other.example.net"))
    done = world.gw.run(*words(appliance), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"gatehouse: {WEB} can't be reached" in done.stderr
    assert (appliance.directory / "state/tls/portal.pem").read_bytes() == before
    findings = json.loads(world.gw.run(*appliance.words("-m", "appliance.cli", "doctor", "--json"), check=False).stdout)
    assert any("can't be reached" in found["sentence"] for found in findings["findings"])
    appliance.config_file.write_text(text)
