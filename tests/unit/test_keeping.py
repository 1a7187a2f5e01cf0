"""How long flows stay, what a hold keeps, what is found before it is sealed, and the process that does it all."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import peewee
import pytest

from appliance.config import Config, Netflow, Paths
from appliance.errors import UserError
from collector import holding, places
from collector.journal import Journal
from collector.store import keeping, retention
from collector.store.catalog import Catalog
from collector.store.models import CATALOG, JOURNAL, SEGMENTS, Hold, Range, SegmentFile
from collector.store.reading import Reading
from collector.store.retention import DAY_MS, Room
from tests.unit.test_sealing import START_MS, ends, flows_of, kept, seal, send
from tests.unit.test_segments import EVER, rows

ROOMY = Room(10**12, 5 * 10**11)
NOW_MS = START_MS + 10 * DAY_MS


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    Journal(tmp_path / JOURNAL).close()
    yield tmp_path


def day(number: int, size_bytes: int = 100) -> SegmentFile:
    at_ms = START_MS + number * DAY_MS
    times = (at_ms, at_ms + DAY_MS - 1)
    return SegmentFile(f"{number}", 10, size_bytes, "", *times, *times, None, None, {}, b"", id=number + 1)


def going(days: list[SegmentFile], holds: list[Hold], keep_days: int, keep_bytes: int, room: Room) -> list[str]:
    return [s.path for s in retention.to_go(days, holds, keep_days, keep_bytes, room, NOW_MS)]


def test_the_oldest_go_by_age_by_size_and_for_room_but_none_that_is_held() -> None:
    days = [day(number) for number in range(10)]
    hold = Hold(1, START_MS + DAY_MS, START_MS + DAY_MS + 5, "a case", "ann", 0)
    assert going(days, [], 365, 0, ROOMY) == []
    assert going(days, [], 8, 0, ROOMY) == ["0", "1"]
    assert going(days, [hold], 8, 0, ROOMY) == ["0"]
    assert going(days, [hold], 365, 750, ROOMY) == ["0", "2", "3"]
    assert going(days, [hold], 8, 750, ROOMY) == ["0", "2", "3"]
    full = Room(10**12, 10**12 // retention.FREE_SHARE - 150)
    assert going(days, [hold], 365, 0, full) == ["0", "2"]


def test_a_hold_is_written_down_and_released_once(folder: Path) -> None:
    with Catalog(folder / CATALOG, write=True) as catalog:
        number = keeping.answer(catalog, holding.Held(5, 9, "a case", "ann"), 1)
        assert catalog.holds() == [Hold(number, 5, 9, "a case", "ann", 1)]
        keeping.answer(catalog, holding.Released(number, "bob"), 2)
        assert catalog.holds() == []
        assert catalog.holds(released=True) == [Hold(number, 5, 9, "a case", "ann", 1, "bob", 2)]
        with pytest.raises(UserError, match="no hold"):
            keeping.answer(catalog, holding.Released(number, "bob"), 3)
    with pytest.raises(ValueError, match="reason"):
        holding.Held(5, 9, " ", "ann")


def test_a_clock_that_is_wrong_for_a_while_takes_little_away(folder: Path) -> None:
    send(folder, flows_of(800))
    seal(folder)
    config = Config(netflow=Netflow(keep_days=2))
    with Catalog(folder / CATALOG, write=True) as catalog:
        keeping.keep_room(config, folder, catalog, START_MS)
        for _ in range(20):
            keeping.keep_room(config, folder, catalog, START_MS + 20_000 * DAY_MS)
        keeping.keep_room(config, folder, catalog, START_MS + 1000)
        for hour in range(25, 48):
            keeping.keep_room(config, folder, catalog, START_MS + hour * 3_600_000)
            assert len(catalog.segments()) == 1
        for hour in range(48, 80):
            keeping.keep_room(config, folder, catalog, START_MS + hour * 3_600_000)
        assert catalog.segments() == []


def test_retention_takes_segments_and_leaves_totals(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AGEING_MS", 9 * DAY_MS)
    send(folder, flows_of(800))
    seal(folder)
    config = Config(netflow=Netflow(keep_days=5))
    with Catalog(folder / CATALOG, write=True) as catalog:
        keeping.keep_room(config, folder, catalog, START_MS + 4 * DAY_MS)
        assert len(catalog.segments()) == 1
        assert Journal(folder / JOURNAL).first_id() is None
        keeping.answer(catalog, holding.Held(START_MS, START_MS + 1000, "a case", "ann"), 1)
        keeping.keep_room(config, folder, catalog, NOW_MS)
        assert len(catalog.segments()) == 1
        keeping.answer(catalog, holding.Released(1, "ann"), 2)
        keeping.keep_room(config, folder, catalog, NOW_MS)
        assert catalog.segments() == []
        assert catalog.one("SELECT sum(flows) FROM total_day WHERE kind = 0") == (800,)
        keeping.keep_room(config, folder, catalog, NOW_MS + keeping.READERS_MS)
    assert list((folder / SEGMENTS).iterdir()) == []


def test_the_forecast_says_what_the_days_need_and_for_how_many_there_is_room() -> None:
    enough = retention.Forecast(10**9, 10**8, 0, 10**12, 41, 0)
    assert enough.lines() == ["41 days at today's rate need 41 GB, and there is room for 1000 GB."]
    short = replace(enough, keep_bytes=5 * 10**9)
    assert "only room for 5.0 GB: flows are kept for 5 days" in short.lines()[0]


def test_a_flow_is_found_before_it_is_sealed(folder: Path) -> None:
    first, second = flows_of(600), flows_of(500, seed=2, start_ms=START_MS + 60_000)
    send(folder, first)
    seal(folder)
    send(folder, second, sequence=700)
    assert ends(kept(folder)) == ends(np.concatenate([first, second]))
    with Reading(folder) as reading:
        told = reading.certificate(EVER)
        assert (told.present, told.lost) == (1100, 100)
        assert told.complete_until_ms >= int(second["received"][0])
        assert reading.certificate(Range(START_MS + DAY_MS, START_MS + 2 * DAY_MS)).losses == [], "of another time"
        assert len(rows(reading, reading.relation(Range(0, START_MS - DAY_MS)))) == 0
        assert len(rows(reading, reading.relation(EVER, exporters=[99]))) == 0
    seal(folder)
    with Reading(folder) as reading:
        assert len(reading.tail.flows) == 0
        assert (reading.certificate(EVER).present, reading.certificate(EVER).lost) == (1100, 100)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_who_may_only_read_the_files_can_search() -> None:
    code = (
        "import os; from pathlib import Path; from collector.store.reading import Range, Reading\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "with Reading(Path({!r})) as reading:\n"
        "    sql = f'SELECT count(*) FROM ({{reading.relation(Range(0, 2**50))}})'\n"
        "    print(reading.con.execute(sql).fetchone()[0])"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        send(folder, flows_of(600))
        seal(folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        words = [sys.executable, "-c", code.format(name)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("600\n", "")


# The process


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    paths = Paths(state=tmp_path / "state", run=tmp_path / "run", log=tmp_path / "log", data=tmp_path / "data")
    for path in (paths.state, paths.run / places.RUN, paths.data / places.DISK):
        path.mkdir(parents=True)
    file = tmp_path / "gatehouse.toml"
    keys = ("state", "run", "log", "data")
    file.write_text("[paths]\n" + "".join(f'{key} = "{getattr(paths, key)}"\n' for key in keys))
    return Config(paths=paths, file=file)


_PROCESS = """
import sys
from pathlib import Path
from appliance import data_disk, process
from collector import sealer
from collector.store import sealing
marked = Path({marker!r})
data_disk.mounted = lambda path: data_disk.Mounted("7:0", "x", False, 10**10, 10**10) if marked.exists() else None
sealing.SOON_MS = sealing.LATER_MS = 0
sealer.TICK_S = 0.05
sys.argv[1:] = ["--config", {file!r}]
process.run("flows", "", sealer.serve)
"""


@pytest.fixture
def process(config: Config, tmp_path: Path) -> Iterator[Path]:
    """Runs with a disk that is there as long as the file is that is yielded."""
    marker = tmp_path / "attached"
    marker.touch()
    code = _PROCESS.format(marker=str(marker), file=str(config.file))
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: (config.paths.run / holding.SOCKET).exists())
        yield marker
        assert running.poll() is None
    finally:
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 0, said


def until(so: object) -> None:
    deadline = time.monotonic() + 120
    while not so():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sealed(folder: Path) -> int:
    try:
        with Catalog(folder / CATALOG) as catalog:
            return int(catalog.one("SELECT coalesce(sum(rows), 0) FROM segment")[0])
    except peewee.OperationalError:
        return 0  # it is being made


def test_the_process_seals_holds_and_bears_that_the_disk_goes(config: Config, process: Path) -> None:
    folder = config.paths.data / places.DISK
    now_ms = int(time.time() * 1000) - 60_000
    Journal(folder / JOURNAL).close()
    send(folder, flows_of(500, start_ms=now_ms))
    until(lambda: sealed(folder) == 500)
    assert holding.add(config, now_ms, now_ms + 5, "a case", "ann") == 1
    assert holding.redecode(config, now_ms - DAY_MS, now_ms + DAY_MS, "ann") > 0
    with Catalog(folder / CATALOG) as catalog:
        assert [hold.reason for hold in catalog.holds()] == ["a case"]
    process.unlink()
    send(folder, flows_of(500, seed=2, start_ms=now_ms + 1000), sequence=500)
    with pytest.raises(UserError, match="disk"):
        until(lambda: holding.release(config, 1, "ann") is None)
    process.touch()
    until(lambda: sealed(folder) == 1000)
    assert holding.release(config, 1, "ann") == 1
    with pytest.raises(UserError, match="no hold 9"):
        holding.release(config, 9, "ann")
    with Catalog(folder / CATALOG) as catalog:
        until(lambda: keeping.asked(catalog) == [])
    assert len(kept(folder)) == 1000


def test_what_decoding_needs_is_loaded_only_when_there_is_something_to_decode() -> None:
    code = "import sys, collector.sealer; print([m for m in ('numpy', 'duckdb') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_question_about_another_day_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(folder, flows_of(600))
    seal(folder)
    send(folder, flows_of(500, seed=2, start_ms=START_MS + 9 * DAY_MS), sequence=600)
    monkeypatch.setattr("collector.store.tail.Decoder", None)
    with Reading(folder) as reading:
        past = Range(START_MS - DAY_MS, START_MS + DAY_MS)
        assert len(rows(reading, reading.relation(past))) == reading.certificate(past).present == 600
        with pytest.raises(TypeError):
            reading.relation(EVER)


def test_that_what_came_last_cannot_be_read_is_said(folder: Path) -> None:
    send(folder, flows_of(600))
    seal(folder)
    (folder / JOURNAL).write_bytes(b"no database")
    with Reading(folder) as reading:
        assert len(rows(reading, reading.relation(EVER))) == 600
        assert reading.certificate(EVER).notes == ["what came last isn't read yet"]
