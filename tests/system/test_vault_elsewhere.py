"""Two appliances: the second, behind a carrier's NAT, keeps a copy of the first one's vaults, whatever that does."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.addresses import WAN
from tests.lab.appliance import Appliance
from tests.lab.namespace import CommandFailed, Namespace, wait_until
from tests.lab.world import World

pytestmark = pytest.mark.system

URL = f"https://{WAN.ip}:8090"
LARGE = 32 << 20
SIGN = """
import pathlib, sys, time
from appliance.config import load
from appliance.vault import access, offers
config = load(pathlib.Path(sys.argv[1]))
offers.sign(config, access.opened_store(config), int(time.time()))
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(scope="module")
def router(world: World) -> Namespace:
    return world.router()


@pytest.fixture(scope="module")
def first(world: World) -> Appliance:
    return world.vault(world.gw, "first")


@pytest.fixture(scope="module")
def second(world: World, router: Namespace) -> Appliance:
    return world.vault(router, "second")


def copy(second: Appliance) -> Path:
    return second.config().paths.data / "vault" / "replicas" / "first"


def contents(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (place / "objects").glob("*/*")}


def manifest(place: Path) -> bytes:
    return (place / "manifest" / "manifest.jsonl").read_bytes()


def pull(second: Appliance, *words: str) -> str:
    """By hand, again and again while the keeper is at it, as the command says."""
    said: list[str] = []

    def is_done() -> bool:
        try:
            said.append(second.cli("vault", "pull", *words))
        except CommandFailed as error:
            if "somebody is at this copy" not in str(error):
                raise
        return bool(said)

    wait_until(is_done, 30, "the keeper to be through")
    return said[0]


def own(appliance: Appliance) -> Path:
    return appliance.config().paths.data / "vault"


def signed(first: Appliance) -> None:
    """As its keeper does it each minute."""
    first.python("-c", SIGN, str(first.config_file))


def store(world: World, first: Appliance, password: str, name: str, data: bytes) -> None:
    file = first.directory / "upload"
    file.write_bytes(data)
    world.gw.run("curl", "-sS", "-u", f"office:{password}", "-T", str(file), f"ftp://127.0.0.1/{name}")


def state(second: Appliance) -> dict[str, Any]:
    (found,) = [row for row in json.loads(second.cli("vault", "replica", "--json")) if row["kind"] == "source"]
    return found  # type: ignore[no-any-return]


def test_a_copy_is_kept_elsewhere_and_brought_back(
    world: World, router: Namespace, first: Appliance, second: Appliance
) -> None:
    password = re.findall(r"\S+", first.cli("vault", "add", "office", "--keep-days", "0", "--keep-versions", "0"))[-1]
    store(world, first, password, "small", b"small")
    store(world, first, password, "large", os.urandom(LARGE))
    said = first.cli("vault", "offer", "second", "--networks", "198.51.100.0/24")
    token, key = said.split()[1], said.rpartition("--key ")[2].strip()
    with pytest.raises(CommandFailed, match="isn't signed by the key"):
        second.cli("vault", "follow", "first", URL, "--key", "0" * 64, stdin=f"{token}\n")
    second.cli("vault", "follow", "first", URL, "--key", key, "--rate", "16000000", stdin=f"{token}\n")

    # The keeper begins at once. It is killed in the middle of it again and again, at last the first one's nginx is:
    # while more is missing than sockets hold, and without asking for its pid first.
    nginx = first.pid("web")
    for most in range(3 << 20, 18 << 20, 3 << 20):
        wait_until(partial(_has, second, most), 30, f"{most} bytes")
        second.kill("vault-keeper")
        assert _has(second, most)
    wait_until(partial(_has, second, 16 << 20), 30, "one half")
    os.kill(nginx, signal.SIGKILL)
    wait_until(lambda: "doesn't answer" in str(state(second)["problem"]), 30, "the cut")
    world.gw.await_listener(8090)
    pull(second, "first")
    assert contents(copy(second)) == contents(own(first))
    assert manifest(copy(second)) == manifest(own(first))
    assert {path.owner() for path in copy(second).rglob("*")} == {"gatehouse-vault"}
    assert list((copy(second) / "spool").iterdir()) == []
    assert "all contents are what they were" in pull(second, "first", "--verify")
    pull(second)
    (offer,) = first.json("vault", "replica")
    assert (offer["kind"], offer["events"], offer["bad"]) == ("offer", 2, 0)
    assert offer["verified_at"]

    # Somebody takes the first one over, and removes everything by its own means.
    kept = contents(copy(second))
    first.cli("vault", "remove", "office", "--yes")
    first.cli("vault", "expire")
    signed(first)
    assert contents(own(first)) == {}
    pull(second, "first")
    assert manifest(copy(second)) == manifest(own(first))
    assert contents(copy(second)) == kept

    # And writes its history anew.
    whole = manifest(copy(second))
    path = own(first) / "manifest" / "manifest.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    (path.parent / "redo").unlink()  # which would put the lines back
    first.cli("vault", "rebuild", "--shorter")
    signed(first)
    with pytest.raises(CommandFailed, match="its history was cut"):
        pull(second, "first")
    assert (manifest(copy(second)), contents(copy(second))) == (whole, kept)
    wait_until(lambda: "its history was cut" in second.cli("status"), 90, "the alert")


def _has(second: Appliance, most: int) -> bool:
    spool = copy(second) / "spool"
    return spool.exists() and max((path.stat().st_size for path in spool.iterdir()), default=0) >= most


def test_a_fresh_one_gets_it_back(world: World, router: Namespace, first: Appliance, second: Appliance) -> None:
    said = second.cli("vault", "offer", "again", "--kept", "first")
    token, key, signer = re.findall(r"token (\S+)[\s\S]*--key (\S+) --signer (\S+)", said)[0]
    first.cli("disable", "netbackup")
    for folder in (first.config().paths.state / "vault", own(first)):
        shutil.rmtree(folder)
    first.cli("enable", "netbackup")
    wait_until(lambda: (own(first) / "objects" / "ff").is_dir(), 20, "an empty vault")
    world.relay(8091, router, "127.0.0.1:8090", at=world.gw)
    with pytest.raises(CommandFailed, match="isn't signed by the key"):
        first.cli("vault", "bring-back", "https://127.0.0.1:8091", "--key", key, stdin=f"{token}\n")
    words = ("vault", "bring-back", "https://127.0.0.1:8091", "--key", key, "--signer", signer)
    told = first.cli(*words, stdin=f"{token}\n")
    assert "0 contents aren't in the copy" in told
    assert manifest(own(first)) == manifest(copy(second))
    assert "contents are what they were" in first.cli("vault", "verify")
    with pytest.raises(CommandFailed, match="history of its own"):
        first.cli(*words, stdin=f"{token}\n")

    # The vault's key is another one now, which the second one has to be told of; then it goes on.
    said = first.cli("vault", "offer", "second")
    with pytest.raises(CommandFailed, match="isn't the vault that it was"):
        pull(second, "first")
    new = said.rpartition("--key ")[2].strip()
    second.cli("vault", "follow", "first", URL, "--key", new, stdin=f"{said.split()[1]}\n")
    assert "0 events came" in pull(second, "first")
    assert state(second)["problem"] == ""
