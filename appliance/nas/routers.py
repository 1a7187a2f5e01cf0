"""What operators do with routers: checked values in, rows changed, errors for people.

The command, the pages and the API call these functions. Each runs inside an open core database; FreeRADIUS knows what
came of it after the next `apply`, which pages and API ask root for.
"""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from appliance import wishes
from appliance.accounts import manage
from appliance.accounts.models import Refusal, Session, everywhere, reach
from appliance.config import Config
from appliance.crypto import load_box, new_secret
from appliance.errors import UserError
from appliance.nas import fields, tunnel
from appliance.nas.models import COA, GATEWAY, KINDS, Nas
from appliance.sites.models import Site

MIKROTIK = "mikrotik"
GIVEN_KINDS = tuple(kind for kind in KINDS if kind != GATEWAY)
MAX_FLOWS_FROM = 16
ANY_SITE = "any"  # the appliances of all sites serve it
RFC_COA_PORT = 3799  # RFC 5176, 2
FORGEABLE = "without Message-Authenticator its logins can be forged (CVE-2024-3596); update its firmware"


@dataclass(frozen=True)
class Wanted:
    """What a router is to be; None leaves it as it is, or as a new one begins.

    `netflow_from` are addresses and networks parted by spaces or commas. `site` is a key, or `any`.
    """

    address: str | None = None
    kind: str | None = None
    coa: str | None = None
    coa_port: int | None = None
    radsec: bool | None = None
    tunnel: bool | None = None
    message_authenticator: bool | None = None
    netflow: bool | None = None
    netflow_from: str | None = None
    site: str | None = None


def apply(config: Config, who: str) -> str:
    """Once a change is on disk: the id of the wish that FreeRADIUS be told; empty where nobody takes one."""
    try:
        return wishes.wish(config, who)
    except OSError:
        return ""


def shown_kinds(config: Config) -> tuple[str, ...]:
    """The own gateway is none of the routers where it is switched off; its past sessions still are its."""
    return KINDS if config.shows_gateways else GIVEN_KINDS


def add(config: Config, name: str, wanted: Wanted, secret: str = "") -> Any:
    """With a secret of our own where none is given."""
    values = _values(config, wanted, None)
    _must_be_free(config, name)
    sealed = load_box(config.paths.state).seal(fields.secret(secret or new_secret()))
    return manage.add(Nas, "nas", name=fields.name(name), secret=sealed, **values)


def _must_be_free(config: Config, name: str) -> None:
    """What is on record under a name is told to whoever may see the router that has it."""
    if config.fleet and name.partition("-")[0] == GATEWAY:
        raise UserError(f"{name!r}: the sites' own gateways are called so; choose another name")
    if reach.get() is None:
        return
    with everywhere():
        known = any(model.select().where(model.nas == name).exists() for model in (Session, Refusal))
    if known:
        raise UserError(f"{name!r} was another router's name, whose sessions are on record: choose another name")


def change(config: Config, nas: Any, wanted: Wanted, secret: str = "") -> None:
    if nas.kind == GATEWAY:
        raise UserError("the appliance's own gateway is set up by `gatehouse apply`, not by hand")
    values = _values(config, wanted, nas)
    if secret:
        values["secret"] = load_box(config.paths.state).seal(fields.secret(secret))
    manage.change(nas, "nas", values)


def secret_of(config: Config, nas: Any) -> str:
    return load_box(config.paths.state).open(nas.secret)


def remove(nas: Any) -> None:
    if nas.kind == GATEWAY:
        raise UserError("the appliance's own gateway can't be removed: disable the hotspot instead")
    nas.delete_instance()


def _values(config: Config, wanted: Wanted, nas: Any) -> dict[str, Any]:
    values = _where(config, wanted, nas)
    given = {
        "kind": fields.one_of("kind", wanted.kind, GIVEN_KINDS),
        "coa": fields.one_of("CoA", wanted.coa, COA),
        "coa_port": wanted.coa_port,
        "radsec": wanted.radsec,
        "require_message_authenticator": wanted.message_authenticator,
        "netflow": wanted.netflow,
        "netflow_from": None if wanted.netflow_from is None else _flows_from(wanted.netflow_from),
    }
    values |= {key: value for key, value in given.items() if value is not None} | _site(config, wanted, nas)
    if nas is None and wanted.coa_port is None and wanted.kind in ("chilli", "other"):
        values["coa_port"] = RFC_COA_PORT
    if not 1 <= values.get("coa_port", 1) <= 65_535:
        raise UserError(f"CoA port {wanted.coa_port}: a port is between 1 and 65535")
    return values


def sites(config: Config) -> tuple[str, ...]:
    """Those that a router may be of, for who asks; none where there are no sites."""
    if not config.fleet:
        return ()
    keys = tuple(str(site.key) for site in Site.select(Site.key).order_by(Site.key))
    return keys if reach.get() is not None else (ANY_SITE, *keys)


def _site(config: Config, wanted: Wanted, nas: Any) -> dict[str, str | None]:
    """A new one is of the appliance's own site, where it isn't said and may be."""
    known = sites(config)
    if wanted.site is None and (nas is not None or (not known and reach.get() is None)):
        return {}
    if not known:
        raise UserError("there is no site that a router may be of")
    site = wanted.site if wanted.site is not None else config.site.key if config.site.key in known else known[0]
    if site not in known:
        raise UserError(f"site: there is no {site!r}{'; there are: ' if known else ''}{', '.join(known)}")
    return {"site": None if site == ANY_SITE else site}


def _where(config: Config, wanted: Wanted, nas: Any) -> dict[str, Any]:
    """With a tunnel its requests come from its address in there, and CoA goes there."""
    has_tunnel = nas is not None and nas.tunnel_address is not None
    if wanted.address is not None and (wanted.tunnel or (has_tunnel and wanted.tunnel is None)):
        raise UserError("with a tunnel its address is the tunnel's: leave the address out, or take the tunnel away")
    if wanted.tunnel:
        if (wanted.kind or (nas.kind if nas else MIKROTIK)) != MIKROTIK:
            raise UserError("a tunnel is set up by the script for RouterOS: other kinds can't have one")
        address = tunnel.address_for(config, nas)
        return {"address": address, "tunnel_address": address}
    if wanted.address is None and (nas is None or (has_tunnel and wanted.tunnel is False)):
        raise UserError("an address is needed: where do its requests come from without a tunnel?")
    values: dict[str, Any] = {} if wanted.address is None else {"address": fields.address(wanted.address)}
    if wanted.tunnel is False:
        values |= {"tunnel_address": None, "tunnel_key": None}
    return values


def _flows_from(text: str) -> str:
    """Of both families, unlike what RADIUS is asked from."""
    networks = []
    for word in text.replace(",", " ").split():
        try:
            network = ip_network(word)
        except ValueError as error:
            raise UserError(f"flows come from: {error}; write 192.0.2.7, 2001:db8::7 or 192.0.2.0/24") from None
        networks.append(str(network.network_address) if network.num_addresses == 1 else str(network))
    if len(networks) > MAX_FLOWS_FROM:
        raise UserError(f"flows come from: {MAX_FLOWS_FROM} addresses and networks are possible for a router")
    return " ".join(networks)
