"""`gatehouse nas`: the routers that may ask."""

import argparse
import sys
import time
from typing import Any

from appliance import certificates
from appliance.accounts.manage import get
from appliance.accounts.models import core_db
from appliance.admin import audit
from appliance.config import Config
from appliance.crypto import new_secret
from appliance.errors import UserError
from appliance.nas import login_page, routers, setup, status, watch
from appliance.nas.models import COA, PROCESSES, Nas
from appliance.nas.routers import Wanted
from appliance.tables import show
from appliance.units import format_ago

COLUMNS = (
    "name",
    "address",
    "kind",
    "message_authenticator",
    "coa",
    "coa_port",
    "radsec",
    "tunnel",
    "netflow",
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
    login_page.add_parser(verbs)


def _add_options(words: argparse.ArgumentParser) -> None:
    words.add_argument("name")
    words.add_argument("--address", metavar="IP[/PREFIX]", help="where its requests come from; not with --tunnel")
    words.add_argument("--kind", choices=routers.GIVEN_KINDS)
    words.add_argument("--secret-stdin", action="store_true", help="read the shared secret from the first input line")
    words.add_argument("--netflow", choices=("on", "off"), help="whether its flows are kept")
    words.add_argument("--netflow-from", metavar="LIST", help="where they come from, if not from its address")
    words.add_argument("--coa", choices=COA, help="what it takes: changes, only Disconnect, or nothing")
    words.add_argument("--coa-port", type=int, metavar="PORT", help="1700 on RouterOS, 3799 by RFC 5176")
    words.add_argument("--site", metavar="KEY", help="whose appliance serves it, or any; this one's by default")
    _switch(words, "--radsec", "it asks over TLS (RFC 6614)")
    _switch(words, "--tunnel", "it is reached through a WireGuard tunnel that it opens itself")
    _switch(
        words,
        "--message-authenticator",
        "ask for it in each request; --no-… only for firmware that can't (CVE-2024-3596)",
    )


def _switch(words: argparse.ArgumentParser, name: str, text: str) -> None:
    words.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=text)


def _wanted(args: argparse.Namespace) -> Wanted:
    return Wanted(
        address=args.address,
        kind=args.kind,
        coa=args.coa,
        coa_port=args.coa_port,
        radsec=args.radsec,
        tunnel=args.tunnel,
        message_authenticator=args.message_authenticator,
        netflow=None if args.netflow is None else args.netflow == "on",
        netflow_from=args.netflow_from,
        site=args.site,
    )


def _add(args: argparse.Namespace, config: Config) -> str:
    nas = routers.add(config, args.name, _wanted(args), _typed_secret(args))
    return f"nas {args.name} added{_shown(args, config, nas)}\n{_warning(args)}{_APPLY}"


def _set(args: argparse.Namespace, config: Config) -> str:
    nas = get(Nas, args.name, "nas")
    secret = _typed_secret(args) or (new_secret() if args.new_secret else "")
    before = {"site": nas.site}
    with core_db.atomic():
        routers.change(config, nas, _wanted(args), secret)
        if nas.site != before["site"]:  # whose sessions it had until now is told by this
            audit.record(audit.command(), "changed", f"router {nas.name}", before, {"site": nas.site})
    shown = _shown(args, config, nas) if secret else ""
    return f"nas {args.name} changed{shown}\n{_warning(args)}{_APPLY}"


def _typed_secret(args: argparse.Namespace) -> str:
    """Raises UserError where one was to come and none did."""
    if not args.secret_stdin:
        return ""
    if typed := sys.stdin.readline().strip():
        return typed
    raise UserError("that can't be a shared secret: use 8 to 64 letters and digits")


def _shown(args: argparse.Namespace, config: Config, nas: Nas) -> str:
    return "" if args.secret_stdin else f"; its secret, shown only now: {routers.secret_of(config, nas)}"


def _warning(args: argparse.Namespace) -> str:
    if args.message_authenticator is not False:
        return ""
    return f"warning: {routers.FORGEABLE}\n"


def _list(args: argparse.Namespace, config: Config) -> str:
    now, silent_s = int(time.time()), config.radius.silent_s
    silent = watch.silent(watch.routers(silent_s, config.shows_gateways), silent_s, now)
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
        "netflow": bool(nas.netflow),
        "netflow_from": nas.netflow_from.split(),
        "site": nas.site,
        "seen_at": nas.seen_at,
    }


def _counters(args: argparse.Namespace, config: Config) -> str:
    asked, rows = status.Watch(config), []
    for router in status.routers(config):
        for process in PROCESSES:
            found = asked.of_router(process, router)
            if found is not None:
                rows.append({"name": router.name, "process": process, **found._asdict()})
    return show(rows, ("name", "process", *status.Counters._fields), args.json)


def _certificate(args: argparse.Namespace, config: Config) -> str:
    nas = get(Nas, args.name, "nas")
    if not nas.radsec:
        raise UserError(f"nas {args.name} doesn't use RadSec: run `gatehouse nas set {args.name} --radsec` first")
    pair = certificates.new_router(config, args.name)
    print(f"an older certificate of {args.name} ends with the next `gatehouse apply`", file=sys.stderr)
    return (pair.key + pair.certificate + certificates.authority(config)).rstrip()


def _remove(args: argparse.Namespace, config: Config) -> str:
    nas = get(Nas, args.name, "nas")
    with core_db.atomic():
        routers.remove(nas)
        audit.record(audit.command(), "removed", f"router {nas.name}", {"site": nas.site}, {})
    return f"nas {args.name} removed\nrun `gatehouse apply` to shut it out"
