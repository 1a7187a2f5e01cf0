"""Sessions that end without a Stop: their router restarted, or has been silent for too long."""

import time
from typing import Any

import peewee

LOST = "Lost-Session"
REBOOT = "NAS-Reboot"

_PIECE = 200  # sessions in one transaction, so that none lasts 50 ms
_PAUSE_S = 0.005  # between two of them, so that a writer who waits has its turn
_FIND = (
    "SELECT id FROM session WHERE ended_at IS NULL AND {which}"  # before any write: it may look at all that are open
)
_END = (
    "UPDATE session SET ended_at = updated_at, terminate_cause = ? WHERE ended_at IS NULL AND {which} AND id IN ({ids})"
    " RETURNING framed_ip, account_id, mac, updated_at"
)
# A longer hold than the session's own is a later login's.
_RELEASE = (
    "UPDATE pool_address SET held_until = ?"
    " WHERE ip = ? AND account_id = ? AND mac = ? AND held_until > ? AND held_until <= ?"
)


def close_lost(database: peewee.Database, silent_s: int, now: int) -> int:
    """Ends the sessions that no packet told of for `silent_s`, when they were last heard of; how many."""
    return _close(database, LOST, "updated_at < ?", (now - silent_s,), now, silent_s)


def close_rebooted(database: peewee.Database, nas: str, at: int, now: int, hold_s: int) -> int:
    """A NAS that restarted at `at` has no sessions from before any more; how many there were."""
    return _close(database, REBOOT, "nas = ? AND started_at <= ?", (nas, at), now, hold_s)


def _close(database: peewee.Database, cause: str, which: str, values: tuple[object, ...], now: int, hold_s: int) -> int:
    closed = 0
    ids = [row[0] for row in _execute(database, _FIND.format(which=which), *values).fetchall()]
    for piece in peewee.chunked(ids, _PIECE):
        if closed:
            time.sleep(_PAUSE_S)
        end = _END.format(which=which, ids=", ".join("?" for _ in piece))
        with database.atomic():
            ended = _execute(database, end, cause, *values, *piece).fetchall()
            for ip, account_id, mac, updated_at in ended:
                if ip is not None and account_id is not None:
                    _execute(database, _RELEASE, now, ip, account_id, mac, now, updated_at + hold_s)
        closed += len(ended)
    return closed


def _execute(database: peewee.Database, sql: str, *values: object) -> Any:
    sqlite = isinstance(database, peewee.SqliteDatabase)
    return database.execute_sql(sql if sqlite else sql.replace("?", "%s"), values)
