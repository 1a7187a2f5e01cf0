"""The image of this tree, built once and kept in the cache as long as nothing that goes into it changes."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from images import disk
from tests.lab.namespace import run

TREE = Path(__file__).resolve().parents[2]
BUILD = (sys.executable, "-m", "images.build")
_CACHE = Path("/var/cache/gatehouse-tests")
_INPUTS = (
    "appliance",
    "rlm_python",
    "portal",
    "collector",
    "ansible",
    "images",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
)


def built(arch: str = "amd64") -> Path:
    """The folder with what `make image` makes, and `disk.raw` beside it."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    made = _CACHE / f"image-{arch}-{_digest()}"
    with (_CACHE / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in _CACHE.glob(f"image-{arch}-*"):
                shutil.rmtree(old)
            new = made.with_suffix(".new")
            build(new, arch=arch)
            (packed,) = new.glob("*.raw.zst")
            run("zstd", "--quiet", "--decompress", "--sparse", str(packed), "-o", str(new / "disk.raw"), timeout_s=300)
            new.rename(made)
    return made


def build(out: Path, env: Mapping[str, str] | None = None, umask: int = 0o022, arch: str = "amd64") -> None:
    """What it prints goes to this process's output."""
    words = [*BUILD, "--arch", arch, "--out", str(out)]
    subprocess.run(words, cwd=TREE, env={**os.environ, **(env or {})}, umask=umask, check=True)


def unpacked(raw: Path, folder: Path) -> Path:
    """The root file system of slot A."""
    offset = disk.start(disk.SLOT_A)
    run("unsquashfs", "-quiet", "-no-progress", "-offset", str(offset), "-dest", str(folder), str(raw), timeout_s=300)
    return folder


def _digest() -> str:
    listed = run("git", "-C", str(TREE), "ls-files", "--cached", "--others", "--exclude-standard", *_INPUTS).stdout
    digest = hashlib.sha256()
    for name in sorted(listed.splitlines()):
        path = TREE / name
        if path.is_file():
            digest.update(f"{name}\0{path.stat().st_mode & 0o111}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
