"""The doctor's page: what was found last, and the button to look anew. It sees what a process without rights can."""

import logging
import threading
from typing import Any

import bottle
import peewee

from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.config import Config
from appliance.doctor import run
from appliance.doctor.findings import OK, STATES, Finding, Report
from appliance.errors import UserError

RELOAD_S = 2

log = logging.getLogger(__name__)


class Looking:
    """One at a time, beside the pages: it takes as long as the slowest router."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    @property
    def is_busy(self) -> bool:
        return self._busy.locked()

    def start(self, config: Config) -> None:
        if self._busy.acquire(blocking=False):
            threading.Thread(target=self._look, args=(config,), daemon=True).start()

    def _look(self, config: Config) -> None:
        try:
            run.keep(config, run.PAGE, run.look(config))
        except (UserError, OSError, LookupError, peewee.PeeweeException) as error:
            log.error("the doctor can't say what it found: %s", error)
        finally:
            self._busy.release()


looking = Looking()


def page(ask: Ask) -> Any:
    own, command = run.kept(ask.config, run.PAGE), run.kept(ask.config, run.COMMAND)
    newest = max((report for report in (own, command) if report), key=lambda report: report.at, default=None)
    if "format" in ask.query() and newest:
        bottle.response.content_type = "application/json"
        return newest.to_json()
    if looking.is_busy:
        bottle.response.set_header("Refresh", str(RELOAD_S))
    return ask.page(
        "doctor.html",
        report=newest,
        by_command=newest is command,
        others=_others(newest, command) if newest and newest.left else [],
        command_at=command.at if command else None,
        busy=looking.is_busy,
        problems=_problems(newest.findings if newest else ()),
        fine=[found for found in newest.findings if found.state == OK] if newest else [],
    )


def _problems(findings: tuple[Finding, ...]) -> list[Finding]:
    """The worst first."""
    return sorted((found for found in findings if found.state != OK), key=lambda found: STATES.index(found.state))


def _others(newest: Report, command: Report | None) -> list[Finding]:
    """What only the command has seen, at its last run."""
    seen = {found.subject for found in newest.findings}
    return [found for found in command.findings if found.subject not in seen] if command else []


def look(ask: Ask) -> Any:
    audit.record(ask.person.name, "asked", "doctor", {}, {})
    looking.start(ask.config)
    return ask.done("/doctor")


PAGES = (Page("/doctor", page, nav="Doctor"), Page("/doctor", look, "POST"))
