"""The ledger on PostgreSQL: several nodes, a primary that dies, and a dump that comes back."""

import os
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from appliance import mail
from appliance.accounts import manage, sales
from appliance.accounts.models import Account, Charge, JobLease, Plan, core_db
from appliance.config import Config
from appliance.crypto import key_file, load_box
from appliance.dealers import (
    agreements,
    attribution,
    credit,
    dealers,
    desk,
    keeper,
    ledger,
    ledger_db,
    schemes,
    selling,
)
from appliance.dealers.models import Dealer, Posting
from appliance.dealers.models import ledger_db as database
from appliance.dealers.selling_models import SOLD, Sale
from appliance.errors import UserError
from tests.lab import postgresql
from tests.lab.namespace import wait_until
from tests.unit import test_dealer_selling as unit
from tests.unit.conftest import postgresql_server
from tests.unit.dealer_box import URL, configuration, opened, server
from tests.unit.dealer_money import memory

pytestmark = pytest.mark.system

fixtures = (postgresql_server,)
SELLERS, SALES, DEADLINE_S = 3, 25, 90


@pytest.fixture
def pair() -> Iterator[postgresql.Pair]:
    with postgresql.pair() as started:
        yield started


def node(url: str, folder: Path) -> Config:
    (folder / URL).write_text(url)
    conf = configuration(folder)
    key_file(conf.paths.state).parent.mkdir(exist_ok=True)
    key_file(conf.paths.state).write_bytes(bytes(32))
    return conf


def begun(conf: Config) -> None:
    with opened(conf):
        manage.add(Plan, "plan", name="day", price_minor=unit.PRICE, currency="CZK")
        credit.top_up(dealers.add("shop", currency="CZK", login="shop"), 20_000 * unit.PRICE, "jana", "r1", 1)


def a_seller(folder: Path, number: int) -> int:
    """A process that tells each sale that it was told of."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        conf = configuration(folder)
        told = os.open(folder / f"sold-{number}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        with opened(conf):
            for n in range(SALES):
                os.write(told, f"{until_it_is_sold(conf, number * 1000 + n)}\n".encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def until_it_is_sold(conf: Config, number: int) -> int:
    """The same form again, as somebody does who has waited in vain."""
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            sale = selling.sell(conf, unit.shop(), unit.wish(number, 1), int(time.time()))
            if sale.state == SOLD:
                return int(sale.id)
            number += 100  # its credit was given back: another form
        except (UserError, peewee.PeeweeException):
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


def told(folder: Path) -> list[int]:
    return [int(line) for file in folder.glob("sold-*") for line in file.read_text().split()]


def test_a_primary_that_dies_while_dealers_sell_loses_nothing_and_doubles_nothing(pair: postgresql.Pair) -> None:
    with memory() as folder:
        conf = node(pair.url(), folder)
        begun(conf)
        sellers = [a_seller(folder, number) for number in range(SELLERS)]
        wait_until(lambda: len(told(folder)) > SELLERS * 3, 60, "some sales")
        pair.fail_over()
        assert [os.waitpid(pid, 0)[1] for pid in sellers] == [0] * SELLERS
        with opened(conf):
            while selling.recover(conf, unit.later()):
                pass
            known = told(folder)
            assert len(set(known)) == len(known) == SELLERS * SALES
            assert Sale.select().where(Sale.id.in_(known), Sale.state == SOLD).count() == len(known)
            unit.sound(20_000 * unit.PRICE)


def test_the_keeper_goes_on_after_a_failover(pair: postgresql.Pair) -> None:
    with memory() as folder:
        conf = node(pair.url(), folder)
        begun(conf)
        with opened(conf):
            agreements.add_scheme("ten", schemes.parse('{"percent": "10"}'), 0)
            agreements.assign(unit.shop(), agreements.get("ten"), 0)
            account = Account.create(name="bob", password=b"", plan=Plan.get(), created_at=0)
            attribution.attribute(unit.shop(), "account", account.id, "bob", 0)
        box = load_box(conf.paths.state)
        todo = keeper.jobs(conf, box, mail.Sender(conf, box))[:2]
        core_db.connect()
        with desk.opened(conf):
            keeper.tick(todo, 1_790_000_000)
            pair.fail_over()
            lead = keeper.Lead(conf)
            wait_until(lambda: paid(account) and lead.time(), 30, "the database to be there again")

            def is_taken_over() -> bool:
                keeper.tick(todo, 1_790_000_000)
                return bool(Posting.select().where(Posting.kind == "commission").exists())

            wait_until(is_taken_over, 30, "the keeper")
            assert [job.failed for job in todo] == ["", ""]
            assert list(ledger.verify()) == []
        core_db.close()


def paid(account: Any) -> bool:
    try:
        charge = sales.charge("renewal", 1000, "CZK", 1_790_000_000, "one", account=account, plan="day")
        sales.pay(charge or Charge.get(source="one"), 1000, 1_790_000_000)
    except peewee.PeeweeException:
        return False
    return True


def test_of_two_keepers_one_works_and_the_other_goes_on_once_it_is_gone(postgresql_server: postgresql.Server) -> None:
    with memory() as folder:
        conf = node(empty(postgresql_server), folder)
        with opened(conf):
            one, other = keeper.Lead(conf), keeper.Lead(conf)
            vars(other)["_holder"] = "another"
            assert one.time() and not other.time() and one.time()
            JobLease.update(held_until=0).execute()
            assert other.time() and not one.time()


def test_nodes_that_begin_at_once_make_one_ledger(postgresql_server: postgresql.Server) -> None:
    with memory() as folder:
        conf = node(empty(postgresql_server), folder)
        nodes = [a_node(conf) for _ in range(4)]
        assert [os.waitpid(pid, 0)[1] for pid in nodes] == [0] * 4
        with desk.opened(conf):
            assert not Dealer.select().exists()


def a_node(conf: Config) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        ledger_db.bind(conf)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def empty(server: postgresql.Server) -> str:
    name = f"test_{os.urandom(6).hex()}"
    server.ask(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={server.folder}&port={server.port}"


def test_a_dump_that_is_put_back_is_the_same_ledger_and_goes_on(postgresql_server: postgresql.Server) -> None:
    url, other = empty(postgresql_server), empty(postgresql_server)
    with memory() as folder, opened(node(url, folder)):
        shop = dealers.add("shop", currency="CZK")
        for n in range(3):
            credit.top_up(shop, 100 + n, "jana", f"r{n}", 1)
        head = ledger.head(shop)
    dump = subprocess.run(["pg_dump", "--format=custom", url], check=True, capture_output=True).stdout
    for _ in range(2):  # into an empty one, and in place of what is there
        back = ["pg_restore", "--clean", "--if-exists", "--single-transaction", f"--dbname={other}"]
        subprocess.run(back, check=True, input=dump)
    with memory() as folder, opened(node(other, folder)):
        assert ledger.head(dealers.get("shop")) == head
        credit.top_up(dealers.get("shop"), 100, "jana", "r9", 1)
        assert list(ledger.verify()) == []
        with pytest.raises(peewee.IntegrityError, match="never changed"):
            Posting.update(note="so").execute()
    server(other, "SET session_replication_role = replica", "UPDATE dealers.posting SET note = 'so' WHERE n = 2")
    with memory() as folder, opened(node(other, folder)):
        assert any("posting 2: it isn't what was written" in line for line in ledger.verify())
    database.close()
