"""Two vaults in one process, the second of which pulls from the first: over TLS, from the admin's own pages."""

import hashlib
import http.server
import io
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(path: Path) -> str:
    """A new one, with its key; returns its SHA-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    made = builder.sign(key, hashes.SHA256())
    layout = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *layout) + made.public_bytes(serialization.Encoding.PEM)
    )
    return hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()


def context(pem: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pem)
    return made


class _Handler(http.server.BaseHTTPRequestHandler):
    """As nginx: many requests a connection, and who asks is said in a header."""

    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True
    app: Any

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        size = int(self.headers.get("Content-Length", 0))
        environ = {
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(size),
            "HTTP_AUTHORIZATION": self.headers.get("Authorization", ""),
            "HTTP_X_REAL_IP": "192.0.2.9",
            "SERVER_NAME": "a.example",
            "SERVER_PORT": "443",
            "wsgi.url_scheme": "https",
            "wsgi.errors": sys.stderr,
            "wsgi.input": io.BytesIO(self.rfile.read(size)),
        }
        try:
            data = b"".join(self.app(environ, self._start))
        except ConnectionAbortedError:
            self.close_connection = True
            return
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.send_response(int(status.split()[0]))
        for key, value in headers:
            self.send_header(key, value)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Who goes away in the middle of an answer."""


@contextmanager
def served(app: Any, pem: Path) -> Iterator[str]:
    """Its URL."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"app": staticmethod(app)}))
    server.socket = context(pem).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
