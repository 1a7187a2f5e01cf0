"""Wrong passwords of those who have pages or files of their own: in a table, where no restart forgives them."""

import hashlib
import time
from ipaddress import ip_address, ip_network
from typing import Any

import peewee

from appliance import db

WINDOW_S = 900
FOR_ADDRESS, FOR_NAME = 20, 10  # failures in that time
TOO_MANY = "There were too many wrong passwords: try again in a quarter of an hour"
_MOST = 50_000  # rows


class Guesses:
    """In a model with `id`, `subject` and `at_ms`; one for all ways in, so that they count together."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def are_too_many(self, login: str, address: str, home: str = "") -> bool:
        """`home` is where that log-in was used last. Who guesses it from elsewhere doesn't lock out its owner."""
        since = _now_ms() - WINDOW_S * 1000
        if self._count(_address(address), since) >= FOR_ADDRESS:
            return True
        at_home = home != "" and home == address
        return not at_home and self._count(_name(login), since) >= FOR_NAME

    def count(self, login: str, address: str) -> None:
        failed, now = self._table, _now_ms()
        with db.writing(failed._meta.database):
            rows = [(_address(address), now), (_name(login), now)]
            failed.insert_many(rows, [failed.subject, failed.at_ms]).execute()
            failed.delete().where(failed.at_ms < now - WINDOW_S * 1000).execute()
            newest = failed.select(peewee.fn.MAX(failed.id)).scalar() or 0
            failed.delete().where(failed.id <= newest - _MOST).execute()

    def _count(self, subject: str, since_ms: int) -> int:
        failed = self._table
        return int(failed.select().where((failed.subject == subject) & (failed.at_ms > since_ms)).count())


def _address(address: str) -> str:
    """Whoever has an IPv6 network has all of its addresses."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return f"address {address[:64]}"
    return f"address {ip_network((found, 64), strict=False) if found.version == 6 else found}"


def _name(login: str) -> str:
    """A hash: people type passwords where a name is asked for."""
    return f"login {hashlib.sha256(login.encode(errors='replace')).hexdigest()[:32]}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
