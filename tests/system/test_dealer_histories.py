"""Very many histories of dealers, and several that happen at once on the same books."""

import contextlib
import os
import random
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from appliance.errors import UserError
from tests.unit import dealer_history
from tests.unit import test_dealer_history as unit
from tests.unit.conftest import books_of_module, postgresql_server, template_url
from tests.unit.dealer_box import opened
from tests.unit.dealer_money import conf_in, memory

pytestmark = pytest.mark.system

shop = unit.shop
fixtures = (books_of_module, postgresql_server, template_url)  # so that shop finds them
PROCESSES, STEPS, ROUNDS = 4, 150, 10


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory() as found:
        yield found


@pytest.mark.parametrize("books_of_module", ["sqlite"], indirect=True)  # tests/unit has some on the other engine
@settings(unit.QUICKLY, max_examples=300)
@given(history=unit.HISTORIES)
def test_any_history_adds_up(shop: Path, folder: Path, history: list[Any]) -> None:
    unit.adds_up(shop, folder, history)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_histories_that_happen_at_once_add_up(shop: Path, folder: Path, seed: int) -> None:
    with unit.copy(shop, folder / "shop"):
        pass
    pids = [a_life(folder / "shop", seed * PROCESSES + n) for n in range(PROCESSES)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * PROCESSES
    with opened(conf_in(folder / "shop")) as conf:
        dealer_history.check()
        unit.month_ends(conf)


def a_life(folder: Path, seed: int) -> int:
    """A process that does what comes to its mind."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        mind = random.Random(seed)
        with opened(conf_in(folder)) as conf:
            world = unit.World(conf)
            for _ in range(STEPS):
                with contextlib.suppress(UserError):
                    mind.choice(unit.STEPS)(world, *(mind.randrange(20_000) for _ in range(3)))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
