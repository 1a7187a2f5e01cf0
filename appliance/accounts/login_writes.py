"""What a login writes: its address from the plan's pool, its place among the devices online, its first login.

No address is handed out twice, and no login waits for a slow writer longer than the busy time-out.
"""

import threading
import time
from typing import Any

import peewee

# The outer condition stands again because another server may have changed the row that the inner one chose.
_NOT_FIXED = "NOT EXISTS (SELECT 1 FROM account WHERE account.address = pool_address.ip)"
_OWN = f"SELECT ip FROM pool_address WHERE account_id = ? AND mac = ? AND pool_id = ? AND {_NOT_FIXED} LIMIT 1"
_FREE = (
    f"SELECT ip FROM pool_address WHERE pool_id = ? AND held_until <= ? AND {_NOT_FIXED} ORDER BY held_until LIMIT 1"
)
# A device counts once, whether its session has begun or was only granted.
_OTHERS = (
    "SELECT CASE WHEN mac = '' THEN unique_id ELSE mac END AS mac FROM session"
    " WHERE account_id = ? AND ended_at IS NULL AND updated_at > ? AND (mac <> ? OR mac = '')"
    " UNION SELECT mac FROM login_slot WHERE account_id = ? AND held_until > ? AND mac <> ?"
)
_SQL = {
    "lock": "SELECT id FROM account WHERE id = ? FOR NO KEY UPDATE",
    "slot": "INSERT INTO login_slot (account_id, mac, held_until)"
    f" SELECT CAST(? AS INTEGER), CAST(? AS TEXT), CAST(? AS BIGINT) WHERE (SELECT count(*) FROM ({_OTHERS}) AS o) < ?"
    " ON CONFLICT (account_id, mac) DO UPDATE SET held_until = excluded.held_until RETURNING mac",
    "others": _OTHERS,
    "leave": "DELETE FROM login_slot WHERE account_id = ? AND mac = ?",
    "remember": "INSERT INTO device (mac, account_id, added_at, used_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (mac) DO UPDATE SET account_id = excluded.account_id, used_at = excluded.used_at",
    "swap": "DELETE FROM device WHERE account_id = ? AND mac NOT IN"
    " (SELECT mac FROM device WHERE account_id = ? ORDER BY mac = ? DESC, used_at DESC LIMIT ?)",
    "used": "UPDATE device SET used_at = ? WHERE mac = ?",
    "forget": "DELETE FROM device WHERE mac = ?",
    "keep": f"UPDATE pool_address SET held_until = ? WHERE ip = ({_OWN}) AND account_id = ? AND mac = ? RETURNING ip",
    "take": "UPDATE pool_address SET account_id = ?, mac = ?, held_until = ?"
    f" WHERE ip = ({_FREE}) AND held_until <= ? RETURNING ip",
    "own": _OWN,
    "free": _FREE.replace("LIMIT 1", "LIMIT ?"),
    # A clock from before the account can't be right: it would begin, and end, its validity in the past.
    "first_login": "UPDATE account SET first_login_at = ? WHERE id = ? AND first_login_at IS NULL AND created_at <= ?",
    "promise": "UPDATE pool_address SET account_id = ?, mac = ?, held_until = ? WHERE ip = ?",
}
_RACES = 5  # how often a free address may be snatched away by another server before we give up
SLOT_S = 60  # how long a granted login counts as online before its accounting begins
WRITE_PAUSE_S = 1.0  # after a stalled write logins go on without writing, or each would wait in turn


class LoginWrites:
    """Reserves in the database; while another writer stalls it, promises from memory and writes that down later.

    Promises are safe because one FreeRADIUS process hands out all addresses of an SQLite database; on
    PostgreSQL, where there may be several, a stalled write fails the login instead.
    """

    def __init__(self, database: peewee.Database) -> None:
        self._database = database
        self._may_promise = isinstance(database, peewee.SqliteDatabase)
        self._sql = {name: text if self._may_promise else text.replace("?", "%s") for name, text in _SQL.items()}
        if not self._may_promise:
            # Servers that choose at once are to choose different ones, not the same, of which all but one get none.
            self._sql["take"] = self._sql["take"].replace("LIMIT 1", "LIMIT 1 FOR UPDATE SKIP LOCKED")
            # An address that only a dead primary knew would be handed out again.
            self._sql |= {name: f"SET LOCAL synchronous_commit = on; {self._sql[name]}" for name in ("keep", "take")}
        self._promises: dict[str, tuple[int, str, int]] = {}  # ip -> account, MAC, held until
        self._slots: dict[tuple[int, str], int] = {}  # account and MAC -> held until
        self._one_at_a_time = threading.Lock()  # the threads share one connection, so one transaction too
        self._paused_until = 0.0

    def note_first_login(self, account_id: int, now: int) -> None:
        """Left to accounting, which notes it too, while another writer stalls the database."""
        self._if_it_can_be("first_login", now, account_id, now)

    def take_slot(self, account_id: int, mac: str, limit: int, now: int, silent_s: int) -> bool:
        """False when as many other devices as the limit are online or about to be; never true for one too many."""
        others = (account_id, now - silent_s, mac, account_id, now, mac)
        with self._one_at_a_time:
            if time.monotonic() >= self._paused_until:
                try:
                    return self._write_slot(account_id, mac, limit, now, others)
                except peewee.OperationalError:
                    if not self._may_promise:
                        raise
                    self._pause()
            return self._promise_slot(account_id, mac, limit, now, others)

    def _write_slot(self, account_id: int, mac: str, limit: int, now: int, others: tuple[object, ...]) -> bool:
        promised = self._others_promised(account_id, mac, now)
        if self._may_promise:  # one statement of SQLite's is alone with the database
            return bool(self._execute("slot", account_id, mac, now + SLOT_S, *others, limit - len(promised)))
        with self._database.atomic():
            self._execute("lock", account_id)
            return bool(self._execute("slot", account_id, mac, now + SLOT_S, *others, limit))

    def _promise_slot(self, account_id: int, mac: str, limit: int, now: int, others: tuple[object, ...]) -> bool:
        known = {str(row[0]) for row in self._execute("others", *others)}
        if len(known | self._others_promised(account_id, mac, now)) >= limit:
            return False
        self._slots[account_id, mac] = now + SLOT_S
        return True

    def _others_promised(self, account_id: int, mac: str, now: int) -> set[str]:
        """Promises run out by themselves soon; until then they are counted beside the database."""
        self._slots = {key: until for key, until in self._slots.items() if until > now}
        return {device for account, device in self._slots if account == account_id and device != mac}

    def leave_slot(self, account_id: int, mac: str) -> None:
        self._slots.pop((account_id, mac), None)
        self._if_it_can_be("leave", account_id, mac)

    def remember(self, account_id: int, mac: str, limit: int, now: int) -> None:
        """Lets this device log in by itself; the one that wasn't used for longest goes where they would be too many.

        With a limit of 0 nothing new is remembered, only noted that the device was used.
        """
        if not limit:
            self._if_it_can_be("used", now, mac)
        elif mac:
            self._if_it_can_be("remember", mac, account_id, now, now)
            self._if_it_can_be("swap", account_id, account_id, mac, limit)

    def forget(self, mac: str) -> None:
        self._if_it_can_be("forget", mac)

    def _if_it_can_be(self, name: str, *values: object) -> None:
        """A write that no login waits for: left out while another writer stalls the database."""
        if time.monotonic() < self._paused_until:
            return
        try:
            self._execute(name, *values)
        except (peewee.OperationalError, peewee.InterfaceError):
            self._pause()

    def reserve_address(self, pool_id: int, account_id: int, mac: str, now: int, hold_s: int) -> str | None:
        """The address this device had before, else a free one; None when all are taken.

        Raises peewee.PeeweeException when the database can't be read, or can't be written and no promise is safe.
        """
        try:
            if time.monotonic() < self._paused_until:
                return self._promise(pool_id, account_id, mac, now, hold_s)
            self._keep_promises(now)
            return self._write(pool_id, account_id, mac, now, now + hold_s)
        except peewee.OperationalError:
            if not self._may_promise:
                raise
            self._pause()
            return self._promise(pool_id, account_id, mac, now, hold_s)

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + WRITE_PAUSE_S

    def _write(self, pool_id: int, account_id: int, mac: str, now: int, until: int) -> str | None:
        rows = self._execute("keep", until, account_id, mac, pool_id, account_id, mac)
        for _ in range(_RACES):
            if rows:
                break
            rows = self._execute("take", account_id, mac, until, pool_id, now, now)
        return str(rows[0][0]) if rows else None

    def _promise(self, pool_id: int, account_id: int, mac: str, now: int, hold_s: int) -> str | None:
        promised_to_others = {
            ip for ip, (account, device, _) in self._promises.items() if (account, device) != (account_id, mac)
        }
        own = [ip for ip, (account, device, _) in self._promises.items() if (account, device) == (account_id, mac)]
        own += [str(row[0]) for row in self._execute("own", account_id, mac, pool_id)]
        free = (str(row[0]) for row in self._execute("free", pool_id, now, len(promised_to_others) + 1))
        for ip in (*own, *free):
            if ip not in promised_to_others:
                self._promises[ip] = (account_id, mac, now + hold_s)
                return ip
        return None

    def _keep_promises(self, now: int) -> None:
        for ip, (account_id, mac, until) in list(self._promises.items()):
            if until > now:
                self._execute("promise", account_id, mac, until, ip)
            del self._promises[ip]

    def _execute(self, name: str, *values: object) -> list[Any]:
        cursor = self._database.execute_sql(self._sql[name], values)
        return list(cursor.fetchall()) if cursor.description else []
