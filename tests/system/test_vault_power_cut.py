"""The power goes: what a file system had on its disk at that moment is all that there is, and each 226 is about that.

The disk is a file; a copy of it, without any sync, has what had reached the disk, and nothing of the kernel's memory.
"""

import contextlib
import filecmp
import hashlib
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import data_disk
from appliance.vault import rebuild, redo, vaults
from appliance.vault.models import Object, Version, vault_db
from tests.unit.vault_server import Running, running

pytestmark = pytest.mark.system

SIZES = (0, 1, 4096, 70_000, 300_000, 3_000_000)
TIMES = 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 that writes nothing by itself for an hour, where the box has its data disk."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(160 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
    (tmp_path / "d").mkdir()
    mount(image, tmp_path / "d")
    (tmp_path / "d" / data_disk.MARKER).touch()
    (tmp_path / "d" / "vault").mkdir()
    os.sync()
    try:
        yield image
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / "d"], check=False, capture_output=True)


def mount(image: Path, point: Path) -> None:
    subprocess.run(["mount", "-o", "loop,commit=3600", image, point], check=True)


def store(server: Running, name: str, data: bytes) -> str:
    with contextlib.closing(server.client()) as ftp:
        reply = ftp.storbinary(f"STOR {name}", io.BytesIO(data))
    assert reply.startswith("226")
    return hashlib.sha256(data).hexdigest()


def as_it_is(image: Path) -> Path:
    """A copy of one moment: not one into which somebody else's sync(2) wrote."""
    cut = image.with_name("cut.img")
    while True:
        shutil.copyfile(image, cut)
        if filecmp.cmp(image, cut, shallow=False):
            return cut


def power_cut(folder: Path, image: Path) -> None:
    """The disk is as it was at that moment, and the catalogue as of long before."""
    cut = as_it_is(image)
    subprocess.run(["umount", folder / "d"], check=True)
    cut.rename(image)
    mount(image, folder / "d")
    for name in ("vault.db-wal", "vault.db-shm"):
        (folder / "state" / "vault" / name).unlink(missing_ok=True)
    shutil.copyfile(folder / "before.db", folder / "state" / "vault" / "vault.db")


def begun(server: Running, folder: Path) -> Any:
    """A vault, which the catalogue that outlives the power cut knows."""
    vault = server.vault()
    vault_db.execute_sql("VACUUM INTO ?", (str(folder / "before.db"),))
    return vault


def test_each_226_outlives_a_power_cut(tmp_path: Path, disk: Path) -> None:
    told: dict[str, str] = {}
    for number in range(TIMES):
        with running(tmp_path) as server:
            vault = vaults.named("shop") if number else begun(server, tmp_path)
            assert {name: digest(server, vault, name) for name in told} == told
            assert rebuild.prove(server.box.store.place()).problem == ""
            for size in SIZES:
                told[f"/{number}/{size}"] = store(server, f"/{number}/{size}", os.urandom(size))
            told["/same"] = store(server, "/same", os.urandom(5000))
        power_cut(tmp_path, disk)
    with running(tmp_path) as server:
        vault = vaults.named("shop")
        assert {name: digest(server, vault, name) for name in told} == told
        rebuild.rebuild(server.box.store.place())
        assert {name: digest(server, vault, name) for name in told} == told
        assert Version.select().count() >= TIMES * (len(SIZES) + 1)
        assert not Object.select().where(Object.state != "good").count()


def digest(server: Running, vault: object, name: str) -> str:
    content = server.content(vault, name)
    return "missing" if content is None else hashlib.sha256(content).hexdigest()


def test_a_disk_that_was_torn_off_and_came_back_while_the_server_ran(tmp_path: Path, disk: Path) -> None:
    with running(tmp_path) as server:
        vault = server.vault()
        for number in range(TIMES):
            data = os.urandom(4000)
            store(server, "/x", data)
            cut = as_it_is(disk)
            subprocess.run(["umount", tmp_path / "d"], check=True)
            cut.rename(disk)
            mount(disk, tmp_path / "d")
            other = os.urandom(4000)
            store(server, f"/{number}", other)
            assert server.content(vault, "/x") == data
            assert server.content(vault, f"/{number}") == other
        assert rebuild.prove(server.box.store.place()).problem == ""


def test_the_log_begins_anew_with_all_on_disk(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {}
    with running(tmp_path) as server:
        monkeypatch.setattr(redo, "LOG_BYTES", 64 * 1024)
        begun(server, tmp_path)
        for number in range(60):
            told[f"/{number}"] = store(server, f"/{number}", os.urandom(4000))
    power_cut(tmp_path, disk)
    with running(tmp_path) as server:
        vault = vaults.named("shop")
        assert {name: digest(server, vault, name) for name in told} == told
