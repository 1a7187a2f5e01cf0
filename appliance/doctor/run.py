"""Which checks there are, and where the last report is kept."""

import importlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance import modules
from appliance.config import Config
from appliance.doctor.findings import BAD, Check, Report, examine, from_json
from appliance.files import written
from appliance.service import Attention
from appliance.units import format_ago

PAGE, COMMAND = "doctor-page.json", "doctor-command.json"  # below `paths.state`/admin: who looked
ADMIN = "gatehouse-admin"


def checks(config: Config) -> Sequence[Check]:
    """Each enabled module's, then the machine's."""
    names = [name for module in modules.running(config) for name in module.checks]
    every = [check for name in names for check in importlib.import_module(name).CHECKS]
    return [check for check in every if check.wanted(config)]


def look(config: Config) -> Report:
    """The core database is bound to the models."""
    return examine(config, checks(config), os.geteuid() == 0, int(time.time()))


def keep(config: Config, name: str, report: Report) -> None:
    """Shared with the page, which knows no secrets: there are none in a report."""
    with written(_folder(config) / name, 0o640, "root" if os.geteuid() == 0 else ADMIN, ADMIN) as file:
        file.write(report.to_json().encode())


def kept(config: Config, name: str) -> Report | None:
    try:
        return from_json((_folder(config) / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def latest(config: Config) -> Report | None:
    reports = [report for name in (PAGE, COMMAND) if (report := kept(config, name))]
    return max(reports, key=lambda report: report.at, default=None)


def attention(config: Config, now: int) -> Iterator[Attention]:
    """For the first page: how much was bad at the last look."""
    report = latest(config)
    bad = [found for found in report.findings if found.state == BAD] if report else []
    if report and bad:
        things = "1 thing" if len(bad) == 1 else f"{len(bad)} things"
        yield Attention(f"the doctor found {things} to mend, {format_ago(now - report.at)}", "/doctor")


def _folder(config: Config) -> Path:
    return config.paths.state / "admin"
