"""`make run` as a person starts it, and what it leaves behind."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from tests.lab.namespace import run, traces

_TREE = Path(__file__).resolve().parents[2]
_CLOSING = r"guest online: 198\.51\.100\.(1[6-9]|2\d|3[01]) \d+\.\d/\d+\.\d Mbit/s in \d+\.\d s"


@contextmanager
def _started(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.lab.run", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=_TREE, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _addresses(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    found = (re.search(r"http://127\.0\.0\.1:\S+", line) for line in process.stdout)
    return [address[0] for address in islice(filter(None, found), count)]


def _fetch(url: str, *options: str) -> str:
    return run("curl", "-sS", "--max-time", "10", *options, url).stdout


def test_once_walks_the_journey_and_leaves_nothing() -> None:
    with _started("--once") as process:
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, printed + errors
    assert re.fullmatch(_CLOSING, printed.splitlines()[-1])
    assert errors == ""
    assert traces(process.pid) == []


def test_a_person_browses_as_the_guest_until_ctrl_c() -> None:
    with _started("--no-guest") as process:
        portal, admin = _addresses(process, 2)
        assert 'name="password"' in _fetch(portal)
        assert "first" in _fetch(admin, "--location", "--cookie", ""), "the plan isn't on the admin page"
        assert "can&#39;t be used" in _fetch(admin), "the link works twice"
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, printed + errors
    assert errors == ""
    assert traces(process.pid) == []
