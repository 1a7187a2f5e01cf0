"""The parts of the product, each activated on its own. None is active until it is enabled."""

from collections.abc import Sequence
from pathlib import Path

from appliance.config import Config
from appliance.core import CORE
from appliance.errors import UserError
from appliance.service import Module
from portal.module import HOTSPOT

MODULES: tuple[Module, ...] = (HOTSPOT,)


def by_name(name: str) -> Module:
    for module in MODULES:
        if module.name == name:
            return module
    raise UserError(f"there is no module {name!r}; there are: {', '.join(m.name for m in MODULES)}")


def enabled(config: Config) -> Sequence[Module]:
    return [module for module in MODULES if _marker(config, module).exists()]


def running(config: Config) -> Sequence[Module]:
    """What every appliance has, and what is enabled."""
    return [*enabled(config), CORE]


def set_enabled(config: Config, module: Module, on: bool) -> None:
    """Only a marker: what runs changes with the next apply, and data stays in either case."""
    marker = _marker(config, module)
    marker.parent.mkdir(parents=True, exist_ok=True)
    if on:
        marker.touch(mode=0o644)
    else:
        marker.unlink(missing_ok=True)


def _marker(config: Config, module: Module) -> Path:
    return config.paths.state / "enabled" / module.name
