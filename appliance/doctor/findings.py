"""What is found, and how checks are run: side by side, each with a time limit, so that none hides the others."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import peewee

from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.errors import UserError

OK, WARN, BAD = "ok", "warn", "bad"
STATES = (BAD, WARN, OK)  # worst first

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """`sentence` says how it is, `remedy` what mends it, `commands` its exact lines, here or on a router."""

    subject: str
    state: str
    sentence: str
    remedy: str = ""
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """`core` needs the core database open; what only root can see is left to the command. One that isn't `wanted`
    has nothing to look at."""

    title: str
    run: Callable[[Config], Iterable[Finding]]
    core: bool = False
    root: bool = False
    limit_s: float = 20.0
    wanted: Callable[[Config], bool] = lambda config: True


@dataclass(frozen=True)
class Report:
    """`at` in UTC seconds; `left` are the titles of checks that only root can make."""

    at: int
    findings: tuple[Finding, ...]
    left: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        return worst(self.findings)

    def to_json(self) -> str:
        return json.dumps({"at": self.at, "state": self.state, **asdict(self)}, indent=2)


def from_json(text: str) -> Report:
    """Raises ValueError for anything else than `to_json` made."""
    try:
        kept: Any = json.loads(text)
        findings = (Finding(**{**found, "commands": tuple(found["commands"])}) for found in kept["findings"])
        return Report(int(kept["at"]), tuple(findings), tuple(kept["left"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no report: {error}") from None


def worst(findings: Iterable[Finding]) -> str:
    return min((found.state for found in findings), key=STATES.index, default=OK)


def examine(config: Config, checks: Sequence[Check], as_root: bool, now: int) -> Report:
    """The core database is bound to the models; threads that don't come back end with the process."""
    todo = [check for check in checks if as_root or not check.root]
    found: dict[int, list[Finding]] = {}

    def look(number: int, check: Check) -> None:
        found[number] = _looked(config, check)

    began = time.monotonic()
    threads = [threading.Thread(target=look, args=item, daemon=True) for item in enumerate(todo)]
    for thread in threads:
        thread.start()
    for thread, check in zip(threads, todo, strict=True):
        thread.join(max(0.0, began + check.limit_s - time.monotonic()))
    findings = [one for number, check in enumerate(todo) for one in found.get(number, [_late(check)])]
    return Report(now, tuple(findings), tuple(check.title for check in checks if check not in todo))


def _looked(config: Config, check: Check) -> list[Finding]:
    if check.core and core_db.obj is None:
        return [
            Finding(check.title, BAD, "There is no database yet.", "Apply the configuration.", ("gatehouse apply",))
        ]
    try:
        if not check.core:
            return list(check.run(config))
        with core_db.connection_context():
            return list(check.run(config))
    except (UserError, OSError, peewee.PeeweeException) as error:
        return [Finding(check.title, BAD, f"This couldn't be looked at: {error}")]
    except Exception as error:  # a mistake in one check must not hide what the others find
        log.exception("%s", check.title)
        return [Finding(check.title, WARN, f"The check itself failed: {error!r}", "Please report it.")]


def _late(check: Check) -> Finding:
    return Finding(check.title, WARN, f"This gave no answer within {check.limit_s:g} seconds.", "Try again.")
