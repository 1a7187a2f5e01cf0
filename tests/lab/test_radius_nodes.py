"""Two appliances, each with both of its FreeRADIUS processes, on one PostgreSQL: limits hold across them."""

import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from threading import Barrier, Thread

import pytest

from appliance.accounts import manage, sales
from appliance.accounts.models import (
    Account,
    AccountUsage,
    Payment,
    Plan,
    Pool,
    Session,
    VoucherBatch,
    core_db,
)
from tests.bench.acct_load import INTERIM, START, STOP, Told, accounting_request
from tests.bench.radius_load import ACCESS_ACCEPT, SOURCE, access_request
from tests.lab import postgresql
from tests.lab.radius import RadiusServer, radius_server

RACES = 60
ADDRESSES = 200
FRAMED_IP_ADDRESS = 8

Nodes = tuple[RadiusServer, RadiusServer]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ExitStack() as stack:
        # Commits take as long as on a slow disk, so that what isn't right meets somebody.
        server = stack.enter_context(postgresql.server(fsync="on", commit_delay="3000", commit_siblings="0"))
        server.ask("CREATE DATABASE gatehouse")
        toml = f'[database]\nurl = "postgresql://postgres@127.0.0.1:{server.port}/gatehouse"\n'
        first = stack.enter_context(radius_server(toml))
        second = stack.enter_context(radius_server(toml, node_of=first))
        for node in (first, second):
            node.start()
        yield first, second


class Asker:
    """One router's line to one node; asks as often as need be until it is answered."""

    def __init__(self, node: RadiusServer) -> None:
        self.secret = node.secret.encode()
        self._ports = {kind: getattr(node.config.radius, f"{kind}_port") for kind in ("authentication", "accounting")}

    def ask(self, kind: str, packet: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.bind((SOURCE, 0))
            line.connect(("127.0.0.1", self._ports[kind]))
            line.settimeout(2)
            for _ in range(10):
                line.send(packet)
                try:
                    return line.recv(4096)
                except TimeoutError:
                    continue
        raise TimeoutError(f"{kind}: no answer")

    def log_in(self, device: int, name: str, password: str = "secret") -> bytes:
        return self.ask("authentication", access_request(device, name, password, self.secret))

    def tell(self, told: Told) -> None:
        self.ask("accounting", accounting_request(random.randrange(256), told, self.secret))


def at_once(*work: Callable[[], None]) -> None:
    """Each in a thread of its own, begun together; raises what one of them raised."""
    together = Barrier(len(work), timeout=60)
    failed: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        together.wait()
        try:
            one()
        except BaseException as error:
            failed.append(error)

    threads = [Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def accounts(node: RadiusServer, names: Sequence[str], plan: str, **values: object) -> None:
    with node.core():
        sealed = node.box.seal("secret")
        rows = [
            {"name": name, "plan": Plan.get(name=plan), "password": sealed, "created_at": 0, **values} for name in names
        ]
        Account.insert_many(rows).execute()


def race(nodes: Nodes, names: Sequence[str], devices: int, password: str = "secret") -> Counter[int]:
    """For each name, as many devices ask at the same time, each the other node; how often how many got in."""
    outcomes: Counter[int] = Counter()
    for n, name in enumerate(names):
        got_in: list[bool] = []
        at_once(*(partial(ask, nodes[d % 2], n * devices + d, name, password, got_in) for d in range(devices)))
        outcomes[sum(got_in)] += 1
    return outcomes


def ask(node: RadiusServer, device: int, name: str, password: str, got_in: list[bool]) -> None:
    got_in.append(Asker(node).log_in(device, name, password)[0] == ACCESS_ACCEPT)


@pytest.mark.parametrize(("limit", "devices"), [(1, 2), (2, 4)])
def test_of_devices_at_both_nodes_as_many_get_in_as_may(nodes: Nodes, limit: int, devices: int) -> None:
    nodes[0].plan(f"limit{limit}", simultaneous=limit)
    names = [f"twin{limit}-{n}" for n in range(RACES)]
    accounts(nodes[0], names, f"limit{limit}")
    assert race(nodes, names, devices) == {limit: RACES}


def test_a_session_at_one_node_counts_at_the_other_and_a_stop_gives_the_place_back(nodes: Nodes) -> None:
    nodes[0].plan("one", simultaneous=1)
    accounts(nodes[0], ["roamer"], "one")
    first, second = (Asker(node) for node in nodes)
    now = int(time.time())
    assert first.log_in(1, "roamer")[0] == ACCESS_ACCEPT
    first.tell(Told(START, 1, "roamer", now, 0, 0, 0))
    assert second.log_in(2, "roamer")[0] != ACCESS_ACCEPT
    second.tell(Told(STOP, 1, "roamer", now + 1, 1, 0, 0))  # its router tells whichever node answers
    assert second.log_in(2, "roamer")[0] == ACCESS_ACCEPT


def framed_ip(answer: bytes) -> str | None:
    place = 20
    while place < len(answer):
        if answer[place] == FRAMED_IP_ADDRESS:
            return socket.inet_ntoa(answer[place + 2 : place + 6])
        place += answer[place + 1]
    return None


def test_a_pool_gives_each_address_once_and_refuses_nobody_before_all_are_given(nodes: Nodes) -> None:
    with nodes[0].core():
        manage.add_pool("public", "198.51.100.1", f"198.51.100.{ADDRESSES}")
        Plan.create(name="pooled", pool=Pool.get())
    names = [f"pooled{n}" for n in range(ADDRESSES + 20)]
    accounts(nodes[0], names, "pooled")
    given: list[str | None] = []
    waiting: list[tuple[int, str]] = []

    def come(node: RadiusServer) -> None:
        asker = Asker(node)
        while waiting:
            n, name = waiting.pop()
            answer = asker.log_in(50_000 + n, name)
            given.append(framed_ip(answer) if answer[0] == ACCESS_ACCEPT else None)

    for part in (names[:ADDRESSES], names[ADDRESSES:]):
        waiting.extend((names.index(name), name) for name in part)
        at_once(*(partial(come, node) for node in nodes * 4))
    assert None not in given[:ADDRESSES]
    assert len(set(given[:ADDRESSES])) == ADDRESSES
    assert set(given[ADDRESSES:]) == {None}


def test_a_vouchers_first_login_is_noted_and_sold_once(nodes: Nodes) -> None:
    nodes[0].plan("voucher", validity_s=3600, simultaneous=1)
    codes = [f"vvvvvv{chr(97 + n // 20)}{chr(97 + n % 20)}22" for n in range(40)]
    with nodes[0].core():
        batch = VoucherBatch.create(
            name="may", plan=Plan.get(name="voucher"), created_at=0, price_minor=500, currency="EUR"
        )
    accounts(nodes[0], codes, "voucher", batch=batch)
    assert race(nodes, codes, 2, "") == {1: len(codes)}
    with nodes[0].core():
        at_once(sell, sell)
        assert Account.select().where(Account.batch == batch, Account.first_login_at.is_null()).count() == 0
        sold = Counter(row.charge.account for row in Payment.select())
    assert sold == dict.fromkeys(codes, 1)


def sell() -> None:
    """As the jobs of two appliances would that both believe to have the lease."""
    with core_db.connection_context():
        sales.record_first_logins(int(time.time()))


def test_a_session_that_both_nodes_first_hear_of_at_once_is_counted_once(nodes: Nodes) -> None:
    nodes[0].plan("doubled")
    accounts(nodes[0], ["doubled"], "doubled")
    askers, now, sessions = [Asker(node) for node in nodes], int(time.time()), 60
    for session in range(sessions):
        told = Told(INTERIM, 80_000 + session, "doubled", now, 60, 0, 1000)
        at_once(*(partial(asker.tell, told) for asker in askers))
    with nodes[0].core():
        used = AccountUsage.select().join(Account).where(Account.name == "doubled")
        assert sum(row.output_octets for row in used) == sessions * 1000


def test_octets_told_at_both_nodes_add_up_and_the_quota_holds_at_both(nodes: Nodes) -> None:
    sessions, interims, octets = 20, 5, 1000
    nodes[0].plan("metered", quota_bytes=sessions * interims * octets)
    accounts(nodes[0], ["family"], "metered")
    now = int(time.time())
    told = [
        Told(INTERIM if k < interims else STOP, 90_000 + s, "family", now - interims + k, k, 0, k * octets)
        for s in range(sessions)
        for k in range(1, interims + 1)
    ]
    askers = [Asker(node) for node in nodes]
    assert askers[1].log_in(70_000, "family")[0] == ACCESS_ACCEPT

    def router(number: int) -> None:
        mine = told.copy()  # each packet reaches both nodes, as after an answer that was lost, and in any order
        random.Random(number).shuffle(mine)
        for packet in mine:
            askers[number % 2].tell(packet)

    at_once(*(partial(router, n) for n in range(4)))
    with nodes[0].core():
        account = Account.get(name="family")
        used = AccountUsage.select().where(AccountUsage.account == account)
        assert sum(row.output_octets for row in used) == sessions * interims * octets
        assert Session.select().where(Session.account_ref == account).count() == sessions
    assert [asker.log_in(70_001, "family")[0] == ACCESS_ACCEPT for asker in askers] == [False, False]
