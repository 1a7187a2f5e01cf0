"""The vault's store under SIGKILL at each of its steps, and on disks that are full, gone, read-only or failing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import data_disk
from appliance.config import Config, Paths
from appliance.vault import rebuild, redo
from appliance.vault.manifest import Manifest
from appliance.vault.models import End, Fault, Refused, Reservation, Vault, Version, vault_db
from appliance.vault.store import Store
from tests.bench import slow_disk
from tests.lab.namespace import run
from tests.unit.vault_box import Box

pytestmark = pytest.mark.system

STEPS = (
    "begun",
    "written",
    "received",
    "synced",
    "published",
    "torn",
    "logged",
    "half",
    "line",
    "recorded",
    "committed",
)
LARGE = ("synced",)  # a step of those that the log doesn't take
TIMES = 20
TREE = Path(__file__).parents[2]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killed(Store):
    """Ends its process at a step."""

    at = ""

    def step(self, name: str) -> None:
        if name == self.at:
            kill()


def upload(box: Box, number: int, at: str) -> None:
    """In a process of its own; what it says was stored, it writes into a file."""
    write, log = Manifest.write, redo._write

    def half(self: Manifest, text: bytes, place: int) -> None:
        write(self, text[: len(text) // 2], place)
        kill()

    def line(self: Manifest, text: bytes, place: int) -> None:
        write(self, text, place)
        kill()

    def torn(fd: int, data: bytes, place: int) -> None:
        log(fd, data[: len(data) // 2], place)
        kill()

    Killed.at = at
    store = Killed(box.config, lambda config: config.paths.data)
    vault = Vault.get(Vault.name == "office")
    begun = store.begin(vault, "/x", expected_bytes=None)
    if at == "begun":
        kill()
    begun.write(content(number, at in LARGE))
    if at == "written":
        kill()
    if at in ("half", "line"):
        Manifest.write = half if at == "half" else line  # type: ignore[method-assign, assignment]
    if at == "torn":
        redo._write = torn  # type: ignore[assignment]
    version = begun.commit(End(True))
    (box.folder / "said").write_text(f"{number} {version.sha256}")


def content(number: int, large: bool = False) -> bytes:
    return b"%d\n" % number * (70_000 if large else 1000)


@pytest.mark.parametrize("at", STEPS)
def test_killed_at_a_step_no_version_is_lost_and_none_is_half(tmp_path: Path, at: str) -> None:
    box = Box(tmp_path)
    vault = box.vault(quota_bytes=10**7)
    box.put(vault, "/x", content(0))
    last = 0
    for number in range(1, TIMES + 1):
        box.close()
        child = os.fork()
        if not child:
            try:
                upload(box, number, at)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it wasn't killed"
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert not (tmp_path / "said").exists()
        box.open()
        entry = box.store.entry(vault, "/x")
        assert entry is not None
        data = box.get(entry.version)
        done = at in ("logged", "half", "line", "committed")  # nobody was told; whole it is all the same
        allowed = {last, number} if done else {last}
        assert data in {content(number, at in LARGE and number > 0) for number in allowed}
        last = int(data.split(b"\n")[0])
        assert Reservation.select().count() == 0
        assert list((box.store.place() / "spool").iterdir()) == []
    assert {box.get(version) for version in Version.select()} >= {content(0), content(last)}
    assert len(list((box.store.place() / "objects").glob("*/*"))) == len({v.sha256 for v in Version.select()})
    assert rebuild.prove(box.store.place()).problem == ""
    before = [(v.id, v.sha256, v.left_age is None) for v in Version.select().order_by(Version.id)]
    rebuild.rebuild(box.store.place())
    assert [(v.id, v.sha256, v.left_age is None) for v in Version.select().order_by(Version.id)] == before
    box.close()


# Disks


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """With a data disk of 100 MB, in memory."""
    paths = Paths(state=tmp_path / "state", run=tmp_path / "run", data=tmp_path / "data")
    for path in (paths.state / "vault", paths.run, paths.data):
        path.mkdir(parents=True)
    mount(paths.data)
    yield Config(paths=paths)
    vault_db.close()
    subprocess.run(["umount", "--lazy", str(paths.data)], check=False, capture_output=True)


def mount(path: Path) -> None:
    run("mount", "-t", "tmpfs", "-o", "size=100m,mode=755", "data", str(path))
    (path / data_disk.MARKER).write_text("00000000-0000-4000-8000-000000000000\n", encoding="ascii")
    (path / "vault").mkdir()


def put(store: Store, vault: Any, path: str, data: bytes, pieces: int = 1) -> Any:
    begun = store.begin(vault, path)
    try:
        for _ in range(pieces):
            begun.write(data)
        return begun.commit(End(True))
    finally:
        begun.abandon()


def refused(store: Store, vault: Any, path: str, data: bytes, pieces: int = 1) -> int:
    with pytest.raises(Refused) as caught:
        put(store, vault, path, data, pieces)
    return caught.value.code


def present(store: Store, vault: Any, path: str) -> bytes:
    entry = store.entry(vault, path)
    assert entry is not None
    with store.open(entry.version) as file:
        return file.read()


def new_vault() -> Any:
    return Vault.create(name="office", created_at=0)


def test_a_disk_that_fills_up_refuses_and_keeps_what_it_has(config: Config) -> None:
    store = Store(config)
    vault = new_vault()
    put(store, vault, "/x", b"good")
    for _ in range(TIMES):
        assert refused(store, vault, "/x", bytes(2**20), 120) == 452
        assert present(store, vault, "/x") == b"good"
    (config.paths.data / "filler").write_bytes(bytes(60 * 2**20))
    assert refused(store, vault, "/x", b"little") == 452  # too little is left for anything
    (config.paths.data / "filler").unlink()
    put(store, vault, "/x", b"better")
    assert rebuild.prove(store.place()).problem == ""


def test_a_disk_that_turned_read_only_or_went_away(config: Config) -> None:
    store = Store(config)
    vault = new_vault()
    put(store, vault, "/x", b"good")
    for _ in range(TIMES):
        run("mount", "-o", "remount,ro", str(config.paths.data))
        assert refused(store, vault, "/x", b"new") == 451
        assert present(store, vault, "/x") == b"good"
        run("mount", "-o", "remount,rw", str(config.paths.data))
    begun = store.begin(vault, "/x")
    begun.write(b"half")
    run("umount", "--lazy", str(config.paths.data))
    with pytest.raises(Refused) as caught:
        begun.commit(End(True))
    assert caught.value.code in (451, 452)
    assert refused(store, vault, "/x", b"new") in (451, 452)
    assert list(config.paths.data.iterdir()) == []
    mount(config.paths.data)  # another disk, by its contents
    assert refused(store, vault, "/x", b"new") == 451
    assert not list(config.paths.data.glob("vault/objects/*/*"))


FAILING = """
import pathlib, sys
from appliance.config import Config, Paths
from appliance.vault.models import Refused, End, Vault
from appliance.vault.store import Store
folder = pathlib.Path(sys.argv[1])
config = Config(paths=Paths(state=folder / "state", run=folder / "run", data=folder / "data"))
store = Store(config)
vault = Vault.get(Vault.name == "office")
try:
    begun = store.begin(vault, "/x")
    begun.write(b"new" * int(sys.argv[2]))
    begun.commit(End(True))
    print("stored")
except Refused as refused:
    print(refused.code, refused.text)
"""


def test_an_fsync_that_fails_is_refused_and_never_tried_again(config: Config, tmp_path: Path) -> None:
    store = Store(config)
    vault = new_vault()
    put(store, vault, "/x", b"good")
    vault_db.close()
    environment = os.environ | slow_disk.environment(tmp_path, fails=True) | {"PYTHONPATH": str(TREE)}
    said = []
    for number in range(TIMES):
        environment["DISK_FAILS_BELOW"] = str(
            config.paths.data / "vault" / ("objects", "spool", "manifest")[number % 3]
        )
        Fault.update(over_ms=1).execute()
        vault_db.close()
        count = 60_000 if number % 3 < 2 else 1  # a small one is in the log, which is with the manifest
        words = [sys.executable, "-c", FAILING, str(tmp_path), str(count)]
        said.append(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)
    assert all(line.startswith("451 ") for line in said), json.dumps(said)
    assert "stored" not in "".join(said)
    assert "suspect" not in "".join(said)
    assert present(store, vault, "/x") == b"good"
    assert refused(store, vault, "/x", b"new") == 451  # the disk is suspect
    assert Version.select().count() == 1
    assert rebuild.prove(store.readable()).problem == ""
