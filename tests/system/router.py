"""A router that tells of its sessions until it is answered, and what follows from that."""

import socket
from collections.abc import Sequence

from tests.bench.acct_load import Told, accounting_request, session_id
from tests.bench.radius_load import ACCOUNTING_RESPONSE
from tests.lab.radius import ROUTER

IN_FLIGHT = 64

Octets = tuple[int, int]


class Router:
    """Sends until it has an answer, as a router does; knows what was acknowledged."""

    def __init__(self, port: int, secret: bytes) -> None:
        self._secret = secret
        self._open: dict[int, Told] = {}  # by RADIUS identifier
        self._free = list(range(256))
        self.acknowledged: list[Told] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ROUTER, 0))
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(1)

    def send(self, packets: Sequence[Told]) -> None:
        """Leaves up to IN_FLIGHT of them without an answer yet."""
        for packet in packets:
            while len(self._open) >= IN_FLIGHT:
                self._receive()
            identifier = self._free.pop(0)
            self._open[identifier] = packet
            self._send(identifier)

    def drain(self) -> None:
        """Takes the answers that are here already; the server is dead."""
        self._socket.settimeout(0.05)
        while self._open and self._take():
            pass
        self._socket.settimeout(1)

    def send_again(self) -> None:
        for identifier in self._open:
            self._send(identifier)

    def finish(self) -> None:
        while self._open:
            self._receive()

    def _receive(self) -> None:
        if not self._take():
            self.send_again()

    def _send(self, identifier: int) -> None:
        self._socket.send(accounting_request(identifier, self._open[identifier], self._secret))

    def _take(self) -> bool:
        try:
            answer = self._socket.recv(4096)
        except (TimeoutError, ConnectionRefusedError):
            return False
        assert answer[0] == ACCOUNTING_RESPONSE
        if answer[1] in self._open:  # else a second answer, to a packet that was sent again
            self.acknowledged.append(self._open.pop(answer[1]))
            self._free.append(answer[1])
        return True


def highest(packets: Sequence[Told]) -> dict[str, Octets]:
    found: dict[str, Octets] = {}
    for packet in packets:
        found[session_id(packet.session)] = max(
            (packet.input_octets, packet.output_octets), found.get(session_id(packet.session), (0, 0))
        )
    return found
