"""PostgreSQL's primary is lost under load: what was acknowledged is on the standby, and logins go on."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from appliance.accounts import manage
from appliance.accounts.models import Account, Plan, Pool
from appliance.doctor import machine
from tests.bench.acct_load import INTERIM, START, STOP, Told
from tests.bench.radius_load import ACCESS_ACCEPT, access_request
from tests.lab import postgresql
from tests.lab.namespace import wait_until
from tests.lab.radius import ROUTER, RadiusServer, radius_server
from tests.system.router import Octets, Router, highest

pytestmark = pytest.mark.system

ACCOUNTS = 500
SESSIONS = 600
WITHIN_S = 10.0  # logins go on
SENT_AGAIN_S = 0.3  # as MikroTik's hotspot does, three times
MOST_OCTETS = 6 * 2**30


@pytest.fixture(scope="module")
def pair() -> Iterator[postgresql.Pair]:
    with postgresql.pair() as pair:
        yield pair


@pytest.fixture(scope="module")
def server(pair: postgresql.Pair) -> Iterator[RadiusServer]:
    with radius_server(f'[database]\nurl = "{pair.url()}"\n') as server:
        server.plan("home", quota_bytes=2**60, simultaneous=1000)
        with server.core():
            sealed = server.box.seal("secret")
            rows = [
                {"name": f"guest{n:04}", "plan": Plan.get(), "password": sealed, "created_at": 0}
                for n in range(ACCOUNTS)
            ]
            Account.insert_many(rows).execute()
        server.start()
        yield server


def packets(first: int) -> list[Told]:
    """Sessions that overlap; all packets of one come in their order, here and there one twice."""
    chance, now, arriving = random.Random(first), int(time.time()) - 900, []
    for session in range(first, first + SESSIONS):
        name, up, down = f"guest{session % ACCOUNTS:04}", 0, 0
        for place, status in enumerate((START, INTERIM, STOP)):
            told = Told(status, session, name, now + 300 * place, 300 * place, up, down)
            arriving += [(session + chance.random() + 200 * place, told)] * (1 + (chance.random() < 0.1))
            up, down = up + chance.randrange(MOST_OCTETS), down + chance.randrange(MOST_OCTETS)
    return [told for _, told in sorted(arriving, key=lambda each: each[0])]


class Load:
    """Accounting and logins, each in a thread as its router sends them, until `end`."""

    def __init__(self, server: RadiusServer, told: list[Told]) -> None:
        self.router = Router(server.config.radius.accounting_port, server.secret.encode())
        self.accepted_at: list[float] = []
        self._server, self._told = server, told
        self._ending = threading.Event()
        self._failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._account, self._log_in)]
        for thread in self._threads:
            thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failed.append(error)

    def _account(self) -> None:
        self.router.send(self._told)
        self.router.finish()

    def _log_in(self) -> None:
        port = self._server.config.radius.authentication_port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.bind((ROUTER, 0))
            line.connect(("127.0.0.1", port))
            line.settimeout(SENT_AGAIN_S)
            device = 0
            while not self._ending.wait(0.005):
                device += 1
                packet = access_request(device, f"guest{device % ACCOUNTS:04}", "secret", self._server.secret.encode())
                self._ask(line, packet)

    def _ask(self, line: socket.socket, packet: bytes) -> None:
        for _ in range(3):
            line.send(packet)
            try:
                answer = line.recv(4096)
                while answer[1] != packet[1]:  # of one that was given up
                    answer = line.recv(4096)
            except TimeoutError:
                continue
            if answer[0] == ACCESS_ACCEPT:
                self.accepted_at.append(time.monotonic())
            return

    def end(self) -> None:
        self._threads[0].join(120)
        self._ending.set()
        self._threads[1].join()
        if self._failed:
            raise self._failed[0]


def stored(pair: postgresql.Pair, first: int) -> dict[str, Octets]:
    sql = f"SELECT acct_session_id, input_octets, output_octets FROM session WHERE acct_session_id >= '{first:08x}'"
    return {row[0]: (row[1], row[2]) for row in pair.primary.ask(sql, postgresql.NAME)}


def missing(there: dict[str, Octets], acknowledged: list[Told]) -> list[str]:
    return [s for s, octets in highest(acknowledged).items() if s not in there or there[s] < octets]


def kill(pair: postgresql.Pair) -> None:
    pair.primary.kill()
    time.sleep(1)  # somebody notices
    pair.fail_over()


def kill_while_the_standby_lags(pair: postgresql.Pair) -> None:
    """So that nothing more may be acknowledged before."""
    pair.standby.freeze()
    time.sleep(0.5)
    pair.primary.kill()
    pair.standby.thaw()
    pair.fail_over()


def stand_still(pair: postgresql.Pair) -> None:
    """Its kernel goes on to take what is sent, so nobody is told."""
    pair.primary.freeze()
    time.sleep(1)
    pair.fail_over(kill=False)


@pytest.mark.parametrize(("turn", "lose"), [(1, kill), (2, kill_while_the_standby_lags), (3, stand_still)])
def test_the_primary_is_lost_under_load(
    pair: postgresql.Pair, server: RadiusServer, turn: int, lose: Callable[[postgresql.Pair], None]
) -> None:
    first = turn * 2**20
    told = packets(first)
    with ExitStack() as stack:
        load = Load(server, told)
        stack.callback(load.end)
        stack.callback(lambda: pair.standby.kill())  # fenced, before anybody waits for it
        wait_until(lambda: len(load.router.acknowledged) > len(told) // 4, 60, "accounting to be under way")
        wait_until(lambda: load.accepted_at, 10, "logins to be under way")
        began = time.monotonic()
        lose(pair)
        acknowledged, promoted = load.router.acknowledged.copy(), time.monotonic()
        assert not missing(stored(pair, first), acknowledged)
        wait_until(lambda: load.accepted_at[-1] > promoted, WITHIN_S, "logins to go on")
        assert load.accepted_at[-1] - began < WITHIN_S
    assert stored(pair, first) == highest(told)
    pair.follow()


def test_an_address_is_on_the_standby_before_it_is_given(pair: postgresql.Pair, server: RadiusServer) -> None:
    with server.core():
        manage.add_pool("public", "198.51.100.1", "198.51.100.9")
        Plan.create(name="public", pool=Pool.get())
    server.account("pooled", "public", "secret")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    asking = 'User-Name = "pooled"\nUser-Password = "secret"\nCalling-Station-Id = "02-00-00-00-00-01"'
    pair.standby.freeze()
    try:
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(server.radclient, asking, timeout=1)
            wait_until(lambda: pair.primary.ask(waits) == [(1,)], 20, "the login to wait for the standby")
            assert "Framed-IP-Address = 198" not in answer.result()
    finally:
        pair.standby.thaw()
    wait_until(lambda: "Framed-IP-Address = 198.51.100" in server.radclient(asking), 20, "the address")


def test_every_octet_of_them_is_used_once(pair: postgresql.Pair, server: RadiusServer) -> None:
    """After all those failovers."""
    counted = "SELECT sum(input_octets), sum(output_octets) FROM "
    assert pair.primary.ask(counted + "account_usage", postgresql.NAME) == pair.primary.ask(
        counted + "session", postgresql.NAME
    )


def test_the_doctor_says_whether_commits_wait_for_a_standby(pair: postgresql.Pair, server: RadiusServer) -> None:
    def found() -> tuple[str, str]:
        with server.core():
            (finding,) = machine.database(server.config)
            return finding.state, finding.sentence

    assert found() == ("ok", "It answers, and its commits wait for standby.")
    pair.primary.ask("ALTER SYSTEM RESET synchronous_standby_names")
    pair.primary.ask("SELECT pg_reload_conf()")
    wait_until(lambda: found()[0] == "warn", 20, "the doctor to notice")
