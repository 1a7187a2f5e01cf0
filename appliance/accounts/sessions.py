"""Sessions and usage for the accounting path: prepared SQL without models, and nothing but reads and writes."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import peewee

from appliance.accounts.closing import close_rebooted
from appliance.accounts.terms import voucher_code

UNREACHABLE = (peewee.OperationalError, peewee.InterfaceError)  # or locked, or full: no packet's own fault

_NOT_HEX = re.compile("[^0-9a-f]")


class SessionRow(NamedTuple):
    """One session; times are UTC seconds, input is from the guest, output to the guest.

    `raw_*` are the router's own counters as last seen, the others all that they ever grew by. `granted_*` is written
    when the session is first heard of, and left to live changes then. `check_at` of 0 asks the rules at once; from
    `watch_octets` on they may say something else.
    """

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
    raw_input_octets: int
    raw_output_octets: int
    granted_rate: str | None
    granted_until: int | None
    granted_octets: int | None
    check_at: int
    watch_octets: int | None


_COLUMNS = ", ".join(SessionRow._fields)
_GROWING = (
    "updated_at",
    "session_s",
    "input_octets",
    "output_octets",
    "raw_input_octets",
    "raw_output_octets",
)
_CHANGING = ("framed_ip", "host_ip", "ended_at", "terminate_cause", "check_at", *_GROWING)
_MOST = 2**53  # a day's octets; SQLite would turn a sum over 2^63 into a floating-point number
_SQL = {
    "find": f"SELECT {_COLUMNS} FROM session WHERE unique_id = ?",
    "account": "SELECT id FROM account WHERE name = ?",
    "voucher": "SELECT id FROM account WHERE name = ? AND batch_id IS NOT NULL",
    "device": "SELECT account_id FROM device WHERE mac = ?",
    "save": f"INSERT INTO session ({_COLUMNS}) VALUES ({', '.join('?' for _ in SessionRow._fields)})"
    f" ON CONFLICT (unique_id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _CHANGING)}",
    # SQLite writes each index anew whose condition reads a column that is set, even to what it was.
    "grow": f"UPDATE session SET {', '.join(f'{c} = ?' for c in _GROWING)} WHERE unique_id = ?",
    "use": "INSERT INTO account_usage (account_id, day, input_octets, output_octets) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (account_id, day) DO UPDATE SET input_octets = account_usage.input_octets + excluded.input_octets,"
    " output_octets = account_usage.output_octets + excluded.output_octets"
    f" WHERE account_usage.input_octets < {_MOST} AND account_usage.output_octets < {_MOST}",
    "passed": "INSERT INTO traffic (hour, input_octets, output_octets) VALUES (?, ?, ?)"
    " ON CONFLICT (hour) DO UPDATE SET input_octets = traffic.input_octets + excluded.input_octets,"
    " output_octets = traffic.output_octets + excluded.output_octets"
    f" WHERE traffic.input_octets < {_MOST} AND traffic.output_octets < {_MOST}",
    "first_login": "UPDATE account SET first_login_at = ? WHERE id = ? AND first_login_at IS NULL AND created_at <= ?",
    "hold": "UPDATE pool_address SET held_until = ? WHERE ip = ? AND account_id = ? AND mac = ? AND held_until < ?",
    "release": "UPDATE pool_address SET held_until = ? WHERE ip = ? AND account_id = ? AND mac = ? AND held_until <= ?",
    "drop_slot": "DELETE FROM login_slot WHERE account_id = ? AND mac = ?",
    "seen": "UPDATE nas SET seen_at = ? WHERE name = ?",
}
_SEEN_EVERY_S = 60
_PASSED_EVERY_S = 10
# Of several appliances that hear of one session one after the other counts, also before there is a row to be locked.
# Any two transactions take their other rows in the same order: NAS, session, traffic, usage, account, address.
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(1734440040, hashtext(?)); "


class Sessions:
    """One thread at a time. All writes of one packet belong inside `transaction()`."""

    def __init__(self, database: peewee.Database) -> None:
        self._database = database
        self._sqlite = isinstance(database, peewee.SqliteDatabase)
        self._sql = {name: text if self._sqlite else text.replace("?", "%s") for name, text in _SQL.items()}
        if not self._sqlite:  # whose BEGIN IMMEDIATE has locked everything already
            self._sql["find"] = f"{_ONE_AT_A_TIME}{_SQL['find']} FOR UPDATE".replace("?", "%s")
        self._seen: dict[str, int] = {}
        self._passed: dict[int, tuple[int, int]] = {}
        self._passed_at = 0.0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Raises peewee.PeeweeException."""
        with self._reopening(), self._database.atomic():
            yield

    @contextmanager
    def _reopening(self) -> Iterator[None]:
        """After a failure the connection is opened anew: the server may have gone and come back."""
        try:
            yield
        except UNREACHABLE:
            if not self._database.is_closed() and not self._database.in_transaction():
                self._database.close()
            raise

    def close_rebooted(self, nas: str, at: int, now: int, hold_s: int) -> None:
        """Ends the sessions of a NAS that restarted at `at`, in transactions of its own."""
        with self._reopening():
            close_rebooted(self._database, nas, at, now, hold_s)

    def find(self, unique_id: str) -> SessionRow | None:
        row = self._execute("find", *(unique_id,) * (1 if self._sqlite else 2)).fetchone()
        return SessionRow._make(row) if row else None

    def save(self, row: SessionRow, before: SessionRow | None) -> None:
        """`before` is what stands there now; most packets change no more than counters and times."""
        if before is not None and row == before._replace(**{column: getattr(row, column) for column in _GROWING}):
            self._execute("grow", *(getattr(row, column) for column in _GROWING), row.unique_id)
        else:
            self._execute("save", *row)

    def account_id(self, name: str, mac: str) -> int | None:
        """Routers may report under what the guest typed: a voucher in any spelling, or a device's MAC address."""
        row = self._execute("account", name).fetchone()
        row = row or self._execute("voucher", voucher_code(name)).fetchone()
        if row is None and mac and _NOT_HEX.sub("", name.lower()) == mac.replace(":", ""):
            row = self._execute("device", mac).fetchone()
        return int(row[0]) if row else None

    def add_usage(self, account_id: int, day: int, input_octets: int, output_octets: int) -> None:
        """Adds to the account's `day` (YYYYMMDD of the site's calendar)."""
        self._execute("use", account_id, day, input_octets, output_octets)

    def add_traffic(self, at: int, input_octets: int, output_octets: int) -> None:
        """For a chart by the hour, so it needn't be of each packet: the last seconds may be lost with the power."""
        hour = at // 3600
        before = self._passed.get(hour, (0, 0))
        self._passed[hour] = before[0] + input_octets, before[1] + output_octets
        if time.monotonic() - self._passed_at >= _PASSED_EVERY_S:
            self.write_traffic()

    def write_traffic(self) -> None:
        for passed, octets in self._passed.items():
            self._execute("passed", passed, *octets)
        self._passed, self._passed_at = {}, time.monotonic()

    def note_first_login(self, account_id: int, at: int) -> None:
        self._execute("first_login", at, account_id, at)

    def drop_slot(self, account_id: int, mac: str) -> None:
        """The login of this device isn't pending any more."""
        self._execute("drop_slot", account_id, mac)

    def hold_address(self, ip: str, account_id: int, mac: str, until: int) -> None:
        """Keeps a pool's address for this device."""
        self._execute("hold", until, ip, account_id, mac, until)

    def release_address(self, ip: str, account_id: int, mac: str, held_until: int, at: int) -> None:
        """Gives back from `at` on what was kept until `held_until`; a longer hold is another login's."""
        self._execute("release", at, ip, account_id, mac, held_until)

    def note_seen(self, nas: str, at: int) -> None:
        """Once a minute; should the commit fail, the next minute's packet makes up for it."""
        if at - self._seen.get(nas, 0) >= _SEEN_EVERY_S:
            self._execute("seen", at, nas)
            self._seen[nas] = at

    def _execute(self, name: str, *values: object) -> Any:
        return self._database.execute_sql(self._sql[name], values)
