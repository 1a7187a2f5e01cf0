"""SQLite's checkpoints beside the writers, who would else stop to carry pages over and wait for the disk twice.

Whoever writes first after a complete one begins the -wal anew, and waits for the disk as its header must not come later
than what follows (https://sqlite.org/fileformat2.html#resetwal). That is done here too, at once, before a login has to.

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
        self._database = db.connect(url, _BUSY_TIMEOUT_MS, durable=False)
        self._seen: int | None = None
        self._ending = Event()
        self._thread = Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(_EVERY_S):
            try:
                self._carry_over()
            except peewee.PeeweeException:  # the writer meets the same trouble, and tells of it
                self._database.close()
                self._seen = None  # counted anew by each connection
        self._database.close()

    def _carry_over(self) -> None:
        """Nothing where nobody else has committed since the last complete one (https://sqlite.org/pragma.html)."""
        version = self._one("PRAGMA data_version")[0]
        if version == self._seen:
            return
        somebody_elses, pages, carried = self._one("PRAGMA wal_checkpoint(PASSIVE)")
        if pages == carried and not somebody_elses:
            self._begin_anew()
            self._seen = version

    def _begin_anew(self) -> None:
        """By a write that changes nothing, as all of SQLite's checkpoints leave it to the next writer."""
        with self._database.atomic():
            self._database.execute_sql(f"PRAGMA user_version = {self._one('PRAGMA user_version')[0]}")

    def _one(self, sql: str) -> tuple[int, ...]:
        return tuple(self._database.execute_sql(sql).fetchone())
