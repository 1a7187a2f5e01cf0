"""PostgreSQL for tests: a server, a primary with a streaming standby, and lines to them that can be cut.

All of it listens on loopback and in a folder of its own, run by the user `postgres`.
"""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import psycopg2

from tests.lab.namespace import free_ports, wait_until

NAME = "gatehouse"  # of the database and of its owner
_HOST = "127.0.0.1"
_STANDBY = "standby"
_START_S = 60
_BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_ENDS_WITH_US = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=QUIT")
# No test cuts the power, so the kernel's cache is as good as a disk; a benchmark wants it as it is in the field.
_QUICK = {"fsync": "off", "wal_retrieve_retry_interval": "100ms"}  # a standby's pause before it looks again


def _as_postgres(program: str, *words: str) -> None:
    """Raises RuntimeError that says what the program did."""
    done = subprocess.run(
        [str(_BIN[-1] / program), *words],
        check=False,
        user="postgres",
        group="postgres",
        extra_groups=(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr}")


class Server:
    """One server in `folder`, which becomes the user `postgres`'s; `settings` are of postgresql.conf(5)."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.data = folder, folder / "data"
        (self.port,) = free_ports(1, socket.SOCK_STREAM)
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        shutil.chown(folder, "postgres", "postgres")

    def init(self) -> None:
        """A new cluster; whoever reaches it is trusted."""
        _as_postgres("initdb", "-D", str(self.data), "-A", "trust", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8")

    def copy(self, of: "Server", name: str) -> None:
        """A standby of that server, which knows it by `name`; instead of whatever was here."""
        shutil.rmtree(self.data, ignore_errors=True)
        source = f"host={of.folder} port={of.port} user=postgres application_name={name}"
        _as_postgres("pg_basebackup", "-D", str(self.data), "-d", source, "-R", "-X", "stream", "-c", "fast", "-N")
        (self.data / "postgresql.auto.conf").open("a").write("synchronous_standby_names = ''\n")

    def start(self) -> None:
        words = {"port": str(self.port), "listen_addresses": _HOST, "unix_socket_directories": str(self.folder)}
        options = [word for pair in ({**words, **self._settings}).items() for word in ("-c", "=".join(pair))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_ENDS_WITH_US, str(_BIN[-1] / "postgres"), "-D", str(self.data), *options],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # a Ctrl-C is ours to handle
            )
        wait_until(lambda: self._answers() or not self.alive(), _START_S, "PostgreSQL to start")
        if not self.alive():
            raise RuntimeError(f"PostgreSQL ended at once: {self.log()}")

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            self.ask("SELECT 1")
            return True
        return False

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def ask(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """As the superuser, each statement a transaction of its own."""
        link = psycopg2.connect(host=str(self.folder), port=self.port, user="postgres", dbname=database)
        link.autocommit = True
        with contextlib.closing(link), link.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def pids(self) -> list[int]:
        """Of all its processes, the first one first; none where it doesn't run."""
        if self._process is None or not self.alive():
            return []
        return [self._process.pid, *_children(self._process.pid)]

    def signal(self, number: int) -> None:
        """To all of its processes, as a machine dies or stands still: each of them has a group of its own."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """Its kernel still takes what is sent, and nobody ever answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def promote(self) -> None:
        """A standby becomes a primary; returns when it is one."""
        self.ask("SELECT pg_promote()")
        wait_until(lambda: self.ask("SELECT NOT pg_is_in_recovery()") == [(True,)], _START_S, "the promotion")

    def stop(self) -> None:
        """At once; whatever was written is in its WAL."""
        if self._process is not None and self.alive():
            self.thaw()
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Line:
    """A line to a port on loopback: `port` is this end; `cut` as a dead network, `refuse` as one without a server."""

    def __init__(self, target: int) -> None:
        (self.port,) = free_ports(1, socket.SOCK_STREAM)
        self._target = target
        self._state: Literal["whole", "cut", "refused"] = "whole"
        self._links: dict[socket.socket, socket.socket] = {}
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._ending, self._changing = threading.Event(), threading.Lock()
        self._listen()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """What is sent from now on arrives nowhere, and nobody is told (the other end's kernel still takes it)."""
        with self._changing:
            self._state = "cut"

    def refuse(self) -> None:
        """Links are reset, new ones refused."""
        with self._changing:
            self._state = "refused"
            self._drop()
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None

    def mend(self) -> None:
        """Links from before are gone, as they are after a while on any network."""
        with self._changing:
            self._drop()
            self._state = "whole"
            if self._listener is None:
                self._listen()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self.refuse()
        self._selector.close()

    def _listen(self) -> None:
        self._listener = socket.create_server((_HOST, self.port))
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _drop(self) -> None:
        for end in self._links:
            self._selector.unregister(end)
            end.close()
        self._links.clear()

    def _carry(self) -> None:
        while not self._ending.is_set():
            ready = self._selector.select(0.02)
            with self._changing:
                if self._state == "cut":
                    self._ending.wait(0.02)
                    continue
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._meet()
                    elif key.fileobj in self._links:
                        self._pass(key.fileobj)

    def _meet(self) -> None:
        assert self._listener is not None
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection((_HOST, self._target), timeout=2)
        except OSError:
            near.close()
            return
        for end, other in ((near, far), (far, near)):
            end.settimeout(5)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links[end] = other
            self._selector.register(end, selectors.EVENT_READ)

    def _pass(self, end: Any) -> None:
        other = self._links[end]
        try:
            if data := end.recv(65536):
                other.sendall(data)
                return
        except OSError:
            pass
        for one in (end, other):
            self._selector.unregister(one)
            del self._links[one]
            one.close()


class Pair:
    """A primary whose commits wait for its standby's disk, an empty database `gatehouse`, and a line to each."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self._settings = settings
        self.primary, self.standby = self._server("one"), self._server("two")
        self.lines = (Line(self.primary.port), Line(self.standby.port))

    def _server(self, name: str) -> Server:
        folder = self._folder / name
        folder.mkdir()
        return Server(folder, **self._settings)

    def start(self) -> None:
        self.primary.init()
        self.primary.start()
        self.primary.ask(f"CREATE ROLE {NAME} LOGIN")
        self.primary.ask(f"CREATE DATABASE {NAME} OWNER {NAME}")
        self.follow()

    def follow(self) -> None:
        """The standby anew from the primary, which waits for it from now on."""
        self.standby.copy(self.primary, _STANDBY)
        self.standby.start()
        self.primary.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{_STANDBY}'")
        self.primary.ask("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: self.primary.ask(state) == [("sync",)], _START_S, "the standby to follow")

    def fail_over(self, kill: bool = True) -> None:
        """The standby becomes the primary; the one of before is `standby` then, killed unless it stands still."""
        if kill:
            self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def url(self, name: str = NAME, lines: bool = False) -> str:
        """Of both, in the same order whoever is the primary; by the `lines` that can be cut, or straight."""
        first, second = sorted((self.primary, self.standby), key=lambda server: server.folder.name)
        ports = [line.port for line in self.lines] if lines else [first.port, second.port]
        hosts = ",".join(f"{_HOST}:{port}" for port in ports)
        return f"postgresql://{NAME}@{hosts}/{name}?target_session_attrs=read-write"

    def database(self, name: str) -> str:
        """Another empty database; its URL, straight."""
        self.primary.ask(f"CREATE DATABASE {name} OWNER {NAME}")
        return self.url(name)

    def cut(self) -> None:
        """Both lines at once: the site is an island."""
        for line in self.lines:
            line.refuse()

    def mend(self) -> None:
        for line in self.lines:
            line.mend()

    def stop(self) -> None:
        for line in self.lines:
            line.close()
        for server in (self.standby, self.primary):
            server.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-pg-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def server(**settings: str) -> Iterator[Server]:
    """One alone, started; `settings` beside or instead of fsync=off."""
    with _folder() as folder:
        one = Server(folder, **{**_QUICK, **settings})
        try:
            one.init()
            one.start()
            yield one
        finally:
            one.stop()


@contextmanager
def pair(**settings: str) -> Iterator[Pair]:
    """Started, the standby in step; `settings` beside or instead of fsync=off."""
    with _folder() as folder, ExitStack() as stack:
        both = Pair(folder, **{**_QUICK, **settings})
        stack.callback(both.stop)
        both.start()
        yield both
