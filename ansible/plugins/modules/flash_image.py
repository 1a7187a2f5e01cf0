#!/usr/bin/python
"""Module `flash_image`: an appliance's image onto a disk, checked before, read back after."""

import errno
import fcntl
import hashlib
import json
import os
import stat
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: flash_image
short_description: Write an appliance's image to a disk, or to a file that is one
description:
  - Nothing is written before the image has been read once, held against its checksum, and unpacked as a whole.
  - Refused are partitions, disks in use, too small ones, and each disk but the one that is confirmed.
  - What was written is read back. Then the disk and its partitions get GUIDs of their own, as all images share theirs.
options:
  image:
    description: A .raw or .raw.zst file.
    type: path
    required: true
  sums:
    description: The list of checksums; by default SHA256SUMS beside the image.
    type: path
  target:
    description:
      - A whole disk below /dev, best by its name in /dev/disk/by-id, or a file.
      - A file that is there is as large as the disk is; one that isn't is made.
    type: path
    required: true
  confirm:
    description: The disk's serial number (the model of a disk that has none), or the file's absolute path.
    type: str
    required: true
  serial:
    description: The serial number that the disk must have.
    type: str
  model:
    description: The model that the disk must have.
    type: str
  site:
    description: Text for /provision/site.toml on the partition gatehouse-esp.
    type: str
  progress:
    description: A file that is told how far it is; the action of the same name shows it.
    type: path
author: The Gatehouse authors
attributes:
  check_mode:
    description: All is checked and nothing is written.
    support: full
"""
EXAMPLES = """
- name: Write the image
  gatehouse.appliance.flash_image:
    image: images/out/gatehouse-0.1.0-amd64.raw.zst
    target: /dev/disk/by-id/usb-Generic_Disk_4C530001
    confirm: 4C530001
"""
RETURN = """
bytes:
  description: How much was written.
  type: int
  returned: always
sha256:
  description: The hash of the unpacked image, and of what was read back.
  type: str
  returned: always
"""

ESP = "gatehouse-esp"
SITE = "::/provision/site.toml"
SYS = Path("/sys")
UDEV = Path("/run/udev/data")
PROC = Path("/proc")
SECTOR = 512
CHUNK = 4 * 1024 * 1024
BLKRRPART = 0x125F  # linux/fs.h
BLKFLSBUF = 0x1261

Tell = Callable[[str, int, int], None]
"""What is being done, bytes done, bytes in all."""


class Refusal(Exception):
    """What the operator reads."""


@dataclass(frozen=True)
class Image:
    path: Path
    size: int
    sha256: str


def main() -> None:
    text = {"type": "str"}
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "path", "required": True},
            "sums": {"type": "path"},
            "target": {"type": "path", "required": True},
            "confirm": {"type": "str", "required": True},
            **{"serial": text, "model": text, "site": text},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    given = module.params
    tell = teller(Path(given["progress"])) if given["progress"] else lambda *words: None
    target = Path(given["target"]).resolve()
    try:
        image = checked(Path(given["image"]), given["sums"], tell)
        if is_disk(target):
            check_disk(target, image.size, given)
        else:
            check_file(target, image.size, given)
        if not module.check_mode:
            flash(image, target, given["site"], tell)
    except (Refusal, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, bytes=image.size, sha256=image.sha256)


def teller(path: Path) -> Tell:
    """At most a line a second."""
    last = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1 or done == total:
            last = now
            with path.open("a", encoding="ascii") as file:
                file.write(f"{what} {100 * done // max(total, 1)} %\n")

    return tell


# --- the image


def checked(path: Path, sums: str | None, tell: Tell) -> Image:
    """Raises Refusal unless the file is the one that its list names and can be unpacked to its end."""
    listed = sum_of(path.name, Path(sums) if sums else path.with_name("SHA256SUMS"))
    digest = hashlib.sha256()
    total, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            tell("checking", done, total)
    if digest.hexdigest() != listed:
        raise Refusal(f"{path}: its SHA-256 isn't the one in the list: fetch it again")
    digest, size = hashlib.sha256(), 0
    for chunk in unpacked(path):
        digest.update(chunk)
        size += len(chunk)
    if not size or size % SECTOR:
        raise Refusal(f"{path}: {size} bytes are no image of a disk")
    return Image(path, size, digest.hexdigest())


def sum_of(name: str, sums: Path) -> str:
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, _, listed = line.partition(" ")
        if listed.lstrip(" *") == name:
            return digest.lower()
    raise Refusal(f"{sums}: {name} isn't listed there")


def unpacked(path: Path) -> Iterator[bytes]:
    """Chunks, all but the last of one size; raises Refusal at the end if the file was damaged."""
    if path.suffix != ".zst":
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
        return
    with subprocess.Popen(["zstd", "-qdc", str(path)], stdout=subprocess.PIPE) as zstd:
        while chunk := zstd.stdout.read(CHUNK) if zstd.stdout else b"":
            yield chunk
    if zstd.returncode:
        raise Refusal(f"{path} can't be unpacked: it is cut off or damaged")


# --- where it goes


def is_disk(target: Path) -> bool:
    if target.exists():
        return stat.S_ISBLK(target.stat().st_mode)
    if target.is_relative_to("/dev"):
        raise Refusal(f"{target}: there is no such disk")
    return False


def check_file(target: Path, size: int, given: dict[str, Any]) -> None:
    if given["confirm"] != str(target):
        raise Refusal(f"{target} isn't what is confirmed: {given['confirm']!r}")
    if given["serial"] or given["model"]:
        raise Refusal(f"{target} is a file: it has neither serial number nor model")
    if target.exists():
        if not target.is_file():
            raise Refusal(f"{target} is neither a disk nor a file")
        if any(path.read_text().strip() == str(target) for path in SYS.glob("block/loop*/loop/backing_file")):
            raise Refusal(f"{target} is in use by a loop device")
        if target.stat().st_size < size:
            raise Refusal(f"{target} is too small: {target.stat().st_size} bytes for an image of {size}")


def check_disk(target: Path, size: int, given: dict[str, Any]) -> None:
    here = SYS / "class" / "block" / target.name
    if (here / "partition").exists():
        raise Refusal(f"{target} is a partition: the whole disk is needed")
    if not (here / "device").exists():
        raise Refusal(f"{target} is no disk")
    check_identity(target, here, given)
    if why := use_of(here):
        raise Refusal(f"{target} is in use: {why}")
    if read(here / "ro") == "1":
        raise Refusal(f"{target} can only be read")
    if (held := int(read(here / "size")) * SECTOR) < size:
        raise Refusal(f"{target} is too small: {held} bytes for an image of {size}")


def check_identity(target: Path, here: Path, given: dict[str, Any]) -> None:
    known = udev_properties(read(here / "dev"))
    files = ("serial", "device/serial", "wwid", "device/wwid")
    serials = {read(here / name) for name in files} | {known.get(n, "") for n in ("ID_SERIAL", "ID_SERIAL_SHORT")}
    models = {read(here / "device/model"), known.get("ID_MODEL", "")}
    serials, models = serials - {""}, models - {""}
    for name, found in (("confirm", serials or models), ("serial", serials), ("model", models)):
        if given[name] is not None and given[name] not in found:
            shown = ", ".join(sorted(found)) or "nothing"
            raise Refusal(f"{target} isn't the disk that {name!r} means: {given[name]!r}; it says: {shown}")


def udev_properties(numbers: str) -> dict[str, str]:
    lines = read(UDEV / f"b{numbers}").splitlines()
    pairs = (line[2:].partition("=") for line in lines if line.startswith("E:"))
    return {name: value for name, _, value in pairs}


def use_of(here: Path) -> str:
    """By whom the disk or a partition of it is used, empty when by nobody."""
    parts = [here, *(path.parent for path in here.glob("*/partition"))]
    numbers = {read(part / "dev") for part in parts}
    names = {f"/dev/{part.name}" for part in parts}
    for part in parts:
        if holders := [path.name for path in (part / "holders").glob("*")]:
            return f"{part.name} belongs to {', '.join(holders)}"
    for line in read(PROC / "self/mountinfo").splitlines():
        fields = line.split()
        source = os.path.realpath(fields[fields.index("-") + 2])
        if fields[2] in numbers or source in names:
            return f"mounted at {fields[4]}"
    swaps = {os.path.realpath(line.split()[0]) for line in read(PROC / "swaps").splitlines()[1:]}
    return f"{', '.join(sorted(swaps & names))} is swap space" if swaps & names else ""


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.EINVAL):
            return ""
        raise


# --- writing


def flash(image: Image, target: Path, site: str | None, tell: Tell) -> None:
    with opened(target) as disk:
        write(image, disk, tell)
        if read_back(image, disk, tell) != image.sha256:
            raise Refusal(f"{target} doesn't hold what was written to it: use another disk")
    new_guids(target)
    if site is not None:
        put_site(target, site)
    with target.open("rb") as disk:
        os.fsync(disk.fileno())
        if is_disk(target):
            fcntl.ioctl(disk, BLKRRPART)


@contextmanager
def opened(target: Path) -> Iterator[BinaryIO]:
    """A disk is opened exclusively: the kernel itself refuses one that is mounted or part of another (open(2))."""
    flags = os.O_EXCL if is_disk(target) else os.O_CREAT
    try:
        handle = os.open(target, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Refusal(f"{target} is in use") from None
        raise
    with os.fdopen(handle, "r+b", buffering=0) as disk:
        yield disk


def write(image: Image, disk: BinaryIO, tell: Tell) -> None:
    regular = stat.S_ISREG(os.fstat(disk.fileno()).st_mode)
    if regular:  # emptied, so that zeros need no writing
        size = max(image.size, os.fstat(disk.fileno()).st_size)
        disk.truncate(0)
        disk.truncate(size)
    done = 0
    for chunk in unpacked(image.path):
        if regular and not any(chunk):
            disk.seek(len(chunk), os.SEEK_CUR)
        else:
            rest = memoryview(chunk)
            while rest:
                rest = rest[disk.write(rest) :]
        done += len(chunk)
        tell("writing", done, image.size)
    os.fsync(disk.fileno())


def read_back(image: Image, disk: BinaryIO, tell: Tell) -> str:
    """The hash of what the disk itself has, not of what the kernel remembers."""
    if stat.S_ISBLK(os.fstat(disk.fileno()).st_mode):
        fcntl.ioctl(disk, BLKFLSBUF)
    os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    digest, done = hashlib.sha256(), 0
    disk.seek(0)
    while done < image.size and (chunk := disk.read(min(CHUNK, image.size - done))):
        digest.update(chunk)
        done += len(chunk)
        tell("reading back", done, image.size)
    return digest.hexdigest()


# --- what makes it this disk


def new_guids(target: Path) -> None:
    """Of the disk and its partitions; the second table goes to the end of the disk."""
    sfdisk("--relocate", "gpt-bak-std", str(target))
    sfdisk("--disk-id", str(target), fresh())
    for number, _ in enumerate(table(target)["partitions"], 1):
        sfdisk("--part-uuid", str(target), str(number), fresh())


def put_site(target: Path, site: str) -> None:
    sectors = [part["start"] for part in table(target)["partitions"] if part.get("name") == ESP]
    if not sectors:
        raise Refusal(f"{target}: there is no partition {ESP} for the site's facts")
    place = f"{target}@@{sectors[0] * SECTOR}"
    if run("mdir", "-b", "-i", place, "::/provision", check=False).returncode:
        run("mmd", "-i", place, "::/provision")
    run("mcopy", "-o", "-i", place, "-", SITE, stdin=site)
    if run("mtype", "-i", place, SITE).stdout != site:
        raise Refusal(f"{target} doesn't hold the site's facts as they were written: use another disk")


def table(target: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sfdisk("--json", str(target)))["partitiontable"]
    if found["label"] != "gpt" or found.get("sectorsize", SECTOR) != SECTOR:
        raise Refusal(f"{target}: a GPT with sectors of {SECTOR} bytes is needed")
    return found


def fresh() -> str:
    return str(uuid.uuid4()).upper()


def sfdisk(*words: str) -> str:
    return run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", *words).stdout


def run(*words: str, stdin: str = "", check: bool = True) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False
    )
    if check and done.returncode:
        raise Refusal(f"{words[0]} failed: {(done.stdout + done.stderr).strip()}")
    return done


if __name__ == "__main__":
    main()
