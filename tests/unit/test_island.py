"""A site that goes on from its own copy: what is in it, who asks it when, and what it tells afterwards."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import peewee
import pytest

from appliance import config as configuration
from appliance import db
from appliance.accounts import manage, unfinished
from appliance.accounts.models import Account, AccountUsage, Plan, Pool, PoolAddress, Session, VoucherBatch, core_db
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import Unavailable
from appliance.island import places, snapshot
from appliance.island.delivery import Delivery
from appliance.island.keeper import Keeper
from appliance.island.queue import Queue, waiting
from appliance.nas.models import Nas
from rlm_python.accounting import Packet
from rlm_python.stores import CopyStore, Stores, is_gone
from tests.lab import postgresql
from tests.lab.namespace import wait_until

NOW = int(time.time())
DAY_S = 86_400
PACKET = Packet("Start", "u1", "1", "bob", "attic", "m1", None, None, NOW, NOW, 0, 0, 0, True, None, None, None, None)
pytestmark = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)


@pytest.fixture
def line(postgresql_server: postgresql.Server) -> Iterator[postgresql.Line]:
    found = postgresql.Line(postgresql_server.port)
    yield found
    found.close()


@pytest.fixture
def north(toml: Path, line: postgresql.Line, empty_url: str) -> Iterator[Config]:
    """The site `north`, whose line to the database can be cut; `core_db` is straight at it."""
    loaded = configuration.load(toml)
    places.folder(loaded).mkdir()
    name = empty_url.split("/")[3].split("?")[0]
    url = f"postgresql://postgres@127.0.0.1:{line.port}/{name}"
    site = replace(loaded.site, key="north")
    with core_db.connection_context():
        for key in ("north", "south"):
            core_db.execute_sql("INSERT INTO site (key, created_at, changed_at) VALUES (%s, 1, 1)", (key,))
            Nas.create(name=f"router-{key}", address=f"192.0.2.{len(key + key)}{key == 'south':d}", secret=b"s")
            core_db.execute_sql("UPDATE nas SET site = %s WHERE name = %s", (key, f"router-{key}"))
        plan = Plan.create(name="home", quota_bytes=1000, quota_period="total", simultaneous=1)
        box = load_box(loaded.paths.state)
        Account.create(name="bob", plan=plan, password=box.seal("s3cret"), created_at=NOW - 9)
        yield replace(loaded, database=replace(loaded.database, url=url), site=site)


def copied(config: Config, now: int = NOW) -> snapshot.Copy:
    central = db.connect(config.database_url)
    with central.connection_context():
        return snapshot.take(central, places.copy_link(config), config.site.key, config.site.timezone, now)


def asked(copy: snapshot.Copy, sql: str) -> list[tuple[Any, ...]]:
    database = db.connect(f"sqlite:///{copy.path}")
    with database.connection_context():
        return list(database.execute_sql(sql).fetchall())


@pytest.fixture
def stores(north: Config) -> Iterator[Any]:
    """Makes the stores of a process; all are stopped at the end."""
    made: list[Stores] = []

    def make(accounting: bool) -> Stores:
        made.append(Stores(north, load_box(north.paths.state), accounting, lambda text: None))
        return made[-1]

    yield make
    for one in made:
        one.stop()


class TestTheCopy:
    def test_it_shows_one_moment_and_has_what_logins_need(self, north: Config) -> None:
        bob = Account.get()
        AccountUsage.create(account=bob, day=20240101, input_octets=3, output_octets=4)
        AccountUsage.create(account=bob, day=20240102, input_octets=30, output_octets=40)
        core_db.execute_sql("INSERT INTO admin_user (name, password, role, enabled, created_at)"
                            " VALUES ('jana', 'digest', 'owner', true, 1)")  # fmt: skip
        copy = copied(north)
        assert snapshot.current(places.copy_link(north)) == copy
        assert copy.age_s(NOW + 5) == 5
        assert asked(copy, "SELECT name, enabled FROM account") == [("bob", 1)]
        assert asked(copy, "SELECT day, input_octets, output_octets FROM account_usage") == [(0, 33, 44)]
        assert asked(copy, "SELECT count(*) FROM admin_user") == [(0,)]
        assert asked(copy, "SELECT seq FROM sqlite_sequence WHERE name = 'account'") == [(snapshot.FIRST_OWN_ID,)]
        assert {row[0] for row in asked(copy, "SELECT name FROM nas")} == {"router-north", "router-south"}

    def test_the_one_before_gives_way_and_a_failure_leaves_it(
        self, north: Config, line: postgresql.Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError("full")

        copied(north)
        second = copied(north, NOW + 1)
        assert [path.name for path in places.folder(north).glob("core-*.db")] == [second.path.name]
        monkeypatch.setattr(snapshot, "_share_addresses", fail)
        with pytest.raises(OSError, match="full"):
            copied(north, NOW + 2)
        assert snapshot.current(places.copy_link(north)) == second
        left = {path.name for path in places.folder(north).iterdir()}
        assert left == {"core.db", second.path.name, "copying.lock"}

    def test_addresses_of_others_are_theirs(self, north: Config) -> None:
        manage.add_pool("public", "198.51.100.0", "198.51.100.7")
        pool, bob = Pool.get(), Account.get()
        for n, site in ((1, "north"), (2, "south")):
            Session.create(
                unique_id=f"u{n}", account_ref=bob, account="bob", nas=f"router-{site}", acct_session_id="1",
                mac=f"m{n}", framed_ip=f"198.51.100.{n}", started_at=NOW - 99, updated_at=NOW,
            )  # fmt: skip
            held = {PoolAddress.account: bob, PoolAddress.mac: f"m{n}", PoolAddress.held_until: NOW - 1}
            PoolAddress.update(held).where(PoolAddress.ip == f"198.51.100.{n}").execute()
        free = {}
        for site in ("north", "south"):
            copy = copied(replace(north, site=replace(north.site, key=site)))
            rows = asked(copy, f"SELECT ip FROM pool_address WHERE held_until <= {NOW}")
            free[site] = {row[0] for row in rows}
        assert not free["north"] & free["south"]
        assert free["north"] | free["south"] == {row.ip for row in PoolAddress.select()}
        assert "198.51.100.1" in free["north"]
        assert "198.51.100.2" in free["south"]
        writes = CopyStore.__mro__[1](db.connect(f"sqlite:///{copy.path}"), north).login_writes
        assert writes.reserve_address(pool.id, bob.id, "m1", NOW, 900) == "198.51.100.1"  # whose it was, gets it


def test_two_who_copy_at_once_leave_a_copy(north: Config) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda n: copied(north, NOW + n), range(4)))
    found = snapshot.current(places.copy_link(north))
    assert found is not None
    found.path.unlink()
    assert snapshot.current(places.copy_link(north)) is None


def test_a_batch_that_is_being_made_is_no_known_one(north: Config) -> None:
    assert asked(copied(north), "SELECT batches FROM copied") == [(0,)]
    plan = Plan.get()
    done = VoucherBatch.create(name="done", plan=plan, created_at=NOW)
    assert asked(copied(north), "SELECT batches FROM copied") == [(done.id,)]
    begun = unfinished.begin("kiosk", plan)
    Account.create(name="half", plan=plan, batch=begun, password=b"", created_at=NOW)
    copy = copied(north)
    assert asked(copy, "SELECT batches FROM copied") == [(done.id,)]
    assert asked(copy, "SELECT name FROM account") == [("bob",)]


def test_the_jobs_tell_and_copy_by_themselves_once_it_answers(
    north: Config, line: postgresql.Line, stores: Any
) -> None:
    copied(north)
    line.refuse()
    stores(accounting=True).now().record(PACKET._replace(status="Interim-Update", output_octets=7))
    keeper = Keeper(north, load_box(north.paths.state))

    def told() -> bool:
        keeper.run(NOW + 5)
        return waiting(places.queue_file(north))[0] == 0

    try:
        keeper.run(NOW)
        wait_until(lambda: keeper._round is not None and not keeper._round.is_alive(), 20, "a round in vain")
        assert not told()
        line.mend()
        wait_until(told, 20, "the queue to be told")
        wait_until(lambda: taken_at(north) == NOW + 5, 20, "the copy")
    finally:
        keeper.close()
    assert AccountUsage.get().output_octets == 7


def taken_at(config: Config) -> int:
    copy = snapshot.current(places.copy_link(config))
    return copy.taken_at if copy else 0


def test_what_the_island_gave_isnt_free_when_the_database_is_back(
    north: Config, line: postgresql.Line, stores: Any
) -> None:
    manage.add_pool("public", "198.51.100.0", "198.51.100.7")
    pool, bob = Pool.get(), Account.get()
    eve = Account.create(name="eve", plan=bob.plan, password=b"", created_at=NOW - 9)
    copied(north)
    line.refuse()
    logins = stores(accounting=False)
    ip = logins.now().login_writes.reserve_address(pool.id, bob.id, "m1", NOW, 900)
    line.mend()
    wait_until(lambda: logins._found is not None, 20, "the central database")
    assert logins.now().is_own_copy  # which knows
    assert logins.now().login_writes.reserve_address(pool.id, eve.id, "m2", NOW, 900) != ip
    assert stores(accounting=False).now().is_own_copy
    with closing(Queue(places.queue_file(north))) as queue:
        while Delivery(core_db.obj, "north", north.site.timezone, 900).run(queue, NOW):
            pass
    assert not logins.now().is_own_copy
    assert PoolAddress.get(ip=ip).account == bob


class TestWhichIsAsked:
    def test_the_copy_while_the_central_one_is_away_and_then_that_again(
        self, north: Config, line: postgresql.Line, stores: Any
    ) -> None:
        copied(north)
        logins = stores(accounting=False)
        assert not logins.now().is_own_copy
        line.refuse()
        with pytest.raises(peewee.PeeweeException) as gone:
            logins.now().lookup.account("bob", "m1", NOW)
        assert logins.lost(gone.value)
        assert logins.now().is_own_copy
        assert logins.now().lookup.account("bob", "m1", NOW).name == "bob"
        line.mend()
        wait_until(lambda: not logins.now().is_own_copy, 20, "the central database to be asked again")
        assert logins.now().lookup.account("bob", "m1", NOW).name == "bob"

    def test_it_starts_while_the_central_one_is_away(self, north: Config, line: postgresql.Line, stores: Any) -> None:
        line.refuse()
        with pytest.raises(peewee.OperationalError):
            stores(accounting=False)  # nothing can be asked at all
        line.mend()
        copied(north)
        line.refuse()
        assert stores(accounting=False).now().is_own_copy

    def test_a_primary_that_only_reads_now_is_gone(self, north: Config, stores: Any) -> None:
        """As one of before a switch-over, whose connections go on."""
        accounting = stores(accounting=True)
        accounting.now().database.execute_sql("SET default_transaction_read_only = on")
        with pytest.raises((peewee.InternalError, peewee.InterfaceError)) as refused:
            accounting.now().record(PACKET)
        assert not accounting.lost(refused.value)  # there is no copy: another connection is tried
        accounting.now().record(PACKET)
        copied(north)
        accounting.now().database.execute_sql("SET default_transaction_read_only = on")
        with pytest.raises((peewee.InternalError, peewee.InterfaceError)) as refused:
            accounting.now().record(PACKET._replace(status="Interim-Update", output_octets=5))
        assert accounting.lost(refused.value)
        assert accounting.now().is_own_copy

    def test_too_old_a_copy_lets_nobody_in(self, north: Config, line: postgresql.Line, stores: Any) -> None:
        copied(north, NOW - north.island.max_age_s - 1)
        line.refuse()
        with pytest.raises(Unavailable, match="too old"):
            stores(accounting=False).now().lookup.account("bob", "m1", NOW)

    def test_what_one_packet_met_is_no_island(self, north: Config, stores: Any) -> None:
        copied(north)
        both = stores(accounting=True)
        assert not both.lost(peewee.IntegrityError("a packet's own fault"))
        with pytest.raises(peewee.OperationalError) as late, core_db.atomic():
            core_db.execute_sql("LOCK account")
            both.now().lookup.account("bob", "m1", NOW)
        assert not is_gone(late.value)

    def test_packets_are_queued_until_all_before_them_are_delivered(
        self, north: Config, line: postgresql.Line, stores: Any
    ) -> None:
        copied(north)
        line.refuse()
        accounting, logins = stores(accounting=True), stores(accounting=False)
        accounting.now().record(PACKET._replace(status="Interim-Update", output_octets=600))
        account = logins.now().lookup.account("bob", "m2", NOW)
        assert (account.used_bytes, account.other_sessions) == (600, 1)  # limits hold in the copy
        line.mend()
        wait_until(lambda: accounting._found is not None, 20, "the central database")
        accounting.now().record(PACKET._replace(status="Interim-Update", at=NOW + 1, output_octets=700))
        assert accounting.now().is_own_copy
        assert not AccountUsage.select().exists()
        queue = Queue(places.queue_file(north))
        while Delivery(core_db.obj, "north", north.site.timezone, 900).run(queue, NOW):
            pass
        assert AccountUsage.get().output_octets == 700
        assert not accounting.now().is_own_copy
        accounting.now().record(PACKET._replace(status="Stop", at=NOW + 2, session_s=2, output_octets=800))
        assert AccountUsage.get().output_octets == 800
        assert queue.is_empty()
        line.refuse()
        assert stores(accounting=True).now().is_own_copy

    def test_a_process_that_starts_anew_goes_on_with_the_queue(
        self, north: Config, line: postgresql.Line, stores: Any
    ) -> None:
        copied(north)
        line.refuse()
        stores(accounting=True).now().record(PACKET)
        line.mend()
        assert stores(accounting=True).now().is_own_copy

    def test_what_logins_write_down_is_told_by_name(self, north: Config, line: postgresql.Line, stores: Any) -> None:
        manage.add_pool("public", "198.51.100.0", "198.51.100.7")
        copied(north)
        line.refuse()
        writes, bob = stores(accounting=False).now().login_writes, Account.get()
        assert writes.take_slot(bob.id, "m1", 1, NOW, 900)
        assert not writes.take_slot(bob.id, "m2", 1, NOW, 900)
        ip = writes.reserve_address(Pool.get().id, bob.id, "m1", NOW, 900)
        writes.note_first_login(bob.id, NOW)
        writes.remember(bob.id, "m1", 2, NOW)
        entries = Queue(places.queue_file(north)).after(0, 9)
        assert [(entry.kind, json.loads(entry.body)["account"]) for entry in entries] == [
            ("address", "bob"), ("first", "bob"), ("device", "bob"),
        ]  # fmt: skip
        line.mend()
        Delivery(core_db.obj, "north", north.site.timezone, 900).run(Queue(places.queue_file(north)), NOW)
        assert Account.get().first_login_at == NOW
        assert PoolAddress.get(ip=ip).mac == "m1"
