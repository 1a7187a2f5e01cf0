"""Logins and accounting: ours against FreeRADIUS's own `files` and `sql`, and against ourselves.

Every server is the FreeRADIUS of the distribution. All get the same packets from the same generator, one after the
other in rounds, so that whatever else the machine does falls on all of them alike. No thread is bound to a core.
"""

import random
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from types import FrameType

from tests.bench import acct_rounds, radius_load, radius_servers
from tests.bench.radius_load import Sample
from tests.bench.radius_servers import Target
from tests.bench.report import Comparison, progress, show

ROUNDS = 7
PER_ROUND = 10_000
WARM_UP = 2_000
RESTARTS = 5  # rlm_sql_sqlite dies of SIGSEGV in libsqlite3 about once in 200,000 logins
ACCOUNTS = 20_000
MANY_ACCOUNTS = 1_000_000

Rounds = dict[str, list[Sample]]


def main() -> None:
    signal.signal(signal.SIGTERM, _end)
    progress(radius_servers.PLAN)
    with ExitStack() as stack:
        targets = _start(stack)
        _check_same_answers(targets)
        samples = _measure(targets)
    show([*_comparisons(samples), *acct_rounds.comparisons()])


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # leaves through all context managers, so processes and folders go


def _start(stack: ExitStack) -> list[Target]:
    starting = (
        (f"ours, {ACCOUNTS:,} accounts", radius_servers.ours("ours", ACCOUNTS, ACCOUNTS)),
        ("FreeRADIUS files", radius_servers.files(ACCOUNTS, ACCOUNTS)),
        ("FreeRADIUS rlm_sql with SQLite", radius_servers.sql(ACCOUNTS, ACCOUNTS)),
        (f"ours, {MANY_ACCOUNTS:,} accounts", radius_servers.ours("ours_many", MANY_ACCOUNTS, ACCOUNTS)),
    )
    targets = []
    for title, server in starting:
        progress(f"starting {title}")
        targets.append(stack.enter_context(server))
    return targets


def _check_same_answers(targets: Sequence[Target]) -> None:
    """Raises RuntimeError: a server that says less would win by that."""
    counts = {t.name: radius_load.attribute_count(radius_load.ask(t.port, t.packets[0])) for t in targets}
    if len(set(counts.values())) != 1:
        raise RuntimeError(f"the answers differ in their number of attributes: {counts}")


def _measure(targets: Sequence[Target]) -> Rounds:
    samples: Rounds = {target.name: [] for target in targets}
    for target in targets:
        _round(target, 0, WARM_UP)
    for number in range(ROUNDS):
        for target in random.sample(targets, len(targets)):
            # Other accounts each round, until all have had their turn: nobody's are in a cache by chance.
            first = number * PER_ROUND % len(target.packets)
            sample = _round(target, first, PER_ROUND)
            samples[target.name].append(sample)
            progress(
                f"round {number + 1}/{ROUNDS}  {target.name:9}  {sample.per_s:7,.0f}/s  {sample.cpu_us:6.1f} us"
                f"  generator {sample.generator_share:.0%} of a core"
            )
    return samples


def _round(target: Target, first: int, count: int) -> Sample:
    packets = target.packets[first : first + count]
    for _ in range(RESTARTS):
        try:
            return radius_load.measure(target.port, target.pid(), packets)
        except OSError as error:
            if target.restart is None:
                raise RuntimeError(f"{target.name}: {error}") from error
            progress(f"{target.name}: {error}: started anew, the round counts from its beginning")
            target.restart()
    raise RuntimeError(f"{target.name} ended {RESTARTS} times in one round")


def _comparisons(samples: Rounds) -> list[Comparison]:
    per_s = {name: median(sample.per_s for sample in rounds) for name, rounds in samples.items()}
    cpu_us = {name: median(sample.cpu_us for sample in rounds) for name, rounds in samples.items()}
    found = []
    for peer, name in (("files", "files"), ("rlm_sql_sqlite", "sql")):
        found.append(Comparison("auth_per_s", peer, "1/s", per_s["ours"], per_s[name], ROUNDS))
        found.append(Comparison("auth_cpu_us", peer, "us", cpu_us["ours"], cpu_us[name], ROUNDS))
    many = per_s["ours_many"]
    return [*found, Comparison("auth_per_s_1m_accounts", "auth_per_s_20k_accounts", "1/s", many, per_s["ours"], ROUNDS)]


if __name__ == "__main__":
    main()
