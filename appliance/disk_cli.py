"""`gatehouse disk`: the disks of this machine, and which of them is the data disk."""

import argparse
import json
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance import apply, data_disk, launch, modules, systemd_units
from appliance.config import Config
from appliance.data_disk import Device
from appliance.errors import UserError
from appliance.tables import show
from appliance.units import format_bytes

_LOOKED_AT_BYTES = 2**20
_OPTIONS = "noatime,nodev,nosuid,noexec"
_UDEV = Path("/run/udev/control")  # there while it runs


def add_parser(commands: Any) -> None:
    verbs = commands.add_parser("disk", help="the data disk, and the disks there are").add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    words = verbs.add_parser("list", help="all disks, and what to do when the data disk can't be used")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_list, needs_core=False)
    words = verbs.add_parser("init", help="make a disk the data disk: it is formatted")
    words.add_argument("device", type=Path, metavar="DEVICE")
    words.add_argument(
        "--yes", metavar="SERIAL", help="its serial number, or its name: all that it holds may be erased"
    )
    words.set_defaults(run=_init, needs_core=False)
    words = verbs.add_parser("use", help="go on with a data disk that was made before, as of another machine")
    words.add_argument("device", type=Path, metavar="DEVICE")
    words.set_defaults(run=_use, needs_core=False)


def _list(args: argparse.Namespace, config: Config) -> str:
    devices = data_disk.devices()
    found = data_disk.verdict(
        devices, data_disk.mounted(config.paths.data), data_disk.last_used(config), config.paths.data
    )
    rows = [_row(device, devices) for device in devices if device.kind in ("disk", "part") and device.size_bytes]
    if args.json:
        state = {"state": found.state, "remedy": found.remedy, "path": str(config.paths.data)}
        return json.dumps({**state, "disks": rows}, indent=2)
    shown = [{**row, "size": format_bytes(int(str(row["size_bytes"])))} for row in rows]
    table = show(shown, ("device", "size", "model", "serial", "label", "holds"), False)
    return f"{table}\n{data_disk.line(found)}"


def _row(device: Device, devices: Sequence[Device]) -> dict[str, object]:
    system = data_disk.is_system(device, devices)
    holds = "the system" if system else " ".join([device.holds or "", *(f"at {m}" for m in device.mounts)]).strip()
    return {
        "device": device.path,
        "size_bytes": device.size_bytes,
        "model": device.model,
        "serial": device.serial,
        "label": device.label,
        "holds": holds or None,
        "system": system,
        "mounts": list(device.mounts),
    }


def _init(args: argparse.Namespace, config: Config) -> str:
    apply.must_be_root()
    devices = data_disk.devices()
    device = _named(args.device, devices)
    if reason := data_disk.why_not(device, devices):
        raise UserError(f"{device.path} stays as it is: {reason}")
    if data_disk.mounted(config.paths.data):
        raise UserError(f"something is mounted at {config.paths.data} already: unmount it first")
    if contents := _contents(device, devices):
        _confirm(device, contents, args.yes)
    name = make(Path(device.path))
    data_disk.remember(config, name)
    _mount(Path(device.path), config.paths.data)
    apply.make_on_disk(config, modules.running(config))
    return data_disk.line(data_disk.state(config))


def _use(args: argparse.Namespace, config: Config) -> str:
    apply.must_be_root()
    device = _named(args.device, data_disk.devices())
    if device.label != data_disk.LABEL or not device.uuid:
        raise UserError(f"{device.path} is no data disk yet: gatehouse disk init {device.path}")
    if not data_disk.mounted(config.paths.data):
        _mount(Path(device.path), config.paths.data)
    seen = data_disk.mounted(config.paths.data)
    if seen is None or (seen.number, seen.marker) != (device.number, device.uuid):
        raise UserError(f"what is mounted at {config.paths.data} isn't the data disk {device.path}: unmount it")
    data_disk.remember(config, device.uuid)
    apply.make_on_disk(config, modules.running(config))
    return data_disk.line(data_disk.state(config))


def _named(path: Path, devices: Sequence[Device]) -> Device:
    """Also by its links in /dev/disk; raises UserError when it is none."""
    for device in devices:
        if device.path == str(path.resolve()):
            return device
    raise UserError(f"there is no disk {path}: see `gatehouse disk list`")


def _contents(device: Device, devices: Sequence[Device]) -> str:
    """What would be lost, in a few words; empty for an empty disk."""
    parts = [other for other in devices if other.parent == device.path]
    if parts:
        return f"{len(parts)} partitions"
    return signatures(Path(device.path))


def signatures(path: Path) -> str:
    """Read from the disk itself, as nothing that was noted about it earlier need still be so."""
    done = subprocess.run(
        ["wipefs", "--noheadings", "--output", "TYPE,LABEL", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{path} can't be read: {done.stderr.strip()}")
    if found := " ".join(done.stdout.split()):
        return found
    with path.open("rb") as file:
        return "data of an unknown kind" if any(file.read(_LOOKED_AT_BYTES)) else ""


def _confirm(device: Device, contents: str, yes: str | None) -> None:
    word = device.serial or Path(device.path).name
    what = f"{device.path} ({device.model or 'disk'}, {format_bytes(device.size_bytes)}) holds {contents}"
    if yes is None:
        try:
            yes = input(f"{what}: all of it will be erased.\nType {word} to go on: ").strip()
        except EOFError:
            raise UserError(f"{what}: it is erased with --yes {word}") from None
    if yes != word:
        raise UserError(f"{what}: it is erased with {word}, not with {yes!r}; nothing was changed")


def make(path: Path) -> str:
    """Formats it, with the marker in the file system from its first moment on; returns the UUID."""
    name = str(uuid.uuid4())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # becomes the new root folder's
        marker = Path(folder) / data_disk.MARKER
        marker.write_text(f"{name}\n", encoding="ascii")
        marker.chmod(0o644)
        words = ["-q", "-F", "-L", data_disk.LABEL, "-U", name, "-m", "1", "-d", folder]
        try:
            launch.run("wipefs", "--quiet", "--all", str(path))  # the table of partitions at its end, too
            launch.run("mkfs.ext4", *words, str(path))
        except subprocess.CalledProcessError as error:
            raise UserError(f"{path} can't be formatted: {' '.join(error.stderr.split())}") from None
    return name


def _mount(device: Path, path: Path) -> None:
    """Through its unit where there is one, so that what waits for the unit starts."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        if _UDEV.exists():
            # What is written while it looks at the disk escapes it (systemd.io/BLOCK_DEVICE_LOCKING), and so did
            # the new label: it looks once more, and has made the label's link then.
            launch.run("timeout", "120", "udevadm", "trigger", "--settle", "--action=change", str(device))
        if data_disk.mounted(path):
            return
        if not systemd_units.start_mount(path):
            launch.run("mount", "-o", _OPTIONS, str(device), str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        words = str(getattr(error, "stderr", "") or error)
        raise UserError(f"{device} can't be mounted at {path}: {' '.join(words.split())}") from None
