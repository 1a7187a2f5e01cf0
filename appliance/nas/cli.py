"""`gatehouse nas`: the routers that may ask."""

import argparse
import sys
import time
from ipaddress import IPv4Network
from typing import Any

from appliance import certificates
from appliance.accounts import manage
from appliance.config import Config
from appliance.crypto import load_box, new_secret
from appliance.errors import UserError
from appliance.nas import setup, status, tunnel, watch
from appliance.nas.models import COA, GATEWAY, KINDS, Nas
from appliance.nas.raddb import PROCESSES
from appliance.tables import show
from appliance.units import format_ago

MIKROTIK = "mikrotik"
RFC_COA_PORT = 3799  # RFC 5176, 2
COLUMNS = (
    "name",
    "address",
    "kind",
    "message_authenticator",
    "coa",
    "coa_port",
    "radsec",
    "tunnel",
    "seen",
    "silent",
)
_APPLY = "run `gatehouse apply` to make FreeRADIUS know it"


def add_parsers(commands: Any) -> None:
    parser = commands.add_parser("nas", help="the routers that may ask")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, run in (("add", _add), ("set", _set)):
        words = verbs.add_parser(verb)
        _add_options(words)
        words.set_defaults(run=run)
    words.add_argument("--new-secret", action="store_true", help="make up a shared secret and print it")
    words = verbs.add_parser("list")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_list)
    words = verbs.add_parser("counters", help="what FreeRADIUS has counted since it was started")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_counters)
    words = verbs.add_parser("certificate", help="make and print a router's key and certificate for RadSec")
    words.add_argument("name")
    words.set_defaults(run=_certificate)
    words = verbs.add_parser("remove")
    words.add_argument("name")
    words.set_defaults(run=_remove)
    setup.add_parser(verbs)


def _add_options(words: argparse.ArgumentParser) -> None:
    words.add_argument("name")
    words.add_argument("--address", metavar="IP[/PREFIX]", help="where its requests come from; not with --tunnel")
    words.add_argument("--kind", choices=[kind for kind in KINDS if kind != GATEWAY])
    words.add_argument("--secret-stdin", action="store_true", help="read the shared secret from the first input line")
    words.add_argument("--coa", choices=COA, help="what it takes: changes, only Disconnect, or nothing")
    words.add_argument("--coa-port", type=int, metavar="PORT", help="1700 on RouterOS, 3799 by RFC 5176")
    _switch(words, "--radsec", "it asks over TLS (RFC 6614)")
    _switch(words, "--tunnel", "it is reached through a WireGuard tunnel that it opens itself")
    _switch(
        words,
        "--message-authenticator",
        "ask for it in each request; --no-… only for firmware that can't (CVE-2024-3596)",
    )


def _switch(words: argparse.ArgumentParser, name: str, text: str) -> None:
    words.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=text)


def _values(args: argparse.Namespace, config: Config, nas: Nas | None) -> dict[str, Any]:
    values = _where(args, config, nas)
    given = {
        "kind": args.kind,
        "coa": args.coa,
        "coa_port": args.coa_port,
        "radsec": args.radsec,
        "require_message_authenticator": args.message_authenticator,
    }
    values |= {key: value for key, value in given.items() if value is not None}
    if nas is None and args.coa_port is None and args.kind in ("chilli", "other"):
        values["coa_port"] = RFC_COA_PORT
    if not 1 <= values.get("coa_port", 1) <= 65_535:
        raise UserError(f"--coa-port {args.coa_port}: a port is between 1 and 65535")
    return values


def _where(args: argparse.Namespace, config: Config, nas: Nas | None) -> dict[str, Any]:
    """With a tunnel its requests come from its address in there, and CoA goes there."""
    has_tunnel = nas is not None and nas.tunnel_address is not None
    if args.address is not None and (args.tunnel or (has_tunnel and args.tunnel is None)):
        raise UserError("with a tunnel its address is the tunnel's: leave --address out, or say --no-tunnel too")
    if args.tunnel:
        if (args.kind or (nas.kind if nas else MIKROTIK)) != MIKROTIK:
            raise UserError("a tunnel is set up by the script for RouterOS: other kinds can't have one")
        address = tunnel.address_for(config, nas)
        return {"address": address, "tunnel_address": address}
    if args.address is None and (nas is None or (has_tunnel and args.tunnel is False)):
        raise UserError("--address is needed: where do its requests come from without a tunnel?")
    values: dict[str, Any] = {} if args.address is None else {"address": _address(args.address)}
    if args.tunnel is False:
        values |= {"tunnel_address": None, "tunnel_key": None}
    return values


def _address(text: str) -> str:
    try:
        network = IPv4Network(text)
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
    name, values = manage.name(args.name, "router"), _values(args, config, None)
    manage.add(Nas, "nas", name=name, secret=box.seal(secret), **values)
    shown = "" if args.secret_stdin else f"; its secret, shown only now: {secret}"
    return f"nas {args.name} added{shown}\n{_warning(args)}{_APPLY}"


def _set(args: argparse.Namespace, config: Config) -> str:
    nas = manage.get(Nas, args.name, "nas")
    if nas.kind == GATEWAY:
        raise UserError("the appliance's own gateway is set up by `gatehouse apply`, not by hand")
    values, shown = _values(args, config, nas), ""
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
    now, silent_s = int(time.time()), config.radius.silent_s
    silent = watch.silent(watch.routers(silent_s), silent_s, now)
    rows = [_row(nas) | {"silent": nas.name in silent} for nas in Nas.select().order_by(Nas.name)]
    if not args.json:
        for row in rows:
            row["seen"] = "never" if row["seen_at"] is None else format_ago(now - row["seen_at"])
    return show(rows, COLUMNS, args.json)


def _row(nas: Nas) -> dict[str, Any]:
    return {
        "name": nas.name,
        "address": nas.address,
        "kind": nas.kind,
        "message_authenticator": bool(nas.require_message_authenticator),
        "coa": nas.coa,
        "coa_port": nas.coa_port,
        "radsec": bool(nas.radsec),
        "tunnel": nas.tunnel_address is not None,
        "seen_at": nas.seen_at,
    }


def _counters(args: argparse.Namespace, config: Config) -> str:
    asked, rows = status.Watch(config), []
    for router in status.routers():
        for process in PROCESSES:
            found = asked.of_router(process, router)
            if found is not None:
                rows.append({"name": router.name, "process": process, **found._asdict()})
    return show(rows, ("name", "process", *status.Counters._fields), args.json)


def _certificate(args: argparse.Namespace, config: Config) -> str:
    nas = manage.get(Nas, args.name, "nas")
    if not nas.radsec:
        raise UserError(f"nas {args.name} doesn't use RadSec: run `gatehouse nas set {args.name} --radsec` first")
    pair = certificates.new_router(config, args.name)
    print(f"an older certificate of {args.name} ends with the next `gatehouse apply`", file=sys.stderr)
    return (pair.key + pair.certificate + certificates.authority(config)).rstrip()


def _remove(args: argparse.Namespace, config: Config) -> str:
    nas = manage.get(Nas, args.name, "nas")
    if nas.kind == GATEWAY:
        raise UserError("the appliance's own gateway can't be removed: disable the hotspot instead")
    nas.delete_instance()
    return f"nas {args.name} removed\nrun `gatehouse apply` to shut it out"
