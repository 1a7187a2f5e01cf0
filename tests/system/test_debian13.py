"""The RADIUS side on Debian 13: its FreeRADIUS, its Python, and the product as pip installs it."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.system.container import run_once
from tests.system.debian13 import PYTHON, TESTS

pytestmark = pytest.mark.system


def outcome(root: Path, *argv: str) -> tuple[dict[str, int], str]:
    """Counts of a pytest run inside, and what it printed."""
    done = run_once(
        root, PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=/var/tmp/report.xml", *argv, directory=TESTS
    )
    suite = ElementTree.parse(root / "var/tmp/report.xml").getroot().find("testsuite")  # noqa: S314 (pytest's)
    assert suite is not None, done.stdout
    return {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}, done.stdout


def test_it_is_what_debian_13_ships(root: Path) -> None:
    printed = run_once(root, "freeradius", "-v").stdout
    found = re.search(r"FreeRADIUS Version (\d+)\.(\d+)\.(\d+)", printed)
    assert found, printed
    assert tuple(map(int, found.groups())) >= (3, 2, 7), printed
    assert run_once(root, PYTHON, "--version").stdout.startswith("Python 3.13."), printed


def test_the_product_is_the_installed_one(root: Path) -> None:
    where = run_once(root, PYTHON, "-c", "import appliance; print(appliance.__file__)", directory=TESTS).stdout
    assert "/site-packages/appliance/" in where


RADIUS = tuple(f"tests/lab/test_radius{name}.py" for name in ("", "_limits", "_eap", "_radsec"))

# What builds and provisions is not on a box, nor are disks, GRUB and recordings of routers in a container.
ELSEWHERE = ("ansible_files", "data_disk", "flash_image", "images", "recordings", "slots")
UNIT = ("tests/unit", "-k", "not postgresql", *(f"--ignore=tests/unit/test_{name}.py" for name in ELSEWHERE))


@pytest.mark.parametrize("tests", [RADIUS, pytest.param(UNIT, marks=pytest.mark.long)], ids=lambda tests: tests[0])
def test_every_test_passes(root: Path, tests: tuple[str, ...]) -> None:
    counts, printed = outcome(root, *tests)
    assert counts["tests"] > 0, printed
    assert (counts["failures"], counts["errors"], counts["skipped"]) == (0, 0, 0), printed
    print(f"{counts['tests']} tests of {tests[0]} passed")
