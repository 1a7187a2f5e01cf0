"""`gatehouse certificate`: what the public authority is asked for."""

import argparse
from typing import Any

from appliance import renewal
from appliance.config import Config


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("certificate", help="the login page's certificate, from a public authority (ACME)")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words = verbs.add_parser("renew", help="get a new one if it is due; done by itself each day")
    words.set_defaults(run=_renew, needs_core=False)


def _renew(args: argparse.Namespace, config: Config) -> str:
    return renewal.renew(config)
