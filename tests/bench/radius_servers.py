"""The servers that are compared: ours, and FreeRADIUS's own `files` and `sql` with the same people and plan."""

import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from appliance import db, launch
from appliance.accounts.periods import local_day
from tests.bench import radius_load
from tests.bench.report import progress
from tests.lab.namespace import free_ports, wait_until
from tests.lab.radius import READY, RadiusServer, radius_server

ROUTER_SECRET = "0123456789abcdef"
QUOTA_BYTES = 3_000_000_000  # below 4 GiB, which is all that the peer's rlm_sqlcounter can count to
UP_BPS, DOWN_BPS = 5_000_000, 20_000_000
USAGE_DAYS = 3
USED_BYTES = 1_000_000  # a day, each way
INTERIM_S = 300
PLAN = (
    f"plan: {UP_BPS // 10**6}M/{DOWN_BPS // 10**6}M, one window a day, {QUOTA_BYTES // 10**9} GB a month, no limit of"
    f" devices; each account has logged in before and has {USAGE_DAYS} days of usage (the peer: sessions)"
)
_CONFIGURATION = Path(__file__).with_name("radius_peers")
_SCHEMA = Path("/etc/freeradius/3.0/mods-config/sql/main/sqlite/schema.sql")
_CHUNK = 50_000
_ACCOUNT = (
    "INSERT INTO account (id, name, password, plan_id, enabled, first_login_at, created_at)"
    " VALUES (?, ?, ?, (SELECT id FROM plan), ?, ?, ?)"
)
_RADCHECK = "INSERT INTO radcheck (username, attribute, op, value) VALUES (?, 'Cleartext-Password', ':=', ?)"
_RADUSERGROUP = "INSERT INTO radusergroup (username, groupname) VALUES (?, 'bench')"
_RADGROUPCHECK = "INSERT INTO radgroupcheck (groupname, attribute, op, value) VALUES ('bench', ?, ':=', ?)"
_RADGROUPREPLY = "INSERT INTO radgroupreply (groupname, attribute, op, value) VALUES ('bench', ?, ':=', ?)"
_RADACCT = (
    "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime, acctupdatetime,"
    " acctstoptime, acctsessiontime, acctinputoctets, acctoutputoctets, callingstationid)"
    " VALUES (?, ?, ?, '127.0.0.2', ?, ?, ?, 3600, ?, ?, ?)"
)
_CLASS = "0x0123456789abcdef"


@dataclass(frozen=True)
class Target:
    """A running server, and its packets: accounts in random order, none twice. Only a peer may be started anew."""

    name: str
    port: int
    pid: Callable[[], int]
    packets: Sequence[bytes]
    restart: Callable[[], None] | None = None


def name(number: int) -> str:
    return f"guest{number:07}"


def password(number: int) -> str:
    return f"pw{number * 7919 % 10**9:09}"


def packets(accounts: int, count: int, secret: str) -> list[bytes]:
    chosen = random.Random(accounts).sample(range(accounts), count)
    return [radius_load.access_request(i, name(n), password(n), secret.encode()) for i, n in enumerate(chosen)]


def hours(now: datetime) -> tuple[int, int]:
    """A window that is open from an hour ago until twelve hours hence, so that it closes but not during the run."""
    return (now.hour - 1) % 24, (now.hour + 12) % 24


def _days(now: datetime) -> list[datetime]:
    return [now - timedelta(days=days) for days in range(USAGE_DAYS)]


@contextmanager
def ours(label: str, accounts: int, count: int) -> Iterator[Target]:
    with radius_server(radius_toml="log_logins = false\n") as server:  # the peers write no line for a granted login
        fill_ours(server, accounts)
        server.start("authentication")
        port = server.config.radius.authentication_port
        yield Target(label, port, server.pid, packets(accounts, count, server.secret))


def fill_ours(server: RadiusServer, accounts: int) -> None:
    now = datetime.now(UTC)
    first, last = hours(now)
    server.plan(
        "bench",
        rate_up_bps=UP_BPS,
        rate_down_bps=DOWN_BPS,
        windows=f"daily {first:02}:00-{last:02}:00",
        quota_bytes=QUOTA_BYTES,
        quota_period="month",
    )
    at = int(now.timestamp())
    days = [local_day(int(day.timestamp()), server.config.site.timezone) for day in _days(now)]
    file = db.sqlite_path(server.config.database_url)
    seal = server.box.seal

    def people(numbers: range) -> Iterator[tuple[object, ...]]:
        return ((n + 1, name(n), seal(password(n)), 1, at, at) for n in numbers)

    def usage(numbers: range) -> Iterator[tuple[object, ...]]:
        return ((n + 1, day, USED_BYTES, USED_BYTES) for n in numbers for day in days)

    insert(file, accounts, _ACCOUNT, people)
    insert(file, accounts, "INSERT INTO account_usage VALUES (?, ?, ?, ?)", usage)


def insert(file: object, accounts: int, sql: str, rows: Callable[[range], Iterator[tuple[object, ...]]]) -> None:
    with closing(sqlite3.connect(str(file))) as database:
        for start in range(0, accounts, _CHUNK):
            with database:
                database.executemany(sql, rows(range(start, min(start + _CHUNK, accounts))))
            if start % (5 * _CHUNK) == 0 and accounts > _CHUNK:
                progress(f"  {sql.split()[2]}: {start:,} of {accounts:,} accounts")


@contextmanager
def files(accounts: int, count: int) -> Iterator[Target]:
    with _peer("files", _write_users, accounts, count) as target:
        yield target


@contextmanager
def sql(accounts: int, count: int) -> Iterator[Target]:
    with _peer("sql", fill_sql, accounts, count) as target:
        yield target


def _write_users(folder: Path, accounts: int) -> None:
    reply = ",\n\t".join(
        f"{attribute} := {value}"
        for attribute, value in (
            *_plan_reply(),
            ("Session-Timeout", str(12 * 3600)),
            ("Mikrotik-Total-Limit", str(QUOTA_BYTES)),
        )
    )
    people = (f'{name(n)}\tCleartext-Password := "{password(n)}"\n\t{reply}\n' for n in range(accounts))
    (folder / "users").write_text("\n".join(people))


def _plan_reply() -> tuple[tuple[str, str], ...]:
    return (
        ("Class", _CLASS),
        ("Acct-Interim-Interval", str(INTERIM_S)),
        ("Mikrotik-Rate-Limit", f'"{UP_BPS // 10**6}M/{DOWN_BPS // 10**6}M"'),
    )


def fill_sql(folder: Path, accounts: int) -> None:
    now = datetime.now(UTC)
    first, last = hours(now)
    checks = (("Login-Time", f"Al{first:02}00-{last:02}00"), ("Max-Monthly-Octets", str(QUOTA_BYTES)))
    replies = _plan_reply()
    with closing(sqlite3.connect(folder / "radius.db")) as database, database:
        database.execute("PRAGMA journal_mode = wal")
        database.executescript(_SCHEMA.read_text())
        for statement, rows in (
            (_RADCHECK, ((name(n), password(n)) for n in range(accounts))),
            (_RADUSERGROUP, ((name(n),) for n in range(accounts))),
            (_RADGROUPCHECK, iter(checks)),
            (_RADGROUPREPLY, ((attribute, value.strip('"')) for attribute, value in replies)),
            (_RADACCT, _sessions(range(accounts), now)),
        ):
            database.executemany(statement, rows)


def _sessions(numbers: range, now: datetime) -> Iterator[tuple[object, ...]]:
    """Epochs, as the shipped queries write them."""
    for number in numbers:
        for day in _days(now):
            began = int(day.timestamp()) - 3600
            key = f"{number:07x}{began:08x}"
            yield key, key, name(number), began, began + 3600, began + 3600, USED_BYTES, USED_BYTES, "02:00:00:00:00:01"


@contextmanager
def _peer(kind: str, fill: Callable[[Path, int], None], accounts: int, count: int) -> Iterator[Target]:
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-peer-", dir="/var/tmp"))
    peer = Peer(kind, folder)
    try:
        fill(folder, accounts)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "freerad", "freerad")
        peer.start()
        yield Target(kind, peer.port, peer.pid, packets(accounts, count, ROUTER_SECRET), peer.restart)
    finally:
        peer.stop()
        shutil.rmtree(folder)


class Peer:
    """FreeRADIUS with the configuration `kind`.conf of radius_peers/ on the data in `folder`."""

    def __init__(self, kind: str, folder: Path, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self.kind = kind
        self._environment = environment
        self.folder = folder
        self.port, self.accounting_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        server = ["/usr/sbin/freeradius", "-f", "-l", "stdout", "-d", str(_CONFIGURATION), "-n", self.kind]
        words = [*launch.as_user("freerad", ()), *server]
        given = {
            "BENCH_FOLDER": str(self.folder),
            "BENCH_PORT": str(self.port),
            "BENCH_ACCOUNTING_PORT": str(self.accounting_port),
            "BENCH_SECRET": ROUTER_SECRET,
            **self._environment,
        }
        log = self.folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                words, env={"PATH": os.defpath, "TZ": "UTC", **given}, cwd="/", stdout=out, stderr=out
            )
        self._process = process
        wait_until(lambda: READY in log.read_text() or process.poll() is not None, 60, f"{self.kind} to start")
        if process.poll() is not None:
            raise RuntimeError(f"{self.kind} ended at once: {log.read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        self.stop()
        self.start()
