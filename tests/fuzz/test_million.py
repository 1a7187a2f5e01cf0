"""A million mutated datagrams, blind and guided: no exception, no growth of memory, no loop."""

import platform
import random
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.decoding import Target
from tests.fuzz.seeds import mutated, seeds

pytestmark = pytest.mark.system

MILLION = 1_000_000
GROWTH_KB = 60_000  # over what a tenth of them took: batches differ in size, a leak would be many times more


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("count", [MILLION // 10, pytest.param(MILLION, marks=pytest.mark.long)])
def test_mutated_datagrams(count: int) -> None:
    corpus, target, chance, warm_kb = seeds(), Target(), random.Random(20), 0
    for number in range(count):
        target.feed(mutated(corpus, chance))
        if number == count // 10:
            warm_kb = peak_kb()
        if number % (count // 10) == 0:
            target.take()
            target.reload()
    target.take()
    assert target.flows > count / 2  # most of them still hold flows, so that the decoder's depths were reached
    assert peak_kb() < warm_kb + GROWTH_KB


@pytest.mark.long
@pytest.mark.skipif(find_spec("atheris") is None, reason=f"there is no atheris for {platform.machine()}")
def test_a_million_datagrams_steered_by_coverage(tmp_path: Path) -> None:
    """A single one that takes more than ten seconds, or more memory than the limit, ends it as an exception does."""
    for number, seed in enumerate(seeds()):
        (tmp_path / str(number)).write_bytes(seed)
    limits = (
        f"-runs={MILLION}",
        "-max_len=2000",
        "-timeout=10",
        "-rss_limit_mb=400",
        "-seed=20",
        "-print_final_stats=1",
    )
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", *limits, f"-artifact_prefix={tmp_path}/", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-5000:]
    assert f"Done {MILLION} runs" in run.stderr, run.stderr[-2000:]
