"""The Internet of the lab: a web server that tells each client its address, and ends to measure against.

HTTP on 80: `/big/N` sends N bytes, `/counters` what came so far as JSON, all else the client's address.
TCP 443 accepts and says nothing. UDP 9 is a sink; UDP 19 answers "COUNT SIZE" with so many such datagrams.
Started as a program inside a namespace: `internet.py ADDRESS`.
"""

import json
import socket
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer, ThreadingUDPServer

SINK_PORT = 9
SOURCE_PORT = 19
_SINK_BUFFER_BYTES = 8_388_608

# of each kind by source address; only ever added to, each kind by one thread or under the lock
COUNTERS: dict[str, Counter[str]] = {kind: Counter() for kind in ("http", "tls", "udp_packets", "udp_octets")}
_LOCK = threading.Lock()


def count(kind: str, address: str, amount: int = 1) -> None:
    with _LOCK:
        COUNTERS[kind][address] += amount


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        client = str(self.client_address[0])
        if self.path == "/counters":
            with _LOCK:
                return self._send(json.dumps(COUNTERS).encode(), "application/json")
        count("http", client)
        if self.path.startswith("/big/"):
            return self._send(bytes(int(self.path.removeprefix("/big/"))), "application/octet-stream")
        return self._send(client.encode(), "text/plain")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *words: object) -> None:
        print(self.client_address[0], self.headers.get("Host", ""), format % words, flush=True)


class Silent(BaseRequestHandler):
    """What a TLS server is to whoever only counts connections."""

    def handle(self) -> None:
        count("tls", str(self.client_address[0]))
        while self.request.recv(4096):
            pass


class Source(BaseRequestHandler):
    def handle(self) -> None:
        order, answers = self.request
        amount, size = (int(word) for word in order.split())
        for _ in range(amount):
            answers.sendto(bytes(size), self.client_address)


class TcpServer(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def sink() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SINK_BUFFER_BYTES)
        receiver.bind(("", SINK_PORT))
        while True:
            data, (address, _) = receiver.recvfrom(65_535)
            count("udp_packets", address)
            count("udp_octets", address, len(data))


def main(address: str) -> None:
    """`address` is where UDP answers come from; the kernel would choose the one next to the client."""
    servers = [TcpServer(("", 443), Silent), ThreadingUDPServer((address, SOURCE_PORT), Source)]
    for target in (sink, *(server.serve_forever for server in servers)):
        threading.Thread(target=target, daemon=True).start()
    ThreadingHTTPServer(("", 80), Web).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
