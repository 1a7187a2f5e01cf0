"""The handbook's commands work as they are printed: every `sh` block runs, in order, on a running appliance."""

import re
from pathlib import Path

import pytest

from tests.lab.appliance import Appliance
from tests.lab.world import World

DOCS = Path(__file__).parents[2] / "docs"


def blocks(chapter: str) -> list[str]:
    """Those that look for flows are run where there are some (tests/unit/test_flow_who.py)."""
    found = re.findall(r"^```sh\n(.*?)^```", (DOCS / chapter).read_text(encoding="utf-8"), re.M | re.S)
    return [block for block in found if not block.startswith("gatehouse flows")]


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    """With all modules, and a data disk for them."""
    made = world.appliance(netflow=True)
    made.cli("enable", "netbackup")
    made.cli("enable", "dealer")
    return made


@pytest.fixture(scope="module")
def shell(appliance: Appliance) -> Path:
    """A folder with `gatehouse` in it, for the appliance of the lab."""
    folder = appliance.directory / "bin"
    folder.mkdir()
    command = folder / "gatehouse"
    *_, python = appliance.words()
    command.write_text(f'#!/bin/sh\nexec {python} -m appliance.cli "$@"\n')
    command.chmod(0o755)
    return folder


CHAPTERS = (
    *("first-run.md", "configuration.md", "hotspot.md", "routeros.md", "portal.md", "operation.md", "api.md"),
    *("netflow.md", "netbackup.md", "dealer.md"),
)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_commands(world: World, appliance: Appliance, shell: Path, chapter: str, tmp_path: Path) -> None:
    assert blocks(chapter)
    for block in blocks(chapter):
        script = f"cd {tmp_path}\nexport PATH={shell}:$PATH\nset -eu\n{block}"
        run = f"import subprocess, sys; sys.exit(subprocess.call(['sh', '-c', {script!r}]))"
        done = world.gw.run(*appliance.words("-c", run), check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
