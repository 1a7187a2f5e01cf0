"""`gatehouse mail`: the messages that the appliance sends."""

import argparse
import sys
from datetime import datetime
from typing import Any

from appliance import mail
from appliance.accounts.models import Mail
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.tables import show


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("mail", help="messages to people")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words = verbs.add_parser("password", help="set the mail server's password, read from standard input; empty: none")
    words.set_defaults(run=_password)
    words = verbs.add_parser("test", help="send a message now, and say what the server says")
    words.add_argument("recipient")
    words.set_defaults(run=_test)
    words = verbs.add_parser("list", help="what waits to be sent, and what couldn't be")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_list)


def _password(args: argparse.Namespace, config: Config) -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    try:
        mail.set_password(config, load_box(config.paths.state), password)
    except PermissionError:
        raise UserError("only root can do this: try again with sudo") from None
    return "the password is kept, sealed" if password else "no password is kept"


def _test(args: argparse.Namespace, config: Config) -> str:
    mail.test(config, load_box(config.paths.state), args.recipient)
    return f"{config.mail.host} has taken a message to {args.recipient}"


def _list(args: argparse.Namespace, config: Config) -> str:
    rows = [
        {
            "recipient": row.recipient,
            "subject": row.subject,
            "state": row.state,
            "since": datetime.fromtimestamp(row.created_at, config.site.timezone).isoformat(timespec="minutes"),
            "tries": row.tries,
            "error": row.error,
        }
        for row in Mail.select().order_by(Mail.id)
    ]
    return show(rows, ("recipient", "subject", "state", "since", "tries", "error"), args.json)
