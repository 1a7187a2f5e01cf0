"""Talking to the servers of a cluster: several hosts, short time-outs, and one line where something is wrong."""

import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from clickhouse_driver import Client, errors

from appliance.config import Config
from appliance.config_netflow import Store
from appliance.errors import Unavailable, UserError

CONNECT_S, PROBE_S, ANSWER_S = 3, 5, 60
MOST_SHARDS = 10_000
DATABASE_MISSING = 81  # ClickHouse's error code UNKNOWN_DATABASE
_MOST_WORDS = 300
# The library raises whatever its parser stumbles over where an answer is cut or isn't ClickHouse's at all.
BROKEN = (errors.Error, OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, struct.error)
BROKEN += (MemoryError, AttributeError)  # type: ignore[assignment]

logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)  # it logs passwords' refusals with traces


class Away(Unavailable):
    """A server can't be reached, or its answer broke off: what was asked of it may have been done or not."""


class Refused(UserError):
    """A server answers, and doesn't do it. `code` is ClickHouse's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Host:
    """One server, by one connection that is made when it is needed. Not for several threads."""

    def __init__(self, store: Store, password: str, name: str, port: int, answer_s: int = ANSWER_S) -> None:
        self.name = f"{name}:{port}"
        self._store = store
        self._options: dict[str, Any] = {
            **{"host": name, "port": port, "user": store.user, "password": password, "client_name": "gatehouse"},
            **{"secure": store.secure, "connect_timeout": CONNECT_S, "send_receive_timeout": answer_s},
            **{"sync_request_timeout": CONNECT_S, "settings": {"connect_timeout": CONNECT_S}},
            **({"ca_certs": str(store.ca)} if store.ca else {}),
        }
        self._database = store.database
        self._client: Client | None = None
        self._writer: Client | None = None

    def options(self, **settings: Any) -> dict[str, Any]:
        """Of a connection of its own."""
        return {**self._options, "database": self._database, "settings": {**self._options["settings"], **settings}}

    def rows(
        self, sql: str, external: Sequence[Mapping[str, Any]] = (), settings: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Raises Away, Refused."""
        found: list[tuple[Any, ...]] = self._run(sql, external_tables=list(external), settings=dict(settings or {}))
        return found

    def probe(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a small question, for which nobody waits long."""
        with closing(Host.__new__(Host)) as other:
            vars(other).update(
                vars(self), _client=None, _writer=None, _options=self._options | {"send_receive_timeout": PROBE_S}
            )
            return other.rows(sql)

    def number(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """What is to be one, from 1. Raises Refused for any other answer."""
        if len(rows) == 1 and len(rows[0]) == 1 and isinstance(rows[0][0], int) and 0 < rows[0][0] <= MOST_SHARDS:
            return int(rows[0][0])
        raise Refused(f"{self.name}: it answers with what is no number of a shard", 0)

    def columns(
        self, sql: str, external: Sequence[Mapping[str, Any]] = (), settings: Mapping[str, Any] | None = None
    ) -> list[Sequence[Any]]:
        """The same by columns, none where there is no row."""
        options = {"external_tables": list(external), "settings": dict(settings or {})}
        found: list[Sequence[Any]] = self._run(sql, columnar=True, **options)
        return found

    def stream(
        self, sql: str, external: Sequence[Mapping[str, Any]] = (), settings: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Row by row. Who stops before the end closes it, and with it the connection."""
        ended = False
        try:
            options = {"external_tables": list(external), "settings": dict(settings or {})}
            yield from self._opened().execute_iter(sql, **options)
            ended = True
        except BROKEN as error:
            raise self.told(error) from None
        finally:
            if not ended:
                self.close()

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """One block of arrays or lists, there as a whole or not at all when it returns. Away: nobody knows."""
        from collector.cluster import native  # numpy comes with it

        try:
            if self._writer is None:
                self._writer = native.client(**self.options())
            native.insert(self._writer, table, columns)
        except BROKEN as error:
            self.close()
            raise self.told(error) from None

    def close(self) -> None:
        for client in (self._client, self._writer):
            if client is not None:
                client.disconnect()
        self._client = self._writer = None

    def _opened(self) -> Client:
        if self._client is None:
            self._client = Client(database=self._database, **self._options)
        return self._client

    def _run(self, *what: Any, **options: Any) -> Any:
        try:
            return self._opened().execute(*what, **options)
        except BROKEN as error:
            self.close()
            raise self.told(error) from None

    def told(self, error: BaseException) -> Away | Refused:
        if isinstance(error, errors.ServerException):
            words = " ".join(str(error.message).partition("Stack trace:")[0].split())
            words = words.removeprefix("DB::Exception: ").removeprefix("DB::NetException: ")
            return Refused(f"{self.name}: {words[:_MOST_WORDS]}", error.code)
        words = " ".join(str(getattr(error, "message", "") or error).split())
        if not words or words.startswith("("):
            late = isinstance(error, TimeoutError | errors.SocketTimeoutError)
            words = "it doesn't answer" if late else "it broke off"
        return Away(f"{self.name}: {words[:_MOST_WORDS]}")

    def create_database(self) -> None:
        """Where it isn't there, and the user may."""
        try:
            self.rows("SELECT 1")
        except Refused as error:
            if error.code != DATABASE_MISSING:
                raise
            self._database = "default"
            with closing(self):
                self.rows(f"CREATE DATABASE IF NOT EXISTS {self._store.database}")
            self._database = self._store.database


class Cluster:
    """The hosts of the configuration, as the shards that they are."""

    def __init__(self, store: Store, password: str, answer_s: int = ANSWER_S) -> None:
        self.store = store
        self.hosts = [Host(store, password, name, port, answer_s) for name, port in store.hosts]
        self.trouble: dict[str, str] = {}  # of hosts that didn't answer, or refused

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.close()

    def shards(self) -> dict[int, Host]:
        """One host of each shard that answers and has the tables; `trouble` says what is with the others."""
        found: dict[int, Host] = {}
        self.trouble = {}
        for host in self.hosts:
            try:
                number = host.number(host.probe("SELECT number FROM shard"))
            except UserError as error:
                self.trouble[host.name] = str(error)
                continue
            found.setdefault(number, host)
        return found

    def count(self, host: Host) -> int:
        """How many shards there are, as that server knows."""
        if not self.store.cluster:
            return 1
        sql = f"SELECT max(shard_num) FROM system.clusters WHERE cluster = '{self.store.cluster}'"  # noqa: S608
        found = host.rows(sql)
        if found == [(0,)]:
            raise UserError(f"{host.name}: no cluster {self.store.cluster} is defined there")
        return host.number(found)


def opened(config: Config, answer_s: int = ANSWER_S) -> Cluster:
    """Raises UserError where none is configured, or its password can't be read."""
    store = config.netflow.cluster
    if store is None:
        raise UserError("no cluster keeps flows: [netflow] store is empty")
    return Cluster(store, password(config), answer_s)


def password(config: Config) -> str:
    file = config.netflow.store_password_file
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"[netflow] store_password_file: {file} can't be read: {error}") from None
