"""The parts of the product, each activated on its own. None is active until it is enabled."""

from collections.abc import Sequence

from appliance.config import Config
from appliance.core import CORE
from appliance.dealers.module import DEALER
from appliance.errors import UserError
from appliance.service import Module, is_enabled, marker
from appliance.vault.module import NETBACKUP
from collector.module import NETFLOW
from portal.module import HOTSPOT

MODULES: tuple[Module, ...] = (HOTSPOT, NETFLOW, NETBACKUP, DEALER)


def by_name(name: str) -> Module:
    for module in MODULES:
        if module.name == name:
            return module
    raise UserError(f"there is no module {name!r}; there are: {', '.join(m.name for m in MODULES)}")


def enabled(config: Config) -> Sequence[Module]:
    return [module for module in MODULES if is_enabled(config, module.name)]


def running(config: Config) -> Sequence[Module]:
    """What every appliance has, and what is enabled."""
    return [*enabled(config), CORE]


def set_enabled(config: Config, module: Module, on: bool) -> None:
    """Only a marker: what runs changes with the next apply, and data stays in either case."""
    path = marker(config, module.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if on:
        path.touch(mode=0o644)
    else:
        path.unlink(missing_ok=True)
