"""Accounting: packets a second that are on disk when they are acknowledged, and what a login waits meanwhile."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from statistics import median

from tests.bench import acct_servers, paced_load, radius_load, radius_servers
from tests.bench.acct_load import INTERIM, START, STOP, Told, accounting_request
from tests.bench.acct_servers import ACCOUNTS, Books, told
from tests.bench.paced_load import Flood, Stream
from tests.bench.report import Comparison, progress

ROUNDS = 7
SESSIONS = 400  # in a round, each with three interims
IN_FLIGHT = (4, 16, 64)  # each server at the one that suits it best
MANY, FEW = 100_000, 100
INTERIMS = 2_000
LOGINS_PER_S, SECONDS = 200, 5
FLOOD_SESSIONS = 5_000  # their packets are more than any server takes in that time
SLOW_DISK_MS, SLOW_SESSIONS, SLOW_INTERIMS_PER_S = 20, 10_000, 33
SLOW_BOUND_MS = 100
_RESTARTS = 5

Numbers = Iterator[int]


def comparisons() -> list[Comparison]:
    return [*_durable_and_mixed(), *_many_open(), *_slow_disk()]


def _durable_and_mixed() -> list[Comparison]:
    with ExitStack() as stack:
        progress("starting ours, rlm_sql with SQLite (WAL, synchronous=FULL), rlm_sql with PostgreSQL")
        servers = [acct_servers.ours("ours"), acct_servers.sqlite(), acct_servers.postgresql()]
        books = [stack.enter_context(server) for server in servers]
        per_s = _durable(books)
        p99_ms = _rounds(books[:2], "ms", _mixed_p99_ms)
    sql, pg = "rlm_sql_sqlite_wal_full", "rlm_sql_postgresql"
    return [
        Comparison("acct_durable_per_s", sql, "1/s", per_s["ours"], per_s["sql"], ROUNDS),
        Comparison("acct_durable_per_s", pg, "1/s", per_s["ours"], per_s["postgresql"], ROUNDS),
        Comparison("mixed_auth_p99_ms", sql, "ms", p99_ms["ours"], p99_ms["sql"], ROUNDS),
    ]


def _durable(books: Sequence[Books]) -> dict[str, float]:
    numbers = {b.name: count() for b in books}
    best = {}
    for b in books:
        _per_s(b, numbers[b.name], IN_FLIGHT[-1])  # warm
        speeds = {in_flight: _per_s(b, numbers[b.name], in_flight) for in_flight in IN_FLIGHT}
        best[b.name] = max(speeds, key=lambda in_flight: speeds[in_flight])
        progress(f"{b.name}: {best[b.name]} packets in flight suit it best of {IN_FLIGHT}")
    return _rounds(books, "/s", lambda b: _per_s(b, numbers[b.name], best[b.name]))


def _rounds(books: Sequence[Books], unit: str, measure: Callable[[Books], float]) -> dict[str, float]:
    """Medians; servers take turns in random order."""
    found: dict[str, list[float]] = {b.name: [] for b in books}
    for number in range(ROUNDS):
        for b in random.sample(books, len(books)):
            found[b.name].append(measure(b))
            progress(f"round {number + 1}/{ROUNDS}  {b.name:10}  {found[b.name][-1]:9,.1f} {unit}")
    return {name: median(values) for name, values in found.items()}


def _per_s(books: Books, numbers: Numbers, in_flight: int) -> float:
    for _ in range(_RESTARTS):
        sessions = [next(numbers) for _ in range(SESSIONS)]
        try:
            return radius_load.measure(books.port, books.pid(), _whole(books, sessions), in_flight).per_s
        except OSError as error:
            if books.restart is None:
                raise
            progress(f"{books.name}: {error}: started anew, the round counts from its beginning")
            books.restart()
    raise RuntimeError(f"{books.name} ended {_RESTARTS} times in one round")


def _whole(books: Books, sessions: Sequence[int]) -> list[bytes]:
    """Start, three interims, Stop of each, a session's packets never at the same time."""
    steps = [(START, 0), (INTERIM, 300), (INTERIM, 600), (INTERIM, 900), (STOP, 1000)]
    return _packed(books, [told(s, status, seconds, 1000 * seconds) for status, seconds in steps for s in sessions])


def _packed(books: Books, packets: Sequence[Told]) -> list[bytes]:
    return [accounting_request(number, packet, books.secret) for number, packet in enumerate(packets)]


def _mixed_p99_ms(books: Books) -> float:
    """As after a power cut: people log in while all routers' accounting comes at once."""
    packets = LOGINS_PER_S * SECONDS
    logins = Stream(books.authentication_port, _logins(books, packets), LOGINS_PER_S)
    first = random.randrange(10**6, 10**7)
    steps = _whole(books, range(first, first + FLOOD_SESSIONS))
    paced_load.run([logins, Flood(books.port, steps, IN_FLIGHT[-1])])
    return logins.p99_ms


def _logins(books: Books, number: int) -> list[bytes]:
    chosen = random.sample(range(ACCOUNTS), number)
    return [
        radius_load.access_request(i, radius_servers.name(n), radius_servers.password(n), books.secret)
        for i, n in enumerate(chosen)
    ]


def _many_open() -> list[Comparison]:
    with ExitStack() as stack:
        progress(f"starting ours with {MANY:,} and with {FEW} open sessions")
        books = [stack.enter_context(acct_servers.ours(f"{n:,} open", n)) for n in (MANY, FEW)]
        sizes = {b.name: n for b, n in zip(books, (MANY, FEW), strict=True)}
        seconds = count(300, 300)
        for b in books:
            _interims_per_s(b, sizes[b.name], next(seconds))  # warm
        per_s = _rounds(books, "/s", lambda b: _interims_per_s(b, sizes[b.name], next(seconds)))
    many, few = (per_s[b.name] for b in books)
    return [Comparison("acct_per_s_100k_open", "acct_per_s_100_open", "1/s", many, few, ROUNDS)]


def _interims_per_s(books: Books, sessions: int, session_s: int) -> float:
    """No session twice at a time."""
    chosen = (random.sample(range(sessions), FEW) for _ in range(INTERIMS // FEW))
    packets = [
        told(session, INTERIM, session_s + turn, 1000 * (session_s + turn))
        for turn, some in enumerate(chosen)
        for session in some
    ]
    return radius_load.measure(books.port, books.pid(), _packed(books, packets)).per_s


def _slow_disk() -> list[Comparison]:
    with ExitStack() as stack:
        progress(f"starting ours, with {SLOW_SESSIONS:,} open sessions, and rlm_sql on a disk of {SLOW_DISK_MS} ms")
        servers = [acct_servers.ours("ours", SLOW_SESSIONS, SLOW_DISK_MS), acct_servers.sqlite(SLOW_DISK_MS)]
        books = [stack.enter_context(server) for server in servers]
        steady_ms = _rounds(books[:1], "ms", _slow_p99_ms)
        flood_ms = _rounds(books, "ms", _mixed_p99_ms)
    sql = "rlm_sql_sqlite_wal_full"
    return [
        Comparison("slow_disk_auth_p99_ms", "bound", "ms", steady_ms["ours"], SLOW_BOUND_MS, ROUNDS),
        Comparison("slow_disk_mixed_auth_p99_ms", sql, "ms", flood_ms["ours"], flood_ms["sql"], ROUNDS),
    ]


def _slow_p99_ms(books: Books) -> float:
    logins = Stream(books.authentication_port, _logins(books, LOGINS_PER_S * SECONDS), LOGINS_PER_S)
    sessions = random.sample(range(SLOW_SESSIONS), SLOW_INTERIMS_PER_S * SECONDS)
    interims = [told(session, INTERIM, 3000, 10**6) for session in sessions]
    paced_load.run([logins, Stream(books.port, _packed(books, interims), SLOW_INTERIMS_PER_S)])
    return logins.p99_ms
