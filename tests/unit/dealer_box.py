"""A core database and a ledger for the tests of the dealer module, on either engine.

A folder that has a file `database_url` is that of a node of PostgreSQL: so its processes find it too.
"""

import contextlib
import io
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo

import psycopg2

from appliance import db
from appliance.accounts import sales
from appliance.accounts.models import Account, Plan, core_db
from appliance.config import Config, Paths, Site
from appliance.config_database import Database
from appliance.dealers import agreements, attribution, dealers, ledger_db, schemes
from appliance.dealers.models import ledger_db as database

URL = "database_url"
DAY = 1_790_000_000  # in September 2026


def configuration(folder: Path) -> Config:
    paths = Paths(state=folder / "state", run=folder / "run", data=folder / "data")
    for name in ("core", ledger_db.STATE):
        (paths.state / name).mkdir(parents=True, exist_ok=True)
    url = (folder / URL).read_text() if (folder / URL).exists() else ""
    return Config(site=Site(timezone=ZoneInfo("Europe/Prague")), paths=paths, database=Database(url=url))


def server(url: str, *statements: str) -> None:
    """Done in a PostgreSQL database, each a transaction of its own."""
    link = psycopg2.connect(url)
    link.autocommit = True
    with contextlib.closing(link), link.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def another(url: str) -> str:
    """A copy of a PostgreSQL database that nobody has open."""
    name = f"test_{os.urandom(6).hex()}"
    server(_named(url, "postgres"), f"CREATE DATABASE {name} TEMPLATE {urlsplit(url).path[1:]}")
    return _named(url, name)


def _named(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def emptied(url: str) -> str:
    """As it was made, which is much quicker than making another one; who has it open is put out."""
    server(url, _NOBODY, "SET session_replication_role = replica", _EMPTY)
    return url


_NOBODY = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_EMPTY = """DO $$ DECLARE of record; BEGIN
FOR of IN SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'dealers') LOOP
    IF of.tablename <> 'schema_version' THEN EXECUTE format('DELETE FROM %I.%I', of.schemaname, of.tablename); END IF;
END LOOP;
PERFORM setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) FROM pg_sequences;
END $$"""


def copied(source: Path, target: Path) -> None:
    """A folder with its databases, which nobody has open, instead of what is there."""
    known = (target / URL).read_text() if (target / URL).exists() else ""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    if (source / URL).exists():
        url = (source / URL).read_text()
        if known:
            _refill(url, emptied(known))
        (target / URL).write_text(known or another(url))


def _refill(source: str, target: str) -> None:
    """All rows, without what triggers would say."""
    with contextlib.closing(psycopg2.connect(source)) as one, contextlib.closing(psycopg2.connect(target)) as other:
        read, write = one.cursor(), other.cursor()
        write.execute("SET session_replication_role = replica")
        read.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'dealers')")
        for schema, table in read.fetchall():
            rows = io.StringIO()
            read.copy_expert(f"COPY {schema}.{table} TO STDOUT", rows)
            if table != "schema_version" and rows.tell():
                rows.seek(0)
                write.copy_expert(f"COPY {schema}.{table} FROM STDIN", rows)
        read.execute("SELECT schemaname, sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL")
        for schema, sequence, last in read.fetchall():
            write.execute("SELECT setval(%s::regclass, %s)", (f"{schema}.{sequence}", last))
        other.commit()


def count_down(step: int, *databases: Any) -> None:
    """This process is killed just before its n-th statement to them that writes; a commit is one too."""
    left = [step]

    def count() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(of: Any) -> None:
        real, commit = of.execute_sql, of.commit

        def execute(sql: str, *words: Any, **more: Any) -> Any:
            if not sql.lstrip().upper().startswith(("SELECT", "PRAGMA")):
                count()
            return real(sql, *words, **more)

        def committed() -> Any:
            count()
            return commit()

        of.execute_sql, of.commit = execute, committed

    for each in databases:
        watched(each)


@contextmanager
def opened(conf: Config) -> Iterator[Config]:
    """Both databases, made where they aren't there yet."""
    core_db.initialize(db.connect(conf.database_url))
    ledger_db.bind(conf)
    with core_db.connection_context(), database.connection_context():
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
        yield conf


class Shop:
    """A plan for 10 EUR a month and customers who have it; amounts are cents, times UTC seconds."""

    def __init__(self) -> None:
        self.plan = Plan.create(name="home", price_minor=1000, currency="EUR")

    def customer(self, name: str = "bob") -> Any:
        return Account.create(name=name, password=b"", plan=self.plan, created_at=0)

    def dealer(self, name: str = "eva", terms: str = '{"percent": "10"}', at: int = 0) -> Any:
        row = dealers.add(name)
        agreements.add_scheme(name, schemes.parse(terms), at)
        agreements.assign(row, agreements.get(name), at)
        return row

    def charge(self, account: Any, amount: int = 1000, at: int = DAY, kind: str = "renewal", **more: Any) -> Any:
        source = more.pop("source", "") or sales.own_source("test")
        return sales.charge(kind, amount, more.pop("currency", "EUR"), at, source, account=account, plan="home")

    def mine(self, dealer: Any, account: Any, since: int = 0, until: int | None = None) -> Any:
        return attribution.attribute(dealer, "account", account.id, account.name, since, until)
