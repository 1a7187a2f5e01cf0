"""Who does a job: one process at a time, though several appliances share a database.

`now` is db.clock's everywhere, as appliances' own clocks differ.
"""

import socket
from pathlib import Path

import peewee

from appliance.accounts.models import JobLease
from appliance.config import Config

LEASE_S = 30
_NEVER_S = 2 * LEASE_S  # nobody holds one for so long: the clock was ahead


def machine(config: Config) -> str:
    """The same after a restart, so that nobody waits for a lease of the process before (machine-id(5))."""
    if config.fleet:
        return f"site {config.site.key}"
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip() or socket.gethostname()
    except OSError:
        return socket.gethostname()


def hold(name: str, holder: str, now: int) -> bool:
    """True while this holder may do the job; it says so again before the lease runs out."""
    mine = JobLease.get_or_none(JobLease.name == name)
    if mine is not None and mine.holder == holder and LEASE_S // 2 < mine.held_until - now <= _NEVER_S:
        return True
    is_over = (JobLease.held_until <= now) | (JobLease.held_until > now + _NEVER_S)
    free = (JobLease.holder == holder) | is_over
    if JobLease.update(holder=holder, held_until=now + LEASE_S).where((JobLease.name == name) & free).execute():
        return True
    if mine is not None:
        return False
    try:
        JobLease.create(name=name, holder=holder, held_until=now + LEASE_S)
    except peewee.IntegrityError:
        return False
    return True
