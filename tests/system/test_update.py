"""Updates and what goes wrong with them, on the image's own loader, kernel and RAUC: one box from boot to boot.

Each test begins where the one before left the box.
"""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import db
from images import disk, sign
from tests.bench.acct_load import INTERIM, START, Told, session_id
from tests.lab.namespace import wait_until
from tests.system import image as images
from tests.system.box import BOOT_S, Box
from tests.system.image import Image

pytestmark = pytest.mark.system

CYCLES = 5
SESSIONS = 3
MIB = 1 << 20
TRIES = 3  # of a slot that hasn't proved itself, images/grub.cfg
# Twenty seconds are enough for a slot that will never answer.
IMPATIENT = ("gatehouse-health.service", "--wait 180", "--wait 20")
# It starts, takes its configuration as good, and never answers.
SILENT = '#!/bin/sh\ncase " $* " in *" -C"* | *" -XC "* | *" -Cx"*) exit 0 ;; esac\nexec sleep infinity\n'
KNOWN = """
sha256sum /etc/ssh/ssh_host_ed25519_key /etc/machine-id /var/lib/gatehouse/*.key /run/gatehouse/*.secret
gatehouse account list --json | sha256sum
"""


@pytest.fixture(scope="module")
def bundles(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a site may be sent, each a file named for what it is."""
    folder = tmp_path_factory.mktemp("bundles")
    root = images.unpack(image, folder)
    kernel = folder / "kernel"
    (kernel / "boot").mkdir(parents=True)
    (kernel / "vmlinuz").write_bytes((root / "vmlinuz").resolve().read_bytes())
    (kernel / "initrd.img").write_bytes(b"none")  # so the kernel finds no root, and panics
    panics = images.pack(kernel, folder / "panics.squashfs")
    images.bundle(image, panics)
    for name, compatible, signer in (
        ("other-machine", "gatehouse-arm64", None),
        ("other-key", "", sign.development(folder / "other-keys")),
    ):
        slot = folder / f"{name}.squashfs"
        slot.hardlink_to(panics)
        images.bundle(image, slot, compatible, signer)
    good = image.bundle.read_bytes()
    (folder / "cut-short.raucb").write_bytes(good[: len(good) - 2 * MIB])
    (folder / "no-bundle.raucb").write_text("<html>404 Not Found</html>\n")
    _break(root)
    images.bundle(image, images.pack(root, folder / "silent.squashfs"))
    subprocess.run(["rm", "-rf", str(root)], check=True)
    return folder


def _break(root: Path) -> None:
    """RADIUS doesn't answer, and the database gets a column more."""
    (root / "usr/sbin/freeradius").write_text(SILENT)
    unit, old, new = IMPATIENT
    file = root / "usr/lib/systemd/system" / unit
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    (folder,) = root.glob("opt/gatehouse/lib/python3*/site-packages/appliance/migrations")
    (folder / f"{_migrations() + 1:04}_trial.sql").write_text(
        "ALTER TABLE account ADD COLUMN colour TEXT NOT NULL DEFAULT 'none';\n"
    )


def _migrations() -> int:
    return len(db.migrations("appliance.migrations"))


@pytest.fixture(scope="module")
def box(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with_account = Box(image.raw, tmp_path_factory.mktemp("update") / "box")
    try:
        with_account.set_up()
        assert with_account.account(*(told(session) for session in range(SESSIONS))) == SESSIONS
        yield with_account
    finally:
        with_account.cut_power()


def told(session: int, status: int = START, octets: int = 0) -> Told:
    return Told(status, session, "guest", int(time.time()), 60 if status != START else 0, octets, octets)


def slot_digest(box: Box, slot: disk.Partition) -> str:
    return hashlib.sha256(box.read_slot(slot)).hexdigest()


def sessions(box: Box) -> set[str]:
    rows = json.loads(box.ssh("gatehouse session list --all --json"))
    return {row["acct_session_id"] for row in rows}


def serves(box: Box, slot: str) -> None:
    """It is well, and nothing is lost."""
    box.await_ssh(BOOT_S)
    box.await_health()
    assert box.slot() == slot
    assert sessions(box) == {session_id(session) for session in range(SESSIONS)}
    assert box.accepts()
    assert box.account(told(0, INTERIM, 1000)) == 1


def test_what_is_no_update_is_refused_and_changes_nothing(box: Box, bundles: Path) -> None:
    kept = "cat /efi/grub/grubenv /var/lib/rauc/status.raucs 2>/dev/null | sha256sum"
    before, running = box.ssh(kept), slot_digest(box, disk.SLOT_A)
    other = slot_digest(box, disk.SLOT_B)
    for name, reason in (
        ("no-bundle", "not a valid bundle|Invalid|signature"),
        ("other-key", "signature verification failed|self.signed certificate"),
        ("other-machine", "Compatible mismatch"),
        ("cut-short", "signature|Invalid|bundle"),
    ):
        box.put(bundles / f"{name}.raucb", "/var/tmp/update.raucb")
        said = box.fails("gatehouse update /var/tmp/update.raucb 2>/dev/null 2>&1 | tail -1; exit 1")
        print(f"{name}: {said.splitlines()[-1]}")
    assert "there is no such file" in box.fails("gatehouse update /var/tmp/none.raucb")
    assert box.ssh(kept) == before
    assert slot_digest(box, disk.SLOT_A) == running
    assert slot_digest(box, disk.SLOT_B) == other
