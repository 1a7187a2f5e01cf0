"""How a site's island is, from its own files: quick, and also while the central database is away."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import peewee

from appliance.config import Config
from appliance.island import places, queue, snapshot
from appliance.units import format_ago, format_duration

LATE_S = 900  # what waits for so long isn't just being delivered


class State(NamedTuple):
    """`waiting` entries of the queue, the first of them from `oldest_at` (UTC seconds)."""

    copy: snapshot.Copy | None
    waiting: int
    oldest_at: int | None

    def is_late(self, now: int) -> bool:
        return self.oldest_at is not None and now - self.oldest_at > LATE_S


def of(config: Config) -> State:
    """Raises OSError where the folder can't be read."""
    try:
        waiting, oldest_at = queue.waiting(places.queue_file(config))
    except peewee.PeeweeException as error:
        raise OSError(f"{places.queue_file(config)}: {error}") from None
    return State(snapshot.current(places.copy_link(config)), waiting, oldest_at)


def words(state: State, config: Config, now: int) -> Iterator[str]:
    if state.copy is None:
        yield "there is no own copy of the database yet: without one nobody logs in while that is away"
    else:
        age_s, most_s = state.copy.age_s(now), config.island.max_age_s
        good = "too old for logins" if age_s > most_s else f"good for logins for {format_duration(most_s - age_s)} more"
        yield f"the own copy of the database is of {format_ago(age_s)}, {good}"
    if state.oldest_at is not None:
        since = format_ago(max(0, now - state.oldest_at))
        entries = "1 entry waits" if state.waiting == 1 else f"{state.waiting:,} entries wait"
        yield f"{entries} to be told to the database, the first from {since}"


def lines(config: Config) -> Iterator[str]:
    """For `gatehouse status`; nothing where the database is in a file, and nothing while all is well."""
    if not places.is_wanted(config):
        return
    now = int(time.time())
    try:
        state = of(config)
    except OSError as error:
        yield f"island: {error}"
        return
    is_old = state.copy is None or state.copy.age_s(now) > 3 * config.island.refresh_s
    if is_old or state.waiting:
        yield from (f"island: {line}" for line in words(state, config, now))
