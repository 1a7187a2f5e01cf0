"""Sessions that end without a Stop: their router restarted, or has been silent for too long."""

import time

import peewee

LOST = "Lost-Session"
REBOOT = "NAS-Reboot"

_PIECE = 200  # sessions in one transaction, so that none lasts 50 ms
_PAUSE_S = 0.005  # between two of them, so that a writer who waits has its turn
_END = (
    "UPDATE session SET ended_at = updated_at, terminate_cause = ? WHERE ended_at IS NULL AND {which} AND id IN"
    " (SELECT id FROM session WHERE ended_at IS NULL AND {which} LIMIT ?)"
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
    while True:
        piece = _close_piece(database, cause, which, values, now, hold_s)
        closed += piece
        if piece < _PIECE:
            return closed
        time.sleep(_PAUSE_S)


def _close_piece(
    database: peewee.Database, cause: str, which: str, values: tuple[object, ...], now: int, hold_s: int
) -> int:
    sqlite = isinstance(database, peewee.SqliteDatabase)
    end, release = (text if sqlite else text.replace("?", "%s") for text in (_END.format(which=which), _RELEASE))
    with database.atomic(*(("IMMEDIATE",) if sqlite else ())):
        ended = database.execute_sql(end, (cause, *values, *values, _PIECE)).fetchall()
        for ip, account_id, mac, updated_at in ended:
            if ip is not None and account_id is not None:
                database.execute_sql(release, (now, ip, account_id, mac, now, updated_at + hold_s))
    return len(ended)
