"""From SQLite into PostgreSQL: every row, or none."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from peewee import fn

from appliance import db, moving
from appliance.accounts import sales
from appliance.accounts.models import Account, Plan
from appliance.config import Config
from appliance.config_database import Database
from appliance.dealers import ledger_db
from appliance.dealers.models import Dealer
from appliance.errors import UserError
from tests.lab import postgresql
from tests.unit import dealer_history
from tests.unit import test_dealer_history as history
from tests.unit.conftest import Gatehouse
from tests.unit.dealer_box import opened, server
from tests.unit.dealer_money import conf_in, memory

ODD = "tab\t line\n back\\slash \\N č 🙂"


@pytest.fixture
def url(postgresql_server: postgresql.Server) -> str:
    """An empty database."""
    name = f"test_{os.urandom(6).hex()}"
    postgresql_server.ask(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={postgresql_server.folder}&port={postgresql_server.port}"


@pytest.fixture
def conf() -> Iterator[Config]:
    """A shop with some months behind it, in SQLite."""
    with memory() as folder:
        history.make_shop(folder)
        with opened(conf_in(folder)) as config:
            history.sell(config, 6)
            history.month_end(config)
            Account.create(name="gone", password=b"", plan=Plan.get(), created_at=0).delete_instance()
            Plan.update(name=ODD).where(Plan.name == "gold").execute()
            Account.update(password=bytes(range(256))).where(Account.name == "c1").execute()
        yield config


def there(url: str, config: Config) -> Config:
    return replace(config, database=Database(url=url))


def tables(url: str) -> int:
    """How many there are."""
    link = psycopg2.connect(url)
    with contextlib.closing(link), link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'dealers')")
        return int(cursor.fetchone()[0])


def test_all_of_it_is_there_and_goes_on(conf: Config, url: str) -> None:
    with opened(conf):
        heads, figures = dealer_history.heads(), history.figures()
    said: list[str] = []
    count = moving.move(conf, url, said.append)
    assert count == sum(int(line.split()[1]) for line in said if "are there" in line) > 100
    assert any(line.startswith("ledger.db: posting: ") for line in said)
    with pytest.raises(UserError, match=r"was moved to PostgreSQL: write its URL"):
        moving.refuse_beginning_anew(conf)
    with opened(there(url, conf)) as moved:
        moving.refuse_beginning_anew(moved)
        assert (dealer_history.heads(), history.figures()) == (heads, figures)
        assert bytes(Account.get(name="c1").password) == bytes(range(256)) and Plan.get_or_none(Plan.name == ODD)
        last = Account.select(fn.MAX(Account.id)).scalar()
        assert Account.create(name="new", password=b"", plan=Plan.get(), created_at=0).id == last + 2, "nobody's again"
        charge = sales.charge("renewal", 500, "EUR", history.FIRST, "more", account=Account.get(name="c0"), plan="home")
        sales.pay(charge, 500, history.FIRST)
        history.month_end(moved)
        dealer_history.check()
        assert history.figures()[-1] == figures[-1] + 1


def test_a_ledger_that_was_changed_is_not_moved_and_nothing_is_left_there(conf: Config, url: str) -> None:
    with sqlite3.connect(ledger_db.path(conf)) as other:
        other.execute("DROP TRIGGER posting_stays")
        other.execute("UPDATE posting SET note = 'so' WHERE n = 2")
    with pytest.raises(UserError, match="isn't what was written"):
        moving.move(conf, url, lambda line: None)
    assert tables(url) == 0
    with opened(conf):
        assert Dealer.select().count() == 2


def test_who_was_killed_before_the_files_were_put_aside_goes_on(
    conf: Config, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(file: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(moving, "_put_aside", killed)
        with pytest.raises(KeyboardInterrupt):
            moving.move(conf, url, lambda line: None)
    with opened(conf):
        Plan.update(name="other").where(Plan.name == "home").execute()
    with pytest.raises(UserError, match="isn't empty"):
        moving.move(conf, url, lambda line: None)
    with opened(conf):
        Plan.update(name="home").where(Plan.name == "other").execute()
    moving.move(conf, url, lambda line: None)
    assert not ledger_db.path(conf).exists()


def test_who_was_killed_between_two_files_goes_on(conf: Config, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_aside, done = moving._put_aside, list[Path]()

    def killed(file: Path) -> None:
        if done:
            raise KeyboardInterrupt
        put_aside(file)
        done.append(file)

    with monkeypatch.context() as broken:
        broken.setattr(moving, "_put_aside", killed)
        with pytest.raises(KeyboardInterrupt):
            moving.move(conf, url, lambda line: None)
    with pytest.raises(UserError, match=r"ledger.db was moved to PostgreSQL, .*core.db wasn't yet"):
        moving.refuse_beginning_anew(conf)
    said: list[str] = []
    moving.move(conf, url, said.append)
    assert {line.partition(":")[0] for line in said if "are there" in line} == {"core.db", "ledger.db.moved"}
    assert not ledger_db.path(conf).exists()
    with pytest.raises(UserError, match="write its URL"):
        moving.refuse_beginning_anew(conf)
    with opened(there(url, conf)):
        assert Dealer.select().count() == 2


def test_who_was_killed_between_two_files_may_begin_with_another_database(conf: Config, url: str) -> None:
    """Then the ledger, which was put aside, isn't left behind."""
    moving._put_aside(ledger_db.path(conf))
    moving.move(conf, url, lambda line: None)
    with opened(there(url, conf)):
        assert Dealer.select().count() == 2


WRITER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=2) as database:
    print("open", database.execute("SELECT count(*) FROM plan").fetchone()[0] > 0, flush=True)
    sys.stdin.readline()
    database.execute("UPDATE plan SET name = 'lost' WHERE name = 'home'")
print("acknowledged")
"""


def test_no_write_is_acknowledged_that_is_not_moved(conf: Config, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that waits for the lock while the files are put aside."""
    compare, words = moving._compared, [sys.executable, "-c", WRITER, str(db.sqlite_path(conf.database_url))]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin and writer.stdout and writer.stdout.readline() == "open True\n"

        def compared(*given: Any) -> int:
            count = compare(*given)
            if not writer.stdin.closed:  # type: ignore[union-attr]
                writer.stdin.close()  # type: ignore[union-attr]
            return count

        monkeypatch.setattr(moving, "_compared", compared)
        said: list[str] = []
        moving.move(conf, url, said.append)
        assert "acknowledged" not in writer.stdout.read() and "locked" in (
            writer.stderr.read() if writer.stderr else ""
        )
        assert not [line for line in said if "open still" in line]
    with sqlite3.connect(moving._aside(Path(words[-1]))) as aside:
        assert aside.execute("SELECT count(*) FROM plan WHERE name = 'lost'").fetchone() == (0,)


def test_what_is_somebody_elses_is_not_touched(conf: Config, url: str) -> None:
    server(url, "CREATE TABLE theirs (id int)")
    with pytest.raises(UserError, match="something else, such as theirs"):
        moving.move(conf, url, lambda line: None)
    with pytest.raises(UserError, match="already"):
        moving.parts(there(url, conf))


def test_nothing_begins_anew_beside_what_is_in_a_file(conf: Config, url: str) -> None:
    with pytest.raises(UserError, match=r"core.db has accounts that aren't in the database"):
        moving.refuse_beginning_anew(there(url, conf))
    with pytest.raises(UserError, match=r"ledger.db has a ledger that isn't in the database"):
        ledger_db.bind(there(url, conf))
    assert tables(url) == 0


@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
def test_the_command_says_what_is_to_be_done_next(gatehouse: Gatehouse, toml: Path, url: str) -> None:
    for wrong in ("mysql://x/y", "postgresql://u@h", "postgresql://u:secret@h/name"):
        status, _, said = gatehouse("database", "move", wrong)
        assert (status, said.count("\n")) == (1, 0), said
    status, text, said = gatehouse("database", "move", url)
    assert (status, text.count("\n")) == (0, 0) and f"write `url = '{url}'`" in text and "core.db:" in said
    assert gatehouse("account", "list")[2].endswith("there is no database yet: run `gatehouse apply` first")  # says why
