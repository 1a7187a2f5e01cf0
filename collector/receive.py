"""The process that listens: datagrams of routers that are switched on go into the journal, one transaction a second.

It knows nothing of what is in them. One thread empties the socket, another one writes, so that a slow disk costs
memory up to a bound and then datagrams that are counted, never datagrams that nobody missed.
"""

import contextlib
import json
import logging
import queue
import select
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from appliance import data_disk, process
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from collector import intake, places, spool
from collector.exporters import Followed, plain
from collector.journal import OTHERS, Datagram, Heard
from collector.spool import Batch, Store

MAX_WAITING_BYTES = 48 * 2**20  # received and not on disk yet
MAX_SENDERS = 4096  # looked up and remembered
MAX_OTHERS = 256  # senders that aren't collected, named in a second

_TICK_S = 1.0
_REST_S = 0.005  # between two looks at a busy socket: a wake for each datagram costs more than the datagram
_AT_ONCE = 512
_OVERHEAD_BYTES = 120  # of a datagram in memory
_CLOCK_SET_S = 2.0
_SAID_EVERY_S = 5.0  # at least, and at once when there is something to say

log = logging.getLogger(__name__)


class Sender(NamedTuple):
    address: str
    collected: bool


class Receiver:
    """Sorts what comes by whether it is collected; `take` hands over what came since."""

    def __init__(self, followed: Followed) -> None:
        self._followed = followed
        self._senders: dict[str, Sender] = {}
        self._datagrams: list[Datagram] = []
        self._others: dict[str, Heard] = {}
        self._lost: Counter[str] = Counter()
        self.bytes = 0
        self.waiting_bytes = 0  # what the writer has still to do
        self.lock = threading.Lock()

    def follow(self) -> None:
        if self._followed.changed():
            self._senders.clear()

    def receive(self, payload: bytes, source: str, now_ms: int) -> None:
        sender = self._senders.get(source) or self._sender(source)
        if not sender.collected:
            self._count(sender.address, len(payload), now_ms)
        elif self.bytes + self.waiting_bytes > MAX_WAITING_BYTES:
            self._lost["queue"] += 1
        else:
            self._datagrams.append(Datagram(now_ms, sender.address, payload))
            self.bytes += len(payload) + _OVERHEAD_BYTES

    def _sender(self, source: str) -> Sender:
        address = plain(source)
        found = self._followed.exporters.find(address)
        if len(self._senders) >= MAX_SENDERS:
            self._senders.clear()
        sender = self._senders[source] = Sender(address, found is not None and found.collected)
        return sender

    def _count(self, address: str, size: int, now_ms: int) -> None:
        if address not in self._others and len(self._others) >= MAX_OTHERS:
            address = OTHERS
        heard = self._others.get(address) or Heard(address, False, 0, 0, now_ms, now_ms)
        self._others[address] = heard._replace(datagrams=heard.datagrams + 1, bytes=heard.bytes + size, last_ms=now_ms)

    def take(self, drops: int) -> tuple[Batch, int]:
        """And how many bytes it holds, which are waiting from now on."""
        batch, size = Batch(self._datagrams, drops, dict(self._lost), list(self._others.values())), self.bytes
        self._datagrams, self._others, self._lost, self.bytes = [], {}, Counter(), 0
        with self.lock:
            self.waiting_bytes += size
        return batch, size

    def written(self, size: int) -> None:
        with self.lock:
            self.waiting_bytes -= size


class Status:
    """What others can read about us, in `paths.run`; figures are since the start."""

    def __init__(self, path: Path, port: int, granted_bytes: int) -> None:
        self._path = path
        self._fixed = {"port": port, "buffer_bytes": granted_bytes, "since_ms": int(time.time() * 1000)}
        self._sums: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._others: dict[str, Heard] = {}
        self._clock: dict[str, float] = {}
        self._problem = ""
        self._next_s = 0.0

    def clock_set(self, seconds: float) -> None:
        self._clock = {"set_ms": int(time.time() * 1000), "by_s": round(seconds, 1)}

    def note(self, batch: Batch, problem: str, spooled_bytes: int) -> None:
        self._sums["datagrams"] += len(batch.datagrams)
        self._sums["bytes"] += sum(len(datagram.payload) for datagram in batch.datagrams)
        self._dropped.update(batch.lost)
        if batch.drops:
            self._dropped["kernel"] += batch.drops
        self._note_others(batch)
        if batch or problem != self._problem or time.monotonic() >= self._next_s:
            self._problem, self._next_s = problem, time.monotonic() + _SAID_EVERY_S
            self._write(problem, spooled_bytes)

    def _write(self, problem: str, spooled_bytes: int) -> None:
        said = {
            **self._fixed,
            "at_ms": int(time.time() * 1000),
            "problem": problem,
            "spooled_bytes": spooled_bytes,
            **{name: self._sums[name] for name in ("datagrams", "bytes")},
            "dropped": dict(self._dropped),
            "clock": self._clock,
            "others": [heard._asdict() for heard in self._others.values()],
        }
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        new.replace(self._path)

    def _note_others(self, batch: Batch) -> None:
        for heard in batch.others:
            name = heard.exporter if heard.exporter in self._others or len(self._others) < MAX_OTHERS else OTHERS
            before = self._others.get(name, heard._replace(exporter=name, datagrams=0, bytes=0))
            self._others[name] = before._replace(
                datagrams=before.datagrams + heard.datagrams, bytes=before.bytes + heard.bytes, last_ms=heard.last_ms
            )


class Writer(threading.Thread):
    """Writes one batch after the other; None ends it. It failing ends the process, which is then started anew."""

    def __init__(self, store: Store, receiver: Receiver, status: Status) -> None:
        super().__init__(name="writer", daemon=True)
        self.batches: queue.SimpleQueue[tuple[Batch, int] | None] = queue.SimpleQueue()
        self._store, self._receiver, self._status = store, receiver, status

    def run(self) -> None:
        while (given := self.batches.get()) is not None:
            batch, size = given
            self._store.write(batch)
            self._receiver.written(size)
            self._status.note(batch, self._store.problem, self._store.spooled_bytes)
        self._store.close()


def disk(config: Config) -> Path:
    """The journal's folder, to be asked for before each transaction; raises UserError."""
    if data_disk.mounted(config.paths.data) is None:  # without a look at all disks, each second
        raise Unavailable("the data disk is away: see `gatehouse disk list`")
    folder = data_disk.ready(config) / places.DISK
    if not folder.is_dir():
        raise Unavailable(f"{folder} is missing: run `gatehouse apply`")
    return folder


def _loop(socket: intake.Intake, receiver: Receiver, writer: Writer, status: Status, over: threading.Event) -> None:
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    next_s, offset_s = time.monotonic(), time.time() - time.monotonic()
    while True:
        now_s = time.monotonic()
        if now_s >= next_s or over.is_set():
            next_s = now_s + _TICK_S
            offset_s = _clock(offset_s, status)
            receiver.follow()
            writer.batches.put(receiver.take(socket.new_drops()))
            if over.is_set() or not writer.is_alive():
                return
        if poll.poll(max(0, next_s - now_s) * 1000):
            _empty(socket, receiver)
            over.wait(_REST_S)


def _empty(socket: intake.Intake, receiver: Receiver) -> None:
    now_ms = int(time.time() * 1000)
    for _ in range(_AT_ONCE):
        if (got := socket.get()) is None:
            return
        receiver.receive(*got, now_ms)


def _clock(before_s: float, status: Status) -> float:
    offset_s = time.time() - time.monotonic()
    if abs(offset_s - before_s) > _CLOCK_SET_S:
        log.warning("the clock was set by %+.1f s", offset_s - before_s)
        status.clock_set(offset_s - before_s)
    return offset_s


def serve(config: Config, over: threading.Event) -> None:
    """Raises UserError where it can't listen."""
    settings = config.netflow
    with contextlib.closing(intake.Intake(settings.listen, settings.port, settings.buffer_mb << 20)) as socket:
        intake.drop_capabilities()
        log.info("UDP port %d, a buffer of %d KB", settings.port, socket.granted_bytes >> 10)
        store = Store(lambda: disk(config), config.paths.state / places.STATE / spool.NAME, settings.spool_mb << 20)
        receiver = Receiver(Followed(config.paths.run / places.EXPORTERS))
        status = Status(config.paths.run / places.STATUS, settings.port, socket.granted_bytes)
        writer = Writer(store, receiver, status)
        writer.start()
        _loop(socket, receiver, writer, status, over)
        _empty(socket, receiver)
        writer.batches.put(receiver.take(socket.new_drops()))
        writer.batches.put(None)
        writer.join()
    if not over.is_set():
        raise UserError("the journal's writer has failed")


if __name__ == "__main__":
    process.run("gatehouse-collector", "Takes the flows that routers send.", serve)
