"""A running appliance is backed up while it writes, and put back with its services stopped around it."""

from pathlib import Path

import pytest

from tests.lab import journey
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.namespace import CommandFailed, wait_until


def add_account(appliance: Appliance, name: str) -> None:
    appliance.cli("account", "add", name, "--plan", "home", "--password-stdin", stdin="correct horse\n")


def test_a_running_appliance_goes_back_to_its_backup(appliance: Appliance, guest: Guest) -> None:
    key, file = appliance.directory / "backup.key", appliance.directory / "gatehouse.age"
    public = appliance.cli("backup-key", str(key)).strip()
    appliance.cli("plan", "add", "home", "--down", "20M")
    add_account(appliance, "anna")
    written = appliance.cli("backup", str(file), "--recipient", public)
    assert "files" in written
    secret = (appliance.config().paths.state / "keys" / "password.key").read_bytes()
    assert secret not in file.read_bytes()
    add_account(appliance, "later")
    before = {service: appliance.pid(service) for service in ("radius-authentication", "jobs", "gateway")}

    with pytest.raises(CommandFailed, match="holds an appliance already"):
        appliance.cli("restore", str(file), "--identity", str(key))
    assert {service: appliance.pid(service) for service in before} == before
    printed = appliance.cli("restore", str(file), "--identity", str(key), "--yes")

    kept = Path(printed.strip().rpartition(", ")[2])
    assert (kept / "core" / "core.db").exists()
    assert [row["name"] for row in appliance.json("account", "list")] == ["anna"]
    wait_until(
        lambda: {row["state"] for row in appliance.json("status") if row["service"]} == {"running"}, 20, "all services"
    )
    assert all(appliance.pid(service) != pid for service, pid in before.items())
    journey.log_in(guest, "anna", "correct horse")
    assert guest.curl(journey.ANYWHERE).status == 200
