"""Contents that went bad, the second copy, failing disks, and who may ask for what."""

import errno
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import Unavailable, UserError
from appliance.vault import (
    asking,
    faults,
    history,
    keeper,
    manifest,
    objects,
    own,
    rebuild,
    redo,
    replica,
    retention,
    scrub,
    signing,
    summary,
    vaults,
)
from appliance.vault.models import BAD, DROP, Chore, Event, Fault, Object, Refused, Replica, Reservation, Vault, Version
from appliance.vault.module import NETBACKUP
from tests.unit.vault_box import Box

NOW = 1_900_000_000


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


@pytest.fixture
def second(box: Box) -> Path:
    """A second disk that is attached."""
    path = box.folder / "second"
    path.mkdir()
    replica.make(path, (os.getuid(), os.getgid()))
    box.config = replace(box.config, vault=replace(box.config.vault, replica=path))
    box.open()
    return path


def object_file(place: Path, version: Any) -> Path:
    return objects.file_of(place, version.sha256)


def spoil(path: Path) -> None:
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(b"?" + data[1:])


def test_a_bad_content_is_found_put_aside_and_mended_from_the_second_copy(box: Box, second: Path) -> None:
    vault = box.vault()
    one, two = box.put(vault, "/1", b"one"), box.put(vault, "/2", b"two")
    assert replica.pull(box.store, second, NOW) == 2
    spoil(object_file(box.store.place(), one))
    object_file(box.store.place(), two).unlink()
    assert scrub.run(box.store, NOW, None, 10) == (2, 0)
    assert (box.get(one), box.get(two)) == (b"one", b"two")
    assert (box.store.place() / "quarantine" / one.sha256).exists()
    assert faults.open_faults() == []
    assert {item.verified_at for item in Object.select()} == {NOW}


def test_without_a_second_copy_it_is_told_until_that_is_back(box: Box, second: Path) -> None:
    version = box.put(box.vault(), "/1", b"one")
    replica.pull(box.store, second, NOW)
    (second / ".gatehouse-replica").rename(second / "away")
    spoil(object_file(box.store.place(), version))
    assert scrub.run(box.store, NOW, None, 10) == (1, 1)
    assert Object.get().state == BAD
    assert version.sha256[:12] in "".join(NETBACKUP.problems(box.config))
    assert NETBACKUP.own_problems and list(NETBACKUP.own_problems(box.config)) == [], "no update has to mend that"
    with pytest.raises(Refused):
        box.get(version)
    (second / "away").rename(second / ".gatehouse-replica")
    assert scrub.mend_all(box.store, NOW) == 1
    assert box.get(version) == b"one"
    assert summary.problems(box.config) == []


def test_the_same_content_again_mends_a_bad_one(box: Box) -> None:
    vault = box.vault()
    first = box.put(vault, "/1", b"one")
    spoil(object_file(box.store.place(), first))
    box.put(vault, "/2", b"one")
    assert box.get(first) == b"one"


def test_the_one_nobody_looked_at_for_longest_comes_first(box: Box) -> None:
    vault = box.vault()
    versions = [box.put(vault, f"/{number}", bytes([number])) for number in range(3)]
    for number, version in enumerate(versions):
        Object.update(verified_at=100 - number).where(Object.sha256 == version.sha256).execute()
    scrub.run(box.store, NOW, None, 0)  # no time but for one
    (looked_at,) = Object.select().where(Object.verified_at == NOW)
    assert looked_at.sha256 == versions[2].sha256


def test_the_second_copy_never_loses_anything_and_says_how_far_it_is(box: Box, second: Path) -> None:
    vault = box.vault(keep_days=0, keep_versions=0)
    first = box.put(vault, "/x", b"first")
    replica.pull(box.store, second, NOW)
    box.put(vault, "/x", b"second")
    box.clock.wait(1000)
    assert retention.run(box.store) == 1
    assert not object_file(box.store.place(), first).exists()
    assert replica.pull(box.store, second, NOW + 1) == 2
    assert object_file(second / "vault", first).read_bytes() == b"first"
    copy = Replica.get()
    assert (copy.head_n, copy.pulled_at, copy.problem) == (3, NOW + 1, "")
    assert replica.verify(second, NOW + 2, None, 10) == 0
    assert Replica.get().verified_at == NOW + 2
    spoil(object_file(second / "vault", first))
    assert replica.verify(second, NOW + 3, None, 10) == 1


def test_what_is_bad_in_the_second_copy_comes_anew(box: Box, second: Path) -> None:
    version = box.put(box.vault(), "/x", b"one")
    replica.pull(box.store, second, NOW)
    spoil(object_file(second / "vault", version))
    assert replica.verify(second, NOW, None, 10) == 1
    assert replica.pull(box.store, second, NOW) == 0
    assert object_file(second / "vault", version).read_bytes() == b"one"
    assert Replica.get().bad == 0


def test_the_second_copy_takes_nothing_from_a_manifest_that_was_changed(box: Box, second: Path) -> None:
    vault = box.vault()
    box.put(vault, "/x", b"first")
    box.put(vault, "/y", b"second")
    replica.pull(box.store, second, NOW)
    path = box.store.place() / "manifest" / "manifest.jsonl"
    before = (second / "vault" / "manifest" / "manifest.jsonl").read_bytes()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(UserError, match="isn't what it was"):
        replica.pull(box.store, second, NOW)
    assert (second / "vault" / "manifest" / "manifest.jsonl").read_bytes() == before
    assert "isn't what it was" in Replica.get().problem


def test_half_a_line_of_the_second_copy_is_cut_off_and_comes_again(box: Box, second: Path) -> None:
    vault = box.vault()
    box.put(vault, "/x", b"first")
    replica.pull(box.store, second, NOW)
    box.put(vault, "/y", b"second")
    path = second / "vault" / "manifest" / "manifest.jsonl"
    with path.open("ab") as file:
        file.write(b'{"n":2')
    assert replica.pull(box.store, second, NOW) == 1
    assert path.read_bytes() == (box.store.place() / "manifest" / "manifest.jsonl").read_bytes()


def test_a_second_copy_that_was_written_anew_or_is_another_appliances_is_noticed(box: Box, second: Path) -> None:
    vault = box.vault()
    box.put(vault, "/x", b"first")
    box.put(vault, "/y", b"second")
    replica.pull(box.store, second, NOW)
    said = signing.read(second / "vault")
    assert said is not None
    assert (said["n"], said["sha256"], said["at"]) == (2, Replica.get().head, NOW)
    path = second / "vault" / "manifest" / "manifest.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.splitlines(keepends=True)[0])  # a chain that is whole, but shorter
    with pytest.raises(UserError, match="isn't what was signed"):
        replica.pull(box.store, second, NOW)
    path.write_bytes(whole)
    assert replica.pull(box.store, second, NOW) == 0
    signing.write(second / "vault", said | {"at": NOW + 1})
    with pytest.raises(UserError, match="another appliance"):
        replica.pull(box.store, second, NOW)


def test_a_disk_that_is_away_is_no_second_copy(box: Box, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no second disk"):
        replica.pull(box.store, tmp_path / "empty", NOW)
    with pytest.raises(UserError, match="mount the second disk"):
        replica.prepare(tmp_path / "empty", (0, 0))
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EIO, 451), (errno.ENOSPC, 452), (errno.EROFS, 451), (errno.EACCES, 451)]
)
@pytest.mark.parametrize("call", ["write", "fsync", "fdatasync", "link", "pwrite"])
def test_a_disk_that_fails_changes_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int
) -> None:
    vault = box.vault()
    good = box.put(vault, "/x", b"good")
    with monkeypatch.context() as patch:

        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(number, os.strerror(number))

        patch.setattr(os, call, fail)
        with pytest.raises(Refused) as caught:
            box.put(vault, "/x", b"new" * 50_000 if call == "fsync" else b"new")  # a small one is in the log
    assert caught.value.code == code
    entry = box.store.entry(vault, "/x")
    assert entry is not None
    assert (entry.version, box.get(entry.version)) == (good.id, b"good")
    assert Reservation.select().count() == 0
    suspect = number == errno.EIO
    assert bool(faults.open_faults()) == suspect
    if suspect:
        with pytest.raises(Refused, match="suspect"):
            box.put(vault, "/x", b"new")
        Fault.update(mount="another").execute()  # it was attached anew
    box.store.recover()
    assert list((box.store.readable() / "spool").iterdir()) == []
    assert len(list((box.store.readable() / "objects").glob("*/*"))) == 1
    box.put(vault, "/x", b"new")
    assert Vault.get_by_id(vault.id).used_files == 1


def test_nothing_lands_in_an_empty_mount_point(box: Box) -> None:
    def away(_: Any) -> Path:
        raise Unavailable("data disk: absent: attach it")

    vault = box.vault()
    version = box.put(vault, "/x", b"good")
    before = sorted(box.folder.rglob("*"))
    box.store._disk = away
    for call in (lambda: box.put(vault, "/y", b"1"), lambda: box.store.remove(vault, "/x")):
        with pytest.raises(Refused, match="absent"):
            call()
    assert sorted(box.folder.rglob("*")) == before
    assert box.get(version) == b"good"


def test_an_archive_has_all_of_it_as_it_was(box: Box) -> None:
    vault = box.vault()
    box.put(vault, "/f/x", b"one")
    then = box.clock.wall
    box.clock.wait(1000)
    box.put(vault, "/f/x", b"two!")
    box.put(vault, "/ž", b"")
    with zipfile.ZipFile(io.BytesIO(b"".join(history.archive(box.store, vault)))) as file:
        assert {name: file.read(name) for name in file.namelist()} == {"f/": b"", "f/x": b"two!", "ž": b""}
    with zipfile.ZipFile(io.BytesIO(b"".join(history.archive(box.store, vault, then)))) as file:
        assert {name: file.read(name) for name in file.namelist()} == {"f/": b"", "f/x": b"one"}


def test_a_tar_of_it_is_read_by_tar(box: Box, tmp_path: Path) -> None:
    vault = box.vault()
    box.put(vault, "/f/" + "n" * 120, b"one" * 1000)
    with tarfile.open(fileobj=io.BytesIO(b"".join(history.archive(box.store, vault, kind="tar")))) as file:
        assert [(item.name, item.size) for item in file] == [("f", 0), ("f/" + "n" * 120, 3000)]


def test_what_pages_ask_for_is_done_or_refused_with_the_reason(box: Box) -> None:
    vault = box.vault()
    first = box.put(vault, "/x", b"first")
    box.put(vault, "/x", b"second")
    over = threading.Event()
    thread = threading.Thread(target=keeper._answer, args=(box.store, over))
    thread.start()
    try:
        asking.ask("undelete", "anna", version=first.id, path=None)
        with pytest.raises(UserError, match="no such file"):
            asking.ask("remove", "anna", vault="office", path="/nothing")
        with pytest.raises(UserError, match="can't be asked for"):
            asking.ask("format", "anna")
    finally:
        over.set()
        thread.join()
    entry = box.store.entry(vault, "/x")
    assert entry is not None
    assert entry.version == first.id
    with pytest.raises(Unavailable, match="doesn't answer"):
        asking.ask("remove", "anna", wait_s=0.2, vault="office", path="/x")
    assert asking.answer(box.store) == 0  # it was taken back


def test_half_a_backup_of_the_appliance_is_none(box: Box) -> None:
    whole = io.BytesIO()
    pieces = own._Pieces(whole)
    for data in (b"", b"one", b"two"):
        pieces.write(data)
    pieces.flush()
    with pytest.raises(EOFError):
        own.keep(box.store, io.BytesIO(whole.getvalue()), NOW)
    assert Version.select().count() == 0
    pieces.end()
    assert "6 bytes" in own.keep(box.store, io.BytesIO(whole.getvalue()), NOW)
    assert box.get(Version.get()) == b"onetwo"
    assert Version.get().locked_age > 13 * 86_400_000


def test_the_keeper_goes_on_with_the_rest_and_remembers(box: Box) -> None:
    done: list[str] = []

    def fail(_: int) -> None:
        raise Refused(451, "away")

    todo = [
        keeper.Job("bad", 60, fail),
        keeper.Job("good", 60, lambda now: done.append("good")),
    ]
    for now in (NOW, NOW + 1, NOW + 61):
        keeper.tick(todo, now)
    assert done == ["good", "good"]
    assert [chore.name for chore in Chore.select()] == ["good"]
    assert {job.name for job in keeper.jobs(box.config, box.store)} >= {"clock", "retention", "scrub"}


def test_lists_of_events_are_bounded_and_the_manifest_isnt(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_EVENTS", 10)
    monkeypatch.setattr(retention, "EVENTS_AT_ONCE", 3)
    for name, count in (("many", 25), ("few", 4)):
        vault = box.vault(name)
        for number in range(count):
            box.store.make_folder(vault, f"/{number}")
    retention.run(box.store)
    assert [row.n for row in Event.select().order_by(Event.n)] == list(range(16, 30))
    rebuild.rebuild(box.store.place())
    retention.run(box.store)
    assert Event.select().count() == 14
    assert rebuild.prove(box.store.place()).events == 29


def test_vaults_and_log_ins(box: Box) -> None:
    vault = vaults.create("office", keep_days=7, networks="192.0.2.0/24, 2001:db8::1")
    password = vaults.add_login(vault, "office")
    drop = vaults.add_drop(vault, "router", "192.0.2.9")
    assert vaults.verify("office", password).vault == vault
    assert vaults.verify("office", password + "x") is None
    assert vaults.verify("nobody", password) is None
    assert vaults.verify("router", drop).kind == DROP
    assert vaults.is_allowed("::ffff:192.0.2.9", vault.networks)
    assert not vaults.is_allowed("192.0.3.9", vault.networks)
    assert not vaults.is_allowed("192.0.2.8", vault.networks, vaults.login_named("router").networks)
    for bad in ({"keep_days": -1}, {"quota_bytes": 0}, {"networks": "here"}, {"colour": "red"}):
        with pytest.raises(UserError):
            vaults.change(vault, **bad)
    with pytest.raises(UserError, match="already"):
        vaults.create("office")
    with pytest.raises(UserError, match="begins with"):
        vaults.create("../x")
    box.put(vault, "/x", b"1")
    with pytest.raises(UserError, match="has files"):
        vaults.remove(vault)
    vaults.remove(vault, force=True)
    assert vaults.verify("office", password) is None
    retention.run(box.store)
    assert Version.select().count() == 1
    box.clock.wait(8 * 86_400_000)
    retention.run(box.store)
    assert (Version.select().count(), Vault.select().count()) == (0, 0)


def test_an_upload_that_ends_meanwhile_makes_no_disk_a_wrong_one(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking at the catalogue and at the manifest."""
    vault = box.vault()
    box.put(vault, "/a", b"1")

    def size(place: Path) -> int:
        monkeypatch.undo()
        found = manifest.size(place)
        box.put(vault, "/b", b"2")
        return found

    monkeypatch.setattr(manifest, "size", size)
    box.put(vault, "/c", b"3")
    assert [entry.name for entry in box.store.entries(vault, "/")] == ["a", "b", "c"]


def test_without_a_watch_the_log_is_followed_emptied_and_not_used(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when all that a user may have are taken: nothing would tell that what wasn't written is gone."""
    vault = box.vault()
    log = box.store.place() / "manifest" / "redo"
    one = box.put(vault, "/a", b"1")
    object_file(box.store.place(), one).unlink()
    before = log.read_bytes()
    monkeypatch.setattr(redo.Watch, "is_there", False)
    box.open()
    assert box.get(one) == b"1"
    emptied = log.read_bytes()
    assert emptied != before
    assert box.get(box.put(vault, "/b", b"2")) == b"2"
    assert log.read_bytes() == emptied
    assert rebuild.prove(box.store.place()).problem == ""


def test_many_threads_store_at_once(box: Box) -> None:
    vault = box.vault(quota_files=30)
    refused = []

    def store(number: int) -> None:
        try:
            box.put(vault, f"/{number}", bytes([number]) * 1000)
        except Refused as error:
            refused.append(error.code)
        box.close()

    threads = [threading.Thread(target=store, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (Vault.get_by_id(vault.id).used_files, refused) == (30, [552] * 10)
    assert Reservation.select().count() == 0
