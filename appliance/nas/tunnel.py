"""A WireGuard tunnel for each router that needs one: keys, addresses, and what wg(8) reads."""

import base64
import logging
import os
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from appliance.accounts.models import everywhere
from appliance.config import TUNNEL_DEVICE, Config
from appliance.errors import UserError
from appliance.nas import clients, fields
from appliance.nas.models import Nas
from appliance.service import File, Service, python

USER = "gatehouse-tunnel"
FILE = "tunnel.conf"  # below `paths.run`
PUBLIC = "tunnel.pub"  # beside it, for those who may not read the private key
TABLE = "inet gatehouse-tunnel"
_KEY_BYTES = 32

log = logging.getLogger(__name__)

TUNNEL = Service(
    name="tunnel",
    description="WireGuard tunnels to routers",
    user=USER,
    capabilities=("net_admin",),
    command=lambda config: python("appliance.nas.wireguard"),
    reads=("paths", "radius", "tunnel", "netflow"),
    wanted=lambda config: config.tunnel.enabled,
)


class Peer(NamedTuple):
    """A router's end, as the appliance knows it."""

    name: str
    public_key: str
    address: str


def new_keys() -> tuple[str, str]:
    """A private key and its public one, as `wg genkey` and `wg pubkey` print them."""
    raw = bytearray(X25519PrivateKey.generate().private_bytes_raw())
    raw[0] &= 248  # clamped as wg(8) does it (RFC 7748, 5)
    raw[31] = raw[31] & 127 | 64
    private = _text(bytes(raw))
    return private, public_key(private)


def public_key(private: str) -> str:
    return _text(X25519PrivateKey.from_private_bytes(_bytes(private)).public_key().public_bytes_raw())


def server_address(network: IPv4Network) -> IPv4Address:
    """The appliance's own address in the tunnels: the network's first."""
    return network.network_address + 1


def free_address(network: IPv4Network, taken: Collection[IPv4Address]) -> IPv4Address:
    """The lowest address that no router has; raises UserError when there is none."""
    for number in range(2, network.num_addresses - 1):
        address = network.network_address + number
        if address not in taken:
            return address
    raise UserError(f"[tunnel] network: all addresses of {network} are taken: choose a shorter prefix")


def address_for(config: Config, nas: Nas | None) -> str:
    """The address that a router has or gets; raises UserError where tunnels aren't switched on."""
    must_be_on(config)
    network = config.tunnel.network
    if nas is not None and nas.tunnel_address and IPv4Address(nas.tunnel_address) in network:
        return str(nas.tunnel_address)
    with everywhere():
        taken = {IPv4Address(row.tunnel_address) for row in Nas.select().where(Nas.tunnel_address.is_null(False))}
    return str(free_address(network, taken))


def must_be_on(config: Config) -> None:
    if not config.tunnel.enabled:
        raise UserError(f"tunnels are off: set enabled = true below [tunnel] in {config.file}, then `gatehouse apply`")


def render(config: Config) -> list[File]:
    """The file of the tunnel's service, which notices a change by itself: no running tunnel is interrupted."""
    if not config.tunnel.enabled:
        return []
    key = server_key(config.paths.state)
    text = wg_conf(key, config.tunnel.listen_port, _peers(config))
    return [File(FILE, text, USER, ()), File(PUBLIC, public_key(key), "gatehouse-core", ())]


def wg_conf(private_key: str, port: int, peers: Collection[Peer]) -> str:
    """The format of wg(8), "CONFIGURATION FILE FORMAT"."""
    text = f"[Interface]\nPrivateKey = {private_key}\nListenPort = {port}\n"
    for peer in peers:
        text += f"\n# {peer.name}\n[Peer]\nPublicKey = {peer.public_key}\nAllowedIPs = {peer.address}/32\n"
    return text


def rules(config: Config) -> str:
    """For nft(8). A router in a tunnel asks RADIUS, answers CoA and sends flows, and reaches nothing else, here or
    behind this machine; in a table of its own, as there may be no gateway with rules here."""
    ports = f"{config.radius.authentication_port}, {config.radius.accounting_port}, {config.netflow.port}"
    return f"""{no_rules()}table {TABLE} {{
	chain input {{
		type filter hook input priority filter; policy accept;
		iifname != "{TUNNEL_DEVICE}" accept
		ct state established,related accept
		udp dport {{ {ports} }} accept
		icmp type echo-request accept
		drop
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname "{TUNNEL_DEVICE}" drop
		oifname "{TUNNEL_DEVICE}" drop
	}}
}}
"""


def no_rules() -> str:
    return f"add table {TABLE}\ndelete table {TABLE}\n"


def _peers(config: Config) -> list[Peer]:
    """Of the routers that this appliance serves, those whose script was printed already: only then there is a key."""
    rows = Nas.select().where(Nas.tunnel_address.is_null(False), clients.served(config)).order_by(Nas.name)
    return [peer for nas in rows if (peer := _peer(config, nas)) is not None]


def _peer(config: Config, nas: Any) -> Peer | None:
    """None for one without a key, and for a row that nobody could have typed."""
    try:
        fields.verify(nas)
        address = IPv4Address(nas.tunnel_address)
    except (UserError, ValueError) as error:
        log.error("the tunnel of router %r is left out: %s", nas.name, error)
        return None
    if address not in config.tunnel.network:
        raise UserError(
            f"[tunnel] network: router {nas.name} has {address}, outside of {config.tunnel.network}: "
            f"give it a new address by `gatehouse nas set {nas.name} --tunnel`"
        )
    if not nas.tunnel_key:
        return None
    if len(_bytes(nas.tunnel_key)) != _KEY_BYTES:
        log.error("the tunnel of router %r is left out: it has no WireGuard key", nas.name)
        return None
    return Peer(str(nas.name), str(nas.tunnel_key), str(address))


def own_public_key(config: Config) -> str:
    """The appliance's, for routers; by root before the first `apply`, by others after it."""
    try:
        return (config.paths.run / PUBLIC).read_text(encoding="ascii")
    except OSError:
        return public_key(server_key(config.paths.state))


def server_key(state: Path) -> str:
    """The appliance's private key, made when it is asked for the first time; only root can read its file."""
    path = state / "keys" / "tunnel.key"
    try:
        key = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return _make(path)
    except PermissionError:
        raise UserError(f"{path}: only root may read it: try sudo") from None
    if len(_bytes(key)) != _KEY_BYTES:
        raise UserError(f"{path}: that is no WireGuard key: restore it from a backup")
    return key


def _make(path: Path) -> str:
    key, _ = new_keys()
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
