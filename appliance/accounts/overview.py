"""What the first page says of the hotspot."""

from collections.abc import Iterator
from urllib.parse import urlencode

from appliance.accounts.models import Account, LiveChange, Mail, Plan, Registration, Session
from appliance.config import Config
from appliance.guest_verbs import WAITING
from appliance.mail import FAILED
from appliance.nas import watch
from appliance.nas.models import Nas
from appliance.service import Attention, Tile

_DAY_S = 86_400


def attention(config: Config, now: int) -> Iterator[Attention]:
    interval_s = config.radius.interim_interval_s
    for name, silence in watch.silent(watch.routers(interval_s), interval_s, now).items():
        yield Attention(watch.line(name, silence, now), "/routers")
    refused = (
        LiveChange.select().where((LiveChange.state == "refused") & (LiveChange.created_at > now - _DAY_S)).count()
    )
    if refused:
        yield Attention(f"{refused} changes of running sessions were refused since yesterday", "/sessions?state=online")
    yield from _of_guests(config)


def _of_guests(config: Config) -> Iterator[Attention]:
    if waiting := Registration.select().where(Registration.state == WAITING).count():
        who = "1 guest waits" if waiting == 1 else f"{waiting} guests wait"
        yield Attention(f"{who} for your decision", "/registrations?" + urlencode({"state": WAITING}))
    if failed := Mail.select().where(Mail.state == FAILED).count():
        what = "1 message" if failed == 1 else f"{failed} messages"
        yield Attention(f"{what} couldn't be sent", "/messages?" + urlencode({"state": FAILED}))
    for key in ("free_plan", "registration_plan"):
        name = getattr(config.portal, key)
        if name and not Plan.select().where(Plan.name == name).exists():
            yield Attention(f"[portal] {key}: there is no plan {name!r}, so the portal doesn't offer it", "/plans")


def tiles(config: Config, now: int) -> Iterator[Tile]:
    online = Session.select().where(Session.ended_at.is_null()).count()
    yield Tile(f"{online:,}", "online now", "/sessions?" + urlencode({"state": "online"}))
    people = Account.select().where(Account.batch.is_null()).count()
    yield Tile(f"{people:,}", "accounts", "/accounts?" + urlencode({"kind": "accounts"}))
    vouchers = Account.select().where(Account.batch.is_null(False)).count()
    yield Tile(f"{vouchers:,}", "vouchers", "/accounts?" + urlencode({"kind": "vouchers"}))
    yield Tile(f"{Nas.select().count():,}", "routers", "/routers")
