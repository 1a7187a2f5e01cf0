"""A small authority of RFC 8555 for tests, as a real one signs only what the Internet can reach.

It verifies every signature, nonce and address of a request, fetches the token over HTTP as an authority does, and signs
what the CSR asks for. `fault` names how it misbehaves. As a program: `acme_server.py PORT TLS_PEM WHERE_TO_FETCH URL`.
"""

import base64
import hashlib
import http.client
import json
import secrets
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Refused(Exception):
    def __init__(self, status: int, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.status, self.kind, self.detail = status, kind, detail


class Authority(ThreadingHTTPServer):
    """`web` is the address, `host:port`, at which each name is looked for; `life` that of certificates."""

    daemon_threads = True

    def __init__(self, port: int, tls: Path, web: str) -> None:
        super().__init__(("", port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.web, self.life, self.fault = web, timedelta(days=90), ""
        self.url = f"https://127.0.0.1:{self.server_address[1]}"
        self.nonces: set[str] = set()
        self.accounts: dict[str, Any] = {}  # public keys (JWK) by URL
        self.orders: list[dict[str, Any]] = []
        self.key = ec.generate_private_key(ec.SECP256R1())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away, and what is cut off on purpose."""

    def signed(self, csr: x509.CertificateSigningRequest) -> str:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if self.fault == "other name":
            san = x509.SubjectAlternativeName([x509.DNSName("other.example.org")])
        key = ec.generate_private_key(ec.SECP256R1()).public_key() if self.fault == "other key" else csr.public_key()
        begin = datetime.now(UTC) - timedelta(hours=1)
        number = x509.random_serial_number()
        made = x509.CertificateBuilder(issuer, x509.Name([]), key, number, begin, begin + self.life)
        return made.add_extension(san, False).sign(self.key, hashes.SHA256()).public_bytes(PEM).decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # head and body in one, rather than wait for an ACK between them
    server: Authority

    def log_message(self, format: str, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        url = self.server.url
        names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")
        self._send(200, {name: f"{url}/{name}" for name in names})

    def do_HEAD(self) -> None:
        self._send(200, b"")

    def do_POST(self) -> None:
        try:
            self._answer(*self._opened())
        except Refused as error:
            kind = f"urn:ietf:params:acme:error:{error.kind}"
            self._send(error.status, {"type": kind, "detail": error.detail}, "application/problem+json")

    def _opened(self) -> tuple[str, Any]:
        """The account's URL and the payload (RFC 8555, 6.2)."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        head = json.loads(raw(message["protected"]))
        if head["nonce"] not in self.server.nonces:
            raise Refused(400, "badNonce")
        self.server.nonces.remove(head["nonce"])
        jwk = head.get("jwk") or self.server.accounts.get(head.get("kid"))
        if head["alg"] != "RS256" or not head["url"].endswith(self.path) or jwk is None:
            raise Refused(401, "unauthorized", "url, alg or account")
        numbers = rsa.RSAPublicNumbers(*(int.from_bytes(raw(jwk[name])) for name in "en"))
        text = f"{message['protected']}.{message['payload']}".encode()
        try:
            numbers.public_key().verify(raw(message["signature"]), text, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise Refused(401, "unauthorized", "signature") from None
        payload = json.loads(raw(message["payload"]) or b"null")
        if self.path == "/newAccount":
            return self._account(jwk), payload
        return head["kid"], payload

    def _account(self, jwk: dict[str, str]) -> str:
        url = f"{self.server.url}/account/{thumbprint(jwk)}"
        self.known = url in self.server.accounts
        self.server.accounts[url] = jwk
        return url

    def _answer(self, account: str, payload: Any) -> None:
        _, what, *number = self.path.split("/")
        if self.server.fault == "rate" and what == "newOrder":
            raise Refused(429, "rateLimited", "too many\nnew \x1b[31morders recently")
        if self.server.fault in ("huge", "cut", "html", "list") and what == "newOrder":
            return self._nonsense(self.server.fault)
        if what == "newAccount":
            if not payload.get("termsOfServiceAgreed"):
                raise Refused(403, "userActionRequired")
            return self._send(200 if self.known else 201, {"status": "valid"}, headers={"Location": account})
        if what == "newOrder":
            self.server.orders.append(
                {"account": account, "pem": "", "asked": [self._asked(p) for p in payload["identifiers"]]}
            )
            return self._order(201, len(self.server.orders) - 1)
        return self._of_order(what, int(number[0]), int(number[-1]), payload)

    def _asked(self, identifier: dict[str, str]) -> dict[str, Any]:
        token = {"path": "../../../etc/passwd", "long": "A" * 400}.get(self.server.fault, secrets.token_urlsafe(32))
        return {"name": identifier["value"], "token": token, "status": "pending", "error": None}

    def _of_order(self, what: str, number: int, part: int, payload: Any) -> None:
        order = self.server.orders[number]
        if what in ("challenge", "authz"):
            one = order["asked"][part]
            challenge = self._challenge(one, f"{number}/{part}")
            if what == "challenge":
                self._validate(order["account"], one)
                up = {"Link": f'<{self.server.url}/authz/{number}/{part}>;rel="up"'}  # RFC 8555, 7.1
                return self._send(200, challenge, headers=up)
            name = {"type": "dns", "value": one["name"]}
            return self._send(200, {"identifier": name, "status": one["status"], "challenges": [challenge]})
        if what == "finalize":
            if any(one["status"] != "valid" for one in order["asked"]):
                raise Refused(403, "orderNotReady")
            order["pem"] = self.server.signed(x509.load_der_x509_csr(raw(payload["csr"])))
        if what == "certificate":
            text = order["pem"][:300] if self.server.fault == "half" else order["pem"]
            return self._send(200, text.encode(), "application/pem-certificate-chain")
        return self._order(200, number)

    def _challenge(self, one: dict[str, Any], number: str) -> dict[str, Any]:
        kind = "dns-01" if self.server.fault == "no http" else "http-01"
        error = {"error": one["error"]} if one["error"] else {}
        url = f"{self.server.url}/challenge/{number}"
        return {"type": kind, "url": url, "token": one["token"], "status": one["status"], **error}

    def _validate(self, account: str, one: dict[str, Any]) -> None:
        """RFC 8555, 8.3: the token and the thumbprint of the account's key, over HTTP by that name."""
        wanted = f"{one['token']}.{thumbprint(self.server.accounts[account])}"
        said = fetched(self.server.web, one["name"], f"/.well-known/acme-challenge/{one['token']}")
        one["status"] = "valid"
        if said != wanted:
            kind = "urn:ietf:params:acme:error:unauthorized"
            one |= {"status": "invalid", "error": {"type": kind, "detail": f"got {said[:40]!r}"}}

    def _order(self, status: int, number: int) -> None:
        order, url = self.server.orders[number], self.server.url
        states = {one["status"] for one in order["asked"]}
        state = "pending" if "pending" in states else "invalid" if "invalid" in states else "ready"
        body: dict[str, Any] = {"status": "valid" if order["pem"] else state, "finalize": f"{url}/finalize/{number}"}
        body |= {"identifiers": [{"type": "dns", "value": one["name"]} for one in order["asked"]]}
        body |= {"authorizations": [f"{url}/authz/{number}/{part}" for part in range(len(order["asked"]))]}
        if order["pem"]:
            body["certificate"] = f"{url}/certificate/{number}"
        self._send(status, body, headers={"Location": f"{url}/order/{number}"})

    def _nonsense(self, fault: str) -> None:
        bodies = {
            "html": b"<html>welcome</html>",
            "list": b"[[[]]]",
            "cut": b'{"status": "pe',
            "huge": b"x" * 3_000_000,
        }
        self._send(201, bodies[fault], length=1000 if fault == "cut" else None)
        self.close_connection = True

    def _send(
        self,
        status: int,
        body: Any,
        kind: str = "application/json",
        headers: Mapping[str, str] = MappingProxyType({}),
        length: int | None = None,
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        nonce = secrets.token_urlsafe(16)
        self.server.nonces.add(nonce)
        own = {"Replay-Nonce": nonce, "Content-Type": kind, "Content-Length": str(length or len(data))}
        self.send_response(status)
        for name, value in (own | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def fetched(web: str, name: str, path: str) -> str:
    connection = http.client.HTTPConnection(web, timeout=3)
    try:
        connection.request("GET", path, headers={"Host": name})
        return connection.getresponse().read(1000).decode(errors="replace").rstrip()
    except OSError as error:
        return f"nothing: {error}"
    finally:
        connection.close()


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638."""
    text = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def tls_pem(path: Path, *addresses: str) -> Path:
    """A certificate of its own, which clients have to be told of, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority's web server")])
    now, number = datetime.now(UTC) - timedelta(hours=1), x509.random_serial_number()
    san = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)) for address in addresses])
    made = x509.CertificateBuilder(name, name, key.public_key(), number, now, now + timedelta(days=2))
    signed = made.add_extension(san, False).sign(key, hashes.SHA256())
    plain = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(PEM) + plain)
    return path


@contextmanager
def running(authority: Authority) -> Iterator[Authority]:
    threading.Thread(target=authority.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield authority
    finally:
        authority.shutdown()
        authority.server_close()


if __name__ == "__main__":
    served = Authority(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    served.url = sys.argv[4]
    served.serve_forever()
