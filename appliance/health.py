"""Whether this machine serves: what `gatehouse health` says, and what an update is confirmed by."""

import time
from collections.abc import Callable

from appliance import apply, modules
from appliance.config import Config

_ACTIVE = ("active", "running")  # systemd's word, and supervisor's
_STEP_S = 2.0


def problems(config: Config, own: bool = False) -> list[str]:
    """One line each; none when every module's services run and it does its work.

    `own`: without what is the matter with disks and other machines, as no other version of ours would mend it.
    """
    active = modules.running(config)
    states = apply.states(config, active)
    wanted = apply.services(config, active)
    found = [f"service {s.name}: {state}" for s in wanted if (state := states.get(s.name, "stopped")) not in _ACTIVE]
    for module in active:
        ask = (module.own_problems if own else None) or module.problems
        found += ask(config)
    return found


def wait(config: Config, seconds: float, tell: Callable[[str], None], own: bool = False) -> list[str]:
    """What is still wrong when it is all well or the time is up; each change is told meanwhile."""
    until = time.monotonic() + seconds
    told: list[str] = []
    while found := problems(config, own):
        if time.monotonic() >= until:
            break
        if found != told:
            tell("; ".join(found))
            told = found
        time.sleep(_STEP_S)
    return found
