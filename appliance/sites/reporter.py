"""What an appliance of many says of itself, once a minute; a process of its own, whichever modules are enabled."""

import contextlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peewee

from appliance import config as configuration
from appliance import data_disk, health, modules, process
from appliance.accounts.database import bind_core
from appliance.accounts.models import core_db
from appliance.admin import settings
from appliance.config import Config
from appliance.errors import UserError
from appliance.jobs import Job, Scheduler
from appliance.sites import central
from appliance.sites.models import Site
from appliance.sites.registry import own_machine

EVERY_S = 60
TICK_S = 0.5
MOST_PROBLEMS = 20
SNAPSHOT = Path("island") / "core.db"  # below `paths.state`

log = logging.getLogger(__name__)


def report(config: Config) -> None:
    """Of the box that bears the site's key; another one that calls itself so says nothing."""
    own = (Site.key == config.site.key) & (Site.machine == own_machine(config.paths.state))
    if not Site.update(**facts(config), **_clocks()).where(own).execute():
        log.warning("site %s isn't this box's, or was removed: nothing is reported", config.site.key)


def facts(config: Config) -> dict[str, Any]:
    return {
        "version": version("gatehouse"),
        "kernel": os.uname().release,
        "booted_at": _booted_at(),
        "disks": json.dumps(list(_disks(config))),
        "data_disk": _data_disk(config),
        "modules": " ".join(module.name for module in modules.enabled(config)),
        "problems": json.dumps(health.problems(config)[:MOST_PROBLEMS]),
        "snapshot_at": _made_at(config.paths.state / SNAPSHOT),
        "settings": json.dumps(_settings(config)),
    }


def _clocks() -> dict[str, int]:
    """By the database's clock, asked in the middle of the way there and back."""
    before = time.time()
    (there_ms,) = core_db.execute_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetchone()
    here_ms = (before + time.time()) * 500
    return {"reported_at": there_ms // 1000, "ahead_ms": round(here_ms - there_ms)}


def _booted_at() -> int | None:
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return None


def _disks(config: Config) -> Iterator[tuple[str, int, int]]:
    """Free and whole, in octets; the data disk only where it is one of its own."""
    system = config.paths.state
    for name, path in (("system", system), ("data", config.paths.data)):
        with contextlib.suppress(OSError):
            if name == "data" and path.stat().st_dev == system.stat().st_dev:
                continue
            usage = shutil.disk_usage(path)
            yield name, usage.free, usage.total


def _data_disk(config: Config) -> str:
    try:
        return data_disk.line(data_disk.state(config))
    except (UserError, OSError):
        return ""


def _made_at(path: Path) -> int | None:
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return None


def _settings(config: Config) -> dict[str, str]:
    """As they would be typed, of the file as it is now."""
    now = configuration.load(config.file)
    return {key: settings.typed(configuration.value(now, key)) for key in central.allowed()}


def serve(config: Config, over: threading.Event) -> None:
    bind_core(config)
    with contextlib.closing(core_db):
        with contextlib.suppress(peewee.PeeweeException):
            core_db.connect()
        scheduler = Scheduler(
            [Job("report of the site", EVERY_S, lambda _: report(config), everywhere=True)], config.site.key
        )
        while not over.is_set():
            scheduler.tick()
            over.wait(TICK_S)


if __name__ == "__main__":
    process.run("gatehouse-site", "Tells how this appliance of many is.", serve)
