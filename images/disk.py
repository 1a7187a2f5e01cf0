"""The disk of a box as a file, without a loop device or a mount: partitions, GRUB for BIOS and UEFI, two slots."""

import os
import shlex
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from images.debian import run

HERE = Path(__file__).resolve().parent
MIB = 1024 * 1024
SLOT_BYTES = 512 * MIB
_SECTOR = 512
_GRUB = Path("/usr/lib/grub")
# What grub.cfg needs, and nothing else; squash4 reads xz and gzip, but no zstd.
_GRUB_MODULES = (
    *("part_gpt", "fat", "squash4", "normal", "linux", "loadenv", "regexp", "probe", "test", "echo"),
    *("serial", "terminal", "sleep", "reboot"),
)


@dataclass(frozen=True)
class Loader:
    """GRUB for UEFI: the file that firmware looks for (UEFI specification, 3.5.1.1), and GRUB's name of the platform.

    It is made of the packages `of_host`, or by the root's own GRUB, which needs `in_root` for that.
    """

    file: str
    platform: str
    of_host: tuple[str, ...] = ()
    in_root: tuple[str, ...] = ()


LOADERS = {  # by Debian's architecture
    "amd64": Loader("BOOTX64.EFI", "x86_64-efi", of_host=("grub-efi-amd64-bin", "grub-pc-bin")),
    "arm64": Loader("BOOTAA64.EFI", "arm64-efi", in_root=("grub-efi-arm64-bin",)),  # Debian has it for no other
}


@dataclass(frozen=True)
class Partition:
    """Numbers and names are what GRUB, udev and the initramfs know them by; `kind` is the GPT's type."""

    number: int
    name: str
    kind: str
    bytes: int

    @property
    def uuid(self) -> str:
        """The same in every image; `ansible/playbooks/flash.yml` gives each disk its own."""
        return f"6a7e0000-0000-4000-8000-{self.number:012d}"


BIOS = Partition(1, "bios", "21686148-6449-6E6F-744E-656564454649", MIB)
ESP = Partition(2, "gatehouse-esp", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", 64 * MIB)
# Not the type of a root file system: no generator of systemd's shall have ideas of its own about the other slot.
SLOT_A = Partition(3, "gatehouse-a", "6A7E510A-2C0F-4E9B-9D10-5A6E01B1A5E0", SLOT_BYTES)
SLOT_B = Partition(4, "gatehouse-b", "6A7E510A-2C0F-4E9B-9D10-5A6E01B1A5E0", SLOT_BYTES)
STATE = Partition(5, "gatehouse-state", "0FC63DAF-8483-4772-8E79-3D69D8477DE4", 256 * MIB)
PARTITIONS = (BIOS, ESP, SLOT_A, SLOT_B, STATE)


def start(partition: Partition) -> int:
    """Its first byte: one after the other from the first MiB on."""
    return MIB + sum(other.bytes for other in PARTITIONS if other.number < partition.number)


def make(disk: Path, slot: Path, work: Path, epoch: int, arch: str) -> None:
    """Slot A is `slot`, B is empty, the state partition has an empty file system. Only amd64 starts by BIOS, too."""
    env = {**os.environ, "TZ": "UTC", "SOURCE_DATE_EPOCH": str(epoch), "E2FSPROGS_FAKE_TIME": str(epoch)}
    env |= {"MTOOLS_SKIP_CHECK": "1"}
    esp, state = work / "esp.img", work / "state.img"
    loader = LOADERS[arch]
    efi, core = work / loader.file, work / "core.img"
    if not loader.in_root:
        run(*_mkimage(loader.platform, efi, "/grub", "efi_gop"))
    _make_esp(esp, efi, work, epoch, env)
    _make_state(state, env)
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(start(STATE) + STATE.bytes + MIB)  # the table's copy lies in the last MiB
    _make_table(disk)
    for partition, content in ((ESP, esp), (SLOT_A, slot), (STATE, state)):
        run(
            *("dd", f"if={content}", f"of={disk}", "bs=1M", f"seek={start(partition) // MIB}"),
            *("conv=notrunc,sparse", "status=none"),
        )
    if arch == "amd64":
        run(*_mkimage("i386-pc", core, f"(,gpt{ESP.number})/grub", "biosdisk"))
        _install_bios(disk, core)


def loader_hooks(arch: str, work: Path) -> Iterator[str]:
    """What mmdebstrap runs where the root's own GRUB makes the loader: it has no other use for the parts."""
    loader = LOADERS[arch]
    if loader.in_root:
        made = Path("/", loader.file)
        yield f'chroot "$1" {shlex.join(_mkimage(loader.platform, made, "/grub", "efi_gop"))}'
        yield f'mv "$1{made}" {work / loader.file} && rm -r "$1{_GRUB / loader.platform}"'


def _mkimage(platform: str, image: Path, prefix: str, *modules: str) -> tuple[str, ...]:
    return ("grub-mkimage", "-O", platform, "-o", str(image), "-p", prefix, *_GRUB_MODULES, *modules)


def _make_esp(esp: Path, efi: Path, work: Path, epoch: int, env: Mapping[str, str]) -> None:
    with esp.open("wb") as file:
        file.truncate(ESP.bytes)
    run("mkfs.vfat", "--invariant", "-i", "6a7e0002", "-n", "GATEHOUSE", "-F", "32", "-s", "1", str(esp), env=env)
    grubenv = work / "grubenv"
    run("grub-editenv", str(grubenv), "create")
    settings = ("ORDER=A B", "A_OK=1", "A_TRY=0", "A_NEW=0", "B_OK=0", "B_TRY=0", "B_NEW=0")
    run("grub-editenv", str(grubenv), "set", *settings)
    config = work / "grub.cfg"
    shutil.copy(HERE / "grub.cfg", config)
    run("mmd", "-i", str(esp), "::grub", "::EFI", "::EFI/BOOT", "::provision", env=env)
    for source, target in ((config, "grub/grub.cfg"), (grubenv, "grub/grubenv"), (efi, f"EFI/BOOT/{efi.name}")):
        os.utime(source, (epoch, epoch))
        run("mcopy", "-m", "-i", str(esp), str(source), f"::{target}", env=env)


def _make_state(state: Path, env: Mapping[str, str]) -> None:
    with state.open("wb") as file:
        file.truncate(STATE.bytes)
    uuid, seed = STATE.uuid, STATE.uuid.replace("6a7e", "6a7f")
    run(
        *("mke2fs", "-q", "-t", "ext4", "-L", STATE.name, "-U", uuid, "-m", "1"),
        *("-b", "4096", "-i", "16384"),  # as for a large one, which it becomes: with room for tables of 256 GiB
        *("-E", f"hash_seed={seed},root_owner=0:0", str(state)),
        env=env,
    )


def _make_table(disk: Path) -> None:
    lines = ["label: gpt", f"label-id: {Partition(0, '', '', 0).uuid}", "unit: sectors"]
    for partition in PARTITIONS:
        first, sectors = start(partition) // _SECTOR, partition.bytes // _SECTOR
        lines.append(
            f"start={first}, size={sectors}, type={partition.kind}, uuid={partition.uuid}, name={partition.name}"
        )
    script = disk.with_name(f"{disk.name}.sfdisk")
    script.write_text("\n".join(lines) + "\n", encoding="ascii")
    run("sh", "-c", 'sfdisk --quiet "$1" <"$2"', "sh", str(disk), str(script))
    script.unlink()


def _install_bios(disk: Path, core: Path) -> None:
    """What grub-bios-setup(8) would do, which wants a device: each piece is told the sector of the next.

    The places in the code are GRUB_BOOT_MACHINE_KERNEL_SECTOR, GRUB_BOOT_MACHINE_DRIVE_CHECK and the first block list
    at the end of the first sector of core.img (include/grub/i386/pc/boot.h).
    """
    sector = start(BIOS) // _SECTOR
    boot = bytearray((_GRUB / "i386-pc" / "boot.img").read_bytes()[:440])
    boot[0x5C:0x64] = struct.pack("<Q", sector)
    boot[0x66:0x68] = b"\x90\x90"
    code = bytearray(core.read_bytes())
    if len(code) > BIOS.bytes:
        raise RuntimeError(f"GRUB's image has {len(code)} bytes and its partition {BIOS.bytes}")
    code[0x1F4:0x1FC] = struct.pack("<Q", sector + 1)
    with disk.open("r+b") as file:
        file.write(boot)
        file.seek(start(BIOS))
        file.write(code)
