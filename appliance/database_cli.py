"""`gatehouse database`: from SQLite to PostgreSQL."""

import argparse
import contextlib
import sys
from typing import Any

from appliance import apply, backup_cli, config_database, moving
from appliance.config import Config
from appliance.errors import UserError


def add_parser(commands: Any) -> None:
    verbs = commands.add_parser("database", help="where accounts and the dealers' ledger are").add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    words = verbs.add_parser("move", help="copy all of it into an empty PostgreSQL database; services stop for that")
    words.add_argument("url", metavar="URL", help="as it will stand in [database] url: postgresql://user@host/name")
    words.set_defaults(run=_move, needs_core=False)


def _move(args: argparse.Namespace, config: Config) -> str:
    if not args.url.startswith("postgresql://"):
        raise UserError(f"{args.url[:40]!r}: write postgresql://user@host/name")
    try:
        config_database.check(args.url)
    except ValueError as error:
        raise UserError(str(error)) from None
    moving.parts(config)
    with apply.alone(config.paths.run):
        backup_cli.stop_services(args.config)
        try:
            count = moving.move(config, args.url, lambda line: print(line, file=sys.stderr, flush=True))
        except UserError as error:
            with contextlib.suppress(UserError):
                apply.apply(config)
            raise UserError(f"{error}; nothing was changed here") from None
    return (
        f"{count:,} rows are in PostgreSQL, and services stand still: write `url = {args.url!r}` below [database]"
        f" in {config.file}, then run `gatehouse apply`"
    )
