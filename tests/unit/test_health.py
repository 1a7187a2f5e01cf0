"""What an update is judged by: what this version does itself, not the disks and machines around it."""

import argparse
import json
import time
from pathlib import Path

import pytest

from appliance import apply, health, machine_cli, modules, slots
from appliance.config import Config, Paths
from appliance.errors import UserError
from appliance.slots import Slot
from appliance.vault import catalog
from appliance.vault.module import NETBACKUP
from collector import places
from collector.module import NETFLOW

AWAY = "the data disk isn't there"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A box with flows and backups, all of whose services run."""
    made = Config(paths=Paths(state=tmp_path / "state", run=tmp_path / "run", data=tmp_path / "data"))
    monkeypatch.setattr(modules, "running", lambda config: [NETFLOW, NETBACKUP])
    monkeypatch.setattr(
        apply, "states", lambda config, active: dict.fromkeys((s.name for m in active for s in m.services), "active")
    )
    return made


def collector_says(config: Config, problem: str, ago_s: float = 0) -> None:
    file = config.paths.run / places.STATUS
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"at_ms": (time.time() - ago_s) * 1000, "problem": problem}))


def confirmed(config: Config, confirm: bool = True) -> str:
    return machine_cli._health(argparse.Namespace(wait=0, confirm=confirm), config)


def test_a_slot_is_kept_while_the_data_disk_is_away(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Slot] = []
    monkeypatch.setattr(slots, "running", lambda: Slot("B", confirmed=False, other_is_good=True))
    monkeypatch.setattr(slots, "confirm", kept.append)
    collector_says(config, AWAY)
    with pytest.raises(UserError, match=f"^flows: {AWAY}$"):
        confirmed(config, confirm=False)
    assert kept == []
    assert confirmed(config) == f"flows: {AWAY}; slot B is kept"
    assert [slot.name for slot in kept] == ["B"]
    collector_says(config, "")
    assert confirmed(config) == "all is well; slot B is kept"


def test_what_does_not_run_is_the_versions_own(config: Config) -> None:
    collector_says(config, AWAY, ago_s=3600)
    assert health.problems(config, own=True) == ["the collector of flows doesn't say how it is"]


def test_a_catalogue_that_cannot_be_read_is_the_versions_own(config: Config) -> None:
    collector_says(config, "")
    file = catalog.path(config)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database" * 1000)
    (line,) = health.problems(config, own=True)
    assert line.startswith("vault: its catalogue can't be read: ")
