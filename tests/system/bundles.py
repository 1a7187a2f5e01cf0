"""Updates that the tests send to a box: cheap variants of the image's slot, signed as the image's maker would."""

from pathlib import Path

from images import disk, sign
from images.debian import run

COMPATIBLE = "gatehouse-amd64"
_SQUASHFS_BYTES_USED = 40  # its place in the superblock


def slot(image: Path) -> bytes:
    """Slot A of the image in that folder, as far as its file system goes."""
    with (image / "disk.raw").open("rb") as raw:
        raw.seek(disk.start(disk.SLOT_A) + _SQUASHFS_BYTES_USED)
        length = int.from_bytes(raw.read(8), "little")
        raw.seek(disk.start(disk.SLOT_A))
        return raw.read(length)


def good(image: Path) -> Path:
    (bundle,) = image.glob("*.raucb")
    return bundle


def signer(image: Path) -> sign.Signer:
    return sign.development(image / "keys")


def packed(root: Path, slot: Path) -> Path:
    """Quickly rather than small."""
    level = ("-comp", "gzip", "-Xcompression-level", "1", "-b", "256K")
    run("mksquashfs", str(root), str(slot), "-quiet", "-no-progress", "-noappend", *level)
    return slot


def bundle(slot: Path, signer: sign.Signer, compatible: str = COMPATIBLE) -> Path:
    """An update with that slot, beside it."""
    target, work = slot.with_suffix(".raucb"), slot.with_suffix(".work")
    work.mkdir()
    sign.bundle(target, slot, work, compatible, "0.0.1", signer)
    return target
