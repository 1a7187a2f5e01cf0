"""The one daemon with CAP_NET_ADMIN: lets guests online as RADIUS granted it, shapes, counts and cuts.

`python -m portal.gateway --config FILE`. It keeps nothing that the kernel enforces in itself: killed or stopped,
sessions go on and end by their time-outs, and the next run takes them over from gateway.db.
"""

import argparse
import contextlib
import logging
import selectors
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Network
from itertools import islice
from pathlib import Path
from typing import Any, cast

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import UserError
from appliance.listener import Listener
from appliance.verbs import encode_error
from portal import host, nft, protocol, ruleset
from portal.flows import Flows
from portal.limits import Clock
from portal.models import Amount, Counters, Session, Store, closed_mark
from portal.netlink import KernelRefusal
from portal.outbox import Sender
from portal.radius import BadPacket, RadiusClient, answer_dynamic, decode_dynamic
from portal.sent_reader import SentReader
from portal.sessions import Sessions
from portal.shaping import Rates, Shaper

WATCH_S = 10.0  # between two looks whether the kernel still has what we put there
STOP_PATIENCE_S = 4.0
CLOSE_PATIENCE_S = 2.0  # for RADIUS to hear of the sessions that a closing ends; what it doesn't waits in the outbox
MAX_PACKET_BYTES = 4096  # RFC 2865, 3
ADMITTED_AT_ONCE = 100
REMEMBERED_ANSWERS = 64
LOCAL_TABLE, HOST_SCOPE = 255, 254

log = logging.getLogger(__name__)


class Kernel:
    """nftables, HTB, conntrack, addresses and routes; the Enforcer of Sessions."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shaper = Shaper(config.gateway.lan, config.gateway.wan)
        self._sent = SentReader()
        self._flows = Flows()

    def open(self) -> None:
        """Devices and queues. Raises UserError that names what is missing."""
        self._shaper.open()
        self._sent.open()
        self._devices = self._indexes()
        self._flows.open()
        with _told("the LAN address or a route"), IPRoute() as routes:
            _set_address(routes, self._config)
            _set_routes(routes, self._config.gateway.addresses)
        self._shaper.prepare()
        host.receive_each_packet(self._config.gateway.lan)

    def close(self) -> None:
        self._flows.close()
        self._sent.close()
        self._shaper.close()

    def rebuild(self, online: Sequence[ruleset.Online]) -> None:
        """Sessions that still have their classes, all but after a boot, never notice; the others follow by the
        hundred, as with 10,000 of them the kernel takes half a minute (each new class looks at all the others).
        """
        began_s = time.monotonic()
        missing = {minor for minor, _, _ in self._shaper.reconcile(_rates(session) for session, _ in online)}
        stale = self._sent.all().keys() - {(session.ip, session.minor) for session, _ in online}
        self._load_table(_left([one for one in online if one[0].minor not in missing], 0), stale)
        host.set_sysctls(self._config)  # forwarding only now: after a boot nobody passes before the table is there
        waiting = iter([one for one in online if one[0].minor in missing])
        while some := list(islice(waiting, ADMITTED_AT_ONCE)):
            self._shaper.set_classes(_rates(session) for session, _ in some)
            left = _left(some, time.monotonic() - began_s)
            nft.load("".join(ruleset.add(session, left_s) for session, left_s in left))

    def _load_table(self, online: list[ruleset.Online], stale: Iterable[ruleset.Counted]) -> None:
        try:
            nft.load(ruleset.render(self._config, online, stale))
        except KernelRefusal as error:
            log.info("%s: loading the table anew", error)
            nft.load(ruleset.render_anew(self._config, online))

    def admit(self, session: Session, remaining_s: float | None) -> None:
        self._shaper.set_classes([_rates(session)])
        self._forget_flows(session)
        nft.load(ruleset.add(session, remaining_s))

    def retime(self, session: Session, remaining_s: float | None) -> None:
        nft.load(ruleset.retime(session, remaining_s))

    def reshape(self, session: Session) -> None:
        self._shaper.set_classes([_rates(session)])

    def withdraw(self, sessions: Sequence[Session]) -> None:
        nft.load("".join(ruleset.remove(session) for session in sessions))
        for session in sessions:
            self._forget_flows(session)

    def counters(self, session: Session) -> Counters:
        return Counters.of(self._shaper.received(session.minor), self._sent.one(session.ip))

    def all_counters(self) -> dict[int, Counters]:
        """By minor."""
        down = self._shaper.all_received()
        up = {minor: amount for (_, minor), amount in self._sent.all().items()}
        nothing = Amount()
        return {m: Counters.of(down.get(m, nothing), up.get(m, nothing)) for m in down.keys() | up.keys()}

    def release(self, sessions: Sequence[Session]) -> None:
        nft.load("".join(ruleset.forget(session) for session in sessions))
        for session in sessions:
            self._shaper.release(session.minor)

    def check(self) -> None:
        """Raises KernelRefusal when somebody took away the table or a device (a modem that was plugged anew)."""
        if self._devices != self._indexes():
            raise KernelRefusal("a network device has gone or is a new one")
        if not self._sent.table_is_there():
            raise KernelRefusal(f"the table {ruleset.TABLE} has gone")

    def _indexes(self) -> dict[str, int]:
        present = {name: index for index, name in socket.if_nameindex()}
        return {name: present.get(name, 0) for name in (self._config.gateway.lan, self._config.gateway.wan)}

    def _forget_flows(self, session: Session) -> None:
        """So that the next holder of an address gets none of them; flows to the gateway itself stay, as the page
        that the guest is looking at comes over one of them."""
        self._flows.forget_from(session.ip)
        if session.address:
            self._flows.forget_to(session.address)


def _left(online: Sequence[ruleset.Online], later_s: float) -> list[ruleset.Online]:
    """Those who still have time, so many seconds later."""
    left = [(session, None if left_s is None else left_s - later_s) for session, left_s in online]
    return [(session, left_s) for session, left_s in left if left_s is None or left_s > 0]


def _rates(session: Session) -> Rates:
    return session.minor, session.down_bps, session.up_bps


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise KernelRefusal(f"the kernel refuses {what}: {error.args[-1]}") from None


def _set_address(routes: Any, config: Config) -> None:
    address = config.gateway.address
    index = socket.if_nametoindex(config.gateway.lan)
    with _suppress_existing():
        routes.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
        host.made(config, host.ADDRESS).touch()
    routes.link("set", index=index, state="up")


def _set_routes(routes: Any, networks: Sequence[IPv4Network]) -> None:
    """`local` routes make the kernel answer ARP for the guests' public addresses; old ones of ours go."""
    ours = routes.get_routes(family=socket.AF_INET, table=LOCAL_TABLE, proto=host.ROUTE_PROTOCOL)
    present = {IPv4Network(f"{route.get_attr('RTA_DST')}/{route['dst_len']}") for route in ours}
    for network in present ^ set(networks):
        routes.route(
            "del" if network in present else "add",
            dst=str(network),
            table=LOCAL_TABLE,
            type="local",
            scope=HOST_SCOPE,
            proto=host.ROUTE_PROTOCOL,
            oif=socket.if_nametoindex("lo"),
        )


@contextlib.contextmanager
def _suppress_existing() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != 17:  # EEXIST
            raise


class Gateway:
    """The loop: portal's questions, RADIUS's orders, time; one thing at a time."""

    def __init__(self, config: Config, secret: bytes) -> None:
        self._config = config
        self._secret = secret
        self._selector = selectors.DefaultSelector()
        database = config.paths.state / "gateway" / "gateway.db"
        self._store = Store(database)
        self._kernel = Kernel(config)
        self._sessions = Sessions(config, self._store, self._kernel, Clock())
        self._sender = Sender(Store(database, durable=False), RadiusClient(config, secret).account)
        self._listener = Listener(config.paths.run / "gateway" / "gateway.sock", self._reply, self._selector)
        self._answers: OrderedDict[tuple[object, bytes], bytes] = OrderedDict()
        self._stopping = False

    def run(self) -> None:
        """Until SIGTERM; raises UserError when it can't go on."""
        with contextlib.ExitStack() as stack:
            self._open(stack)
            log.info("ready, %d sessions", len(self._sessions))
            watch_at_s = time.monotonic()
            while not self._stopping:
                self._serve(self._patience_s(watch_at_s))
                self._sessions.tick()
                if self._store.queued():
                    self._sender.wake()
                if time.monotonic() >= watch_at_s:
                    watch_at_s = time.monotonic() + WATCH_S
                    self._kernel.check()
                    self._sessions.forget_ended()
            log.info("stopped, %d sessions go on in the kernel", len(self._sessions))

    def _open(self, stack: contextlib.ExitStack) -> None:
        self._stop_on_signals(stack)
        self._store.open()
        stack.callback(self._store.close)
        self._kernel.open()
        stack.callback(self._kernel.close)
        mark = closed_mark(self._config.paths.state)
        self._sessions.restore(_written_at(mark))
        mark.unlink(missing_ok=True)
        self._listener.open()
        stack.callback(self._listener.close)
        self._orders = stack.enter_context(_bound(self._config.gateway.coa_port))
        self._selector.register(self._orders, selectors.EVENT_READ, self._obey)
        self._sender.start()
        stack.callback(self._sender.stop, STOP_PATIENCE_S)

    def _stop_on_signals(self, stack: contextlib.ExitStack) -> None:
        """A byte on a pipe wakes the loop (signal(7): select is interrupted, but Python goes on waiting)."""
        reader, writer = (stack.enter_context(end) for end in socket.socketpair())
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        stack.callback(signal.set_wakeup_fd, -1)
        self._selector.register(reader, selectors.EVENT_READ, self._stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def _stop(self) -> None:
        self._stopping = True

    def _patience_s(self, watch_at_s: float) -> float:
        limits = [watch_at_s - time.monotonic(), self._sessions.next_check_s()]
        limits.append(1.0 if self._listener.busy else None)
        return max(0.0, min(limit for limit in limits if limit is not None))

    def _serve(self, patience_s: float) -> None:
        for key, _ in self._selector.select(patience_s):
            cast(Callable[[], None], key.data)()
        self._listener.expire()

    def _reply(self, line: bytes) -> bytes:
        try:
            return protocol.encode(self._ask(protocol.decode_request(line)))
        except KernelRefusal:
            raise  # for the outermost loop: start anew
        except UserError as error:
            return encode_error(str(error))

    def _ask(self, request: protocol.Request) -> protocol.Answer:
        match request:
            case protocol.Allow():
                return self._sessions.allow(request)
            case protocol.Logout():
                return self._sessions.logout(request.ip)
            case protocol.Who():
                return self._sessions.who(request.ip)
            case protocol.Close():
                return self._close()

    def _close(self) -> protocol.Answer:
        """The loop stands still meanwhile: there is nobody left to serve."""
        self._sessions.close()
        self._sender.wake()
        until_s = time.monotonic() + CLOSE_PATIENCE_S
        while self._store.waiting(1) and time.monotonic() < until_s:
            time.sleep(0.02)
        host.stop_forwarding(self._config)
        return protocol.Answer(online=False)

    def _obey(self) -> None:
        """An order that comes again, because our answer was lost, gets the same answer (RFC 5176, 2.3)."""
        try:
            data, sender = self._orders.recvfrom(MAX_PACKET_BYTES)
        except OSError:
            return
        key = sender, data
        if key not in self._answers:
            try:
                self._answers[key] = self._order(data)
            except BadPacket as error:
                log.warning("an order from %s is discarded: %s", sender, error)
                return
            if len(self._answers) > REMEMBERED_ANSWERS:
                self._answers.popitem(last=False)
        with contextlib.suppress(OSError):
            self._orders.sendto(self._answers[key], sender)

    def _order(self, data: bytes) -> bytes:
        request = decode_dynamic(data, self._secret)
        obey = self._sessions.disconnect if request.kind == "disconnect" else self._sessions.change
        return answer_dynamic(request, obey(request))


def _bound(port: int) -> socket.socket:
    orders = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    orders.setblocking(False)
    try:
        orders.bind(("127.0.0.1", port))
    except OSError as error:
        orders.close()
        raise UserError(f"[gateway] coa_port: UDP port {port} can't be used: {error.strerror}") from None
    return orders


def _written_at(path: Path) -> int | None:
    try:
        return int(path.stat().st_mtime)
    except FileNotFoundError:
        return None


def read_secret(path: Path) -> bytes:
    """Raises UserError where there is none."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: run `gatehouse apply`") from None
    if not secret:
        raise UserError(f"{path}: is empty: run `gatehouse apply`")
    return secret


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="portal.gateway", description=__doc__)
    parser.add_argument("--config", type=Path, help="the appliance's configuration")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        config = configuration.load(arguments.config)
        Gateway(config, read_secret(config.paths.run / "gateway.secret")).run()
    except UserError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
