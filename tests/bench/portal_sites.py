"""Appliances with so many sessions, each in a process and a world of its own, that do in turn what they are told."""

import contextlib
import hashlib
import multiprocessing
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import IPv4Address
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from appliance import db
from appliance.accounts.sessions import SessionRow
from appliance.crypto import load_box
from portal.limits import Clock
from portal.models import FIRST_MINOR, Session, Store
from portal.protocol import GatewayClient, Logout
from portal.radius import NAS_IDENTIFIER
from tests.bench import acct_servers, flood, guest_logins, radius_servers
from tests.bench.guest_logins import Login
from tests.lab.addresses import PROVIDER, WAN, WEB
from tests.lab.appliance import Appliance
from tests.lab.namespace import Namespace, run, wait_until
from tests.lab.world import World

GATEWAY = IPv4Address("10.10.0.1")
PREFIX = 18
FIRST_GUEST = GATEWAY + 0xFF
LOGGING_IN = 600  # guests that come and go, each with a lease
THREADS = 8
SINK_PORT, FIRST_PORT = 9, 20_000
FLOOD_S = 0.3
_CONFIG = f"""
[site]
name = "Bench"
timezone = "Europe/Prague"

[gateway]
lan = "lan0"
wan = "wan0"
address = "{GATEWAY}/{PREFIX}"

[dhcp]
dns = ["{PROVIDER}"]
"""
_BARE = """flush ruleset
table ip bare { chain postrouting { type nat hook postrouting priority srcnat; oifname "wan0" masquerade; }; }
"""
_ACCOUNT = "INSERT INTO account (id, name, password, plan_id, enabled, created_at) VALUES (?, ?, ?, 1, 1, ?)"


class Site:
    """`sessions` guests are online; as many more as LOGGING_IN may come. The first `active` may send packets."""

    def __init__(self, world: World, sessions: int, active: int) -> None:
        self._world = world
        self._sessions = sessions
        self._active = active
        self._turn = 0
        self.appliance = Appliance(world.gw, world.directory / "appliance")

    def start(self) -> None:
        self.appliance.prepare(_CONFIG)
        self.appliance.cli("enable", "hotspot")
        self.appliance.up()
        self.appliance.cli("plan", "add", "bench")
        self.appliance.stop()
        self._fill()
        self.appliance.up(timeout_s=180)
        self._connect()

    def _fill(self) -> None:
        config, count = self.appliance.config(), self._sessions + LOGGING_IN
        seal, now = load_box(config.paths.state).seal, int(time.time())
        sealed = seal(radius_servers.password(0))

        def people(numbers: range) -> Iterator[tuple[object, ...]]:
            return ((n + 1, radius_servers.name(n), sealed, now) for n in numbers)

        core = db.sqlite_path(config.database_url)
        radius_servers.insert(core, count, _ACCOUNT, people)
        leases = config.paths.state / "dnsmasq" / "leases"
        lines = (f"{now + 86_400} {mac(n)} {address(n)} * *\n" for n in range(count))
        leases.write_text("".join(lines), encoding="ascii")
        clock = Clock()
        online = [_session(n, now, clock) for n in range(self._sessions)]
        radius_servers.insert(core, len(online), acct_servers.SAVE, lambda some: (_row(online[n]) for n in some))
        _fill_gateway(config.paths.state / "gateway" / "gateway.db", online)
        for path in (leases, *(config.paths.state / "gateway").iterdir()):
            shutil.chown(path, path.parent.owner(), path.parent.group())

    def _all_told(self) -> bool:
        database = f"file:{self.appliance.config().paths.state}/gateway/gateway.db?mode=ro"
        with closing(sqlite3.connect(database, uri=True)) as opened:
            return not opened.execute("SELECT EXISTS (SELECT 1 FROM outbox)").fetchone()[0]

    def _connect(self) -> None:
        """Who logs in sits in one namespace; the frames of who is online are made at the switch's port."""
        self._crowd = self._world.guest()
        coming = [address(self._sessions + n) for n in range(LOGGING_IN)]
        guest_logins.give_addresses(self._crowd, GATEWAY, PREFIX, coming)
        self._gateway = GatewayClient(self.appliance.config().paths.run / "gateway" / "gateway.sock", timeout_s=30)
        neighbours = (f"neigh replace {address(n)} lladdr {mac(n)} dev lan0 nud permanent" for n in range(self._active))
        run("ip", "-n", self._world.gw.name, "-batch", "-", stdin="\n".join(neighbours) + "\n")
        self._flood = flood.build(self._world.directory)
        flood.drop(self._world.net, "wan0", SINK_PORT)
        flood.drop(self._world.lan, "gw", SINK_PORT)

    # Logins

    def login_ms(self, count: int) -> list[float]:
        """Of each, one after the other; all have gone again at the end."""
        logins = self._next(count)
        found = [1000 * self._log_in(login) for login in logins]
        self._leave(logins)
        return found

    def logins_per_s(self, count: int) -> float:
        """THREADS guests at a time."""
        logins = self._next(count)
        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._log_in, logins))
        seconds = time.perf_counter() - began
        self._leave(logins)
        return count / seconds

    def _next(self, count: int) -> list[Login]:
        """Those whose last try is longest ago: the portal counts each guest's tries."""
        turns = [(self._turn + n) % LOGGING_IN + self._sessions for n in range(count)]
        self._turn += count
        return [Login(address(n), radius_servers.name(n), radius_servers.password(0)) for n in turns]

    def _log_in(self, login: Login) -> float:
        return guest_logins.log_in(self._crowd, GATEWAY, login)

    def _leave(self, logins: list[Login]) -> None:
        for login in logins:
            self._gateway.ask(Logout(login.address))
        wait_until(self._all_told, 60, "accounting")

    def login_page_bytes(self) -> int:
        return len(self._crowd.curl(f"http://{GATEWAY}/").body.encode())

    # Packets

    def forward_mbit_s(self, direction: str, senders: int) -> float:
        """Of the smallest frames, what comes out at the other side: `up` from the first guests, `down` to them."""
        return float(getattr(self, f"_{direction}")(senders))

    def bare(self) -> None:
        """Leaves the kernel alone with its connection tracking and masquerading; for the end."""
        self.appliance.stop()
        self._world.gw.run("nft", "-f", "-", stdin=_BARE)
        for device in ("lan0", "wan0"):
            self._world.gw.run("tc", "qdisc", "del", "dev", device, "root")

    def _up(self, senders: int) -> float:
        return self._measured(self._world.lan, "gw", self._frames(senders), self._world.net, "wan0")

    def _down(self, senders: int) -> float:
        """As answers to what they have sent just before."""
        flood.send(self._flood, self._world.lan, "gw", self._frames(senders), 0)
        far, near = (self._world.net, "wan0"), (self._world.gw, "wan0")
        far_mac, near_mac = (_mac_of(*end) for end in (far, near))
        source = far_mac, WEB, SINK_PORT
        frames = [flood.frame(source, (near_mac, WAN.ip, FIRST_PORT + n)) for n in range(senders)]
        return self._measured(*far, frames, self._world.lan, "gw")

    def _frames(self, senders: int) -> list[bytes]:
        to = _mac_of(self._world.gw, "lan0"), WEB, SINK_PORT
        return [flood.frame((mac(n), address(n), FIRST_PORT + n), to) for n in range(senders)]

    def _measured(self, at: Namespace, device: str, frames: list[bytes], to: Namespace, to_device: str) -> float:
        before = flood.arrived(to, to_device)
        seconds = flood.send(self._flood, at, device, frames, FLOOD_S)
        return (flood.arrived(to, to_device) - before) * flood.FRAME_BYTES * 8 / seconds / 1e6


def address(number: int) -> IPv4Address:
    return FIRST_GUEST + number


def mac(number: int) -> str:
    return ":".join(f"{byte:02x}" for byte in (2, 0, *number.to_bytes(4, "big")))


def _mac_of(machine: Namespace, device: str) -> str:
    return machine.run("cat", f"/sys/class/net/{device}/address").stdout.strip()


def _fill_gateway(file: Path, online: Sequence[Session]) -> None:
    store = Store(file, durable=False)
    store.open()
    with store.batch():
        for session in online:
            store.save(session)
    store.close()


def _session(n: int, now: int, clock: Clock) -> Session:
    return Session(
        id=f"{now:08x}{n:08x}",
        ip=address(n),
        mac=mac(n),
        account=radius_servers.name(n),
        session_class="",
        address=None,
        minor=FIRST_MINOR + n,
        down_bps=0,
        up_bps=0,
        idle_timeout_s=None,
        quota_bytes=None,
        interim_interval_s=300,
        started_boot_s=clock.boot(),
        deadline_boot_s=clock.boot() + 86_400,
        boot_id=clock.boot_id,
        saved_at=now,
        saved_boot_s=clock.boot(),
    )


def _row(session: Session) -> SessionRow:
    """What accounting wrote down after its Start; what makes it unique stands in rlm_python/raddb/accounting.server."""
    words = session.account, session.id, "gateway", NAS_IDENTIFIER, "lan0", ""
    return SessionRow(
        unique_id=hashlib.md5(",".join(words).encode(), usedforsecurity=False).hexdigest() + session.session_class,
        account_id=session.minor - FIRST_MINOR + 1,
        account=session.account,
        nas="gateway",
        acct_session_id=session.id,
        mac=session.mac,
        framed_ip=str(session.ip),
        host_ip=None,
        started_at=session.saved_at,
        updated_at=session.saved_at,
        ended_at=None,
        terminate_cause=None,
        session_s=0,
        input_octets=0,
        output_octets=0,
        raw_input_octets=0,
        raw_output_octets=0,
        granted_rate=None,
        granted_until=None,
        granted_octets=None,
        check_at=session.saved_at + 86_400,
        watch_octets=None,
    )


class Remote:
    """A Site in another process: one world a process."""

    def __init__(self, sessions: int, active: int) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, sessions, active))
        self._process.start()
        theirs.close()

    def ready(self) -> None:
        self._answer()

    def ask(self, method: str, *words: object) -> Any:
        self._pipe.send((method, words))
        return self._answer()

    def _answer(self) -> Any:
        """Raises RuntimeError with what went wrong over there."""
        try:
            failed, answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the other process has ended") from None
        if failed:
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


_SPAWN = multiprocessing.get_context("spawn")


def _serve(pipe: Connection, sessions: int, active: int) -> None:
    """Until the other end is closed."""
    with contextlib.suppress(EOFError, KeyboardInterrupt, OSError), World() as world:
        site = Site(world, sessions, active)
        try:
            site.start()
            pipe.send((False, None))
            while True:
                method, words = pipe.recv()
                pipe.send((False, getattr(site, method)(*words)))
        except Exception as error:  # for who asked
            pipe.send((True, f"{type(error).__name__}: {error}"))
        finally:
            site.appliance.stop()
