"""Accounting proved: what was acknowledged is in the database after kill -9, and every octet is counted once."""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.accounts.models import Session
from appliance.db import sqlite_path
from tests.bench import slow_disk
from tests.bench.acct_load import INTERIM, START, STOP, Told, session_id
from tests.lab.radius import RadiusServer, radius_server
from tests.system.router import Octets, Router, highest

pytestmark = pytest.mark.system

ACCOUNTS = 2_000
INTERIMS = 3
INTERIM_S = 300
EACH_TIME = 400  # sessions, of which some packets come between two kills
REPEATED, DROPPED = 0.2, 0.1
MOST_OCTETS = 6 * 2**30  # in one interval, so that counters pass 2^32
TRUTH = random.Random(20_000)


def name(session: int) -> str:
    return f"guest{session % ACCOUNTS:04}"


def told(session: int, at: int) -> list[Told]:
    """All packets of one session, in their order."""
    packets = [Told(START, session, name(session), at, 0, 0, 0)]
    for number in range(1, INTERIMS + 2):
        last = packets[-1]
        packets.append(
            replace(
                last,
                status=INTERIM if number <= INTERIMS else STOP,
                at=at + number * INTERIM_S,
                session_s=number * INTERIM_S,
                input_octets=last.input_octets + TRUTH.randrange(MOST_OCTETS),
                output_octets=last.output_octets + TRUTH.randrange(MOST_OCTETS),
            )
        )
    return packets


def as_they_arrive(sessions: int) -> list[Told]:
    """Sessions overlap, their packets overtake each other, some come twice or thrice and some never."""
    began = int(time.time()) - (INTERIMS + 2) * INTERIM_S
    arriving: list[tuple[float, Told]] = []
    for session in range(sessions):
        for place, packet in enumerate(told(session, began)):
            copies = (
                0 if TRUTH.random() < DROPPED else 1 + (TRUTH.random() < REPEATED) + (TRUTH.random() < REPEATED / 4)
            )
            arriving += [(session / 100 + 10 * place + TRUTH.uniform(0, 25), packet) for _ in range(copies)]
    return [packet for _, packet in sorted(arriving, key=lambda each: each[0])]


@pytest.fixture
def server() -> Iterator[RadiusServer]:
    with radius_server() as server:
        server.plan("home")
        insert = "INSERT INTO account (name, password, plan_id, enabled, created_at) VALUES (?, x'00', 1, 1, 0)"
        with sqlite3.connect(str(sqlite_path(server.config.database_url))) as database:
            database.executemany(insert, [(f"guest{n:04}",) for n in range(ACCOUNTS)])
        server.start("accounting")
        yield server


def stored(server: RadiusServer) -> dict[str, Octets]:
    """Octets by session; a session that stands there twice fails the test."""
    with sqlite3.connect(str(sqlite_path(server.config.database_url))) as database:
        rows = database.execute("SELECT acct_session_id, input_octets, output_octets FROM session").fetchall()
    found = {row[0]: (row[1], row[2]) for row in rows}
    assert len(found) == len(rows)
    return found


def kill_and_check(server: RadiusServer, router: Router, sent: Sequence[Told]) -> None:
    server.kill("accounting")
    router.drain()
    there, most = stored(server), highest(sent)
    missing = {s for s, octets in highest(router.acknowledged).items() if s not in there or there[s] < octets}
    assert not missing, f"acknowledged, and not in the database: {sorted(missing)[:5]}"
    assert all(octets <= most[s] for s, octets in there.items())
    server.start("accounting")
    router.send_again()


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.long)])
def test_every_octet_is_counted_once_though_the_server_is_killed(
    server: RadiusServer, capsys: pytest.CaptureFixture[str], kills: int
) -> None:
    packets = as_they_arrive(kills * EACH_TIME)
    router = Router(server.config.radius.accounting_port, server.secret.encode())
    part = len(packets) // (kills + 1) + 1
    started = time.monotonic()
    for number, first in enumerate(range(0, len(packets), part)):
        router.send(packets[first : first + part])
        if number < kills:
            kill_and_check(server, router, packets[: first + part])
        if number % 10 == 9:
            show(capsys, f"{first + part:,} of {len(packets):,} packets, {number + 1} kills", started)
    router.finish()
    show(capsys, f"{len(router.acknowledged):,} acknowledged", started)
    check_the_books(server, packets)
    assert Path(f"{sqlite_path(server.config.database_url)}-wal").stat().st_size < 40_000_000


def check_the_books(server: RadiusServer, packets: Sequence[Told]) -> None:
    expected = highest(packets)
    assert stored(server) == expected
    used: Counter[str] = Counter()
    for session, octets in expected.items():
        used[name(int(session, 16))] += sum(octets)
    with sqlite3.connect(str(sqlite_path(server.config.database_url))) as database:
        usage = database.execute(
            "SELECT a.name, sum(u.input_octets + u.output_octets)"
            " FROM account_usage u JOIN account a ON a.id = u.account_id GROUP BY a.name"
        ).fetchall()
        ended = database.execute("SELECT acct_session_id FROM session WHERE ended_at IS NOT NULL").fetchall()
    assert dict(usage) == {account: octets for account, octets in used.items() if octets}
    assert {row[0] for row in ended} == {session_id(p.session) for p in packets if p.status == STOP}


def show(capsys: pytest.CaptureFixture[str], text: str, started: float) -> None:
    with capsys.disabled():
        print(f"  {time.monotonic() - started:5.0f} s  {text}", flush=True)


@pytest.mark.parametrize(("fails", "answer"), [(False, "Accounting-Response"), (True, "No reply")])
def test_nothing_is_acknowledged_that_the_disk_did_not_take(fails: bool, answer: str) -> None:
    with radius_server() as server:
        server.environment = slow_disk.environment(server.folder, fails=fails)
        server.start("accounting")
        start = 'Acct-Status-Type = Start\nAcct-Session-Id = "d-1"'
        assert answer in server.radclient(start, "acct", timeout=1)
        with server.core():
            assert Session.select().where(Session.acct_session_id == "d-1").exists()  # committed all the same
