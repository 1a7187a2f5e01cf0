"""The scheduler: one job's failure is its own."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import peewee
import pytest

from appliance import config, db
from appliance.accounts.database import bind_core
from appliance.accounts.models import Plan, core_db
from appliance.errors import Unavailable
from appliance.jobs import MAX_PAUSE_S, Job, Scheduler

ROOT = Path(__file__).parents[2]


@pytest.fixture
def core(toml: Path) -> Iterator[None]:
    """Opened as the service does it."""
    bind_core(config.load(toml))
    core_db.connect()
    yield
    core_db.close()


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("unforeseen"), KeyError("x"), Unavailable("later"), peewee.OperationalError("locked")]
)
def test_a_job_that_fails_takes_no_other_down(core: None, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    ran = []

    def fail(now: int) -> None:
        ran.append("failing")
        raise error

    def work(now: int) -> None:
        ran.append("working")
        Plan.select().count()  # the database is open still

    failing, working = Job("failing", 0.0, fail), Job("working", 0.0, work)
    scheduler = Scheduler([failing, working], "here")
    caplog.set_level(logging.INFO)
    scheduler.tick()
    scheduler.tick()
    assert ran == ["failing", "working", "working"]
    assert 0 < failing.next_at_s - time.monotonic() <= MAX_PAUSE_S
    failing.next_at_s = 0.0
    scheduler.tick()
    assert ran == ["failing", "working", "working", "failing", "working"]
    assert caplog.text.count(str(error)) >= 2


@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
def test_what_is_done_for_all_sites_goes_by_the_databases_clock(core: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box whose clock is ahead would delete what the others have, and end what runs."""
    real = time.time
    ran: dict[str, int] = {}
    todo = [Job("retention", 60, lambda now: ran.update(common=now))]
    todo += [Job("own", 60, lambda now: ran.update(own=now), everywhere=True)]
    monkeypatch.setattr(time, "time", lambda: real() + 800 * 86_400)
    Scheduler(todo, "here").tick()
    monkeypatch.undo()
    assert ran["common"] < real() + 86_400 < ran["own"]


@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
def test_the_service_goes_on_after_a_failure_and_ends_in_peace(toml: Path) -> None:
    loaded = config.load(toml)
    loaded.paths.run.mkdir()
    (loaded.paths.run / "status.secret").write_text("nobody answers to it")
    path = db.sqlite_path(loaded.database_url)
    assert path is not None
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE nas RENAME TO gone")
    words = [sys.executable, "-m", "appliance.jobs", "--config", str(toml)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as jobs:
        assert jobs.stderr is not None
        lines = iter(jobs.stderr.readline, "")
        try:
            assert any("no such table: nas" in line for line in lines)
            assert any("again in" in line for line in lines)  # another one
            assert jobs.poll() is None
        finally:
            jobs.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert jobs.returncode == 0, rest
    assert not any("Traceback" in line for line in rest), rest
