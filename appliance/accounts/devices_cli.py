"""`gatehouse device`: which devices log in by themselves, and for whom."""

import argparse
import time
from datetime import datetime
from typing import Any

from appliance.accounts import manage
from appliance.accounts.models import Account, Device
from appliance.config import Config
from appliance.errors import UserError
from appliance.tables import show
from rlm_python import pairs


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("device", help="devices that log in by themselves")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words = verbs.add_parser("add", help="let a device log in by its MAC address")
    words.add_argument("account")
    words.add_argument("mac")
    words.set_defaults(run=_add)
    words = verbs.add_parser("list")
    words.add_argument("--account")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_list)
    words = verbs.add_parser("remove", help="ask it for a login again")
    words.add_argument("mac")
    words.set_defaults(run=_remove)


def _mac(text: str) -> str:
    mac = pairs.mac(text)
    if mac.count(":") != 5:
        raise UserError(f"{text!r} is no MAC address: write aa:bb:cc:dd:ee:ff")
    return mac


def _add(args: argparse.Namespace, config: Config) -> str:
    mac, now = _mac(args.mac), int(time.time())
    account = manage.get(Account, args.account, "account")
    limit = manage.account_columns(account)["devices"]
    others = Device.select().where((Device.account == account) & (Device.mac != mac)).count()
    if others >= limit:
        raise UserError(f"{args.account!r} may have {limit} devices: raise --devices, or remove one of {others}")
    owner = {Device.account: account, Device.used_at: now}
    new = {Device.mac: mac, Device.added_at: now, **owner}
    Device.insert(new).on_conflict(conflict_target=[Device.mac], update=owner).execute()
    return f"device {mac} logs in as {args.account}"


def _list(args: argparse.Namespace, config: Config) -> str:
    query = Device.select(Device, Account).join(Account).order_by(Account.name, Device.used_at.desc())
    if args.account is not None:
        query = query.where(Account.name == args.account)
    zone = config.site.timezone

    def at(seconds: int) -> str:
        return datetime.fromtimestamp(seconds, zone).isoformat(timespec="minutes")

    rows = [{"account": d.account.name, "mac": d.mac, "added": at(d.added_at), "used": at(d.used_at)} for d in query]
    return show(rows, ("account", "mac", "added", "used"), args.json)


def _remove(args: argparse.Namespace, config: Config) -> str:
    if not Device.delete().where(Device.mac == _mac(args.mac)).execute():
        raise UserError(f"no account remembers {args.mac}: see `gatehouse device list`")
    return f"device {_mac(args.mac)} is asked for a login again"
