"""The vault beside its server: who keeps it, what commands do, and the appliance's own backup on a fresh box."""

import json
from pathlib import Path

import pytest

from tests.lab.appliance import Appliance
from tests.lab.namespace import CommandFailed, wait_until
from tests.lab.world import World


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    made = world.appliance(netflow=True)
    made.cli("enable", "netbackup")
    wait_until(lambda: "vault-keeper" in made.cli("status"), 20, "the keeper")
    return made


def test_the_appliance_backs_itself_up_and_is_restored_from_it(appliance: Appliance) -> None:
    with pytest.raises(CommandFailed, match="a public key is needed"):
        appliance.cli("vault", "backup")
    assert appliance.cli("vault", "backup", "--if-wanted") == ""
    key = appliance.directory / "backup.key"
    public = appliance.cli("backup-key", str(key)).strip()
    text = appliance.config_file.read_text()
    appliance.config_file.write_text(f'{text}\n[vault]\nrecipients = ["{public}"]\n')
    appliance.cli("apply")
    assert "bytes, sha256" in appliance.cli("vault", "backup")
    (row,) = json.loads(appliance.cli("vault", "ls", "appliance", "--json"))
    file = appliance.directory / "back.tar.age"
    appliance.cli("vault", "get", str(row["version"]), str(file))
    assert file.read_bytes().startswith(b"age-encryption.org/v1")
    assert file.stat().st_size == row["bytes"]
    disk = appliance.config().paths.data / "vault"
    assert {path.owner() for path in disk.rglob("*")} == {"gatehouse-vault"}
    assert {path.owner() for path in (appliance.config().paths.state / "vault").iterdir()} == {"gatehouse-vault"}

    # A fresh box has the disk, and the key that was kept away from it.
    catalogue: Path = appliance.config().paths.state / "vault" / "vault.db"
    appliance.cli("disable", "netbackup")
    for path in catalogue.parent.iterdir():
        path.unlink()
    appliance.cli("enable", "netbackup")
    assert "1 versions; 0 contents aren't on the disk" in appliance.cli("vault", "rebuild")
    (again,) = json.loads(appliance.cli("vault", "ls", "appliance", "--json"))
    assert again["sha256"] == row["sha256"]
    assert "contents are what they were" in appliance.cli("vault", "verify")


def test_what_the_pages_ask_for_the_keeper_does(appliance: Appliance) -> None:
    code = """
import sys
from appliance.config import load
from appliance.vault import asking, catalog
import pathlib
catalog.bind(load(pathlib.Path(sys.argv[1])))
print(asking.ask("make_folder", "admin", vault="office", path="/made"))
"""
    appliance.cli("vault", "add", "office")
    appliance.python("-c", code, str(appliance.config_file))
    assert "made/" in appliance.cli("vault", "ls", "office")
