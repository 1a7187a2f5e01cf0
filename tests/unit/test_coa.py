"""What routers answer to Disconnect and CoA, however odd, is an answer, a refusal or nothing."""

import hashlib
import hmac
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import Unavailable, UserError
from appliance.nas import coa

SECRET = "0123456789abcdef"
DISCONNECT_ACK, DISCONNECT_NAK, COA_ACK = 41, 42, 44  # RFC 5176, 2.3
Answer = Callable[[bytes], bytes]


class Router:
    """A UDP port that answers each request with `answer(request)`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.answer: Answer = lambda request: b""
        self.asked = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            request, sender = self._socket.recvfrom(4096)
            if request == b"over":
                self._socket.close()
                return
            self.asked += 1
            self._socket.sendto(self.answer(request), sender)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.sendto(b"over", ("127.0.0.1", self.port))


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    router = Router()
    yield router
    router.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coa, "TRY_S", 0.2)


def authentic(code: int, attributes: bytes, length: int | None = None) -> Answer:
    """Of a router that knows the secret (RFC 5176, 2.3: Response Authenticator)."""

    def answer(request: bytes) -> bytes:
        head = struct.pack("!BBH", code, request[1], 20 + len(attributes) if length is None else length)
        proof = hashlib.md5(head + request[4:20] + attributes + SECRET.encode()).digest()
        return head + proof + attributes

    return answer


def disconnect(router: Router) -> bool:
    return coa.disconnect("127.0.0.1", router.port, SECRET, {"User-Name": "bob", "Acct-Session-Id": "80000001"})


def attribute(number: int, value: bytes, length: int | None = None) -> bytes:
    return bytes([number, 2 + len(value) if length is None else length]) + value


ERROR_CAUSE = 101


def test_the_request_is_authentic(router: Router) -> None:
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        return authentic(DISCONNECT_ACK, b"")(request)

    router.answer = answer
    assert disconnect(router)
    (request,) = requests
    assert hashlib.md5(request[:4] + bytes(16) + request[20:] + SECRET.encode()).digest() == request[4:20]
    at = request.index(b"\x50\x12", 20) + 2
    blank = request[:4] + bytes(16) + request[20:at] + bytes(16) + request[at + 16 :]
    assert hmac.new(SECRET.encode(), blank, "md5").digest() == request[at : at + 16]


def test_yes_no_and_no_such_session(router: Router) -> None:
    router.answer = authentic(DISCONNECT_ACK, b"")
    assert disconnect(router)
    router.answer = authentic(DISCONNECT_NAK, attribute(ERROR_CAUSE, struct.pack("!I", 503)))
    assert not disconnect(router)
    router.answer = authentic(DISCONNECT_NAK, attribute(ERROR_CAUSE, struct.pack("!I", 404)))
    with pytest.raises(UserError, match="Error-Cause 404"):
        disconnect(router)
    router.answer = authentic(COA_ACK, b"")
    assert coa.change("127.0.0.1", router.port, SECRET, {"User-Name": "bob", "Session-Timeout": "60"})


@pytest.mark.parametrize(
    "attributes",
    [
        attribute(ERROR_CAUSE, b"", 0),
        attribute(ERROR_CAUSE, b"", 1),
        attribute(ERROR_CAUSE, b""),
        attribute(ERROR_CAUSE, b"\x01\xf7"),
        attribute(ERROR_CAUSE, b"\x00\x00\x01\xf7\x00"),
        attribute(ERROR_CAUSE, b"\x00\x00\x01\xf7", 200),
        attribute(26, b"\x00\x00"),
        attribute(26, b"\x00\x00\x3a\x8c\x08\x00"),
        attribute(79, b""),
        attribute(80, b"\x00" * 16),
        attribute(18, b"\xff\xfe"),
        b"\x65",
        b"\x00\x00",
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("code", [DISCONNECT_NAK, DISCONNECT_ACK])
def test_a_malformed_answer_of_the_router_is_not_more_than_a_failure(
    router: Router, attributes: bytes, code: int
) -> None:
    router.answer = authentic(code, attributes)
    with_whole_answer = {True, False} if code == DISCONNECT_ACK else {False}
    try:
        assert disconnect(router) in with_whole_answer
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("length", [0, 19, 21, 4096, 65_535])
def test_a_length_that_is_not_the_packets(router: Router, length: int) -> None:
    router.answer = authentic(DISCONNECT_NAK, b"", length)
    with pytest.raises(UserError):
        disconnect(router)


@pytest.mark.parametrize("answer", [b"", b"x", bytes(19), bytes(20), bytes(4096)])
def test_what_is_not_authentic_is_no_answer(router: Router, answer: bytes) -> None:
    router.answer = lambda request: answer
    router.asked = 0
    with pytest.raises(Unavailable, match="doesn't answer"):
        disconnect(router)
    assert router.asked == coa.TRIES


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([DISCONNECT_ACK, DISCONNECT_NAK, 1, 255]), st.binary(max_size=60))
def test_any_attributes_at_all(router: Router, code: int, attributes: bytes) -> None:
    router.answer = authentic(code, attributes)
    try:
        disconnect(router)
    except UserError as error:
        assert "\n" not in str(error)
