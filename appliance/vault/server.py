"""FTP, explicit and implicit FTPS: listens, counts who is there, and gives each client a thread.

`python -m appliance.vault.server` runs as gatehouse-vault. It needs CAP_NET_BIND_SERVICE for ports below 1024, and
nothing else.
"""

import contextlib
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyftpdlib.ioloop import Acceptor, IOLoop

from appliance import process
from appliance.config import Config
from appliance.errors import UserError
from appliance.vault import catalog
from appliance.vault.access import CERTIFICATE
from appliance.vault.ftp_session import Session, plain
from appliance.vault.ftp_tls import Contexts
from appliance.vault.logins import Logins
from appliance.vault.models import Refused, vault_db
from appliance.vault.store import Store

BACKLOG = 512
STACK_BYTES = 512 * 1024  # 200 sessions and more on a small box
_GRACE_S = 10
_POLL_S, _ACCEPT_S = 1.0, 0.25  # how soon a session, and who accepts them, notices the end
_RECOVER_S = 5.0

log = logging.getLogger("vault")


@dataclass(frozen=True)
class Terms:
    """What the configuration says to sessions. `masquerade` is what clients from outside connect to for PASV."""

    passive_ports: range
    masquerade: str
    max_sessions: int
    max_per_address: int
    idle_timeout_s: int
    data_timeout_s: int
    connect_timeout_s: int = 30


class Gate:
    """How many sessions there are: in all, from each address, in each vault."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._lock = threading.Lock()
        self._addresses: Counter[str] = Counter()
        self._vaults: Counter[int] = Counter()

    def enter(self, address: str) -> str:
        """Why not, empty when counted."""
        with self._lock:
            if self._addresses.total() >= self._terms.max_sessions:
                return "There are too many sessions: try again later."
            if self._addresses[address] >= self._terms.max_per_address:
                return "There are too many sessions from your address."
            self._addresses[address] += 1
            return ""

    def leave(self, address: str) -> None:
        _take(self._lock, self._addresses, address)

    def enter_vault(self, vault: Any) -> None:
        with self._lock:
            if self._vaults[vault.id] >= vault.max_sessions:
                raise Refused(421, "There are too many sessions in this vault: try again later")
            self._vaults[vault.id] += 1

    def leave_vault(self, vault: int) -> None:
        _take(self._lock, self._vaults, vault)

    @property
    def sessions(self) -> int:
        with self._lock:
            return self._addresses.total()


def _take(lock: threading.Lock, counts: Counter[Any], key: Any) -> None:
    with lock:
        counts[key] -= 1
        if counts[key] <= 0:
            del counts[key]


class Pace:
    """A vault's bandwidth, over all of its sessions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at: dict[int, float] = {}

    def wait_s(self, vault: int, rate_bps: int, count_bytes: int) -> float:
        """How long to wait after so many bytes."""
        with self._lock:
            now = time.monotonic()
            at = max(self._free_at.get(vault, now), now - 1) + count_bytes * 8 / rate_bps
            self._free_at[vault] = at
            return max(0.0, at - now)


class Office:
    """What all sessions of a process share."""

    def __init__(self, config: Config, terms: Terms, store: Store, tls: Contexts | None) -> None:
        self.terms, self.store, self.tls = terms, store, tls
        self.logins = Logins(catalog.path(config).with_name("names.key"))
        self.gate, self.pace = Gate(terms), Pace()
        self.stop = threading.Event()


class Listener(Acceptor):
    """Only accepts: all else of a session, its greeting too, is done in its own thread, with an IOLoop of its own."""

    def __init__(self, office: Office, listening: socket.socket, implicit: bool, ioloop: Any) -> None:
        super().__init__(ioloop=ioloop)
        self.office, self.implicit = office, implicit
        self.ip_map: list[str] = []  # pyftpdlib's own count, which isn't used
        self.sessions: set[threading.Thread] = set()
        listening.setblocking(False)
        self.set_socket(listening)
        self.listen(BACKLOG)
        self.add_channel()

    def _accept_new_cons(self) -> bool:
        return True

    def handle_accepted(self, sock: socket.socket, addr: Sequence[Any]) -> None:
        address = plain(sock)
        if refusal := self.office.gate.enter(address):
            with contextlib.suppress(OSError):
                if not self.implicit:
                    sock.send(f"421 {refusal}\r\n".encode())
                sock.close()
            return
        thread = threading.Thread(target=self._serve, args=(sock, address), name=f"session {address}", daemon=True)
        self.sessions.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads
            self.sessions.discard(thread)
            self.office.gate.leave(address)
            sock.close()

    def _serve(self, sock: socket.socket, address: str) -> None:
        try:
            with IOLoop.factory() as loop:
                session = Session(sock, self, loop)
                if session.connected:
                    session.handle()
                self._loop(session, loop)
                session.close()
        except Exception:  # a session's fault is no other session's
            log.exception("%s: a session failed", address)
        finally:
            with contextlib.suppress(OSError):
                sock.close()
            vault_db.close()
            self.office.gate.leave(address)
            self.sessions.discard(threading.current_thread())

    def _loop(self, session: Session, loop: Any) -> None:
        wait_s = _POLL_S
        while loop.socket_map and not self.office.stop.is_set():
            loop.poll(min(wait_s, _POLL_S))
            soonest = loop.sched.poll()
            wait_s = _POLL_S if soonest is None else soonest

    def handle_error(self) -> None:
        """An accept that failed, as for want of file descriptors: the others go on."""
        log.exception("a connection can't be accepted")
        time.sleep(0.1)


def listening(address: str, port: int) -> socket.socket:
    """On `::` for both families. Raises UserError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise UserError(f"[vault] {address} port {port}: {error.strerror}") from None
    return made


class Server:
    """`sockets` are pairs of a bound socket and whether TLS begins at once on it."""

    def __init__(self, office: Office, sockets: Sequence[tuple[socket.socket, bool]]) -> None:
        self.office = office
        self._loop = IOLoop.factory()
        self.listeners = [Listener(office, made, implicit, self._loop) for made, implicit in sockets]

    def run(self) -> None:
        """Until `office.stop` is set; a transfer under way then is kept as one that nobody has confirmed."""
        try:
            while not self.office.stop.is_set():
                self._loop.poll(_ACCEPT_S)
        finally:
            self._loop.close()
            until = time.monotonic() + _GRACE_S
            for listener in self.listeners:
                for thread in list(listener.sessions):
                    thread.join(max(0.0, until - time.monotonic()))


def recovering(store: Store, stop: threading.Event) -> None:
    """What a crash left is swept as soon as the disk is there."""
    while not stop.is_set():
        try:
            store.recover()
            return
        except Refused as error:
            log.warning("%s", error.text)
        finally:
            vault_db.close()
        stop.wait(_RECOVER_S)


def terms(config: Config) -> Terms:
    section = config.vault
    return Terms(
        passive_ports=range(section.passive_first, section.passive_last + 1),
        masquerade=section.masquerade,
        max_sessions=section.max_sessions,
        max_per_address=section.sessions_per_address,
        idle_timeout_s=section.idle_s,
        data_timeout_s=section.idle_s,
    )


def serve(config: Config, over: threading.Event) -> None:
    """Raises UserError where it can't listen."""
    section = config.vault
    ports = [(section.port, False), *([(section.tls_port, True)] if section.tls_port else [])]
    sockets = [(listening(section.listen, port), implicit) for port, implicit in ports]
    store = Store(config)
    pair = config.paths.run / CERTIFICATE
    office = Office(config, terms(config), store, Contexts(pair, pair))
    office.stop = over
    threading.stack_size(STACK_BYTES)
    threading.Thread(target=recovering, args=(store, office.stop), daemon=True).start()
    Server(office, sockets).run()


if __name__ == "__main__":
    process.run("gatehouse-vault", "Takes files by FTP, and gives them back.", serve)
