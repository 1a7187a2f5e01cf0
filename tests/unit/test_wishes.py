"""Wishes: what the admin's process may write, and what root makes of whatever lies there."""

import base64
import json
import os
import re
import threading
import tomllib
import typing
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance import config as configuration
from appliance import modules, wishes
from appliance.config import Config
from appliance.core import CORE
from appliance.errors import UserError
from appliance.service import ANSWERED, ASKED

ID = "1700000000000000000-0123abcd"
GOOD: dict[str, object] = {"who": "jana", "settings": {"site.name": "Café"}, "modules": {"hotspot": True}, "files": {}}
FORBIDDEN = ("paths", "database", "admin")
TEXT = """# the café in the north
[site]
name = "Old"  # as its sign says
timezone = "UTC"

[dhcp]
dns = ["192.0.2.53"]  # the provider's
"""


@pytest.fixture
def box(tmp_path: Path) -> Config:
    for name in (ASKED, ANSWERED):
        (tmp_path / name).mkdir()
    text = TEXT + f'[paths]\nstate = "{tmp_path}"\n'
    return configuration.parse(text, tmp_path / "gatehouse.toml")


@pytest.fixture
def folder(box: Config) -> Iterator[int]:
    with wishes.folder(box.paths.state) as handle:
        yield handle


def lay(box: Config, content: object, number: str = ID) -> Path:
    path = box.paths.state / ASKED / f"{number}.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_a_wish_is_read_as_it_was_written_and_its_answer_comes_back(box: Config, folder: int) -> None:
    number = wishes.wish(box, "jana", {"site.name": "Café", "dhcp.dns": None}, {"hotspot": True})
    assert wishes.outcome(box, number) is None
    assert wishes.waiting(folder) == [number]
    wish = wishes.read(folder, number)
    assert (wish.who, wish.settings) == ("jana", {"site.name": "Café", "dhcp.dns": None})
    assert wish.modules == {"hotspot": True}
    (box.paths.state / ANSWERED / number).write_text("no")
    wishes.remove(folder, f"{number}.json")
    assert wishes.outcome(box, number) == "no"
    assert "no such wish" in str(wishes.outcome(box, ID))
    assert "no such wish" in str(wishes.outcome(box, "../../etc/passwd"))


def test_wishes_come_in_their_order_and_many_at_once_are_all_there(box: Config, folder: int) -> None:
    def one(number: int) -> None:
        asked.append(wishes.wish(box, f"user{number}", {"dhcp.lease_s": 600 + number}))

    asked: list[str] = []
    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wishes.waiting(folder) == sorted(asked)
    assert {wishes.read(folder, number).who for number in asked} == {f"user{number}" for number in range(8)}


def keys() -> list[str]:
    hints = typing.get_type_hints(Config)
    return [
        f"{s}.{k}" for s, h in hints.items() if hasattr(h, "__dataclass_fields__") for k in typing.get_type_hints(h)
    ]


def test_what_may_be_wished_for_gives_nothing_away() -> None:
    for key in wishes.settings():
        assert key in keys()
        assert key.split(".")[0] not in FORBIDDEN, key
        assert "Path" not in str(configuration.hint(key)), key
        assert not re.search(r"\.listen|_port$", key) or wishes.settings()[key].kind == "0|2083", key
    assert len({g.name for m in (CORE, *modules.MODULES) for g in m.settings}) == sum(
        len(m.settings) for m in (CORE, *modules.MODULES)
    )


@pytest.mark.parametrize(
    "key", [*sorted(set(keys()) - set(wishes.settings())), "site", "", "site.name.x", "nothing.at"]
)
def test_all_other_keys_are_refused_on_both_sides(box: Config, folder: int, key: str) -> None:
    with pytest.raises(UserError, match="can't be changed"):
        wishes.wish(box, "jana", {key: "/etc/shadow"})
    lay(box, GOOD | {"settings": {key: "/etc/shadow"}})
    with pytest.raises(UserError, match="can't be changed"):
        wishes.read(folder, ID)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        json.dumps(GOOD).encode()[:-9],
        b"[" * 100_000,
        b"\xff\xfe{}",
        json.dumps(GOOD).encode() + b" " * wishes.MAX_BYTES,
        [],
        {},
        GOOD | {"who": 1},
        GOOD | {"settings": []},
        GOOD | {"modules": None},
        GOOD | {"files": {"portal.logo": 1}},
        GOOD | {"files": {"x": "no base64"}},
        GOOD | {"files": {"../../etc/cron.d/x": base64.b64encode(b"x").decode()}},
        GOOD | {"modules": {"hotspot": 1}},
        GOOD | {"modules": {"../x": True}},
        GOOD | {"settings": {"radius.radsec_port": 8090}},
        GOOD | {"settings": {"gateway.wan": ".."}},
        GOOD | {"settings": {"gateway.wan": ["lo"]}},
    ],
    ids=lambda content: str(content)[:40],
)
def test_a_wish_that_is_none_is_refused_in_a_line(box: Config, folder: int, content: object) -> None:
    lay(box, content)
    with pytest.raises(UserError) as error:
        wishes.read(folder, ID)
    assert "\n" not in str(error.value)


def symlink(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def hardlink(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, secret: Path) -> None:
    path.mkdir()
    (path / "deep").mkdir()
    (path / "deep" / "link").symlink_to(secret.parent)


def of_another(path: Path, secret: Path) -> None:
    path.write_text(json.dumps(GOOD))
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("trick", [symlink, hardlink, fifo, directory, of_another])
def test_only_a_plain_file_of_its_own_owner_is_read(
    box: Config, folder: int, trick: Callable[[Path, Path], None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_text(json.dumps(GOOD))
    trick(box.paths.state / ASKED / f"{ID}.json", secret)
    with pytest.raises(UserError, match="can't be read"):
        wishes.read(folder, ID)
    wishes.remove(folder, f"{ID}.json")
    assert not (box.paths.state / ASKED / f"{ID}.json").is_symlink()
    assert wishes.waiting(folder) == []
    assert secret.read_text() == json.dumps(GOOD)


def test_the_folder_itself_is_no_way_elsewhere(box: Config, tmp_path: Path) -> None:
    (tmp_path / ASKED).rename(tmp_path / "moved")
    (tmp_path / ASKED).symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"), wishes.folder(tmp_path):
        pass


def test_junk_goes_and_what_is_half_written_is_left_alone(box: Config, folder: int) -> None:
    asked = box.paths.state / ASKED
    (asked / ".new-half").write_text("{")
    (asked / "x.json").write_text("{}")
    (asked / "y.json").mkdir()
    lay(box, GOOD)
    assert wishes.waiting(folder) == [ID]
    assert sorted(path.name for path in asked.iterdir()) == [".new-half", f"{ID}.json"]


def test_an_edit_keeps_comments_and_all_else(box: Config) -> None:
    changes = {"site.name": 'Say "hi" # [x]', "dhcp.lease_s": 600, "dhcp.dns": None, "radius.log_logins": False}
    after = wishes.edited(box, changes)
    expected = tomllib.loads(box.text)
    expected["site"]["name"] = 'Say "hi" # [x]'
    expected["dhcp"] = {"lease_s": 600}
    expected["radius"] = {"log_logins": False}
    assert tomllib.loads(after.text) == expected
    for comment in ("# the café in the north", "# as its sign says"):
        assert comment in after.text
    assert after.site.name == 'Say "hi" # [x]'
    assert wishes.edited(after, {"site.name": None}).site.name == "Gatehouse"
    assert wishes.edited(box, {}).text == box.text


@pytest.mark.parametrize(
    "text",
    [
        'site = { name = "Old" }\n',
        'site.name = "Old"\n',
        '[dhcp]\nlease_s = 600\n[site]\nname = "Old"\n[gateway]\nwan = "eth5"',
        "",
    ],
)
def test_each_way_of_writing_it_can_be_edited(text: str) -> None:
    box = configuration.parse(text)
    after = wishes.edited(box, {"site.name": "New", "site.contact": "me"})
    assert (after.site.name, after.site.contact) == ("New", "me")
    assert (after.gateway, after.dhcp) == (box.gateway, box.dhcp)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("site.timezone", "Nowhere/City", "a time zone such as"),
        ("site.name", 5, "text in quotes is needed"),
        ("site.name", "two\nlines", "line breaks"),
        ("dhcp.lease_s", True, "a whole number is needed"),
        ("dhcp.lease_s", 1, "is not between"),
        ("gateway.lan", "eth0", "two different network devices"),
        ("gateway.address", "10.0.0.1/31", "prefix of /30"),
        ("dhcp.dns", "192.0.2.1", "a list in"),
    ],
)
def test_the_configurations_own_parser_has_the_say(box: Config, key: str, value: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        wishes.edited(box, {key: value})


def pem(*, days: int = 30, begins: int = -1, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "login.example.net")])
    begin, end = now + timedelta(days=begins), now + timedelta(days=days)
    number = x509.random_serial_number()
    made = x509.CertificateBuilder(name, name, own.public_key(), number, begin, end).sign(own, hashes.SHA256())
    text = (key or own).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM) + text


def test_a_given_certificate_is_placed_by_root_and_named_in_the_configuration(box: Config) -> None:
    wish = wishes.Wish("jana", files={"portal.certificate": pem()})
    wishes.check(wish)
    path = str(box.paths.state / "tls" / "portal.pem")
    assert wishes.placed(box, wish) == {"portal.certificate": path, "portal.key": path}
    gone = wishes.Wish("jana", files={"portal.certificate": b""})
    assert wishes.placed(box, gone) == {"portal.certificate": None, "portal.key": None}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pem(days=-1, begins=-9), "is over since"),
        (pem(begins=20), "is good only from"),
        (pem(key=ec.generate_private_key(ec.SECP256R1())), "isn't the certificate's"),
        (pem().partition(b"-----BEGIN PRIVATE")[0], "both as PEM text"),
        (pem().partition(b"-----BEGIN PRIVATE")[2], "both as PEM text"),
        (b"\xff" * 100, "both as PEM text"),
    ],
)
def test_a_certificate_that_cant_be_shown_is_refused(box: Config, content: bytes, said: str) -> None:
    for name in ("admin.certificate", "portal.certificate"):
        with pytest.raises(UserError, match=said):
            wishes.wish(box, "jana", files={name: content})
