"""What the portal may have written for guests: its verbs over a unix socket, answered beside the admin's pages.

The portal is the only one who is answered, one question at a time, each MAC and all of them together at a rate that
a hostile guest or portal can't fill the database with.
"""

import logging
import pwd
import selectors
import threading
import time
from collections.abc import Callable

import peewee

from appliance import guest_verbs as verbs
from appliance.accounts import registration
from appliance.accounts.models import core_db
from appliance.accounts.registration import Refused
from appliance.config import Config
from appliance.crypto import SecretBox, load_box
from appliance.errors import UserError
from appliance.guest_verbs import VERBS, Answer
from appliance.listener import Listener
from appliance.tries import Tries
from appliance.verbs import BadRequest, encode_answer, encode_error

PORTAL_USER = "gatehouse-portal"
OF_A_DEVICE_A_MINUTE = 10
LOOKS_OF_A_DEVICE_A_MINUTE = 60
IN_ALL_A_MINUTE = 120
_LOOKS = (verbs.Standing, verbs.Devices)
_WAKES_S = 1.0

log = logging.getLogger(__name__)


class Office:
    """Answers one line; `clock` gives UTC seconds."""

    def __init__(self, config: Config, box: SecretBox, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._box = box
        self._clock = clock
        self._looks = Tries(LOOKS_OF_A_DEVICE_A_MINUTE)
        self._writes = Tries(OF_A_DEVICE_A_MINUTE)
        self._all_writes = Tries(IN_ALL_A_MINUTE)

    def answer(self, line: bytes) -> bytes:
        try:
            return encode_answer(self._answer(VERBS.decode(line)))
        except BadRequest as error:
            log.warning("a request of the portal's is refused: %s", error)
            return encode_error(str(error))
        except (peewee.PeeweeException, UserError) as error:
            log.warning("nothing can be written for a guest: %s", error)
            return encode_error("not now")

    def _answer(self, request: verbs.Request) -> Answer:
        now = self._clock()
        if self._too_often(request, now):
            return Answer(refusal=verbs.BUSY)
        with core_db.connection_context():
            try:
                return self._done(request, int(now))
            except Refused as refusal:
                return Answer(refusal=refusal.why)

    def _too_often(self, request: verbs.Request, now: float) -> bool:
        if type(request) in _LOOKS:
            return bool(self._looks.wait_s((request.mac,), now))
        return bool(self._writes.wait_s((request.mac,), now) or self._all_writes.wait_s(("all",), now))

    def _done(self, request: verbs.Request, now: int) -> Answer:
        match request:
            case verbs.Free():
                return registration.free(self._config, self._box, request.mac, now)
            case verbs.Register():
                return registration.register(self._config, self._box, request, now)
            case verbs.Standing():
                return registration.standing(self._box, request.mac)
            case verbs.Confirm():
                return registration.confirm(self._box, request, now)
            case verbs.Forget():
                return registration.forget_device(request)
            case verbs.Devices():
                return registration.devices(request)


def start(config: Config) -> None:
    """Answers in a thread of its own from now on; raises UserError where it can't."""
    selector = selectors.DefaultSelector()
    office = Office(config, load_box(config.paths.state))
    uid = pwd.getpwnam(PORTAL_USER).pw_uid
    listener = Listener(verbs.socket_path(config.paths), office.answer, selector, uid)
    listener.open()
    threading.Thread(target=_serve, args=(listener, selector), name="guests", daemon=True).start()


def _serve(listener: Listener, selector: selectors.BaseSelector) -> None:
    while True:
        try:
            for key, _ in selector.select(_WAKES_S):
                key.data()
            listener.expire()
        except Exception:  # the next guest is answered all the same
            log.exception("a guest's request failed")
            time.sleep(_WAKES_S)
