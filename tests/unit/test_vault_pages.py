"""The pages of vaults, of their users, and what programs get: with files, without, with nasty names, for each role."""

import html
import io
import json
import re
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import argon2
import pytest

from appliance import data_disk, guesses, modules
from appliance.accounts.models import core_db
from appliance.admin import frame, people
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.errors import UserError
from appliance.vault import alerts, asking, checks, desk, for_routers, vaults, web_own
from appliance.vault.logins import Logins
from appliance.vault.models import DROP, READ, End, Failed, Refused, Vault, Version, Who, vault_db
from appliance.vault.module import NETBACKUP
from appliance.vault.store import Store
from tests.unit import test_admin
from tests.unit.test_admin import NASTY, Browser, browser
from tests.unit.test_api import Program

ROUTER = Who("router-attic", "192.0.2.7", DROP)
FTP = Who("office", "192.0.2.8")
OLD = (
    "# 2026-01-01 03:00:00 by RouterOS 7.14\n/ip address\nadd address=192.0.2.1/24\n/user\nset admin password=S3cr3t\n"
)
NEW = OLD.replace("2026-01-01", "2026-01-02").replace("192.0.2.1/24", "192.0.2.9/24").replace("S3cr3t", "N3w")


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'core.db'}"


@pytest.fixture
def box(
    toml: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Config]:
    toml.write_text(toml.read_text().replace("[paths]\n", f'[paths]\ndata = "{tmp_path}/data"\n'))
    loaded: Config = request.getfixturevalue("hotspot")
    modules.set_enabled(loaded, NETBACKUP, True)
    (loaded.paths.state / "vault").mkdir()
    (loaded.paths.data / "vault").mkdir(parents=True)
    monkeypatch.setattr(data_disk, "ready", lambda config: config.paths.data)
    monkeypatch.setattr(vaults, "HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=64))
    vaults._nobody.cache_clear()
    yield loaded
    vault_db.close()


hotspot = test_admin.box


@pytest.fixture
def store(box: Config) -> Store:
    made = Store(box, lambda config: config.paths.data)
    made.recover()
    return made


def put(store: Store, vault: Any, path: str, data: bytes, who: Who = FTP, end: End | None = None) -> Any:
    upload = store.begin(vault, path, who=who)
    try:
        upload.write(data)
        return upload.commit(end or End(True))
    except Refused as refused:
        return refused.version
    finally:
        upload.abandon()


@pytest.fixture
def office(box: Config, store: Store) -> Any:
    """A vault with files, versions of them, one that is deleted and one that is perhaps incomplete."""
    vault = vaults.create("office", quota_bytes=10**9)
    vaults.add_login(vault, "office", password="correct horse")
    vaults.add_login(vault, "reading", READ, password="correct horse")
    vaults.add_login(vault, "router-attic", DROP, password="correct horse")
    put(store, vault, "/attic/a.rsc", OLD.encode())
    put(store, vault, "/attic/a.rsc", NEW.encode())
    put(store, vault, "/attic/a.backup", struct.pack("<II", 0x7391A8EF, 4096) + bytes(4088), ROUTER)
    put(
        store, vault, "/attic/half.backup", struct.pack("<II", 0x7391A8EF, 4096) + bytes(100), ROUTER, End(False, "cut")
    )
    put(store, vault, "/notes.txt", b"one\ntwo\n")
    put(store, vault, "/notes.txt", b"one\n2\n")
    put(store, vault, "/gone.txt", b"gone")
    store.remove(vault, "/gone.txt", FTP)
    return vault


@pytest.fixture
def keeper(store: Store) -> Iterator[None]:
    over = threading.Event()

    def serve() -> None:
        while not over.wait(0.02):
            asking.answer(store)
        vault_db.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def app(box: Config) -> Any:
    return frame.Frame(box).app()


def url(page: str, **asked: object) -> str:
    return f"/vaults/office/{page}?" + urlencode(asked)


def version(vault: Any, path: str, number: int = -1) -> int:
    return int([v.id for v in Version.select().where(Version.path == path).order_by(Version.id)][number])


def test_every_page_is_attacked(box: Config, app: Any, office: Any) -> None:
    """As all of the admin's are: strangers, roles, forms without their token."""
    pages = [page for page in test_admin.routes(box) if "vault" in page.path or "netbackup" in page.path]
    assert len(pages) > 20
    test_admin.attack(app, pages)


def test_without_a_catalogue_the_pages_say_so(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    for path in ("/vaults", "/netbackup/activity", "/netbackup/copies", "/vaults/office"):
        reply = one.get(path)
        assert (reply.status, "no catalogue yet" in reply.body) == (400, True), path
    assert one.get("/").status == 200
    assert one.get("/search?q=off").status == 200


def test_a_vault_is_made_changed_and_removed_and_all_of_it_is_on_record(box: Config, store: Store, app: Any) -> None:
    one = browser(app, "owner")
    assert "Make the first one" in one.get("/vaults").body
    form = {"name": "office", "quota": "20G", "keep_days": "60", "keep_versions": "5", "networks": "192.0.2.0/24"}
    made = one.post("/vaults/new", form | {"tls_only": "1", "schedule": "24h", "rate": "10M"})
    password = re.search(r"shown only now: <code>([a-z2-9]{12})</code>", made.body)
    assert password
    found = vaults.verify("office", password[1])
    assert (found.vault.quota_bytes, found.vault.tls_only, found.vault.schedule) == (20 * 10**9, True, "1d")
    page = one.get("/vaults/office").body
    again = dict(re.findall(r'<input id="([a-z_]+)" name="[a-z_]+" type="text" value="([^"]*)"', page))
    assert one.post("/vaults/office", again | {"tls_only": "1"}).status == 303
    with core_db.connection_context():
        (last,) = Audit.select().order_by(Audit.id.desc()).limit(1)
    assert json.loads(last.changes) == {}, "a form that is sent as it came changes nothing"
    for key, bad in (
        ("quota", "much"),
        ("keep_days", "-1"),
        ("networks", "here"),
        ("schedule", "5s"),
        ("lock_days", NASTY),
    ):
        reply = one.post("/vaults/office", again | {key: bad})
        assert (reply.status, 'role="alert"' in reply.body, "<script>alert" in reply.body) == (400, True, False), key
    shown = one.post("/vaults/office/logins/new", {"login": "camera", "kind": "drop", "networks": "192.0.2.9"})
    assert re.search(r"password of <code>camera</code>, shown only now: <code>[a-z2-9]{12}</code>", shown.body)
    renewed = one.post("/vaults/office/logins/office", {"renew": "1"})
    assert "shown only now" in renewed.body
    assert vaults.verify("office", password[1]) is None
    assert one.post("/vaults/office/logins/camera", {"remove": "1"}).status == 303
    assert one.post("/vaults/office/logins/camera", {"remove": "1"}).status == 400
    assert one.post("/vaults/office/remove").status == 303
    assert "office" not in re.findall(r'href="/vaults/([a-z]+)"', one.get("/vaults").body)
    with core_db.connection_context():
        done = [(a.action, a.subject) for a in Audit.select().order_by(Audit.id) if "office" in a.subject]
        assert not [a for a in Audit.select() if password[1] in a.changes]
    assert done == [
        ("added", "vault office"),
        ("changed", "vault office"),
        ("added", "login camera of vault office"),
        ("changed", "login office of vault office"),
        ("removed", "login camera of vault office"),
        ("removed", "vault office"),
    ]


def test_files_are_looked_at_as_they_are_and_were(box: Config, app: Any, office: Any, store: Store) -> None:
    one = browser(app, "operator")
    listed = json.loads(one.get(url("files", path="/", format="json")).body)
    assert [(row["name"], row["bytes"]) for row in listed] == [("attic", None), ("notes.txt", 6)]
    page = one.get(url("files", path="/attic")).body
    assert re.findall(r"<td>(yes|no)</td>", page) == ["yes", "yes"]
    assert "half.backup" not in page, "what may be half isn't there"
    before = Version.get_by_id(version(office, "/notes.txt")).stored_ms - 1
    then = one.get(url("files", at=desk.as_typed(before - 999, box.site.timezone)))
    assert then.status == 200
    assert "This is how it was" in then.body
    assert one.get(url("files", at="1999-01-01T00:00")).body.count("Nothing was here then") == 1
    for bad in ("soon", "2026-99-99", NASTY):
        assert one.get(url("files", at=bad)).status == 400
    for bad in ("/../x", "/no/such", "/a\0b"):
        assert one.get(url("files", path=bad)).status == 400, bad
    more = "".join(re.findall(r'href="(\?[^"]+)"', one.get(url("files", path="/attic", q="a")).body))
    assert more.count("path=%2Fattic") == more.count("?"), "each link of a list stays in its folder"


def test_versions_say_what_they_are_worth_and_come_back(
    box: Config, app: Any, office: Any, store: Store, keeper: None
) -> None:
    one = browser(app, "operator")
    page = one.get(url("versions", path="/attic/a.backup")).body
    assert "encrypted with AES; its length is what it says" in page
    half = one.get(url("versions", path="/attic/half.backup")).body
    assert "it says that it has 4,096 bytes, it has 108" in half
    assert "perhaps incomplete: cut" in half
    assert "It never came whole" in half
    assert "It is deleted" in one.get(url("versions", path="/gone.txt")).body
    old = version(office, "/notes.txt", 0)
    assert "S3cr3t" not in one.get(url("versions", path="/attic/a.rsc")).body
    back = one.post("/vaults/office/restore", {"version": str(old), "path": "/notes.txt"})
    assert back.headers["Location"] == "/vaults/office/versions?path=%2Fnotes.txt"
    assert one.get(url("get", version=store.entry(office, "/notes.txt").version)).body == "one\ntwo\n"  # type: ignore[union-attr]
    assert "path=%2Fgone.txt" in one.get("/vaults/office/deleted").body
    gone = version(office, "/gone.txt")
    assert one.post("/vaults/office/restore", {"version": str(gone), "path": "/gone.txt"}).status == 303
    assert "path=%2Fgone.txt" not in one.get("/vaults/office/deleted").body
    assert browser(app, "reader").post("/vaults/office/restore", {"version": str(old)}).status == 403
    other = vaults.create("other")
    stranger = put(store, other, "/theirs", b"theirs")
    for number in (stranger.id, 10**20, "x", "", -1):
        assert one.post("/vaults/office/restore", {"version": str(number)}).status == 400
        assert one.get(url("get", version=number)).status == 400
    with core_db.connection_context():
        done = [(a.who, a.action) for a in Audit.select() if a.subject == "vault office"]
    assert done.count(("operator", "restored")) == 2
    assert done.count(("operator", "downloaded")) == 1


def test_a_whole_vault_goes_back_once_its_name_is_typed(
    box: Config, app: Any, office: Any, store: Store, keeper: None
) -> None:
    owner = browser(app, "owner")
    at = desk.as_typed(Version.get_by_id(version(office, "/gone.txt")).stored_ms, box.site.timezone)
    time.sleep(1.1)  # the form has whole seconds
    put(store, office, "/notes.txt", b"encrypted by somebody")
    put(store, office, "/ransom.txt", b"pay")
    assert (
        owner.post("/vaults/office/rewind", {"at": at, "name": "offic"})
        .headers["Location"]
        .startswith("/vaults/office/files?at=")
    )
    assert store.entry(office, "/ransom.txt")
    assert (
        owner.post("/vaults/office/rewind", {"at": at, "name": "office"}).headers["Location"] == "/vaults/office/files"
    )
    assert store.entry(office, "/ransom.txt") is None
    with store.open(store.entry(office, "/notes.txt").version) as file:  # type: ignore[union-attr]
        assert file.read() == b"one\n2\n"
    assert browser(app, "operator").post("/vaults/office/rewind", {"at": at, "name": "office"}).status == 403


def test_differences_hide_secrets_and_noise(box: Config, app: Any, office: Any) -> None:
    one = browser(app, "operator")
    a, b = version(office, "/attic/a.rsc", 0), version(office, "/attic/a.rsc", 1)
    page = one.get(url("diff", a=a, b=b)).body
    assert "<del>-add address=192.0.2.1/24</del>" in page
    assert "<ins>+add address=192.0.2.9/24</ins>" in page
    assert not [word for word in ("S3cr3t", "N3w", "by RouterOS") if word in page]
    assert one.get(url("diff", a=version(office, "/attic/a.backup"), b=b)).status == 400
    assert browser(app, "reader").get(url("diff", a=a, b=b)).status == 403


def test_downloads_are_whole_named_rightly_and_few_at_once(box: Config, app: Any, office: Any, store: Store) -> None:
    one = browser(app, "operator")
    name = 'ž "x"\r\n.txt'.replace("\r\n", "")
    odd = put(store, office, f"/{name}", b"odd")
    reply = one.get(url("get", version=odd.id))
    assert reply.headers["Content-Disposition"].isascii()
    assert "filename*=UTF-8''%C5%BE%20%22x%22.txt" in reply.headers["Content-Disposition"]
    assert reply.headers["Content-Length"] == "3"
    one.get(url("archive", path="/attic"))
    with zipfile.ZipFile(io.BytesIO(one.content)) as archive:
        assert archive.testzip() is None
        assert archive.read("attic/a.rsc").decode() == NEW
    large = put(store, office, "/large", bytes(3_000_000))
    held = [one._app(_environ(one, url("get", version=large.id)), lambda *_: None) for _ in range(2)]
    for answer in held:
        next(iter(answer))
    assert "other downloads are under way" in one.get(url("get", version=odd.id)).body
    held[0].close()
    assert one.get(url("get", version=odd.id)).status == 200
    held[1].close()


def _environ(one: Browser, where: str) -> dict[str, Any]:
    path, _, query = where.partition("?")
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "box",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_COOKIE": "; ".join(f"{key}={value}" for key, value in one.cookies.items()),
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "https",
    }


def test_nasty_names_are_escaped_everywhere(box: Config, app: Any, store: Store) -> None:
    vault = vaults.create("office")
    nasty = NASTY.replace("/", "|")
    put(store, vault, f"/{nasty}/{nasty}.rsc", f"/x\nadd {nasty}\n".encode(), Who(nasty, nasty))
    put(store, vault, f"/{nasty}/{nasty}.rsc", f"/x\nadd y{nasty}\n".encode(), Who(nasty, nasty), None)
    put(store, vault, "/gone", b"x", Who(nasty))
    store.remove(vault, "/gone", Who(nasty))
    alerts.Alert.create(kind="late", subject="x", vault="office", text=nasty, detail=nasty, since_at=1)
    a, b = version(vault, f"/{nasty}/{nasty}.rsc", 0), version(vault, f"/{nasty}/{nasty}.rsc", 1)
    one = browser(app, "owner")
    for where in (
        "/", "/vaults", "/vaults/office", "/netbackup/activity", "/netbackup/copies", "/vaults/office/deleted",
        "/vaults/office/events", url("files", path=f"/{nasty}"), url("versions", path=f"/{nasty}/{nasty}.rsc"),
        url("diff", a=a, b=b), "/search?" + urlencode({"q": f"/{nasty}/{nasty}.rsc"}),
    ):  # fmt: skip
        reply = one.get(where)
        assert (reply.status, "<script>alert" in reply.body) == (200, False), where
    assert "&lt;script&gt;" in one.get(url("files")).body


# A vault user's own pages


def own(app: Any, login: str, password: str = "correct horse", address: str = "192.0.2.50") -> tuple[Browser, int]:
    one = Browser(app, address)
    return one, one.post("/my-vault/login", {"login": login, "password": password}).status


def test_a_vault_user_sees_their_vault_and_nothing_else(
    box: Config, app: Any, office: Any, store: Store, keeper: None
) -> None:
    other = put(store, vaults.create("other"), "/theirs", b"theirs")
    one, status = own(app, "office")
    assert (status, set(one.cookies)) == (303, {"gatehouse-vault"})
    page = one.get("/my-vault/files").body
    assert "notes.txt" in page
    assert "/accounts" not in page
    old = version(office, "/notes.txt", 0)
    token = re.findall(r'name="form_token" value="([^"]+)"', page)[0]
    for bad in ("", "wrong"):
        assert one.post("/my-vault/restore", {"version": str(old)}, token=bad or "x").status == 403
        assert one.post("/my-vault/leave", {}, token=bad or "x").status == 403
    assert one.post("/my-vault/restore", {"version": str(old), "path": "/notes.txt"}, token=token).status == 303
    assert one.get("/my-vault/get?" + urlencode({"version": old})).body == "one\ntwo\n"
    for number in (other.id, 999):
        assert one.get(f"/my-vault/get?version={number}").status == 400
        assert one.get(f"/my-vault/diff?a={number}&b={old}").status == 400
        assert one.post("/my-vault/restore", {"version": str(number)}, token=token).status == 400
    for page_ in test_admin.routes(box):
        assert one.send(page_, token=token).status in (303, 401, 403), page_.path  # the admin's pages know it not
    admins = browser(app, "owner")
    admins.cookies["gatehouse-vault"] = admins.cookies["gatehouse"]
    assert admins.get("/my-vault/files").headers["Location"] == "/my-vault/login", "nor the other way round"
    kept = dict(one.cookies)
    assert one.post("/my-vault/leave", {}, token=token).status == 303
    one.cookies = kept
    assert one.get("/my-vault/files").headers["Location"] == "/my-vault/login"


def test_wrong_passwords_count_here_and_by_ftp_alike(box: Config, app: Any, office: Any, tmp_path: Path) -> None:
    by_ftp = Logins(tmp_path / "key")
    for number in range(guesses.FOR_NAME):
        with pytest.raises(Refused, match="wrong"):
            by_ftp.log_in("office", "guessed", f"198.51.100.{number}")
    assert own(app, "office")[1] == 429
    assert own(frame.Frame(box).app(), "office")[1] == 429, "a restart forgives nobody"
    Failed.delete().execute()
    assert own(app, "office")[1] == 303
    assert own(app, "reading", "guessed")[1] == 403
    assert Failed.select().count() == 2, "of the address and of the log-in"


def test_who_may_enter_by_which_log_in(box: Config, app: Any, office: Any, store: Store, keeper: None) -> None:
    assert own(app, "router-attic")[1] == 403, "who only brings files can't look"
    assert own(app, "nobody")[1] == 403
    reading, status = own(app, "reading")
    assert status == 303
    page = reading.get("/my-vault/versions?path=/notes.txt").body
    assert "Make it the present one" not in page
    token = re.findall(r'name="form_token" value="([^"]+)"', page)[0]
    refused = reading.post("/my-vault/restore", {"version": str(version(office, "/notes.txt", 0))}, token=token)
    assert (refused.status, "may only read" in refused.body) == (400, True)
    vaults.set_password("reading", "another horse")
    assert reading.get("/my-vault/files").status == 303, "another password ends what is open"
    at_home, status = own(app, "office")
    vaults.change(Vault.get(), networks="198.51.100.0/24")
    assert at_home.get("/my-vault/files").status == 303
    assert own(app, "office", address="203.0.113.1")[1] == 403
    assert own(app, "office", address="198.51.100.1")[1] == 303


def test_passwords_of_vaults_are_not_guessed(box: Config, app: Any, office: Any) -> None:
    answers = [own(app, "office", f"guess {n}", f"192.0.2.{n}")[1] for n in range(20)]
    assert answers[:10] == [403] * 10
    assert set(answers[12:]) == {429}
    assert own(app, "office")[1] == 429


def test_own_pages_that_need_a_login_lead_to_it(box: Config, app: Any, office: Any) -> None:
    for page in web_own.PAGES:
        if not page.path.endswith("/login"):
            reply = Browser(app).send(page)
            assert (reply.status, reply.headers.get("Location")) == (303, "/my-vault/login"), page.path


# For programs, the search, the doctor


def test_programs_have_vaults_too(box: Config, app: Any, office: Any, store: Store) -> None:
    with core_db.connection_context():
        operator = Program(app, people.add_token("program", "operator"))
    status, made, _ = operator.ask("POST", "/vaults", {"name": "site", "quota_bytes": 10**9, "schedule": "12h"})
    assert (status, made["schedule"], len(made["password"])) == (201, "12h", 12)
    assert vaults.verify("site", made["password"])
    assert operator.ask("PATCH", "/vaults/site", {"keep_days": 7})[1]["keep_days"] == 7
    assert operator.refused("PATCH", "/vaults/site", {"networks": "here"})[0] == 400
    assert [one["name"] for one in operator.get("/vaults")["items"]] == ["office", "site"]
    found = operator.get("/vault-versions?vault=office&path=/attic/half.backup")["items"]
    assert [(one["restorable"], one["confirmed"]) for one in found] == [(False, False)]
    assert [one["name"] for one in operator.get("/vault-files?vault=office")["items"]] == ["attic", "notes.txt"]
    assert operator.get("/vault-alerts") == {"items": []}
    assert operator.ask("DELETE", "/vaults/site")[0] in (200, 204)
    assert operator.refused("DELETE", "/vaults/office")[0] == 409, "it has files"
    assert 'gatehouse_vault_files{vault="office"} 3' in operator.get("/metrics")


def test_the_search_finds_vaults_files_and_contents(box: Config, app: Any, office: Any) -> None:
    one = browser(app, "reader")
    assert one.get("/search?q=office").headers["Location"] == "/vaults/office"
    assert "/versions?path=%2Fnotes.txt" in one.get("/search?q=/notes.txt").body
    sha256 = Version.get_by_id(version(office, "/notes.txt")).sha256
    assert "/versions?path=%2Fnotes.txt" in one.get(f"/search?q={sha256}").body


def test_the_doctor_says_what_is_wrong(box: Config, office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ["no second copy" in finding.sentence for finding in checks.kept(box)] == [True]
    alerts.Alert.create(kind=alerts.LATE, subject="x", vault="office", text="it is late", since_at=1)

    def away(config: Config) -> Path:
        raise UserError("the data disk is away")

    monkeypatch.setattr(data_disk, "ready", away)
    said = [finding.sentence for finding in checks.kept(box)]
    assert said[:2] == ["Nothing can be stored: the data disk is away.", "It is late."]


def test_a_routers_log_in_can_only_bring_and_is_its_own(box: Config, store: Store) -> None:
    login, password = for_routers.drop(box, "attic", "192.0.2.7")
    found = vaults.verify(login, password)
    assert (login, found.kind, found.networks, found.vault.name) == ("router-attic", DROP, "192.0.2.7/32", "routers")
    again, other = for_routers.drop(box, "attic", "192.0.2.9")
    assert (again, vaults.verify(login, password)) == (login, None)
    assert vaults.verify(login, other).networks == "192.0.2.9/32"
    names = {for_routers.name_of(name) for name in ("attic", "Attic", "a/b", "a b", "x" * 80, "y" * 80, "ž")}
    assert len(names) == 7
    assert all(vaults.NAME.fullmatch(name) for name in names)
    vaults.add_login(vaults.create("mine"), "router-cellar")
    with pytest.raises(UserError, match="somebody else"):
        for_routers.drop(box, "cellar", "192.0.2.7")


def test_a_routers_script_brings_its_backups(box: Config, app: Any, store: Store) -> None:
    one = browser(app, "operator")
    made = {"name": "attic", "address": "192.0.2.7", "kind": "mikrotik", "message_authenticator": "1"}
    assert one.post("/routers/new", made).status == 200
    form = {"routeros": "7", "server": "192.0.2.1", "services": "hotspot"}
    plain = one.post("/routers/attic/script", form).body
    assert ('name="backup"' in plain, "/system scheduler" in plain) == (True, False)
    assert not vaults.everyone(), "looking alone makes nothing"
    shown = one.post("/routers/attic/script", form | {"backup": "1", "backup_password": "k3y"}).body
    assert "user=router-attic" in shown
    assert 'value="k3y"' not in shown
    password = re.search(r"user=router-attic password=\\22([a-z2-9]{12})\\22", html.unescape(shown))
    assert password
    assert vaults.verify("router-attic", password[1]).kind == DROP
    modules.set_enabled(box, NETBACKUP, False)
    other = browser(frame.Frame(box).app(), "operator")
    assert 'name="backup"' not in other.post("/routers/attic/script", form | {"backup": "1"}).body


def test_a_backup_that_is_cut_never_takes_a_whole_ones_place(box: Config, store: Store) -> None:
    """However clean the end of the transfer was."""
    vault = vaults.create("routers")
    whole = struct.pack("<II", 0x7391A8EF, 4096) + bytes(4088)
    good = put(store, vault, "/r.backup", whole)
    cut = put(store, vault, "/r.backup", whole[:2000])
    assert (bool(cut.confirmed), cut.why) == (False, "the backup says that it has 4,096 bytes, 2,000 came")
    present = store.entry(vault, "/r.backup")
    assert present
    assert present.version == good.id
