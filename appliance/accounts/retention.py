"""What is kept of people, and for how long (`[privacy]` in the configuration)."""

from appliance.accounts import registration, unfinished
from appliance.accounts.pieces import delete_accounts, execute, in_pieces, marks
from appliance.config import Privacy

DAY_S = 86_400
_ROUND = 10_000  # ids read at once


def run(privacy: Privacy, now: int, most: int = 5000) -> int:
    """In short writes, and no more than that many sessions, so that it may be called again and again.

    Returns how many were deleted; less than `most` means that it is done for now.
    """
    before = now - privacy.keep_sessions_days * DAY_S
    unfinished.sweep()
    forget_addresses(before)
    forget_guests(before, now)
    forget_refusals(now - privacy.keep_refusals_days * DAY_S)
    execute("DELETE FROM island_conflict WHERE found_at < ?", before)
    execute("DELETE FROM island_login WHERE at < ?", before)
    return delete_sessions(before, most)


def delete_sessions(before: int, most: int = 2**62) -> int:
    """Those that ended before that time (UTC seconds), the oldest first; returns how many."""
    deleted = 0
    # What ended before has begun before, and there is an index on that.
    old = "SELECT id FROM session WHERE started_at < ? AND ended_at < ? ORDER BY started_at LIMIT ?"
    while ids := [row[0] for row in execute(old, before, before, min(_ROUND, most - deleted)).fetchall()]:
        for piece in in_pieces(ids):
            deleted += execute(f"DELETE FROM session WHERE id IN ({marks(piece)})", *piece).rowcount
    return deleted


def forget_guests(before: int, now: int) -> None:
    """Registrations that nobody confirmed or decided in time, with the account that let them in for a moment.

    Also accounts that guests made for themselves, when they weren't online for as long as sessions are kept.
    """
    over = (
        "(state = 'unconfirmed' AND token_until < ?) OR (state IN ('waiting', 'refused', 'unconfirmed')"
        " AND created_at < ?)"
    )
    limits = (now, now - registration.UNDECIDED_KEPT_S)
    delete_accounts(f"id IN (SELECT account_id FROM registration WHERE {over})", *limits)
    execute(f"DELETE FROM registration WHERE {over}", *limits)
    delete_accounts(
        "created_at < ? AND coalesce(first_login_at, 0) < ? AND id IN (SELECT account_id FROM registration)"
        " AND NOT EXISTS (SELECT 1 FROM session WHERE session.account_id = account.id)",
        before,
        before,
    )


def forget_refusals(before: int) -> None:
    while ids := [row[0] for row in execute("SELECT id FROM refusal WHERE at < ? LIMIT ?", before, _ROUND).fetchall()]:
        for piece in in_pieces(ids):
            execute(f"DELETE FROM refusal WHERE id IN ({marks(piece)})", *piece)


def forget_addresses(before: int) -> None:
    """A pool's address remembers whose it was last, so that they get it again: not for longer than sessions."""
    ips = execute("SELECT ip FROM pool_address WHERE held_until < ? AND mac IS NOT NULL", before).fetchall()
    for piece in in_pieces([row[0] for row in ips]):
        execute(
            f"UPDATE pool_address SET account_id = NULL, mac = NULL WHERE held_until < ? AND ip IN ({marks(piece)})",
            before,
            *piece,
        )
