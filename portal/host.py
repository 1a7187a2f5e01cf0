"""Settings of the machine that the gateway needs, beside its own table and queues."""

import ctypes
import fcntl
import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from appliance.config import Config
from portal.netlink import KernelRefusal

ADDRESS, FORWARDING = "address", "forwarding"
ROUTE_PROTOCOL = 71  # marks our routes; unassigned in /etc/iproute2/rt_protos
_SYSCTLS = Path("/proc/sys/net/ipv4")
_DEVICES = Path("/sys/class/net")
_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x2C  # linux/sockios.h, linux/ethtool.h
_IFREQ = struct.Struct("16sP16x")

log = logging.getLogger(__name__)


def set_sysctls(config: Config) -> None:
    """Guests aren't told about each other by redirects, and the neighbour table holds all of them."""
    base = _SYSCTLS
    for device in (config.gateway.lan, config.gateway.wan, "all"):
        _sysctl(base / "conf" / device / "send_redirects", 0)
    for name, share in (("gc_thresh1", 2), ("gc_thresh2", 4), ("gc_thresh3", 8)):
        limit = base / "neigh" / "default" / name  # of the first namespace only
        if limit.exists():
            wanted = min(config.gateway.address.network.num_addresses, 65_536) * share // 4
            _sysctl(limit, max(wanted, int(limit.read_text(encoding="ascii"))))
    if _sysctl(base / "ip_forward", 1):
        made(config, FORWARDING).touch()


def stop_forwarding(config: Config) -> None:
    """Unless it was on before us. Raises KernelRefusal."""
    if made(config, FORWARDING).exists():
        _sysctl(_SYSCTLS / "ip_forward", 0)
        made(config, FORWARDING).unlink()


def made(config: Config, what: str) -> Path:
    """A mark, until the next boot, of what wasn't so before the gateway came: it goes with it."""
    return config.paths.run / "gateway" / f"made-{what}"


def receive_each_packet(device: str) -> None:
    """Generic receive offload would make one packet of many, and nftables counts the headers of one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for name in _with_lower(device):
            value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_SGRO, 0))
            try:
                fcntl.ioctl(asking, _SIOCETHTOOL, _IFREQ.pack(name.encode(), ctypes.addressof(value)))
            except OSError as error:
                log.warning("%s goes on joining packets, uploads are counted 3 %% too low: %s", name, error.strerror)


def _with_lower(device: str) -> Iterator[str]:
    """A bridge's ports and a VLAN's device are where packets are received."""
    yield device
    for lower in (_DEVICES / device).glob("lower_*"):
        yield from _with_lower(lower.name.removeprefix("lower_"))


def _sysctl(path: Path, value: int) -> bool:
    """Whether it was another one."""
    try:
        if path.read_text(encoding="ascii").strip() == str(value):
            return False
        path.write_text(str(value), encoding="ascii")
        return True
    except OSError as error:
        raise KernelRefusal(f"{path} can't be set to {value}: {error.strerror}") from None
