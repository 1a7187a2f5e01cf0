"""What the collector takes, from whom, and what becomes of it while a disk doesn't do as it should."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import peewee
import pytest

from appliance.config import Netflow
from appliance.errors import Unavailable, UserError
from collector import exporters, receive, spool
from collector.exporters import Exporter, Exporters, Followed, plain
from collector.intake import Intake
from collector.journal import OTHERS, Datagram, Journal, unpack
from collector.receive import Receiver, Status
from collector.spool import Batch, Store

AT_MS = 1_800_000_000_000


# Whose


def test_the_longest_prefix_decides() -> None:
    known = Exporters(
        Exporter(ip_network(network), name, on)
        for network, name, on in (
            ("192.0.2.0/24", "all", True),
            ("192.0.2.7", "attic", False),
            ("2001:db8::/32", "six", True),
            ("0.0.0.0/0", "rest", False),
        )
    )
    found = {a: known.find(a) for a in ("192.0.2.8", "192.0.2.7", "2001:db8::9", "198.51.100.1", "2001:db9::")}
    assert [(e.name, e.collected) if e else None for e in found.values()] == [
        ("all", True),
        ("attic", False),
        ("six", True),
        ("rest", False),
        None,
    ]


def test_addresses_are_said_plainly() -> None:
    assert plain("::ffff:192.0.2.7") == "192.0.2.7"
    assert plain("fe80::1%eth0") == "fe80::1"
    assert plain("2001:db8::1") == "2001:db8::1"


def test_the_rendered_file_is_followed_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "exporters.json"
    followed = Followed(path)
    assert not followed.changed()
    path.write_text(exporters.text([Exporter(ip_network("192.0.2.7"), "attic", True)]))
    assert followed.changed()
    assert not followed.changed()
    path.write_text("[{")
    assert not followed.changed()
    assert followed.exporters.find("192.0.2.7")
    path.unlink()
    assert not followed.changed()


# What is taken


def receiver(tmp_path: Path) -> Receiver:
    path = tmp_path / "exporters.json"
    path.write_text(exporters.text([Exporter(ip_network("192.0.2.0/24"), "attic", True)]))
    made = Receiver(Followed(path))
    made.follow()
    return made


def test_only_what_is_switched_on_is_taken_and_the_others_are_counted(tmp_path: Path) -> None:
    sorted_out = receiver(tmp_path)
    for number, source in enumerate(("::ffff:192.0.2.7", "198.51.100.1", "::ffff:192.0.2.7", "198.51.100.1")):
        sorted_out.receive(b"x" * number, source, AT_MS + number)
    batch, size = sorted_out.take(3)
    assert batch.datagrams == [Datagram(AT_MS, "192.0.2.7", b""), Datagram(AT_MS + 2, "192.0.2.7", b"xx")]
    assert [tuple(heard) for heard in batch.others] == [("198.51.100.1", False, 2, 4, AT_MS + 1, AT_MS + 3)]
    assert (batch.drops, batch.lost, size > 2) == (3, {}, True)
    assert not sorted_out.take(0)[0]


def test_a_flood_of_forged_senders_takes_no_memory(tmp_path: Path) -> None:
    sorted_out = receiver(tmp_path)
    for number in range(20_000):
        sorted_out.receive(b"x", f"198.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", AT_MS)
    batch, _ = sorted_out.take(0)
    assert len(batch.others) == receive.MAX_OTHERS + 1
    assert sum(heard.datagrams for heard in batch.others) == 20_000
    assert batch.others[-1].exporter == OTHERS
    status = Status(tmp_path / "status.json", 2055, 0)
    for number in range(3):
        status.note(Batch(others=[heard._replace(exporter=f"{number}") for heard in batch.others[:200]]), "", 0)
        status.note(Batch(others=[h._replace(exporter=f"{number}.{n}") for n, h in enumerate(batch.others)]), "", 0)
    said = json.loads((tmp_path / "status.json").read_text())
    assert len(said["others"]) <= receive.MAX_OTHERS + 1


def test_what_a_stalled_disk_holds_up_is_bounded_and_then_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "MAX_WAITING_BYTES", 10_000)
    sorted_out = receiver(tmp_path)
    for _ in range(5):
        sorted_out.receive(b"x" * 1000, "192.0.2.7", AT_MS)
    _, waiting = sorted_out.take(0)
    for _ in range(10):
        sorted_out.receive(b"x" * 1000, "192.0.2.7", AT_MS)
    batch, _ = sorted_out.take(0)
    assert (len(batch.datagrams), batch.lost) == (4, {"queue": 6})
    sorted_out.written(waiting)
    sorted_out.receive(b"x", "192.0.2.7", AT_MS)
    assert sorted_out.take(0)[0].lost == {}


# The socket


@pytest.fixture
def link() -> Iterator[Intake]:
    made = Intake("::", 0, 1 << 20)
    yield made
    made.close()


def sender(link: Intake, host: str) -> socket.socket:
    port = socket.socket(fileno=os.dup(link.fileno())).getsockname()[1]
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.connect((host, port))
    return made


def test_one_socket_takes_both_families(link: Intake) -> None:
    for host, seen in (("127.0.0.1", "127.0.0.1"), ("::1", "::1")):
        with sender(link, host) as one:
            one.send(b"hello")
        payload, source = link.get() or (b"", "")
        assert (payload, plain(source)) == (b"hello", seen)
    assert link.get() is None


def test_what_the_kernel_drops_is_told(link: Intake) -> None:
    assert link.granted_bytes >= 1 << 18
    with sender(link, "127.0.0.1") as one:
        for _ in range(sent := 5000):
            one.send(b"x" * 1400)
        dropped = link.new_drops()
        received = 0
        while link.get():
            received += 1
        assert 0 < dropped == sent - received
        one.send(b"x")
    assert link.new_drops() == 0


def test_a_port_that_is_taken_is_said(link: Intake) -> None:
    with sender(link, "::1") as one, pytest.raises(UserError, match="can't be listened to: Address already in use"):
        Intake("::", one.getpeername()[1], 1 << 20)


# Where it goes


class Disk:
    """A folder that stands for a data disk; `word` is what is wrong with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.word = ""
        folder.mkdir()

    def __call__(self) -> Path:
        if self.word:
            raise Unavailable(self.word)
        return self.folder

    def payloads(self) -> list[bytes]:
        book = Journal(self.folder / "journal.db", write=False)
        found = [datagram.payload for row in book.read(0) for datagram in unpack(row)]
        book.close()
        return found

    def drops(self) -> list[tuple[int, str]]:
        book = Journal(self.folder / "journal.db", write=False)
        found = [(drop.datagrams, drop.cause) for drop in book.dropped()]
        book.close()
        return found


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "disk")


@pytest.fixture
def new_store(tmp_path: Path, disk: Disk) -> Iterator[Callable[[], Store]]:
    made: list[Store] = []

    def new(spool_bytes: int = 1 << 24) -> Store:
        made.append(Store(disk, tmp_path / "spool.db", spool_bytes))
        return made[-1]

    yield new
    for store in made:
        store.close()


def batch(*texts: str) -> Batch:
    return Batch([Datagram(AT_MS + n, "192.0.2.7", text.encode()) for n, text in enumerate(texts)])


def test_what_came_while_the_disk_was_away_is_carried_over_in_its_order(
    disk: Disk, new_store: Callable[[], Store]
) -> None:
    store = new_store()
    store.write(batch("a"))
    assert (store.problem, disk.payloads()) == ("", [b"a"])
    disk.word = "data disk: absent"
    store.write(batch("b", "c")._replace(drops=2))
    store.write(Batch())
    assert store.problem == "data disk: absent"
    assert store.spooled_bytes > 0
    store.close()
    store = new_store()
    store.write(batch("d"))
    disk.word = ""
    store.write(batch("e"))
    assert (store.problem, disk.payloads()) == ("", [b"a", b"b", b"c", b"d", b"e"])
    assert disk.drops() == [(2, "kernel")]
    assert store.spooled_bytes == 0


def test_much_is_carried_over_piece_by_piece_while_more_comes(
    disk: Disk, new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "DRAINED_AT_ONCE", 1)
    store, disk.word = new_store(), "away"
    for text in "abc":
        store.write(batch(text))
    disk.word = ""
    store.write(batch("d"))
    assert "carried over" in store.problem
    for _ in range(4):
        store.write(Batch())
    assert (store.problem, disk.payloads()) == ("", [b"a", b"b", b"c", b"d"])


def test_a_full_spool_gives_up_its_oldest_and_says_so(disk: Disk, new_store: Callable[..., Store]) -> None:
    store, disk.word = new_store(1 << 18), "away"
    for number in range(40):
        noise = os.urandom(20_000)
        store.write(Batch([Datagram(AT_MS + number, "192.0.2.7", number.to_bytes(1, "big") + noise)]))
    assert store.spooled_bytes <= 1 << 18
    disk.word = ""
    store.write(Batch())
    kept = [payload[0] for payload in disk.payloads()]
    lost = sum(count for count, cause in disk.drops() if cause == "spool")
    assert kept == list(range(lost, 40))
    assert 5 < len(kept) < 20


def test_a_commit_that_failed_after_all_was_written_is_not_written_again(
    disk: Disk, new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an fsync may fail on a disk that is pulled, and the disk has everything nevertheless."""
    store, add = new_store(), Journal.append

    def failing(self: Journal, *args: object, **more: object) -> bool:
        add(self, *args, **more)  # type: ignore[arg-type]
        if self.path.parent == disk.folder:
            raise peewee.OperationalError("disk I/O error")
        return True

    store.write(batch("a"))
    monkeypatch.setattr(Journal, "append", failing)
    store.write(batch("b", "c"))
    assert store.problem == "the journal on the data disk can't be written: disk I/O error"
    monkeypatch.setattr(Journal, "append", add)
    disk.word = "away"
    store.write(batch("d"))
    store.close()
    disk.word, store = "", new_store()
    store.write(batch("e"))
    assert disk.payloads() == [b"a", b"b", b"c", b"d", b"e"]


def test_a_commit_that_failed_before_is_carried_over(
    disk: Disk, new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, add = new_store(), Journal.append

    def failing(self: Journal, *args: object, **more: object) -> bool:
        if self.path.parent == disk.folder:
            raise peewee.OperationalError("database or disk is full")
        return add(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "append", failing)
    store.write(batch("a"))
    monkeypatch.setattr(Journal, "append", add)
    store.write(batch("b"))
    assert disk.payloads() == [b"a", b"b"]


def test_a_crash_while_it_is_carried_over_doubles_nothing(
    disk: Disk, new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, disk.word = new_store(), "away"
    store.write(batch("a", "b")._replace(drops=1))
    disk.word = ""
    monkeypatch.setattr(Journal, "forget", lambda *_: 1 / 0)  # between the two databases
    with pytest.raises(ZeroDivisionError):
        store.write(batch("c"))
    monkeypatch.undo()
    store.close()
    store = new_store()
    store.write(batch("d"))
    assert disk.payloads() == [b"a", b"b", b"d"]
    assert disk.drops() == [(1, "kernel")]


def test_where_both_disks_fail_the_loss_is_counted(
    disk: Disk, new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise peewee.OperationalError("database or disk is full")

    store, disk.word = new_store(), "away"
    monkeypatch.setattr(spool.Spool, "put", failing)
    store.write(batch("a", "b"))
    assert "datagrams are lost" in store.problem
    monkeypatch.undo()
    disk.word = ""
    store.write(batch("c"))
    assert (disk.payloads(), disk.drops()) == ([b"c"], [(2, "spool")])


def test_another_file_system_at_the_same_place_gets_its_own_journal(
    tmp_path: Path, disk: Disk, new_store: Callable[[], Store]
) -> None:
    store = new_store()
    store.write(batch("a"))
    first, disk.folder = disk.folder, Path("/dev/shm") / f"gatehouse-test-{os.getpid()}"
    disk.folder.mkdir()
    try:
        if disk.folder.stat().st_dev == first.stat().st_dev:
            pytest.skip("only one file system here")
        store.write(batch("b"))
        assert disk.payloads() == [b"b"]
    finally:
        store.close()
        for file in disk.folder.iterdir():
            file.unlink()
        disk.folder.rmdir()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"listen": "everywhere"}, "listen: an address such as"),
        ({"port": 0}, "port: 0 is not between"),
        ({"keep_days": 0}, "keep_days: 0 is not between 1 and 3650"),
        ({"spool_mb": 1}, "spool_mb: 1 is not between 16"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Netflow(**values)  # type: ignore[arg-type]


def test_the_process_that_faces_the_network_is_small() -> None:
    """It imports neither the decoder's libraries nor a web server, and idles without a load that anybody sees."""
    code = (
        "import collector.receive, sys; print([m for m in ('numpy', 'duckdb', 'bottle', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_capabilities_are_gone_for_good() -> None:
    code = "from collector import intake; intake.drop_capabilities(); print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    held = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if line.startswith("Cap"))
    assert {held[name] for name in ("CapPrm", "CapEff", "CapInh")} == {"0" * 16}
