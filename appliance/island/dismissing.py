"""Conflicts that somebody has looked at."""

import time
from collections.abc import Sequence

from appliance.accounts.models import core_db
from appliance.admin import audit
from appliance.errors import Missing, UserError
from appliance.island.models import IslandConflict


def dismiss(ids: Sequence[int], who: str) -> int:
    """How many that were open. Raises UserError where there is none of them."""
    open_ones = IslandConflict.dismissed_at.is_null()
    with core_db.atomic():
        found = list(IslandConflict.select().where(IslandConflict.id.in_(list(ids)), open_ones))
        if not found:
            raise Missing("there is no such open conflict: see `gatehouse island conflicts`")
        for row in found:
            changes = {"dismissed_at": int(time.time()), "dismissed_by": who}
            IslandConflict.update(changes).where(IslandConflict.id == row.id).execute()
            audit.record(who, "dismissed", f"conflict {row.kind} {row.account}".strip(), {}, {"site": row.site})
    return len(found)


def number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UserError(f"{text!r} is no conflict's number: see `gatehouse island conflicts`")
    return int(text)
