"""The detached data disk: which one it is, whether it can be written to, and what to do when not.

It is told by its label, and proven by a marker file that holds its file system's UUID: an empty mount point, somebody
else's disk or a copy has none that fits. The UUID of the disk in use is remembered in `paths.state`.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from appliance import launch
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from appliance.files import written

LABEL = "gatehouse-data"
MARKER = ".gatehouse-disk"
REMEMBERED = "data-disk"  # below `paths.state`
FULL_SHARE = 100  # less than a hundredth left, or less than this:
FULL_BYTES = 64 * 2**20

READY, ABSENT, WRONG, FULL, READ_ONLY, NOT_MOUNTED = "ready", "absent", "wrong", "full", "read-only", "not mounted"

_COLUMNS = "PATH,TYPE,SIZE,MODEL,SERIAL,LABEL,PARTLABEL,UUID,FSTYPE,PTTYPE,RO,MOUNTPOINTS,MAJ:MIN"
_BLKID = ("blkid", "--cache-file", "/dev/null")
_SYSTEM_LABELS = ("gatehouse-esp", "gatehouse-a", "gatehouse-b", "gatehouse-state")
_SYSTEM_MOUNTS = ("/", "/usr", "/var", "/home", "/boot", "/efi", "[SWAP]")


@dataclass(frozen=True)
class Device:
    """A disk, a partition, or what is made of them. `number` is major:minor; `parent` the path of the device below."""

    path: str
    kind: str
    size_bytes: int
    model: str | None
    serial: str | None
    label: str | None
    part_label: str | None
    uuid: str | None
    holds: str | None  # file system or partition table
    read_only: bool
    mounts: tuple[str, ...]
    number: str
    parent: str | None = None


class Mounted(NamedTuple):
    """What is seen below `paths.data`. `broken` is the kernel's word where it can't be read."""

    number: str
    marker: str | None
    read_only: bool
    free_bytes: int
    size_bytes: int
    broken: str = ""


class Verdict(NamedTuple):
    """`remedy` is empty when it is ready."""

    state: str
    remedy: str = ""


def parse(lsblk: Any, blkid: str = "") -> list[Device]:
    """Devices of lsblk's JSON, each after the one it lies on.

    What lsblk doesn't know, as where no udev runs, is taken from `blkid --output export`.
    """
    known = {}
    for block in blkid.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        known[values.get("DEVNAME")] = values
    found = []
    for device in _walk(lsblk["blockdevices"], None):
        read = known.get(device.path, {})
        label, uuid = device.label or read.get("LABEL"), device.uuid or read.get("UUID")
        found.append(replace(device, label=label, uuid=uuid, holds=device.holds or read.get("TYPE")))
    return found


def _walk(nodes: Sequence[Any], parent: Device | None) -> Iterator[Device]:
    for node in nodes:
        device = Device(
            path=node["path"],
            kind=node["type"],
            size_bytes=int(node["size"] or 0),
            model=(node["model"] or (parent.model if parent else None) or "").strip() or None,
            serial=(node["serial"] or (parent.serial if parent else None) or "").strip() or None,
            label=node["label"],
            part_label=node["partlabel"],
            uuid=node["uuid"],
            holds=node["fstype"] or node["pttype"] if node["type"] == "disk" else node["fstype"],
            read_only=bool(node["ro"]),
            mounts=tuple(mount for mount in node["mountpoints"] if mount),
            number=node["maj:min"],
            parent=parent.path if parent else None,
        )
        yield device
        yield from _walk(node.get("children", ()), device)


def family(device: Device, devices: Sequence[Device]) -> list[Device]:
    """All that lies on the same whole disk, itself included."""
    top = device
    while top.parent:
        top = next(other for other in devices if other.path == top.parent)
    found = [top]
    for other in devices:
        if other.parent in [member.path for member in found]:
            found.append(other)
    return found


def is_system(device: Device, devices: Sequence[Device]) -> bool:
    """Whether the machine itself runs from that disk. In an image the root's own device is hidden below an overlay."""
    return any(
        {member.label, member.part_label} & set(_SYSTEM_LABELS)
        or (
            member.label != LABEL
            and any(mount in _SYSTEM_MOUNTS or mount.startswith("/boot/") for mount in member.mounts)
        )
        for member in family(device, devices)
    )


def verdict(devices: Sequence[Device], mounted: Mounted | None, last: str | None, path: Path) -> Verdict:
    """`last` is the UUID of the disk that was used last."""
    if mounted is None:
        return _unmounted([device for device in devices if device.label == LABEL], last)
    if mounted.broken:
        return Verdict(ABSENT, f"it doesn't answer ({mounted.broken}): attach it again, or mend it with fsck.ext4")
    if mounted.marker is None:
        return Verdict(WRONG, f"what is mounted at {path} is no data disk of ours: unmount it")
    uuid = next((device.uuid for device in devices if device.number == mounted.number), None)
    if uuid and uuid != mounted.marker:
        return Verdict(WRONG, f"what is mounted at {path} is a copy of a data disk's files: unmount it")
    if last and mounted.marker != last:
        return Verdict(WRONG, _other(next((d.path for d in devices if d.number == mounted.number), "DEVICE")))
    if mounted.read_only:
        return Verdict(READ_ONLY, "the kernel found errors, or was told so: see dmesg, unmount it, fsck.ext4 -f")
    if mounted.free_bytes < max(FULL_BYTES, mounted.size_bytes // FULL_SHARE):
        return Verdict(FULL, "keep less, or move to a larger disk")
    return Verdict(READY)


def _unmounted(labelled: Sequence[Device], last: str | None) -> Verdict:
    ours = [device for device in labelled if last in (None, device.uuid)]
    if len(ours) > 1:
        return Verdict(WRONG, f"{' and '.join(d.path for d in ours)} both say that they are it: detach one")
    if ours:
        return Verdict(NOT_MOUNTED, f"gatehouse disk use {ours[0].path}")
    if labelled:
        return Verdict(WRONG, _other(labelled[0].path))
    return Verdict(ABSENT, "attach it" if last else "attach an empty disk, then `gatehouse disk init DEVICE`")


def _other(path: str) -> str:
    return f"it isn't the disk that was used before: attach that one, or go on with this: gatehouse disk use {path}"


def why_not(device: Device, devices: Sequence[Device]) -> str:
    """Why a disk must not be formatted by anybody; empty when it may, if its owner says so."""
    if device.kind not in ("disk", "part"):
        return "it is neither a disk nor a partition"
    if is_system(device, devices):
        return "the system is on it"
    below = [d for d in family(device, devices) if d.path == device.path or _is_on(d, device, devices)]
    for member in below:
        if member.mounts:
            return f"{member.path} is mounted at {member.mounts[0]}: unmount it first"
        if member.kind not in ("disk", "part"):
            return f"{member.path} ({member.kind}) lies on it: take that apart first"
    if device.read_only:
        return "it is read-only"
    return "" if device.size_bytes else "there is no medium in it"


def _is_on(device: Device, other: Device, devices: Sequence[Device]) -> bool:
    while device.parent:
        if device.parent == other.path:
            return True
        device = next(d for d in devices if d.path == device.parent)
    return False


# What is there


def devices() -> list[Device]:
    """Raises UserError where they can't be listed."""
    try:
        text = launch.run("lsblk", "--json", "--bytes", "--output", _COLUMNS)
        # Its exit status only says whether it found anything.
        read = subprocess.run([*_BLKID, "--output", "export"], capture_output=True, text=True, check=False).stdout
        return parse(json.loads(text), read)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise UserError(f"the disks can't be listed: {error}") from None


def mounted(path: Path) -> Mounted | None:
    """None where nothing is mounted, so that whatever is written would land on the system's disk."""
    try:
        number = path.stat().st_dev
        if number == path.parent.stat().st_dev:
            return None
        space = os.statvfs(path)
        marker = _line(path / MARKER)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Mounted("", None, False, 0, 0, broken=error.strerror or "error")
    size, free = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
    read_only = bool(space.f_flag & os.ST_RDONLY)
    return Mounted(f"{os.major(number)}:{os.minor(number)}", marker, read_only, free, size)


def _line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def last_used(config: Config) -> str | None:
    return _line(config.paths.state / REMEMBERED)


def remember(config: Config, uuid: str) -> None:
    with written(config.paths.state / REMEMBERED, 0o644, "root", "root") as file:
        file.write(f"{uuid}\n".encode())


def state(config: Config) -> Verdict:
    return verdict(devices(), mounted(config.paths.data), last_used(config), config.paths.data)


def ready(config: Config) -> Path:
    """The disk's folder, to be asked for before each time something is written there.

    Raises Unavailable while it is absent, full or read-only, UserError when it is another disk.
    """
    path, seen = config.paths.data, mounted(config.paths.data)
    found = verdict([], seen, last_used(config), path) if seen else state(config)
    if found.state == READY:
        return path
    kind = UserError if found.state == WRONG else Unavailable
    raise kind(line(found))


def line(found: Verdict) -> str:
    return f"data disk: {found.state}" + (f": {found.remedy}" if found.remedy else "")
