"""Guests who help themselves: free access, and registration that an e-mail or an operator confirms.

The portal's verbs, pages and commands end here; each function runs inside an open core database. What a guest gets
is an account on a plan like any other, so that its limits count however often a button is pressed.
"""

import hashlib
import re
import secrets
from typing import Any

from appliance import guest_verbs as verbs
from appliance import mail
from appliance.accounts import manage, registration_mail
from appliance.accounts.models import Account, Device, Plan, Registration, Session, core_db
from appliance.accounts.periods import period_start
from appliance.config import EMAIL, Config
from appliance.crypto import SecretBox, new_password
from appliance.errors import UserError
from appliance.guest_verbs import ACCEPTED, REFUSED, UNCONFIRMED, WAITING, Answer

FREE, BY_EMAIL, BY_OPERATOR = "free", "email", "operator"
LINK_VALID_S = 86_400
UNDECIDED_KEPT_S = 7 * 86_400  # what nobody decided, and what was refused
MOST_MAILS = 3  # to one guest who waits for theirs
MOST_OF_A_CONTACT = 5  # devices that name the same address, so that nobody's mailbox is filled
MOST_OPEN = 2000  # undecided ones together, so that nobody fills the database
MOST_FREE = 50_000


class Refused(Exception):
    """`why` is one of the words of guest_verbs.py."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def free(config: Config, box: SecretBox, mac: str, now: int) -> Answer:
    """This device's account on the plan for free access: the same one each time, so that nothing is refilled."""
    plan = _plan(config.portal.free_plan)
    with core_db.atomic():
        row: Any = Registration.get_or_none((Registration.kind == FREE) & (Registration.mac == mac))
        if row is None:
            account = _new_free(box, plan, mac, now)
        else:
            _follow_plan(config, row.account, plan, now)
            account = Account.get_by_id(row.account.id)
    if _is_over(account, now):
        raise Refused(verbs.USED_UP[manage.account_columns(account)["quota_period"]])
    return Answer(state=ACCEPTED, login=account.name, password=box.open(account.password))


def _is_over(account: Any, now: int) -> bool:
    """Its time; of its data the login's own refusal tells."""
    first, length = account.first_login_at, manage.account_columns(account)["validity_s"]
    return first is not None and length is not None and first + length <= now


def _new_free(box: SecretBox, plan: Any, mac: str, now: int) -> Any:
    if Registration.select().where(Registration.kind == FREE).count() >= MOST_FREE:
        raise Refused(verbs.FULL)
    account, _ = manage.add_account(_login("free"), plan.name, None, box, sold=False)
    Registration.create(kind=FREE, state=ACCEPTED, mac=mac, account=account, created_at=now)
    return account


def _follow_plan(config: Config, account: Any, plan: Any, now: int) -> None:
    """Another plan since then counts what was used; a new day, week or month of its quota begins its validity anew."""
    values: dict[str, Any] = {}
    if account.plan_id != plan.id:
        values["plan"] = plan
    first, length, zone = account.first_login_at, plan.validity_s, config.site.timezone
    over = first is not None and length is not None and first + length <= now
    if over and period_start(plan.quota_period, now, zone) > period_start(plan.quota_period, first, zone):
        values["first_login_at"] = None
    if values:
        Account.update(changed_at=now, **values).where(Account.id == account.id).execute()


def register(config: Config, box: SecretBox, request: verbs.Register, now: int) -> Answer:
    """Raises Refused. By e-mail the guest is let in for a moment, to read it; else an operator decides."""
    kind = config.portal.registration
    if kind == "off":
        raise Refused(verbs.OFF)
    plan = _plan(config.portal.registration_plan)
    typed = {"name": _name(request.name), "contact": _contact(request.contact, kind), "language": request.language}
    with core_db.atomic():
        row = _of(request.mac)
        if row is not None and row.state in (ACCEPTED, REFUSED):
            return _standing(row, box)
        if row is None:
            row = _new(request.mac, typed["contact"], now)
        state = UNCONFIRMED if kind == BY_EMAIL else WAITING
        Registration.update(kind=kind, state=state, **typed).where(Registration.id == row.id).execute()
        if kind == BY_EMAIL:
            _ask_to_confirm(config, box, Registration.get_by_id(row.id), plan, now)
        return _standing(Registration.get_by_id(row.id), box)


def _new(mac: str, contact: str, now: int) -> Any:
    undecided = Registration.state.in_((UNCONFIRMED, WAITING))
    if Registration.select().where(undecided).count() >= MOST_OPEN:
        raise Refused(verbs.FULL)
    lately = (Registration.contact == contact) & (Registration.created_at > now - LINK_VALID_S)
    if Registration.select().where(lately).count() >= MOST_OF_A_CONTACT:
        raise Refused(verbs.BUSY)
    return Registration.create(kind=BY_OPERATOR, state=WAITING, mac=mac, created_at=now)


def _ask_to_confirm(config: Config, box: SecretBox, row: Any, plan: Any, now: int) -> None:
    """A mistyped address may be mended, with a new link each time; the moment before it is confirmed stays the same."""
    if row.mails >= MOST_MAILS:
        raise Refused(verbs.BUSY)
    token = secrets.token_urlsafe(24)
    values: dict[str, Any] = {"token": _hash(token), "token_until": now + LINK_VALID_S, "mails": row.mails + 1}
    if row.account is None:
        until = now + config.portal.registration_grace_s
        guest = _login("guest")
        values["account"], _ = manage.add_account(guest, plan.name, None, box, sold=False, valid_until=until)
    Registration.update(**values).where(Registration.id == row.id).execute()
    subject, body = registration_mail.confirm(config, row.language, token)
    mail.post(row.contact, subject, body, box, now)


def confirm(box: SecretBox, request: verbs.Confirm, now: int) -> Answer:
    """The link works once. Who had registered before, on another device, gets that account on this one too."""
    with core_db.atomic():
        row: Any = Registration.get_or_none(Registration.token == _hash(request.token))
        if row is None or row.state != UNCONFIRMED or row.token_until < now:
            raise Refused(verbs.BAD_LINK)
        account = _before(row) or row.account
        temporary = row.account
        _accept(row, account, "e-mail", now)
        if temporary.id != account.id:
            manage.remove_account(temporary.name)
    if request.mac != row.mac:
        return Answer(state=ACCEPTED)
    return Answer(state=ACCEPTED, login=account.name, password=box.open(account.password))


def approve(config: Config, box: SecretBox, row: Any, who: str, now: int) -> Any:
    """The account of who waited for it; raises UserError where somebody else has decided."""
    _undecided(row)
    plan = manage.get(Plan, config.portal.registration_plan, "plan")
    with core_db.atomic():
        account = row.account
        if account is None:
            account, _ = manage.add_account(_login("guest"), plan.name, None, box)
        _accept(row, account, who, now)
    return account


def refuse(row: Any, who: str, now: int) -> None:
    _undecided(row)
    with core_db.atomic():
        if row.account is not None:
            account, row.account = row.account, None
            row.save()
            manage.remove_account(account.name)
        decided = {"state": REFUSED, "token": None, "decided_at": now, "decided_by": who}
        Registration.update(**decided).where(Registration.id == row.id).execute()


def forget(row: Any) -> None:
    """Who asked; an account stays, but for the one that was only for a moment."""
    with core_db.atomic():
        if row.state == UNCONFIRMED and row.account is not None:
            manage.remove_account(row.account.name)
        row.delete_instance()


def _undecided(row: Any) -> None:
    if row.state not in (UNCONFIRMED, WAITING):
        raise UserError(f"registration {row.id} is {row.state} already")


def _accept(row: Any, account: Any, who: str, now: int) -> None:
    decided = {"state": ACCEPTED, "token": None, "token_until": None, "decided_at": now, "decided_by": who}
    Registration.update(account=account, **decided).where(Registration.id == row.id).execute()
    Account.update(valid_until=None, changed_at=now).where(Account.id == account.id).execute()


def _before(row: Any) -> Any:
    """The account of who has confirmed the same address before, on another device."""
    found = Registration.get_or_none(
        (Registration.kind == BY_EMAIL) & (Registration.contact == row.contact) & (Registration.state == ACCEPTED)
    )
    return found.account if found is not None else None


def standing(box: SecretBox, mac: str) -> Answer:
    """How the registration of this device stands, with the way in as long as it was never used."""
    row = _of(mac)
    return _standing(row, box) if row is not None else Answer()


def _standing(row: Any, box: SecretBox) -> Answer:
    account = row.account
    if row.state == REFUSED or account is None or account.first_login_at is not None:
        return Answer(state=row.state)
    return Answer(state=row.state, login=account.name, password=box.open(account.password))


def devices(request: verbs.Devices) -> Answer:
    """Of the account that is online on this device, nobody else's."""
    account = _online(request)
    rows = Device.select().where(Device.account == account).order_by(Device.used_at.desc())
    return Answer(devices=tuple(row.mac for row in rows), most=manage.account_columns(account)["devices"])


def forget_device(request: verbs.Forget) -> Answer:
    account = _online(request)
    Device.delete().where((Device.mac == request.device) & (Device.account == account)).execute()
    return devices(request)


def _online(request: verbs.Devices) -> Any:
    here = (Session.account == request.account) & (Session.mac == request.mac) & Session.ended_at.is_null()
    session = Session.select().where(here).order_by(Session.id.desc()).first()
    if session is None or session.account_ref is None:
        raise Refused(verbs.OFF)
    return session.account_ref


def _of(mac: str) -> Any:
    return Registration.get_or_none((Registration.mac == mac) & (Registration.kind != FREE))


def _plan(name: str) -> Any:
    plan = Plan.get_or_none(Plan.name == name) if name else None
    if plan is None:
        raise Refused(verbs.OFF)
    return plan


def _login(kind: str) -> str:
    """Of its own, as a name would stand in sessions and logs for as long as those are kept."""
    return f"{kind}-{new_password()[:8]}"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > verbs.MAX_NAME or not name.isprintable():
        raise Refused(verbs.BAD_NAME)
    return name


def _contact(text: str, kind: str) -> str:
    """Lower case, as no mail server tells two people apart by it; of a phone's number the digits."""
    text = text.strip()
    if EMAIL.fullmatch(text) and len(text) <= verbs.MAX_CONTACT:
        return text.lower()
    if kind == BY_EMAIL:
        raise Refused(verbs.BAD_EMAIL)
    number = re.sub(r"[\s()/.-]", "", text)
    if not re.fullmatch(r"\+?[0-9]{6,15}", number):  # E.164, 6
        raise Refused(verbs.BAD_CONTACT)
    return number
