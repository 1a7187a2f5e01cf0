"""The image that the tests boot: built once from the same inputs, kept in the cache; and cheap variants of its slot."""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from images import build, disk, sign
from images.debian import run

_CACHE = Path("/var/cache/gatehouse-tests")
_TREE = Path(__file__).resolve().parents[2]
_MADE_FROM = ("ansible", "appliance", "images", "portal", "rlm_python", "setup.cfg", "pyproject.toml")
_NO_INPUT = {"__pycache__", "out", ".work"}
_SQUASHFS_BYTES_USED = 40  # its place in the superblock


@dataclass(frozen=True)
class Image:
    """`raw` is the disk, `bundle` the update with the same slot, signed by `signer`."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "disk.raw"

    @property
    def bundle(self) -> Path:
        return next(self.folder.glob("*.raucb"))

    @property
    def signer(self) -> sign.Signer:
        return sign.development(self.folder / "keys")

    def slot(self) -> bytes:
        """Slot A as far as its file system goes."""
        with self.raw.open("rb") as raw:
            raw.seek(disk.start(disk.SLOT_A) + _SQUASHFS_BYTES_USED)
            length = int.from_bytes(raw.read(8), "little")
            raw.seek(disk.start(disk.SLOT_A))
            return raw.read(length)

    @property
    def compatible(self) -> str:
        return "gatehouse-amd64"


def built() -> Image:
    """Older ones make room for it."""
    made = _CACHE / f"image-{_digest()}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in _CACHE.glob("image-*"):  # also what a killed run has begun
                shutil.rmtree(old)
            new = _CACHE / "image-new"
            build.build("amd64", new)
            (packed,) = new.glob("*.raw.zst")
            run("zstd", "--quiet", "--decompress", "--rm", "--sparse", str(packed), "-o", str(new / "disk.raw"))
            new.rename(made)
    return Image(made)


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(_inputs()):
        digest.update(f"{path.relative_to(_TREE)} {path.stat().st_mode:o}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _inputs() -> Iterator[Path]:
    for name in _MADE_FROM:
        path = _TREE / name
        found = [path] if path.is_file() else path.rglob("*")
        yield from (file for file in found if file.is_file() and not _NO_INPUT & set(file.parts))


def unpack(image: Image, folder: Path) -> Path:
    """The root file system, to be changed and packed again."""
    slot, root = folder / "slot.squashfs", folder / "root"
    slot.write_bytes(image.slot())
    run("unsquashfs", "-quiet", "-no-progress", "-dest", str(root), str(slot))
    slot.unlink()
    return root


def pack(root: Path, slot: Path) -> Path:
    """Quickly rather than small."""
    level = ("-comp", "gzip", "-Xcompression-level", "1", "-b", "256K")
    run("mksquashfs", str(root), str(slot), "-quiet", "-no-progress", "-noappend", *level)
    return slot


def bundle(image: Image, slot: Path, compatible: str = "", signer: sign.Signer | None = None) -> Path:
    """An update with that slot, as the image's own maker would sign it if not told otherwise."""
    target, work = slot.with_suffix(".raucb"), slot.with_suffix(".work")
    work.mkdir()
    sign.bundle(target, slot, work, compatible or image.compatible, "0.0.1", signer or image.signer)
    return target
