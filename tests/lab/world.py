"""A small world to try the appliance in: an Internet, a gateway machine, a switch and guests.

Each is a network namespace of its own; nothing of the host's network is touched, all is removed at the end.
"""

import json
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Self

from tests.lab.addresses import CARRIER, GARDEN, GARDEN_NETWORK, LAN, POOL, PROVIDER, WAN, WEB
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.namespace import (
    Namespace,
    cable,
    claim,
    remove,
    run,
    spool,
    start,
    sweep,
    unmount_below,
    wait_until,
)

_INTERNET = Path(__file__).with_name("internet.py")
_CONFIG = f"""
[site]
name = "Lab"
timezone = "Europe/Prague"

[gateway]
lan = "lan0"
wan = "wan0"
address = "{LAN}"
addresses = ["{POOL}"]

[dhcp]
dns = ["{PROVIDER}"]

[portal]
walled_garden = ["pay.example", "{GARDEN_NETWORK}"]
"""

_CARRIER_NAT = """
table ip carrier {
	chain forward {
		type filter hook forward priority filter; policy drop;
		iifname "cgn0" accept
		oifname "cgn0" ct state established,related accept
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		iifname "cgn0" oifname "wan0" masquerade random
	}
}
"""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class World:
    """`gw` has the devices wan0 and lan0, `net` is the Internet, `lan` the switch; one world a process."""

    def __init__(self, ipv6: bool = False) -> None:
        self._ipv6 = ipv6
        self._namespaces: list[Namespace] = []
        self._guests = 0
        self._exits = ExitStack()
        self.directory = spool(os.getpid())
        self.gw = Namespace(self._name("gw"), self.directory / "gw")
        self.net = Namespace(self._name("net"), self.directory / "net")
        self.lan = Namespace(self._name("lan"), self.directory / "lan")

    def __enter__(self) -> Self:
        if not Path("/etc/resolv.conf").exists():
            raise FileNotFoundError("/etc/resolv.conf: ip-netns(8) mounts over it: make it, it may be empty")
        if not self._exits.enter_context(claim(os.getpid())):
            raise RuntimeError("this process has a world already")
        self._catch_signals()
        try:
            sweep()
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes everything, last made first; no signal can break into it."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._exits.close()

    def _catch_signals(self) -> None:
        for number in _SIGNALS:
            self._exits.callback(signal.signal, number, signal.getsignal(number))
            signal.signal(number, _interrupt)
        self._exits.callback(self._remove)

    def _build(self) -> None:
        self.directory.mkdir(mode=0o755)
        self.directory.chmod(0o755)  # service users must get through, whatever the umask
        for namespace in (self.gw, self.net, self.lan):
            self._create(namespace)
        cable(self.gw, "wan0", self.net, "wan0")
        self.net.iproute("address", "add", f"{PROVIDER}/{WAN.network.prefixlen}", "dev", "wan0")
        for address in (WEB, GARDEN, GARDEN_NETWORK[1]):
            self.net.iproute("address", "add", f"{address}/32", "dev", "lo")
        self.gw.iproute("address", "add", str(WAN), "dev", "wan0")
        self.gw.iproute("route", "add", "default", "via", str(PROVIDER))
        self.gw.resolv_conf.write_text(f"nameserver {PROVIDER}\n", encoding="utf-8")
        self.lan.iproute("link", "add", "switch", "up", "type", "bridge")
        self._plug(self.gw, "lan0", "gw")
        self._start_internet()

    def _name(self, role: str) -> str:
        return f"gh{os.getpid()}-{role}"

    def _create(self, namespace: Namespace) -> None:
        self._namespaces.append(namespace)
        namespace.create(self._ipv6)

    def _plug(self, machine: Namespace, device: str, port: str) -> None:
        cable(machine, device, self.lan, port)
        self.lan.iproute("link", "set", port, "master", "switch")

    def _start_internet(self) -> None:
        self.net.popen(sys.executable, str(_INTERNET), str(WEB), log="internet.log")
        self.net.popen(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file="),
            *(
                "--no-resolv",
                "--no-hosts",
                f"--address=/#/{WEB}",
                f"--address=/pay.example/{GARDEN}",
                f"--listen-address={PROVIDER}",
            ),
            *("--bind-interfaces", "--log-facility=-", "--log-queries"),
        )
        self.net.await_listener(80, 443, 53)

    def guest(self) -> Guest:
        """One more guest at the switch, without an address."""
        self._guests += 1
        number = self._guests
        guest = Guest(self._name(f"g{number}"), self.directory / f"g{number}", _mac(number), self.net)
        self._create(guest)
        self._plug(guest, "eth0", f"g{number}")
        guest.iproute("link", "set", "eth0", "address", guest.mac)
        return guest

    def router(self) -> Namespace:
        """A machine in the Internet behind a carrier's NAT: it reaches everybody, nobody reaches it."""
        router = Namespace(self._name("router"), self.directory / "router")
        self._create(router)
        cable(router, "eth0", self.net, "cgn0")
        self.net.iproute("address", "add", str(CARRIER), "dev", "cgn0")
        router.iproute("address", "add", f"{CARRIER.ip + 1}/{CARRIER.network.prefixlen}", "dev", "eth0")
        router.iproute("route", "add", "default", "via", str(CARRIER.ip))
        self.net.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.net.run("nft", "-f", "-", stdin=_CARRIER_NAT)
        return router

    def appliance(self, config_toml_extra: str = "", netflow: bool = False) -> Appliance:
        """The appliance, running in `gw` and ready; keys of `config_toml_extra` win over the lab's own.

        With `netflow` it has a data disk and keeps the flows of its guests.
        """
        appliance = Appliance(self.gw, self.directory / "appliance")
        self._exits.callback(appliance.stop)
        appliance.start(_CONFIG, config_toml_extra, netflow)
        return appliance

    def fresh_appliance(self) -> Appliance:
        """One that nobody has set up yet, running in `gw`."""
        appliance = Appliance(self.gw, self.directory / "fresh")
        self._exits.callback(appliance.stop)
        appliance.start_fresh()
        return appliance

    def vault(self, machine: Namespace, name: str) -> Appliance:
        """An appliance in `machine` that has nothing but vaults; its admin's pages are there for everybody."""
        appliance = Appliance(machine, self.directory / name)
        self._exits.callback(appliance.stop)
        appliance.start_vault('[admin]\nlisten = "0.0.0.0"\n')
        return appliance

    def counters(self) -> dict[str, dict[str, int]]:
        """What reached the Internet so far, by kind and source address; see internet.py."""
        counters: dict[str, dict[str, int]] = json.loads(
            self.net.run("curl", "-sS", f"http://{PROVIDER}/counters").stdout
        )
        return counters

    def browser_relay(self, port: int, guest: Guest) -> None:
        """127.0.0.1:`port` on this machine becomes the portal as `guest` sees it."""
        self.relay(port, guest, f"{LAN.ip}:80")

    def admin_relay(self, port: int, address: str = "127.0.0.1:8090") -> None:
        """127.0.0.1:`port` on this machine becomes `address` inside the gateway machine."""
        self.relay(port, self.gw, address)

    def relay(self, port: int, machine: Namespace, address: str, at: Namespace | None = None) -> None:
        """127.0.0.1:`port`, on this machine or in `at`, becomes `address` inside `machine`.

        Through a unix socket, which knows no network namespaces.
        """
        path = self.directory / f"relay-{port}.sock"
        machine.popen("socat", f"UNIX-LISTEN:{path},fork", f"TCP:{address}")
        words = "socat", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", f"UNIX-CONNECT:{path}"
        if at is not None:
            at.popen(*words, log=f"relay-{port}.log")
            wait_until(lambda: path.exists() and at.listens(port), 10, f"the relay on port {port}")
            return
        listener = start("setpriv", "--pdeathsig", "KILL", *words, log=self.directory / f"relay-{port}.log")
        self._exits.callback(listener.wait)
        self._exits.callback(listener.kill)
        wait_until(lambda: path.exists() and _listens(port), 10, f"the relay on port {port}")

    def _remove(self) -> None:
        remove([namespace.name for namespace in self._namespaces])
        for namespace in self._namespaces:
            namespace.reap()
        unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


def _listens(port: int) -> bool:
    return bool(run("ss", "-Hltn", f"sport = :{port}").stdout.strip())


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first signal ends the world, further ones must not break the removal."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _mac(number: int) -> str:
    """Locally administered (IEEE 802, second bit of the first octet)."""
    return f"02:67:68:00:{number >> 8:02x}:{number & 255:02x}"
