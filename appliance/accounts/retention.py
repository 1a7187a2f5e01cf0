"""What is kept of people, and for how long (`[privacy]` in the configuration)."""

import time

from appliance.accounts import unfinished
from appliance.accounts.pieces import execute, in_pieces, marks
from appliance.config import Privacy

DAY_S = 86_400
_ROUND = 10_000  # ids read at once


def run(privacy: Privacy, now: int | None = None) -> int:
    """All that has to be done once a day, in short writes; returns how many sessions were deleted."""
    before = (int(time.time()) if now is None else now) - privacy.keep_sessions_days * DAY_S
    unfinished.sweep()
    forget_addresses(before)
    return delete_sessions(before)


def delete_sessions(before: int) -> int:
    """Those that ended before that time (UTC seconds); returns how many."""
    deleted = 0
    # What ended before has begun before, and there is an index on that.
    old = "SELECT id FROM session WHERE started_at < ? AND ended_at < ? ORDER BY started_at LIMIT ?"
    while ids := [row[0] for row in execute(old, before, before, _ROUND).fetchall()]:
        for piece in in_pieces(ids):
            deleted += execute(f"DELETE FROM session WHERE id IN ({marks(piece)})", *piece).rowcount
    return deleted


def forget_addresses(before: int) -> None:
    """A pool's address remembers whose it was last, so that they get it again: not for longer than sessions."""
    ips = execute("SELECT ip FROM pool_address WHERE held_until < ? AND mac IS NOT NULL", before).fetchall()
    for piece in in_pieces([row[0] for row in ips]):
        execute(
            f"UPDATE pool_address SET account_id = NULL, mac = NULL WHERE held_until < ? AND ip IN ({marks(piece)})",
            before,
            *piece,
        )
