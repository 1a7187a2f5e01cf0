"""A certificate from a public authority by ACME (RFC 8555), the names shown to be ours over HTTP (http-01, 8.3).

The authority is believed in nothing but its certificate: its answers are bounded in size and time, and its words
are shown only as a line of plain letters.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.errors import Error as JoseError
from josepy.jwk import JWK, JWKRSA
from requests.adapters import HTTPAdapter

from appliance.errors import UserError

ROOTS = "/etc/ssl/certs/ca-certificates.crt"  # the system's, so that an authority of one's own can be among them
TIMEOUT_S = 30
MAX_ANSWER_BYTES = 1_000_000
VALIDATED_WITHIN_S = 120
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")  # RFC 8555, 8.3: at least 128 bits
_LINE_LETTERS = 300

Published = Callable[[Mapping[str, str]], AbstractContextManager[None]]
"""Within the block, the authority reads each text at /.well-known/acme-challenge/NAME of every name."""


@dataclass(frozen=True)
class Authority:
    directory: str
    contact: str
    account: rsa.RSAPrivateKey


def fetch(authority: Authority, names: Iterable[str], key: ec.EllipticCurvePrivateKey, published: Published) -> str:
    """The chain as PEM, for that key. Raises UserError with what the authority said."""
    try:
        return _fetch(authority, tuple(names), key, published)
    except messages.Error as error:
        raise UserError(f"{_host(authority)} refuses: {_refusal(error)}") from None
    except errors.ValidationError as error:
        raise UserError(f"{_host(authority)} doesn't find us by name: {_unfound(error)}") from None
    except errors.TimeoutError:
        raise UserError(f"{_host(authority)} hasn't decided within {VALIDATED_WITHIN_S} s") from None
    # What the library lets through of answers that are none, a ValueError of requests too.
    except (errors.Error, JoseError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as e:
        raise UserError(f"{_host(authority)} answers what isn't ACME: {_line(repr(e))}") from None
    except requests.RequestException as error:
        raise UserError(f"{_host(authority)} can't be reached: {_line(str(error))}") from None


def _fetch(authority: Authority, names: tuple[str, ...], key: ec.EllipticCurvePrivateKey, published: Published) -> str:
    account = JWKRSA(key=authority.account)
    acme = _client(authority, account)
    _log_in(acme, authority.contact)
    order = acme.new_order(_request(names, key))
    open_ones = [found for found in order.authorizations if found.body.status != messages.STATUS_VALID]
    offered = [_http(found.body) for found in open_ones]
    texts = {_name(one): str(one.chall.validation(account)) for one in offered}
    until = datetime.now() + timedelta(seconds=VALIDATED_WITHIN_S)  # naive, as the library compares
    with published(texts):
        for one in offered:
            acme.answer_challenge(one, one.chall.response(account))
        order = acme.poll_authorizations(order, until)
    return str(acme.finalize_order(order, until).fullchain_pem)


def _client(authority: Authority, account: JWK) -> client.ClientV2:
    net = client.ClientNetwork(account, user_agent="gatehouse", timeout=TIMEOUT_S)
    net.session.trust_env = False
    net.session.mount("https://", _Bounded())
    net.session.mount("http://", _Refused())
    return client.ClientV2(client.ClientV2.get_directory(authority.directory, net), net)


class _Bounded(HTTPAdapter):
    """Reads no answer to its end that is too long or too slow."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        until = time.monotonic() + TIMEOUT_S
        roots = os.environ.get("SSL_CERT_FILE", ROOTS)  # as OpenSSL does
        answer = super().send(request, *args, **options | {"stream": True, "verify": roots})
        body = b""
        for part in answer.iter_content(16_384):
            body += part
            if len(body) > MAX_ANSWER_BYTES or time.monotonic() > until:
                answer.close()
                raise requests.RequestException("its answer has no end")
        answer._content = body
        return answer


class _Refused(HTTPAdapter):
    def send(self, *args: Any, **options: Any) -> requests.Response:
        raise requests.RequestException("it leads to an address without TLS")


def _log_in(acme: client.ClientV2, contact: str) -> None:
    """The account of that key, made where it isn't there yet."""
    wanted = messages.NewRegistration.from_data(email=contact or None, terms_of_service_agreed=True)
    try:
        acme.new_account(wanted)
    except errors.ConflictError as there:
        acme.net.account = messages.RegistrationResource(uri=there.location, body=messages.Registration())


def _request(names: tuple[str, ...], key: ec.EllipticCurvePrivateKey) -> bytes:
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    wanted = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(san, critical=False)
    return wanted.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _http(body: messages.Authorization) -> messages.ChallengeBody:
    for one in body.challenges:
        if isinstance(one.chall, challenges.HTTP01):
            return one
    raise UserError("the authority doesn't offer to look over HTTP (http-01)")


def _name(one: messages.ChallengeBody) -> str:
    """It becomes a file's."""
    name = str(one.chall.path).rpartition("/")[2]
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"a token {name!r}")
    return name


def _refusal(error: messages.Error) -> str:
    if error.code == "rateLimited":
        return f"we have asked too often, it is tried again tomorrow: {_line(str(error.detail or ''))}"
    return _line(f"{error.code or error.typ}: {error.detail or ''}")


def _unfound(error: errors.ValidationError) -> str:
    said = [
        f"{found.body.identifier.value}: {one.error.detail or one.error.typ}"
        for found in error.failed_authzrs
        for one in found.body.challenges
        if one.error is not None
    ]
    return _line("; ".join(said))


def _line(text: str) -> str:
    plain = "".join(letter if " " <= letter <= "~" else " " for letter in text)
    return " ".join(plain.split())[:_LINE_LETTERS]


def _host(authority: Authority) -> str:
    return urlsplit(authority.directory).hostname or authority.directory
