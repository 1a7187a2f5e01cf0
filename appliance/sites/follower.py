"""What others want of this appliance, beside the admin's pages: settings of its site, its routers, or that it ends.

All of it becomes a wish, which root verifies before anything changes, as what an owner asks for here.
"""

import contextlib
import logging
import threading
from typing import Any

import peewee

from appliance import wishes
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.jobs import Job, Scheduler
from appliance.nas import checks
from appliance.service import is_enabled
from appliance.sites import central
from appliance.sites.models import Site, SiteSetting
from appliance.sites.registry import own_machine

EVERY_S = 10
TICK_S = 1.0
SURE_AFTER = 3  # looks at which the site was gone
HOTSPOT = "hotspot"

log = logging.getLogger(__name__)


class Follower:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._gone = 0
        self._told: object = None  # which routers FreeRADIUS was to be told of last

    def look(self) -> None:
        """Raises UserError, OSError, peewee.PeeweeException; all is looked at again then."""
        if not self._is_ours():
            return
        for rows in (central.ASKED, central.WAITING):
            found = SiteSetting.select().where(SiteSetting.site == self._config.site.key, SiteSetting.state == rows)
            if settings := list(found.order_by(SiteSetting.key)):
                (self._hear if rows == central.ASKED else self._ask)(settings)
        if is_enabled(self._config, HOTSPOT):
            self._routers()

    def _is_ours(self) -> bool:
        """A site that was removed, or is another box's by now, does nothing for guests here any more."""
        mine = (Site.key == self._config.site.key) & (Site.machine == own_machine(self._config.paths.state))
        if Site.select().where(mine).exists() or not Site.select().exists():
            self._gone = 0
            return True
        self._gone += 1
        if self._gone == SURE_AFTER and is_enabled(self._config, HOTSPOT):
            log.warning("site %s was removed or is another box's: the hotspot is switched off", self._config.site.key)
            wishes.wish(self._config, "the removal of this site", modules={HOTSPOT: False})
        return False

    def _ask(self, settings: list[Any]) -> None:
        """Together, as an owner who types several; alone, should they be refused."""
        settings = [row for row in settings if self._is_usable(row)]
        alone = len(settings) < 2 or any(row.wish for row in settings)
        for rows in [[row] for row in settings] if alone else [settings]:
            try:
                changes = {row.key: central.kept(row) for row in rows if row.key in central.allowed()}
                number = wishes.wish(self._config, f"{rows[0].changed_by} for this site", changes)
            except UserError as error:
                self._note(rows, central.REFUSED, str(error))
                continue
            for row in rows:
                row.wish = number
            self._note(rows, central.ASKED)

    def _is_usable(self, row: Any) -> bool:
        try:
            central.kept(row)
        except UserError as error:
            self._note([row], central.REFUSED, str(error))
            return False
        return True

    def _hear(self, settings: list[Any]) -> None:
        for number in sorted({row.wish for row in settings}):
            rows = [row for row in settings if row.wish == number]
            said = wishes.outcome(self._config, number)
            if said == "":
                self._note(rows, central.APPLIED)
            elif said is not None:
                self._note(rows, central.REFUSED if len(rows) == 1 else central.WAITING, said)

    def _note(self, rows: list[Any], state: str, answer: str = "") -> None:
        """Unless somebody has wanted something else meanwhile."""
        for row in rows:
            same = (SiteSetting.site == row.site) & (SiteSetting.key == row.key) & (SiteSetting.value == row.value)
            values = {"state": state, "answer": answer, "wish": row.wish}
            SiteSetting.update(**values).where(same, SiteSetting.changed_at == row.changed_at).execute()

    def _routers(self) -> None:
        """Those that were changed on other appliances; what root refused isn't asked for until it changes again."""
        differs = checks.not_applied(self._config, load_box(self._config.paths.state))
        if differs and differs != self._told:
            wishes.wish(self._config, "routers changed elsewhere")
        self._told = differs


def start(config: Config) -> None:
    threading.Thread(target=_run, args=(config,), daemon=True, name="site").start()


def _run(config: Config) -> None:
    follower, over = Follower(config), threading.Event()
    scheduler = Scheduler([Job("site", EVERY_S, lambda _: follower.look(), everywhere=True)], config.site.key)
    with contextlib.suppress(peewee.PeeweeException):
        core_db.connect()
    while True:
        scheduler.tick()
        over.wait(TICK_S)
