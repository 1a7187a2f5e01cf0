"""Logins and accounting over SQLite and over PostgreSQL, with one appliance and with two, and what each costs.

PostgreSQL is a primary with a synchronous standby, both with fsync and on this machine, whose processors they share
with the appliances. Two appliances over SQLite are two boxes that know nothing of each other.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from appliance.accounts import manage
from appliance.accounts.models import Account, Plan, Pool
from tests.bench import acct_load, radius_load
from tests.bench.acct_load import INTERIM, START, Told
from tests.bench.report import Comparison, progress
from tests.lab import postgresql
from tests.lab.radius import RadiusServer, radius_server

ROUNDS = int(os.environ.get("ROUNDS", "3"))
ACCOUNTS = 5_000
LOGINS, WRITING, INTERIMS = 2_000, 300, 300  # of each appliance in a round
WRITES = ("device", "pool")  # plans whose logins write: a place among the devices, an address
_IN_FLIGHT = 16


@dataclass(frozen=True)
class Site:
    """Appliances that work at once, and the PostgreSQL that they share, if they do."""

    name: str
    nodes: Sequence[RadiusServer]
    server: postgresql.Pair | None

    def pids(self, process: str) -> list[int]:
        return [node.pid(process) for node in self.nodes]


@dataclass(frozen=True)
class Cost:
    """Of one request: processor time, bytes written into files or into the WAL, transactions that write."""

    per_s: float
    cpu_us: float
    database_cpu_us: float
    written: float
    transactions: float


def comparisons() -> list[Comparison]:
    found: dict[tuple[str, str], list[Cost]] = {}
    with ExitStack() as stack:
        sites = [stack.enter_context(site) for site in (_sqlite(1), _sqlite(2), _postgresql())]
        one = Site("postgresql", sites[-1].nodes[:1], sites[-1].server)
        for number in range(-1, ROUNDS):
            for site in (*sites, one):
                for kind, cost in _round(site, number + 1):
                    if number >= 0:  # the first one warms up
                        found.setdefault((site.name, kind), []).append(cost)
                        _tell(site.name, kind, cost)
    return _compared(found)


def _tell(site: str, kind: str, cost: Cost) -> None:
    progress(
        f"{site:19} {kind:8} {cost.per_s:7,.0f}/s  {cost.cpu_us:7.0f} us, of the database {cost.database_cpu_us:6.0f}"
        f"  {cost.written:7,.0f} bytes  {cost.transactions:.2f} transactions"
    )


def _compared(found: dict[tuple[str, str], list[Cost]]) -> list[Comparison]:
    def middle(site: str, kind: str, of: Callable[[Cost], float]) -> float:
        return median(of(cost) for cost in found[site, kind])

    compared = []
    for kind, metric in (("login", "auth"), ("device", "auth_devices"), ("pool", "auth_pool"), ("interim", "acct")):
        for nodes in ("", "_2_nodes"):
            ours, theirs = (middle(f"{engine}{nodes}", kind, lambda c: c.per_s) for engine in ("postgresql", "sqlite"))
            name = f"{metric}_per_s_postgresql{nodes}"
            compared.append(Comparison(name, f"{metric}_per_s_sqlite{nodes}", "1/s", ours, theirs, ROUNDS))
        for unit, what, of in (
            ("us", "cpu", lambda c: c.cpu_us + c.database_cpu_us),
            ("bytes", "written", lambda c: c.written),
        ):
            ours, theirs = middle("postgresql", kind, of), middle("sqlite", kind, of)
            compared.append(
                Comparison(f"{kind}_{what}_postgresql", f"{kind}_{what}_sqlite", unit, ours, theirs, ROUNDS)
            )
    return compared


@contextmanager
def _sqlite(count: int) -> Iterator[Site]:
    with ExitStack() as stack:
        nodes = [stack.enter_context(radius_server(radius_toml="log_logins = false\n")) for _ in range(count)]
        for node in nodes:
            _fill(node)
            node.start()
        yield Site("sqlite" if count == 1 else f"sqlite_{count}_nodes", nodes, None)


@contextmanager
def _postgresql() -> Iterator[Site]:
    with ExitStack() as stack:
        pair = stack.enter_context(postgresql.pair(fsync="on", shared_buffers="256MB"))
        toml, quiet = f'[database]\nurl = "{pair.url()}"\n', "log_logins = false\n"
        first = stack.enter_context(radius_server(toml, quiet))
        _fill(first)
        second = stack.enter_context(radius_server(toml, quiet, node_of=first))
        for node in (first, second):
            node.start()
        pair.primary.ask("VACUUM ANALYZE", postgresql.NAME)
        yield Site("postgresql_2_nodes", (first, second), pair)


def _fill(node: RadiusServer) -> None:
    node.plan("login", rate_up_bps=5_000_000, rate_down_bps=20_000_000, quota_bytes=2**50, quota_period="month")
    node.plan("device", simultaneous=2)
    with node.core():
        manage.add_pool("public", "10.64.0.0", "10.64.15.255")
        Plan.create(name="pool", pool=Pool.get())
        sealed, now = node.box.seal("secret"), int(time.time())
        for plan in Plan.select():
            rows = [
                {"name": f"{plan.name}{n:06}", "plan": plan, "password": sealed, "created_at": 0, "first_login_at": now}
                for n in range(ACCOUNTS)
            ]
            for start in range(0, ACCOUNTS, 500):
                Account.insert_many(rows[start : start + 500]).execute()


def _round(site: Site, number: int) -> Iterator[tuple[str, Cost]]:
    for kind in ("login", *WRITES):
        count = LOGINS if kind == "login" else WRITING
        yield kind, _measured(site, "authentication", [_logins(node, kind, n, number, count) for n, node in _of(site)])
    for status, kind in ((START, "start"), (INTERIM, "interim")):
        told = [_told(node, status, n, number, site.name) for n, node in _of(site)]
        cost = _measured(site, "accounting", told)
        if status == INTERIM:
            yield kind, cost


def _of(site: Site) -> list[tuple[int, RadiusServer]]:
    return list(enumerate(site.nodes))


def _logins(node: RadiusServer, plan: str, place: int, number: int, count: int) -> list[bytes]:
    """Other accounts each round and at each appliance, from devices of their own."""
    secret, first = node.secret.encode(), (2 * number + place) * count
    numbers = range(first, first + count)
    return [radius_load.access_request(n, f"{plan}{n % ACCOUNTS:06}", "secret", secret) for n in numbers]


def _told(node: RadiusServer, status: int, place: int, number: int, site: str) -> list[bytes]:
    secret, at = node.secret.encode(), int(time.time()) - 600
    first = (2 * number + place) * INTERIMS + (2**20 if site == "postgresql" else 0)
    s = 300 if status == INTERIM else 0
    return [
        acct_load.accounting_request(
            n, Told(status, n, f"login{n % ACCOUNTS:06}", at + s, s, s * 1000, s * 9000), secret
        )
        for n in range(first, first + INTERIMS)
    ]


def _measured(site: Site, process: str, packets: Sequence[Sequence[bytes]]) -> Cost:
    """All appliances at once, each asked by a process of its own."""
    ports = [getattr(node.config.radius, f"{process}_port") for node in site.nodes]
    before, cpu = _books(site, process), _cpu(site, process)
    database_cpu = _database_cpu(site)
    with ProcessPoolExecutor(len(ports), mp_context=get_context("fork")) as generators:
        work = partial(radius_load.measure, in_flight=_IN_FLIGHT)
        samples = list(generators.map(work, ports, site.pids(process), packets))
    total = sum(len(some) for some in packets)
    cpu, database_cpu = _cpu(site, process) - cpu, _database_cpu(site) - database_cpu
    after = _books(site, process)
    written, transactions = ((b - a) / total for a, b in zip(before, after, strict=True))
    per_s = sum(sample.per_s for sample in samples)
    return Cost(per_s, 1e6 * cpu / total, 1e6 * database_cpu / total, written, transactions)


def _cpu(site: Site, process: str) -> float:
    return sum(map(radius_load.cpu_s, site.pids(process)))


def _database_cpu(site: Site) -> float:
    """Of both servers; no process of theirs ends meanwhile but by chance."""
    if site.server is None:
        return 0.0
    return sum(map(radius_load.cpu_s, (*site.server.primary.pids(), *site.server.standby.pids())))


def _books(site: Site, process: str) -> tuple[float, float]:
    """Bytes and transactions so far; SQLite's bytes are what its processes have written into files."""
    if site.server is None:
        return sum(_written(pid) for pid in site.pids(process)), 0.0
    sql = "SELECT pg_current_wal_insert_lsn() - '0/0', pg_snapshot_xmax(pg_current_snapshot())::text"
    ((written, transactions),) = site.server.primary.ask(sql)
    return float(written), float(transactions)


def _written(pid: int) -> float:
    """proc_pid_io(5): wchar, which has no datagrams in it."""
    return float(Path(f"/proc/{pid}/io").read_text().split("wchar: ")[1].split()[0])
