"""The vault's FTP server as one of the appliance's own services: its user, its ports, its certificate."""

import hashlib
import re
from pathlib import Path

import pytest

from tests.lab.appliance import Appliance
from tests.lab.namespace import wait_until
from tests.lab.world import World

_NET_BIND_SERVICE = 1 << 10


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    made = world.appliance(netflow=True)
    made.cli("enable", "netbackup")
    world.gw.await_listener(21, 990, timeout_s=20)
    return made


def curl(world: World, appliance: Appliance, *words: str | Path) -> str:
    host = appliance.config().portal.hostname
    ca = appliance.directory / "ca.pem"
    ca.write_text(appliance.cli("ca") if not ca.exists() else ca.read_text())
    resolve = [f"{host}:{port}:127.0.0.1" for port in (21, 990)]
    given = [str(word) for word in words]
    done = world.gw.run(
        "curl", "-sS", "-v", "--cacert", str(ca), *(w for r in resolve for w in ("--resolve", r)), *given
    )
    return done.stdout + done.stderr


def test_upload_overwrite_restore(world: World, appliance: Appliance) -> None:
    password = re.findall(r"\S+", appliance.cli("vault", "add", "shop", "--quota", "10M"))[-1]
    host = appliance.config().portal.hostname
    file, back = appliance.directory / "a.bin", appliance.directory / "back.bin"
    said = ""
    for way, url in enumerate((f"ftp://{host}/d/a.bin", f"ftp://{host}/d/a.bin", f"ftps://{host}/d/a.bin")):
        file.write_bytes(b"%d" % way * 70_000)
        secure = ["--ssl-reqd"] if way == 1 else []
        said = curl(world, appliance, *secure, "-u", f"shop:{password}", "--ftp-create-dirs", "-T", file, url)
        assert f"226 Transfer complete; sha256={hashlib.sha256(file.read_bytes()).hexdigest()}" in said
        assert ("SSL certificate verify ok" in said) == (way > 0)
    first = re.findall(r"^\s*(\d+)", appliance.cli("vault", "versions", "shop", "/d/a.bin"), re.M)[-1]
    appliance.cli("vault", "undelete", first)
    curl(world, appliance, "-u", f"shop:{password}", "-o", back, f"ftp://{host}/d/a.bin")
    assert back.read_bytes() == b"0" * 70_000
    assert "shop" in appliance.log("vault")
    assert password not in appliance.log("vault")


def test_it_has_no_more_rights_than_it_needs(appliance: Appliance) -> None:
    status = Path(f"/proc/{appliance.pid('vault')}/status")
    assert status.owner() == "gatehouse-vault"
    rights = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if line.startswith("Cap"))
    assert int(rights["CapEff"], 16) == _NET_BIND_SERVICE


def test_a_killed_server_is_back(world: World, appliance: Appliance) -> None:
    before = appliance.pid("vault")
    appliance.kill("vault")
    wait_until(lambda: world.gw.listens(21) and appliance.pid("vault") != before, 20, "the server")
