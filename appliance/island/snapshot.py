"""The site's copy of the central database: what logins need, as of one moment, in a file that appears whole.

While the site is cut off its copy goes on changing: what is used, who is online, which addresses are given.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import peewee

from appliance import db
from appliance.accounts.periods import local_day
from appliance.island import places
from appliance.island.offline import NOTED

DAY_S = 86_400
FIRST_OWN_ID = 2**30  # of an account that an island makes: no row of the central database has it
_AT_ONCE = 2000
_BLOCKED = 2**53  # `held_until` of an address that this site doesn't give to anybody new
_WEEK = timedelta(days=8)  # a quota's week may have begun in the month before
_PREFIX, _SUFFIX = "core-", ".db"

# What a login or its accounting reads. Names and digests of admins, e-mails, charges and the like stay where they are.
# `{site}`, `{now}`, `{month}`: this site's key as text, UTC seconds, the first day that isn't summed up.
_TABLES = {
    "site": "SELECT {columns} FROM site",
    "pool": "SELECT {columns} FROM pool",
    "plan": "SELECT {columns} FROM plan",
    "voucher_batch": "SELECT {columns} FROM voucher_batch",
    "account": "SELECT {columns} FROM account",
    "device": "SELECT {columns} FROM device",
    "login_slot": "SELECT {columns} FROM login_slot WHERE held_until > {now}",
    "nas": "SELECT {columns} FROM nas",
    "session": "SELECT {columns} FROM session WHERE ended_at IS NULL OR started_at > {now} - 86400",
    "pool_address": "SELECT {columns} FROM pool_address",
    "offline_key": "SELECT {columns} FROM offline_key WHERE site = '{site}'",
    # All days of before the last two months in one row: only a quota for ever looks so far back.
    "account_usage": "SELECT account_id, CASE WHEN day < {month} THEN 0 ELSE day END,"
    " CAST(sum(input_octets) AS BIGINT), CAST(sum(output_octets) AS BIGINT) FROM account_usage GROUP BY 1, 2",
}
_LAST_BATCH = "SELECT last_value FROM voucher_batch_id_seq"  # also of one that was removed
_PART = {"site": ("key", "created_at", "changed_at")}  # the rest is what sites say of themselves
# An address that was held within a day is given here only if that was for a session on a router of this site. What
# nobody has held for so long is shared out among the sites by a number that all of them reckon alike.
_BLOCK = """UPDATE pool_address SET held_until = ? WHERE CASE WHEN held_until > ? THEN
NOT EXISTS (SELECT 1 FROM session s JOIN nas n ON n.name = s.nas WHERE s.framed_ip = pool_address.ip
AND s.account_id = pool_address.account_id AND n.site IS ?) ELSE share(ip) <> ? END"""


class Copy(NamedTuple):
    """A copy that can be used: `taken_at` is the moment it shows (UTC seconds)."""

    path: Path
    taken_at: int

    def age_s(self, now: int) -> int:
        return max(0, now - self.taken_at)


def current(link: Path) -> Copy | None:
    """The copy that is good now; None where there is none."""
    try:
        name = str(link.readlink())
        return Copy(link.with_name(name), int(name.removeprefix(_PREFIX).split("-")[0]))
    except (OSError, ValueError):
        return None


def take(central: peewee.Database, link: Path, site: str, zone: ZoneInfo, now: int) -> Copy:
    """Copies PostgreSQL's rows into a new file and puts it in place of the one before. Raises PeeweeException, OSError.

    Read in one transaction, so that nothing in it is half of something.
    """
    path = link.with_name(f"{_PREFIX}{now}-{secrets.token_hex(4)}{_SUFFIX}")
    try:
        _make(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # it is on disk before anybody sees it
            copy.execute("BEGIN")
            _fill(central, copy, {"site": site, "now": now, "month": _month(now, zone)})
            _share_addresses(copy, site, now)
            copy.execute("DELETE FROM sqlite_sequence WHERE name = 'account'")
            copy.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('account', ?)", (FIRST_OWN_ID,))
            copy.execute("COMMIT")
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _put_in_place(path, link)
    except BaseException:
        _remove(path)
        raise
    for old in link.parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        if old != path:
            _remove(old)
    return Copy(path, now)


def _make(path: Path) -> None:
    """The same tables, without rows."""
    places.make_file(path)
    database = db.connect(f"sqlite:///{path}", durable=False)
    with closing(database):
        database.connect()
        db.migrate(database, db.migrations("appliance.migrations"))


def _fill(central: peewee.Database, copy: sqlite3.Connection, words: dict[str, object]) -> None:
    with central.atomic():
        central.execute_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        copy.execute(NOTED)
        copy.execute("INSERT INTO copied (batches) VALUES (?)", central.execute_sql(_LAST_BATCH).fetchone())
        for table, text in _TABLES.items():
            columns = _PART.get(table) or [row[1] for row in copy.execute(f"PRAGMA table_info({table})")]
            names, marks = ", ".join(columns), ", ".join("?" for _ in columns)
            copy.execute(f"DELETE FROM {table}")  # noqa: S608 (names of ours)
            for rows in _pieces(central, text.format(columns=names, **words)):
                copy.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608


def _pieces(central: peewee.Database, sql: str) -> Iterator[Sequence[Any]]:
    """Through a cursor of the server's, so that a million accounts aren't all in memory."""
    central.execute_sql(f"DECLARE copy NO SCROLL CURSOR FOR {sql}")
    while rows := central.execute_sql(f"FETCH {_AT_ONCE} FROM copy").fetchall():
        yield rows
    central.execute_sql("CLOSE copy")


def _share_addresses(copy: sqlite3.Connection, site: str, now: int) -> None:
    sites = [row[0] for row in copy.execute("SELECT key FROM site ORDER BY key")]
    own, count = (sites.index(site), len(sites)) if site in sites else (0, 1)
    copy.create_function("share", 1, lambda ip: sum(str(ip).encode()) % count, deterministic=True)
    copy.execute("CREATE INDEX session_framed ON session (framed_ip)")
    copy.execute(_BLOCK, (_BLOCKED, now - DAY_S, site or None, own))
    copy.execute("DROP INDEX session_framed")


def _month(now: int, zone: ZoneInfo) -> int:
    first = datetime.fromtimestamp(now, zone).replace(day=1)
    return local_day(int((first - _WEEK).timestamp()), zone)


def _put_in_place(path: Path, link: Path) -> None:
    _sync(path)
    new = link.with_name(f".{path.name}.link")
    new.symlink_to(path.name)
    new.rename(link)
    _sync(link.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(FileNotFoundError):
            name.unlink()
