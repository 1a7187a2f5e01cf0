"""Requests at a fixed rate, whatever the server does, and how long each took.

The kernel says when an answer came (socket(7), SO_TIMESTAMPNS). The generator works through the flood's answers too and
looks at them later: by its own clock a login's p99 held 1.1 ms of that, for every server alike.
"""

import gc
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import inf

from tests.bench.radius_load import connected

GIVEN_UP_S = 5.0
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_NS = 10**9


class Stream:
    """Packets for one port, `per_s` of them each second; `latencies_s` counts one without an answer as GIVEN_UP_S."""

    def __init__(self, port: int, packets: Sequence[bytes], per_s: float) -> None:
        self.port = port
        self.per_s = per_s
        self.latencies_s: list[float] = []
        self._packets = packets
        self._sent_ns: dict[int, int] = {}  # by RADIUS identifier

    def due(self, started: float) -> Iterator[tuple[float, "Stream", bytes]]:
        for number, packet in enumerate(self._packets):
            yield started + number / self.per_s, self, packet

    def send(self, router: socket.socket, packet: bytes) -> None:
        if packet[1] in self._sent_ns:  # 256 requests later there is still no answer
            self.latencies_s.append(GIVEN_UP_S)
        self._sent_ns[packet[1]] = time.time_ns()
        router.send(packet)

    def receive(self, router: socket.socket) -> None:
        answer, notes, _, _ = router.recvmsg(4096, 256, socket.MSG_DONTWAIT)
        sent_ns = self._sent_ns.pop(answer[1], None)
        if sent_ns is not None:
            self.latencies_s.append((_came_ns(notes) - sent_ns) / _NS)

    @property
    def waits(self) -> bool:
        return bool(self._sent_ns)

    def give_up(self) -> None:
        self.latencies_s += [GIVEN_UP_S] * len(self._sent_ns)

    @property
    def p99_ms(self) -> float:
        return 1000 * sorted(self.latencies_s)[int(len(self.latencies_s) * 0.99)]


class Flood(Stream):
    """As much as the server takes with so many packets in flight; nobody waits for its last answers."""

    waits = False

    def __init__(self, port: int, packets: Sequence[bytes], in_flight: int) -> None:
        super().__init__(port, packets[:in_flight], inf)
        self._rest = iter(packets[in_flight:])

    def receive(self, router: socket.socket) -> None:
        super().receive(router)
        packet = next(self._rest, None)
        if packet is not None:
            self.send(router, packet)


def _came_ns(notes: Sequence[tuple[int, int, bytes]]) -> int:
    """By the clock of `time.time_ns`."""
    seconds, nanoseconds = struct.unpack("@qq", notes[0][2])
    return int(seconds * _NS + nanoseconds)


def run(streams: Sequence[Stream]) -> None:
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        routers = {stream: stack.enter_context(connected(stream.port)) for stream in streams}
        for stream, router in routers.items():
            router.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            selector.register(router, selectors.EVENT_READ, stream)
        gc.disable()
        try:
            started = time.perf_counter()
            for at, stream, packet in sorted((due for s in streams for due in s.due(started)), key=lambda d: d[0]):
                _receive(selector, routers, at)
                stream.send(routers[stream], packet)
            _receive(selector, routers, time.perf_counter() + GIVEN_UP_S, lambda: any(s.waits for s in streams))
        finally:
            gc.enable()
    for stream in streams:
        stream.give_up()


def _receive(
    selector: selectors.BaseSelector,
    routers: Mapping[Stream, socket.socket],
    until: float,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    while wanted() and (left := until - time.perf_counter()) > 0:
        for key, _ in selector.select(left):
            key.data.receive(routers[key.data])
