"""Two sites with the real FreeRADIUS on one PostgreSQL, each of which is cut off for an hour and comes back."""

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import pytest

from appliance import apply, db
from appliance.accounts import vouchers
from appliance.accounts.models import AccountUsage, Session
from appliance.island import places, queue, snapshot
from appliance.island.keeper import Keeper, deliver
from appliance.island.models import IslandConflict
from appliance.island.queue import Queue
from appliance.nas.models import Nas
from tests.lab import postgresql
from tests.lab.namespace import wait_until
from tests.lab.radius import ROUTER, RadiusServer, radius_server

SOUTHERN = "127.0.0.3"
HOUR_S, REPORT_S = 3600, 300
LIMIT_S = 30  # for whoever has to notice that the line is cut


class Site(NamedTuple):
    server: RadiusServer
    line: postgresql.Line
    router: str

    def login(self, name: str, password: str, mac: str, timeout: int = LIMIT_S) -> str:
        lines = f'User-Name = "{name}"\nUser-Password = "{password}"\nCalling-Station-Id = "{mac}"'
        return self.server.radclient(lines, source=self.router, timeout=timeout)

    def account(self, packets: Sequence[str]) -> int:
        """Sends them one after the other; how many were answered."""
        words = ["radclient", "-x", "-r", "1", "-t", str(LIMIT_S), "-d", str(self.server.config.paths.run / "raddb")]
        port = self.server.config.radius.accounting_port
        text = "\n".join(f"{packet}\nPacket-Src-IP-Address = {self.router}\n" for packet in packets)
        done = subprocess.run(
            [*words, f"127.0.0.1:{port}", "acct", self.server.secret], input=text, capture_output=True, text=True
        )
        return done.stdout.count("Received Accounting-Response")

    def keep(self) -> None:
        """A round of the site's jobs: delivers, then copies."""
        central = db.connect(self.server.config.database_url)
        with central.connection_context(), closing(Queue(places.queue_file(self.server.config))) as waiting:
            now = int(time.time())
            deliver(central, self.server.config, waiting, now, threading.Event())
            Keeper(self.server.config, self.server.box).copy(central, now)

    def waiting(self) -> int:
        return queue.waiting(places.queue_file(self.server.config))[0]


@pytest.fixture(scope="module")
def database() -> Iterator[postgresql.Server]:
    with postgresql.server() as server:
        server.ask(f"CREATE ROLE {postgresql.NAME} LOGIN")
        server.ask(f"CREATE DATABASE central OWNER {postgresql.NAME}")
        yield server


@pytest.fixture(scope="module")
def sites(database: postgresql.Server) -> Iterator[tuple[Site, Site]]:
    lines = [postgresql.Line(database.port) for _ in range(2)]
    north, south = (
        f'[site]\nkey = "{key}"\n[database]\nurl = "postgresql://{postgresql.NAME}@127.0.0.1:{line.port}/central"\n'
        for key, line in zip(("north", "south"), lines, strict=True)
    )
    try:
        with radius_server(north) as first, radius_server(south, node_of=first) as second:
            _fill(first)
            both = Site(first, lines[0], ROUTER), Site(second, lines[1], SOUTHERN)
            both[0].server.start()
            both[1].server.start("authentication")
            for site in both:
                site.keep()
            yield both
    finally:
        for line in lines:
            line.close()


def _fill(server: RadiusServer) -> None:
    server.plan("home", quota_bytes=10**12, quota_period="total")
    server.plan("single", simultaneous=1)
    server.plan("little", quota_bytes=1000)
    for n in range(6):
        server.account(f"guest{n}", "home", "s3cret")
    for plan in ("single", "little"):
        server.account(plan, plan, "s3cret")
    with server.core():
        vouchers.make(vouchers.Order("paper", "home", 3), server.box)
        Nas.create(name="southern", address=SOUTHERN, secret=server.box.seal(server.secret))
        for name, key in (("router", "north"), ("southern", "south")):
            Nas.update(site=key).where(Nas.name == name).execute()


def packets_of_an_hour(accounts: list[str]) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """What a router told in an hour, by Acct-Delay-Time, repeated and late here and there; octets by session."""
    chance = random.Random(7)
    told: list[tuple[int, str]] = []
    octets: dict[str, tuple[int, int]] = {}
    for n, name in enumerate(accounts * 3):
        begins, lasts = chance.randrange(0, HOUR_S - 900), chance.randrange(600, 900)
        up = down = 0
        for at in (*range(0, lasts, REPORT_S), lasts):
            status = "Start" if at == 0 else "Stop" if at == lasts else "Interim-Update"
            if at:
                up, down = up + chance.randrange(10**6), down + chance.randrange(10**9)
            lines = (
                f'User-Name = "{name}"', f'Acct-Session-Id = "s{n}"', f"Acct-Status-Type = {status}",
                f'Calling-Station-Id = "02-00-00-00-00-{n:02x}"', f"Acct-Session-Time = {at}",
                f"Acct-Input-Octets = {up % 2**32}", f"Acct-Output-Octets = {down % 2**32}",
                f"Acct-Input-Gigawords = {up >> 32}", f"Acct-Output-Gigawords = {down >> 32}",
                f"Acct-Delay-Time = {HOUR_S - begins - at}",
            )  # fmt: skip
            for late in (0, *([REPORT_S] if chance.random() < 0.1 else ())):
                told.append((begins + at + late, "\n".join(lines)))
        octets[f"s{n}"] = up, down
    return [packet for _, packet in sorted(told)], octets


def one(name: str, status: str, session: str, octets: int = 0, mac: str = "02-00-00-00-01-00") -> str:
    lines = (f'User-Name = "{name}"', f'Acct-Session-Id = "{session}"', f"Acct-Status-Type = {status}",
             f'Calling-Station-Id = "{mac}"', f"Acct-Output-Octets = {octets}")  # fmt: skip
    return "\n".join(lines)


def test_an_hour_on_its_own_and_back(sites: tuple[Site, Site], database: postgresql.Server) -> None:
    north, south = sites
    accounts = [f"guest{n}" for n in range(6)]
    packets, octets = packets_of_an_hour(accounts)
    part = len(packets) // 3
    assert north.account(packets[:part]) == part  # while all is well
    north.line.cut()  # nobody is told that nobody hears
    south.line.refuse()
    known = "SELECT sum(input_octets + output_octets) FROM session"
    before = database.ask(known, "central")
    assert north.account(packets[part : 2 * part]) == part
    north.line.refuse()
    apply.prepare(north.server.config, ())
    north.server.kill("accounting")
    north.server.start("accounting")  # which finds only the site's own copy
    assert north.account(packets[2 * part :]) == len(packets) - 2 * part
    assert database.ask(known, "central") == before
    logins_go_on(north)
    code = a_voucher_on_two_sites(north, south)
    for site in sites:
        site.line.mend()
    for site in sites:
        site.keep()
        assert site.waiting() == 0
    with north.server.core():
        rows = Session.select().where(Session.acct_session_id.in_(list(octets)))
        assert {row.acct_session_id: (row.input_octets, row.output_octets) for row in rows} == octets
        assert all(row.ended_at for row in rows)
        used: Counter[str] = Counter()
        for row in AccountUsage.select():  # of two days, where midnight was in that hour
            used[row.account.name] += row.input_octets + row.output_octets
        for n, name in enumerate(accounts):
            assert used[name] == sum(sum(octets[f"s{n + 6 * turn}"]) for turn in range(3))
        (found,) = list(IslandConflict.select())
        assert (found.kind, found.account, found.site) == ("voucher", code, "south")
    wait_until(lambda: is_asked_again(north), LIMIT_S, "the way back")
    assert north.account([one("guest0", "Stop", "afterwards", 5)]) == 1
    assert database.ask("SELECT output_octets FROM session WHERE acct_session_id = 'afterwards'", "central") == [(5,)]


def is_asked_again(site: Site) -> bool:
    """With a packet, as nobody looks without one."""
    assert site.account([one("guest0", "Start", "afterwards")]) == 1
    site.keep()
    return "the central database is asked again" in site.server.log("accounting")


def logins_go_on(site: Site) -> None:
    """By the rules, from the copy; also of a process that starts now."""
    assert "Access-Accept" in site.login("guest1", "s3cret", "02-00-00-00-00-01")
    assert "Access-Reject" in site.login("guest1", "wrong", "02-00-00-00-00-01", 2)
    site.server.kill("authentication")
    site.server.start("authentication")
    assert "Access-Accept" in site.login("guest1", "s3cret", "02-00-00-00-00-01", 2)
    assert "Access-Accept" in site.login("single", "s3cret", "02-00-00-00-00-01", 2)
    assert "on another device" in site.login("single", "s3cret", "02-00-00-00-00-02", 2)
    assert "Access-Accept" in site.login("little", "s3cret", "02-00-00-00-01-00", 2)
    assert site.account([one("little", "Start", "little"), one("little", "Stop", "little", 1001)]) == 2
    assert "used up" in site.login("little", "s3cret", "02-00-00-00-01-00", 2)


def a_voucher_on_two_sites(north: Site, south: Site) -> str:
    """Its code: neither site can know of the other's guest."""
    copy = snapshot.current(places.copy_link(north.server.config))
    assert copy is not None
    core = db.connect(f"sqlite:///{copy.path}")
    with core.connection_context():
        (code,) = core.execute_sql("SELECT name FROM account WHERE batch_id IS NOT NULL LIMIT 1").fetchone()
    for site, mac in ((north, "02-00-00-00-00-0a"), (south, "02-00-00-00-00-0b")):
        assert "Access-Accept" in site.login(code.upper(), code, mac)
    return str(code)
