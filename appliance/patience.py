"""A line to PostgreSQL that is given up when a statement isn't answered in time.

libpq has no such limit: a server that stands still is waited for without end, as its kernel goes on to take what is
sent. A limit on the server's side stands still with it, and would give up commits that wait for a standby's disk.
"""

import os
import socket
import threading
import time
from typing import Any

import psycopg2
from psycopg2.extensions import connection, cursor

_LOOKS_S = 0.25


class Cursor(cursor):  # type: ignore[misc]
    def execute(self, query: Any, vars: Any = None) -> None:
        link = self.connection
        link.waits_since = time.monotonic()
        try:
            super().execute(query, vars)
        finally:
            link.waits_since = 0.0


class Link(connection):  # type: ignore[misc]
    """`limit_s` is how long an answer may take, None for as long as it does."""

    waits_since = 0.0
    limit_s: float | None = None
    patience: "Patience"


class Patience:
    """A thread that ends the link when it has waited for its limit; whoever waits has an OperationalError then."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="patience", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_LOOKS_S):
            if self._is_late():
                self._end()

    def _is_late(self) -> bool:
        since, limit_s = self._link.waits_since, self._link.limit_s
        return bool(since) and limit_s is not None and time.monotonic() - since > limit_s

    def _end(self) -> None:
        try:
            with socket.socket(fileno=os.dup(self._link.fileno())) as line:
                if self._is_late():  # still, so it was this link's
                    line.shutdown(socket.SHUT_RDWR)
        except (OSError, psycopg2.Error):  # ended meanwhile
            return
