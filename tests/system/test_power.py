"""The power goes at random moments, at work and while the box boots: what was acknowledged is there afterwards.

A power cut is a kill -9 of the virtual machine, see docs/testing.md for what that doesn't show.
GATEHOUSE_KILLS: how many.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from images import disk
from tests.bench.acct_load import START, Told, session_id
from tests.lab.namespace import CommandFailed, run
from tests.system.box import BOOT_S, Box

pytestmark = [pytest.mark.system, pytest.mark.long]

KILLS = int(os.environ.get("GATEHOUSE_KILLS", "4"))
BOOT_KILL_S = 60  # at most, after power-on: from the loader till all is up
WORK_S = 5, 25
PAUSE_S = 0.05


@dataclass
class Work:
    """What the box was asked for from outside, and has said yes to."""

    box: Box
    sessions: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    _next: int = 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Until the machine is off: each packet and each account, one after the other."""
        threads = [threading.Thread(target=target) for target in (self._account, self._add_accounts)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.box.cut_power()
            for thread in threads:
                thread.join()

    def _account(self) -> None:
        while self.box.is_on():
            self._next += 1
            if self.box.account(Told(START, self._next, "guest", int(time.time()), 0, 0, 0)):
                self.sessions.append(session_id(self._next))
            time.sleep(PAUSE_S)

    def _add_accounts(self) -> None:
        while self.box.is_on():
            name = f"paid-{time.monotonic_ns()}"
            try:
                self.box.ssh(f"gatehouse account add {name} --plan first")
            except CommandFailed:
                continue  # the power went before it could say yes
            self.accounts.append(name)

    def missing(self) -> list[str]:
        stored = {
            row[0] for row in self.box.query("SELECT acct_session_id FROM session UNION SELECT name FROM account")
        }
        return [name for name in (*self.sessions, *self.accounts) if name not in stored]


def cut_while_booting(box: Box) -> None:
    box.power_on()
    time.sleep(random.uniform(0, BOOT_KILL_S))
    box.cut_power()


def test_what_was_acknowledged_outlives_power_cuts(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Box(image / "disk.raw", tmp_path / "box")
    work, kills = Work(box), 1
    try:
        cut_while_booting(box)  # the first time of all
        box.set_up()
        while True:
            with work.going_on():
                time.sleep(random.uniform(*WORK_S))
            kills += 1
            if kills < KILLS:
                cut_while_booting(box)
                kills += 1
            box.power_on()
            comes_back(work)
            told = f"{kills} cuts, {len(work.sessions)} packets, {len(work.accounts)} accounts, {box.seconds():.0f} s"
            with capsys.disabled():
                print(f"  {told} to serve again", flush=True)
            if kills >= KILLS:
                break
        assert work.sessions and work.accounts, "nothing was asked for"
        box.shut_down(BOOT_S)
        run("e2fsck", "-fn", f"{box.disk}?offset={disk.start(disk.STATE)}", timeout_s=300)
    finally:
        box.cut_power()


def comes_back(work: Work) -> None:
    """By itself, with all that it had said yes to, on its state partition."""
    box = work.box
    box.await_login()
    box.await_ssh(BOOT_S)
    box.await_health()
    assert not (missing := work.missing()), f"acknowledged, and gone: {missing[:5]}"
    assert box.ssh("findmnt --noheadings --output SOURCE,OPTIONS /run/initramfs/state").startswith("/dev/vda5 rw,")
