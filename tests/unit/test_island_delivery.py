"""What an island has queued comes to the central database in order and once, whatever is cut, killed or repeated."""

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import peewee
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import db
from appliance.accounts.models import Account, AccountUsage, Plan, Pool, PoolAddress, Session, Traffic, core_db
from appliance.accounts.sessions import Sessions
from appliance.island.delivery import Delivery
from appliance.island.models import IslandConflict, IslandPosition
from appliance.island.queue import ADDRESS, DEVICE, FIRST, PACKET, Queue
from rlm_python.accounting import Packet, record

ZONE = ZoneInfo("Europe/Prague")
T0 = 1_790_000_000
HOLD_S = 900
PACKET_OF = Packet("Start", "u1", "1", "bob", "attic", "m1", None, None, T0, T0, 0, 0, 0, True, None, None, None, None)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    found = Queue(tmp_path / "queue.db", durable=False)
    yield found
    found.close()


@pytest.fixture
def bob(core: str) -> Account:
    plan = Plan.create(name="home", quota_bytes=1000, quota_period="total", simultaneous=1)
    account: Account = Account.create(name="bob", plan=plan, password=b"sealed", created_at=T0 - 9)
    return account


def delivery(site: str = "north", database: peewee.Database | None = None) -> Delivery:
    return Delivery(core_db.obj if database is None else database, site, ZONE, HOLD_S)


def bring(queue: Queue, site: str = "north") -> None:
    while delivery(site).run(queue, T0 + 9999):
        pass


def put(queue: Queue, packet: Packet) -> None:
    queue.put(PACKET, packet.at, packet._asdict())


def rows() -> tuple[list[Any], ...]:
    """All that accounting writes."""
    own = [field for name, field in Session._meta.fields.items() if name != "id"]
    return (
        sorted(Session.select(*own).tuples(), key=repr),
        sorted(AccountUsage.select().tuples()),
        sorted(Traffic.select().tuples()),
        sorted(Account.select(Account.name, Account.first_login_at).tuples()),
    )


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


class Unlucky(peewee.SqliteDatabase):
    """Stops being there, or its process does, when that many statements are over; commits are as the disk has them."""

    left = 10**9
    how: type[BaseException] = Killed

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        self.left -= 1
        if self.left == 0:
            raise self.how("cut")
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]


def history() -> st.SearchStrategy[list[Packet]]:
    """Packets of a few sessions in any order: repeated, late, with counters that began anew, and restarts."""
    one = st.builds(
        lambda n, status, s, octets, delay: PACKET_OF._replace(
            unique_id=f"u{n}",
            mac=f"m{n}",
            account=("bob", "ann", "nobody")[n],
            status=status,
            session_s=s,
            at=T0 + s,
            received_at=T0 + s + delay,
            input_octets=octets,
            output_octets=2 * octets,
        ),
        st.integers(0, 2),
        st.sampled_from(["Start", "Interim-Update", "Stop", "Accounting-On"]),
        st.integers(0, 90_000),
        st.integers(0, 2**40),
        st.integers(0, 60),
    )
    return st.lists(one, min_size=1, max_size=12).flatmap(
        lambda found: st.lists(st.sampled_from(found), max_size=4).map(lambda again: found + again)
    )


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core database with two accounts, to be copied."""
    path = tmp_path_factory.mktemp("new") / "core.db"
    database = db.connect(f"sqlite:///{path}", durable=False)
    with database.connection_context(), database.bind_ctx([Plan, Account], bind_refs=False, bind_backrefs=False):
        db.migrate(database, db.migrations("appliance.migrations"))
        plan = Plan.create(name="home")
        for name in ("bob", "ann"):
            Account.create(name=name, plan=plan, password=b"sealed", created_at=T0 - 9)
    return path


def opened(new: Path, path: Path) -> Unlucky:
    shutil.copyfile(new, path)
    database = Unlucky(str(path), pragmas={"journal_mode": "wal", "synchronous": "off", "foreign_keys": 1})
    database.connect()
    core_db.initialize(database)
    return database


@settings(max_examples=25, deadline=None)
@given(history(), st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=6))
def test_any_history_ends_as_if_nothing_had_happened(
    new: Path, packets: list[Packet], ends: list[tuple[int, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one = opened(new, Path(folder) / "one.db")
        sessions = Sessions(one)
        for packet in packets:
            record(packet, sessions, ZONE, HOLD_S)
        sessions.write_traffic()
        wanted = rows()
        one.close()
        other, queue = opened(new, Path(folder) / "other.db"), Queue(Path(folder) / "queue.db", durable=False)
        for packet in packets:
            put(queue, packet)
        for statements, killed in ends:
            other.left, other.how = statements, Killed if killed else peewee.OperationalError
            with contextlib.suppress(Killed, peewee.OperationalError):
                delivery(database=other).run(queue, T0)
            other.left = 10**9
            other.close()
            other.connect()
        bring(queue)
        assert rows() == wanted
        assert queue.is_empty()
        queue.close()
        other.close()


def test_a_queue_is_in_order_and_its_numbers_are_given_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db")
    for n in range(3):
        queue.put(FIRST, n, {"n": n})
    assert [entry.values()["n"] for entry in queue.after(1, 9)] == [1, 2]
    queue.drop(3)
    again = Queue(tmp_path / "q.db")
    again.put(FIRST, 9, {})
    assert ([entry.id for entry in again.after(0, 9)], again.name) == ([4], queue.name)
    assert again.waiting() == (1, 9)
    assert Queue(tmp_path / "new.db").name != queue.name


class TestDelivery:
    def test_the_position_is_where_the_effect_is(self, bob: Account, queue: Queue, tmp_path: Path) -> None:
        put(queue, PACKET_OF._replace(status="Interim-Update", output_octets=70))
        kept = queue.after(0, 9)
        bring(queue)
        for entry in kept:  # as if the process had been killed before they left the queue
            queue._execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", *entry)
        queue._execute("UPDATE queue SET told = 0")
        bring(queue)
        assert AccountUsage.get().output_octets == 70
        assert IslandPosition.get().delivered == kept[-1].id
        other = Queue(tmp_path / "other.db")  # a new file's numbers begin anew
        put(other, PACKET_OF._replace(status="Stop", session_s=5, at=T0 + 5, output_octets=90))
        bring(other)
        assert AccountUsage.get().output_octets == 90

    def test_an_older_file_that_was_put_back_loses_nothing(self, bob: Account, queue: Queue, tmp_path: Path) -> None:
        for n in range(2):
            put(queue, PACKET_OF._replace(unique_id=f"u{n}"))
        older = tmp_path / "older.db"
        queue._execute(f"VACUUM INTO '{older}'")
        for n in range(2, 6):
            put(queue, PACKET_OF._replace(unique_id=f"u{n}"))
        bring(queue)
        restored = Queue(older)
        for n in range(6, 10):  # by numbers that were given before
            put(restored, PACKET_OF._replace(unique_id=f"u{n}"))
        bring(restored)
        assert sorted(row.unique_id for row in Session.select()) == [f"u{n}" for n in range(10)]
        put(restored, PACKET_OF._replace(unique_id="v"))
        bring(restored)
        assert Session.select().count() == 11
        assert restored.is_empty()

    def test_what_cant_be_used_stops_nobody_and_is_kept(self, bob: Account, queue: Queue) -> None:
        queue.put(PACKET, T0, {"status": "Start"})
        queue.put("unheard of", T0, {})
        put(queue, PACKET_OF._replace(output_octets=70))
        bring(queue)
        assert AccountUsage.get().output_octets == 70
        found = list(IslandConflict.select())
        assert [row.kind for row in found] == ["entry", "entry"]
        assert '"status":"Start"' in found[0].detail


class TestConflicts:
    def test_a_voucher_first_used_on_two_islands(self, bob: Account, queue: Queue, tmp_path: Path) -> None:
        from appliance.accounts.models import VoucherBatch

        batch = VoucherBatch.create(name="b", plan=bob.plan, created_at=T0)
        Account.update(batch=batch).execute()
        south = Queue(tmp_path / "south.db")
        south.put(FIRST, T0 + 60, {"account": "bob", "at": T0 + 60})
        queue.put(FIRST, T0, {"account": "bob", "at": T0})
        bring(south, "south")
        assert not IslandConflict.select().exists()
        bring(queue, "north")
        (found,) = list(IslandConflict.select())
        assert (found.kind, found.site, found.account, found.account_ref) == ("voucher", "north", "bob", bob)
        assert Account.get().first_login_at == T0  # the earlier of the two, whichever came first

    def test_a_person_on_two_islands_is_none(self, bob: Account, queue: Queue) -> None:
        for site, at in (("north", T0 + 60), ("south", T0)):
            queue.put(FIRST, at, {"account": "bob", "at": at})
            bring(queue, site)
        assert not IslandConflict.select().exists()
        assert Account.get().first_login_at == T0

    def test_over_the_quota_and_on_too_many_devices(self, bob: Account, queue: Queue) -> None:
        record(PACKET_OF._replace(unique_id="u9", mac="m9", output_octets=900), Sessions(core_db.obj), ZONE, HOLD_S)
        put(queue, PACKET_OF._replace(at=T0 + 1))
        put(queue, PACKET_OF._replace(status="Stop", at=T0 + 2, session_s=1, output_octets=140))
        bring(queue)
        (found,) = list(IslandConflict.select())  # 1,040 of 1,000 is what a report's delay does
        assert (found.kind, found.detail) == ("simultaneous", "2 devices, 1 are allowed")
        put(queue, PACKET_OF._replace(status="Stop", at=T0 + 3, session_s=2, output_octets=240))
        bring(queue)
        assert {row.kind for row in IslandConflict.select()} == {"simultaneous", "quota"}

    def test_an_address_that_somebody_else_has(self, bob: Account, queue: Queue) -> None:
        pool = Pool.create(name="public")
        ann = Account.create(name="ann", plan=bob.plan, password=b"", created_at=T0)
        PoolAddress.create(ip="198.51.100.1", pool=pool, account=ann, mac="m9", held_until=T0 + 900)
        PoolAddress.create(ip="198.51.100.2", pool=pool, account=ann, mac="m8", held_until=T0 - 900)
        for last in (1, 2):
            note = {"account": "bob", "mac": "m1", "ip": f"198.51.100.{last}", "until": T0 + 950, "at": T0}
            queue.put(ADDRESS, T0, note)
        bring(queue)
        (found,) = list(IslandConflict.select())
        assert (found.kind, "198.51.100.1: m1 on north" in found.detail) == ("address", True)
        held = {row.ip: (row.account, row.held_until) for row in PoolAddress.select()}
        assert held == {"198.51.100.1": (ann, T0 + 900), "198.51.100.2": (bob, T0 + 950)}

    def test_devices_come_too_and_an_account_that_is_gone(self, bob: Account, queue: Queue) -> None:
        from appliance.accounts.models import Device

        queue.put(DEVICE, T0, {"account": "bob", "mac": "m1", "limit": 2, "at": T0})
        queue.put(DEVICE, T0, {"account": "gone", "mac": "m2", "limit": 2, "at": T0})
        bring(queue)
        assert [(row.mac, row.account) for row in Device.select()] == [("m1", bob)]
        assert IslandConflict.get().kind == "account"
        queue.put(DEVICE, T0, {"account": "", "mac": "m1", "limit": 0, "at": T0})
        bring(queue)
        assert not Device.select().exists()


def test_cost_is_bounded_by_time_not_by_the_queue(bob: Account, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long queue is brought in short transactions, each at least one entry."""
    for n in range(5):
        put(queue, PACKET_OF._replace(unique_id=f"u{n}"))
    monkeypatch.setattr("appliance.island.delivery.LONGEST_S", 0)
    assert delivery().run(queue, int(time.time())) == 1
    assert IslandPosition.get().delivered == 1


@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
def test_sites_deliver_side_by_side_but_about_the_same_account(
    bob: Account, core: str, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL: one of them stops in the middle, and who has nothing to do with it goes on."""
    south = Queue(tmp_path / "south.db")
    put(queue, PACKET_OF)
    put(south, PACKET_OF._replace(unique_id="u2", account="ann", mac="m2"))
    stopped, going_on = threading.Event(), threading.Event()
    bring_ = Delivery._bring

    def stops(self: Delivery, *given: Any) -> int:
        if threading.current_thread() is not threading.main_thread():
            stopped.set()
            going_on.wait(30)
        return bring_(self, *given)

    def north() -> None:
        with core_db.obj.connection_context():
            delivery("north").run(queue, T0)

    monkeypatch.setattr(Delivery, "_bring", stops)
    thread = threading.Thread(target=north)
    thread.start()
    try:
        assert stopped.wait(30)
        assert delivery("south").run(south, T0) == 1
        put(south, PACKET_OF._replace(unique_id="u3", mac="m3"))
        hurried = db.connect(core, busy_timeout_ms=300)
        with pytest.raises(peewee.OperationalError, match="lock"):
            delivery("south", hurried).run(south, T0)
        hurried.close()
    finally:
        going_on.set()
        thread.join()
    assert delivery("south").run(south, T0) == 1
    assert {row.unique_id for row in Session.select()} == {"u1", "u2", "u3"}
    assert IslandConflict.get().kind == "simultaneous"  # as each saw what the other one had brought
