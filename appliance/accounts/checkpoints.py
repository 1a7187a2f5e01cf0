"""SQLite's checkpoints beside the writers, who would else stop to carry pages over and wait for the disk twice.

When packets come without a pause there is always something left, so the writer itself does that little when the -wal
has grown to its limit (appliance/db.py), and begins it anew.
"""

from threading import Event, Thread

import peewee

from appliance import db

_EVERY_S = 0.5
_BUSY_TIMEOUT_MS = 50


class Checkpoints:
    """A thread of its own, with a connection of its own, until `stop`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ending = Event()
        self._thread = Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        database = db.connect(self._url, _BUSY_TIMEOUT_MS, durable=False)
        while not self._ending.wait(_EVERY_S):
            try:
                database.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except peewee.PeeweeException:  # the writer meets the same trouble, and tells of it
                database.close()
        database.close()
