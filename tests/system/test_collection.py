"""The collection as a whole: what linters say, that it can be built, and that wheels come out the same each time."""

import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from tests.lab.namespace import run
from tests.system.ansible_host import COLLECTION, TREE, Recap, command, play, root_file_system

pytestmark = pytest.mark.system

PLAYBOOKS = sorted(path.stem for path in (COLLECTION / "playbooks").glob("*.yml"))
PLUGINS = COLLECTION / "plugins"


def test_ansible_lint_finds_nothing() -> None:
    linted = command("ansible-lint", "--strict", "--nocolor")
    assert linted.status == 0, linted.text
    assert "Profile 'production' was required, and it passed" in linted.text


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_is_well_formed(playbook: str) -> None:
    checked = play(playbook, COLLECTION / "inventory.example.yml", "--syntax-check")
    assert checked.status == 0, checked.text


@pytest.mark.parametrize("folder", ["action", "filter", "modules"])
def test_plugins_have_types(folder: str) -> None:
    """Folder by folder, as an action has its module's name."""
    files = [str(path) for path in sorted((PLUGINS / folder).glob("*.py"))]
    assert files
    options = (f"--config-file={TREE / 'pyproject.toml'}", "--ignore-missing-imports", "--follow-imports=silent")
    checked = command("mypy", *options, *files)
    assert checked.status == 0, checked.text


def test_each_module_is_documented() -> None:
    for path in (PLUGINS / "modules").glob("*.py"):
        shown = command("ansible-doc", "--json", f"gatehouse.appliance.{path.stem}")
        assert shown.status == 0, shown.text
        assert json.loads(shown.text)[f"gatehouse.appliance.{path.stem}"]["examples"]


def test_it_can_be_built(tmp_path: Path) -> None:
    built = command("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path))
    assert built.status == 0, built.text
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert "roles/appliance/tasks/main.yml" in names
    assert not [name for name in names if name.startswith((".collections", ".ansible/"))]


def wheelhouse(cache: Path, python: str, **environment: str) -> dict[str, str]:
    """What the module returns, its arguments given as Ansible does."""
    arguments = {"source": str(TREE), "python": python, "cache": str(cache)}
    words = (sys.executable, str(PLUGINS / "modules/wheelhouse.py"), json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
    shown = run("env", *(f"{key}={value}" for key, value in environment.items()), *words, timeout_s=300).stdout
    found: dict[str, str] = json.loads(shown)
    return found


@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_wheels_are_the_same_whoever_makes_them(tmp_path: Path, python: str) -> None:
    first = wheelhouse(tmp_path / "one", python)
    before = os.umask(0o077)
    try:
        second = wheelhouse(tmp_path / "two", python, TZ="Asia/Tokyo", HOME=str(tmp_path))
    finally:
        os.umask(before)
    assert first["digest"] == second["digest"]
    archive = Path(first["archive"])
    made = archive.stat().st_ino
    assert wheelhouse(tmp_path / "one", python) == first
    assert archive.stat().st_ino == made, "it was made again"
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert [name for name in names if name.startswith("gatehouse-")]
    tag = f"cp{python.replace('.', '')}"
    assert {part for name in names for part in name.split("-") if part.startswith("cp3")} <= {tag, "cp310", "cp311"}
    assert any(f"-{tag}-{tag}-" in name for name in names)


def test_no_playbook_runs_without_its_confirmation(tmp_path: Path) -> None:
    for playbook, missing in (
        ("flash", "gatehouse_flash_confirm"),
        ("upgrade", "gatehouse_bundle is needed"),
        ("backup", "gatehouse_backup_recipients is needed"),
        ("restore", "gatehouse_restore_confirm=cafe-nord"),
    ):
        refused: Recap = play(playbook, COLLECTION / "inventory.example.yml")
        assert refused.status != 0
        assert missing in refused.text, refused.text
        assert refused.count("changed") == 0


def test_a_root_file_system_is_installed_and_gets_no_secrets() -> None:
    with root_file_system("trixie") as (root, inventory):
        first = play("site", inventory)
        assert first.status == 0, first.text
        enabled = {path.name for path in root.glob("etc/systemd/system/*.wants/*.service")}
        assert {"gatehouse-apply.service", "nftables.service"} <= enabled
        assert "gatehouse-core" in (root / "etc/group").read_text(encoding="utf-8")
        assert not (root / "var/lib/gatehouse").exists(), "state was made"
        second = play("site", inventory)
        assert second.status == 0, second.text
        assert second.count("changed") == 0, second.text
        run("chroot", str(root), "dpkg", "--force-all", "--remove", "conntrack")
        missing = play("site", inventory)
        assert missing.status != 0
        assert "missing in this root file system: conntrack" in missing.text
