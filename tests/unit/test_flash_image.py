"""Which disks the flashing module refuses, by trees of files that stand for the kernel's and udev's: no disk of this
machine may be tried."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "ansible/plugins/modules/flash_image.py"
SIZE = 1000 * 512
ANY: dict[str, Any] = {"confirm": "S3Z8", "serial": None, "model": None}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """With a disk sdz of just the right size and a partition on it."""
    spec = importlib.util.spec_from_file_location("flash_image", MODULE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SYS", tmp_path / "sys")
    monkeypatch.setattr(module, "UDEV", tmp_path / "udev")
    monkeypatch.setattr(module, "PROC", tmp_path / "proc")
    disk = tmp_path / "sys/class/block/sdz"
    put(disk, {"dev": "8:400", "size": "1000", "ro": "0", "device/model": "Good Disk"})
    put(disk / "sdz1", {"dev": "8:401", "partition": "1"})
    put(tmp_path / "udev", {"b8:400": "S:disk/by-id/x\nE:ID_SERIAL=Good_Disk_S3Z8\nE:ID_SERIAL_SHORT=S3Z8\n"})
    put(tmp_path / "proc", {"self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "swaps": "Filename Type\n"})
    return module


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def why(module: ModuleType, size: int = SIZE, name: str = "sdz", **given: str) -> str:
    try:
        module.check_disk(Path("/dev") / name, size, ANY | given)
    except module.Refusal as refusal:
        return str(refusal)
    return ""


def test_the_right_disk_is_taken(module: ModuleType) -> None:
    assert why(module) == ""
    assert why(module, confirm="Good_Disk_S3Z8", serial="S3Z8", model="Good Disk") == ""


def test_another_identity_is_refused(module: ModuleType, tmp_path: Path) -> None:
    assert "isn't the disk that 'confirm' means: 'S3Z9'; it says: Good_Disk_S3Z8, S3Z8" in why(module, confirm="S3Z9")
    assert "isn't the disk that 'serial' means" in why(module, serial="S3Z9")
    assert "isn't the disk that 'model' means" in why(module, model="Bad Disk")
    assert "isn't the disk that 'confirm' means" in why(module, confirm="Good Disk"), "the serial number says more"
    (tmp_path / "udev/b8:400").unlink()
    assert why(module, confirm="Good Disk") == ""
    assert "it says: nothing" in why(module, confirm="Good Disk", serial="S3Z8")


def test_a_partition_and_what_is_no_disk_are_refused(module: ModuleType, tmp_path: Path) -> None:
    put(tmp_path / "sys/class/block/sdz1", {"dev": "8:401", "partition": "1"})
    put(tmp_path / "sys/class/block/dm-0", {"dev": "253:0"})
    assert "is a partition" in why(module, name="sdz1")
    assert "is no disk" in why(module, name="dm-0")
    assert "is no disk" in why(module, name="sdy")


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("proc/self/mountinfo", "22 1 8:400 / / rw,relatime shared:1 - ext4 /dev/root rw", "mounted at /"),
        ("proc/self/mountinfo", "30 22 8:401 / /boot rw - vfat /dev/sdz1 rw", "mounted at /boot"),
        ("proc/self/mountinfo", "30 22 0:41 / /data rw - btrfs /dev/sdz1 rw", "mounted at /data"),
        ("proc/swaps", "Filename Type Size Used Priority\n/dev/sdz1 partition 1 0 -2", "/dev/sdz1 is swap space"),
        ("sys/class/block/sdz/sdz1/holders/dm-3", "", "sdz1 belongs to dm-3"),
        ("sys/class/block/sdz/holders/md0", "", "sdz belongs to md0"),
    ],
)
def test_a_disk_in_use_is_refused(module: ModuleType, tmp_path: Path, file: str, text: str, reason: str) -> None:
    put(tmp_path, {file: text})
    assert why(module) == f"/dev/sdz is in use: {reason}"


def test_a_small_and_a_locked_disk_are_refused(module: ModuleType, tmp_path: Path) -> None:
    assert why(module, SIZE + 512) == f"/dev/sdz is too small: {SIZE} bytes for an image of {SIZE + 512}"
    put(tmp_path / "sys/class/block/sdz", {"ro": "1"})
    assert why(module) == "/dev/sdz can only be read"
