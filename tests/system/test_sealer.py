"""Killed at any step, on a disk that goes or is full, with a clock that jumps: each flow that was acknowledged is found
once, and the totals are those of all flows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import peewee
import pytest

from appliance import data_disk
from appliance.config import Config, Paths
from collector import holding, places
from collector.journal import Datagram, Journal
from collector.store import retention, rollups
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, JOURNAL, SEGMENTS, Range, beside
from collector.store.reading import Reading
from tests.flows import bulk, mix
from tests.unit.test_sealing import HOUR_MS, ROUTER, START_MS, ends, flows_of, kept, send
from tests.unit.test_segments import EVER, Flows, keep

pytestmark = pytest.mark.system


# Seals, compacts and takes away what is there, and dies before the step that it is told, or at the end says how many
# steps there were.
_ROUND = """
import os, signal, sys
from pathlib import Path
import peewee
from collector.store import catalog, compaction, keeping, sealing, segments, upkeep
folder, die_at, now_ms = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
steps = 0
def counted(call):
    def step(*args, **more):
        global steps
        steps += 1
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **more)
    return step
for place, name in ((os, "fsync"), (Path, "rename"), (Path, "unlink"), (segments, "fsync_folder"),
                    (catalog.Catalog, "run"), (catalog.Catalog, "run_many"), (peewee.SqliteDatabase, "commit")):
    setattr(place, name, counted(getattr(place, name)))
sealing.BATCH, compaction.PORTION = 400, 700
with sealing.Sealer(folder) as sealer:
    more = True
    while more:
        more = sealer.gather()
        if sealer.waits:
            sealer.seal()
    while upkeep.compact(sealer, now_ms):
        pass
    keeping.take_away_files(sealer.catalog, sealer.segments, now_ms, at_once=True)
print(steps)
"""


def a_round(folder: Path, die_at: int, now_ms: int) -> int | None:
    """How many steps there were, None if it died."""
    words = [sys.executable, "-c", _ROUND, str(folder), str(die_at), str(now_ms)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def totals_fit(folder: Path, flows: Flows) -> None:
    with Catalog(folder / CATALOG) as catalog:
        for grain in rollups.GRAINS:
            sums = catalog.one(f"SELECT sum(flows), sum(bytes) FROM {grain.table} WHERE kind = 1")
            assert sums == (len(flows), int(flows["bytes"].sum()))


@pytest.mark.parametrize("kills", [30, pytest.param(100, marks=pytest.mark.long)])
def test_killed_at_each_step_it_loses_and_doubles_nothing(tmp_path: Path, kills: int) -> None:
    Journal(tmp_path / JOURNAL).close()
    sent: list[Flows] = []
    steps, died = 150, 0
    for turn in range(kills):
        flows = flows_of(900, seed=turn, start_ms=START_MS + turn * HOUR_MS // 3)
        send(tmp_path, flows, sequence=sum(len(part) for part in sent))
        sent.append(flows)
        now_ms = START_MS + (turn + 40) * HOUR_MS // 3
        died += a_round(tmp_path, 1 + turn * 17 % steps, now_ms) is None
        if turn % 10 == 9:
            whole = a_round(tmp_path, 0, now_ms)
            assert whole is not None
            steps = max(150, whole)
            everything = np.concatenate(sent)
            assert ends(kept(tmp_path)) == ends(everything)
            totals_fit(tmp_path, everything)
            with Catalog(tmp_path / CATALOG) as catalog:
                named = [tmp_path / SEGMENTS / segment.path for segment in catalog.segments()]
            assert {*(tmp_path / SEGMENTS).iterdir()} == {*named, *map(beside, named)}
    assert died > kills // 2
    with Reading(tmp_path) as reading:
        assert reading.certificate(EVER).lost == 0


# The process, on a file system of its own


_PROCESS = """
import sys
from appliance import process
from collector import sealer
from collector.store import retention, sealing
sealing.SOON_MS = sealing.LATER_MS = 0
sealer.TICK_S, sealer.UPKEEP_S = 0.05, 0.2
retention.FREE_BYTES, retention.BALLAST_BYTES = int(sys.argv.pop()), 2**20
process.run("flows", "", sealer.serve)
"""
FREE_BYTES = 6 * 2**20


class Machine:
    """Paths of an appliance, whose data disk is a file in memory that is mounted and unmounted."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(folder / "state", folder / "run", folder / "log", folder / "data")
        self.image = folder / "disk.img"
        for path in (self.paths.state, self.paths.run / places.RUN, self.paths.data):
            path.mkdir(parents=True)
        (self.paths.state / data_disk.REMEMBERED).write_text("here\n")
        file = folder / "gatehouse.toml"
        names = ("state", "run", "log", "data")
        file.write_text("[paths]\n" + "".join(f'{name} = "{getattr(self.paths, name)}"\n' for name in names))
        self.config = Config(paths=self.paths, file=file)
        self.flows = self.paths.data / places.DISK
        subprocess.run(["truncate", "--size=64M", self.image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self.image], check=True)
        # One device for all of it: a second one of the same file would be a second file system on one disk.
        losetup = ["losetup", "--find", "--show", str(self.image)]
        self.device = subprocess.run(losetup, check=True, capture_output=True, text=True).stdout.strip()
        self.attach()
        (self.paths.data / data_disk.MARKER).write_text("here\n")
        self.flows.mkdir()
        self.process: subprocess.Popen[str] | None = None

    def attach(self) -> None:
        subprocess.run(["mount", self.device, self.paths.data], check=True)

    def pull(self) -> None:
        """Whoever has files open on it keeps them until it closes them: nobody new gets there."""
        subprocess.run(["umount", "--lazy", self.paths.data], check=True)

    def start(self) -> None:
        words = [sys.executable, "-c", _PROCESS, "--config", str(self.config.file), str(FREE_BYTES)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        wait(lambda: (self.paths.run / holding.SOCKET).exists())

    def stop(self) -> str:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, said
        self.process = None
        return said

    def clean(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        subprocess.run(["umount", "--lazy", self.paths.data], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["losetup", "--detach", self.device], check=True)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if os.getuid() != 0:
        pytest.skip("only root can mount")
    machine = Machine(tmp_path)
    try:
        yield machine
    finally:
        machine.clean()


def wait(so: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < until
        time.sleep(0.05)


def has(machine: Machine, flows: int) -> bool:
    try:
        with Catalog(machine.flows / CATALOG) as catalog:
            return bool(catalog.one("SELECT sum(flows) FROM total_day WHERE kind = 1")[0] == flows)
    except peewee.OperationalError:
        return False  # it is being made


def test_the_disk_is_pulled_and_comes_back(machine: Machine) -> None:
    Journal(machine.flows / JOURNAL).close()
    machine.start()
    now_ms = int(time.time() * 1000) - 60_000
    sent: list[Flows] = []
    for turn in range(5):
        flows = flows_of(2000, seed=turn, start_ms=now_ms + turn * 1000)
        send(machine.flows, flows, sequence=sum(len(part) for part in sent))
        sent.append(flows)
        machine.pull()
        time.sleep(0.5)
        assert list(machine.paths.data.iterdir()) == [], "something was written into the empty mount point"
        machine.attach()
        wait(partial(has, machine, sum(len(part) for part in sent)))
    assert "away" in machine.stop()
    assert ends(kept(machine.flows)) == ends(np.concatenate(sent))


def send_when_there_is_room(folder: Path, flows: Flows, sequence: int) -> None:
    """As the collector does, which holds what a full disk doesn't take until the sealer has made room."""
    datagrams = bulk.datagrams_of(flows, sequence=sequence, templates_every=20)
    at_ms = int(flows["received"][0])
    journal = Journal(folder / JOURNAL)

    def taken(part: list[Datagram]) -> bool:
        try:
            return journal.append(part)
        except peewee.OperationalError as error:
            assert "full" in str(error) or "no transaction" in str(error)
            return False

    for part in peewee.chunked([Datagram(at_ms + n, ROUTER, data) for n, data in enumerate(datagrams)], 25):
        wait(partial(taken, list(part)), 60)
    journal.close()


def test_a_full_disk_loses_the_oldest_flows_and_keeps_on(machine: Machine) -> None:
    Journal(machine.flows / JOURNAL).close()
    machine.start()
    now_ms, count, held = int(time.time() * 1000) - 100_000_000, 0, 0
    for turn in range(40):
        flows = mix.flows(100_000, seed=turn, start_ms=now_ms + turn * 10_000, span_ms=9_000)
        send_when_there_is_room(machine.flows, flows, count)
        count += len(flows)
        wait(partial(has, machine, count), 60)
        if turn == 0:
            held = holding.add(machine.config, now_ms, now_ms + 5_000, "a case", "ann")
        journal = Journal(machine.flows / JOURNAL)  # its own bounds are larger than this disk
        journal.expire(0, 0, journal.last_id(), int(time.time() * 1000) + 10**9)
        journal.close()
    with Catalog(machine.flows / CATALOG) as catalog:
        found = catalog.segments()
        assert sum(segment.rows for segment in found) < count
        assert min(segment.first_ms for segment in found) < now_ms + 10_000, "what is held went"
        assert found[-1].received_until_ms > now_ms + 39 * 10_000
    wait(lambda: retention.room(machine.flows).free_bytes > 2 * 2**20)
    assert holding.release(machine.config, held, "ann") == held
    machine.stop()


def test_a_clock_that_jumps_hides_nothing(tmp_path: Path) -> None:
    Journal(tmp_path / JOURNAL).close()
    sent: list[Flows] = []
    for turn, off_ms in enumerate((0, 3_600_000, -7_200_000, 400 * 86_400_000, 0)):
        flows = flows_of(900, seed=turn, start_ms=START_MS + turn * 1000)
        journal = Journal(tmp_path / JOURNAL)
        at_ms = int(flows["received"][0]) + off_ms
        datagrams = bulk.datagrams_of(flows, sequence=900 * turn)
        journal.append([Datagram(at_ms + n, f"192.0.2.{turn + 1}", data) for n, data in enumerate(datagrams)])
        journal.close()
        sent.append(flows)
        assert a_round(tmp_path, 0, at_ms + 1000) is not None
    assert a_round(tmp_path, 0, START_MS + 800 * 86_400_000) is not None
    assert ends(kept(tmp_path)) == ends(np.concatenate(sent))


# Growth: what a search has to open, over 3 days and over 30


def test_a_search_over_a_month_opens_no_more_than_what_has_its_flows(tmp_path: Path) -> None:
    (tmp_path / SEGMENTS).mkdir()
    Catalog(tmp_path / CATALOG, write=True).close()
    rare = mix.CLIENTS + 3000
    for day in range(30):
        flows = mix.flows(50_000, seed=day, start_ms=mix.START_MS + day * mix.DAY_MS)
        if day >= 28:
            flows["src_lo"][:40] = rare
        keep(tmp_path, flows)
    month, days = Range(mix.START_MS, mix.START_MS + 31 * mix.DAY_MS), mix.START_MS + 27 * mix.DAY_MS
    with Reading(tmp_path) as reading:
        few = Range(days, month.until_ms)
        assert len(reading.files(month, [(0, rare, rare)])) == len(reading.files(few, [(0, rare, rare)])) == 2
        usual = mix.CLIENTS + 7
        assert len(reading.files(month, [(0, usual, usual)])) == 30
