"""The one scheduler: jobs that may be done again without harm, each by one process at a time."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import peewee

from appliance import db, mail, process
from appliance.accounts import closing, leases, retention
from appliance.accounts.database import bind_core
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.crypto import SecretBox, load_box
from appliance.errors import Unavailable, UserError
from appliance.island import places
from appliance.nas import status, watch
from appliance.nas.live import Watch
from appliance.nas.live_sender import Sender
from appliance.nas.part import ALL, Part

TICK_S = 0.5
MAX_PAUSE_S = 60
FORGOTTEN_AT_ONCE = 2000  # sessions, so that changes of running ones needn't wait

if TYPE_CHECKING:
    from appliance.island.keeper import Keeper

log = logging.getLogger(__name__)


@dataclass
class Job:
    """`run` is given the time (UTC seconds); a failure is logged and tried again, later each time.

    `everywhere` is what each machine does for itself, lease or not, by its own clock.
    """

    name: str
    every_s: float
    run: Callable[[int], None]
    everywhere: bool = False
    next_at_s: float = 0.0
    failures: int = 0


def jobs(config: Config, senders: Sequence[Sender], messages: mail.Sender, keeper: "Keeper | None" = None) -> list[Job]:
    silent_s = config.radius.silent_s
    unusable = status.MalformedWatch(status.Watch(config))
    silence = watch.Watch(silent_s, config.shows_gateways)
    return [
        *(_live_changes(config, sender) for sender in senders),
        Job("unusable packets", 10, lambda now: _warn(unusable.look(status.routers(config))), everywhere=True),
        Job("lost sessions", 30, lambda now: _close_lost(silent_s, now)),
        Job("retention", 60, lambda now: _forget(config, now)),
        *([Job("messages", 2, messages.run)] if mail.is_sent_here(config) else ()),
        Job("silent routers", 30, lambda now: _warn(silence.look(now))),
        *([Job("island", keeper.every_s, keeper.run, everywhere=True)] if keeper else ()),
    ]


def _live_changes(config: Config, sender: Sender) -> Job:
    """Of a site's routers only its own appliance tells: nobody else reaches them, nor its gateway."""
    changes = Watch(core_db.obj, config.site.timezone, config.radius.silent_s, sender.part)

    def follow(now: int) -> None:
        try:
            changes.look(now)
        finally:
            sender.collect(now)
            sender.confirm(now)
            sender.send(now)

    site = sender.part.site
    return Job(f"live changes of {site}" if site else "live changes", TICK_S, follow, everywhere=site is not None)


def parts(config: Config) -> tuple[Part, ...]:
    """Whose running sessions this appliance looks after; those of no site under a lease."""
    if not config.fleet:
        return (ALL,)
    return Part(None, fleet=True), Part(config.site.key, fleet=True)


def _close_lost(silent_s: int, now: int) -> None:
    if count := closing.close_lost(core_db.obj, silent_s, now):
        log.info("%d sessions closed that no router has reported for %d s", count, silent_s)


def _forget(config: Config, now: int) -> None:
    if count := retention.run(config.privacy, now, FORGOTTEN_AT_ONCE):
        log.info("%d sessions deleted that are older than %d days", count, config.privacy.keep_sessions_days)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        log.warning("%s", line)


class Scheduler:
    """Runs what is due, one after the other, under a lease of the job's name."""

    def __init__(self, todo: list[Job], holder: str) -> None:
        self._todo = todo
        self._holder = holder

    def tick(self) -> None:
        for job in self._todo:
            if time.monotonic() >= job.next_at_s:
                job.next_at_s = time.monotonic() + job.every_s
                self._run(job)

    def _run(self, job: Job) -> None:
        now = int(time.time())
        try:
            if not job.everywhere:  # what is done for all of them goes by the clock of all of them
                now = db.clock(core_db.obj, now)
            if job.everywhere or leases.hold(job.name, self._holder, now):
                job.run(now)
            job.failures = 0
        except (peewee.PeeweeException, UserError, OSError) as error:
            level = logging.WARNING if job.failures or not isinstance(error, Unavailable) else logging.INFO
            pause_s = min(job.every_s + 2**job.failures, MAX_PAUSE_S)
            job.next_at_s, job.failures = time.monotonic() + pause_s, min(job.failures + 1, 6)
            log.log(level, "%s: %s: again in %d s", job.name, error, pause_s)
            with contextlib.suppress(peewee.PeeweeException):
                core_db.close()
                core_db.connect()
        except Exception:  # the other jobs go on
            job.next_at_s = time.monotonic() + MAX_PAUSE_S
            log.exception("%s: again in %d s", job.name, MAX_PAUSE_S)


def _serve(config: Config, over: threading.Event) -> None:
    box = load_box(config.paths.state)
    senders, messages = [Sender(box, part=part) for part in parts(config)], mail.Sender(config, box)
    bind_core(config)
    with contextlib.closing(core_db):
        core_db.connect()
        keeper = _keeper(config, box)
        scheduler = Scheduler(jobs(config, senders, messages, keeper), leases.machine(config))
        while not over.is_set():
            scheduler.tick()
            over.wait(TICK_S)
    for sender in senders:
        sender.close()
    messages.close()
    if keeper is not None:
        keeper.close()


def _keeper(config: Config, box: SecretBox) -> "Keeper | None":
    """Where the database is another machine's."""
    if not places.is_wanted(config):
        return None
    from appliance.island.keeper import Keeper  # which nobody needs who has the database in a file

    return Keeper(config, box)


if __name__ == "__main__":
    process.run("gatehouse-jobs", "What the appliance does by itself.", _serve)
