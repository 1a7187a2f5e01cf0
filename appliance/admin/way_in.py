"""By which network device somebody has come to these pages, so that they don't cut off their own way here."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import bottle

from appliance import first_boot, modules
from appliance.config import Config
from appliance.errors import UserError

KNOWN = "known"  # the box to tick
_ROUTES, _NEIGHBOURS = Path("/proc/net/route"), Path("/proc/net/arp")
_UP, _COMPLETE = 0x1, 0x2  # linux/route.h, linux/if_arp.h


class Unsure(UserError):
    """It may be what is wanted, but who wants it has to say so."""


def address() -> str:
    """nginx's word."""
    return str(bottle.request.get_header("X-Real-IP", "")[:45])


def device(address: str, routes: Path = _ROUTES, neighbours: Path = _NEIGHBOURS) -> str:
    """Where answers to that address leave: its neighbour's device, else the best route's. Empty where that says
    nothing: on this machine itself, which is also where an SSH tunnel ends."""
    try:
        ip = IPv4Address(address)
    except AddressValueError:
        return ""
    return "" if ip.is_loopback else _neighbour(ip, neighbours) or _route(ip, routes)


def here() -> str:
    """Of who asks now."""
    return device(address())


def verify(before: Config, after: Config, on: Sequence[str], form: Mapping[str, str]) -> None:
    """Raises Unsure where this would leave the owner outside, unless the form says that they know; `on` are modules
    to be switched on with it."""
    active = [modules.by_name(name) for name in on] + list(modules.enabled(before))
    has_roles = any(s.kind == "device" for module in active for group in module.settings for s in group.settings)
    new, way = after.gateway, here()
    if KNOWN in form or not has_roles or not new.enabled or (before.gateway == new and not on):
        return
    if way and new.lan in (way, *_ports(way)):
        raise Unsure(
            f"You have come by {way}, which would be the guests’ device: from there these pages can’t be reached then."
        )
    for name in (new.wan, new.lan):
        if not (first_boot.DEVICES / name).exists():
            raise Unsure(f"There is no network device {name} now: nobody is served until there is one.")


def _ports(bridge: str) -> Iterator[str]:
    for lower in (first_boot.DEVICES / bridge).glob("lower_*"):
        yield lower.name.removeprefix("lower_")


def _neighbour(ip: IPv4Address, path: Path) -> str:
    """proc_net(5), arp: address, type, flags, MAC, mask, device."""
    for row in _rows(path):
        if row[0] == str(ip) and int(row[2], 16) & _COMPLETE:
            return row[5]
    return ""


def _route(ip: IPv4Address, path: Path) -> str:
    """proc_net(5), route: device, destination, gateway, flags, …, metric, mask; the longest mask, then the metric."""
    fitting = [
        (-_number(row[7]), int(row[6]), row[0])
        for row in _rows(path)
        if int(row[3], 16) & _UP and int(ip) & _number(row[7]) == _number(row[1])
    ]
    return min(fitting, default=(0, 0, ""))[2]


def _number(text: str) -> int:
    """The kernel prints the four octets as one number of its own byte order."""
    return int.from_bytes(int(text, 16).to_bytes(4, "little"), "big")


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    yield from (line.split() for line in lines)
