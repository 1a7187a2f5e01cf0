"""Sessions and usage for the accounting path: prepared SQL without models, one transaction a packet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import peewee


class SessionRow(NamedTuple):
    """One session; times are UTC seconds, input is from the guest, output to the guest."""

    unique_id: str
    account_id: int | None
    account: str
    nas: str
    acct_session_id: str
    mac: str
    framed_ip: str | None
    host_ip: str | None
    started_at: int
    updated_at: int
    ended_at: int | None
    terminate_cause: str | None
    session_s: int
    input_octets: int
    output_octets: int


_COLUMNS = ", ".join(SessionRow._fields)
_CHANGING = (
    "framed_ip",
    "updated_at",
    "ended_at",
    "terminate_cause",
    "session_s",
    "input_octets",
    "output_octets",
)
_SQL = {
    "find": f"SELECT {_COLUMNS} FROM session WHERE unique_id = ?",
    "save": f"INSERT INTO session ({_COLUMNS}) VALUES ({', '.join('?' for _ in SessionRow._fields)})"
    f" ON CONFLICT (unique_id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _CHANGING)}",
    "account": "SELECT id FROM account WHERE name = ?",
    "used": "INSERT INTO account_usage (account_id, day, input_octets, output_octets) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (account_id, day) DO UPDATE SET input_octets = account_usage.input_octets + excluded.input_octets,"
    " output_octets = account_usage.output_octets + excluded.output_octets",
    "first_login": "UPDATE account SET first_login_at = ? WHERE id = ? AND first_login_at IS NULL",
    "hold": "UPDATE pool_address SET held_until = ? WHERE ip = ? AND account_id = ? AND mac = ?",
    "end_all": "UPDATE session SET ended_at = updated_at, terminate_cause = ? WHERE nas = ? AND ended_at IS NULL",
}


class Sessions:
    """All writes of one packet belong inside `transaction()`, which is durable when it returns."""

    def __init__(self, database: peewee.Database) -> None:
        self._database = database
        sqlite = isinstance(database, peewee.SqliteDatabase)
        self._sql = {name: text if sqlite else text.replace("?", "%s") for name, text in _SQL.items()}
        if not sqlite:
            self._sql["find"] += " FOR UPDATE"  # SQLite's BEGIN IMMEDIATE has locked everything already
        self._begin = ("IMMEDIATE",) if sqlite else ()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._database.atomic(*self._begin):
            yield

    def find(self, unique_id: str) -> SessionRow | None:
        row = self._execute("find", unique_id).fetchone()
        return SessionRow._make(row) if row else None

    def save(self, row: SessionRow) -> None:
        self._execute("save", *row)

    def account_id(self, name: str) -> int | None:
        row = self._execute("account", name).fetchone()
        return int(row[0]) if row else None

    def add_usage(self, account_id: int, day: int, input_octets: int, output_octets: int) -> None:
        """Adds to the account's `day` (YYYYMMDD of the site's calendar)."""
        self._execute("used", account_id, day, input_octets, output_octets)

    def note_first_login(self, account_id: int, at: int) -> None:
        self._execute("first_login", at, account_id)

    def hold_address(self, ip: str, account_id: int, mac: str, until: int) -> None:
        """Keeps a pool's address for this device; a time that has passed gives it back."""
        self._execute("hold", until, ip, account_id, mac)

    def end_all(self, nas: str, cause: str) -> None:
        """A NAS that restarted has no sessions any more; they end when they were last heard of."""
        self._execute("end_all", cause, nas)

    def _execute(self, name: str, *values: object) -> Any:
        return self._database.execute_sql(self._sql[name], values)
