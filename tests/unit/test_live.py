"""Running sessions follow the rules: on SQLite and on PostgreSQL, with a router that answers as it is told to."""

import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import peewee
import pytest

from appliance.accounts import leases, manage
from appliance.accounts.models import Account, AccountUsage, LiveChange, Plan, Session, core_db
from appliance.accounts.periods import local_day
from appliance.crypto import SecretBox
from appliance.errors import Unavailable, UserError
from appliance.nas.live import Watch
from appliance.nas.live_sender import Order, Sender
from appliance.nas.models import Nas

ZONE = ZoneInfo("Europe/Prague")
NOW = int(datetime(2026, 11, 23, 12, 0, tzinfo=ZONE).timestamp())  # a Monday
BOX = SecretBox(bytes(32))


class Router:
    """Takes what it is told, or answers with `answers` in their order."""

    def __init__(self) -> None:
        self.told: list[Order] = []
        self.answers: list[bool | Exception] = []

    def __call__(self, order: Order) -> bool:
        self.told.append(order)
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


class Field:
    """A plan, an account online at a router, and the job that follows."""

    def __init__(self) -> None:
        self.router = Router()
        self.sender = Sender(BOX, self.router)
        self.watch = Watch(core_db.obj, ZONE, 900)
        Nas.create(name="attic", address="192.0.2.7", secret=BOX.seal("s3cret"))
        Plan.create(name="home", rate_down_bps=20_000_000, rate_up_bps=5_000_000)
        Account.create(name="bob", plan=Plan.get(), password=b"", created_at=NOW)
        self.session("bob")

    def session(self, name: str, unique: str = "u1", nas: str = "attic") -> Session:
        return Session.create(
            unique_id=unique,
            account_ref=Account.get(name=name),
            account=name,
            nas=nas,
            acct_session_id="80000001",
            mac="aa:bb:cc:00:11:22",
            framed_ip="10.5.50.2",
            started_at=NOW - 600,
            updated_at=NOW - 100,
            granted_rate="5M/20M",
        )

    def step(self, now: int = NOW) -> list[Order]:
        """One round of the job; what the router was told in it."""
        before = len(self.router.told)
        self.watch.look(now)
        self.sender.confirm(now)
        self.sender.send(now)
        deadline = time.monotonic() + 60
        while not all(future.done() for _, future in self.sender._sent.values()) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.sender.collect(now)
        return self.router.told[before:]

    def change_plan(self, now: int = NOW, **columns: object) -> None:
        Plan.update(**columns, changed_at=now).execute()


@pytest.fixture
def field(core: str) -> Field:
    return Field()


def change() -> LiveChange:
    found: LiveChange = LiveChange.select().order_by(LiveChange.id.desc()).get()
    return found


def test_nothing_is_said_while_nothing_differs(field: Field) -> None:
    assert field.step() == []
    assert field.step(NOW + 1) == []
    assert not LiveChange.select().exists()


def test_another_speed_is_a_coa_that_the_next_packet_confirms(field: Field) -> None:
    field.step()
    field.change_plan(rate_down_bps=50_000_000)
    (order,) = field.step(NOW + 1)
    assert (order.kind, order.address, order.port, order.secret) == ("coa", "192.0.2.7", 1700, "s3cret")
    assert order.attributes == {
        "User-Name": "bob",
        "Acct-Session-Id": "80000001",
        "Framed-IP-Address": "10.5.50.2",
        "Mikrotik-Rate-Limit": "5M/50M",
    }
    assert change().state == "acknowledged"
    assert field.step(NOW + 2) == []
    Session.update(updated_at=NOW + 60).execute()
    assert field.step(NOW + 60) == []
    assert change().state == "done"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda: Account.update(enabled=False, changed_at=NOW), "blocked"),
        (lambda: Account.update(valid_until=NOW - 1, changed_at=NOW), "date"),
        (lambda: Account.update(address="198.51.100.9", changed_at=NOW), "address"),
        (lambda: Plan.update(windows="daily 08:00-11:00", changed_at=NOW), "window"),
        (lambda: Plan.update(session_timeout_s=300, changed_at=NOW), "session"),
        (lambda: Account.delete(), "account removed"),
    ],
)
def test_what_the_rules_forbid_is_let_go(field: Field, edit: Callable[[], object], reason: str) -> None:
    field.step()
    edit().execute()  # type: ignore[attr-defined]
    (order,) = field.step(NOW)
    assert order.kind == "disconnect"
    assert change().reason == reason
    Session.update(ended_at=NOW + 1).execute()
    field.step(NOW + 1)
    assert change().state == "done"


def test_a_session_of_the_routers_own_user_is_left_alone(field: Field) -> None:
    Session.update(account_ref=None, granted_rate=None).execute()
    assert field.step() == []


def test_an_acknowledged_disconnect_that_did_not_take_place_is_said_again(field: Field) -> None:
    Account.update(enabled=False).execute()
    assert len(field.step()) == 1
    Session.update(updated_at=NOW + 60).execute()
    field.step(NOW + 60)
    assert "still online" in change().note
    assert len(field.step(NOW + 62)) == 1


def test_a_silent_router_is_asked_again_ever_later(field: Field) -> None:
    Account.update(enabled=False).execute()
    field.router.answers = [Unavailable("no answer")] * 20
    asked = [at for at in range(NOW, NOW + 60) if field.step(at)]
    assert [b - a for a, b in pairwise(asked)] == [1, 2, 4, 8, 16]
    assert (change().state, change().note) == ("pending", "no answer")
    field.router.answers = []
    assert len(field.step(NOW + 200)) == 1


def test_a_refused_change_becomes_a_disconnect(field: Field) -> None:
    field.step()
    field.change_plan(rate_down_bps=50_000_000)
    field.router.answers = [UserError("refuses (Error-Cause 401)")]
    field.step(NOW + 1)
    assert [order.kind for order in field.step(NOW + 2)] == ["disconnect"]
    assert [c.state for c in LiveChange.select().order_by(LiveChange.id)] == ["refused", "acknowledged"]


@pytest.mark.parametrize(("ability", "told"), [("disconnect", ["disconnect"]), ("none", [])])
def test_what_a_router_can_do(field: Field, ability: str, told: list[str]) -> None:
    Nas.update(coa=ability).execute()
    field.step()
    field.change_plan(rate_down_bps=50_000_000)
    assert [order.kind for order in field.step(NOW + 1)] == told
    if not told:
        assert change().state == "refused"
        assert field.step(NOW + 2) == []


def test_a_session_the_router_does_not_know_is_closed(field: Field) -> None:
    Account.update(enabled=False).execute()
    field.router.answers = [False]
    field.step()
    session = Session.get()
    assert (session.ended_at, session.terminate_cause) == (NOW - 100, "Lost-Session")


class TestEdges:
    def test_a_windows_own_speed_comes_and_goes(self, field: Field) -> None:
        field.change_plan(windows="daily 00:00-24:00, daily 12:10-12:20 @50M/10M")
        assert field.step() == []
        (on,) = field.step(NOW + 600)
        assert on.attributes["Mikrotik-Rate-Limit"] == "10M/50M"
        Session.update(updated_at=NOW + 610).execute()
        (off,) = field.step(NOW + 1200)
        assert off.attributes["Mikrotik-Rate-Limit"] == "5M/20M"

    def test_a_router_that_knows_the_end_is_given_a_moment(self, field: Field) -> None:
        field.change_plan(windows="daily 08:00-12:10")
        Session.update(granted_until=NOW + 600).execute()
        assert field.step() == []
        assert field.step(NOW + 600) == []
        assert [order.kind for order in field.step(NOW + 602)] == ["disconnect"]

    def test_a_used_up_quota_slows_down_until_the_next_day(self, field: Field) -> None:
        field.change_plan(quota_bytes=10**9, quota_period="day", slow_down_bps=1_000_000, slow_up_bps=500_000)
        assert field.step() == []
        AccountUsage.create(account=Account.get(), day=local_day(NOW, ZONE), input_octets=10**9, output_octets=0)
        Session.update(updated_at=NOW + 5, check_at=0).execute()
        (slow,) = field.step(NOW + 5)
        assert slow.attributes["Mikrotik-Rate-Limit"] == "500k/1M"
        assert "Mikrotik-Total-Limit" not in slow.attributes
        Session.update(updated_at=NOW + 10).execute()
        assert field.step(NOW + 10) == []
        midnight = int(datetime(2026, 11, 24, tzinfo=ZONE).timestamp())
        Session.update(updated_at=midnight - 100).execute()
        (fast,) = field.step(midnight)
        assert fast.attributes["Mikrotik-Rate-Limit"] == "5M/20M"

    def test_a_used_up_quota_cuts(self, field: Field) -> None:
        field.change_plan(quota_bytes=10**9, quota_period="total")
        Session.update(granted_octets=10**9).execute()
        assert field.step() == []
        AccountUsage.create(account=Account.get(), day=local_day(NOW, ZONE), input_octets=10**9, output_octets=0)
        Session.update(updated_at=NOW + 5, input_octets=10**9, check_at=0).execute()
        assert [order.kind for order in field.step(NOW + 5)] == ["disconnect"]

    def test_more_data_is_told_in_the_routers_own_counting(self, field: Field) -> None:
        field.change_plan(quota_bytes=10**9)
        Session.update(granted_octets=10**9, input_octets=3 * 10**8).execute()
        AccountUsage.create(account=Account.get(), day=1, input_octets=3 * 10**8, output_octets=0)
        assert field.step() == []
        field.change_plan(NOW + 1, quota_bytes=6 * 10**9)
        (order,) = field.step(NOW + 1)
        total = int(order.attributes["Mikrotik-Total-Limit"])
        assert (total, order.attributes["Mikrotik-Total-Limit-Gigawords"]) == (6 * 10**9 - 2**32, "1")

    def test_the_own_gateway_counts_from_now(self, field: Field) -> None:
        Nas.update(name="gateway", kind="gateway", address="127.0.0.1").execute()
        field.change_plan(quota_bytes=10**9)
        Session.update(nas="gateway", granted_octets=10**9, input_octets=3 * 10**8).execute()
        AccountUsage.create(account=Account.get(), day=1, input_octets=3 * 10**8, output_octets=0)
        field.step()
        field.change_plan(NOW + 1, quota_bytes=2 * 10**9)
        (order,) = field.step(NOW + 1)
        assert order.attributes["Mikrotik-Total-Limit"] == str(17 * 10**8)

    def test_a_limit_that_is_taken_away(self, field: Field) -> None:
        Session.update(granted_until=NOW + 600, granted_octets=10**9).execute()
        (order,) = field.step()
        assert order.attributes["Session-Timeout"] == str(2**31 - 1)
        assert int(order.attributes["Mikrotik-Total-Limit-Gigawords"]) == 2**30


def test_a_change_that_is_not_needed_any_more_is_dropped(field: Field) -> None:
    field.step()
    field.router.answers = [Unavailable("no answer")] * 9
    field.change_plan(rate_down_bps=50_000_000)
    field.step(NOW + 1)
    field.change_plan(NOW + 2, rate_down_bps=20_000_000)
    assert field.step(NOW + 2) == []
    assert (change().state, change().note) == ("done", "not needed any more")


def test_a_clock_that_is_set_back_hides_nothing(field: Field) -> None:
    field.step(NOW + 10**6)
    Account.update(enabled=False, changed_at=NOW).execute()
    assert [order.kind for order in field.step(NOW)] == ["disconnect"]


def test_an_edit_by_command_is_noticed(field: Field) -> None:
    now = int(time.time())
    field.step(now)
    manage.change_plan("home", {"rate_down_bps": 30_000_000})
    assert [order.attributes["Mikrotik-Rate-Limit"] for order in field.step(now + 1)] == ["5M/30M"]


def test_a_lease_is_held_by_one_until_it_runs_out(core: str) -> None:
    assert leases.hold("x", "a", 100)
    assert not leases.hold("x", "b", 101)
    assert leases.hold("x", "a", 120)
    assert not leases.hold("x", "b", 149)
    assert leases.hold("x", "b", 150)
    assert not leases.hold("x", "a", 151)


def test_a_lease_of_a_clock_that_was_ahead_holds_nobody_up(core: str) -> None:
    assert leases.hold("x", "a", 100_000)
    assert leases.hold("x", "b", 200) and not leases.hold("x", "a", 201)
    assert leases.hold("y", "a", 100_000) and leases.hold("y", "a", 200), "its own neither"
    assert not leases.hold("y", "b", 201) and leases.hold("y", "b", 230)


def test_an_edit_that_is_written_late_is_noticed(field: Field) -> None:
    """A command takes its time before it waits for the database, or a voucher batch is revoked in pieces."""
    field.step(NOW)
    field.step(NOW + 30)
    Account.update(enabled=False, changed_at=NOW + 1).execute()
    assert [order.kind for order in field.step(NOW + 31)] == ["disconnect"]


def test_a_second_edit_within_the_same_second_is_noticed(field: Field) -> None:
    field.step()
    field.change_plan(rate_down_bps=30_000_000)
    field.step(NOW)
    field.change_plan(rate_down_bps=40_000_000)
    assert [order.attributes["Mikrotik-Rate-Limit"] for order in field.step(NOW + 1)] == ["5M/40M"]
    assert field.step(NOW + 2) == []


def test_a_router_that_is_away_holds_up_no_other(field: Field) -> None:
    Nas.create(name="cellar", address="192.0.2.8", secret=BOX.seal("s3cret"))
    for n in range(20):
        field.session("bob", f"more{n}")
    last = field.session("bob", "cellar", nas="cellar")
    field.step()
    field.router.answers = [Unavailable("no answer")] * 4
    Account.update(enabled=False, changed_at=NOW).execute()
    told = field.step(NOW + 1)
    assert len([order for order in told if order.address == "192.0.2.7"]) == 4
    waiting = LiveChange.select().where((LiveChange.session != last) & (LiveChange.next_try_at > NOW + 1)).count()
    assert waiting == 21
    assert "192.0.2.8" in {order.address for order in told + field.step(NOW + 1)}


@pytest.mark.parametrize("ability", ["none", "coa"])
def test_a_removed_account_is_told_once_in_a_while(field: Field, ability: str) -> None:
    field.step()
    Nas.update(coa=ability).execute()
    field.router.answers = [UserError("refuses")] * 9
    manage.remove_account("bob")
    for second in range(20):
        field.step(NOW + second)
    assert LiveChange.select().count() == 1


def test_an_access_point_that_gives_addresses_itself_is_left_alone(field: Field) -> None:
    Account.update(address="198.51.100.9", changed_at=NOW - 10_000).execute()
    assert field.step() == []


def test_a_busy_database_loses_nothing(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    field.step()
    field.change_plan(rate_down_bps=50_000_000)

    def fail(*_: object) -> None:
        raise peewee.OperationalError("database is locked")

    with monkeypatch.context() as patch, pytest.raises(peewee.OperationalError):
        patch.setattr(field.watch, "_compare", fail)
        field.watch.look(NOW + 1)
    assert len(field.step(NOW + 2)) == 1
