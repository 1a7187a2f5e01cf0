"""A hotspot that is full: logins by the page and packets of who is online, with 10,000 sessions and with one.

Two appliances run side by side, each in namespaces of its own, and take turns, so that whatever else the machine does
falls on both alike. A login is the page and its form: portal, RADIUS, gateway, nftables and HTB.
"""

import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from statistics import mean, median
from types import FrameType
from typing import TypeVar

from tests.bench import admin_lists
from tests.bench.portal_sites import Remote
from tests.bench.report import Comparison, progress, show

SESSIONS, ACTIVE = 10_000, 1_000
LOGIN_ROUNDS, LOGINS = 5, 60
FORWARD_ROUNDS = 11
PAGE_BOUND_BYTES = 15_000

Sites = Mapping[str, Remote]
Of = TypeVar("Of")


def main() -> None:
    signal.signal(signal.SIGTERM, _end)
    found = admin_lists.comparisons()
    with ExitStack() as stack:
        progress(f"starting one hotspot with {SESSIONS:,} sessions, {ACTIVE:,} of them active, and one with 1")
        few = stack.enter_context(closing(Remote(1, 1)))
        many = stack.enter_context(closing(Remote(SESSIONS, ACTIVE)))
        sites = {"many": many, "few": few}
        for site in sites.values():
            site.ready()
        found += [*_forwarding(sites), *_logins(sites), _page(many), _kernel_alone(many)]
    show(found)


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # leaves through all context managers, so processes and namespaces go


def _forwarding(sites: Sites) -> list[Comparison]:
    got = _rounds(sites, FORWARD_ROUNDS, "Mbit/s", lambda site: _mbit_s(site, ACTIVE if site is sites["many"] else 1))
    return [_against("forward_mbit_s", "Mbit/s", got, FORWARD_ROUNDS)]


def _kernel_alone(site: Remote) -> Comparison:
    """What a thousand senders cost where nothing of ours is looked up: no gateway can do better."""
    site.ask("bare")
    got = _rounds({"many": ACTIVE, "few": 1}, FORWARD_ROUNDS, "Mbit/s", lambda senders: _mbit_s(site, senders))
    ours, theirs = "kernel_alone_mbit_s_1k_senders", "kernel_alone_mbit_s_1_sender"
    return Comparison(ours, theirs, "Mbit/s", got["many"], got["few"], FORWARD_ROUNDS)


def _mbit_s(site: Remote, senders: int) -> float:
    """Both directions, one after the other."""
    return mean(float(site.ask("forward_mbit_s", direction, senders)) for direction in ("up", "down"))


def _logins(sites: Sites) -> list[Comparison]:
    p99 = _rounds(sites, LOGIN_ROUNDS, "ms", lambda site: _p99(site.ask("login_ms", LOGINS)))
    per_s = _rounds(sites, LOGIN_ROUNDS, "logins/s", lambda site: float(site.ask("logins_per_s", LOGINS)))
    return [_against("login_p99_ms", "ms", p99, LOGIN_ROUNDS), _against("logins_per_s", "1/s", per_s, LOGIN_ROUNDS)]


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99) - 1]


def _rounds(those: Mapping[str, Of], rounds: int, unit: str, measure: Callable[[Of], float]) -> dict[str, float]:
    """Medians; who begins changes with each round."""
    found: dict[str, list[float]] = {name: [] for name in those}
    for number in range(rounds):
        for name in list(those)[:: 1 if number % 2 else -1]:
            found[name].append(measure(those[name]))
            progress(f"round {number + 1}/{rounds}  {name:5}  {found[name][-1]:9,.1f} {unit}")
    return {name: median(values) for name, values in found.items()}


def _against(metric: str, unit: str, got: Mapping[str, float], rounds: int) -> Comparison:
    ours, theirs = f"{metric}_10k_sessions", f"{metric}_1_session"
    return Comparison(ours, theirs, unit, got["many"], got["few"], rounds)


def _page(site: Remote) -> Comparison:
    """Of the login page, which loads nothing else (tests/system/test_browser.py)."""
    return Comparison("login_page_bytes", "bound", "B", site.ask("login_page_bytes"), PAGE_BOUND_BYTES, 1)


if __name__ == "__main__":
    main()
