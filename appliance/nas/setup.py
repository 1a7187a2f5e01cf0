"""From what is known of a router to the lines that set it up, or mend one part of it."""

import argparse
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any

from appliance.accounts import manage
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.nas import clients, reach, script, tunnel
from appliance.nas.models import Nas
from appliance.service import is_enabled

HIDDEN = "SECRET"  # stands for the router's secret in lines that anybody may see


@dataclass(frozen=True)
class Wishes:
    """What the one who sets a router up knows of it, and the appliance doesn't.

    `server` is where the router reaches this machine; `certificate` the router's own name of its, for RadSec.
    """

    routeros: int = 7
    server: IPv4Address | None = None
    services: tuple[str, ...] = ("hotspot",)
    hotspot_profile: str = "hsprof1"
    dhcp_server: str = "dhcp1"
    certificate: str = "router.crt_0"
    mac_login: bool = True
    ntp: IPv4Address | None = None
    traffic_flow: int | None = None
    flows: str = script.FLOW_FORMATS[0]
    flow_interfaces: str = ""
    new_key: bool = False
    backup: bool = False
    backup_password: str = ""


def add_parser(verbs: Any) -> None:
    words = verbs.add_parser("script", help="print the RouterOS commands that set a router up; they hold its secret")
    words.add_argument("name")
    words.add_argument("--routeros", type=int, choices=script.ROUTEROS, default=7)
    words.add_argument("--server", type=IPv4Address, metavar="ADDRESS", help="where the router reaches this machine")
    words.add_argument("--services", default="hotspot", metavar="LIST", help=f"of {','.join(script.SERVICES)}")
    words.add_argument("--hotspot-profile", default="hsprof1", metavar="NAME", help="what /ip hotspot setup made")
    words.add_argument("--dhcp-server", default="dhcp1", metavar="NAME")
    words.add_argument("--certificate", default="router.crt_0", metavar="NAME", help="the router's own, for RadSec")
    words.add_argument(
        "--mac-login",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="devices that are known by their MAC address needn't see the login page",
    )
    words.add_argument("--ntp", type=IPv4Address, metavar="ADDRESS", help="a time server for the router's clock")
    words.add_argument("--traffic-flow", type=int, metavar="PORT", help="send flows to this port of the appliance")
    words.add_argument("--flows", choices=script.FLOW_FORMATS, default=script.FLOW_FORMATS[0], help="how it sends them")
    words.add_argument("--flow-interfaces", default="", metavar="LIST", help="whose flows; as the router has it")
    words.add_argument("--new-key", action="store_true", help="a new key for its tunnel, when the router lost its own")
    words.add_argument(
        "--backup", action="store_true", help="bring its backups here each night, by a log-in of its own"
    )
    words.set_defaults(run=_script)


def _script(args: argparse.Namespace, config: Config) -> str:
    wishes = Wishes(
        routeros=args.routeros,
        server=args.server,
        services=services(args.services.split(",")),
        hotspot_profile=args.hotspot_profile,
        dhcp_server=args.dhcp_server,
        certificate=args.certificate,
        mac_login=args.mac_login,
        ntp=args.ntp,
        traffic_flow=port(args.traffic_flow),
        flows=args.flows,
        flow_interfaces=args.flow_interfaces,
        new_key=args.new_key,
        backup=args.backup,
    )
    return text(config, manage.get(Nas, args.name, "nas"), wishes)


def text(config: Config, nas: Nas, wishes: Wishes) -> str:
    """The whole script. A tunnel's key is made with it and only its public half is kept: `apply` comes after that."""
    clients.must_be_served(config, nas)
    if nas.kind != "mikrotik":
        raise UserError(f"router {nas.name} is of kind {nas.kind}: only RouterOS takes such a script")
    if wishes.new_key and not nas.tunnel_address:
        raise UserError(f"router {nas.name} has no tunnel: see `gatehouse nas set {nas.name} --tunnel`")
    new_key = bool(nas.tunnel_address) and (wishes.new_key or nas.tunnel_key is None)
    private, public = tunnel.new_keys() if new_key else (None, None)
    collected = _collected(config, nas, wishes, private)
    if wishes.backup:
        collected = replace(collected, backup=_backup(config, nas, wishes))
    rendered = script.render(collected)
    if public is not None:
        manage.change(nas, "nas", {"tunnel_key": public})
    return rendered


def _backup(config: Config, nas: Nas, wishes: Wishes) -> script.Backup:
    """A log-in that is good from the address that the router has; its password is another one each time."""
    if not is_enabled(config, "netbackup"):
        raise UserError("there is no vault for its backups: enable the module netbackup")
    from appliance.vault import for_routers  # only where that module is

    source = str(nas.tunnel_address or nas.address)
    login, password = for_routers.drop(config, str(nas.name), source)
    secret = wishes.backup_password
    if secret and not (secret.isascii() and secret.isprintable() and len(secret) <= 64):
        raise UserError("the backups' password: up to 64 printable ASCII characters are possible")
    return script.Backup(config.vault.port, login, password, secret)


def remedy(config: Config, nas: Nas, title: str) -> tuple[str, ...]:
    """The lines of one part of the script without any secret; none for what isn't RouterOS or can't be known."""
    if nas.kind != "mikrotik":
        return ()
    try:
        return script.section(replace(_collected(config, nas, Wishes(), None), secret=HIDDEN), title)
    except UserError:
        return ()


def server(config: Config, nas: Nas) -> IPv4Address:
    """Where the router finds FreeRADIUS; raises UserError when that can't be known."""
    return tunnel.server_address(config.tunnel.network) if nas.tunnel_address else reach.server(config, nas)


def _collected(config: Config, nas: Nas, wishes: Wishes, private: str | None) -> script.Script:
    portal, end, collects = wishes.server, None, is_enabled(config, "netflow")
    if nas.tunnel_address:
        tunnel.must_be_on(config)
        portal = portal or reach.endpoint(config)
        key = tunnel.own_public_key(config)
        end = script.Tunnel(private, str(nas.tunnel_address), key, str(portal), config.tunnel.listen_port)
    else:
        portal = portal or reach.server(config, nas)
    return script.Script(
        router=str(nas.name),
        routeros=wishes.routeros,
        server=str(server(config, nas) if nas.tunnel_address else portal),
        portal=str(portal),
        portal_ports=f"80,443,{config.portal.http_port},{config.portal.https_port}",
        secret=load_box(config.paths.state).open(nas.secret),
        authentication_port=config.radius.authentication_port,
        accounting_port=config.radius.accounting_port,
        coa_port=None if nas.coa == "none" else int(nas.coa_port),
        services=wishes.services,
        hotspot_profile=wishes.hotspot_profile,
        dhcp_server=wishes.dhcp_server,
        mac_login=wishes.mac_login,
        radsec_certificate=wishes.certificate if nas.radsec else None,
        radsec_port=_radsec_port(config) if nas.radsec else 0,
        message_authenticator=bool(nas.require_message_authenticator),
        ntp=str(wishes.ntp) if wishes.ntp else None,
        flows_port=wishes.traffic_flow or (config.netflow.port if collects and nas.netflow else None),
        flows_version=wishes.flows,
        flows_interfaces=wishes.flow_interfaces,
        flows_off_port=config.netflow.port if collects else None,
        tunnel=end,
    )


def _radsec_port(config: Config) -> int:
    if not config.radius.radsec_port:
        raise UserError(f"{config.file}: [radius] radsec_port: RadSec isn't switched on: set it to 2083")
    return config.radius.radsec_port


def services(named: list[str]) -> tuple[str, ...]:
    if unknown := [service for service in named if service not in script.SERVICES]:
        raise UserError(f"--services: there is no {unknown[0]!r}; there are: {', '.join(script.SERVICES)}")
    return tuple(service for service in script.SERVICES if service in named)


def port(number: int | None) -> int | None:
    if number is not None and not 1 <= number <= 65_535:
        raise UserError(f"--traffic-flow {number}: a port is between 1 and 65535")
    return number
