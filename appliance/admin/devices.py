"""The network devices of this machine, for whoever has to say which cable leads where."""

from pathlib import Path
from typing import NamedTuple

from appliance import first_boot

_OURS = ("ifb", "gatehouse")  # shaping's and the tunnels' own
_ETHERNET = "1"  # linux/if_arp.h, ARPHRD_ETHER


class Device(NamedTuple):
    """`link` says whether something answers at the other end of the cable."""

    name: str
    mac: str
    link: bool


def devices(root: Path = first_boot.DEVICES) -> list[Device]:
    """Those that may lead to the provider or to the guests; what stands for hardware comes first."""
    wired = first_boot.ethernet(root)
    names = [path.name for path in sorted(root.iterdir()) if path.is_dir() and _may_be(path)]
    return [_device(root / name) for name in (*wired, *(name for name in names if name not in wired))]


def _may_be(path: Path) -> bool:
    return _read(path / "type") == _ETHERNET and not path.name.startswith(_OURS)


def _device(path: Path) -> Device:
    return Device(path.name, _read(path / "address"), _read(path / "carrier") == "1")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:  # of a device that is down, or has just gone
        return ""
