"""The version store: what is stored, seen, and never lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.vault import history
from appliance.vault.models import DROP, READ, End, How, Refused, Reservation, Vault, Version, Who
from tests.unit.vault_box import Box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


def names(box: Box, vault: object, folder: str = "/", at: int | None = None) -> list[str]:
    return [entry.name for entry in box.store.entries(vault, folder, at)]


def code(call: object, *arguments: object, **more: object) -> int:
    with pytest.raises(Refused) as caught:
        call(*arguments, **more)  # type: ignore[operator]
    return caught.value.code


def test_an_upload_is_a_version_and_what_it_replaced_stays(box: Box) -> None:
    vault = box.vault()
    first = box.put(vault, "/a/one.txt", b"first")
    box.clock.wait(1000)
    second = box.put(vault, "a//one.txt", b"second")
    assert box.get(first) == b"first"
    entry = box.store.entry(vault, "/a/one.txt")
    assert entry is not None
    assert (entry.version, entry.bytes, entry.sha256) == (second.id, 6, second.sha256)
    assert [version.id for version in box.store.versions(vault, "/a/one.txt")] == [second.id, first.id]
    assert names(box, vault) == ["a"]
    then = box.store.entry(vault, "/a/one.txt", first.stored_ms)
    assert then is not None
    assert then.version == first.id
    used = Vault.get_by_id(vault.id)
    assert (used.used_bytes, used.used_files) == (11, 1)


def test_what_has_no_proof_of_its_end_is_kept_but_never_shown(box: Box) -> None:
    vault = box.vault()
    good = box.put(vault, "/x", b"good")
    with pytest.raises(Refused) as caught:
        box.put(vault, "/x", b"half", end=End(False, "no close_notify"))
    assert caught.value.code == 426
    kept = caught.value.version
    assert not kept.confirmed
    assert box.get(kept) == b"half"
    entry = box.store.entry(vault, "/x")
    assert entry is not None
    assert entry.version == good.id
    history.undelete(box.store, kept)
    entry = box.store.entry(vault, "/x")
    assert entry is not None
    assert entry.version == kept.id


def test_two_writers_of_one_path_both_are_kept_and_the_last_is_present(box: Box) -> None:
    vault = box.vault()
    one, two = box.store.begin(vault, "/x"), box.store.begin(vault, "/x")
    one.write(b"one")
    two.write(b"two")
    second = two.commit(End(True))
    reader = box.store.open(second)
    first = one.commit(End(True))
    assert [version.id for version in box.store.versions(vault, "/x")] == [first.id, second.id]
    assert reader.read() == b"two"
    reader.close()
    assert Vault.get_by_id(vault.id).used_files == 1


def test_a_quota_refuses_before_anything_is_lost(box: Box) -> None:
    vault = box.vault(quota_bytes=10, quota_files=2)
    box.put(vault, "/x", b"12345")
    assert code(box.store.begin, vault, "/x", expected_bytes=6) == 552
    upload = box.store.begin(vault, "/x")
    upload.write(b"12345")
    assert code(upload.write, b"6") == 552
    upload.abandon()
    assert Reservation.select().count() == 0
    first = box.store.begin(vault, "/y")
    first.write(b"123")
    assert code(box.store.begin, vault, "/z") == 552  # a third file
    first.commit(End(True))
    assert code(box.store.begin, vault, "/x", expected_bytes=3) == 552
    assert sorted(names(box, vault)) == ["x", "y"]


def test_what_a_crashed_process_left_is_swept_and_its_room_is_free_again(box: Box) -> None:
    vault = box.vault(quota_bytes=10)
    upload = box.store.begin(vault, "/x", expected_bytes=10)
    upload.write(b"1234")
    assert box.store.recover() == 0  # somebody is writing it
    os.close(upload._fd)
    assert box.store.recover() == 1
    box.put(vault, "/x", b"1234567890")


@pytest.mark.parametrize(
    "path", ["/..", "a/../b", "a\0b", "a\nb", "x" * 256, "/".join("a" * 40), "é" * 600, "/", "a/\x7f", "\udc80"]
)
def test_names_that_can_not_be(box: Box, path: str) -> None:
    assert code(box.store.begin, box.vault(), path) == 553


def test_one_form_of_a_name(box: Box) -> None:
    vault = box.vault()
    box.put(vault, "/Cafe\u0301", b"1")
    box.put(vault, "/Caf\u00e9", b"2")
    box.put(vault, "/caf\u00e9", b"3")
    assert names(box, vault) == ["Caf\u00e9", "caf\u00e9"]


def test_files_and_folders_do_not_take_each_others_place(box: Box) -> None:
    vault = box.vault()
    box.put(vault, "/f/x", b"1")
    assert code(box.store.begin, vault, "/f") == 550
    assert code(box.store.begin, vault, "/f/x/y") == 550
    assert code(box.store.remove, vault, "/f") == 550
    assert code(box.store.remove_folder, vault, "/f") == 550
    assert code(box.store.make_folder, vault, "/f/x") == 550
    assert code(box.store.rename, vault, "/f", "/f/g") == 553
    box.store.remove(vault, "/f/x")
    box.store.remove_folder(vault, "/f")
    assert names(box, vault) == []


def test_a_folder_is_renamed_with_all_that_is_in_it(box: Box) -> None:
    vault = box.vault()
    for path in ("/f/x", "/f/g/y", "/f0/z", "/fa/z"):
        box.put(vault, path, path.encode())
    before = box.clock.wall
    box.clock.wait(1000)
    box.store.rename(vault, "/f", "/new/h")
    seen = [path for path, _ in box.store.tree(vault)]
    assert sorted(seen) == ["/f0", "/f0/z", "/fa", "/fa/z", "/new", "/new/h", "/new/h/g", "/new/h/g/y", "/new/h/x"]
    assert "/f/g/y" in dict(box.store.tree(vault, before + 100))
    assert Vault.get_by_id(vault.id).used_files == 4


def test_a_drop_log_in_only_brings_new_files_and_a_reader_none(box: Box) -> None:
    vault, drop, reader = box.vault(), Who("router", "192.0.2.1", DROP), Who("x", "192.0.2.1", READ)
    version = box.put(vault, "/r/a.backup", b"1", drop)
    assert (version.login, version.address) == ("router", "192.0.2.1")
    assert code(box.put, vault, "/r/a.backup", b"2", drop) == 550
    assert code(box.store.remove, vault, "/r/a.backup", drop) == 550
    assert code(box.store.rename, vault, "/r/a.backup", "/b", drop) == 550
    assert code(box.put, vault, "/b", b"", reader) == 550


def test_going_on_from_what_broke_off(box: Box) -> None:
    vault = box.vault()
    assert code(box.put, vault, "/x", b"abc", end=End(False)) == 426
    upload = box.store.begin(vault, "/x", How.RESUME, offset=2)
    upload.write(b"CD")
    assert box.get(upload.commit(End(True))) == b"abCD"
    assert box.get(box.put(vault, "/x", b"!", how=How.APPEND)) == b"abCD!"
    assert code(box.store.begin, vault, "/x", How.RESUME, offset=9) == 554


def test_an_announced_size_is_held_to(box: Box) -> None:
    vault = box.vault()
    upload = box.store.begin(vault, "/x", expected_bytes=5)
    upload.write(b"1234")
    assert code(upload.commit, End(True)) == 426
    assert names(box, vault) == []
    assert Version.select().count() == 1


def test_an_empty_file_is_a_file(box: Box) -> None:
    vault = box.vault()
    upload = box.store.begin(vault, "/x")
    assert box.get(upload.commit(End(True))) == b""
