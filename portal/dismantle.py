"""What a stopped gateway leaves in the kernel, taken away by root when this machine is to be one no longer.

What wasn't of its making stays: an address that the device had already, forwarding that was on before.
"""

import contextlib
import subprocess

from appliance.config import Config
from portal import host, nft, ruleset
from portal.netlink import KernelRefusal


def dismantle(config: Config) -> None:
    """Nothing passes in between, as the rules go last. What is gone already is no mistake."""
    lan, wan = config.gateway.lan, config.gateway.wan
    with contextlib.suppress(KernelRefusal):  # a unit of root's may not; a gateway that ran has done it itself
        host.stop_forwarding(config)
    if host.made(config, host.ADDRESS).exists():
        _run("ip", "address", "delete", str(config.gateway.address), "dev", lan)
    _run("ip", "route", "flush", "table", "local", "proto", str(host.ROUTE_PROTOCOL))
    for device in (lan, wan):
        if _run("tc", "qdisc", "show", "dev", device, "root").startswith("qdisc htb 1: "):
            _run("tc", "qdisc", "delete", "dev", device, "root")
    nft.load(f"add table {ruleset.TABLE}\ndelete table {ruleset.TABLE}\n")
    host.made(config, host.ADDRESS).unlink(missing_ok=True)


def _run(*words: str) -> str:
    return subprocess.run(words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
