"""Who does a job: one process at a time, though several appliances share a database."""

import peewee

from appliance.accounts.models import JobLease

LEASE_S = 30


def hold(name: str, holder: str, now: int) -> bool:
    """True while this holder may do the job; it says so again before the lease runs out."""
    mine = JobLease.get_or_none(JobLease.name == name)
    if mine is not None and mine.holder == holder and mine.held_until > now + LEASE_S // 2:
        return True
    free = (JobLease.name == name) & ((JobLease.holder == holder) | (JobLease.held_until <= now))
    if JobLease.update(holder=holder, held_until=now + LEASE_S).where(free).execute():
        return True
    if mine is not None:
        return False
    try:
        JobLease.create(name=name, holder=holder, held_until=now + LEASE_S)
    except peewee.IntegrityError:
        return False
    return True
