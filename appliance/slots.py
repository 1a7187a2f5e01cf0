"""The two root slots of an image: which one runs, whether it has proved itself, and putting a bundle into the other.

RAUC keeps ORDER, X_OK and X_TRY in GRUB's environment (https://rauc.readthedocs.io, "GRUB"). X_NEW is ours: only a slot
that hasn't proved itself is counted, so power that comes and goes never leaves a good one.
"""

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import UserError

ENVIRONMENT = Path("/efi/grub/grubenv")
COMMAND_LINE = Path("/proc/cmdline")
NAMES = ("A", "B")
_WRITING = "Copying image to"  # RAUC's progress from when it writes


@dataclass(frozen=True)
class Slot:
    name: str
    confirmed: bool
    other_is_good: bool


def running() -> Slot | None:
    """None where this machine wasn't started from an image."""
    found = re.search(r"\bgatehouse\.slot=([AB])\b", COMMAND_LINE.read_text(encoding="ascii", errors="replace"))
    if not found:
        return None
    name = found[1]
    known = _environment() or _new_environment(name)
    return Slot(name, known.get(f"{name}_NEW") != "1", known.get(f"{_other(name)}_OK") == "1")


def confirm(slot: Slot) -> None:
    """It is started from now on, however often the power goes."""
    if not slot.confirmed:
        _run("rauc", "status", "mark-good")
        _set(**{f"{slot.name}_NEW": "0", f"{slot.name}_TRY": "0"})


def give_up(slot: Slot) -> bool:
    """Whether the machine should start again, from the other slot: a confirmed one stays, and so does the only one."""
    if slot.confirmed or not slot.other_is_good:
        return False
    _set(**{f"{slot.name}_OK": "0", "ORDER": f"{_other(slot.name)} {slot.name}"})
    return True


def install(bundle: Path, tell: Callable[[str], None]) -> str:
    """Name of the slot that is started next. Raises UserError; the running slot is never touched."""
    slot = running()
    if slot is None:
        raise UserError("this machine wasn't started from an image: update it with Ansible's site.yml")
    if not slot.confirmed:
        raise UserError(f"slot {slot.name} hasn't proved itself yet: wait for `gatehouse health`, then try again")
    if not bundle.is_file():
        raise UserError(f"{bundle}: there is no such file")
    lines: list[str] = []
    before = _environment()
    words = ["rauc", "install", str(bundle.resolve())]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ) as rauc:
        for line in rauc.stdout or ():
            lines.append(line.strip())
            tell(lines[-1])
    other = _other(slot.name)
    if rauc.returncode and any(_WRITING in line for line in lines):
        raise UserError(f"{bundle}: failed, slot {other} has to be written again: {_reason(lines)}")
    if rauc.returncode:
        if before and before != _environment():  # the handler before an installation runs before some of RAUC's checks
            _set(**{key: before[key] for key in (f"{other}_NEW", f"{other}_TRY") if key in before})
        raise UserError(f"{bundle}: refused, nothing was changed: {_reason(lines)}")
    return other


def _reason(lines: list[str]) -> str:
    """RAUC's own words: `LastError: …`, else its last line."""
    for line in reversed(lines):
        if (found := re.search(r"LastError:\s*(.+)", line)) is not None:
            return found[1]
    return next((line for line in reversed(lines) if line), "rauc said nothing")


def _other(name: str) -> str:
    return NAMES[1 - NAMES.index(name)]


def _environment() -> dict[str, str]:
    """Empty where it is lost: grub-editenv(1) writes it in place, so power may go between emptying and filling it."""
    try:
        listed = _run("grub-editenv", str(ENVIRONMENT), "list")
    except UserError:
        return {}
    return dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)


def _new_environment(running: str) -> dict[str, str]:
    """GRUB has started `running` without one; nothing is known against the other slot."""
    fresh = {f"{name}_{key}": value for name in NAMES for key, value in (("OK", "1"), ("TRY", "0"), ("NEW", "0"))}
    _run("grub-editenv", str(ENVIRONMENT), "create")
    _set(ORDER=f"{running} {_other(running)}", **fresh)
    return _environment()


def _set(**values: str) -> None:
    _run("grub-editenv", str(ENVIRONMENT), "set", *(f"{key}={value}" for key, value in values.items()))
    os.sync()


def _run(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
    except FileNotFoundError:
        raise UserError(f"{words[0]} isn't installed") from None
    if done.returncode:
        raise UserError(f"{words[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
