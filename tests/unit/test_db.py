"""Migrations and models, on SQLite and on PostgreSQL."""

import sqlite3
from pathlib import Path

import peewee
import pytest

from appliance import db
from appliance.accounts.models import MODELS, Account, AccountUsage, Plan, Session, core_db
from appliance.errors import UserError
from appliance.nas.models import Nas

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


def test_a_database_from_the_future_is_left_alone(empty_url: str) -> None:
    database = db.connect(empty_url)
    with database.connection_context():
        db.migrate(database, STEPS)
        with pytest.raises(UserError, match="install the newer program"):
            db.migrate(database, STEPS[:-1])


def test_a_step_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    database = db.connect(empty_url)
    broken = db.Migration(1, "broken", "CREATE TABLE half (id {id});\nCREATE TABLE half (id {id});\n")
    with database.connection_context():
        with pytest.raises(peewee.PeeweeException):
            db.migrate(database, [broken])
        assert db.version(database) == 0
        assert not database.table_exists("half")


@pytest.mark.parametrize("model", [*MODELS, Nas], ids=lambda m: m.__name__)
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
