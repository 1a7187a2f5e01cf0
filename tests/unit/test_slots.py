"""Root slots: GRUB's environment by the real grub-editenv(1); RAUC, which needs an image, is a script that says what
the real one says. tests/system/test_update.py has the real one."""

import subprocess
from pathlib import Path

import pytest

from appliance import slots
from appliance.errors import UserError
from appliance.slots import Slot

ROOT = Path(__file__).parents[2]
STATE = {"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "A_NEW": "0", "B_OK": "1", "B_TRY": "1", "B_NEW": "1"}


class Box:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._programs = folder / "bin"
        self._programs.mkdir()
        self.asked = folder / "asked"
        monkeypatch.setenv("PATH", f"{self._programs}:/usr/sbin:/usr/bin:/sbin:/bin")
        monkeypatch.setattr(slots, "ENVIRONMENT", folder / "grubenv")
        monkeypatch.setattr(slots, "COMMAND_LINE", folder / "cmdline")
        subprocess.run(["grub-editenv", str(folder / "grubenv"), "create"], check=True)
        self.rauc("echo installing", "echo 100% Installing done.")
        self.started("A", **STATE)

    def started(self, name: str, **environment: str) -> None:
        (self._folder / "cmdline").write_text(f"BOOT_IMAGE=/vmlinuz ro gatehouse.slot={name} rauc.slot={name} quiet\n")
        slots._set(**environment)

    def rauc(self, *lines: str) -> None:
        self.program("rauc", *lines)

    def program(self, name: str, *lines: str) -> None:
        """Its words are written down."""
        script = self._programs / name
        script.write_text("\n".join(["#!/bin/sh", f'echo "$@" >>{self.asked}', *lines, ""]))
        script.chmod(0o755)

    def environment(self) -> dict[str, str]:
        return slots._environment()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


def test_a_machine_that_is_no_image_has_no_slots(box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("BOOT_IMAGE=/vmlinuz root=/dev/sda1 notgatehouse.slot=A\n")
    monkeypatch.setattr(slots, "COMMAND_LINE", tmp_path / "plain")
    assert slots.running() is None
    with pytest.raises(UserError, match="wasn't started from an image"):
        slots.install(tmp_path / "x.raucb", print)


def test_which_slot_runs_and_whether_it_was_kept(box: Box) -> None:
    assert slots.running() == Slot("A", confirmed=True, other_is_good=True)
    box.started("B")
    assert slots.running() == Slot("B", confirmed=False, other_is_good=True)


def test_a_new_slot_that_serves_is_kept(box: Box) -> None:
    box.started("B")
    slot = slots.running()
    assert slot
    slots.confirm(slot)
    assert box.asked.read_text() == "status mark-good\n"
    assert box.environment() == STATE | {"B_TRY": "0", "B_NEW": "0"}
    assert slots.running() == Slot("B", confirmed=True, other_is_good=True)


def test_a_new_slot_that_does_not_serve_gives_way(box: Box) -> None:
    box.started("B")
    slot = slots.running()
    assert slot
    assert slots.give_up(slot)
    assert box.environment() == STATE | {"B_OK": "0", "ORDER": "A B"}


def test_a_slot_that_was_kept_stays_whatever_fails(box: Box) -> None:
    slot = slots.running()
    assert slot
    assert not slots.give_up(slot)
    assert box.environment() == STATE


def test_the_only_slot_stays(box: Box) -> None:
    box.started("B", A_OK="0")
    slot = slots.running()
    assert slot
    assert not slots.give_up(slot)
    assert box.environment()["B_OK"] == "1"


def test_a_bundle_goes_into_the_other_slot(box: Box, tmp_path: Path) -> None:
    bundle = tmp_path / "new.raucb"
    bundle.touch()
    told: list[str] = []
    assert slots.install(bundle, told.append) == "B"
    assert told == ["installing", "100% Installing done."]
    assert box.asked.read_text() == f"install {bundle}\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["echo LastError: signature verification failed: bad", "echo bye", "exit 1"], "signature verification failed"),
        (["echo '  0% Installing'", "echo Failed to connect", "exit 1"], "Failed to connect"),
        (["exit 1"], "rauc said nothing"),
    ],
)
def test_a_bundle_that_is_refused(box: Box, tmp_path: Path, lines: list[str], said: str) -> None:
    bundle = tmp_path / "bad.raucb"
    bundle.touch()
    box.rauc(*lines)
    with pytest.raises(UserError, match=f"refused, nothing was changed: {said}"):
        slots.install(bundle, lambda line: None)


def test_no_update_before_the_last_one_has_proved_itself(box: Box, tmp_path: Path) -> None:
    box.started("B")
    with pytest.raises(UserError, match="slot B hasn't proved itself"):
        slots.install(tmp_path / "x.raucb", print)
    box.started("A")
    with pytest.raises(UserError, match="there is no such file"):
        slots.install(tmp_path / "x.raucb", print)


@pytest.mark.parametrize("left", ["", "garbage"])
def test_an_environment_that_power_took_is_made_anew(box: Box, left: str) -> None:
    box.started("B")
    slots.ENVIRONMENT.write_text(left)
    assert slots.running() == Slot("B", confirmed=True, other_is_good=True)
    assert box.environment() == STATE | {"ORDER": "B A", "B_TRY": "0", "B_NEW": "0"}


def test_a_bundle_that_is_refused_late_leaves_the_other_slot_as_it_was(box: Box, tmp_path: Path) -> None:
    """RAUC asks whether it is for this machine after the handler that begins a trial."""
    bundle = tmp_path / "other.raucb"
    bundle.touch()
    box.started("A", B_NEW="0", B_TRY="0")
    before = box.environment()
    box.rauc(f"grub-editenv {slots.ENVIRONMENT} set B_NEW=1", "echo LastError: Compatible mismatch", "exit 1")
    with pytest.raises(UserError, match="refused, nothing was changed: Compatible mismatch"):
        slots.install(bundle, lambda line: None)
    assert box.environment() == before


def test_what_broke_off_does_not_say_that_nothing_was_changed(box: Box, tmp_path: Path) -> None:
    bundle = tmp_path / "damaged.raucb"
    bundle.touch()
    box.started("A", B_NEW="0")
    writing = "echo ' 40% Copying image to rootfs.1'"
    box.rauc(f"grub-editenv {slots.ENVIRONMENT} set B_OK=0", writing, "echo LastError: read error", "exit 1")
    with pytest.raises(UserError, match="failed, slot B has to be written again: read error"):
        slots.install(bundle, lambda line: None)


@pytest.mark.parametrize(
    ("changes", "restarts"),
    [({}, True), ({"B_NEW": "0"}, False), ({"A_OK": "0"}, False)],
    ids=["on trial", "kept", "the only one"],
)
def test_a_check_that_ends_badly_ends_the_trial(
    box: Box, tmp_path: Path, changes: dict[str, str], restarts: bool
) -> None:
    """The script of the image, told where this machine's files are."""
    box.started("B", **STATE | changes)
    script = (ROOT / "images/rootfs/usr/lib/gatehouse/end-trial").read_text()
    for known, here in (("/efi/grub/grubenv", slots.ENVIRONMENT), ("/proc/cmdline", slots.COMMAND_LINE)):
        assert str(known) in script
        script = script.replace(str(known), str(here))
    box.program("systemctl")
    subprocess.run(["sh", "-c", script], check=True)
    assert box.asked.exists() == restarts
