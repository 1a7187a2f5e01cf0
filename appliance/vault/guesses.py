"""Wrong passwords for log-ins of vaults, by FTP and on the pages: in one place, where no restart forgives them."""

import hashlib
import time
from ipaddress import ip_address, ip_network
from typing import Any

import peewee

from appliance.vault.models import Failed, vault_db

WINDOW_S = 900
FOR_ADDRESS, FOR_NAME = 20, 10  # failures in that time
TOO_MANY = "There were too many wrong passwords: try again in a quarter of an hour"
_MOST = 50_000  # rows


def are_too_many(login: str, address: str, found: Any) -> bool:
    """`found` is the log-in, if it is one. Who guesses it from elsewhere doesn't lock out whom it belongs to."""
    since = _now_ms() - WINDOW_S * 1000
    if _count(_address(address), since) >= FOR_ADDRESS:
        return True
    at_home = found is not None and found.used_from == address
    return not at_home and _count(_name(login), since) >= FOR_NAME


def count(login: str, address: str) -> None:
    now = _now_ms()
    with vault_db.atomic("IMMEDIATE"):
        rows = [(_address(address), now), (_name(login), now)]
        Failed.insert_many(rows, [Failed.subject, Failed.at_ms]).execute()
        Failed.delete().where(Failed.at_ms < now - WINDOW_S * 1000).execute()
        newest = Failed.select(peewee.fn.MAX(Failed.id)).scalar() or 0
        Failed.delete().where(Failed.id <= newest - _MOST).execute()


def _count(subject: str, since_ms: int) -> int:
    return int(Failed.select().where((Failed.subject == subject) & (Failed.at_ms > since_ms)).count())


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
