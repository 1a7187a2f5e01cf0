"""The WireGuard device of the tunnels: made, kept like its file, and taken down at the end.

What the file says takes effect within a second and interrupts no tunnel that stays. A killed process leaves the
device as it is, and the next one takes it over.
"""

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path

from appliance.config import TUNNEL_DEVICE, Config, load
from appliance.nas.tunnel import FILE, no_rules, rules, server_address

MTU = 1420  # what RouterOS and Linux choose: 1500 less WireGuard's 60 over IPv4 or 80 over IPv6
LOOK_S = 1.0

log = logging.getLogger(__name__)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config, stop = load(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        _up(config)
        _follow(config.paths.run / FILE, stop)
        _run("ip", "link", "delete", "dev", TUNNEL_DEVICE)
        _run("nft", no_rules())
    except subprocess.CalledProcessError as error:
        log.error("%s: %s", " ".join(error.cmd), error.stderr.strip())
        return 1
    return 0


def _up(config: Config) -> None:
    network = config.tunnel.network
    _run("nft", rules(config))  # nothing comes out of the device before
    if not Path("/sys/class/net", TUNNEL_DEVICE).exists():
        _run("ip", "link", "add", "dev", TUNNEL_DEVICE, "type", "wireguard")
    _run("ip", "address", "flush", "dev", TUNNEL_DEVICE)
    _run("ip", "address", "add", f"{server_address(network)}/{network.prefixlen}", "dev", TUNNEL_DEVICE)
    _run("ip", "link", "set", "dev", TUNNEL_DEVICE, "mtu", str(MTU), "up")
    log.info("tunnels on UDP port %d", config.tunnel.listen_port)


def _follow(file: Path, stop: threading.Event) -> None:
    """Until `stop`; the file is only ever replaced as a whole."""
    known = None
    while True:
        status = file.stat()
        now = (status.st_ino, status.st_mtime_ns)
        if now != known:
            _run("wg", "syncconf", TUNNEL_DEVICE, str(file))
            log.info("read %s", file)
            known = now
        if stop.wait(LOOK_S):
            return


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
