"""flash.yml on disks that are files: what it writes, and what it refuses before a byte is written."""

import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.lab.namespace import run
from tests.system.ansible_host import Recap, play

pytestmark = pytest.mark.system

MIB = 2**20
SIZE = 40 * MIB
HANDBOOK = Path(__file__).resolve().parents[2] / "docs/image.md"
ESP_START, ESP_SECTORS = 4096, 65536
FACTS = {"ssh_authorized_keys": ["ssh-ed25519 AAAA technician"]}
CONFIG = {"site": {"name": "Café “Nord”", "timezone": "Europe/Prague"}, "dhcp": {"dns": ["192.0.2.53"]}}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny disk with the partitions that matter here, packed; its list of checksums lies beside it."""
    folder = tmp_path_factory.mktemp("image")
    raw, esp = folder / "tiny.raw", folder / "esp"
    esp.write_bytes(bytes(ESP_SECTORS * 512))
    run("mkfs.vfat", str(esp))
    raw.write_bytes(os.urandom(SIZE))
    table = f"label: gpt\nstart=2048,size=2048,name=bios\nstart={ESP_START},size={ESP_SECTORS},name=gatehouse-esp\n"
    table += "".join(f"size=2048,name=gatehouse-{name}\n" for name in ("a", "b", "state"))
    run("sfdisk", "--quiet", "--wipe=always", str(raw), stdin=table)
    with raw.open("r+b") as file:
        file.seek(ESP_START * 512)
        file.write(esp.read_bytes())
    run("zstd", "-q", str(raw))
    packed = raw.with_suffix(".raw.zst")
    listed(packed)
    return packed


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Larger than the image, and full of something else."""
    path = tmp_path / "disk"
    path.write_bytes(b"other" * (12 * MIB))
    return path


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.yml"
    variables = {"gatehouse_provision": FACTS, "gatehouse_config": CONFIG, "gatehouse_modules": ["hotspot"]}
    hosts = {"cafe-nord.example": variables, "other": {}}
    path.write_text(json.dumps({"gatehouse": {"hosts": hosts}}), encoding="utf-8")
    return path


def listed(*files: Path) -> None:
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    files[0].with_name("SHA256SUMS").write_text("".join(lines), encoding="ascii")


def flash(inventory: Path, image: Path, target: Path, confirm: str = "", limit: str = "cafe-*", **more: str) -> Recap:
    named = {"image": str(image), "target": str(target), "confirm": confirm or str(target)} | more
    return play("flash", inventory, "--limit", limit, **{f"gatehouse_flash_{k}": v for k, v in named.items()})


def partitions(disk: Path) -> dict[str, str]:
    """GUIDs by name, the disk's own by the empty one."""
    table = json.loads(run("sfdisk", "--json", str(disk)).stdout)["partitiontable"]
    return {"": table["id"]} | {part["name"]: part["uuid"] for part in table["partitions"]}


def content(disk: Path, start: int, sectors: int) -> bytes:
    with disk.open("rb") as file:
        file.seek(start * 512)
        return file.read(sectors * 512)


def test_what_is_written(inventory: Path, image: Path, disk: Path) -> None:
    done = flash(inventory, image, disk)
    assert done.status == 0, done.text
    assert "writing 100 %" in done.text
    assert "reading back 100 %" in done.text
    raw = image.with_suffix("")
    assert content(disk, 2048, 2048) == content(raw, 2048, 2048)
    after = ESP_START + ESP_SECTORS
    assert content(disk, after, SIZE // 512 - after - 34) == content(raw, after, SIZE // 512 - after - 34)
    before, now = partitions(raw), partitions(disk)
    assert before.keys() == now.keys()
    assert not set(before.values()) & set(now.values()), "GUIDs of the image are on the disk"
    assert "No errors detected" in run("sfdisk", "--verify", str(disk)).stdout
    assert disk.stat().st_size == 60 * MIB
    site = run("mtype", "-i", f"{disk}@@{ESP_START * 512}", "::/provision/site.toml").stdout
    assert tomllib.loads(site) == {"provision": {"hostname": "cafe-nord", "modules": ["hotspot"], **FACTS}, **CONFIG}


def test_two_disks_are_two(inventory: Path, image: Path, tmp_path: Path) -> None:
    """Also where a file is made; an unpacked image is taken too."""
    raw = image.with_suffix("")
    listed(image, raw)
    for name, source in (("one", image), ("two", raw)):
        done = flash(inventory, source, tmp_path / name)
        assert done.status == 0, done.text
    one, two = partitions(tmp_path / "one"), partitions(tmp_path / "two")
    assert not set(one.values()) & set(two.values())


def test_by_hand_two_disks_are_two_as_well(image: Path, tmp_path: Path) -> None:
    found = re.search(r"By hand:\n\n```\n(.*?)^```", HANDBOOK.read_text(encoding="utf-8"), re.M | re.S)
    assert found
    made = []
    for disk in (tmp_path / "one", tmp_path / "two"):
        lines = found[1].replace("gatehouse-VERSION-amd64.raw.zst", image.name).replace("/dev/DISK", str(disk))
        run("sh", "-euc", f"cd {image.parent}\n{lines}")
        made.append(partitions(disk))
        assert "No errors detected" in run("sfdisk", "--verify", str(disk)).stdout
    raw, one, two = partitions(image.with_suffix("")), *made
    assert raw.keys() == one.keys() == two.keys()
    assert len({*raw.values(), *one.values(), *two.values()}) == 3 * len(raw)


def refused(recap: Recap, disk: Path, *words: str) -> None:
    assert recap.status != 0, recap.text
    for word in words:
        assert word in recap.text, recap.text
    assert disk.read_bytes() == b"other" * (12 * MIB), "something was written"


def test_a_wrong_checksum_is_refused(inventory: Path, image: Path, disk: Path, tmp_path: Path) -> None:
    sums = tmp_path / "SHA256SUMS"
    other = tmp_path / image.name
    other.write_bytes(image.read_bytes())
    sums.write_text(f"{'0' * 64}  {image.name}\n", encoding="ascii")
    refused(flash(inventory, other, disk), disk, "its SHA-256 isn't the one in the list")
    sums.write_text(f"{'0' * 64}  another.raw\n", encoding="ascii")
    refused(flash(inventory, other, disk), disk, f"{image.name} isn't listed there")


def test_a_truncated_image_is_refused_even_with_its_checksum(
    inventory: Path, image: Path, disk: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.raw.zst"
    cut.write_bytes(image.read_bytes()[:-4000])
    listed(cut)
    refused(flash(inventory, cut, disk), disk, "cut off or damaged")


def test_another_disk_than_confirmed_is_refused(inventory: Path, image: Path, disk: Path) -> None:
    refused(flash(inventory, image, disk, confirm="S3Z8NB0K123456"), disk, "isn't what is confirmed")
    refused(flash(inventory, image, disk, serial="S3Z8NB0K123456"), disk, "neither serial number nor model")
    refused(flash(inventory, image, disk, limit="all"), disk, "One box at a time")


def test_a_small_disk_is_refused(inventory: Path, image: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(SIZE - 512))
    done = flash(inventory, image, small)
    assert done.status != 0
    assert f"too small: {SIZE - 512} bytes for an image of {SIZE}" in done.text
    assert not any(small.read_bytes())


def test_a_disk_that_is_not_there_is_not_made(inventory: Path, image: Path) -> None:
    missing = Path("/dev/gatehouse-no-such-disk")
    assert "there is no such disk" in flash(inventory, image, missing).text
    assert not missing.exists()


def test_check_mode_writes_nothing(inventory: Path, image: Path, disk: Path) -> None:
    named = {"image": str(image), "target": str(disk), "confirm": str(disk)}
    done = play(
        "flash", inventory, "--limit", "cafe-*", "--check", **{f"gatehouse_flash_{k}": v for k, v in named.items()}
    )
    assert done.status == 0, done.text
    assert done.count("changed") == 1
    assert disk.read_bytes() == b"other" * (12 * MIB)
