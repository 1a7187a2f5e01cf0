import os
from collections.abc import Iterator

import pytest

from tests.lab import journey
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.world import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Namespaces need root; a developer without it still runs the rest."""
    if os.geteuid() == 0:
        return
    for item in items:
        if {"world", "appliance", "guest"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason="network namespaces need root"))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    return world.appliance()


@pytest.fixture
def guest(world: World, appliance: Appliance) -> Iterator[Guest]:
    """A fresh guest with a lease; leaves the hotspot at the end, so that the next one finds it quiet."""
    guest = world.guest()
    guest.lease()
    yield guest
    journey.log_out(guest)
