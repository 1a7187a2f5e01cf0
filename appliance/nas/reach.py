"""Where this machine is, as a router sees it."""

import socket
from ipaddress import IPv4Address, ip_network

from appliance.config import Config
from appliance.errors import UserError
from appliance.nas.models import Nas

_ANYWHERE = "192.88.99.1"  # only to ask the routing table: no packet is sent (RFC 7526 took it out of use)


def server(config: Config, nas: Nas) -> IPv4Address:
    """The address at which this router finds FreeRADIUS; raises UserError when that can't be known."""
    if config.radius.public_address:
        return config.radius.public_address
    if not config.radius.listen.is_unspecified:
        return config.radius.listen
    network = ip_network(nas.address)
    found = _source(str(network.network_address)) if network.version == 4 else None
    if found is None or found.is_loopback:
        raise UserError(_unknown(f"router {nas.name}"))
    return found


def endpoint(config: Config) -> IPv4Address:
    """The address to which tunnels are opened from anywhere; a private one would be a guess."""
    if config.radius.public_address:
        return config.radius.public_address
    found = _source(_ANYWHERE)
    if found is None or not found.is_global:
        raise UserError(_unknown("a router somewhere"))
    return found


def _unknown(whose: str) -> str:
    return (
        f"the address at which {whose} reaches this machine can't be known: "
        "give --server ADDRESS, or set public_address below [radius]"
    )


def _source(target: str) -> IPv4Address | None:
    """The address that the kernel would send from (connect(2): a datagram socket sends nothing)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((target, 9))
        except OSError:
            return None
        return IPv4Address(asking.getsockname()[0])
