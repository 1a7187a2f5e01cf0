"""What the vault does by itself: retention, verifying, the second copy, and what the admin's pages ask for.

`python -m appliance.vault.keeper`
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import peewee

from appliance import process
from appliance.config import Config
from appliance.errors import UserError
from appliance.vault import alerts, asking, offers, outliving, replica, retention, scrub, settings, sources
from appliance.vault.models import Chore, Refused, vault_db
from appliance.vault.scrub import Pace
from appliance.vault.store import Store

TICK_S = 0.5
BUDGET_S = 20.0  # of verifying, before others have their turn

log = logging.getLogger(__name__)


@dataclass
class Job:
    """`run` is given UTC seconds. When it was done last outlives a restart; what failed is tried again soon."""

    name: str
    every_s: int
    run: Callable[[int], None]
    not_before_s: float = 0.0
    failed: str = ""


def jobs(config: Config, store: Store) -> list[Job]:
    pace = Pace(config.vault.scrub_mb_s * 1e6)
    found = [
        Job("settings", 60, lambda now: _settings(store)),  # before anything is erased by others
        Job("sign", 60, lambda now: _sign(config, store, now)),
        Job("clock", 60, lambda now: _look(store)),
        Job("recover", 300, lambda now: _recover(store)),  # also of a disk that is back
        Job("retention", 3600, lambda now: _retain(store)),
        Job("scrub", 60, lambda now: _scrub(store, now, pace)),
    ]
    if config.vault.replica is not None:
        found += [
            Job("replica", 300, lambda now: _pull(store, config.vault.replica, now, pace)),
            Job("replica scrub", 3600, lambda now: _verify(config.vault.replica, now, pace)),
        ]
    return [*found, Job("alerts", 60, lambda now: alerts.run(config, store, now))]


def copying(store: Store, pace: Pace) -> list[Job]:
    """Of other appliances' vaults. They have a thread of their own, as a slow one holds up nobody else's work then."""
    return [
        Job(sources.JOB, 300, lambda now: sources.pull_all(store, now)),
        Job("sources retention", 3600, lambda now: outliving.run(store)),
        Job("sources scrub", 3600, lambda now: sources.verify_all(store, now, pace, BUDGET_S)),
    ]


def _settings(store: Store) -> None:
    if settings.keep(store.state):
        log.info("vaults and log-ins changed: the file for backups is written")


def _sign(config: Config, store: Store, now: int) -> None:
    if offers.sign(config, store, now):
        log.debug("signed for those who keep a copy")


def _look(store: Store) -> None:
    """So that no more than this of the vault's own time is lost when the power goes."""
    with store.turns.plain():
        pass


def _recover(store: Store) -> None:
    if count := store.recover():
        log.warning("%d uploads that broke off were swept away", count)


def _retain(store: Store) -> None:
    if count := retention.run(store):
        log.info("%d versions were erased, as their time was over", count)


def _scrub(store: Store, now: int, pace: Pace) -> None:
    scrub.mend_all(store, now)
    count, bad = scrub.run(store, now, pace, BUDGET_S)
    if bad:
        log.error("%d of %d contents were bad, and no second copy had them", bad, count)


def _pull(store: Store, path: Path | None, now: int, pace: Pace) -> None:
    if path is not None and (count := replica.pull(store, path, now, pace)):
        log.info("second copy: %d events", count)


def _verify(path: Path | None, now: int, pace: Pace) -> None:
    if path is not None:
        replica.verify(path, now, pace, BUDGET_S)


def tick(todo: list[Job], now: int) -> None:
    for job in todo:
        chore = Chore.get_or_none(Chore.name == job.name)
        if time.monotonic() < job.not_before_s or (chore and 0 <= now - chore.done_at < job.every_s):
            continue
        try:
            job.run(now)
            Chore.insert(name=job.name, done_at=now).on_conflict(
                conflict_target=[Chore.name], update={Chore.done_at: now}
            ).execute()
            job.failed = ""
        except (Refused, UserError, OSError, peewee.PeeweeException) as error:
            job.not_before_s = time.monotonic() + min(job.every_s, 60)
            if str(error) != job.failed:  # a disk that is away is told once
                log.warning("%s: %s", job.name, error)
            job.failed = str(error)
        except Exception:  # the other jobs go on
            job.not_before_s = time.monotonic() + 60
            log.exception("%s", job.name)


def _answer(store: Store, over: threading.Event) -> None:
    while not over.wait(TICK_S):
        try:
            asking.answer(store)
        except (Refused, OSError, peewee.PeeweeException) as error:
            log.warning("%s", error)
            vault_db.close()
        except Exception:
            log.exception("what was asked for can't be done")


def _copy(config: Config, store: Store, over: threading.Event) -> None:
    todo = copying(store, Pace(config.vault.scrub_mb_s * 1e6))
    while not over.wait(TICK_S):
        tick(todo, int(time.time()))


def serve(config: Config, over: threading.Event) -> None:
    store = Store(config)
    todo = jobs(config, store)
    answering = threading.Thread(target=_answer, args=(store, over), name="asked", daemon=True)
    answering.start()
    # Not waited for: what it was at is right at any point, and goes on from there.
    threading.Thread(target=_copy, args=(config, store, over), name="copies", daemon=True).start()
    while not over.wait(TICK_S):
        tick(todo, int(time.time()))
    answering.join()
    vault_db.close()


if __name__ == "__main__":
    process.run("gatehouse-vault-keeper", "What the vault does by itself.", serve)
