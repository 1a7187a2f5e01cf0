"""Which disk is the data disk, what may be formatted, and what is said when it can't be used."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import data_disk, disk_cli
from appliance.data_disk import LABEL, Device, Mounted, verdict, why_not
from appliance.errors import UserError
from tests.unit.conftest import Gatehouse

ROOT = Path(__file__).parents[2]
PATH = Path("/srv/gatehouse")
OURS, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def node(path: str, kind: str = "disk", *children: Any, mounts: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """As lsblk writes it."""
    keys = ("model", "serial", "label", "partlabel", "uuid", "fstype", "pttype")
    found = {"path": path, "type": kind, "size": 10**12, "ro": False, "maj:min": more.pop("number", "8:0")}
    found |= {"mountpoints": mounts or (None,), **dict.fromkeys(keys), **more}
    return found | ({"children": list(children)} if children else {})


LSBLK = {
    "blockdevices": [
        node(
            "/dev/sda",
            "disk",
            node("/dev/sda1", "part", mounts=("/boot/efi",), fstype="vfat"),
            node("/dev/sda2", "part", node("/dev/mapper/root", "crypt", mounts=("/",)), fstype="crypto_LUKS"),
            node("/dev/sda3", "part"),
            serial="SYSTEM",
        ),
        node("/dev/sdb", label=LABEL, uuid=OURS, fstype="ext4", number="8:16", model="Rotating ", serial="R123"),
        node("/dev/sdc", "disk", node("/dev/sdc1", "part", mounts=("/media/x",), fstype="ntfs"), pttype="dos"),
        node("/dev/sdd", "disk", node("/dev/sdd1", "part", node("/dev/md0", "raid1", fstype="ext4"))),
        node("/dev/sde", serial="E1", model="Empty"),
        node("/dev/sdf", "disk", node("/dev/sdf1", "part", partlabel="gatehouse-a", fstype="squashfs")),
        node("/dev/sdg", ro=True),
        node("/dev/sdh", size=0),
        node("/dev/sr0", "rom"),
    ]
}
DEVICES = data_disk.parse(LSBLK)


def device(path: str) -> Device:
    return next(device for device in DEVICES if device.path == path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/dev/sda", "the system is on it"),
        ("/dev/sda3", "the system is on it"),  # though nobody uses that partition
        ("/dev/sdf", "the system is on it"),  # an image's, whose root is an overlay
        ("/dev/sdc", "/dev/sdc1 is mounted at /media/x"),
        ("/dev/sdc1", "/dev/sdc1 is mounted at /media/x"),
        ("/dev/sdd", "/dev/md0 (raid1) lies on it"),
        ("/dev/sdd1", "/dev/md0 (raid1) lies on it"),
        ("/dev/md0", "neither a disk nor a partition"),
        ("/dev/sdg", "read-only"),
        ("/dev/sdh", "no medium"),
        ("/dev/sr0", "neither a disk nor a partition"),
        ("/dev/sdb", ""),
        ("/dev/sde", ""),
    ],
)
def test_what_must_not_be_formatted(path: str, said: str) -> None:
    reason = why_not(device(path), DEVICES)
    assert said in reason
    assert bool(reason) == bool(said)


GOOD = Mounted("8:16", OURS, False, 10**11, 10**12)


@pytest.mark.parametrize(
    ("mounted", "last", "state", "remedy"),
    [
        (GOOD, OURS, "ready", ""),
        (GOOD, None, "ready", ""),
        (None, OURS, "not mounted", "gatehouse disk use /dev/sdb"),
        (None, None, "not mounted", "gatehouse disk use /dev/sdb"),
        (None, OTHER, "wrong", "isn't the disk that was used before"),
        (GOOD, OTHER, "wrong", "gatehouse disk use /dev/sdb"),
        (GOOD._replace(marker=None), OURS, "wrong", "no data disk of ours"),
        (GOOD._replace(marker=OTHER), OTHER, "wrong", "copy"),
        (GOOD._replace(read_only=True), OURS, "read-only", "fsck"),
        (GOOD._replace(free_bytes=10**9), OURS, "full", "larger disk"),
        (GOOD._replace(free_bytes=10**7, size_bytes=10**8), OURS, "full", "larger disk"),
        (GOOD._replace(broken="Input/output error", marker=None), OURS, "absent", "Input/output error"),
    ],
)
def test_the_state_and_its_remedy(mounted: Mounted | None, last: str | None, state: str, remedy: str) -> None:
    found = verdict(DEVICES, mounted, last, PATH)
    assert found.state == state
    assert remedy in found.remedy
    assert bool(found.remedy) == (state != "ready")
    assert "\n" not in data_disk.line(found)


def test_no_disk_and_two_disks() -> None:
    without = [d for d in DEVICES if d.label != LABEL]
    assert verdict(without, None, None, PATH) == ("absent", "attach an empty disk, then `gatehouse disk init DEVICE`")
    assert verdict(without, None, OURS, PATH) == ("absent", "attach it")
    twin = replace(device("/dev/sdb"), path="/dev/sdx")
    assert verdict([*DEVICES, twin], None, OURS, PATH).state == "wrong"
    assert "/dev/sdb and /dev/sdx" in verdict([*DEVICES, twin], None, OURS, PATH).remedy
    other = replace(twin, uuid=OTHER)
    assert verdict([*DEVICES, other], None, OURS, PATH) == ("not mounted", "gatehouse disk use /dev/sdb")


def test_what_lsblk_does_not_know_is_read_from_the_disk() -> None:
    text = f"DEVNAME=/dev/sde\nLABEL={LABEL}\nUUID={OTHER}\nTYPE=ext4\n\nDEVNAME=/dev/sdb\nLABEL=old\nTYPE=x\n"
    found = {device.path: device for device in data_disk.parse(LSBLK, text)}
    assert (found["/dev/sde"].label, found["/dev/sde"].uuid, found["/dev/sde"].holds) == (LABEL, OTHER, "ext4")
    assert (found["/dev/sdb"].label, found["/dev/sdb"].uuid, found["/dev/sdb"].holds) == (LABEL, OURS, "ext4")


def test_this_machines_own_disks_are_read() -> None:
    found = data_disk.devices()
    assert all(device.path.startswith("/dev/") and ":" in device.number for device in found)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    return path


def test_a_formatted_disk_has_label_and_marker_from_the_start(image: Path) -> None:
    assert disk_cli.signatures(image) == ""
    name = disk_cli.make(image)

    def ask(command: str) -> str:
        return subprocess.run(["debugfs", "-R", command, image], capture_output=True, text=True, check=True).stdout

    assert ask(f"cat /{data_disk.MARKER}").strip() == name
    assert f"Filesystem UUID:          {name}" in ask("stats -h")
    assert f"Filesystem volume name:   {LABEL}" in ask("stats -h")
    assert "Mode:  0755" in ask("stat /")
    subprocess.run(["fsck.ext4", "-fn", image], check=True, capture_output=True)
    assert disk_cli.signatures(image) == f"ext4 {LABEL}"


def test_what_a_disk_holds_is_read_from_it(image: Path) -> None:
    subprocess.run(["sfdisk", "-q", image], input="label: gpt\n,10M\n", text=True, check=True, capture_output=True)
    assert "gpt" in disk_cli.signatures(image)
    disk_cli.make(image)
    assert "gpt" not in disk_cli.signatures(image)  # nor the copy at its end
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
        file.seek(1000)
        file.write(b"something")
    assert disk_cli.signatures(image) == "data of an unknown kind"
    with pytest.raises(UserError, match="can't be read"):
        disk_cli.signatures(image / "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root formats disks")
@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
class TestInit:
    """On a plain file: neither loop devices nor spare disks are here, so mounting is left out."""

    @pytest.fixture(autouse=True)
    def disk(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        mine = replace(device("/dev/sde"), path=str(image))
        monkeypatch.setattr(data_disk, "devices", lambda: [*DEVICES, mine])
        monkeypatch.setattr(disk_cli, "_mount", lambda *_: None)
        return image

    def test_an_empty_disk_needs_no_yes(self, gatehouse: Gatehouse, disk: Path, tmp_path: Path) -> None:
        assert gatehouse("disk", "init", str(disk))[0] == 0
        assert disk_cli.signatures(disk) == f"ext4 {LABEL}"
        assert len((tmp_path / "state" / data_disk.REMEMBERED).read_text().strip()) == len(OURS)

    @pytest.mark.parametrize(
        ("words", "stdin", "status"),
        [
            (("--yes", "E1"), "", 0),
            (("--yes", "E2"), "", 1),
            (("--yes", ""), "", 1),
            ((), "E1\n", 0),
            ((), "y\n", 1),
            ((), "", 1),
        ],
    )
    def test_data_is_erased_only_for_who_names_the_disk(
        self, gatehouse: Gatehouse, disk: Path, words: tuple[str, ...], stdin: str, status: int
    ) -> None:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "holiday", disk], check=True)
        before = disk.read_bytes()
        done, _, said = gatehouse("disk", "init", str(disk), *words, stdin=stdin)
        assert done == status
        assert (disk.read_bytes() == before) == (status == 1)
        assert ("holds ext4 holiday" in said and "E1" in said) == (status == 1)

    @pytest.mark.parametrize("path", ["/dev/sda", "/dev/sdc1", "/dev/none"])
    def test_refused(self, gatehouse: Gatehouse, path: str) -> None:
        assert gatehouse("disk", "init", path, "--yes", "SYSTEM")[0] == 1

    def test_list(self, gatehouse: Gatehouse) -> None:
        text = gatehouse("disk", "list")[1]
        assert "/dev/sda" in text
        assert "the system" in text
        assert text.endswith("data disk: not mounted: gatehouse disk use /dev/sdb")
        found = json.loads(gatehouse("disk", "list", "--json")[1])
        assert (found["state"], found["path"]) == ("not mounted", "/srv/gatehouse")
        assert {row["device"]: row["system"] for row in found["disks"]}["/dev/sda3"] is True

    def test_status_has_a_line_once_there_has_been_one(
        self, gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert "data disk: not mounted" in gatehouse("status")[1]
        monkeypatch.setattr(data_disk, "devices", lambda: [device("/dev/sda")])
        assert "data disk" not in gatehouse("status")[1]
        (tmp_path / "state" / data_disk.REMEMBERED).write_text(OURS)
        assert "data disk: absent: attach it" in gatehouse("status")[1]


ASK = """
import sys
from dataclasses import replace
from pathlib import Path
from appliance import config, data_disk
from appliance.errors import UserError
base = config.Config()
paths = replace(base.paths, state=Path(sys.argv[1]), data=Path(sys.argv[2]))
try:
    print(data_disk.ready(replace(base, paths=paths)))
except UserError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize(
    ("mounting", "last", "said"),
    [
        ("", OURS, "Unavailable data disk: absent: attach it"),
        ("rm -r $DATA", OURS, "Unavailable data disk: absent: attach it"),
        ("mount --bind $DATA $DATA", OURS, "Unavailable data disk: absent"),  # it is still the system's disk
        ("mount -t tmpfs -o size=1g x $DATA", OURS, "UserError data disk: wrong: what is mounted"),
        ("mount -t tmpfs -o size=1g x $DATA; MARK", OURS, "$DATA"),
        ("mount -t tmpfs -o size=1g x $DATA; MARK", "", "$DATA"),
        ("mount -t tmpfs -o size=1g x $DATA; MARK", OTHER, "UserError data disk: wrong: it isn't the disk"),
        (
            "mount -t tmpfs -o size=1g x $DATA; MARK; mount -o remount,ro $DATA",
            OURS,
            "Unavailable data disk: read-only",
        ),
        ("mount -t tmpfs -o size=80m x $DATA; MARK; fallocate -l 20m $DATA/x", OURS, "Unavailable data disk: full"),
        ("MARK", OURS, "Unavailable data disk: absent"),  # left in the empty mount point
    ],
)
def test_ready_means_that_what_is_written_lands_on_the_disk(
    tmp_path: Path, mounting: str, last: str, said: str
) -> None:
    state, data = tmp_path / "state", tmp_path / "data"
    state.mkdir()
    data.mkdir()
    (state / data_disk.REMEMBERED).write_text(f"{last}\n")
    mark = f"echo {OURS} >$DATA/{data_disk.MARKER}"
    script = f'set -e; {mounting.replace("MARK", mark)}\nexec {sys.executable} -c "$ASK" {state} $DATA'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=ROOT,
        env={**os.environ, "DATA": str(data), "ASK": ASK},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(said.replace("$DATA", str(data)))


MADE = """
import pathlib, sys
from appliance import apply
from appliance.config import Config, Paths
from collector.module import NETFLOW
state, data = map(pathlib.Path, sys.argv[1:])
apply.make_on_disk(Config(paths=Paths(state=state, data=data)), [NETFLOW])
for path in data.iterdir():
    print(path.name, path.owner(), path.group(), oct(path.stat().st_mode & 0o7777)) if path.is_dir() else None
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize(
    ("mounting", "said"),
    [
        ("mount -t tmpfs -o size=1g x $DATA; MARK", "flows gatehouse-collector gatehouse-collector 0o2750\n"),
        ("MARK", ""),  # nothing is made in the empty mount point
    ],
)
def test_folders_are_made_on_the_disk_and_nowhere_else(tmp_path: Path, mounting: str, said: str) -> None:
    state, data = tmp_path / "state", tmp_path / "data"
    state.mkdir()
    data.mkdir()
    mark = f"echo {OURS} >$DATA/{data_disk.MARKER}"
    script = f'set -e; {mounting.replace("MARK", mark)}\nexec {sys.executable} -c "$ASK" {state} $DATA'
    environment = {**os.environ, "DATA": str(data), "ASK": MADE}
    words = ("unshare", "--mount", "sh", "-c", script)
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == said
