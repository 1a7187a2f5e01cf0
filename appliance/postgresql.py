"""PostgreSQL as the database: a connection that finds the primary again.

Several hosts are a primary and its standbys, whichever of them is which today: after a failover the next statement
goes to the one that was promoted.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
import psycopg2
from psycopg2 import extensions, extras
from psycopg2.errors import ReadOnlySqlTransaction

from appliance.config_database import parsed
from appliance.errors import UserError
from appliance.patience import Cursor, Link, Patience

_LOST = (peewee.OperationalError, peewee.InterfaceError)
_DEFAULT_PORT = "5432"
_SLOW_S, _MOST_PAUSE_S = 0.5, 5.0
# A primary that is gone without a word is noticed within ten seconds, whether we wait for it, send to it or connect.
_DEFAULTS = {
    "target_session_attrs": "read-write",
    "connect_timeout": "2",
    "keepalives_idle": "5",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
    "fallback_application_name": "gatehouse",
}
_READS = re.compile(r"\s*SELECT\b(?!.*\bFOR (NO KEY )?UPDATE\b)", re.IGNORECASE | re.DOTALL)
_FIELD = re.compile(r"((?:[^:\\]|\\.)*)(?::|$)")


# What peewee sets where it imports the driver itself, see appliance/lean.py
for _name, _value in (("psycopg2", psycopg2), ("pg_extensions", extensions), ("Json_pg2", extras.Json)):
    setattr(peewee, _name, _value)
for _name in ("idle", "inerror", "unknown"):
    setattr(peewee.Psycopg2Adapter, f"txn_{_name}", getattr(extensions, f"TRANSACTION_STATUS_{_name.upper()}"))
extras.register_uuid()


class Server(peewee.PostgresqlDatabase):
    """Opens its connection anew once it is lost; a statement whose fate isn't known then fails, any other goes on.

    Where nobody answers for a while, statements fail at once for as long as the last attempt took, so that callers in
    turn aren't all held up. `patience_s` is how long an answer may take, also of a server that stands still.
    """

    def __init__(self, url: str, options: str, thread_safe: bool, patience_s: float) -> None:
        found = parsed(url)
        name = found.pop("dbname", "")
        given = found.get("options", "")
        self._passfile = found.pop("passfile", None)
        self._places = _places(found.pop("host", ""), found.pop("port", ""))
        self._not_before, self._why = 0.0, ""
        self._patience_s = patience_s
        words: dict[str, Any] = {**_DEFAULTS, **found, "options": f"{options} {given}".strip()}
        words |= {"connection_factory": Link, "cursor_factory": Cursor}
        super().__init__(name, thread_safe=thread_safe, **words)

    def _connect(self) -> Any:
        began = time.monotonic()
        if began < self._not_before:
            raise peewee.OperationalError(self._why)
        self.connect_params |= self._where()
        try:
            link = super()._connect()  # type: ignore[misc]
        except psycopg2.Error as error:
            took_s = time.monotonic() - began
            if took_s > _SLOW_S:
                self._not_before, self._why = began + took_s + min(took_s, _MOST_PAUSE_S), _one_line(error)
            raise
        self._prefer(link.info.host, str(link.info.port))
        link.limit_s = self._patience_s
        link.patience = Patience(link)
        return link

    def _close(self, conn: Any) -> None:
        conn.patience.stop()
        super()._close(conn)  # type: ignore[misc]

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Statements of this thread's connection may take as long as they do."""
        link: Link = self.connection()  # type: ignore[no-untyped-call]
        before, link.limit_s = link.limit_s, None
        try:
            yield
        finally:
            link.limit_s = before

    def _where(self) -> dict[str, str]:
        """The host of the last connection comes first, as a dead one before it would hold up each new one."""
        hosts, ports = (",".join(words) for words in zip(*self._places, strict=True))
        where = {"host": hosts, "port": ports} if hosts else {"port": ports}
        if self._passfile is not None:
            where["password"] = self._password(Path(self._passfile))
        return where

    def _password(self, file: Path) -> str:
        """Read by us, as libpq passes over a file that its owner's group may read, and our services share one."""
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
            raise peewee.OperationalError(f"passfile {file}: {why}") from error
        user = str(self.connect_params.get("user", ""))
        for host, port in self._places:
            found = password(text, host or "localhost", port, str(self.database), user)
            if found is not None:
                return found
        raise peewee.OperationalError(f"passfile {file}: no line is for {user}'s {self.database} on any of its hosts")

    def _prefer(self, host: str, port: str) -> None:
        self._places.sort(key=lambda place: place != (host, port))

    def _is_lost(self) -> bool:
        link = self._state.conn  # type: ignore[attr-defined]
        return link is not None and bool(link.closed)

    def _give_up(self) -> None:
        """So that the next statement opens it anew; who has opened it closes it in the end."""
        state: Any = self._state  # type: ignore[attr-defined]
        within = state.ctx
        self.close()
        state.ctx = within

    def connect(self, reuse_if_open: bool = False) -> bool:
        state: Any = self._state  # type: ignore[attr-defined]
        within = state.ctx
        try:
            return bool(super().connect(reuse_if_open))
        finally:
            state.ctx = within

    def begin(self, isolation_level: Any = None) -> None:
        try:
            super().begin(isolation_level)
        except _LOST:
            if not self._is_lost():
                raise
            self._give_up()
            super().begin(isolation_level)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        except _LOST:
            if not self._is_lost() or self.in_transaction():
                raise
            self._give_up()
            if not _READS.match(sql):
                raise
        except peewee.InternalError as error:
            if not isinstance(error.__cause__ or error.__context__, ReadOnlySqlTransaction):
                raise
            self._state.conn.close()  # type: ignore[attr-defined]  # a primary of yesterday, as good as gone
            if self.in_transaction():
                raise
            self._give_up()  # and it has refused that for certain
        except ValueError as error:  # the only one that psycopg2 has for a text
            raise UserError("what was given has a character that can't be kept (NUL)") from error
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]


def _places(hosts: str, ports: str) -> list[tuple[str, str]]:
    """Each host with its port; libpq takes one port for all, and its own where there is none."""
    names, numbers = hosts.split(","), ports.split(",")
    numbers = numbers * len(names) if len(numbers) == 1 else numbers
    return [(name, number or _DEFAULT_PORT) for name, number in zip(names, numbers, strict=True)]


def password(text: str, host: str, port: str, database: str, user: str) -> str | None:
    """Of a file as pgpass has it: the first line that fits, `*` fits all (PostgreSQL's manual, The Password File)."""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        fields = _fields(line)
        if len(fields) == 5 and all(
            field in ("*", wanted) for field, wanted in zip(fields[:4], (host, port, database, user), strict=True)
        ):
            return fields[4]
    return None


def _fields(line: str) -> Sequence[str]:
    """Apart at colons; a backslash takes the next character as it is."""
    found, place = [], 0
    while place <= len(line) and (field := _FIELD.match(line, place)):
        found.append(re.sub(r"\\(.)", r"\1", field[1]))
        place = field.end() + (0 if field[0].endswith(":") else 1)
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
