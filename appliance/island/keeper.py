"""A site's own thread beside the jobs: tells the central database what is queued, then copies what logins need.

In this order, so that a copy never lacks what happened here before it.
"""

import logging
import threading
import time
from contextlib import closing
from dataclasses import dataclass

import peewee

from appliance import db
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.errors import UserError
from appliance.island import places, snapshot
from appliance.island.delivery import Delivery
from appliance.island.queue import Queue
from appliance.island.signing import ensure_key

_STUCK_S = 1800
_SOON_S = 30  # until a copy that couldn't be made is tried again

log = logging.getLogger(__name__)


@dataclass
class _Trouble:
    """One line when it begins to fail, one when it works again."""

    what: str = ""

    def tell(self, error: Exception) -> None:
        if not self.what:
            log.warning("the central database can't be told or copied: %s", error)
        self.what = str(error)

    def over(self) -> None:
        if self.what:
            log.info("the central database is told and copied again")
        self.what = ""


class Keeper:
    """`run` is quick: work goes on in a thread, one round at a time."""

    every_s = 2.0

    def __init__(self, config: Config, box: SecretBox) -> None:
        self._config = config
        self._box = box
        self._round: threading.Thread | None = None
        self._ending = threading.Event()
        self._copy_at = 0.0
        self._began = 0.0
        self._trouble = _Trouble()

    def run(self, now: int) -> None:
        stuck = time.monotonic() - self._began > _STUCK_S  # a server that stands still is waited for without end
        if self._round is None or not self._round.is_alive() or stuck:
            self._began = time.monotonic()
            self._round = threading.Thread(target=self._go, args=(now,), name="island", daemon=True)
            self._round.start()

    def close(self) -> None:
        """What isn't done when the process ends is done by the next one."""
        self._ending.set()
        if self._round is not None:
            self._round.join(2)

    def _go(self, now: int) -> None:
        try:
            if self._is_something_to_do():
                self._connected(now)
            self._trouble.over()
        except (peewee.PeeweeException, UserError, OSError) as error:
            self._copy_at = min(self._copy_at, time.monotonic() + _SOON_S)
            self._trouble.tell(error)
        except Exception:
            log.exception("the island's round failed")

    def _is_something_to_do(self) -> bool:
        with closing(Queue(places.queue_file(self._config))) as queue:
            return not queue.is_empty() or time.monotonic() >= self._copy_at

    def _connected(self, now: int) -> None:
        url = self._config.database_url
        patient, central = db.connect(url), db.connect(url, shared=True)  # a copy takes its time
        with closing(Queue(places.queue_file(self._config))) as queue, central.connection_context():
            deliver(central, self._config, queue, now, self._ending)
        if time.monotonic() >= self._copy_at and not self._ending.is_set():
            with patient.connection_context():
                self.copy(patient, now)

    def copy(self, central: peewee.Database, now: int) -> None:
        config = self._config
        ensure_key(central, config.site.key, self._box)  # so that it is in the copy before the first voucher is made
        snapshot.take(central, places.copy_link(config), config.site.key, config.site.timezone, now)
        self._copy_at = time.monotonic() + config.island.refresh_s


def deliver(central: peewee.Database, config: Config, queue: Queue, now: int, ending: threading.Event) -> int:
    """Until nothing is left, in short transactions; how many entries. Raises peewee.PeeweeException."""
    zone, count = config.site.timezone, 0
    delivery = Delivery(central, config.site.key, zone, config.radius.silent_s)
    while not ending.is_set() and (done := delivery.run(queue, now)):
        count += done
    return count
