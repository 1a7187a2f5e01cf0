"""What the RADIUS callbacks read and write, on SQLite and on PostgreSQL."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from zoneinfo import ZoneInfo

import peewee
import pytest

from appliance import db
from appliance.accounts import manage
from appliance.accounts.login_writes import LoginWrites
from appliance.accounts.lookup import Lookup
from appliance.accounts.models import (
    Account,
    AccountUsage,
    Device,
    Plan,
    Pool,
    PoolAddress,
    Session,
    VoucherBatch,
    core_db,
)
from appliance.accounts.periods import local_day, period_start
from appliance.accounts.sessions import Sessions
from rlm_python.accounting import Packet, record

ZONE = ZoneInfo("Europe/Prague")
NOW = int(time.time())
MAC = "aa:bb:cc:00:11:22"
PACKET = Packet("Start", "u1", "1", "bob", "attic", MAC, None, None, NOW, NOW, 0, 0, 0, True, None, None, None, None)


@pytest.fixture
def bob(core: str) -> Account:
    plan = Plan.create(name="home", quota_bytes=1000, quota_period="day", simultaneous=1)
    return Account.create(name="bob", plan=plan, password=b"sealed", created_at=NOW)


@pytest.fixture
def lookup(core: str) -> Lookup:
    return Lookup(core_db.obj, ZONE, ghost_after_s=900)


@pytest.fixture
def sessions(core: str) -> Iterator[Sessions]:
    database = db.connect(core)
    yield Sessions(database)
    database.close()


def test_account_with_usage_and_sessions_elsewhere(bob: Account, lookup: Lookup, sessions: Sessions) -> None:
    record(PACKET, sessions, ZONE, 900)
    record(PACKET._replace(status="Interim-Update", at=NOW + 1, output_octets=300), sessions, ZONE, 900)
    found = lookup.account("bob", "other", NOW)
    assert found is not None
    assert (found.id, bytes(found.password), bool(found.enabled)) == (bob.id, b"sealed", True)
    assert (found.used_bytes, found.other_sessions) == (300, 1)
    same = lookup.account("bob", MAC, NOW)
    assert same is not None
    assert same.other_sessions == 0
    assert lookup.account("BOB", MAC, NOW) is None


def test_silent_sessions_are_not_counted(bob: Account, lookup: Lookup, sessions: Sessions) -> None:
    record(PACKET._replace(at=NOW - 901), sessions, ZONE, 900)
    found = lookup.account("bob", "other", NOW)
    assert found is not None
    assert found.other_sessions == 0


def test_first_login_is_noted_once(bob: Account, core: str) -> None:
    writes = LoginWrites(core_db.obj)
    writes.note_first_login(bob.id, NOW - 1)  # a clock from before the account was made
    assert Account.get().first_login_at is None
    writes.note_first_login(bob.id, NOW)
    writes.note_first_login(bob.id, NOW + 9)
    assert Account.get().first_login_at == NOW


class TestAccounting:
    def test_deltas_count_once_and_an_end_stays_an_end(self, bob: Account, sessions: Sessions) -> None:
        stop = PACKET._replace(status="Stop", at=NOW + 9, input_octets=70, output_octets=900, cause="User-Request")
        late = PACKET._replace(status="Interim-Update", at=NOW + 5, input_octets=30, output_octets=400)
        for packet in (late, PACKET, stop, late, stop, PACKET):
            record(packet, sessions, ZONE, 900)
        (session,), (usage,) = list(Session.select()), list(AccountUsage.select())
        assert (session.input_octets, session.output_octets, session.ended_at) == (70, 900, NOW + 9)
        assert (usage.input_octets, usage.output_octets) == (70, 900)
        assert Account.get().first_login_at == NOW + 5

    def test_two_sessions_of_one_account_add_up(self, bob: Account, sessions: Sessions) -> None:
        for unique_id in ("u1", "u2"):
            record(PACKET._replace(unique_id=unique_id, status="Stop", output_octets=5), sessions, ZONE, 900)
        assert AccountUsage.get().output_octets == 10

    def test_usage_falls_on_the_sites_day(self, bob: Account, sessions: Sessions) -> None:
        before, after = (int(datetime(2026, 11, d, h, 30, tzinfo=ZONE).timestamp()) for d, h in ((23, 23), (24, 0)))
        for at, octets in ((before, 10), (after, 15)):
            packet = PACKET._replace(status="Interim-Update", at=at, output_octets=octets)
            record(packet, sessions, ZONE, 900)
        assert {u.day: u.output_octets for u in AccountUsage.select()} == {20261123: 10, 20261124: 5}

    def test_a_failure_in_the_middle_leaves_nothing(
        self, bob: Account, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise peewee.OperationalError("disk full")

        monkeypatch.setattr(sessions, "add_usage", fail)
        with pytest.raises(peewee.OperationalError):
            record(PACKET._replace(status="Stop", output_octets=5), sessions, ZONE, 900)
        assert Session.select().count() == 0

    def test_unknown_kinds_are_acknowledged_and_change_nothing(self, bob: Account, sessions: Sessions) -> None:
        record(PACKET._replace(status="Tunnel-Start"), sessions, ZONE, 900)
        assert Session.select().count() == 0


class TestPools:
    @pytest.fixture
    def pool(self, bob: Account) -> Pool:
        manage.add_pool("public", "198.51.100.16", "198.51.100.19")
        pool: Pool = Pool.get()
        return pool

    def test_sticky_then_free_then_none(self, pool: Pool, bob: Account) -> None:
        writes = LoginWrites(core_db.obj)
        given = [writes.reserve_address(pool.id, bob.id, f"m{i}", NOW, 900) for i in range(5)]
        assert len(set(given[:4])) == 4
        assert given[4] is None
        assert writes.reserve_address(pool.id, bob.id, "m2", NOW, 900) == given[2]

    def test_held_until_accounting_gives_it_back(self, pool: Pool, bob: Account, sessions: Sessions) -> None:
        ip = LoginWrites(core_db.obj).reserve_address(pool.id, bob.id, MAC, NOW, 900)
        record(PACKET._replace(framed_ip=ip), sessions, ZONE, 5000)
        assert PoolAddress.get(ip=ip).held_until == NOW + 5000
        record(PACKET._replace(framed_ip=ip, status="Stop", at=NOW + 7), sessions, ZONE, 5000)
        assert PoolAddress.get(ip=ip).held_until == NOW + 7

    def test_no_address_twice_though_all_ask_at_once(self, pool: Pool, bob: Account, core: str) -> None:
        def ask(i: int) -> str | None:
            database = db.connect(core, durable=False)
            with database.connection_context():
                return LoginWrites(database).reserve_address(pool.id, bob.id, f"m{i}", NOW, 900)

        with ThreadPoolExecutor(8) as threads:
            given = [ip for ip in threads.map(ask, range(16)) if ip]
        assert sorted(given) == [f"198.51.100.{n}" for n in range(16, 20)]


@pytest.mark.parametrize(
    ("period", "first"), [("day", 20261101), ("week", 20261026), ("month", 20261101), ("total", 0)]
)
def test_period_start_is_the_sites_calendar(period: str, first: int) -> None:
    just_after_midnight = int(datetime(2026, 11, 1, 0, 5, tzinfo=ZONE).timestamp())  # a Sunday; 31 October in UTC
    assert period_start(period, just_after_midnight, ZONE) == first
    assert local_day(just_after_midnight, ZONE) == 20261101


@pytest.mark.parametrize(
    ("reported", "mac", "owner"),
    [
        ("abcdefgh23", MAC, "abcdefgh23"),
        ("ABCD-EFGH 23", MAC, "abcdefgh23"),
        ("AA-BB-CC-00-11-22", MAC, "bob"),
        ("B-O-B", MAC, None),  # no voucher: its name is taken as it is
        ("stranger", MAC, None),
        ("AA-BB-CC-00-11-33", MAC, None),
    ],
)
def test_a_session_belongs_to_whoever_was_let_in(
    bob: Account, sessions: Sessions, reported: str, mac: str, owner: str | None
) -> None:
    """Routers report what was typed, or the device's MAC address."""
    batch = VoucherBatch.create(name="may", plan=bob.plan, created_at=NOW)
    Account.create(name="abcdefgh23", plan=bob.plan, password=b"", created_at=NOW, batch=batch)
    Device.create(mac=MAC, account=bob, added_at=NOW, used_at=NOW)
    record(PACKET._replace(account=reported, mac=mac), sessions, ZONE, 900)
    session = Session.get()
    assert (session.account_ref.name if session.account_ref else None) == owner


def test_sessions_of_devices_without_a_mac_count_one_by_one(bob: Account, lookup: Lookup, sessions: Sessions) -> None:
    for unique_id in ("u1", "u2"):
        record(PACKET._replace(unique_id=unique_id, mac=""), sessions, ZONE, 900)
    found = lookup.account("bob", "", NOW)
    assert found is not None
    assert found.other_sessions == 2
    assert not LoginWrites(core_db.obj).take_slot(bob.id, "", 2, NOW, 900)
    assert LoginWrites(core_db.obj).take_slot(bob.id, "", 3, NOW, 900)
