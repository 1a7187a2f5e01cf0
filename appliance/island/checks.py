"""The doctor's checks of a site's island."""

import time
from collections.abc import Iterator

from appliance.config import Config
from appliance.doctor.findings import BAD, OK, WARN, Check, Finding
from appliance.island import places, state
from appliance.island.models import IslandConflict
from appliance.units import format_ago

_MISSED = 3  # copies


def copy(config: Config) -> Iterator[Finding]:
    found, now = state.of(config), int(time.time())
    words = " ".join(f"{line[0].upper()}{line[1:]}." for line in state.words(found, config, now))
    commands = ("gatehouse island copy",)
    if found.copy is None:
        yield Finding("island", BAD, words, "The service jobs makes it; or make it now.", commands)
    elif found.copy.age_s(now) > _MISSED * config.island.refresh_s:
        over = found.copy.age_s(now) > config.island.max_age_s
        yield Finding("island", BAD if over else WARN, words, "See whether the database can be reached.", commands)
    else:
        yield Finding("island", OK, words)
    if found.is_late(now):
        since = format_ago(now - (found.oldest_at or now))
        sentence = f"Accounting from {since} hasn't reached the database yet."
        yield Finding("island queue", WARN, sentence, "The service jobs delivers it once the database answers.")


def conflicts(config: Config) -> Iterator[Finding]:
    count = IslandConflict.select().where(IslandConflict.dismissed_at.is_null()).count()
    if count:
        sentence = f"{'1 conflict' if count == 1 else f'{count} conflicts'} of islands to be looked at."
        commands = ("gatehouse island conflicts",)
        yield Finding("island conflicts", WARN, sentence, "Look at them, and dismiss what is settled.", commands)


CHECKS = (
    Check("island", copy, wanted=places.is_wanted),
    Check("island conflicts", conflicts, core=True, wanted=places.is_wanted),
)
