"""The data disk comes, goes, is full or the wrong one: it is said truthfully, and RADIUS doesn't care. One box."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.namespace import run, wait_until
from tests.system.box import BOOT_S, Box

pytestmark = [pytest.mark.system, pytest.mark.long]

MIB = 512
LABEL, MARKER = "gatehouse-data", ".gatehouse-disk"
MOUNT = "/srv/gatehouse"
SLOW, SLOW_RULE = Path("/run/udev/rules.d/99-slow.rules"), 'SUBSYSTEM=="block", PROGRAM="/bin/sleep 5"'
FILL = f"fallocate -l 100M {MOUNT}/much && until ! fallocate -l 8M {MOUNT}/more-$((n+=1)) 2>/dev/null; do :; done"


@pytest.fixture(scope="module")
def box(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(image / "disk.raw", tmp_path_factory.mktemp("data-disk") / "box")
    try:
        box.set_up()
        yield box
    finally:
        box.cut_power()


@pytest.fixture(scope="module")
def disk(box: Box) -> Path:
    return box.new_disk("data", MIB)


def said(box: Box) -> str:
    """What `status` and `disk list` say of it, which is the same; RADIUS answers, and no unit has failed."""
    told = box.ssh("gatehouse status && gatehouse disk list && systemctl --failed --plain --no-legend")
    (line,) = {line for line in told.splitlines() if line.startswith("data disk: ")}
    assert told.endswith(f"{line}\n"), told
    assert box.accepts()
    return line


def await_word(box: Box, word: str) -> str:
    wait_until(lambda: f"data disk: {word}" in box.ssh("gatehouse disk list"), 60, f"data disk: {word}")
    return said(box)


def nothing_lands_in_the_empty_mount_point(box: Box) -> None:
    assert box.ssh(f"findmnt --noheadings {MOUNT} || true") == ""
    assert box.ssh(f"ls -A {MOUNT}") == ""
    assert "Read-only file system" in box.fails(f"touch {MOUNT}/lost")


def labelled(file: Path, marker: str | None) -> Path:
    """A file system that says by its label that it is the data disk."""
    root = file.with_suffix(".root")
    root.mkdir()
    name = str(uuid.uuid4())
    if marker is not None:
        (root / MARKER).write_text(f"{marker or name}\n")
    run("mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-U", name, "-d", str(root), str(file))
    return file


def test_without_one_nothing_waits_for_it(box: Box) -> None:
    told = box.ssh("gatehouse disk list")
    assert "data disk: absent: attach an empty disk, then `gatehouse disk init DEVICE`" in told
    assert "data disk" not in box.ssh("gatehouse status")  # nobody has ever wanted one
    assert "Timed out waiting for device" not in box.ssh("journalctl --boot --no-pager")
    nothing_lands_in_the_empty_mount_point(box)


def test_an_empty_one_becomes_it(box: Box, disk: Path) -> None:
    """Also where udev is slow, and still looks at the empty disk while the file system is made."""
    box.plug_disk(disk)
    wait_until(lambda: "/dev/vdb" in box.ssh("gatehouse disk list"), 60, "the disk")
    box.ssh(f"mkdir -p {SLOW.parent} && echo '{SLOW_RULE}' >{SLOW} && udevadm control --reload")
    try:
        assert box.ssh("gatehouse disk init /dev/vdb", BOOT_S) == "data disk: ready\n"
    finally:
        box.ssh(f"rm {SLOW} && udevadm control --reload")
    assert said(box) == "data disk: ready"
    box.ssh(f"echo kept >{MOUNT}/kept && sync")


def test_one_that_is_pulled_is_absent_till_it_is_put_back(box: Box, disk: Path) -> None:
    box.pull_disk()
    assert await_word(box, "absent") == "data disk: absent: attach it"
    nothing_lands_in_the_empty_mount_point(box)
    box.plug_disk(disk)
    assert await_word(box, "ready") == "data disk: ready"
    assert box.ssh(f"cat {MOUNT}/kept") == "kept\n"


def test_a_full_one_says_so(box: Box) -> None:
    box.ssh(f"n=0; {FILL}")
    assert said(box).startswith("data disk: full: ")
    box.ssh(f"rm {MOUNT}/more-* {MOUNT}/much")
    assert said(box) == "data disk: ready"


def test_it_is_there_after_a_restart(box: Box) -> None:
    started = len(box.starts())
    box.ssh("systemctl --no-block reboot")
    wait_until(lambda: len(box.starts()) > started, BOOT_S, "the restart")
    box.await_ssh(BOOT_S)
    box.await_health()
    assert said(box) == "data disk: ready"
    assert box.ssh(f"cat {MOUNT}/kept") == "kept\n"


@pytest.mark.parametrize(
    ("marker", "word"),
    [
        (None, "no data disk of ours"),
        ("11111111-1111-4111-8111-111111111111", "a copy of a data disk's files"),
        ("", "it isn't the disk that was used before"),
    ],
    ids=["somebody-elses", "copy", "another"],
)
def test_a_wrong_one_is_told(box: Box, marker: str | None, word: str) -> None:
    box.pull_disk()
    await_word(box, "absent")
    file = labelled(box.new_disk(f"wrong-{uuid.uuid4().hex[:8]}", MIB), marker)
    box.plug_disk(file)
    assert word in await_word(box, "wrong")
