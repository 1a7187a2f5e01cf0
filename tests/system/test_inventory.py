"""The inventory's example as somebody fills it in: the group's keys reach each box, and none is flashed without one."""

import json
from pathlib import Path

import pytest

from tests.system.ansible_host import COLLECTION, Recap, command, play

pytestmark = pytest.mark.system

EXAMPLE = COLLECTION / "inventory.example.yml"
NO_KEY = "has no ssh_authorized_keys"
GOES_ON = "SHA256SUMS"  # the image is looked for; there is none


def flash(inventory: Path, folder: Path, **more: str) -> Recap:
    """Nothing is written, as there is no image."""
    target = str(folder / "disk")
    named = {"image": str(folder / "no-image"), "target": target, "confirm": target, **more}
    return play("flash", inventory, **{f"gatehouse_flash_{key}": value for key, value in named.items()})


def test_the_groups_keys_reach_a_host_with_a_provision_of_its_own(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    empty = "ssh_authorized_keys: []"
    assert text.count(empty) == 1
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(text.replace(empty, "ssh_authorized_keys: [ssh-ed25519 AAAA technician]"), encoding="utf-8")
    shown = command("ansible-inventory", "--inventory", str(inventory), "--host", "cafe-nord")
    provision = json.loads(shown.text)["gatehouse_provision"]
    assert provision["ssh_authorized_keys"] == ["ssh-ed25519 AAAA technician"]
    assert provision["wan_address"] == "192.0.2.10/24"
    assert GOES_ON in flash(inventory, tmp_path).text


def test_a_box_that_nobody_could_log_in_to_is_refused_unless_that_is_meant(tmp_path: Path) -> None:
    refused = flash(EXAMPLE, tmp_path)
    assert refused.status != 0
    assert NO_KEY in refused.text, refused.text
    assert GOES_ON not in refused.text
    assert GOES_ON in flash(EXAMPLE, tmp_path, without_key="true").text
    assert not list(tmp_path.iterdir())
