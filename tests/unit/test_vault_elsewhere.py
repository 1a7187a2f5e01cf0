"""A copy of another appliance's vaults: what a good one gives, and what a bad one can't do."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import Unavailable, UserError
from appliance.vault import following, manifest, objects, offers, outliving, returning, signing, sources, vaults
from appliance.vault.following import Limits
from appliance.vault.models import Version, vault_db
from appliance.vault.peer import ROOT, Peer, Stranger, parsed
from appliance.vault.pieces import PIECE_BYTES, Folder
from appliance.vault.scrub import Pace
from appliance.vault.sources import Source
from tests.unit.vault_box import Box
from tests.unit.vault_pair import certificate, context, served

NOW = 1_900_000_000
TOKEN = "t" * 30


class Origin:
    """A vault elsewhere, as a WSGI application; each of its answers can be another one."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.lines: list[bytes] = []
        self.contents: dict[str, bytes] = {}
        self.certificate = ""
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.instead: dict[str, Callable[[], tuple[str, bytes]]] = {}
        self.head_is: dict[str, Any] = {}
        self.cut_after = -1

    def add(self, event: str, **fields: Any) -> None:
        before = manifest.digest(self.lines[-1]) if self.lines else manifest.START
        record = {"n": len(self.lines) + 1, "previous": before, "at": 1000 + len(self.lines), "age": 0}
        self.lines.append(manifest.encode(record | {"vault": "office", "event": event, **fields}))

    def store(self, path: str, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.contents[sha256] = data
        self.add("store", path=path, sha256=sha256, bytes=len(data), version=len(self.lines) + 1)
        return sha256

    @property
    def text(self) -> bytes:
        return b"".join(line + b"\n" for line in self.lines)

    def head(self) -> dict[str, Any]:
        last = manifest.digest(self.lines[-1]) if self.lines else manifest.START
        facts: dict[str, Any] = {"n": len(self.lines), "sha256": last, "bytes": len(self.text), "at": NOW}
        return signing.signed(self.private, **(facts | self.head_is))

    def __call__(self, environ: dict[str, Any], start: Any) -> list[bytes]:
        path, at = environ["PATH_INFO"], int(environ.get("QUERY_STRING", "").removeprefix("at=") or 0)
        self.asked.append(path)
        self.tokens.append(environ.get("HTTP_AUTHORIZATION", ""))
        name = path.removeprefix(ROOT).strip("/").split("/")[0]
        if self.cut_after == 0:
            raise ConnectionAbortedError
        self.cut_after -= 1
        status, data = self.instead[name]() if name in self.instead else self.answer(path, at)
        start(status, [("Content-Length", str(len(data)))])
        return [data]

    def answer(self, path: str, at: int) -> tuple[str, bytes]:
        if path == ROOT:
            said = signing.signed(self.private, certificate=self.certificate, at=NOW)
            return "200 OK", json.dumps(said).encode()
        if path.endswith("/head"):
            return "200 OK", json.dumps(self.head()).encode()
        if path.endswith("/manifest"):
            return "200 OK", self.text[at : at + PIECE_BYTES]
        data = self.contents.get(path.rpartition("/")[2])
        return ("404 Not Found", b"") if data is None else ("200 OK", data[at : at + PIECE_BYTES])


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin()


@pytest.fixture
def source(box: Box, origin: Origin, tmp_path: Path) -> Iterator[Any]:
    pem = tmp_path / "a.pem"
    origin.certificate = certificate(pem)
    with served(origin, pem) as url:
        assert sources.add("attic", url, "", TOKEN) == signing.public(origin.private)
        yield sources.named("attic")


def pull(box: Box, source: Any, now: int = NOW) -> int:
    return sources.pull(box.store, Source.get_by_id(source.id), now)


def place(box: Box) -> Path:
    return sources.place_of(box.store, "attic")


def kept(box: Box) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place(box) / "objects").glob("*/*")}


def copied(box: Box) -> bytes:
    return (place(box) / "manifest" / "manifest.jsonl").read_bytes()


def everything(box: Box) -> dict[str, bytes]:
    return kept(box) | {"manifest": copied(box)}


def test_all_of_it_comes_verified_and_only_what_is_new_comes_again(box: Box, origin: Origin, source: Any) -> None:
    large = os.urandom(PIECE_BYTES * 2 + 5)
    origin.store("/x", b"one")
    origin.store("/large", large)
    origin.store("/empty", b"")
    assert pull(box, source) == 3
    assert kept(box) == origin.contents
    assert copied(box) == origin.text
    origin.store("/y", b"two")
    origin.asked.clear()
    assert pull(box, source, NOW + 60) == 1
    assert sum("/objects/" in path for path in origin.asked) == 1
    row = Source.get()
    assert (row.head_n, row.heard_at, row.pulled_at, row.problem, row.broken) == (4, NOW + 60, NOW, "", "")
    assert row.bytes == len(origin.text) + len(large) + 6
    assert sorted(path.name for path in (place(box) / "spool").iterdir()) == []


def test_the_token_is_said_to_nobody_but_the_vault_that_is_known(
    box: Box, origin: Origin, source: Any, tmp_path: Path
) -> None:
    origin.store("/x", b"one")
    pull(box, source)
    origin.tokens.clear()
    pem = tmp_path / "between.pem"
    certificate(pem)
    with served(origin, pem) as url:  # the vault's own statement, by another's certificate
        Source.update(url=url).execute()
        with pytest.raises(UserError, match="sits in between"):
            pull(box, source)
    assert "sits in between" in Source.get().broken
    origin.private = Ed25519PrivateKey.generate()  # a vault that is another one
    origin.certificate = certificate(pem)
    with served(origin, pem) as url:
        Source.update(url=url).execute()
        with pytest.raises(UserError, match="isn't the vault that it was"):
            pull(box, source)
    assert set(origin.tokens) == {""}


def test_a_new_certificate_of_the_same_vault_needs_nobody(
    box: Box, origin: Origin, source: Any, tmp_path: Path
) -> None:
    origin.certificate = certificate(tmp_path / "new.pem")
    origin.store("/x", b"one")
    with served(origin, tmp_path / "new.pem") as url:
        Source.update(url=url).execute()
        assert pull(box, source) == 1


def rewrite(origin: Origin) -> None:
    data = origin.lines[:]
    origin.lines.clear()
    origin.store("/x", b"another")
    for _ in data[1:]:
        origin.store("/y", b"more")
    origin.store("/z", b"and more")


def cut(origin: Origin) -> None:
    origin.lines.pop()


def same_length(origin: Origin) -> None:
    origin.lines[-1] = origin.lines[-1].replace(b"/y", b"/z")


@pytest.mark.parametrize("change", [rewrite, cut, same_length])
def test_a_history_that_is_another_one_takes_nothing_and_is_told(
    box: Box, origin: Origin, source: Any, change: Callable[[Origin], None]
) -> None:
    origin.store("/x", b"one")
    origin.store("/y", b"two")
    pull(box, source)
    before = everything(box)
    change(origin)
    with pytest.raises(UserError, match="history was"):
        pull(box, source, NOW + 10)
    assert everything(box) == before
    ((_, text, loud),) = sources.alarms(NOW)
    assert loud
    assert "history was" in text


def test_what_is_erased_there_stays_here(box: Box, origin: Origin, source: Any) -> None:
    first = origin.store("/x", b"one")
    pull(box, source)
    origin.add("delete", path="/x")
    origin.add("expire", versions=[1])
    origin.contents.clear()
    assert pull(box, source) == 2
    assert kept(box) == {first: b"one"}


def erased_there(box: Box, origin: Origin, source: Any) -> None:
    """Three versions of two contents; those of the first are gone there, and that was seen here."""
    first = origin.store("/x", b"one")
    origin.store("/y", b"two")
    origin.store("/z", b"one")
    origin.store("/a", b"three")
    pull(box, source)
    origin.add("expire", versions=[1, 3])
    origin.contents.pop(first)
    pull(box, source)
    passed(box, 0)


def passed(box: Box, days: int) -> set[bytes]:
    """The vault's own clock, whatever the machine's says; then contents that are still there."""
    box.clock.since_boot += days * 86_400_000
    with box.store.turns.plain():
        pass
    outliving.run(box.store)
    return set(kept(box).values())


def test_what_is_erased_there_goes_here_after_a_time_of_its_own(box: Box, origin: Origin, source: Any) -> None:
    Source.update(keep_days=30).execute()
    erased_there(box, origin, source)
    box.clock.wall += 10**12
    assert passed(box, 29) == {b"one", b"two", b"three"}
    assert passed(box, 2) == {b"two", b"three"}
    assert pull(box, source) == 0
    assert sources.verify(box.store, Source.get(), NOW, None, 10) == 0
    assert list(sources.alarms(NOW)) == []
    assert Source.get().bytes == 8


def test_what_came_again_stays(box: Box, origin: Origin, source: Any) -> None:
    Source.update(keep_days=30).execute()
    erased_there(box, origin, source)
    origin.store("/new", b"one")
    pull(box, source)
    assert passed(box, 31) == {b"one", b"two", b"three"}


def test_without_a_time_it_stays_for_ever(box: Box, origin: Origin, source: Any) -> None:
    erased_there(box, origin, source)
    assert passed(box, 30_000) == {b"one", b"two", b"three"}
    with pytest.raises(UserError, match="keep days: 30"):
        sources.add("other", source.url, "", TOKEN, keep_days=1)


def test_most_of_it_goes_only_if_somebody_says_so(box: Box, origin: Origin, source: Any) -> None:
    Source.update(keep_days=30).execute()
    for number in range(3):
        origin.store(f"/{number}", bytes([number]))
    origin.add("expire", versions=[1, 2])
    pull(box, source)
    passed(box, 0)
    assert len(passed(box, 31)) == 3
    ((_, text, loud),) = sources.alarms(NOW)
    assert loud
    assert "2 of its 3 contents" in text
    assert outliving.erase(box.store, Source.get(), most=True) == 2
    assert set(kept(box).values()) == {b"\2"}
    assert list(sources.alarms(NOW)) == []


def fields(**changed: Any) -> Callable[[Origin], None]:
    def change(origin: Origin) -> None:
        good = {"path": "/x", "sha256": "0" * 64, "bytes": 3, "version": 1}
        origin.add("store", **(good | changed))

    return change


def raw(line: bytes) -> Callable[[Origin], None]:
    return lambda origin: origin.lines.append(line)


HOSTILE: dict[str, Callable[[Origin], None]] = {
    "a path for a hash": fields(sha256="../../../../../../tmp/" + "0" * 42),
    "another letter": fields(sha256="0" * 63 + "０"),
    "bytes that are none": fields(bytes=-1),
    "bytes without end": fields(bytes=10**30),
    "true bytes": fields(bytes=True),
    "no version": fields(version=None),
    "versions that are none": lambda origin: origin.add("expire", versions={"1": 1}),
    "another version": fields(version=2),
    "versions that come later": lambda origin: origin.add("expire", versions=[1]),
    "depth": raw(b"[" * 500_000),
    "no JSON": raw(b"\xff\xfe"),
    "other spelling": raw(json.dumps({"n": 1, "previous": manifest.START, "vault": "v", "event": "mkdir"}).encode()),
    "a line without end": raw(b"x" * (manifest.MAX_LINE_BYTES + PIECE_BYTES)),
    "large numbers": raw(b'{"n":' + b"9" * 5000 + b"}"),
}


def test_lines_that_no_vault_has_written_are_refused_before_anything_else(
    box: Box, origin: Origin, source: Any
) -> None:
    for what, add in HOSTILE.items():
        origin.lines.clear()
        add(origin)
        with pytest.raises(UserError, match="history was rewritten"):
            pull(box, source)
        assert everything(box) == {"manifest": b""}, what
        assert not (place(box) / "manifest" / following.INCOMING).exists()
        assert not any("/objects/" in path for path in origin.asked), what


HEADS: dict[str, dict[str, Any]] = {
    "more events": {"n": 5},
    "more bytes": {"bytes": 10**9},
    "less bytes": {"bytes": 10},
    "another hash": {"sha256": "1" * 64},
    "no number": {"n": "1"},
    "no hash": {"sha256": "x"},
    "a negative one": {"n": -1},
    "one that is true": {"bytes": True},
    "a fact more": {"more": 1},
}


def test_a_head_that_lies_leads_nowhere(box: Box, origin: Origin, source: Any) -> None:
    origin.store("/x", b"one")
    for what, facts in HEADS.items():
        origin.head_is = facts
        with pytest.raises(UserError):
            pull(box, source)
        assert everything(box) == {"manifest": b""}, what
    origin.head_is = {}
    assert pull(box, source) == 1


def body(status: str, data: bytes) -> Callable[[], tuple[str, bytes]]:
    return lambda: (status, data)


ANSWERS: list[tuple[str, tuple[str, bytes], str]] = [
    ("", ("200 OK", b"[" * 4000), "no vault of ours"),
    ("", ("200 OK", b"<html>log in</html>"), "no vault of ours"),
    ("", ("200 OK", b"x" * 5000), "more than"),
    ("head", ("200 OK", b"x" * 5000), "more than"),
    ("head", ("302 Found", b""), "HTTP 302"),
    ("head", ("401 Unauthorized", b""), "token no more"),
    ("head", ("200 OK", b"{}"), "isn't signed"),
    ("manifest", ("200 OK", bytes(PIECE_BYTES + 1)), "more than"),
    ("manifest", ("200 OK", b""), "shorter"),
    ("manifest", ("500 Oh", b""), "HTTP 500"),
    ("objects", ("200 OK", bytes(PIECE_BYTES + 1)), "more than"),
    ("objects", ("503 No", b""), "HTTP 503"),
]


def test_answers_have_a_limit_and_lead_nowhere_else(box: Box, origin: Origin, source: Any) -> None:
    origin.store("/x", b"one")
    for where, answer, words in ANSWERS:
        origin.instead = {where: lambda answer=answer: answer}  # type: ignore[misc]
        with pytest.raises(UserError, match=words):
            pull(box, source)
        assert everything(box) == {"manifest": b""}, (where, answer[0])
    origin.instead = {}
    assert pull(box, source) == 1
    assert Source.get().broken == ""


@pytest.mark.parametrize("data", [b"two", b"on", b"", b"one more"])
def test_a_content_that_is_another_one_is_none(box: Box, origin: Origin, source: Any, data: bytes) -> None:
    sha256 = origin.store("/x", b"one")
    origin.contents[sha256] = data
    origin.store("/y", b"good")
    assert pull(box, source) == 2
    assert list(kept(box).values()) == [b"good"]
    assert Source.get().missing == 1
    assert "missing" in next(sources.alarms(NOW))[1]
    origin.contents[sha256] = b"one"
    assert sources.verify(box.store, Source.get(), NOW, None, 10) == 0
    assert kept(box)[sha256] == b"one"
    assert list(sources.alarms(NOW)) == []


def test_a_bad_content_of_the_copy_comes_anew(box: Box, origin: Origin, source: Any) -> None:
    sha256 = origin.store("/x", b"one")
    pull(box, source)
    file = objects.file_of(place(box), sha256)
    file.chmod(0o600)
    file.write_bytes(b"two")
    assert sources.verify(box.store, Source.get(), NOW + 5, None, 10) == 0
    assert kept(box) == {sha256: b"one"}
    assert (place(box) / "quarantine" / sha256).read_bytes() == b"two"
    assert Source.get().verified_at == NOW + 5


def test_a_copy_that_was_changed_here_is_noticed(box: Box, origin: Origin, source: Any) -> None:
    origin.store("/x", b"one")
    origin.store("/y", b"two")
    pull(box, source)
    path = place(box) / "manifest" / "manifest.jsonl"
    path.write_bytes(origin.lines[0] + b"\n")
    with pytest.raises(UserError, match="changed here"):
        pull(box, source)
    assert next(sources.alarms(NOW))[2]
    path.write_bytes(origin.text)
    assert pull(box, source) == 0
    path.write_bytes(origin.text.replace(b"/x", b"/z"))
    with pytest.raises(manifest.Broken):
        sources.verify(box.store, Source.get(), NOW, None, 10)
    assert next(sources.alarms(NOW))[2]


@pytest.mark.parametrize("at", (1, 2, 3, 5, 8, 9))
def test_a_connection_that_is_cut_at_any_answer_goes_on_from_there(
    box: Box, origin: Origin, source: Any, at: int
) -> None:
    sizes = [PIECE_BYTES * 2 + 1, 5, PIECE_BYTES]
    for number, size in enumerate(sizes):
        origin.store(f"/{number}", bytes([number]) * size)
    origin.cut_after = at
    for _ in range(2):
        with_cut = origin.cut_after >= 0
        try:
            pull(box, source)
        except UserError as error:
            assert "doesn't answer" in str(error) or "can't answer" in str(error)
            assert with_cut
        origin.cut_after = -1
    assert kept(box) == origin.contents
    assert copied(box) == origin.text
    assert Source.get().problem == ""


def test_what_came_of_a_content_isnt_asked_for_again(box: Box, origin: Origin, source: Any) -> None:
    origin.store("/x", os.urandom(PIECE_BYTES * 4))
    stops = iter([False, False, True])

    def step(name: str) -> None:
        if name == "piece" and next(stops):
            raise OSError("power")

    with pytest.raises(UserError):
        sources.pull(box.store, Source.get(), NOW, step=step)
    origin.asked.clear()
    pull(box, source)
    assert sum("/objects/" in path for path in origin.asked) == 1
    assert kept(box) == origin.contents


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


STEPS = ("manifest", "piece", "published", "contents", "appended")


@pytest.mark.parametrize("at", STEPS)
def test_killed_at_a_step_it_goes_on(box: Box, origin: Origin, source: Any, at: str) -> None:
    """As its files are right at each moment, so is what is named."""
    for number in range(3):
        origin.store(f"/{number}", bytes([number]) * (PIECE_BYTES + 1))
    box.close()
    child = os.fork()
    if not child:
        try:
            sources.pull(box.store, Source.get(), NOW, step=lambda name: kill() if name == at else None)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    named = {json.loads(line)["sha256"] for line in copied(box).splitlines()}
    assert named <= {name for name, data in kept(box).items() if hashlib.sha256(data).hexdigest() == name}
    pull(box, source)
    assert kept(box) == origin.contents
    assert copied(box) == origin.text
    assert list((place(box) / "spool").iterdir()) == []


def test_its_room_is_bounded(box: Box, origin: Origin, source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    origin.store("/small", b"1" * 100)
    origin.store("/large", b"2" * 5000)
    Source.update(quota_bytes=3000).execute()
    with pytest.raises(UserError, match="quota is used up"):
        pull(box, source)
    assert Source.get().problem
    Source.update(quota_bytes=None).execute()
    monkeypatch.setattr(following, "RESERVE_SHARE", 1)
    monkeypatch.setattr(following, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(UserError, match="no room for it"):
        pull(box, source)
    monkeypatch.undo()
    assert pull(box, source) == 2


def test_its_time_and_its_rate_are_bounded(box: Box, origin: Origin, source: Any) -> None:
    origin.store("/x", os.urandom(PIECE_BYTES * 2))
    assert sources.pull(box.store, Source.get(), NOW, budget_s=-1) == 0
    assert (Source.get().problem, Source.get().pulled_at) == ("", None)
    slept: list[float] = []
    pace = Pace(1000, slept.append)
    following.follow(sources.peer_of(Source.get()), sources._made(box.store, "other"), Limits(pace))
    assert sum(slept) > 2 * PIECE_BYTES / 1000 - 2


@contextmanager
def answering(talk: Callable[[socket.socket], None], pem: Path | None = None) -> Iterator[str]:
    """Somebody who talks so long as anybody listens."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                talk(context(pem).wrap_socket(connection, server_side=True) if pem else connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
    thread.join(60)
    assert not thread.is_alive()


def drip(begin: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            time.sleep(0.02)
            connection.sendall(b"\x02")

    return talk


def endless(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        connection.sendall(bytes(65_536))


def test_one_that_drips_or_never_ends_doesnt_hold_us(tmp_path: Path) -> None:
    certificate(tmp_path / "pem")
    in_handshake, in_headers = drip(b"\x16\x03\x03\x40\x00"), drip(b"HTTP/1.1 200 OK\r\nX: ")
    for talk, pem, words in (
        (in_handshake, None, "takes too long"),
        (in_headers, tmp_path / "pem", "takes too long"),
        (endless, tmp_path / "pem", "sends more than the 4096 bytes"),
    ):
        with answering(talk, pem) as url, pytest.raises(Unavailable, match=words):
            Peer(url, "0" * 64, TOKEN, most_s=0.4).meet()


@pytest.mark.parametrize(
    "url",
    ["http://a.example", "https://", "https://u:p@a.example", "https://a.example/x", "https://a.example:x", "a", ""],
)
def test_only_an_address_of_an_appliance_is_one(url: str) -> None:
    with pytest.raises(UserError, match="an address such as"):
        parsed(url)
    assert parsed("https://a.example") == ("a.example", 8090)
    assert parsed("https://[2001:db8::1]:444/") == ("2001:db8::1", 444)


def test_what_a_command_changes_meanwhile_stays(box: Box, origin: Origin, source: Any) -> None:
    origin.store("/x", b"one")
    going = Source.get()
    Source.update(url="https://b.example", rate_bps=5).execute()
    sources.pull(box.store, going, NOW)
    assert (Source.get().url, Source.get().rate_bps, Source.get().head_n) == ("https://b.example", 5, 1)


def test_a_given_key_is_the_only_one(box: Box, origin: Origin, source: Any) -> None:
    with pytest.raises(Stranger):
        sources.add("other", source.url, "1" * 64, TOKEN)
    assert [row.name for row in sources.rows()] == ["attic"]
    with pytest.raises(UserError, match="no token"):
        sources.add("other", source.url, "", "x\r\nHost: y" * 5)
    with pytest.raises(UserError, match="a name has"):
        sources.add("../x", source.url, "", TOKEN)


def test_it_is_told_when_it_is_behind(box: Box, origin: Origin, source: Any) -> None:
    Source.update(added_at=NOW - 10 * 3600, problem="it doesn't answer: no route").execute()
    ((name, text, loud),) = sources.alarms(NOW)
    assert (name, loud) == ("attic", False)
    assert "10h" in text
    assert "no route" in text


def test_a_fresh_one_gets_all_of_it_back(box: Box, origin: Origin, source: Any, tmp_path: Path) -> None:
    origin.store("/x", b"one")
    origin.store("/y", b"two")
    pull(box, source)
    copy = place(box)
    back = returning.bring_back(box.store, Folder(copy), Limits())
    assert (back.events, back.versions, back.missing) == (2, 2, 0)
    assert {box.get(version) for version in Version.select()} == {b"one", b"two"}
    box.put(vault_named("office"), "/z", b"three")  # and goes on
    with pytest.raises(UserError, match="has a history of its own"):
        returning.bring_back(box.store, Folder(copy), Limits())


def vault_named(name: str) -> Any:
    return vaults.named(name)


def test_offers_are_tokens_for_nothing_else(box: Box) -> None:
    token = offers.add("second", "192.0.2.0/24")
    assert offers.find(token, "192.0.2.9", NOW).name == "second"
    for wrong, address in ((token, "192.0.3.9"), (token, "nowhere"), (token + "x", "192.0.2.9"), ("", "192.0.2.9")):
        assert offers.find(wrong, address, NOW) is None
    assert token not in str(offers.rows()[0].__data__)
    again = offers.add("second")
    assert offers.find(token, "192.0.2.9", NOW) is None
    offers.remove("second")
    assert offers.find(again, "192.0.2.9", NOW) is None
    vault_db.close()
