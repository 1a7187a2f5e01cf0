"""What logins on an island have written down, told to the central database, and where that doesn't fit."""

from datetime import UTC, datetime
from typing import Any

import peewee

from appliance.accounts.login_writes import LoginWrites
from appliance.accounts.pieces import sql_of
from appliance.island.conflicts import Conflict, Conflicts

_SQL = {
    "account": "SELECT id, batch_id, first_login_at FROM account WHERE name = ?",
    # Of two islands the one where it was first counts, whichever is heard of first.
    "earlier": "UPDATE account SET first_login_at = ?"
    " WHERE id = ? AND (first_login_at IS NULL OR first_login_at > ?) AND created_at <= ?",
    "login": "INSERT INTO island_login (account_id, site, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    "elsewhere": "SELECT site, at FROM island_login WHERE account_id = ? AND site <> ? ORDER BY at LIMIT 1",
    "online": "SELECT n.site, s.started_at FROM session s JOIN nas n ON n.name = s.nas"
    " WHERE s.account_id = ? AND n.site <> ? ORDER BY s.started_at LIMIT 1",
    "holder": "SELECT account_id, mac, held_until FROM pool_address WHERE ip = ?",
    "take": "UPDATE pool_address SET account_id = ?, mac = ?, held_until = ? WHERE ip = ? AND held_until < ?",
}


class Notes:
    """Over one connection, in the caller's transaction; the methods' arguments are what stands in the queue."""

    def __init__(self, database: peewee.Database, site: str, writes: LoginWrites, conflicts: Conflicts) -> None:
        self._database = database
        self._site = site
        self._writes = writes
        self._conflicts = conflicts
        self._sql = {name: sql_of(database, text) for name, text in _SQL.items()}

    def first(self, account: str, at: int) -> None:
        """The island took this login for the account's first one."""
        row = self._account(account, at)
        if row is None:
            return
        account_id, batch_id, _ = row
        self._execute("earlier", at, account_id, at, at)
        self._execute("login", account_id, self._site, at)
        if batch_id is None:  # a person may be on two sites, a voucher is sold to one guest
            return
        other = self._execute("elsewhere", account_id, self._site).fetchone()
        other = other or self._execute("online", account_id, self._site).fetchone()
        if other is not None:
            detail = f"{self._site} at {_utc(at)}, {other[0]} at {_utc(other[1])}"
            self._conflicts.note(Conflict("voucher", str(account_id), account_id, account, at, detail))

    def address(self, account: str, mac: str, ip: str, until: int, at: int) -> None:
        """The island gave this address of a pool."""
        row = self._account(account, at)
        holder = self._execute("holder", ip).fetchone()
        if row is None or holder is None:
            return
        if holder[2] > at and (holder[0], holder[1]) != (row[0], mac):
            detail = f"{ip}: {mac} on {self._site} at {_utc(at)}, held by {holder[1]} until {_utc(holder[2])}"
            self._conflicts.note(Conflict("address", f"{ip} {mac} {at // 86_400}", row[0], account, at, detail))
            return
        self._execute("take", row[0], mac, until, ip, until)

    def device(self, account: str, mac: str, limit: int, at: int) -> None:
        """A device that is to log in by itself, or was used; without an account one that isn't to any more."""
        if not account:
            self._writes.forget(mac)
        elif row := self._account(account, at):
            self._writes.remember(row[0], mac, limit, at)

    def _account(self, name: str, at: int) -> Any:
        row = self._execute("account", name).fetchone()
        if row is None:
            self._conflicts.note(Conflict("account", name, None, name, at, f"{self._site} at {_utc(at)}"))
        return row

    def _execute(self, name: str, *values: object) -> Any:
        return self._database.execute_sql(self._sql[name], values)


def _utc(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
