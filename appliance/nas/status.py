"""What FreeRADIUS has counted, asked by Status-Server (RFC 5997); and which router sends what can't be used.

FreeRADIUS 3.2 drops garbage and requests without Message-Authenticator without a line in its log, but counts them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from pyrad import packet as codec

from appliance.config import Config
from appliance.errors import Unavailable, UserError
from appliance.nas import clients, coa
from appliance.nas.models import PROCESSES, Nas

_STATUS_SERVER = 12  # RFC 5997, 3
_KINDS = {"authentication": ("Access", "Auth", 0x01), "accounting": ("Accounting", "Acct", 0x02)}
_INTERNAL, _CLIENT = 0x10, 0x20  # dictionary.freeradius, FreeRADIUS-Statistics-Type


class Counters(NamedTuple):
    """Since the process started: `malformed` is garbage or no Message-Authenticator, `invalid` a wrong secret."""

    requests: int
    duplicate: int
    malformed: int
    invalid: int
    dropped: int
    unknown: int

    @property
    def unusable(self) -> int:
        return self.malformed + self.unknown


@dataclass(frozen=True)
class Router:
    name: str
    address: str
    must_authenticate: bool


def routers(config: Config) -> list[Router]:
    """All that FreeRADIUS here serves, of the open core database."""
    return [router(nas) for nas in Nas.select().where(clients.served(config)).order_by(Nas.name)]


def router(nas: Any) -> Router:
    return Router(nas.name, clients.address(nas), bool(nas.require_message_authenticator))


class Watch:
    """The two processes' counters. Raises Unavailable when a process doesn't answer, UserError without the secret."""

    def __init__(self, config: Config, secret: str = "") -> None:
        self._ports = {process: getattr(config.radius, f"{process}_status_port") for process in PROCESSES}
        self._secret = secret.encode() or _read_secret(config.paths.run / "status.secret")

    def of_process(self, process: str) -> tuple[int, Counters]:
        """When it started (UTC seconds), and what it has counted for all together."""
        reply = self._ask(process, _KINDS[process][2] | _INTERNAL)
        return reply["FreeRADIUS-Stats-Start-Time"][0], _counters(reply, process)

    def logins(self) -> tuple[int, int]:
        """How many were accepted and refused since authentication was started. Raises Unavailable."""
        reply = self._ask("authentication", _KINDS["authentication"][2])
        return reply["FreeRADIUS-Total-Access-Accepts"][0], reply["FreeRADIUS-Total-Access-Rejects"][0]

    def of_router(self, process: str, router: Router) -> Counters | None:
        """None for one that the running process doesn't know yet."""
        address = str(ip_network(router.address).network_address)
        reply = self._ask(process, _KINDS[process][2] | _CLIENT, address)
        return _counters(reply, process) if "FreeRADIUS-Stats-Client-IP-Address" in reply else None

    def _ask(self, process: str, statistics: int, client: str | None = None) -> Any:
        request = codec.AuthPacket(
            code=_STATUS_SERVER, secret=self._secret, dict=coa.dictionary(), message_authenticator=True
        )
        request["FreeRADIUS-Statistics-Type"] = statistics
        if client is not None:
            request["FreeRADIUS-Stats-Client-IP-Address"] = client
        reply = coa.exchange(request, "127.0.0.1", self._ports[process])
        if reply is None:
            raise Unavailable(f"radius-{process} doesn't answer on 127.0.0.1 port {self._ports[process]}")
        return reply


class MalformedWatch:
    """Names the routers that have sent what can't be used since the last look."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._started: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._nobodys: dict[str, int] = {}

    def look(self, asking: Sequence[Router]) -> list[str]:
        """One line for each router whose count grew; none at the first look. Raises Unavailable."""
        return [line for process in _KINDS for line in self._look_at(process, asking)]

    def _look_at(self, process: str, asking: Sequence[Router]) -> Iterator[str]:
        started, counters = self._watch.of_process(process)
        first = process not in self._started
        if self._started.get(process) != started:
            self._forget(process)
        self._started[process] = started
        if counters.unusable == self._total.get(process, 0) and not first:
            return  # nobody need be asked for
        self._total[process] = counters.unusable
        for router in asking:
            more = self._growth(process, router)
            if more and not first:
                yield describe(process, router, more)
        theirs = sum(count for (of, _), count in self._seen.items() if of == process)
        more = counters.unusable - theirs - self._nobodys.get(process, 0)
        self._nobodys[process] = max(counters.unusable - theirs, 0)
        if more > 0 and not first:
            yield f"somebody: {_counted(more, 'datagram')} for radius-{process} that can't be RADIUS"

    def _growth(self, process: str, router: Router) -> int:
        found = self._watch.of_router(process, router)
        if found is None:
            return 0
        before = self._seen.get((process, router.name), 0)
        self._seen[process, router.name] = found.unusable
        return found.unusable - before if found.unusable > before else 0

    def _forget(self, process: str) -> None:
        """A process that was started anew counts from 0."""
        self._total.pop(process, None)
        self._nobodys.pop(process, None)
        self._seen = {key: value for key, value in self._seen.items() if key[0] != process}


def describe(process: str, router: Router, count: int) -> str:
    what = "accounting packet" if process == "accounting" else "request"
    line = f"router {router.name} ({router.address}): {_counted(count, what)} that can't be used: garbage"
    if process == "accounting" or not router.must_authenticate:
        return line
    mend = f"update its firmware, or: gatehouse nas set {router.name} --no-message-authenticator"
    return f"{line}, or without Message-Authenticator ({mend})"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _counters(reply: Any, process: str) -> Counters:
    whole, short, _ = _KINDS[process]
    names = [f"Total-{whole}-Requests"]
    names += [f"Total-{short}-{what}-Requests" for what in ("Duplicate", "Malformed", "Invalid", "Dropped")]
    names.append(f"Total-{short}-Unknown-Types")
    return Counters(*(reply[f"FreeRADIUS-{name}"][-1] for name in names))  # a router's come after those of all


def _read_secret(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: FreeRADIUS isn't set up: run `gatehouse enable hotspot`") from None
    except PermissionError:
        raise UserError(f"{path}: only root and the jobs service may read it: try sudo") from None
