"""`gatehouse`: the operator's command."""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import peewee

from appliance import apply as applying
from appliance import (
    backup_cli,
    certificates,
    data_disk,
    database_cli,
    disk_cli,
    first_boot,
    granting,
    machine_cli,
    mail_cli,
    modules,
    renewal_cli,
    supervise,
    swap,
    systemd_units,
)
from appliance import config as configuration
from appliance.accounts import cli as accounts_cli
from appliance.accounts import devices_cli, registration_cli, why
from appliance.accounts.database import open_core
from appliance.admin import links, tokens_cli
from appliance.config import Config
from appliance.core import CORE
from appliance.dealers import cli as dealers_cli
from appliance.dealers import cli_sales as sales_cli
from appliance.doctor import cli as doctor_cli
from appliance.errors import UserError
from appliance.island import cli as island_cli
from appliance.nas import cli as nas_cli
from appliance.nas import watch
from appliance.sites import cli as sites_cli
from appliance.tables import show
from appliance.vault import cli as vault_cli
from collector import cli as flows_cli


def main(words: Sequence[str] | None = None) -> int:
    """Exit status 0 when it was done, 1 with one line on standard error when not, 2 for a wrong command line.

    A command that looks for something sets `status` to 1 when it was found.
    """
    args = _parser().parse_args(words)
    try:
        paths = configuration.salvage_paths(args.config)
        args.finished = swap.finish_pending(paths.state)
        with applying.alone(paths.run) if args.run in (_apply, _switch, _wishes) else contextlib.nullcontext():
            text = _run(args)
    except UserError as error:
        print(f"gatehouse: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    if text:
        print(text)
    return int(args.status)


def _run(args: argparse.Namespace) -> str | None:
    config = configuration.load(args.config) if args.needs_config and args.run not in (_boot, _wishes) else Config()
    with open_core(config) if args.needs_core else contextlib.nullcontext():
        text: str | None = args.run(args, config)
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gatehouse", description="The hotspot appliance's command.")
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"default: {configuration.DEFAULT_FILE}")
    parser.set_defaults(needs_core=True, needs_config=True, status=0)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _simple(commands, "check", _check, "verify what `apply` would install, and change nothing")
    words = _simple(commands, "apply", _apply, "render, verify and install the configuration, restart what changed")
    boot = "only write the files, from the last configuration that worked if need be: services start afterwards"
    words.add_argument("--boot", action="store_const", dest="run", const=_boot, help=boot)
    asked = "do what owners have asked for on the admin's pages"
    words.add_argument("--wishes", action="store_const", dest="run", const=_wishes, help=asked)
    _simple(commands, "install", _install, "make users and the unit that runs at boot, where they aren't there yet")
    for verb, on in (("enable", True), ("disable", False)):
        words = _simple(commands, verb, _switch, f"{verb} a module" + ("" if on else "; its data stays"))
        words.add_argument("module")
        words.set_defaults(on=on)
    _simple(commands, "up", _up, "run all enabled services in the foreground, restarted when they die")
    _simple(commands, "admin-link", _admin_link, "print a link to the admin page that works once, for 15 minutes")
    _simple(commands, "ca", _ca, "print the certificate that phones install for WPA-Enterprise, and routers for RadSec")
    words = _simple(commands, "status", _status, "modules and their services")
    words.add_argument("--json", action="store_true")
    accounts_cli.add_parsers(commands)
    devices_cli.add_parser(commands)
    registration_cli.add_parser(commands)
    why.add_parser(commands)
    nas_cli.add_parsers(commands)
    tokens_cli.add_parser(commands)
    sites_cli.add_parser(commands)
    island_cli.add_parser(commands)
    machine_cli.add_parsers(commands)
    mail_cli.add_parser(commands)
    renewal_cli.add_parser(commands)
    doctor_cli.add_parser(commands)
    backup_cli.add_parsers(commands)
    database_cli.add_parser(commands)
    disk_cli.add_parser(commands)
    flows_cli.add_parser(commands)
    vault_cli.add_parser(commands)
    dealers_cli.add_parser(commands)
    sales_cli.add_parser(commands)
    return parser


def _simple(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: object, help_: str
) -> argparse.ArgumentParser:
    words = commands.add_parser(name, help=help_)
    words.set_defaults(run=run, needs_core=False)
    return words


def _check(args: argparse.Namespace, config: Config) -> str:
    applying.check(config)
    return f"{config.file}: all is well"


def _apply(args: argparse.Namespace, config: Config) -> str:
    changed = applying.apply(config)
    return f"changed: {', '.join(changed)}" if changed else "nothing changed"


def _install(args: argparse.Namespace, config: Config) -> str:
    applying.make_users()
    return "installed" if systemd_units.install_boot(config) else "nothing changed"


def _boot(args: argparse.Namespace, config: Config) -> str:
    """A mistake in the file must not keep the hotspot down after a power cut."""
    try:
        applying.apply(configuration.load(args.config), restart=False)
    except (UserError, OSError) as error:
        last = applying.last_applied(configuration.salvage_paths(args.config).state)
        going_on = f"going on with {last.file}, which worked last" if last else "no configuration has worked here yet"
        first_boot.show("apply", f"{error}; {going_on}")
        if last is None:
            raise UserError(f"{error}; {going_on}") from error
        print(f"gatehouse: {error}; {going_on}", file=sys.stderr)
        applying.apply(last, restart=False)
    return ""


def _wishes(args: argparse.Namespace, config: Config) -> str:
    return "\n".join(granting.grant(configuration.file_of(args.config)))


def _switch(args: argparse.Namespace, config: Config) -> str:
    module = modules.by_name(args.module)
    applying.switch(config, {module: args.on})
    return f"{module.name} is {'enabled' if args.on else 'disabled; its data stays'}"


def _up(args: argparse.Namespace, config: Config) -> str:
    if supervise.is_running(config):
        raise UserError("the services run already: see `gatehouse status`")
    if systemd_units.is_running():
        raise UserError("systemd runs the services here: use `gatehouse apply` and systemctl")
    applying.apply(config, restart=False)
    supervise.run_in_foreground(config)
    return ""


def _admin_link(args: argparse.Namespace, config: Config) -> str:
    return links.create(config)


def _ca(args: argparse.Namespace, config: Config) -> str:
    return certificates.authority(config).rstrip()


def _status(args: argparse.Namespace, config: Config) -> str:
    active = modules.running(config)
    states = applying.states(config, active)
    rows: list[dict[str, object]] = []
    for module in (CORE, *modules.MODULES):
        if module not in active:
            rows.append({"module": module.name, "service": None, "state": "disabled", "user": None})
        for service in applying.services(config, [module]) if module in active else ():
            state = states.get(service.name, "stopped")
            rows.append({"module": module.name, "service": service.name, "state": state, "user": service.user})
    table = show(rows, ("module", "service", "state", "user"), args.json)
    return table if args.json else "\n".join([table, *_silent_routers(config), *_data_disk(config), *_lines(config)])


def _lines(config: Config) -> list[str]:
    return [line for module in modules.running(config) for line in module.lines(config)]


def _silent_routers(config: Config) -> list[str]:
    """Lines; none where the database can't be asked, which is for others to say."""
    now, silent_s = int(time.time()), config.radius.silent_s
    try:
        with open_core(config):
            silent = watch.silent(watch.routers(silent_s, config.shows_gateways), silent_s, now)
    except (UserError, OSError, peewee.PeeweeException):
        return []
    return [watch.line(name, silence, now) for name, silence in silent.items()]


def _data_disk(config: Config) -> list[str]:
    """A line, once there has ever been one."""
    try:
        found = data_disk.state(config)
    except UserError:
        return []
    never = found.state == data_disk.ABSENT and data_disk.last_used(config) is None
    return [] if never else [data_disk.line(found)]


if __name__ == "__main__":
    sys.exit(main())
