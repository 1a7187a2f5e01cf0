from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.debian13 import debian13
from tests.system.image import built


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A Debian 13 with the product, for one file of tests."""
    with debian13() as root:
        yield root


@pytest.fixture(scope="session")
def image() -> Path:
    """The folder of this tree's bootable image."""
    return built()
