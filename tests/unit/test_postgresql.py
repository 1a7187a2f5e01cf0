"""What a PostgreSQL URL may say, where its password comes from, and a connection that is lost and found again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from appliance import config, db, postgresql
from appliance.config_database import Database
from appliance.errors import UserError
from tests.lab import postgresql as lab


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:p@h/x", "a password doesn't belong into this file"),
        ("postgresql://u@h/x?password=p", "?passfile="),
        ("postgresql://u@h", "the database's name is missing"),
        ("postgresql://u@h/x?colour=red", 'invalid URI query parameter: "colour"'),
        ("postgresql://u@h1:1,h2:99999/x", "'99999' is no port"),
        ("postgresql://u@h1,h2/x?target_session_attrs=any", "standbys only read"),
        ("postgresql://u@h/x?sslmode=always", "write one of disable, allow"),
        ("postgresql://u@h/x?passfile=pgpass", "a path that begins with /"),
        ("mysql://u@h/x", "use sqlite:////absolute/path or postgresql://user@host/name"),
    ],
)
def test_a_url_that_cant_be_is_one_line(tmp_path: Path, url: str, said: str) -> None:
    file = tmp_path / "gatehouse.toml"
    file.write_text(f'[database]\nurl = "{url}"\n')
    with pytest.raises(UserError) as refused:
        config.load(file)
    assert "database" in str(refused.value)
    assert said.removeprefix("invalid URI ") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x",
        "postgresql://u@/x?host=/run/postgresql&port=5433",
        "postgresql://u@h1:5432,h2/x?sslmode=verify-full&sslrootcert=system&passfile=/etc/gatehouse/pgpass",
        "postgresql://u@[2001:db8::1]:5432,h2/x?target_session_attrs=read-write&connect_timeout=9",
    ],
)
def test_urls_of_libpq(url: str) -> None:
    assert Database(url=url).url == url
    assert isinstance(db.connect(url), postgresql.Server)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h:5432:x:u:secret", "secret"),
        ("# h:5432:x:u:no\nother:*:*:*:no\n*:*:*:u:yes\nh:5432:x:u:late", "yes"),
        (r"h:5432:x:u:a\:b\\c", r"a:b\c"),
        ("h:5433:x:u:no", None),
        ("h:5432:x:u", None),
        ("", None),
    ],
)
def test_a_password_by_its_line(text: str, found: str | None) -> None:
    assert postgresql.password(text, "h", "5432", "x", "u") == found


@pytest.fixture(scope="module")
def server() -> Iterator[lab.Server]:
    with lab.server() as server:
        server.ask("CREATE DATABASE gatehouse")
        server.ask("CREATE ROLE gatehouse LOGIN PASSWORD 'old'")
        yield server


def test_a_password_that_changes_is_read_anew(server: lab.Server, tmp_path: Path) -> None:
    (server.data / "pg_hba.conf").write_text("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    server.ask("SELECT pg_reload_conf()")
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:gatehouse:old\n")
    file.chmod(0o640)  # for the group of all services; libpq itself would pass it over
    database = db.connect(f"postgresql://gatehouse@127.0.0.1:{server.port}/gatehouse?passfile={file}")
    with database.connection_context():
        server.ask("ALTER ROLE gatehouse PASSWORD 'new'")
    with pytest.raises(peewee.OperationalError, match="password authentication failed"):
        database.connect()
    file.write_text("*:*:*:gatehouse:new\n")
    with database.connection_context():
        assert database.execute_sql("SELECT 1").fetchone() == (1,)
    file.unlink()
    with pytest.raises(peewee.OperationalError, match="No such file"):
        database.connect()


def test_a_lost_connection_is_opened_anew_and_only_a_write_of_unknown_fate_fails(server: lab.Server) -> None:
    database = db.connect(f"postgresql://postgres@/gatehouse?host={server.folder}&port={server.port}")

    def lose() -> None:
        server.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'gatehouse'")

    database.execute_sql("CREATE TABLE t (i integer)")
    lose()
    with pytest.raises(peewee.OperationalError):
        database.execute_sql("INSERT INTO t VALUES (1)")
    database.execute_sql("INSERT INTO t VALUES (2)")
    lose()
    assert database.execute_sql("SELECT i FROM t").fetchall() == [(2,)]
    lose()
    with database.atomic():
        database.execute_sql("INSERT INTO t VALUES (3)")
    with pytest.raises(peewee.PeeweeException), database.atomic():
        database.execute_sql("INSERT INTO t VALUES (4)")
        lose()
        database.execute_sql("SELECT 1")
    assert database.execute_sql("SELECT i FROM t ORDER BY i").fetchall() == [(2,), (3,)]
    database.close()


def test_a_primary_that_writes_no_more_is_as_good_as_gone(server: lab.Server) -> None:
    """Though it ends no connection: the next transaction is where writing is possible."""
    database = db.connect(f"postgresql://postgres@/gatehouse?host={server.folder}&port={server.port}")
    fence = "SET default_transaction_read_only = on"  # of this connection, as a reload does with all of them
    database.execute_sql("CREATE TABLE u (i integer)")
    database.execute_sql(fence)
    database.execute_sql("INSERT INTO u VALUES (1)")
    database.execute_sql(fence)
    for number in (2, 3):
        with contextlib.suppress(peewee.PeeweeException), database.atomic():
            database.execute_sql(f"INSERT INTO u VALUES ({number})")  # the first is refused, and the next is elsewhere
    assert database.execute_sql("SELECT i FROM u ORDER BY i").fetchall() == [(1,), (3,)]
    database.close()


def test_a_server_that_stands_still_is_given_up(server: lab.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pages and jobs do after a while; not by whoever says that it takes its time."""
    monkeypatch.setattr(db, "_PATIENCE_OF_OTHERS_S", 0.5)
    database = db.connect(f"postgresql://postgres@/gatehouse?host={server.folder}&port={server.port}")
    slow = "SELECT pg_sleep(1.2)"
    database.connect()
    with db.unhurried(database):
        with db.unhurried(database):
            database.execute_sql(slow)
        database.execute_sql(slow)
    with pytest.raises(peewee.OperationalError):
        database.execute_sql(slow)
    assert database.execute_sql("SELECT 1").fetchone() == (1,)
    database.close()
