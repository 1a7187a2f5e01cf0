"""Updates and what goes wrong with them, on the image's own loader, kernel and RAUC: one box from boot to boot.

Each test begins where the one before left the box.
"""

import hashlib
import json
import random
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import db
from images import disk, sign
from tests.bench.acct_load import INTERIM, START, Told, session_id
from tests.lab.namespace import wait_until
from tests.system import bundles as make
from tests.system.box import BOOT_S, Box
from tests.system.image import unpacked

pytestmark = [pytest.mark.system, pytest.mark.long]

CYCLES = 5
SESSIONS = 3
MIB = 1 << 20
TRIES = 3  # of a slot that hasn't proved itself, images/grub.cfg
# A minute is enough for a slot that will never answer.
PATIENCE = "--wait 60"
# It starts, takes its configuration as good, and never answers.
SILENT = '#!/bin/sh\ncase " $* " in *" -C"* | *" -XC "* | *" -Cx"*) exit 0 ;; esac\nexec sleep infinity\n'
JUNK = random.Random(7).randbytes(MIB)
TARGET = "/var/tmp/update.raucb"
REFUSED = {
    "no-bundle": "Invalid bundle format",
    "cut-short": "Invalid bundle format",
    "other-key": "signature verification failed",
    "other-machine": "ompatible",
}
KNOWN = """
sha256sum /etc/ssh/ssh_host_ed25519_key /etc/machine-id /var/lib/gatehouse/keys/* /run/gatehouse/*.secret
gatehouse account list --json | sha256sum
"""


@pytest.fixture(scope="module")
def bundles(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a site may be sent, each a file named for what it is."""
    folder = tmp_path_factory.mktemp("bundles")
    root, signer = unpacked(image / "disk.raw", folder / "root"), make.signer(image)
    make.bundle(_panics(root, folder), signer)
    make.bundle(_copy(folder, "other-key"), sign.development(folder / "other-keys"))
    make.bundle(_copy(folder, "other-machine"), signer, "gatehouse-arm64")
    whole = (folder / "panics.raucb").read_bytes()
    (folder / "cut-short.raucb").write_bytes(whole[: len(whole) - MIB])
    (folder / "damaged.raucb").write_bytes(whole[:MIB] + bytes(MIB) + whole[2 * MIB :])
    (folder / "no-bundle.raucb").write_text("<html>404 Not Found</html>\n")
    _break(root)
    make.bundle(make.packed(root, folder / "silent.squashfs"), signer)
    shutil.rmtree(root)
    return folder


def _panics(root: Path, folder: Path) -> Path:
    """A slot with a kernel that finds no root."""
    kernel = folder / "kernel"
    kernel.mkdir()
    (kernel / "vmlinuz").write_bytes((root / "vmlinuz").read_bytes())
    (kernel / "initrd.img").write_bytes(b"none")
    return make.packed(kernel, folder / "panics.squashfs")


def _copy(folder: Path, name: str) -> Path:
    slot = folder / f"{name}.squashfs"
    slot.hardlink_to(folder / "panics.squashfs")
    return slot


def _break(root: Path) -> None:
    """RADIUS doesn't answer, and the database gets a column more."""
    (root / "usr/sbin/freeradius").write_text(SILENT)
    unit = root / "usr/lib/systemd/system/gatehouse-health.service"
    text, found = re.subn(r"--wait \d+", PATIENCE, unit.read_text())
    assert found == 1
    unit.write_text(text)
    (folder,) = root.glob("opt/gatehouse/lib/python3*/site-packages/appliance/migrations")
    (folder / f"{_migrations() + 1:04}_trial.sql").write_text(
        "ALTER TABLE account ADD COLUMN colour TEXT NOT NULL DEFAULT 'none';\n"
    )


def _migrations() -> int:
    return len(db.migrations("appliance.migrations"))


@pytest.fixture(scope="module")
def box(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with_account = Box(image / "disk.raw", tmp_path_factory.mktemp("update") / "box")
    try:
        with_account.set_up()
        assert with_account.account(*(told(session) for session in range(SESSIONS))) == SESSIONS
        yield with_account
    finally:
        with_account.cut_power()


def told(session: int, status: int = START, octets: int = 0) -> Told:
    return Told(status, session, "guest", int(time.time()), 60 if status != START else 0, octets, octets)


def digest(box: Box, slot: disk.Partition) -> str:
    return hashlib.sha256(box.read_slot(slot)).hexdigest()


def accounts(box: Box) -> set[str]:
    return {row["name"] for row in json.loads(box.ssh("gatehouse account list --json"))}


def serves(box: Box, slot: str) -> None:
    """It is well, has proved itself, and nothing is lost."""
    box.await_ssh(BOOT_S)
    box.ssh("systemctl start gatehouse-health.service", BOOT_S)  # waits for its end
    box.await_health()
    assert box.slot() == slot
    rows = json.loads(box.ssh("gatehouse session list --all --json"))
    assert {row["acct_session_id"] for row in rows} == {session_id(session) for session in range(SESSIONS)}
    assert box.accepts()
    assert box.account(told(0, INTERIM, 1000)) == 1


def update(box: Box, bundle: Path) -> float:
    """Seconds that the installation took; the machine restarts."""
    box.put(bundle, TARGET)
    started = time.monotonic()
    said = box.ssh(f"gatehouse update {TARGET} --reboot 2>&1", 600, check=False)  # it may close the connection
    assert "Installing done" in said, said
    return time.monotonic() - started


def await_start(box: Box, *slots: str) -> None:
    """That these are all the slots that the boot loader has started since power-on."""
    wait_until(lambda: len(box.starts()) >= len(slots) or not box.is_on(), BOOT_S, f"start of {slots[-1]}")
    assert box.starts() == [*slots], box.console()[-4000:]


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"  {text}", flush=True)


@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=REFUSED)
def test_what_is_no_update_is_refused_and_changes_nothing(box: Box, bundles: Path, name: str, reason: str) -> None:
    kept = "cat /efi/grub/grubenv"
    before, slots = box.ssh(kept), [digest(box, disk.SLOT_A), digest(box, disk.SLOT_B)]
    box.put(bundles / f"{name}.raucb", TARGET)
    line = box.fails(f"gatehouse update {TARGET} --reboot").splitlines()[-1]
    assert line.startswith(f"gatehouse: {TARGET}: refused, nothing was changed: "), line
    assert reason in line
    assert box.ssh(kept) == before
    assert [digest(box, disk.SLOT_A), digest(box, disk.SLOT_B)] == slots


def test_an_update_that_was_damaged_on_its_way_leaves_what_runs(box: Box, bundles: Path) -> None:
    running = digest(box, disk.SLOT_A)
    box.put(bundles / "damaged.raucb", TARGET)
    line = box.fails(f"gatehouse update {TARGET} --reboot").splitlines()[-1]
    assert line.startswith(f"gatehouse: {TARGET}: failed, slot B has to be written again: "), line
    assert "B_OK=0" in box.ssh("grub-editenv /efi/grub/grubenv list")
    assert digest(box, disk.SLOT_A) == running


def test_a_power_cut_in_an_installation_leaves_what_runs(
    box: Box, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box.put(make.good(image), TARGET)
    running = digest(box, disk.SLOT_A)
    said: list[str] = []
    installing = threading.Thread(target=lambda: said.append(box.fails(f"gatehouse update {TARGET}")))
    installing.start()
    try:
        wait_until(lambda: any(box.read_slot(disk.SLOT_B, MIB)) or said, 120, "the installation")
        time.sleep(random.uniform(0.5, 3))
    finally:
        box.cut_power()
        installing.join()
    assert said and "refused" not in said[0], said
    written, whole = box.read_slot(disk.SLOT_B), make.slot(image)
    assert written[: len(whole)] != whole, "it was done already"
    assert box.environment()["B_OK"] == "0"
    assert digest(box, disk.SLOT_A) == running
    box.power_on()
    seconds = box.await_login()
    show(capsys, f"boot to the first Access-Accept: {seconds:.0f} s")
    serves(box, "A")


def test_a_slot_that_does_not_start_gives_way(box: Box, bundles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = update(box, bundles / "panics.raucb")
    await_start(box, "A", *"B" * TRIES, "A")
    show(capsys, f"installed in {seconds:.0f} s")
    serves(box, "A")


def test_a_slot_that_does_not_serve_gives_way_and_the_newer_database_stays(
    box: Box, bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(box.starts())
    seconds = update(box, bundles / "silent.raucb")
    show(capsys, f"installed in {seconds:.0f} s")
    await_start(box, *box.starts()[:before], "B")
    restarted = time.monotonic()
    box.await_ssh(BOOT_S)
    assert box.slot() == "B"
    box.ssh("systemctl start gatehouse-apply.service", BOOT_S)  # waits for its end
    box.ssh("gatehouse account add meanwhile --plan first")
    await_start(box, *box.starts()[:before], "B", "A")
    show(capsys, f"given up {time.monotonic() - restarted:.0f} s after its start")
    box.await_login()
    show(capsys, f"and served again after {time.monotonic() - restarted:.0f} s")
    serves(box, "A")
    box.ssh("gatehouse account add later --plan first")
    assert accounts(box) == {"guest", "meanwhile", "later"}
    assert box.query("SELECT name, colour FROM account") == [[name, "none"] for name in ("guest", "meanwhile", "later")]


def test_an_update_that_serves_is_kept(box: Box, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also while the data disk is away, which no other version would bring back."""
    before, known = len(box.starts()), box.ssh(KNOWN)
    box.ssh("gatehouse enable netflow", BOOT_S)
    restarted = time.monotonic()
    seconds = update(box, make.good(image))
    await_start(box, *box.starts()[:before], "B")
    box.await_login()
    show(capsys, f"installed in {seconds:.0f} s; Access-Accept {time.monotonic() - restarted - seconds:.0f} s later")
    box.await_ssh(BOOT_S)
    box.ssh("systemctl start gatehouse-health.service", BOOT_S)
    assert "data disk" in box.fails("gatehouse health")
    assert "B_NEW=0" in box.ssh("grub-editenv /efi/grub/grubenv list").split()
    box.ssh("gatehouse disable netflow", BOOT_S)
    serves(box, "B")
    assert box.ssh(KNOWN) == known
    assert accounts(box) == {"guest", "meanwhile", "later"}
    box.shut_down()
    environment = box.environment()
    assert [environment[key] for key in ("ORDER", "B_OK", "B_NEW", "A_OK")] == ["B A", "1", "0", "1"]


def test_power_cycles_never_switch_slots(box: Box) -> None:
    before = box.environment()
    for _ in range(CYCLES):
        box.power_on()
        await_start(box, "B")
        time.sleep(random.uniform(0, 15))
        box.cut_power()
    assert box.environment() == before


def test_a_damaged_slot_gives_way_though_the_environment_is_lost_too(box: Box) -> None:
    known, slot = box.read_esp("grub/grubenv"), box.read_slot(disk.SLOT_A, len(JUNK))
    box.write_environment(b"")
    box.write_slot(disk.SLOT_A, JUNK)
    try:
        box.power_on()
        await_start(box, "A", "B")
    finally:
        box.cut_power()
        box.write_slot(disk.SLOT_A, slot)
        box.write_environment(known)


def test_a_damaged_slot_gives_way(box: Box) -> None:
    box.write_slot(disk.SLOT_B, JUNK)
    box.power_on()
    await_start(box, "B", "A")
    serves(box, "A")
    assert box.starts() == ["B", "A"]
    box.cut_power()
    assert box.environment()["B_OK"] == "0"
