"""What went wrong with the disk, for as long as it may be wrong."""

import errno
import logging
import time
from pathlib import Path

import peewee

from appliance.vault.models import Fault, Refused, sql

DISK, SCRUB = "disk", "scrub"  # kinds
_FAILING = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ESTALE)
_MOUNTS = Path("/proc/self/mountinfo")

log = logging.getLogger(__name__)


def refusal(place: Path, what: str, error: OSError) -> Refused:
    """What a client is told of it. What only a failing disk says marks it as suspect."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(452, "the data disk is full")
    if error.errno == errno.EROFS:
        return Refused(451, "the data disk is read-only")
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
        return Refused(451, "the data disk is away")
    words = error.strerror or str(error)
    if error.errno not in _FAILING:  # too many open files, or somebody who may only read
        log.warning("%s: %s", what, words)
        return Refused(451, f"the data disk can't be written: {words}")
    suspect(place, f"{what}: {words}")
    return Refused(451, f"the data disk failed: {words}")


def suspect(place: Path, text: str) -> None:
    """Nothing more is taken until it was attached anew, or somebody has looked at it: after a failed fsync the kernel
    takes pages for written that are not (fsync(2)), so that trying again would prove nothing."""
    log.error("the data disk is suspect: %s", text)
    try:
        Fault.create(kind=DISK, subject=str(place), text=text, at_ms=_now_ms(), mount=mount(place))
    except peewee.PeeweeException:
        log.exception("that can't be kept")


def check(place: Path) -> None:
    """Raises Refused while the disk is suspect."""
    found = sql("SELECT mount, text, subject FROM fault WHERE kind = ? AND over_ms IS NULL", DISK).fetchall()
    for where, text, subject in found:
        if where == mount(place):
            raise Refused(451, f"the data disk is suspect ({text}): attach it anew, or see `gatehouse vault trust`")
        close(DISK, subject)


def close(kind: str, subject: str | None = None) -> int:
    """How many are over with this."""
    which = (Fault.kind == kind) & Fault.over_ms.is_null()
    if subject is not None:
        which &= Fault.subject == subject
    return int(Fault.update(over_ms=_now_ms()).where(which).execute())


def open_faults() -> list[Fault]:
    return list(Fault.select().where(Fault.over_ms.is_null()).order_by(Fault.at_ms))


def mount(place: Path) -> str:
    """Which mounting of which disk a folder lies on: it differs once that was attached anew (proc_pid_mountinfo(5))."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    best = ("", "")
    for line in _MOUNTS.read_text(encoding="utf-8").splitlines():
        number, _, _, _, point, *_ = line.split()
        point = point.replace("\\040", " ")
        if place.is_relative_to(point) and len(point) >= len(best[1]):
            best = (number, point)
    return f"{boot}:{best[0]}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
