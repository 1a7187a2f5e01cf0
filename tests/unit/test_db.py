"""Migrations and models, on SQLite and on PostgreSQL."""

import os
import re
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import peewee
import pytest

from appliance import db
from appliance.accounts.models import MODELS, Account, AccountUsage, Plan, Session, core_db
from appliance.admin.models import MODELS as ADMIN
from appliance.errors import UserError
from appliance.island.models import MODELS as ISLANDS
from appliance.nas.models import Nas
from appliance.service import python
from appliance.sites.models import MODELS as SITES

STEPS = db.migrations("appliance.migrations")
SAMPLES = Path(__file__).parents[1] / "data" / "core"


def run_script(database: peewee.Database, text: str) -> None:
    for statement in text.split(";\n"):
        if statement.strip():
            database.execute_sql(statement)


@pytest.mark.parametrize("start", range(len(STEPS) + 1))
def test_every_earlier_version_is_brought_forward_with_its_rows(empty_url: str, start: int) -> None:
    database = db.connect(empty_url)
    with database.connection_context():
        db.migrate(database, STEPS[:start])
        assert db.version(database) == start
        if start:
            run_script(database, (SAMPLES / f"{start:04}.sql").read_text())
        db.migrate(database, STEPS)
        assert db.version(database) == len(STEPS)
        assert db.migrate(database, STEPS) == []
        core_db.initialize(database)
        if start:
            account = Account.get(name="bob")
            assert account.plan.rate_down_bps == 20_000_000
            assert account.plan.pool is not None
            assert account.plan.pool.name == "public"
            assert AccountUsage.get(account=account).output_octets == 9_000_000_000
            assert Session.get().account_ref == account
            assert Nas.get().require_message_authenticator is True


def test_several_who_migrate_at_once_do_it_once(empty_url: str) -> None:
    together = Barrier(4, timeout=60)

    def migrate(_: int) -> list[db.Migration]:
        database = db.connect(empty_url)
        with database.connection_context():
            together.wait()
            return db.migrate(database, STEPS)

    with ThreadPoolExecutor(4) as threads:
        applied = [step for steps in threads.map(migrate, range(4)) for step in steps]
    assert sorted(applied, key=lambda step: step.number) == list(STEPS)


def test_several_open_a_new_file_at_once(tmp_path: Path) -> None:
    together = Barrier(4, timeout=60)

    def open_it(file: Path) -> None:
        database = db.connect(f"sqlite:///{file}")
        together.wait()
        with database.connection_context():
            assert database.execute_sql("PRAGMA journal_mode").fetchone() == ("wal",)

    with ThreadPoolExecutor(4) as threads:
        for number in range(100):
            list(threads.map(open_it, [tmp_path / f"{number}.db"] * 4))


def test_an_older_program_works_with_a_newer_database(empty_url: str) -> None:
    """After an update that failed the slot before it serves again."""
    added = db.Migration(len(STEPS) + 1, "more", "ALTER TABLE plan ADD COLUMN more TEXT NOT NULL DEFAULT '';\n")
    database = db.connect(empty_url)
    with database.connection_context():
        db.migrate(database, [*STEPS, added])
        assert db.migrate(database, STEPS) == []
        assert db.version(database) == len(STEPS) + 1
        core_db.initialize(database)
        Plan.create(name="old")
        assert Plan.get(name="old").rate_down_bps == 0


def test_what_an_older_program_cant_work_with_is_left_alone(empty_url: str) -> None:
    breaking = db.Migration(len(STEPS) + 1, "breaking_speeds", "DROP TABLE device;\n")
    database = db.connect(empty_url)
    with database.connection_context():
        db.migrate(database, [*STEPS, breaking])
        with pytest.raises(UserError, match="install the newer program"):
            db.migrate(database, STEPS)


def is_additive(sql: str) -> bool:
    statements = [" ".join(s.split()) for s in sql.split(";\n") if s.strip()]
    new = [found[1] for s in statements if (found := re.match(r"CREATE TABLE (\w+) ", s))]
    return all(
        re.match(r"CREATE (TABLE|INDEX) ", s)
        or ((found := re.match(r"CREATE UNIQUE INDEX \w+ ON (\w+) ", s)) is not None and found[1] in new)
        or (re.match(r"ALTER TABLE \w+ ADD COLUMN ", s) and ("NOT NULL" not in s or "DEFAULT" in s))
        for s in statements
    )


RELEASED = 3  # those before were never on a box


@pytest.mark.parametrize("step", STEPS[RELEASED:], ids=lambda step: step.name)
def test_migrations_add_or_say_that_they_break(step: db.Migration) -> None:
    assert is_additive(step.sql) or step.name.startswith(db.BREAKING)


def test_what_adds_is_told_from_what_breaks() -> None:
    assert is_additive("CREATE TABLE a (b {id});\nALTER TABLE a ADD COLUMN c INTEGER;\nCREATE INDEX d ON a (c);\n")
    assert not is_additive("CREATE UNIQUE INDEX a ON b (c);\n")  # what an older program writes may be refused
    assert not is_additive("ALTER TABLE a ADD COLUMN c INTEGER NOT NULL;\n")
    assert not is_additive("CREATE TABLE a (b {id});\nDROP TABLE c;\n")


def test_a_copy_is_kept_before_a_database_changes(tmp_path: Path) -> None:
    path = tmp_path / "core.db"
    assert db.keep_copy(path, STEPS) is None  # a new one
    database = db.connect(f"sqlite:///{path}")
    with database.connection_context():
        for done in (1, 2):
            db.migrate(database, STEPS[:done])
            copy = db.keep_copy(path, STEPS)
            assert copy == tmp_path / f"core.db.before-{done + 1:04}"
            assert copy.stat().st_mode & 0o777 == 0o600
            assert list(tmp_path.glob("core.db.before-*")) == [copy]
        db.migrate(database, STEPS)
        assert db.keep_copy(path, STEPS) is None
    assert copy is not None
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT max(number) FROM schema_version").fetchone() == (2,)


def test_a_step_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    database = db.connect(empty_url)
    broken = db.Migration(1, "broken", "CREATE TABLE half (id {id});\nCREATE TABLE half (id {id});\n")
    with database.connection_context():
        with pytest.raises(peewee.PeeweeException):
            db.migrate(database, [broken])
        assert db.version(database) == 0
        assert not database.table_exists("half")


@pytest.mark.parametrize("model", [*MODELS, *ADMIN, *SITES, *ISLANDS, Nas], ids=lambda m: m.__name__)
def test_models_and_migrations_say_the_same(core: str, model: type[peewee.Model]) -> None:
    table = model._meta.table_name
    columns = {column.name: column for column in core_db.get_columns(table)}
    assert set(columns) == {field.column_name for field in model._meta.sorted_fields}
    for field in model._meta.sorted_fields:
        if not field.primary_key:
            assert columns[field.column_name].null == field.null, f"{table}.{field.column_name}"


def test_references_are_kept(core: str) -> None:
    plan = Plan.create(name="p")
    Account.create(name="a", plan=plan, password=b"", created_at=0)
    with pytest.raises(peewee.IntegrityError):
        plan.delete_instance()


def test_a_plans_quota_period_is_one_of_four(core: str) -> None:
    with pytest.raises(peewee.IntegrityError):
        Plan.create(name="p", quota_period="fortnight")


def test_sqlite_is_wal_and_durable_where_it_must_be(tmp_path: Path) -> None:
    for durable, synchronous in ((True, 2), (False, 1)):
        database = db.connect(f"sqlite:///{tmp_path}/x.db", busy_timeout_ms=200, durable=durable)
        with database.connection_context():
            assert database.execute_sql("PRAGMA journal_mode").fetchone() == ("wal",)
            assert database.execute_sql("PRAGMA synchronous").fetchone() == (synchronous,)
            assert database.execute_sql("PRAGMA busy_timeout").fetchone() == (200,)
            assert database.execute_sql("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_transaction_that_began_by_reading_may_write(tmp_path: Path) -> None:
    """SQLite would refuse that at once, without any wait, when somebody else committed in between."""
    url = f"sqlite:///{tmp_path}/x.db"
    ours, theirs = db.connect(url), db.connect(url, busy_timeout_ms=20)
    with ours.connection_context(), theirs.connection_context():
        ours.execute_sql("CREATE TABLE t (n INTEGER)")
        with ours.atomic():
            ours.execute_sql("SELECT count(*) FROM t").fetchall()
            with pytest.raises(peewee.OperationalError, match="locked"):
                theirs.execute_sql("INSERT INTO t VALUES (1)")
            ours.execute_sql("INSERT INTO t VALUES (2)")
        theirs.execute_sql("INSERT INTO t VALUES (3)")
        assert theirs.execute_sql("SELECT n FROM t ORDER BY n").fetchall() == [(2,), (3,)]


def test_sqlite_files_keep_their_mode(tmp_path: Path) -> None:
    path = tmp_path / "core.db"
    sqlite3.connect(path).close()
    path.touch()
    path.chmod(0o660)
    database = db.connect(f"sqlite:///{path}")
    with database.connection_context():
        db.migrate(database, STEPS)
        for suffix in ("", "-wal", "-shm"):
            assert (tmp_path / f"core.db{suffix}").stat().st_mode & 0o777 == 0o660


def test_a_driver_is_loaded_only_by_who_has_such_a_database(tmp_path: Path) -> None:
    """peewee loads all that are installed, if it is left to."""
    (tmp_path / "probe.py").write_text(
        "import sys, peewee, appliance.jobs\n"
        "print(sys.argv[1:], 'psycopg2' in sys.modules)\n"
        "import appliance.postgresql\n"
        "print(peewee.psycopg2.__name__, peewee.Psycopg2Adapter.txn_idle)\n"
    )
    words = [*python("probe"), "--config", "x"]
    said = subprocess.run(
        words, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    assert said.stdout == "['--config', 'x'] False\npsycopg2 0\n"
