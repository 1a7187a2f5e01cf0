"""Guests who help themselves: the portal's verbs over the real socket, and what becomes of the accounts."""

import json
import os
import pwd
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import config, guest_verbs, verbs
from appliance.accounts import erasure, guest_writes, manage, registration, retention
from appliance.accounts.database import open_core
from appliance.accounts.guest_writes import Office
from appliance.accounts.lookup import Lookup
from appliance.accounts.models import Account, AccountUsage, Device, Mail, Plan, Registration, Session, core_db
from appliance.config import Config, Privacy
from appliance.crypto import SecretBox, load_box
from appliance.errors import ConfigError, Unavailable, UserError
from appliance.guest_verbs import Answer, Confirm, Devices, Forget, Free, Register, Standing
from portal.office import OfficeClient
from rlm_python.authorization import Grant, Reject, authorize
from tests.unit.conftest import Gatehouse

MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
HOUR, DAY = 3600, 86_400
PORTAL = '[portal]\nfree_plan = "free"\nregistration = "{}"\nregistration_plan = "home"\n'
MAIL = '[mail]\nhost = "mail.example.net"\nsender = "wifi@example.net"\n'


SQLITE = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)


class Guests:
    """An office whose clock stands still until it is moved, asked as the portal asks it."""

    def __init__(self, loaded: Config) -> None:
        self.config = loaded
        self.box: SecretBox = load_box(loaded.paths.state)
        self.now = int(time.time())
        self._office = Office(loaded, self.box, clock=lambda: self.now)

    def ask(self, request: guest_verbs.Request) -> Answer:
        answer = verbs.decode_answer(Answer, self._office.answer(guest_verbs.VERBS.encode(request)))
        assert isinstance(answer, Answer)
        return answer

    def registers(self, contact: str = "eva@example.net", mac: str = MAC, name: str = "Eva Malá") -> Answer:
        return self.ask(Register(mac, name, contact, "cs"))

    def link(self) -> str:
        """The token in the message that was written last."""
        body = self.box.open(Mail.select().order_by(Mail.id.desc()).get().body)
        found = re.search(r"http://10\.10\.0\.1/confirm\?token=([\w-]+)", body)
        assert found, body
        return found[1]

    def verdict(self, login: str) -> Grant | Reject:
        """What a login would be told now."""
        zone = self.config.site.timezone
        account = Lookup(core_db.obj, zone, 900).account(login, MAC, self.now)
        assert account is not None
        return authorize(account, zone, self.now)


@pytest.fixture
def by(toml: Path) -> Iterator[Any]:
    """Guests of a portal where e-mail, or an operator, decides."""

    def guests(decides: str) -> Guests:
        toml.write_text(toml.read_text() + PORTAL.format(decides) + MAIL)
        return Guests(config.load(toml))

    with open_core(config.load(toml)):
        manage.add(Plan, "plan", name="free", validity_s=HOUR, quota_bytes=10**9, quota_period="day")
        manage.add(Plan, "plan", name="home", validity_s=30 * DAY, devices=2)
    yield guests


@pytest.fixture
def email(by: Any) -> Iterator[Guests]:
    guests = by("email")
    with core_db.connection_context():
        yield guests


@pytest.fixture
def operator(by: Any) -> Iterator[Guests]:
    guests = by("operator")
    with core_db.connection_context():
        yield guests


@SQLITE
class TestFreeAccess:
    def test_a_second_click_refills_nothing(self, email: Guests) -> None:
        first = email.ask(Free(MAC))
        account = Account.get(Account.name == first.login)
        assert (account.plan.name, email.box.open(account.password)) == ("free", first.password)
        Account.update(first_login_at=email.now).execute()
        email.now += HOUR - 1
        assert email.ask(Free(MAC)) == first
        email.now += 1
        assert email.ask(Free(MAC)) == Answer(refusal="used up day")
        assert isinstance(email.verdict(first.login), Reject)
        assert email.ask(Free(OTHER)).login != first.login

    def test_a_new_day_begins_anew(self, email: Guests) -> None:
        login = email.ask(Free(MAC)).login
        Account.update(first_login_at=email.now).execute()
        email.now += DAY
        assert isinstance(email.verdict(login), Reject)
        email.ask(Free(MAC))
        assert isinstance(email.verdict(login), Grant)

    def test_a_total_never_does(self, email: Guests) -> None:
        Plan.update(quota_period="total", quota_bytes=None).where(Plan.name == "free").execute()
        login = email.ask(Free(MAC)).login
        Account.update(first_login_at=email.now).execute()
        email.now += 100 * DAY
        assert email.ask(Free(MAC)).refusal == "used up total"
        assert isinstance(email.verdict(login), Reject)

    def test_what_the_operator_blocks_stays_blocked(self, email: Guests) -> None:
        login = email.ask(Free(MAC)).login
        Account.update(enabled=False, first_login_at=email.now - 2 * DAY).execute()
        email.ask(Free(MAC))
        assert isinstance(email.verdict(login), Reject)

    def test_another_plan_counts_what_was_used(self, email: Guests) -> None:
        login = email.ask(Free(MAC)).login
        account = Account.get(Account.name == login)
        other = Plan.get(Plan.name == "home")
        Account.update(plan=other, first_login_at=email.now - 60).execute()
        AccountUsage.create(account=account, day=20300101, input_octets=7)
        assert email.ask(Free(MAC)).login == login
        account = Account.get(Account.name == login)
        assert (account.plan.name, AccountUsage.select().count()) == ("free", 1)

    def test_without_the_plan_there_is_none(self, email: Guests) -> None:
        Plan.delete().where(Plan.name == "free").execute()
        assert email.ask(Free(MAC)).refusal == guest_verbs.OFF
        assert Account.select().count() == 0

    def test_no_more_than_there_may_be(self, email: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registration, "MOST_FREE", 1)
        assert email.ask(Free(MAC)).login
        assert email.ask(Free(OTHER)).refusal == guest_verbs.FULL
        assert email.ask(Free(MAC)).login


@SQLITE
class TestByEmail:
    def test_in_for_a_moment_then_for_good(self, email: Guests) -> None:
        answer = email.registers()
        assert answer.state == guest_verbs.UNCONFIRMED
        granted = email.verdict(answer.login)
        assert isinstance(granted, Grant)
        assert granted.session_timeout_s == 600
        confirmed = email.ask(Confirm(MAC, email.link()))
        assert (confirmed.state, confirmed.login) == (guest_verbs.ACCEPTED, answer.login)
        email.now += 601
        granted = email.verdict(answer.login)
        assert isinstance(granted, Grant)
        assert granted.session_timeout_s == 30 * DAY
        assert email.ask(Confirm(MAC, email.link())).refusal == guest_verbs.BAD_LINK

    def test_out_unless_it_is_confirmed(self, email: Guests) -> None:
        login = email.registers().login
        email.now += 601
        assert isinstance(email.verdict(login), Reject)
        assert email.registers("eva@example.com").state == guest_verbs.UNCONFIRMED
        assert isinstance(email.verdict(login), Reject)  # another address is no other moment
        link = email.link()
        email.now += DAY + 1
        assert email.ask(Confirm(MAC, link)).refusal == guest_verbs.BAD_LINK

    def test_a_mended_address_gets_the_link_and_the_old_one_ends(self, email: Guests) -> None:
        email.registers("eva@exmaple.net")
        wrong = email.link()
        email.registers("Eva@example.net")
        assert Registration.get().contact == "eva@example.net"
        assert Mail.select().order_by(Mail.id.desc()).get().recipient == "eva@example.net"
        assert email.ask(Confirm(MAC, wrong)).refusal == guest_verbs.BAD_LINK
        assert email.ask(Confirm(MAC, email.link())).state == guest_verbs.ACCEPTED

    def test_only_the_device_that_asked_is_given_the_login(self, email: Guests) -> None:
        email.registers()
        answer = email.ask(Confirm(OTHER, email.link()))
        assert (answer.state, answer.login, answer.password) == (guest_verbs.ACCEPTED, "", "")

    def test_a_second_device_of_the_same_guest_shares_their_account(self, email: Guests) -> None:
        first = email.registers().login
        email.ask(Confirm(MAC, email.link()))
        moment = email.registers(mac=OTHER).login
        assert moment != first
        assert email.ask(Confirm(OTHER, email.link())).login == first
        assert [row.name for row in Account.select()] == [first]
        assert Registration.select().where(Registration.account == Account.get()).count() == 2

    def test_a_link_is_no_secret_of_the_database(self, email: Guests) -> None:
        email.registers()
        link, (mail,) = email.link(), Mail.select()
        assert Registration.get().token != link
        assert link.encode() not in bytes(mail.body)
        assert "Wi-Fi" in email.box.open(mail.body)
        assert "Eva" not in email.box.open(mail.body)

    def test_what_was_typed_wrongly_is_said(self, email: Guests) -> None:
        for contact in ("eva", "eva@", "eva@localhost", "+420123456789", "a@b.cz\r\nBcc: x@y.cz", "a@b.cz, c@d.cz", ""):
            if contact.isprintable():
                assert email.registers(contact).refusal == guest_verbs.BAD_EMAIL, contact
                email.now += 60
        for name in ("", "  "):
            assert email.registers(name=name).refusal == guest_verbs.BAD_NAME
        assert Registration.select().count() == Mail.select().count() == Account.select().count() == 0

    def test_nobodys_mailbox_is_filled(self, email: Guests) -> None:
        said = [email.registers().refusal for _ in range(4)]
        assert said == ["", "", "", guest_verbs.BUSY]
        macs = [f"02:00:00:00:01:{n:02x}" for n in range(6)]
        said = [email.registers(mac=mac).refusal for mac in macs]
        assert said == [""] * 4 + [guest_verbs.BUSY] * 2

    def test_the_database_is_not_filled(self, email: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registration, "MOST_OPEN", 3)
        said = [email.registers(f"g{n}@example.net", f"02:00:00:00:02:{n:02x}").refusal for n in range(5)]
        assert said == ["", "", "", guest_verbs.FULL, guest_verbs.FULL]


@SQLITE
class TestByOperator:
    def test_waits_then_enters_by_itself(self, operator: Guests) -> None:
        answer = operator.registers("+420 601 123 456")
        assert (answer.state, answer.login) == (guest_verbs.WAITING, "")
        assert Registration.get().contact == "+420601123456"
        assert Account.select().count() == 0
        registration.approve(operator.config, operator.box, Registration.get(), "jana", operator.now)
        standing = operator.ask(Standing(MAC))
        assert standing.state == guest_verbs.ACCEPTED
        assert isinstance(operator.verdict(standing.login), Grant)
        Account.update(first_login_at=operator.now).execute()
        again = operator.ask(Standing(MAC))
        assert (again.state, again.password) == (guest_verbs.ACCEPTED, "")  # who has the MAC needn't be the guest

    def test_refused_is_said_and_stays(self, operator: Guests) -> None:
        operator.registers()
        registration.refuse(Registration.get(), "jana", operator.now)
        assert operator.ask(Standing(MAC)).state == guest_verbs.REFUSED
        assert operator.registers().state == guest_verbs.REFUSED
        with pytest.raises(UserError, match="refused already"):
            registration.approve(operator.config, operator.box, Registration.get(), "jana", operator.now)

    def test_neither_a_mail_nor_a_phones_number(self, operator: Guests) -> None:
        assert operator.registers("call me").refusal == guest_verbs.BAD_CONTACT


@SQLITE
def test_commands(by: Any, gatehouse: Gatehouse) -> None:
    by("operator").registers()
    assert "Eva Malá" in gatehouse("registration", "list", "--state", "waiting")[1]
    assert gatehouse("registration", "approve", "1")[0] == 0
    assert "accepted already" in gatehouse("registration", "refuse", "1")[2]
    assert gatehouse("registration", "remove", "1")[0] == 0
    assert "no registration 1" in gatehouse("registration", "remove", "1")[2]
    assert len(json.loads(gatehouse("account", "list", "--json")[1])) == 1


@SQLITE
def test_off_is_off(toml: Path) -> None:
    guests = Guests(config.load(toml))
    assert guests.registers().refusal == guests.ask(Free(MAC)).refusal == guest_verbs.OFF
    assert guests.ask(Standing(MAC)) == Answer()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[portal]\nregistration = "maybe"\n', "one of off, email, operator"),
        ('[portal]\nregistration = "operator"\n', "registration_plan"),
        ('[portal]\nregistration = "email"\nregistration_plan = "x"\n', "fill in"),
        ('[mail]\nhost = "a"\n', "sender"),
        ('[mail]\nhost = "a"\nsender = "a@b.cz"\nuser = "u"\ntls = "none"\n', "only sent over TLS"),
        ('[mail]\ntls = "ssl"\n', "starttls"),
    ],
)
def test_what_cant_be_configured_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.parse(text)


@SQLITE
class TestDevices:
    def online(self, account: Any, mac: str = MAC) -> None:
        Session.create(
            unique_id=mac,
            account_ref=account,
            account=account.name,
            nas="gateway",
            acct_session_id="1",
            mac=mac,
            started_at=1,
            updated_at=1,
        )

    def test_of_the_account_that_is_online_here_only(self, email: Guests) -> None:
        account, _ = manage.add_account("anna", "home", None, email.box)
        for at, mac in enumerate((MAC, OTHER)):
            Device.create(mac=mac, account=account, added_at=1, used_at=at)
        assert email.ask(Devices(MAC, "anna")).refusal == guest_verbs.OFF
        self.online(account)
        assert email.ask(Devices(MAC, "anna")).devices == (OTHER, MAC)
        assert email.ask(Devices(MAC, "anna")).most == 2
        assert email.ask(Devices(OTHER, "anna")).refusal == guest_verbs.OFF
        assert email.ask(Forget(OTHER, "anna", MAC)).refusal == guest_verbs.OFF
        assert email.ask(Forget(MAC, "anna", OTHER)).devices == (MAC,)

    def test_nobody_elses_is_forgotten(self, email: Guests) -> None:
        mine, _ = manage.add_account("anna", "home", None, email.box)
        other, _ = manage.add_account("bob", "home", None, email.box)
        Device.create(mac=OTHER, account=other, added_at=1, used_at=1)
        self.online(mine)
        email.ask(Forget(MAC, "anna", OTHER))
        assert Device.select().count() == 1


@SQLITE
class TestOffice:
    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"{}",
            b"[]",
            b'{"verb": "free"}',
            b'{"verb": "free", "mac": "aa"}',
            b'{"verb": "free", "mac": ["02:00:00:00:00:01"]}',
            b'{"verb": "free", "mac": "02:00:00:00:00:01", "plan": "gold"}',
            b'{"verb": "drop", "mac": "02:00:00:00:00:01"}',
            b'{"verb": "register", "mac": "02:00:00:00:00:01", "name": "a\\nb", "contact": "", "language": "en"}',
            b'{"verb": "register", "mac": "02:00:00:00:00:01", "name": "a", "contact": "", "language": "../x"}',
            b'{"verb": "confirm", "mac": "02:00:00:00:00:01", "token": "' + b"x" * 65 + b'"}',
            b'{"verb": "devices", "mac": "02:00:00:00:00:01", "account": "' + b"x" * 300 + b'"}',
            b"[" * 15_000,
            b"x" * 20_000,
        ],
    )
    def test_nothing_else_is_taken(self, email: Guests, line: bytes) -> None:
        with pytest.raises(UserError):
            verbs.decode_answer(Answer, email._office.answer(line))

    def test_a_device_and_all_of_them_have_a_rate(self, email: Guests) -> None:
        said = [email.ask(Confirm(MAC, "x")).refusal for _ in range(11)]
        assert said == [guest_verbs.BAD_LINK] * 10 + [guest_verbs.BUSY]
        macs = [f"02:00:00:00:{n // 256:02x}:{n % 256:02x}" for n in range(300, 500)]
        said = [email.ask(Confirm(mac, "x")).refusal for mac in macs]
        assert said.count(guest_verbs.BAD_LINK) == 110
        assert email.ask(Standing(OTHER)) == Answer()  # looking is another thing
        email.now += 60
        assert email.ask(Confirm(MAC, "x")).refusal == guest_verbs.BAD_LINK

    @pytest.fixture
    def served(self, email: Guests, monkeypatch: pytest.MonkeyPatch) -> OfficeClient:
        path = guest_verbs.socket_path(email.config.paths)
        path.parent.mkdir(parents=True)
        monkeypatch.setattr(guest_writes, "PORTAL_USER", pwd.getpwuid(os.geteuid()).pw_name)
        guest_writes.start(email.config)
        return OfficeClient(path)

    def test_over_the_socket(self, served: OfficeClient) -> None:
        answer = served.ask(Free(MAC))
        assert answer.login.startswith("free-")
        assert served.ask(Free(MAC)) == answer


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        OfficeClient(tmp_path / "no.sock").ask(Standing(MAC))


class TestPrivacy:
    def test_what_was_not_confirmed_goes_with_its_account(self, email: Guests) -> None:
        email.registers()
        retention.run(Privacy(), email.now + DAY)
        assert (Registration.select().count(), Account.select().count()) == (1, 1)
        retention.run(Privacy(), email.now + DAY + 1)
        assert (Registration.select().count(), Account.select().count()) == (0, 0)

    def test_what_nobody_decided_goes(self, operator: Guests) -> None:
        operator.registers()
        operator.registers("b@example.net", OTHER)
        registration.refuse(Registration.get(Registration.mac == OTHER), "jana", operator.now)
        retention.run(Privacy(), operator.now + 7 * DAY)
        assert Registration.select().count() == 2
        retention.run(Privacy(), operator.now + 7 * DAY + 1)
        assert Registration.select().count() == 0

    def test_accounts_that_guests_made_go_when_they_are_not_used(self, email: Guests) -> None:
        email.registers()
        email.ask(Confirm(MAC, email.link()))
        email.ask(Free(OTHER))
        manage.add_account("anna", "home", None, email.box)
        now = email.now + 181 * DAY
        used = Account.get(Account.name.startswith("guest-"))
        row = {"unique_id": "1", "nas": "n", "acct_session_id": "", "mac": MAC, "account": used.name}
        Session.create(account_ref=used, started_at=now - DAY, updated_at=now, ended_at=now - 1, **row)
        retention.run(Privacy(), now)
        assert {row.name for row in Account.select()} == {"anna", used.name}
        for _ in range(2):  # its last session first
            retention.run(Privacy(), now + 181 * DAY)
        assert {row.name for row in Account.select()} == {"anna"}
        assert Registration.select().count() == 0

    def test_handed_over_and_erased(self, email: Guests) -> None:
        login = email.registers().login
        email.ask(Confirm(MAC, email.link()))
        email.registers("bob@example.net", OTHER)
        person = erasure.Person(login)
        exported: Any = erasure.export(person, email.config.site.timezone)
        (told,) = exported["registrations"]
        assert (told["name"], told["contact"], told["mac"]) == ("Eva Malá", "eva@example.net", MAC)
        counts = {row["what"]: row["how_many"] for row in erasure.preview(person, "anonymise")}
        assert (counts["registrations"], counts["messages not sent"]) == (1, 1)
        erasure.erase(person, "anonymise", email.config)
        assert [row.contact for row in Registration.select()] == ["bob@example.net"]
        assert [row.recipient for row in Mail.select()] == ["bob@example.net"]
