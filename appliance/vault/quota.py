"""How much a vault may still take: reserved as an upload begins, more of it as that grows, settled at its end."""

import contextlib
from typing import Any

import peewee

from appliance.vault.models import Refused, Reservation, sql

FIRST_BYTES, STEP_BYTES = 2**16, 16 * 2**20  # a small file needs no second step


def is_needed(vault: Any, size: int) -> bool:
    """Whether so much has to be reserved before it comes: not so little, where there is no limit."""
    return size > FIRST_BYTES or left(vault) != (None, None)


def reserve(vault: Any, spool: str, path: str, size: int, files: int, login: str, at_ms: int) -> Any:
    """In the caller's transaction. Raises Refused (552)."""
    room, names = left(vault)
    if names is not None and files > names:
        raise Refused(552, "the vault may not have more files")
    if room is not None and (size > room or (size == 0 and room <= 0)):
        raise Refused(552, f"the vault has {max(0, room)} bytes left, {size} are needed")
    size = max(size, FIRST_BYTES if room is None else min(FIRST_BYTES, room))
    return Reservation.create(vault=vault, spool=spool, path=path, bytes=size, files=files, login=login, at_ms=at_ms)


def extend(vault: Any, reservation: Any, size: int) -> int:
    """How much is reserved now, at least `size` in all. Raises Refused (552)."""
    room, _ = left(vault)
    more = max(size - reservation.bytes, STEP_BYTES)
    if room is not None and more > room:
        more = room
        if reservation.bytes + more < size:
            raise Refused(552, f"the vault has no room for more than {max(0, reservation.bytes + room)} bytes of this")
    reservation.bytes += more
    if not Reservation.update(bytes=reservation.bytes).where(Reservation.id == reservation.id).execute():
        raise Refused(451, "the upload was given up")
    return int(reservation.bytes)


def left(vault: Any) -> tuple[int | None, int | None]:
    """Bytes and files, beside what is reserved; None is no limit."""
    row = sql(
        "SELECT quota_bytes - used_bytes - coalesce(sum(bytes), 0), quota_files - used_files - coalesce(sum(files), 0)"
        " FROM vault LEFT JOIN reservation ON reservation.vault_id = vault.id WHERE vault.id = ?"
        " GROUP BY vault.id, quota_bytes, used_bytes, quota_files, used_files",
        vault.id,
    ).fetchone()
    if row is None:
        raise Refused(550, "the vault is gone")
    room, names = row
    return None if room is None else int(room), None if names is None else int(names)


def settle(reservation: Any) -> None:
    """Raises Refused where it is gone."""
    if not sql("DELETE FROM reservation WHERE id = ?", reservation.id).rowcount:
        raise Refused(451, "the upload was given up")


def release(reservation: Any) -> None:
    with contextlib.suppress(peewee.PeeweeException):
        sql("DELETE FROM reservation WHERE id = ?", reservation.id)
