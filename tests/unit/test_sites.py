"""Many appliances on one database: who may work on it, what each says of itself, and the pages about them."""

import json
import re
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from appliance import age, config, granting, modules, templates, wishes
from appliance.accounts.database import open_core
from appliance.accounts.models import core_db
from appliance.admin import frame
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.crypto import SecretBox, key_file, load_box
from appliance.errors import UserError
from appliance.nas import checks, clients, tunnel
from appliance.nas.models import Nas
from appliance.service import ANSWERED, ASKED
from appliance.sites import central, joining, overview, registry, reporter
from appliance.sites.follower import Follower
from appliance.sites.models import Site, SiteSetting
from portal.module import HOTSPOT
from tests.unit.conftest import Gatehouse
from tests.unit.test_admin import attack, box, browser  # noqa: F401 (a fixture)

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)


@pytest.fixture
def toml(toml: Path) -> Path:
    """The first appliance of many; the file ends with [site]."""
    toml.write_text(f'{toml.read_text()}key = "hq"\n')
    state = config.load(toml).paths.state
    (state / "machine").write_text("one")
    with open_core(config.load(toml)):
        registry.enter(config.load(toml))
    return toml


@pytest.fixture
def app(box: Config) -> Any:  # noqa: F811
    return frame.Frame(box).app()


def other(box: Config, key: str, machine: str = "two", sealed_by: bytes = bytes(32)) -> Config:  # noqa: F811
    folder = box.paths.state.parent / f"{key}-{machine}"
    text = box.text.replace('key = "hq"', f'key = "{key}"').replace(str(box.paths.state), f"{folder}/state")
    made = config.parse(text, folder / "gatehouse.toml")
    key_file(made.paths.state).parent.mkdir(parents=True)
    key_file(made.paths.state).write_bytes(sealed_by)
    (made.paths.state / "machine").write_text(machine)
    return made


def refused(of: Config) -> str:
    with core_db.connection_context(), pytest.raises(UserError) as error:
        registry.enter(of)
    return str(error.value)


def test_who_may_not_work_on_the_database_hears_why(box: Config) -> None:  # noqa: F811
    with core_db.connection_context():
        registry.enter(box)  # again
        registry.add("north", "North")
    assert "waits for its box" in refused(other(box, "north", "new"))
    assert "another machine's" in refused(other(box, "hq"))
    assert "no site 'south'" in refused(other(box, "south"))
    with core_db.connection_context():
        Site.update(machine="two").where(Site.key == "north").execute()
        registry.enter(other(box, "north", "two"))
    assert "another key" in refused(other(box, "north", "2", b"2" * 32))
    alone = config.parse(box.text.replace('key = "hq"', ""), box.file)
    assert "set [site] key" in refused(alone)


def test_a_site_says_how_it_is(box: Config, app: Any) -> None:  # noqa: F811
    modules.set_enabled(box, HOTSPOT, False)  # its services would be waited for
    with core_db.connection_context():
        reporter.report(box)
        site = registry.get("hq")
        assert abs(site.ahead_ms) < 1000
        assert abs(site.reported_at - time.time()) < 60
        assert site.modules == ""
        assert json.loads(site.problems)  # nothing runs here
        assert json.loads(site.settings)["site.timezone"] == "Europe/Prague"
        assert overview.state(site, registry.database_now()).endswith("problems")
        assert overview.state(site, site.reported_at + registry.SILENT_S + 1) == "silent"
    page = browser(app, "reader").get("/sites/hq").body
    assert "service admin" in page
    assert "last heard" not in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"problems": "nonsense", "disks": "nonsense", "settings": "nonsense"},
        {"problems": "7", "disks": '[[1], ["system", "a", 2], 3]', "settings": "[]"},
        {"problems": '[{"a": 1}]', "disks": "{}", "settings": '{"site.name": {"a": 1}}'},
        {"problems": "[" * 100_000, "disks": "[" * 100_000, "settings": "[" * 100_000},
    ],
)
def test_what_a_site_wrote_that_cannot_be_read_takes_no_page_away(
    box: Config,  # noqa: F811
    app: Any,
    wrong: dict[str, str],
) -> None:
    with core_db.connection_context():
        Site.update(**wrong).where(Site.key == "hq").execute()
    one = browser(app, "owner")
    for url in ("/", "/sites", "/sites/hq", "/metrics", "/api/v1/sites"):
        assert one.get(url).status == 200, url
    assert one.post("/sites/hq/settings", {"site.name": "Pier"}).status == 303


def test_another_box_of_the_same_name_says_nothing(box: Config) -> None:  # noqa: F811
    modules.set_enabled(box, HOTSPOT, False)
    with core_db.connection_context():
        reporter.report(replace(box, paths=other(box, "hq").paths))
        assert registry.get("hq").reported_at is None


def test_the_pages_of_sites(box: Config, app: Any) -> None:  # noqa: F811
    attack(app, [page for page in frame.pages(box) if "/sites" in page.path])
    with core_db.connection_context():
        registry.add("north", "<b>North")
        Nas.create(name="attic", address="192.0.2.7", secret=b"", site="north")
    one = browser(app, "owner")
    listed = one.get("/sites").body
    assert "&lt;b&gt;North" in listed
    assert "not joined" in listed
    assert [row["key"] for row in json.loads(one.get("/sites?format=json&q=nor").body)] == ["north"]
    assert "attic" in one.get("/sites/north").body
    assert one.post("/sites/north", {"title": "Far north"}).status == 303
    assert "routers belong to" in one.post("/sites/north/remove").body
    with core_db.connection_context():
        Nas.delete().execute()
    assert one.post("/sites/hq/remove").status == 400
    assert one.post("/sites/north/remove").status == 303
    assert "is removed" in one.get("/sites").body
    assert "north" not in one.get("/sites").body
    api = json.loads(one.get("/api/v1/sites").body)["items"]
    assert [(row["key"], row["online"]) for row in api] == [("hq", 0)]
    figures = one.get("/metrics").body
    assert 'gatehouse_site_sessions_online{site="hq"} 0' in figures
    named = set(re.findall(r"gatehouse_site_[a-z_]+", (DOCS / "api.md").read_text(encoding="utf-8")))
    assert set(re.findall(r"gatehouse_site_[a-z_]+", figures)) == named


PASSPHRASE = "one good passphrase"


def offered(box: Config, key: str) -> joining.Join:  # noqa: F811
    with core_db.connection_context():
        return joining.offer(box, registry.get(key), 1)


def test_a_file_brings_one_box_to_its_site(box: Config) -> None:  # noqa: F811
    with core_db.connection_context():
        registry.add("north", "North")
    older, join = offered(box, "north"), offered(box, "north")
    north, another = other(box, "north"), other(box, "north", "three")
    with core_db.connection_context():
        with pytest.raises(UserError, match="a newer one was made"):
            joining.claim(north, older)
        for _ in range(2):  # what broke off is done again
            joining.claim(north, join)
        registry.enter(north)
        with pytest.raises(UserError, match="used already"):
            joining.claim(another, join)
    again = offered(box, "north")
    with core_db.connection_context():
        joining.claim(another, again)
    assert "another machine's" in refused(north)


def test_files_that_are_of_no_use(box: Config) -> None:  # noqa: F811
    with core_db.connection_context():
        registry.add("north", "")
    join, north = offered(box, "north"), other(box, "north")
    with core_db.connection_context():
        Site.update(join_until=registry.database_now() - 1).where(Site.key == "north").execute()
        with pytest.raises(UserError, match="its time is over"):
            joining.claim(north, join)
        with pytest.raises(UserError, match="seal with another key"):
            joining.claim(other(box, "north", "odd", b"3" * 32), join)
        registry.remove(box, registry.get("north"))
        with pytest.raises(UserError, match="was removed"):
            joining.claim(north, join)


def test_a_file_brings_others_beside_the_configuration_only(box: Config, tmp_path: Path) -> None:  # noqa: F811
    folder, outside = box.file.parent, tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    (outside / "same").write_bytes(b"x")

    def brought(*paths: object) -> list[str]:
        url = f"postgresql://u@db/g?passfile={paths[0]}&sslkey={paths[-1]}"
        join = joining.Join("north", "", url, "t", bytes(32), {str(path): b"x" for path in paths})
        return [str(path) for path, _, _ in joining._files(box, join)]

    assert brought(folder / "pgpass", folder / "a+b") == [str(folder / "pgpass"), str(folder / "a+b")]
    assert brought(folder / "pgpass", outside / "same") == [str(folder / "pgpass")]
    for path in (outside / "cron", folder / "link/x", folder / ".." / outside.name / "x", folder / "../../x", box.file):
        with pytest.raises(UserError, match="only: let the URL"):
            brought(folder / "pgpass", path)


def test_a_file_that_asks_for_too_much_is_refused_at_once(box: Config) -> None:  # noqa: F811
    sealed = age.seal(b"x", PASSPHRASE)
    assert age.unseal(sealed, PASSPHRASE) == b"x"
    harder = re.sub(rb"(-> scrypt \S+) \d+\n", rb"\1 22\n", sealed)
    with pytest.raises(UserError, match="rounds of scrypt"):
        age.unseal(harder, PASSPHRASE)


def test_a_url_is_read_as_libpq_reads_it(box: Config, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "a+b").write_bytes(b"list")
    url = f"postgresql://u@db/g?sslrootcert=system&sslcrl={tmp_path}/a+b&passfile={tmp_path}/no&passfile={tmp_path}/a+b"
    with core_db.connection_context():
        registry.add("north", "")
        assert joining.offer(box, registry.get("north"), 1, url).files == {f"{tmp_path}/a+b": b"list"}
        with pytest.raises(UserError, match="password doesn't belong"):
            joining.offer(box, registry.get("north"), 1, "postgresql://u:secret@db/g")


def test_the_record_says_of_which_site_a_router_was(box: Config, gatehouse: Gatehouse) -> None:  # noqa: F811
    """By a command and with its site, too: past sessions are told apart by it."""
    with core_db.connection_context():
        registry.add("north", "")
        Nas.create(name="gateway-north", address="127.84.0.9", secret=b"", site="north", kind="gateway")
    assert gatehouse("nas", "add", "roof", "--address", "192.0.2.1")[0] == 0
    assert gatehouse("nas", "set", "roof", "--site", "north")[0] == 0
    assert gatehouse("nas", "remove", "roof")[0] == 0
    with core_db.connection_context():
        registry.remove(box, registry.get("north"))
        record = [(entry.action, entry.subject, json.loads(entry.changes)) for entry in Audit.select()]
    assert record == [
        ("changed", "router roof", {"site": ["hq", "north"]}),
        ("removed", "router roof", {"site": ["north", None]}),
        ("removed", "router gateway-north", {"site": ["north", None]}),
    ]


def test_the_command_makes_files_and_lists_sites(box: Config, gatehouse: Gatehouse) -> None:  # noqa: F811
    file = box.paths.state / "north.join"
    assert gatehouse("site", "add", "north", "--file", str(file), stdin=PASSPHRASE)[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600
    sealed = file.read_bytes()
    assert not any(what in sealed for what in (box.database.url.encode(), bytes(32)))
    join = joining.read(sealed, PASSPHRASE)
    assert (join.key, join.url, join.password_key) == ("north", box.database.url, bytes(32))
    assert "needs 10 characters" in gatehouse("site", "add", "short", "--file", f"{file}2", stdin="short")[2]
    assert "exists already: --again" in gatehouse("site", "add", "north", "--file", f"{file}2", stdin=PASSPHRASE)[2]
    assert "can't be a site's key" in gatehouse("site", "add", "North", "--file", f"{file}3", stdin=PASSPHRASE)[2]
    assert [row["key"] for row in json.loads(gatehouse("site", "list", "--json")[1])] == ["hq", "north"]
    assert "no box has joined yet" in gatehouse("site", "show", "north")[1]
    assert gatehouse("site", "set", "north", "--title", "North pole")[0] == 0
    assert gatehouse("site", "set", "north", "--setting", "site.contact=+420 1")[0] == 0
    assert "site.contact: waiting" in gatehouse("site", "show", "north")[1]
    assert "can't be set for a site" in gatehouse("site", "set", "north", "--setting", "radius.listen=1")[2]
    assert gatehouse("site", "remove", "north")[0] == 0
    assert "there is no site" in gatehouse("site", "show", "north")[2]


def settle(box: Config, said: str) -> None:  # noqa: F811
    """Root's word on all that was wished for."""
    for file in sorted((box.paths.state / ASKED).glob("*.json")):
        (box.paths.state / ANSWERED / file.stem).write_text(said)
        file.unlink()


def wished(box: Config) -> list[dict[str, Any]]:  # noqa: F811
    return [json.loads(file.read_text()) for file in sorted((box.paths.state / ASKED).glob("*.json"))]


def states(key: str) -> dict[str, tuple[str, str]]:
    return {row.key: (row.state, row.answer) for row in central.of(registry.get(key))}


def test_settings_of_a_site_reach_its_box_and_what_became_of_them_comes_back(box: Config, app: Any) -> None:  # noqa: F811
    one, following = browser(app, "owner"), Follower(box)
    sent = {"site.name": "Pier", "portal.title": "[en]\nHello\n[cs]\nAhoj", "portal.accent": "#c2185b"}
    assert one.post("/sites/hq/settings", sent).status == 303
    bad = one.post("/sites/hq/settings", {"portal.accent": "pink", "site.timezone": "Mars/Base"})
    assert bad.status == 400
    assert "Mars/Base" in bad.body
    assert one.post("/sites/hq/settings", {**sent, "radius.listen": "1.2.3.4"}).status == 303  # no such field
    with core_db.connection_context():
        assert {state for state, _ in states("hq").values()} == {"waiting"}
        following.look()
        (wish,) = wished(box)
        assert wish["settings"]["portal.title"] == {"en": "Hello", "cs": "Ahoj"}
        assert wish["settings"].keys() == sent.keys()
        assert wish["who"] == "owner for this site"
        settle(box, "one of them can't be")
        following.look()  # each alone now
        assert len(wished(box)) == 3
        settle(box, "")
        following.look()
        assert set(states("hq").values()) == {("applied", "")}
        central.want(registry.get("hq"), {"site.name": "Jetty"}, "owner")
        following.look()
        settle(box, "no")
        following.look()
        assert states("hq")["site.name"] == ("refused", "no")
    assert "refused: no" in one.get("/sites/hq").body


def test_values_that_no_page_has_written_are_refused_and_stop_nothing(box: Config, app: Any) -> None:  # noqa: F811
    with core_db.connection_context():
        values = ("nonsense", "[" * 600 + "]" * 600, '{"en": 1}', "[" * 100_000, '"Pier"')
        for key, value in zip(central.ALLOWED, values, strict=False):
            SiteSetting.create(site="hq", key=key, value=value, changed_at=1, changed_by="x")
        Follower(box).look()
        found = [state for state, _ in (states("hq")[key] for key in central.ALLOWED[:5])]
        assert found == ["refused"] * 4 + ["asked"]
        assert [wish["settings"] for wish in wished(box)] == [{central.ALLOWED[4]: "Pier"}]
        SiteSetting.update(state="waiting").execute()
    assert browser(app, "owner").get("/sites/hq").status == 200
    assert "went wrong" in granting.grant_own(
        box.file, wishes.Wish("x", {"site.name": json.loads("[" * 600 + "]" * 600)})
    )


def test_the_command_gives_the_terminal_no_orders(box: Config, gatehouse: Gatehouse) -> None:  # noqa: F811
    with core_db.connection_context():
        Site.update(problems=json.dumps(["\x1b]0;x"])).where(Site.key == "hq").execute()
    said = gatehouse("site", "show", "hq")[1]
    assert "x1b]0;x" in said
    assert "\x1b" not in said


def test_a_box_that_was_removed_ends_what_it_does_for_guests(box: Config) -> None:  # noqa: F811
    with core_db.connection_context():
        following = Follower(box)
        following.look()
        registry.add("north", "")
        Site.update(machine="another").where(Site.key == "hq").execute()
        for _ in range(5):
            following.look()
        assert [wish["modules"] for wish in wished(box)] == [{"hotspot": False}]
        (box.paths.state / "gatehouse.toml").write_text(box.text)
        with pytest.raises(UserError, match="another machine's"):
            registry.enter(box)
        modules.set_enabled(box, HOTSPOT, False)
        registry.enter(box)  # so that it can be switched off


def test_routers_that_were_changed_elsewhere_are_told_to_freeradius(box: Config) -> None:  # noqa: F811
    folder = box.paths.run / "raddb"
    folder.mkdir(parents=True)
    with core_db.connection_context():
        following, secrets = Follower(box), load_box(box.paths.state)
        clients.gateway(box, secrets)

        def render() -> None:
            conf = templates.render(
                "rlm_python.raddb", "clients.conf.j2", clients=clients.read(box, secrets), radsec={}
            )
            (folder / "clients.conf").write_text(conf)

        render()
        following.look()
        assert wished(box) == []
        Nas.create(name="attic", address="192.0.2.7", secret=secrets.seal("0123456789abcdef"), site="hq")
        for _ in range(3):
            following.look()
        assert len(wished(box)) == 1
        render()
        following.look()
        Nas.delete().where(Nas.name == "attic").execute()
        following.look()
        assert len(wished(box)) == 2


BLOCK = 'x {\n}\nmodules {\n\texec y {\n\t\tprogram = "/bin/true"\n\t}\n}\nclient z'
UNTYPED = (
    {"name": BLOCK},
    {"address": "192.0.2.66\n}\n$INCLUDE /etc/passwd\nclient z {"},
    {"secret": "0123456789\n}\n$INCLUDE /etc/passwd"},
)


def test_a_row_that_nobody_could_have_typed_becomes_no_configuration(box: Config) -> None:  # noqa: F811
    with core_db.connection_context():
        secrets, evil = load_box(box.paths.state), []
        for number, wrong in enumerate(UNTYPED):
            usual = {"name": f"evil-{number}", "address": f"192.0.2.{number}", "secret": "0123456789abcdef"}
            row = usual | wrong
            sealed = {**row, "secret": secrets.seal(row["secret"])}
            evil.append(Nas.create(**sealed, kind="other", site="hq" if number % 2 else None))
        other_key = SecretBox(b"9" * 32).seal("0123456789abcdef")
        evil.append(Nas.create(name="odd", address="192.0.2.67", secret=other_key, site="hq"))
        Nas.create(name="well", address="192.0.2.68", secret=secrets.seal("0123456789abcdef"), site="hq")
        assert [client.name for client in clients.read(box, secrets)] == ["gateway-hq", "well"]
        for nas in evil:
            assert "isn't told of it" in checks.one(box, nas)[0].sentence
        assert checks.not_applied(box, secrets) == frozenset()


def test_a_row_that_nobody_could_have_typed_opens_no_tunnel(box: Config) -> None:  # noqa: F811
    (box.paths.state / "keys").mkdir(exist_ok=True)
    here = replace(box, tunnel=replace(box.tunnel, enabled=True))
    key, first = tunnel.new_keys()[1], int(box.tunnel.network.network_address)
    rows = (
        ("well", key, "hq"),
        ("norths", key, "north"),
        ("a\n[Peer]\nAllowedIPs = 0.0.0.0/0\n#", key, "hq"),
        ("evil", f"{key}\nAllowedIPs = 0.0.0.0/0", "hq"),
        ("worse", key, None),
    )
    with core_db.connection_context():
        registry.add("north", "")
        for number, (name, public, site) in enumerate(rows, 2):
            at = str(IPv4Address(first + number))
            within = f"{at}/32, 0.0.0.0/0, 10.1.1.1" if name == "worse" else at
            Nas.create(name=name, address=at, tunnel_address=within, tunnel_key=public, secret=b"", site=site)
        (conf, _) = tunnel.render(here)
    assert conf.text.count("[Peer]") == 1
    assert "# well" in conf.text
    assert "0.0.0.0/0" not in conf.text
