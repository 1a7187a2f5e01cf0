"""`gatehouse` for the machine itself: whether it serves, its root slots, its first boot."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from appliance import console, first_boot, health, slots
from appliance.config import Config
from appliance.errors import UserError


def add_parsers(commands: Any) -> None:
    words = _add(commands, "health", _health, "whether all that is enabled does its work; exit status 1 if not")
    words.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="until it does, but no longer")
    confirm = "keep the running slot if it does, whatever disks and other machines do; else start the other one, unless"
    confirm += " this one was kept before"
    words.add_argument("--confirm", action="store_true", help=confirm)
    words = _add(commands, "update", _update, "put a signed bundle into the slot that doesn't run")
    words.add_argument("bundle", type=Path, metavar="FILE", help="gatehouse-VERSION-amd64.raucb")
    words.add_argument("--reboot", action="store_true", help="start it now")
    words = _add(commands, "first-boot", _first_boot, "keys, site facts and network devices of a box of an image")
    words.set_defaults(needs_config=False)
    _add(commands, "console", _console, "what the box shows above its login: the set-up link and its fingerprints")


def _add(commands: Any, name: str, run: object, help_: str) -> argparse.ArgumentParser:
    words: argparse.ArgumentParser = commands.add_parser(name, help=help_)
    words.set_defaults(run=run, needs_core=False)
    return words


def _health(args: argparse.Namespace, config: Config) -> str:
    found = health.wait(config, args.wait, _tell, own=args.confirm)
    slot = slots.running() if args.confirm else None
    if not found:
        if slot:
            slots.confirm(slot)
        said = "; ".join(health.problems(config) if args.confirm else ()) or "all is well"
        return said + (f"; slot {slot.name} is kept" if slot else "")
    if slot and slots.give_up(slot):
        _tell(f"{'; '.join(found)}: slot {slot.name} is given up, the other one is started")
        _reboot()
    raise UserError("; ".join(found))


def _update(args: argparse.Namespace, config: Config) -> str:
    name = slots.install(args.bundle, _tell)
    if args.reboot:
        _reboot()
        return f"installed; slot {name} is started now"
    return f"installed; slot {name} is started at the next reboot"


def _first_boot(args: argparse.Namespace, config: Config) -> str:
    first_boot.run(_tell)
    return ""


def _console(args: argparse.Namespace, config: Config) -> str:
    return console.text(config)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _reboot() -> None:
    subprocess.run(["systemctl", "--no-block", "reboot"], check=True)
