"""The servers whose accounting is compared: ours, and rlm_sql with SQLite and PostgreSQL."""

import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from appliance import db
from appliance.accounts.sessions import SessionRow
from tests.bench import radius_servers, slow_disk
from tests.bench.acct_load import START, Told, session_id, unique_id
from tests.bench.radius_servers import ROUTER_SECRET, Peer
from tests.lab.radius import ROUTER, RadiusServer, radius_server

ACCOUNTS = 2_000
EMPTY: Mapping[str, str] = MappingProxyType({})
_POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_SCHEMA = Path("/etc/freeradius/3.0/mods-config/sql/main/postgresql/schema.sql")
_MARKS = ", ".join("?" for _ in SessionRow._fields)
SAVE = f"INSERT INTO session ({', '.join(SessionRow._fields)}) VALUES ({_MARKS})"


@dataclass(frozen=True)
class Books:
    """A running server that does accounting, and logins too; only a peer may be started anew."""

    name: str
    port: int
    authentication_port: int
    pid: Callable[[], int]
    secret: bytes
    restart: Callable[[], None] | None = None


def told(session: int, status: int = START, session_s: int = 0, octets: int = 0) -> Told:
    """Of a session that began an hour ago."""
    at = int(time.time()) - 3600 + session_s
    return Told(status, session, radius_servers.name(session % ACCOUNTS), at, session_s, octets, 5 * octets)


@contextmanager
def ours(label: str, open_sessions: int = 0, disk_delay_ms: int = 0) -> Iterator[Books]:
    with radius_server() as server:
        radius_servers.fill_ours(server, ACCOUNTS)
        _open(server, open_sessions)
        if disk_delay_ms:
            server.environment = slow_disk.environment(server.folder, disk_delay_ms)
        server.start()
        ports = server.config.radius
        secret = server.secret.encode()
        yield Books(label, ports.accounting_port, ports.authentication_port, lambda: server.pid("accounting"), secret)


def _open(server: RadiusServer, count: int) -> None:
    def rows(numbers: range) -> Iterator[tuple[object, ...]]:
        for n in numbers:
            t = told(n)
            mac, account_id = f"02:00:{n:08x}", n % ACCOUNTS + 1
            begun = (t.at, t.at, None, None, 0, 0, 0, 0, 0, None, None, None, 0, None)
            yield (unique_id(t), account_id, t.name, "router", session_id(n), mac, ROUTER, None, *begun)

    radius_servers.insert(db.sqlite_path(server.config.database_url), count, SAVE, rows)


@contextmanager
def sqlite(disk_delay_ms: int = 0) -> Iterator[Books]:
    """With `busy_timeout` long enough that it refuses nothing."""
    with _peer("sql", lambda folder: radius_servers.fill_sql(folder, ACCOUNTS), disk_delay_ms=disk_delay_ms) as books:
        yield books


@contextmanager
def postgresql() -> Iterator[Books]:
    with (
        _postgresql_server() as socket,
        _peer("postgresql", lambda folder: None, {"BENCH_POSTGRESQL": str(socket)}) as books,
    ):
        yield books


@contextmanager
def _peer(
    kind: str, fill: Callable[[Path], None], environment: Mapping[str, str] = EMPTY, disk_delay_ms: int = 0
) -> Iterator[Books]:
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-peer-", dir="/var/tmp"))
    disk = slow_disk.environment(folder, disk_delay_ms) if disk_delay_ms else {}
    peer = Peer(kind, folder, {**environment, **disk})
    try:
        fill(folder)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "freerad", "freerad")
        peer.start()
        yield Books(kind, peer.accounting_port, peer.port, peer.pid, ROUTER_SECRET.encode(), peer.restart)
    finally:
        peer.stop()
        shutil.rmtree(folder)


@contextmanager
def _postgresql_server() -> Iterator[Path]:
    """With the defaults of durable commits; yields the folder of its unix socket."""
    owner = pwd.getpwnam("postgres")
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-pg-", dir="/var/tmp"))
    folder.chmod(0o755)
    shutil.chown(folder, owner.pw_uid, owner.pw_gid)
    try:
        _as_postgres("initdb", "-D", f"{folder}/data", "-A", "trust")
        options = f"-k {folder} -c listen_addresses="
        _as_postgres("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            _as_postgres("psql", "-q", "-h", str(folder), "-c", _SCHEMA.read_text(), "postgres")
            yield folder
        finally:
            _as_postgres("pg_ctl", "-D", f"{folder}/data", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _as_postgres(program: str, *words: str) -> None:
    command: Sequence[str] = [str(_POSTGRESQL[-1] / program), *words]
    out = subprocess.DEVNULL
    subprocess.run(command, check=True, user="postgres", group="postgres", extra_groups=(), stdout=out, cwd="/")
