"""Backup and restore: what comes back, what is refused, and what a kill in the middle leaves."""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import age, backup, config, db, swap
from appliance.backup import Entry, Manifest
from appliance.config import Config
from appliance.config_database import Database
from appliance.crypto import key_file
from appliance.errors import UserError
from appliance.restore import Restore
from tests.unit.conftest import Gatehouse

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files are given to the services' users")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "key"
    path.parent.mkdir()
    path.write_text(age.new_key()[0])
    return path


@pytest.fixture
def public(key: Path) -> str:
    return key.read_text().split("public key: ")[1].split("\n")[0]


@pytest.fixture
def box(toml: Path) -> Config:
    """An appliance with all kinds of files that a backup takes."""
    folder = toml.parent / "etc"
    folder.mkdir()
    file = folder / "gatehouse.toml"
    (folder / "tls.pem").write_text("certificate")
    (folder / "tls.key").write_text("its key")
    (folder / "tls.key").chmod(0o600)
    names = f'[portal]\ncertificate = "{folder}/tls.pem"\nkey = "{folder}/tls.key"\n'
    file.write_text(toml.read_text() + names)
    state = config.load(file).paths.state
    key_file(state).chmod(0o640)
    for name in ("keys/routers/attic.pem", "enabled/hotspot", "portal/form.key", "dnsmasq/leases"):
        (state / name).parent.mkdir(exist_ok=True)
        (state / name).write_text(f"this is {name}")
    (state / "keys" / "routers").chmod(0o700)
    return config.load(file)


def make(box: Config, public: str) -> bytes:
    out = io.BytesIO()
    backup.create(box, out, [public])
    return out.getvalue()


def restore(data: bytes, key: Path, file: Path, replace: bool = False) -> None:
    with Restore(file, replace) as work:
        place = work.unpack(io.BytesIO(data), age.identities(key))
        work.swap_in(place)


def tree(*folders: Path) -> dict[str, tuple[int, str, bytes]]:
    """Every file's mode, owner and content, by path. A database counts by what it says."""
    found = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        content = b"" if path.is_dir() else path.read_bytes()
        found[str(path)] = (path.stat().st_mode, path.owner(), content)
    return found


def folders(box: Config) -> tuple[Path, ...]:
    database = db.sqlite_path(box.database_url)
    return tuple(path for path in (box.file.parent, box.paths.state, database and database.parent / "core") if path)


def test_a_fresh_machine_becomes_the_old_one(box: Config, key: Path, public: str, tmp_path: Path) -> None:
    data, before = make(box, public), tree(*folders(box))
    database = db.sqlite_path(box.database_url)
    content = _dump(database) if database else []
    box.paths.state.rename(tmp_path / "lost-state")
    box.file.parent.rename(tmp_path / "lost-etc")
    if database:
        database.rename(tmp_path / "lost.db")
    restore(data, key, box.file)
    after = tree(*folders(box))
    for path in (*before.keys(), *after.keys()):
        if not path.endswith(("/portal", "/dnsmasq", "/keys")):  # their rights are given by apply
            assert before[path] == after[path], path
    if database:
        assert _dump(database) == content
        assert (database.stat().st_mode & 0o777, database.group()) == (0o660, "gatehouse-core")


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


def test_what_was_there_is_kept_beside(box: Config, key: Path, public: str) -> None:
    data = make(box, public)
    secret = key_file(box.paths.state)
    secret.write_bytes(b"another key" * 3)
    (box.paths.state / "keys" / "newer.pem").write_text("newer")
    with pytest.raises(UserError, match="holds an appliance already"):
        restore(data, key, box.file)
    restore(data, key, box.file, replace=True)
    assert secret.read_bytes() == bytes(32)
    assert not (box.paths.state / "keys" / "newer.pem").exists()
    (kept,) = box.paths.state.glob("before-*")
    assert (kept / "keys" / "newer.pem").read_text() == "newer"
    assert (kept / "keys" / "password.key").read_bytes() == b"another key" * 3
    assert kept.stat().st_mode & 0o777 == 0o700


def test_what_is_not_in_it_is_said(box: Config) -> None:
    lines = backup.left_out(box)
    assert bool(lines) == (db.sqlite_path(box.database_url) is None)
    assert all("pg_dump" in line for line in lines)
    elsewhere = replace(box, portal=replace(box.portal, certificate=Path("/srv/tls.pem")))
    assert any(line.startswith("/srv/tls.pem isn't in it") for line in backup.left_out(elsewhere))


def test_with_postgresql_its_password_is_in_it_and_the_database_is_not(
    box: Config, key: Path, public: str, tmp_path: Path
) -> None:
    file = box.file.parent / "pgpass"
    file.write_text("*:*:*:gatehouse:secret\n")
    url = f"postgresql://gatehouse@192.0.2.1,192.0.2.2/gatehouse?passfile={file}&sslrootcert=system"
    away = replace(box, database=Database(url=url))
    with (tmp_path / "backup.age").open("wb") as out:
        entries = {entry.name for entry in backup.create(away, out, [public]).entries}
    assert "config/pgpass" in entries
    assert backup.DATABASE not in entries
    assert "PostgreSQL's and isn't in it" in backup.left_out(away)[0]


def test_a_file_that_is_not_in_it_must_be_there(box: Config, key: Path, public: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.pem"
    elsewhere.write_text("certificate")
    moved = replace(box, text=box.text.replace(f"{box.file.parent}/tls.pem", str(elsewhere)))
    data = make(replace(moved, portal=replace(box.portal, certificate=elsewhere)), public)
    elsewhere.unlink()
    unchanged(data, key, box, "names .*elsewhere.pem, which isn't in it")


def unchanged(data: bytes, key: Path, box: Config, said: str) -> None:
    """It is refused with these words, and nothing is different afterwards."""
    before = tree(*folders(box))
    with pytest.raises(UserError, match=said):
        restore(data, key, box.file, replace=True)
    assert tree(*folders(box)) == before


@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
class TestRefused:
    @pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.9999])
    def test_cut_off(self, box: Config, key: Path, public: str, part: float) -> None:
        data = make(box, public)
        unchanged(data[: int(len(data) * part)], key, box, "no backup, or it was changed or cut off")

    @pytest.mark.parametrize("part", [0.001, 0.3, 0.7, 0.9999])
    def test_one_bit_is_different(self, box: Config, key: Path, public: str, part: float) -> None:
        data = bytearray(make(box, public))
        data[int(len(data) * part)] ^= 1
        unchanged(bytes(data), key, box, "no backup, or it was changed or cut off|doesn't open it")

    def test_another_key(self, box: Config, key: Path, public: str) -> None:
        data = make(box, public)
        key.write_text(age.new_key()[0])
        unchanged(data, key, box, "this key doesn't open it")

    def test_something_else_that_is_encrypted(self, box: Config, key: Path, public: str) -> None:
        unchanged(sealed(b"hello" * 1000, public), key, box, "it is no backup of an appliance")

    @pytest.mark.parametrize(("field", "value"), [("format", 2), ("schema", 9999)])
    def test_of_a_newer_program(self, box: Config, key: Path, public: str, field: str, value: int) -> None:
        manifest, contents = opened(make(box, public), key)
        data = sealed(packed(replace(manifest, **{field: value}), contents), public)  # type: ignore[arg-type]
        unchanged(data, key, box, "made by a newer program")

    def test_a_database_of_another_version(self, box: Config, key: Path, public: str) -> None:
        manifest, contents = opened(make(box, public), key)
        data = sealed(packed(replace(manifest, schema=1), contents), public)
        unchanged(data, key, box, "its database isn't what its manifest says")

    @pytest.mark.parametrize(
        "name",
        [
            "/etc/passwd",
            "../passwd",
            "state/../../etc/passwd",
            "state/keys/../../../etc/passwd",
            "state/keys/./x",
            "state/keys//x",
            "state/keys/.new-x",
            "state/core/core.db",
            "state/gateway/gateway.db",
            "config/../x",
            "config/.restore/plan.json",
            "state/keys/line\nbreak",
            "state/keys/" + "x" * 100,
            "elsewhere",
        ],
    )
    def test_a_name_that_leads_elsewhere(self, box: Config, key: Path, public: str, name: str) -> None:
        manifest, contents = opened(make(box, public), key)
        entry = Entry(name, 1, backup._hash([b"x"]), 0o644, "root", "root")
        odd = replace(manifest, entries=(*manifest.entries, entry))
        unchanged(sealed(packed(odd, [*contents, b"x"]), public), key, box, "doesn't belong into a backup")

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
    def test_links_and_devices(self, box: Config, key: Path, public: str, kind: bytes) -> None:
        manifest, contents = opened(make(box, public), key)
        blocks = packed(manifest, contents)
        name = b"state/keys/password.key"
        at = blocks.index(name + b"\0")
        info = tarfile.TarInfo.frombuf(blocks[at : at + 512], "utf-8", "strict")
        info.type, info.linkname, info.size = kind, "/etc/passwd", 32
        odd = blocks[:at] + info.tobuf(tarfile.GNU_FORMAT) + blocks[at + 512 :]
        unchanged(sealed(odd, public), key, box, "neither a file nor a folder")

    def test_other_bytes_than_the_manifest_says(self, box: Config, key: Path, public: str) -> None:
        manifest, contents = opened(make(box, public), key)
        contents[-1] = contents[-1][:-1] + bytes([contents[-1][-1] ^ 1])
        unchanged(sealed(packed(manifest, contents), public), key, box, "core.db isn't what its manifest says")

    def test_another_size_than_the_manifest_says(self, box: Config, key: Path, public: str) -> None:
        manifest, contents = opened(make(box, public), key)
        entries = (*manifest.entries[:-1], replace(manifest.entries[-1], size=manifest.entries[-1].size + 512))
        data = packed(manifest, contents).replace(manifest.to_json(), replace(manifest, entries=entries).to_json(), 1)
        unchanged(sealed(data, public), key, box, "it is no backup|isn't what its manifest says")

    @pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"format": 1}'])
    def test_a_manifest_that_is_none(self, box: Config, key: Path, public: str, text: bytes) -> None:
        header = tarfile.TarInfo(backup.MANIFEST)
        header.size = len(text)
        data = header.tobuf(tarfile.GNU_FORMAT) + text + bytes(-len(text) % 512) + bytes(1024)
        unchanged(sealed(data, public), key, box, "its manifest can't be read")

    def test_more_than_the_disk_has_room_for(self, box: Config, key: Path, public: str) -> None:
        manifest, contents = opened(make(box, public), key)
        entries = (*manifest.entries[:-1], replace(manifest.entries[-1], size=2**60))
        data = packed(replace(manifest, entries=entries), contents)
        unchanged(sealed(data, public), key, box, "bytes are to be written there")


def sealed(data: bytes, public: str) -> bytes:
    out = io.BytesIO()
    age.encrypt(io.BytesIO(data), out, age.recipients([public]))
    return out.getvalue()


def opened(data: bytes, key: Path) -> tuple[Manifest, list[bytes]]:
    """With Python's own tar, as anyone could read it."""
    plain = io.BytesIO()
    age.decrypt(io.BytesIO(data), plain, age.identities(key))
    plain.seek(0)
    with tarfile.open(fileobj=plain, mode="r:") as tar:
        first, *members = tar.getmembers()
        text = tar.extractfile(first)
        assert text is not None
        values = json.loads(text.read())
        contents = [b"" if m.isdir() else (tar.extractfile(m) or io.BytesIO()).read() for m in members]
    values["entries"] = tuple(Entry(**entry) for entry in values["entries"])
    return Manifest(**values), contents


def packed(manifest: Manifest, contents: list[bytes]) -> bytes:
    return b"".join(backup._archive(manifest, contents, ()))


@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
class TestDatabase:
    def test_a_copy_is_of_one_moment_and_writers_go_on(self, box: Config, key: Path, public: str) -> None:
        path = db.sqlite_path(box.database_url)
        assert path is not None
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE pair (id INTEGER PRIMARY KEY, number INTEGER, pad BLOB)")
            database.executemany("INSERT INTO pair VALUES (?, 0, zeroblob(4000))", [(n,) for n in range(10_000)])
            database.commit()
        over, commits = threading.Event(), [0]

        def write() -> None:
            with closing(sqlite3.connect(path)) as database:
                while not over.is_set():
                    database.execute("UPDATE pair SET number = number + 1 WHERE id IN (0, 9999)")
                    database.commit()
                    commits[0] += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            before = commits[0]
            data = make(box, public)
            during = commits[0] - before
        finally:
            over.set()
            writer.join()
        assert during > 0
        path.unlink()
        restore(data, key, box.file, replace=True)
        with closing(sqlite3.connect(path)) as database:
            ((first,), (last,)) = database.execute("SELECT number FROM pair WHERE id IN (0, 9999)").fetchall()
            assert first == last
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def test_a_damaged_database_is_no_backup(self, box: Config, public: str) -> None:
        path = db.sqlite_path(box.database_url)
        assert path is not None
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096 * 4)
        with pytest.raises(UserError, match="can't be copied"):
            make(box, public)

    def test_nothing_lies_about_while_it_is_written(self, box: Config, public: str) -> None:
        before = set(box.paths.state.rglob("*"))
        path = db.sqlite_path(box.database_url)
        assert path is not None
        folder = path.parent
        may_be = {*folder.iterdir(), path.with_name("core.db-shm"), path.with_name("core.db-wal")}

        class Out(io.BytesIO):
            def write(self, data: object, /) -> int:
                assert set(box.paths.state.rglob("*")) == before
                assert set(folder.iterdir()) <= may_be
                return super().write(data)  # type: ignore[arg-type]

        backup.create(box, Out(), [public])

    def test_a_large_one_is_never_in_memory(self, box: Config, key: Path, public: str) -> None:
        path = db.sqlite_path(box.database_url)
        assert path is not None
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE large (body BLOB)")
            database.executemany("INSERT INTO large VALUES (zeroblob(?))", [(2**20,)] * 300)
            database.commit()
        script = f"""
from pathlib import Path
from tests.unit.test_backup import *
box = config.load(Path({str(box.file)!r}))
with open({str(key.parent / "large.age")!r}, "wb") as out:
    backup.create(box, out, [{public!r}])
with open({str(key.parent / "large.age")!r}, "rb") as data, Restore(box.file, True) as work:
    work.unpack(data, age.identities(Path({str(key)!r})))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert int(done.stdout) < 150_000, "KiB"


def killed_at(calls: int, work: Callable[[], None]) -> bool:
    """Whether it came to its end before a SIGKILL at one of its changes of folders; in a process of its own."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = calls

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*words: object, **more: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*words, **more)

        return wrapper

    for name in ("rename", "link", "mkdir", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    try:
        work()
    finally:
        os._exit(0)


@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
@pytest.mark.system  # soak
def test_killed_anywhere_it_is_the_old_state_or_the_next_command_makes_it_the_new_one(
    box: Config, key: Path, public: str, gatehouse: Gatehouse
) -> None:
    state, database = box.paths.state, db.sqlite_path(box.database_url)
    assert database is not None
    data = make(box, public)
    seen = set()
    for calls in range(400):
        marked(box, database, "old")
        killed = killed_at(calls, lambda: restore(data, key, box.file, replace=True))
        pending = swap.is_pending(state)
        assert gatehouse("--config", str(box.file), "plan", "list")[0] == 0
        marks = {marked(box, database), key_file(state).read_bytes()[:3], box.file.read_bytes()[:5]}
        assert marks in ({b"old", b"# old"}, {b"", bytes(3), box.text.encode()[:5]}), calls
        seen.add((pending, marked(box, database)))
        assert not swap.is_pending(state)
        if not killed:
            break
    else:
        raise AssertionError("it never came to its end")
    assert seen == {(False, b"old"), (True, b""), (False, b"")}


def marked(box: Config, database: Path, mark: str = "") -> bytes:
    """Marks database, key and configuration as one state; without a mark, what the database says."""
    with closing(sqlite3.connect(database)) as core:
        if mark:
            core.execute("CREATE TABLE IF NOT EXISTS mark (text TEXT)")
            core.execute("INSERT INTO mark VALUES (?)", (mark,))
            core.commit()
            key_file(box.paths.state).write_bytes(mark.encode().ljust(32))
            box.file.write_text(f"# {mark}\n{box.text}")
        has = core.execute("SELECT count(*) FROM sqlite_master WHERE name = 'mark'").fetchone()[0]
        return b"old" if has else b""


class TestCommands:
    @pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
    def test_a_key_is_made_once(self, gatehouse: Gatehouse, tmp_path: Path) -> None:
        status, out, _ = gatehouse("backup-key", str(tmp_path / "mine"))
        assert status == 0
        assert out.startswith("age1")
        assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o600
        assert gatehouse("backup-key", str(tmp_path / "mine"))[0] == 1

    @pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
    def test_words_that_can_not_be_used(self, gatehouse: Gatehouse, tmp_path: Path, public: str, key: Path) -> None:
        out = str(tmp_path / "b.age")
        assert "a recipient is needed" in gatehouse("backup", out)[2]
        assert "is no public key" in gatehouse("backup", out, "--recipient", "age1x")[2]
        assert "is no public key" in gatehouse("backup", out, "--recipients-file", str(key))[2]
        assert not Path(out).exists()
        assert "can't be written" in gatehouse("backup", "/proc/none/x", "--recipient", public)[2]
        assert "can't be restored" in gatehouse("restore", out, "--identity", str(key))[2]
        Path(out).write_text("x")
        assert "no age key file" in gatehouse("restore", out, "--identity", out)[2]
