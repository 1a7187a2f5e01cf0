"""What stands on the box's screen and serial line above the login: how to set it up, and how to know it again."""

import subprocess
from importlib.metadata import version

import peewee

from appliance import certificates, slots
from appliance.accounts.database import open_core
from appliance.admin import links, people
from appliance.config import Config
from appliance.errors import UserError
from appliance.first_boot import HOST_KEY, for_issue


def text(config: Config) -> str:
    """An issue file; agetty(8) puts the address in for `\\4{device}` whenever it shows it."""
    slot = slots.running()
    title = f"Gatehouse {version('gatehouse')}" + (f", slot {slot.name}" if slot else "")
    lines = ["", f"{title}: {for_issue(config.site.name)}", ""]
    host = f"\\4{{{config.gateway.wan}}}" if config.gateway.enabled else "\\4"  # the first that is up
    if config.paths.state.joinpath("admin").is_dir():
        lines += [f"  {_way_in(config, host)}"]
        lines += [f"           certificate SHA-256 {certificates.fingerprint(certificates.own_admin(config))}"]
    lines += [f"  SSH      root@{host}  {_host_key()}", "", ""]
    return "\n".join(lines)


def _way_in(config: Config, host: str) -> str:
    """A link that lets in whoever reads it, only until somebody can log in; `gatehouse admin-link` is for rescue."""
    if not _has_owner(config):
        return f"Set up   {links.create_for_console(config, host)}"
    links.forget_console(config)
    return f"Pages    {links.address(config, host)}"


def _has_owner(config: Config) -> bool:
    try:
        with open_core(config):
            return people.has_owner()
    except (UserError, OSError, peewee.PeeweeException):
        return False


def _host_key() -> str:
    words = ["ssh-keygen", "-l", "-f", f"{HOST_KEY}.pub"]
    try:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[1]
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise UserError(f"{HOST_KEY}.pub: there is no host key yet: run `gatehouse first-boot` first") from None
