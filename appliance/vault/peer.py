"""Another appliance, by HTTPS, and nothing that it sends is believed before it is proven.

Its vault has an Ed25519 key, the one thing that is known of it beforehand. By this key it signs which TLS certificate
it shows: so whoever sits in between is found out before the token is sent, and a new certificate needs nobody. Answers
have a limit and a time each, and lead nowhere else.
"""

import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from appliance.errors import Unavailable, UserError
from appliance.vault import signing
from appliance.vault.following import is_number
from appliance.vault.pieces import PIECE_BYTES, SHA256, Head

ROOT = "/api/v1/vault-copy"
PORT = 8090
_STATEMENT, _HEAD = {"certificate", "at", "key", "signature"}, {"n", "sha256", "bytes", "at", "key", "signature"}
_MOST_SAID = 4096  # bytes
_REST_S = 3.0  # after which a connection may be closed by the other side


class Stranger(UserError):
    """It isn't the appliance that it should be."""


class Peer:
    """An `Original`. Raises Unavailable where it doesn't answer as it should, Stranger where it is somebody else.

    `signer` is whose heads it hands out, where it keeps another appliance's copy. One thread may use it.
    """

    def __init__(
        self, url: str, key: str, token: str, signer: str = "", wait_s: float = 20, most_s: float = 300
    ) -> None:
        self._host, self._port = parsed(url)
        self._key, self._token, self._signer = key, token, signer or key
        self._wait_s, self._most_s = wait_s, most_s
        self._link: http.client.HTTPConnection | None = None
        self._used_s = 0.0
        self.state: Mapping[str, int] = {}  # of the copy, which it is told as it is asked
        self.said: dict[str, Any] = {}  # its signed head
        self.spoke = False  # it is there, and is who it should be

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def head(self) -> Head:
        said = _signed(self._ask("POST", f"{ROOT}/head", urlencode(self.state), most=_MOST_SAID), _HEAD, self._signer)
        if not all(is_number(said[key]) for key in ("n", "bytes", "at")) or not _is_hash(said["sha256"]):
            raise Stranger("its signed head is none")
        self.said = said
        return Head(said["n"], said["sha256"], said["bytes"])

    def manifest(self, at: int) -> bytes:
        return self._ask("GET", f"{ROOT}/manifest?at={at}") or b""

    def content(self, sha256: str, at: int) -> bytes | None:
        return self._ask("GET", f"{ROOT}/objects/{sha256}?at={at}")

    def _ask(self, method: str, path: str, body: str | None = None, most: int = PIECE_BYTES) -> bytes | None:
        """None where there is no such thing."""
        headers = {"Authorization": f"Bearer {self._token}"}
        with self._talking():
            if self._link is None or time.monotonic() - self._used_s > _REST_S:
                self._connect()
            status, data = self._exchange(method, path, body, headers, most)
        return self._worth(status, data)

    @staticmethod
    def _worth(status: int, data: bytes) -> bytes | None:
        if status == http.HTTPStatus.NOT_FOUND:
            return None
        if status == http.HTTPStatus.UNAUTHORIZED:
            raise UserError("it takes our token no more: `gatehouse vault offer` there makes another one")
        if status != http.HTTPStatus.OK:
            raise Unavailable(f"it can't answer now (HTTP {status})")
        return data

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | http.client.HTTPException):
                raise Unavailable(f"it doesn't answer: {_words(error)}") from None
            raise

    def _connect(self) -> None:
        """And looks whether it is who it should be, before anything is said that others mustn't hear."""
        self.close()
        plain = socket.create_connection((self._host, self._port), self._wait_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = _context().wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)
        self._link = http.client.HTTPConnection(self._host, self._port, timeout=self._wait_s)
        self._link.sock, self._link.auto_open = secure, 0  # what it is told goes to this one
        with _ended(secure, self._most_s):
            secure.do_handshake()
        shown = hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()
        status, data = self._exchange("GET", ROOT, None, {}, _MOST_SAID)
        if status != http.HTTPStatus.OK:
            raise Unavailable(f"it offers no copy to anybody (HTTP {status})")
        said = _parsed(data)
        if not self._key:
            self._key = str(said.get("key", ""))
            self._signer = self._signer or self._key
        if _signed(data, _STATEMENT, self._key)["certificate"] != shown:
            raise Stranger("somebody sits in between: the certificate isn't the one that the vault there has signed")
        self.spoke = True

    @property
    def key(self) -> str:
        return self._key

    def meet(self) -> str:
        """Its key, without saying anything to it."""
        with self._talking():
            self._connect()
        return self._key

    def _exchange(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str], most: int
    ) -> tuple[int, bytes]:
        link = self._link
        assert link is not None  # noqa: S101
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        with _ended(link.sock, self._most_s):
            link.request(method, path, body, {**headers, **kind})
            answer = link.getresponse()
            data = answer.read(most + 1)
        self._used_s = time.monotonic()
        if len(data) > most:
            raise Unavailable(f"it sends more than the {most} bytes that an answer may have")
        if not answer.isclosed() or answer.will_close:
            self._used_s = float("-inf")
        return answer.status, data


def parsed(url: str) -> tuple[str, int]:
    """Host and port. Raises UserError."""
    try:
        found = urlsplit(url)
        host, port = found.hostname, found.port or PORT
    except ValueError:
        host, port = None, 0
    if not host or found.scheme != "https" or found.path.strip("/") or found.query or found.fragment or found.username:
        raise UserError(f"{url[:80]!r}: an address such as https://gate.example.net:{PORT} is needed")
    return host, port


def _context() -> ssl.SSLContext:
    """Whose certificate it is says the vault's key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # so that no certificate changes within a connection
    return context


@contextlib.contextmanager
def _ended(link: socket.socket, most_s: float) -> Iterator[None]:
    """Whoever sends a byte now and then doesn't hold us for longer than that: raises TimeoutError."""
    over = threading.Event()

    def end() -> None:
        over.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(link, socket.SHUT_RDWR)

    timer = threading.Timer(most_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, ValueError, http.client.HTTPException):
        if over.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if over.is_set():  # half of an answer looks like a whole one
        raise TimeoutError


def _parsed(data: bytes | None) -> dict[str, Any]:
    try:
        said = json.loads(data or b"")
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Stranger("no vault of ours answers there")
    return said


def _signed(data: bytes | None, keys: set[str], key: str) -> dict[str, Any]:
    said = _parsed(data)
    if said.keys() != keys or said["key"] != key or not signing.is_by(key, said):
        raise Stranger("it isn't the vault that it was: what it says isn't signed by the key that is known of it")
    return said


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and bool(SHA256.fullmatch(value))


def _words(error: BaseException) -> str:
    """None of theirs."""
    if isinstance(error, TimeoutError):
        return "it takes too long"
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it speaks no HTTP as it should"
