"""portal/radius.py against a small RADIUS server made of pyrad, and against hostile packets."""

import dataclasses
import hashlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyrad import packet as codec

from appliance.config import Config, Radius
from appliance.errors import Unavailable
from portal import radius
from portal.protocol import Allow, decode_request, encode
from portal.radius import (
    Accepted,
    AccountingRecord,
    BadPacket,
    RadiusClient,
    Rejected,
    answer_dynamic,
    decode_dynamic,
)

SECRET = b"correct horse"
IP = IPv4Address("10.10.0.7")
MAC = "02:00:00:aa:bb:cc"

Handler = Callable[[Any], bytes | None]


class FakeServer:
    """One UDP port; what each packet is answered with is up to `handler`."""

    def __init__(self, kind: Any) -> None:
        self.handler: Handler = lambda request: None
        self.requests: list[Any] = []
        self.data: list[bytes] = []
        self._kind = kind
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if data == b"end":
                return
            request = self._kind(packet=data, secret=SECRET, dict=radius._dictionary())
            self.requests.append(request)
            self.data.append(data)
            if answer := self.handler(request):
                self._socket.sendto(answer, peer)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            knock.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer(codec.AuthPacket)
    yield fake
    fake.close()


@pytest.fixture
def accounting() -> Iterator[FakeServer]:
    fake = FakeServer(codec.AcctPacket)
    yield fake
    fake.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radius, "TRY_S", 0.3)


def client(authentication_port: int = 1, accounting_port: int = 1, now: float = 1_800_000_000) -> RadiusClient:
    config = Config(radius=Radius(authentication_port=authentication_port, accounting_port=accounting_port))
    return RadiusClient(config, SECRET, clock=lambda: now)


def accept(**attributes: Any) -> Handler:
    def answer(request: Any) -> bytes:
        reply = request.CreateReply()
        for name, value in attributes.items():
            reply[name.replace("_", "-")] = value
        data: bytes = reply.ReplyPacket()
        return data

    return answer


def reject(text: str) -> Handler:
    def answer(request: Any) -> bytes:
        reply = request.CreateReply()
        reply.code = codec.AccessReject
        if text:
            reply["Reply-Message"] = text
        data: bytes = reply.ReplyPacket()
        return data

    return answer


# -- logins


def test_login_describes_the_guest_and_this_nas(server: FakeServer) -> None:
    server.handler = accept()
    client(server.port).authenticate("anna", "pässword", IP, MAC)
    (request,) = server.requests
    assert request["User-Name"] == ["anna"]
    assert request.PwDecrypt(request[2][0]) == "pässword"
    assert request["Calling-Station-Id"] == ["02-00-00-AA-BB-CC"]
    assert request["Framed-IP-Address"] == ["10.10.0.7"]
    assert request["Called-Station-Id"] == ["gateway:hotspot"]
    assert request["NAS-Identifier"] == ["gateway"]
    assert request["NAS-IP-Address"] == ["127.0.0.1"]
    assert request["NAS-Port-Type"] == ["Wireless-802.11"]
    assert request["NAS-Port-Id"] == ["eth1"]
    assert request["Service-Type"] == ["Login-User"]
    assert request.verify_message_authenticator()


def test_accept_carries_everything_that_was_granted(server: FakeServer) -> None:
    server.handler = accept(
        Class=b"\x01\xff",
        Session_Timeout=3600,
        Idle_Timeout=600,
        Acct_Interim_Interval=300,
        Framed_IP_Address="198.51.100.9",
        Mikrotik_Rate_Limit="2M/10M",
        Mikrotik_Total_Limit=7,
        Mikrotik_Total_Limit_Gigawords=2,
    )
    granted = client(server.port).authenticate("anna", "x", IP, MAC)
    assert granted == Accepted(
        ip=IP,
        mac=MAC,
        account="anna",
        session_class="01ff",
        down_bps=10_000_000,
        up_bps=2_000_000,
        address=IPv4Address("198.51.100.9"),
        session_timeout_s=3600,
        idle_timeout_s=600,
        quota_bytes=2 * 2**32 + 7,
        interim_interval_s=300,
    )


def test_what_was_granted_can_be_said_to_the_gateway(server: FakeServer) -> None:
    server.handler = accept(Class=b"\x01", Mikrotik_Rate_Limit="2M/10M")
    granted = client(server.port).authenticate("anna", "x", IP, MAC)
    assert isinstance(granted, Accepted)
    assert decode_request(encode(granted)) == Allow(**dataclasses.asdict(granted))


def test_bare_accept_means_no_limits(server: FakeServer) -> None:
    server.handler = accept()
    granted = client(server.port).authenticate("anna", "x", IP, MAC)
    assert granted == Accepted(ip=IP, mac=MAC, account="anna", session_class="", down_bps=0, up_bps=0)


def test_server_may_name_the_account_and_leave_the_address_to_the_nas(server: FakeServer) -> None:
    server.handler = accept(User_Name="Anna", Framed_IP_Address="255.255.255.254")
    granted = client(server.port).authenticate("anna", "x", IP, MAC)
    assert isinstance(granted, Accepted)
    assert (granted.account, granted.address) == ("Anna", None)


def test_reject_hands_on_the_servers_sentence(server: FakeServer) -> None:
    server.handler = reject("Your time is used up.")
    assert client(server.port).authenticate("anna", "x", IP, MAC) == Rejected("Your time is used up.")


def test_reject_without_a_sentence(server: FakeServer) -> None:
    server.handler = reject("")
    assert client(server.port).authenticate("anna", "x", IP, MAC) == Rejected("")


def test_sentence_has_no_control_characters(server: FakeServer) -> None:
    server.handler = reject("no\x1b[2J\r\nmore")
    assert client(server.port).authenticate("anna", "x", IP, MAC) == Rejected("no[2Jmore")


@pytest.mark.parametrize(
    ("user", "password", "word"),
    [
        ("", "x", "enter your name"),
        ("a" * 254, "x", "name is too long"),
        ("ä" * 127, "x", "name is too long"),
        ("anna", "x" * 129, "password is too long"),
        ("anna", "ä" * 65, "password is too long"),
        ("anna", "x\0", "control"),
        ("an\nna", "x", "control"),
        ("anna", "x\x9b", "control"),
        ("\ud800", "x", "control"),
    ],
)
def test_texts_that_radius_cant_carry_never_leave(server: FakeServer, user: str, password: str, word: str) -> None:
    answer = client(server.port).authenticate(user, password, IP, MAC)
    assert isinstance(answer, Rejected)
    assert word in answer.message
    assert not server.requests


def test_longest_name_and_password_arrive(server: FakeServer) -> None:
    server.handler = accept()
    assert isinstance(client(server.port).authenticate("ä" * 126 + "a", "ß" * 64, IP, MAC), Accepted)
    assert server.requests[0].PwDecrypt(server.requests[0][2][0]) == "ß" * 64


def test_class_that_looks_like_hex_stays_what_it_is(server: FakeServer, accounting: FakeServer) -> None:
    def answer(request: Any) -> bytes:
        reply = request.CreateReply()
        reply[25] = [b"0x4142"]
        data: bytes = reply.ReplyPacket()
        return data

    server.handler = answer
    granted = client(server.port).authenticate("anna", "x", IP, MAC)
    assert isinstance(granted, Accepted)
    accounting.handler = accept()
    client(accounting_port=accounting.port).account(stop(session_class=granted.session_class))
    assert accounting.requests[0]["Class"] == [b"0x4142"]


@pytest.mark.parametrize("rate", ["fast", "1M/2M/3M", "-5M", "9999999G"])
def test_grant_that_cant_be_understood_lets_nobody_in(server: FakeServer, rate: str) -> None:
    server.handler = accept(Mikrotik_Rate_Limit=rate)
    with pytest.raises(Unavailable, match="can't be used"):
        client(server.port).authenticate("anna", "x", IP, MAC)


# -- replies that aren't authentic


def forged(change: Callable[[bytes], bytes]) -> Handler:
    return lambda request: change(accept(Session_Timeout=60)(request) or b"")


def without_message_authenticator(request: Any) -> bytes:
    reply = request.CreateReply(message_authenticator=False)
    data: bytes = reply.ReplyPacket()
    return data


def with_wrong_message_authenticator(request: Any) -> bytes:
    """Response Authenticator fits, as one forged through MD5 collisions would (CVE-2024-3596)."""
    reply = request.CreateReply(message_authenticator=False)
    reply[80] = [bytes(16)]
    data: bytes = reply.ReplyPacket()
    return data


@pytest.mark.parametrize(
    "handler",
    [
        without_message_authenticator,
        with_wrong_message_authenticator,
        forged(lambda data: data[:4] + bytes(16) + data[20:]),
        forged(lambda data: data[:1] + bytes([data[1] ^ 1]) + data[2:]),
        forged(lambda data: b"\x05" + data[1:]),
        forged(lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        forged(lambda data: data[:-1]),
        forged(lambda data: data[:19]),
        forged(lambda data: b""),
    ],
)
def test_reply_that_isnt_authentic_is_no_reply(
    server: FakeServer, handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    server.handler = handler
    with pytest.raises(Unavailable), caplog.at_level(logging.WARNING):
        client(server.port).authenticate("anna", "hunter2", IP, MAC)
    assert len(server.requests) == 2
    assert "hunter2" not in caplog.text


def test_authentic_reply_after_a_forged_one_counts(server: FakeServer) -> None:
    def answer(request: Any) -> bytes | None:
        peer_answer = accept(Session_Timeout=60)(request)
        forgery = without_message_authenticator(request)
        return forgery if len(server.requests) == 1 else peer_answer

    server.handler = answer
    assert isinstance(client(server.port).authenticate("anna", "x", IP, MAC), Accepted)


def test_lost_packet_is_sent_again_unchanged(server: FakeServer) -> None:
    server.handler = lambda request: accept()(request) if len(server.requests) == 2 else None
    assert isinstance(client(server.port).authenticate("anna", "x", IP, MAC), Accepted)
    assert server.data[0] == server.data[1]  # so that the server knows a duplicate (RFC 2865, 2.5)


def test_silent_server_is_unavailable(server: FakeServer) -> None:
    with pytest.raises(Unavailable, match="doesn't answer"):
        client(server.port).authenticate("anna", "x", IP, MAC)
    assert len(server.requests) == 2


def test_closed_port_is_unavailable() -> None:
    fake = FakeServer(codec.AuthPacket)
    fake.close()
    with pytest.raises(Unavailable):
        client(fake.port).authenticate("anna", "x", IP, MAC)


# -- accounting


def stop(**changes: Any) -> AccountingRecord:
    record = AccountingRecord(
        status="Stop",
        session_id="s1",
        event_at=1_799_999_990,
        account="anna",
        session_class="c1a5",
        ip=IP,
        mac=MAC,
        session_s=90,
        down_octets=3 * 2**32 + 5,
        up_octets=9,
        down_packets=2**32 + 1,
        up_packets=2,
        terminate_cause=5,
    )
    return dataclasses.replace(record, **changes)


def test_stop_tells_all_counts(accounting: FakeServer) -> None:
    accounting.handler = accept()
    client(accounting_port=accounting.port).account(stop())
    (request,) = accounting.requests
    assert request.VerifyAcctRequest()
    expected = {
        "Acct-Status-Type": ["Stop"],
        "Acct-Session-Id": ["s1"],
        "Event-Timestamp": [1_800_000_000],
        "Acct-Delay-Time": [10],
        "User-Name": ["anna"],
        "Calling-Station-Id": ["02-00-00-AA-BB-CC"],
        "Mikrotik-Host-IP": ["10.10.0.7"],
        "Framed-IP-Address": ["10.10.0.7"],
        "Class": [b"\xc1\xa5"],
        "Acct-Session-Time": [90],
        "Acct-Input-Octets": [9],
        "Acct-Input-Gigawords": [0],
        "Acct-Output-Octets": [5],
        "Acct-Output-Gigawords": [3],
        "Acct-Input-Packets": [2],
        "Acct-Output-Packets": [1],
        "Acct-Terminate-Cause": [5],
        "NAS-Identifier": ["gateway"],
    }
    assert {key: request[key] for key in expected} == expected


def test_chosen_public_address_is_the_framed_one(accounting: FakeServer) -> None:
    accounting.handler = accept()
    record = stop(status="Interim-Update", address=IPv4Address("198.51.100.9"), terminate_cause=None)
    client(accounting_port=accounting.port).account(record)
    (request,) = accounting.requests
    assert request["Framed-IP-Address"] == ["198.51.100.9"]
    assert request["Mikrotik-Host-IP"] == ["10.10.0.7"]
    assert "Acct-Terminate-Cause" not in request


def test_accounting_on_speaks_of_the_nas_only(accounting: FakeServer) -> None:
    accounting.handler = accept()
    record = AccountingRecord(status="Accounting-On", session_id="boot", event_at=1_800_000_007)
    client(accounting_port=accounting.port).account(record)
    (request,) = accounting.requests
    assert request["Acct-Status-Type"] == ["Accounting-On"]
    assert request["Acct-Delay-Time"] == [0]  # an event in the future is the clock's doing
    assert "User-Name" not in request
    assert "Framed-IP-Address" not in request


def test_accounting_is_sent_again_with_a_new_identifier(accounting: FakeServer) -> None:
    accounting.handler = lambda request: accept()(request) if len(accounting.requests) == 2 else None
    client(accounting_port=accounting.port).account(stop())
    first, second = accounting.requests
    assert first.id != second.id  # RFC 2866, 3: its delay may have changed


def test_late_reply_to_the_first_try_counts(accounting: FakeServer) -> None:
    accounting.handler = lambda request: accept()(accounting.requests[0]) if len(accounting.requests) == 2 else None
    client(accounting_port=accounting.port).account(stop())
    assert len(accounting.requests) == 2


def test_accounting_reply_with_a_wrong_secret_is_no_reply(accounting: FakeServer) -> None:
    def answer(request: Any) -> bytes:
        request.secret = b"wrong"
        return accept()(request) or b""

    accounting.handler = answer
    with pytest.raises(Unavailable):
        client(accounting_port=accounting.port).account(stop())


# -- CoA and Disconnect


def dynamic(code: int = codec.CoARequest, sign: bool = True, **attributes: Any) -> bytes:
    request = codec.CoAPacket(
        code=code, id=9, secret=SECRET, dict=radius._dictionary(), message_authenticator=sign or None
    )
    for name, value in attributes.items():
        request[name.replace("_", "-")] = value
    data: bytes = request.RequestPacket()
    return data


FULL = dynamic(
    Acct_Session_Id="s1",
    User_Name="anna",
    Framed_IP_Address="198.51.100.9",
    Mikrotik_Host_IP="10.10.0.7",
    Calling_Station_Id="02-00-00-AA-BB-CC",
    Mikrotik_Rate_Limit="1M/4M",
    Session_Timeout=60,
    Idle_Timeout=30,
    Mikrotik_Total_Limit=1,
    Mikrotik_Total_Limit_Gigawords=1,
    Proxy_State=b"from afar",
)


def test_coa_names_the_session_and_what_changes() -> None:
    request = decode_dynamic(FULL, SECRET)
    assert (request.kind, request.session_id, request.account, request.mac) == ("coa", "s1", "anna", MAC)
    assert (request.address, request.host_ip) == (IPv4Address("198.51.100.9"), IP)
    assert (request.up_bps, request.down_bps) == (1_000_000, 4_000_000)
    assert (request.session_timeout_s, request.idle_timeout_s) == (60, 30)
    assert request.quota_bytes == 2**32 + 1


def test_bare_disconnect_leaves_the_rest_open() -> None:
    request = decode_dynamic(dynamic(codec.DisconnectRequest, sign=False, Acct_Session_Id="s1"), SECRET)
    assert (request.kind, request.session_id, request.account) == ("disconnect", "s1", "")
    named = dataclasses.astuple(dataclasses.replace(request, packet=None))
    assert set(named[3:]) == {None}


@pytest.mark.parametrize(
    ("kind", "error_cause", "code"),
    [
        (codec.CoARequest, None, codec.CoAACK),
        (codec.CoARequest, 503, codec.CoANAK),
        (codec.DisconnectRequest, None, codec.DisconnectACK),
        (codec.DisconnectRequest, 503, codec.DisconnectNAK),
    ],
)
def test_answers_are_signed_twice(kind: int, error_cause: int | None, code: int) -> None:
    data = dynamic(kind, Acct_Session_Id="s1", Proxy_State=b"from afar")
    answer = answer_dynamic(decode_dynamic(data, SECRET), error_cause)
    asked = codec.CoAPacket(packet=data, secret=SECRET, dict=radius._dictionary())
    reply = asked.CreateReply(packet=answer)
    assert reply.code == code
    assert asked.VerifyReply(reply, answer)
    assert len(reply[80]) == 1
    assert reply.get("Error-Cause") == (None if error_cause is None else [error_cause])
    assert reply["Proxy-State"] == [b"from afar"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FULL[:19],
        FULL[:-1],
        FULL[:4] + bytes(16) + FULL[20:],
        dynamic(codec.AccountingRequest),
        dynamic(Session_Timeout=60)[:-6],
        dynamic(Mikrotik_Rate_Limit="fast"),
        dynamic(Calling_Station_Id="my phone"),
        dynamic(User_Name=b"\xff\xfe"),
        dynamic(User_Name="an\nna"),
        dynamic(Acct_Session_Id=["s1", "s2"]),
    ],
)
def test_other_packets_are_bad_in_one_line(data: bytes) -> None:
    with pytest.raises(BadPacket) as caught:
        decode_dynamic(data, SECRET)
    assert str(caught.value).isprintable()


def test_other_secret_is_bad() -> None:
    with pytest.raises(BadPacket, match="Request Authenticator"):
        decode_dynamic(FULL, b"other")


def test_message_authenticator_is_verified_where_there_is_one() -> None:
    request = codec.CoAPacket(id=9, secret=SECRET, dict=radius._dictionary())
    request[80] = [bytes(16)]
    with pytest.raises(BadPacket, match="Message-Authenticator"):
        decode_dynamic(request.RequestPacket(), SECRET)


def sealed(code: int, attributes: bytes) -> bytes:
    """A packet whose Request Authenticator fits, whatever its attributes are."""
    head = bytes([code, 7]) + (20 + len(attributes)).to_bytes(2)
    return head + hashlib.md5(head + bytes(16) + attributes + SECRET).digest() + attributes


ATTRIBUTE = st.builds(
    lambda kind, value: bytes([kind, 2 + len(value)]) + value,
    st.sampled_from([1, 8, 18, 25, 26, 27, 28, 31, 33, 44, 80, 200]),
    st.one_of(
        st.binary(max_size=20),
        st.builds(
            lambda kind, value: b"\0\0\x3a\x8c" + bytes([kind, 2 + len(value)]) + value,
            st.sampled_from([8, 10, 17, 18, 99]),
            st.one_of(st.binary(max_size=12), st.sampled_from([b"1M/2M", b"1M", b"\0\0\0\1"])),
        ),
    ),
)


def test_attribute_cut_short_is_bad() -> None:
    with pytest.raises(BadPacket, match="length"):
        decode_dynamic(sealed(codec.CoARequest, b"\x2c\x05ab"), SECRET)


def only_bad_packet(data: bytes) -> None:
    try:
        request = decode_dynamic(data, SECRET)
    except BadPacket as error:
        assert str(error).isprintable()
        return
    assert answer_dynamic(request, 503)[0] in (codec.CoANAK, codec.DisconnectNAK)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    only_bad_packet(data)


@settings(deadline=None)
@given(st.integers(0, len(FULL) - 1), st.binary(min_size=1, max_size=4))
def test_mutated_packets_raise_nothing_else(place: int, change: bytes) -> None:
    only_bad_packet(FULL[:place] + change + FULL[place + len(change) :])


@settings(deadline=None)
@given(st.sampled_from([40, 43]), st.binary(max_size=100))
@example(43, b"\x1a\x02")
@example(40, b"\x50\x02")
def test_sealed_rubbish_raises_nothing_else(code: int, attributes: bytes) -> None:
    only_bad_packet(sealed(code, attributes))


@settings(deadline=None)
@given(st.sampled_from([40, 43]), st.lists(ATTRIBUTE, max_size=8))
def test_sealed_attributes_of_any_kind_raise_nothing_else(code: int, attributes: list[bytes]) -> None:
    only_bad_packet(sealed(code, b"".join(attributes)))
