"""The core database on both engines: SQLite in a file, and a real PostgreSQL that lives as long as the tests."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import argon2
import peewee
import pytest

from appliance import cli, config, db
from appliance.accounts.database import open_core
from appliance.accounts.models import core_db
from appliance.crypto import key_file
from appliance.dealers.models import ledger_db
from appliance.vault.models import vault_db
from tests.lab import postgresql
from tests.unit import dealer_box, dealer_money

Gatehouse = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def nobody_waits_who_locks_the_core_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounting isn't answered meanwhile: so ledger and vault are locked before, and passwords hashed before."""

    def checked(of: type, name: str, concerns: Callable[[Any], bool]) -> None:
        plain = getattr(of, name)

        def called(self: Any, *given: Any, **named: Any) -> Any:
            assert not (concerns(self) and locked()), f"{of.__name__}.{name} while core.db is locked"
            return plain(self, *given, **named)

        monkeypatch.setattr(of, name, called)

    def locked() -> bool:
        return isinstance(core_db.obj, peewee.SqliteDatabase) and bool(core_db.obj.in_transaction())

    checked(peewee.SqliteDatabase, "begin", lambda begun: begun in (ledger_db.obj, vault_db.obj))
    checked(argon2.PasswordHasher, "hash", lambda hasher: True)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    with postgresql.server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'core.db'}"
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    name = f"test_{os.urandom(6).hex()}"
    server.ask(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={server.folder}&port={server.port}"


@pytest.fixture(scope="session")
def template_url(postgresql_server: postgresql.Server) -> str:
    """A PostgreSQL database with a core and a ledger in it, to be copied: that is quicker than all migrations."""
    server = postgresql_server
    server.ask("CREATE DATABASE template_of_tests")
    url = f"postgresql://postgres@/template_of_tests?host={server.folder}&port={server.port}"
    with dealer_money.memory() as folder:
        (folder / dealer_box.URL).write_text(url)
        with dealer_box.opened(dealer_box.configuration(folder)):
            pass
    return url


@pytest.fixture(scope="session")
def shared_url(template_url: str) -> str:
    return dealer_box.another(template_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def books(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for dealer_box.configuration, on each engine."""
    with dealer_money.memory() as folder:
        if request.param == "postgresql":
            (folder / dealer_box.URL).write_text(dealer_box.emptied(request.getfixturevalue("shared_url")))
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def books_of_module(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The same for all tests of a file."""
    with dealer_money.memory() as folder:
        if request.param == "postgresql":
            (folder / dealer_box.URL).write_text(dealer_box.another(request.getfixturevalue("template_url")))
        yield folder


@pytest.fixture
def core(empty_url: str) -> Iterator[str]:
    """A migrated core database, open and bound to the models; its URL."""
    core_db.initialize(db.connect(empty_url))
    with core_db.connection_context():
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
        yield empty_url


@pytest.fixture
def toml(empty_url: str, tmp_path: Path) -> Path:
    """The configuration of an appliance with a migrated database and a key."""
    path = tmp_path / "gatehouse.toml"
    path.write_text(
        f'[paths]\nstate = "{tmp_path}/state"\nrun = "{tmp_path}/run"\n'
        f'[database]\nurl = "{empty_url}"\n[site]\ntimezone = "Europe/Prague"\n'
    )
    loaded = config.load(path)
    key = key_file(loaded.paths.state)
    key.parent.mkdir(parents=True)
    key.write_bytes(bytes(32))
    with open_core(loaded, create=True):
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
    return path


@pytest.fixture
def gatehouse(toml: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Gatehouse:
    """Runs a command in this process: exit status, standard output, standard error."""

    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = cli.main(["--config", str(toml), *words])
        said = capsys.readouterr()
        return status, said.out.strip(), said.err.strip()

    return run
