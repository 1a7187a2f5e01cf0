"""The bootable image: root file system -> slot -> disk, with its bill of materials and its update bundle.

No loop device, no mount but what mmdebstrap makes for itself. From the same inputs it makes the same bytes.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import UserError
from images import debian, disk, sbom, sign
from images.debian import run

CODENAME = "trixie"
HERE = Path(__file__).resolve().parent
TREE = HERE.parent
OUT = HERE / "out"
_NOT_ON_A_BOX = ("/usr/share/man", "/usr/share/info", "/usr/share/locale", "/usr/share/lintian", "/usr/share/bug")
_DRIVERS = ("gpu", "media", "infiniband", "iio", "staging")  # of no use to a hotspot, and a third of the kernel


@dataclass(frozen=True)
class Build:
    """`work` is thrown away at the end; `epoch` is the date of everything."""

    version: str
    arch: str
    epoch: int
    out: Path
    work: Path
    signer: sign.Signer

    @property
    def name(self) -> str:
        return f"gatehouse-{self.version}-{self.arch}"

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "SOURCE_DATE_EPOCH": str(self.epoch), "TZ": "UTC", "LC_ALL": "C.UTF-8"}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="images.build", description=__doc__)
    parser.add_argument("--arch", default="amd64", help="amd64 or arm64; default: amd64")
    parser.add_argument("--out", type=Path, default=OUT, help="default: images/out")
    parser.add_argument("--key", help="signs updates: a PEM file or a PKCS#11 URI; default: a development key")
    parser.add_argument("--cert", type=Path, help="the key's certificate")
    parser.add_argument("--keyring", type=Path, help="what a box believes; default: the certificate itself")
    args = parser.parse_args(words)
    try:
        build(args.arch, args.out, sign.given(args.key, args.cert, args.keyring) if args.key else None)
    except (UserError, RuntimeError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


def build(arch: str, out: Path, signer: sign.Signer | None = None) -> None:
    if arch not in disk.LOADERS:
        raise UserError(f"--arch {arch}: only {' and '.join(disk.LOADERS)} are built")
    if os.geteuid() != 0:
        raise UserError("only root can do this: mmdebstrap makes files of other users")
    if not debian.runs_here(arch):
        raise UserError(f"--arch {arch}: its programs don't run here: install qemu-user-static, and mount binfmt_misc")
    out.mkdir(parents=True, exist_ok=True)
    if signer is None:
        signer = sign.development(out / "keys")
        print(f"*** DEVELOPMENT KEY {signer.key}: whoever has it can update these boxes; see KEY= in docs/image.md ***")
    with tempfile.TemporaryDirectory(prefix=".work-", dir=out) as work:
        _build(Build(_version(), arch, _epoch(), out.resolve(), Path(work).resolve(), signer))


def _build(build: Build) -> None:
    tar, slot = build.work / "root.tar", build.work / "root.squashfs"
    raw, name = build.work / "disk.raw", f"{build.out}/{build.name}"
    with step(f"root file system (Debian {CODENAME})") as say:
        _make_root(build, tar)
        say(f"{tar.stat().st_size >> 20} MiB")
    with step("bill of materials") as say:
        loaders = disk.LOADERS[build.arch].of_host
        text = sbom.render(tar, build.version, build.arch, CODENAME, build.epoch, loaders)
        Path(f"{name}.cdx.json").write_text(text, encoding="utf-8")
        say(f"{text.count('bom-ref') - 1} components")
    with step("slot (squashfs)") as say:
        _make_slot(build, tar, slot)
        say(f"{slot.stat().st_size >> 20} MiB")
    with step("disk") as say:
        disk.make(raw, slot, build.work, build.epoch, build.arch)
        say(f"{raw.stat().st_size >> 20} MiB")
    with step("update bundle"):
        sign.bundle(Path(f"{name}.raucb"), slot, build.work, f"gatehouse-{build.arch}", build.version, build.signer)
    with step("compressed disk") as say:
        image = Path(f"{name}.raw.zst")
        run("zstd", "--quiet", "--force", "-10", "-T0", str(raw), "-o", str(image))
        say(f"{image.stat().st_size >> 20} MiB")
    _write_sums(build)


@contextlib.contextmanager
def step(title: str) -> Iterator["Say"]:
    """One line, finished with what `say` was told and the seconds."""
    print(f"{title} … ", end="", flush=True)
    started, say = time.monotonic(), Say()
    try:
        yield say
    except BaseException:
        print("failed", flush=True)
        raise
    print(", ".join([*say.words, f"{time.monotonic() - started:.1f} s"]), flush=True)


class Say:
    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, words: str) -> None:
        self.words.append(words)


def _version() -> str:
    parser = ConfigParser()
    parser.read(TREE / "setup.cfg")
    return parser["metadata"]["version"]


def _epoch() -> int:
    """SOURCE_DATE_EPOCH, else the date of the last commit (reproducible-builds.org)."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return int(run("git", "-c", "safe.directory=*", "-C", str(TREE), "log", "-1", "--format=%ct"))


def _make_root(build: Build, tar: Path) -> None:
    overlay = build.work / "overlay.tar"
    _pack_overlay(build, overlay)
    lists = (TREE / "appliance" / "packages.txt", HERE / "rootfs.txt")
    wanted = [name for file in lists for name in debian.packages(file.read_text(encoding="utf-8"))]
    wanted += [f"linux-image-{build.arch}", *disk.LOADERS[build.arch].in_root]
    debian.bootstrap(
        tar,
        CODENAME,
        *("--variant=minbase", f"--architectures={build.arch}", f"--include={','.join(wanted)}"),
        *debian.without(*_NOT_ON_A_BOX, "/usr/share/doc", "/usr/lib/modules/*/kernel/sound"),
        *debian.without(*(f"/usr/lib/modules/*/kernel/drivers/{name}" for name in _DRIVERS)),
        *("--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=force-confold", "--dpkgopt=force-unsafe-io"),
        f"--essential-hook=tar-in {overlay} /",  # before any other package, as the initramfs is made by one
        f'--customize-hook={HERE / "customize"} "$1" {build.work}',
        *(f"--customize-hook={hook}" for hook in disk.loader_hooks(build.arch, build.work)),
        env=build.env | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},  # Ansible's
    )
    if not tar.stat().st_size:
        raise RuntimeError("mmdebstrap left nothing")


def _pack_overlay(build: Build, tar: Path) -> None:
    folder = build.work / "overlay"
    shutil.copytree(HERE / "rootfs", folder)
    shutil.copy(build.signer.keyring, folder / "etc/rauc/keyring.pem")
    config = folder / "etc/rauc/system.conf"
    config.write_text(config.read_text(encoding="utf-8").replace("@ARCH@", build.arch), encoding="utf-8")
    run(
        *("tar", "--mode=u=rwX,go=rX", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"),
        *(f"--mtime=@{build.epoch}", "-C", str(folder), "-cf", str(tar), "."),
    )


def _make_slot(build: Build, tar: Path, slot: Path) -> None:
    """gzip, because GRUB reads the kernel from it and knows no zstd, and xz takes a small box long to unpack."""
    root = ("-root-mode", "0755", "-root-uid", "0", "-root-gid", "0", "-root-time", str(build.epoch))
    words = ("sqfstar", "-quiet", "-no-progress", "-comp", "gzip", "-b", "256K", *root, str(slot))
    run("sh", "-c", 'tar=$1; shift; exec "$@" <"$tar"', "sh", str(tar), *words, env=build.env)
    if slot.stat().st_size > disk.SLOT_BYTES:
        raise RuntimeError(f"the root file system has {slot.stat().st_size} bytes and a slot {disk.SLOT_BYTES}")


def _write_sums(build: Build) -> None:
    sums = ""
    for file in sorted(build.out.glob(f"gatehouse-{build.version}-*.*")):  # of another architecture, too
        with file.open("rb") as opened:
            sums += f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n"
    (build.out / "SHA256SUMS").write_text(sums, encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
