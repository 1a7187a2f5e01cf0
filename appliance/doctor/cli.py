"""`gatehouse doctor`: looks at everything, and says what mends what is wrong."""

import argparse
import contextlib
from typing import Any

from appliance.accounts.database import bind_core
from appliance.config import Config
from appliance.doctor import run
from appliance.doctor.findings import OK, STATES, Finding, Report
from appliance.errors import UserError

_MARK = {"ok": "ok  ", "warn": "WARN", "bad": "BAD "}


def add_parser(commands: Any) -> None:
    words = commands.add_parser("doctor", help="find what is wrong, and what mends it; exit status 1 if anything is")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_doctor, needs_core=False)


def _doctor(args: argparse.Namespace, config: Config) -> str:
    with contextlib.suppress(UserError):  # without a database the checks that need it say so
        bind_core(config)
    report = run.look(config)
    with contextlib.suppress(OSError, LookupError):  # only for the page, which shows it too
        run.keep(config, run.COMMAND, report)
    args.status = 0 if report.state == OK else 1
    return report.to_json() if args.json else "\n".join(_lines(report))


def _lines(report: Report) -> list[str]:
    """The worst first."""
    lines = [line for state in STATES for found in report.findings if found.state == state for line in _of(found)]
    if report.left:
        lines.append(f"Only root can look at: {', '.join(report.left)}.")
    return lines


def _of(found: Finding) -> list[str]:
    lines = [f"{_MARK[found.state]}  {found.subject}: {found.sentence}"]
    if found.state != OK:
        lines += [f"      {found.remedy}"] if found.remedy else []
        lines += [f"        {command}" for command in found.commands]
    return lines
