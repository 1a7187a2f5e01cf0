"""What operators do with routers: checked values in, rows changed, errors for people; for commands and programs."""

from ipaddress import IPv4Network
from typing import Any, NamedTuple

from appliance.accounts import manage
from appliance.config import Config
from appliance.crypto import SecretBox, new_secret
from appliance.errors import UserError
from appliance.nas import tunnel
from appliance.nas.models import COA, GATEWAY, KINDS, Nas

MIKROTIK = "mikrotik"
RFC_COA_PORT = 3799  # RFC 5176, 2
CHOSEN_KINDS = tuple(kind for kind in KINDS if kind != GATEWAY)


class Wanted(NamedTuple):
    """None leaves what is there, or what is usual. With `tunnel` the address is the tunnel's."""

    address: str | None = None
    kind: str | None = None
    coa: str | None = None
    coa_port: int | None = None
    radsec: bool | None = None
    message_authenticator: bool | None = None
    tunnel: bool | None = None


def add(name: str, wanted: Wanted, given: str | None, box: SecretBox, config: Config) -> str:
    """Its shared secret, which is made up when none is given; it can't be shown again. Raises UserError."""
    chosen = secret(given) if given is not None else new_secret()
    name, values = manage.name(name, "router"), _values(wanted, config, None)
    manage.add(Nas, "nas", name=name, secret=box.seal(chosen), **values)
    return chosen


def change(nas: Any, wanted: Wanted, given: str | None, box: SecretBox, config: Config) -> None:
    """Raises UserError."""
    if nas.kind == GATEWAY:
        raise UserError("the appliance's own gateway is set up by `gatehouse apply`, not by hand")
    values = _values(wanted, config, nas)
    if given is not None:
        values["secret"] = box.seal(secret(given))
    manage.change(nas, "nas", values)


def remove(nas: Any) -> None:
    """Raises UserError."""
    if nas.kind == GATEWAY:
        raise UserError("the appliance's own gateway can't be removed: disable the hotspot instead")
    nas.delete_instance()


def secret(text: str) -> str:
    if not text.isascii() or not text.isalnum() or not 8 <= len(text) <= 64:
        raise UserError("that can't be a shared secret: use 8 to 64 letters and digits")
    return text


def _values(wanted: Wanted, config: Config, nas: Any) -> dict[str, Any]:
    values = _where(wanted, config, nas)
    given = {
        "kind": wanted.kind,
        "coa": wanted.coa,
        "coa_port": wanted.coa_port,
        "radsec": wanted.radsec,
        "require_message_authenticator": wanted.message_authenticator,
    }
    values |= {key: value for key, value in given.items() if value is not None}
    if nas is None and wanted.coa_port is None and wanted.kind in ("chilli", "other"):
        values["coa_port"] = RFC_COA_PORT
    if values.get("kind", MIKROTIK) not in CHOSEN_KINDS or values.get("coa", COA[0]) not in COA:
        raise UserError(f"a router is one of {', '.join(CHOSEN_KINDS)}, and takes one of {', '.join(COA)}")
    if not 1 <= values.get("coa_port", 1) <= 65_535:
        raise UserError(f"CoA port {wanted.coa_port}: a port is between 1 and 65535")
    return values


def _where(wanted: Wanted, config: Config, nas: Any) -> dict[str, Any]:
    """With a tunnel its requests come from its address in there, and CoA goes there."""
    has_tunnel = nas is not None and nas.tunnel_address is not None
    if wanted.address is not None and (wanted.tunnel or (has_tunnel and wanted.tunnel is None)):
        raise UserError("with a tunnel its address is the tunnel's: leave the address out, or give up the tunnel too")
    if wanted.tunnel:
        if (wanted.kind or (nas.kind if nas else MIKROTIK)) != MIKROTIK:
            raise UserError("a tunnel is set up by the script for RouterOS: other kinds can't have one")
        address = tunnel.address_for(config, nas)
        return {"address": address, "tunnel_address": address}
    if wanted.address is None and (nas is None or (has_tunnel and wanted.tunnel is False)):
        raise UserError("an address is needed: where do its requests come from without a tunnel?")
    values: dict[str, Any] = {} if wanted.address is None else {"address": _address(wanted.address)}
    if wanted.tunnel is False:
        values |= {"tunnel_address": None, "tunnel_key": None}
    return values


def _address(text: str) -> str:
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise UserError(f"address: {error}; write 192.0.2.7 or 192.0.2.0/24") from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)
