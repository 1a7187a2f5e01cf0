"""The vault's settings in the appliance's backup: they come back whole, or not at all."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import age, backup, config
from appliance.errors import UserError
from appliance.restore import Restore
from appliance.vault import catalog, rebuild, retention, settings, vaults
from appliance.vault.clock import DAY_MS
from appliance.vault.models import DROP, Credential, Head, Vault, Version, Who, vault_db
from tests.unit.vault_box import Box

LIMITS: dict[str, Any] = {
    "quota_bytes": 10**12,
    "networks": "192.0.2.0/24",
    "tls_only": True,
    "keep_days": 365,
    "lock_days": 14,
    "schedule": "1d",
}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


def all_of_them() -> list[dict[str, Any]]:
    """Without numbers and what changes by itself."""
    passing = {"id", "vault", "used_bytes", "used_files", "used_at", "used_from"}
    found = [*Vault.select().order_by(Vault.name), *Credential.select().order_by(Credential.login)]
    return [{key: value for key, value in row.__data__.items() if key not in passing} for row in found]


def file_of(box: Box) -> Path:
    return box.store.state / catalog.SETTINGS


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Another catalogue's file."""
    box = Box(tmp_path_factory.mktemp("other"))
    fill(box)
    settings.keep(box.store.state)
    box.close()
    return file_of(box).read_bytes()


def lose_the_catalogue(box: Box) -> None:
    box.close()
    for path in box.store.state.glob("vault.db*"):
        path.unlink()


def fill(box: Box) -> tuple[Any, str]:
    vaults.create("zero")
    office = box.vault("office", **LIMITS)
    password = vaults.add_login(office, "office")
    vaults.add_drop(office, "gate7", "192.0.2.7")
    vaults.remove(box.vault("gone"))
    return office, password


def test_a_lost_catalogue_comes_back_with_its_limits_and_log_ins(box: Box) -> None:
    office, password = fill(box)
    version = box.put(office, "/x", b"content")
    assert settings.keep(box.store.state)
    before = all_of_them()
    assert not settings.keep(box.store.state)
    lose_the_catalogue(box)
    box.open()
    rebuild.rebuild(box.store.place())
    assert all_of_them() == before
    found = vaults.verify("office", password)
    assert found.vault.name == Version.get_by_id(version.id).vault.name == "office"
    assert Credential.get(Credential.login == "gate7").kind == DROP
    assert vaults.verify("office", "not the password") is None
    assert not settings.keep(box.store.state)  # it goes on as the one that it was


def test_each_change_is_written_and_a_used_log_in_is_none(box: Box) -> None:
    office, _ = fill(box)
    settings.keep(box.store.state)
    assert file_of(box).stat().st_mode & 0o777 == 0o640
    vaults.used(vaults.login_named("office"), "192.0.2.9")
    assert not settings.keep(box.store.state)
    for change in (lambda: vaults.set_password("office"), lambda: vaults.change(office, keep_days=3)):
        change()
        assert settings.keep(box.store.state)


def test_one_that_came_from_a_backup_later_is_read_before_anything_is_erased(box: Box) -> None:
    """As onto a fresh box whose catalogue was already made from the disk."""
    office, password = fill(box)
    first = box.put(office, "/x", b"first")
    box.store.remove(office, "/x", Who())
    settings.keep(box.store.state)
    saved = file_of(box).read_bytes()
    file_of(box).unlink()
    lose_the_catalogue(box)
    box.open()
    settings.keep(box.store.state)
    made = Vault.get(Vault.name == "office")
    box.clock.wait(40 * DAY_MS)
    box.put(made, "/y", b"")
    retention.run(box.store)
    assert box.get(first.id) == b"first"  # nobody has said how long
    file_of(box).write_bytes(saved)
    retention.run(box.store)
    assert Vault.get_by_id(made.id).keep_days == 365
    assert vaults.verify("office", password)
    vaults.change(made, keep_days=7)  # which nothing takes back
    assert settings.read_back(box.store.state) is None
    assert settings.keep(box.store.state)
    retention.run(box.store)
    assert Vault.get_by_id(made.id).keep_days == 7
    assert Version.get_or_none(Version.id == first.id) is None


def changed(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def change_it(text: bytes) -> bytes:
        said = json.loads(text)
        change(said)
        return json.dumps(said).encode()

    return change_it


def office_of(said: Any) -> Any:
    return next(vault for vault in said["vaults"] if vault["name"] == "office")


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda text: text[:-20],
    "empty": lambda text: b"",
    "no text": lambda text: b"\xff" + text,
    "a list": lambda text: b"[" + text + b"]",
    "deep": lambda text: b"[" * 200_000,
    "too large": lambda text: text + b" " * settings.MAX_BYTES,
    "nobody's": changed(lambda said: said.pop("catalogue")),
    "no vaults": changed(lambda said: said.update(vaults={})),
    "a vault that is none": changed(lambda said: said["vaults"].append(7)),
    "a vault twice": changed(lambda said: said["vaults"].append(said["vaults"][0])),
    "a path": changed(lambda said: said["vaults"][-1].update(name="../zero")),
    "a log-in twice": changed(lambda said: office_of(said)["logins"].append(office_of(said)["logins"][0])),
    "a number": changed(lambda said: said["vaults"][-1].update(keep_days=-1)),
    "a large number": changed(lambda said: said["vaults"][-1].update(created_at=2**63)),
    "networks": changed(lambda said: said["vaults"][-1].update(networks="192.0.2.0/99")),
    "a kind": changed(lambda said: office_of(said)["logins"][0].update(kind=["full"])),
    "a plain password": changed(lambda said: office_of(said)["logins"][0].update(password="12345678")),
    "a password that takes all memory": changed(
        lambda said: office_of(said)["logins"][0].update(
            password=office_of(said)["logins"][0]["password"].replace("m=65536", "m=65536000")
        )
    ),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_torn_or_hostile_file_is_one_line_and_nothing_of_it_is_taken(box: Box, text: bytes, spoil: Any) -> None:
    """The last vault is the spoiled one, so that those before it would have been taken."""
    vaults.create("mine")
    before = all_of_them()
    file_of(box).write_bytes(spoil(text))
    with pytest.raises(UserError, match=r"settings\.json: .*: put it aside to go on without$") as caught:
        settings.read_back(box.store.state)
    assert "\n" not in str(caught.value)
    assert all_of_them() == before
    assert settings.keep(box.store.state)  # the keeper puts it aside, and writes what is there
    assert file_of(box).with_suffix(".bad").read_bytes() == spoil(text)
    assert settings.read_back(box.store.state) is None


def test_a_new_catalogue_waits_until_the_file_can_be_read(box: Box, text: bytes) -> None:
    lose_the_catalogue(box)
    file_of(box).write_bytes(text[:-20])
    for _ in range(2):
        with pytest.raises(UserError, match="put it aside"):
            box.open()
    with vault_db.connection_context():
        assert (Head.select().count(), all_of_them()) == (0, [])
    file_of(box).write_bytes(changed(lambda said: said.update(later={}) or said["vaults"][0].update(later=1))(text))
    box.open()
    assert [vault.name for vault in vaults.everyone()] == ["office", "zero"]


@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
def test_a_backup_takes_it_along_and_a_restore_brings_it_back(toml: Path, tmp_path: Path) -> None:
    loaded = config.load(toml)
    folder = loaded.paths.state / catalog.STATE
    folder.mkdir(parents=True)
    catalog.bind(loaded)
    password = vaults.add_login(vaults.create("office", **LIMITS), "office")
    before = all_of_them()
    settings.keep(folder)
    key, public = tmp_path / "backup.key", age.new_key()
    key.write_text(public[0])
    out = io.BytesIO()
    backup.create(loaded, out, [public[1]])
    vault_db.close()
    for path in folder.iterdir():
        path.unlink()
    with Restore(toml, replace=True) as work:
        work.swap_in(work.unpack(io.BytesIO(out.getvalue()), age.identities(key)))
    catalog.bind(loaded)
    assert all_of_them() == before
    assert vaults.verify("office", password)
    vault_db.close()
