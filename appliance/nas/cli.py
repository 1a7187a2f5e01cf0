"""`gatehouse nas`: the routers that may ask."""

import argparse
import sys
from ipaddress import ip_network
from typing import Any

from appliance.accounts import manage
from appliance.config import Config
from appliance.crypto import load_box, new_secret
from appliance.errors import UserError
from appliance.nas.models import GATEWAY, KINDS, Nas
from appliance.tables import show

_APPLY = "run `gatehouse apply` to make FreeRADIUS know it"


def add_parsers(commands: Any) -> None:
    parser = commands.add_parser("nas", help="the routers that may ask")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, run in (("add", _add), ("set", _set)):
        words = verbs.add_parser(verb)
        words.add_argument("name")
        words.add_argument(
            "--address", required=verb == "add", metavar="IP[/PREFIX]", help="where its requests come from"
        )
        words.add_argument("--kind", choices=[kind for kind in KINDS if kind != GATEWAY])
        words.add_argument(
            "--secret-stdin", action="store_true", help="read the shared secret from the first input line"
        )
        words.add_argument("--coa-port", type=int, metavar="PORT", help="1700 on RouterOS, 3799 by RFC 5176")
        words.add_argument(
            "--message-authenticator",
            action=argparse.BooleanOptionalAction,
            default=None,
            help="ask for it in each request; --no-… only for firmware that can't (CVE-2024-3596)",
        )
        words.set_defaults(run=run)
    words.add_argument("--new-secret", action="store_true", help="make up a shared secret and print it")
    words = verbs.add_parser("list")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_list)
    words = verbs.add_parser("remove")
    words.add_argument("name")
    words.set_defaults(run=_remove)


def _values(args: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if args.address is not None:
        values["address"] = _address(args.address)
    if args.kind is not None:
        values["kind"] = args.kind
    if args.coa_port is not None:
        if not 1 <= args.coa_port <= 65_535:
            raise UserError(f"--coa-port {args.coa_port}: a port is between 1 and 65535")
        values["coa_port"] = args.coa_port
    if args.message_authenticator is not None:
        values["require_message_authenticator"] = args.message_authenticator
    return values


def _address(text: str) -> str:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise UserError(f"--address: {error}; write 192.0.2.7 or 192.0.2.0/24") from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _secret(text: str) -> str:
    if not text.isascii() or not text.isalnum() or not 8 <= len(text) <= 64:
        raise UserError("that can't be a shared secret: use 8 to 64 letters and digits")
    return text


def _add(args: argparse.Namespace, config: Config) -> str:
    secret = _secret(sys.stdin.readline().strip()) if args.secret_stdin else new_secret()
    box = load_box(config.paths.state)
    manage.add(Nas, "nas", name=manage.name(args.name, "router"), secret=box.seal(secret), **_values(args))
    shown = "" if args.secret_stdin else f"; its secret, shown only now: {secret}"
    return f"nas {args.name} added{shown}\n{_warning(args)}{_APPLY}"


def _set(args: argparse.Namespace, config: Config) -> str:
    nas = manage.get(Nas, args.name, "nas")
    if nas.kind == GATEWAY:
        raise UserError("the appliance's own gateway is set up by `gatehouse apply`, not by hand")
    values, shown = _values(args), ""
    if args.secret_stdin or args.new_secret:
        secret = _secret(sys.stdin.readline().strip()) if args.secret_stdin else new_secret()
        values["secret"] = load_box(config.paths.state).seal(secret)
        shown = "" if args.secret_stdin else f"; its secret, shown only now: {secret}"
    manage.change(nas, "nas", values)
    return f"nas {args.name} changed{shown}\n{_warning(args)}{_APPLY}"


def _warning(args: argparse.Namespace) -> str:
    if args.message_authenticator is not False:
        return ""
    return "warning: without Message-Authenticator its logins can be forged (CVE-2024-3596); update its firmware\n"


def _list(args: argparse.Namespace, config: Config) -> str:
    rows = [
        {
            "name": nas.name,
            "address": nas.address,
            "kind": nas.kind,
            "message_authenticator": bool(nas.require_message_authenticator),
            "coa_port": nas.coa_port,
        }
        for nas in Nas.select().order_by(Nas.name)
    ]
    return show(rows, ("name", "address", "kind", "message_authenticator", "coa_port"), args.json)


def _remove(args: argparse.Namespace, config: Config) -> str:
    nas = manage.get(Nas, args.name, "nas")
    if nas.kind == GATEWAY:
        raise UserError("the appliance's own gateway can't be removed: disable the hotspot instead")
    nas.delete_instance()
    return f"nas {args.name} removed\nrun `gatehouse apply` to shut it out"
