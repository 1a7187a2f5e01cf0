"""Sends accounting from the outbox, beside the daemon's loop: a RADIUS server that is away holds up nobody."""

import logging
import threading
from collections.abc import Callable

from appliance.errors import Unavailable
from portal.models import Event, Store
from portal.radius import AccountingRecord

PASS = 100  # events between two looks into the table
LOOK_S = 30.0
MAX_BACKOFF_S = 60.0

log = logging.getLogger(__name__)


class Sender:
    """One thread. An event leaves the outbox when it is acknowledged; one that isn't holds up only its session.

    `store` needn't be durable: an event that comes back after a power cut is sent twice, which changes nothing.
    """

    def __init__(self, store: Store, send: Callable[[AccountingRecord], None]) -> None:
        self._store = store
        self._send = send
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="accounting", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._news.set()

    def stop(self, patience_s: float) -> None:
        self._stopping.set()
        self._news.set()
        self._thread.join(patience_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.clear()
            try:
                if not self._pass():
                    self._news.wait(LOOK_S)
            except Exception:
                log.exception("accounting can't go on, trying again in %d s", MAX_BACKOFF_S)
                self._stopping.wait(MAX_BACKOFF_S)
        self._store.close()

    def _pass(self) -> bool:
        """False when nothing was waiting."""
        events = self._store.waiting(PASS)
        for event in events:
            if self._stopping.is_set():
                break
            self._try(event)
        return bool(events)

    def _try(self, event: Event) -> None:
        try:
            self._send(event.record)
        except Unavailable as error:
            self._failures += 1
            if self._failures == 1:
                log.warning("accounting waits: %s", error)
            self._stopping.wait(min(2.0**self._failures / 2, MAX_BACKOFF_S))
            return
        if self._failures:
            log.info("accounting goes on")
        self._failures = 0
        self._store.sent(event)
