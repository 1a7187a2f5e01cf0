"""The README's lines on a fresh Debian 12, in a clone that only root can enter: as a new user would."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.debian import bootstrap
from tests.system.debian13 import inside

pytestmark = pytest.mark.system

TREE = Path(__file__).resolve().parents[2]
FROM_CLONE_TO_ONLINE_S = 300


@pytest.fixture(scope="module")
def machine() -> Iterator[Path]:
    """Nothing installed but what Debian calls important, and a clone of this repository in /root."""
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-fresh-", dir="/var/tmp"))
    root = folder / "root"
    try:
        bootstrap(root, "bookworm", "--variant=apt", "--include=ca-certificates")
        (root / "root").chmod(0o700)
        clone = ["git", "-c", "safe.directory=*", "clone", "--quiet", str(TREE), str(root / "root" / "gatehouse")]
        subprocess.run(clone, check=True)
        yield root
    finally:
        shutil.rmtree(folder)


def readme_lines() -> str:
    """The first block of commands."""
    found = re.search(r"^```sh\n(.*?)^```", (TREE / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert found
    return found[1]


def test_from_clone_to_a_guest_online(machine: Path) -> None:
    for limit_s in (FROM_CLONE_TO_ONLINE_S, FROM_CLONE_TO_ONLINE_S / 5):
        words, environment = inside(machine, "sh", "-euc", f"cd /root/gatehouse\n{readme_lines()}")
        started = time.monotonic()
        done = subprocess.run(
            words,
            env=environment | {"ONCE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        took_s = time.monotonic() - started
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        last = done.stdout.splitlines()[-1]
        assert re.fullmatch(r"guest online: [0-9.]+ [0-9.]+/[0-9.]+ Mbit/s in [0-9.]+ s", last), last
        print(f"{last}; {took_s:.0f} s in all")
        assert took_s < limit_s
    assert not (machine / "usr/sbin/policy-rc.d").exists()
