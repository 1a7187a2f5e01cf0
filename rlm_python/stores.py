"""Which database logins and accounting ask: the one there is, or a site's own copy while the central one is away.

The first call that finds the central database gone goes on with the copy, and so do all after it: a thread of its own
tries to reach the central one again, so that nobody waits for that.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import peewee

from appliance import db
from appliance.accounts.login_writes import LoginWrites
from appliance.accounts.lookup import Lookup
from appliance.accounts.sessions import UNREACHABLE, Sessions
from appliance.accounts.terms import Account
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.errors import Unavailable
from appliance.island import places, snapshot
from appliance.island.offline import Admission
from appliance.island.queue import ADDRESS, DEVICE, FIRST, PACKET, Queue
from rlm_python.accounting import Packet, record

BUSY_TIMEOUT_MS = 200  # a foreign writer that stalls may hold up a login this long and no longer
RETRY_S = 1.0
_STOP_S = 3.0
_GONE = ("08", "57P")  # SQLSTATEs: no connection, and the server is shut down or starting
_READ_ONLY = "25006"  # a primary of yesterday

Log = Callable[[str], None]


def is_gone(error: Exception) -> bool:
    """Whether the server itself is away; not for a lock that wasn't given in time, say."""
    if not isinstance(error, UNREACHABLE):
        return False
    code = str(getattr(error.__cause__ or error.__context__, "pgcode", None) or "")  # psycopg2's own error
    return not code or code.startswith(_GONE) or code == _READ_ONLY


class Store:
    """A database as logins and accounting see it. Opening it raises peewee.PeeweeException."""

    is_own_copy = False

    def __init__(self, database: peewee.Database, config: Config) -> None:
        self.database = database
        self._zone = config.site.timezone
        self._silent_s = config.radius.silent_s
        database.connect()
        self.lookup = Lookup(database, self._zone, self._silent_s)
        self.login_writes = LoginWrites(database)
        self.sessions = Sessions(database)

    def record(self, packet: Packet) -> None:
        """Committed when it returns."""
        record(packet, self.sessions, self._zone, self._silent_s)

    def close(self) -> None:
        if not self.database.is_closed():
            self.database.close()


class CopyStore(Store):
    """A site's own copy, and the queue of what the central database is to be told. Raises UserError too."""

    is_own_copy = True

    def __init__(self, copy: snapshot.Copy, config: Config, box: SecretBox, queue: Queue, log: Log) -> None:
        database = db.connect(f"sqlite:///{copy.path}", BUSY_TIMEOUT_MS, durable=False, shared=True)
        super().__init__(database, config)  # nothing here waits for the disk: what must not be lost is in the queue
        self.name = copy.path.name
        self.queue = queue
        self._log = log
        admission = Admission(self.database, config.site.key, box, self._zone)
        self.good_until = copy.taken_at + config.island.max_age_s
        self.lookup = _CopyLookup(self.database, config, admission, self.good_until)
        self.login_writes = _CopyWrites(self.database, queue, log)

    def record(self, packet: Packet) -> None:
        """In the queue, on disk, when it returns; the copy is only for limits, and may miss one."""
        self.queue.put(PACKET, packet.received_at, packet._asdict())
        try:
            super().record(packet)
        except peewee.PeeweeException as error:
            self._log(f"an accounting packet is queued, but the site's own copy couldn't count it: {error}")


class _CopyLookup(Lookup):
    """Knows offline vouchers that the copy has no row of, and when the copy is too old."""

    def __init__(self, database: peewee.Database, config: Config, admission: Admission, good_until: int) -> None:
        super().__init__(database, config.site.timezone, config.radius.silent_s)
        self._admission = admission
        self._good_until = good_until

    def account(self, name: str, mac: str, now: int) -> Account | None:
        if now > self._good_until:
            raise Unavailable("the central database can't be reached, and the site's own copy is too old for logins")
        found = super().account(name, mac, now)
        if found is None and self._admission.make_known(name, now):
            found = super().account(name, mac, now)
        return found


class _CopyWrites(LoginWrites):
    """Notes in the queue what the central database has to know, by names: a row made here has a number of its own."""

    def __init__(self, database: peewee.Database, queue: Queue, log: Log) -> None:
        super().__init__(database)
        self._queue = queue
        self._log = log

    def note_first_login(self, account_id: int, now: int) -> None:
        super().note_first_login(account_id, now)
        self._tell(FIRST, now, account_id)

    def reserve_address(self, pool_id: int, account_id: int, mac: str, now: int, hold_s: int) -> str | None:
        """Where the queue can't take a note of it, the address isn't given: raises peewee.PeeweeException."""
        ip = super().reserve_address(pool_id, account_id, mac, now, hold_s)
        if ip is not None:
            self._put(ADDRESS, now, account_id, mac=mac, ip=ip, until=now + hold_s)
        return ip

    def remember(self, account_id: int, mac: str, limit: int, now: int) -> None:
        super().remember(account_id, mac, limit, now)
        self._tell(DEVICE, now, account_id, mac=mac, limit=limit)

    def forget(self, mac: str) -> None:
        super().forget(mac)
        self._tell(DEVICE, int(time.time()), None, mac=mac, limit=0)

    def _tell(self, kind: str, now: int, account_id: int | None, **values: object) -> None:
        """What no login waits for: accounting says the same soon, or it is the guest's comfort only."""
        try:
            self._put(kind, now, account_id, **values)
        except peewee.PeeweeException as error:
            self._log(f"what a login wrote down can't be queued: {error}")

    def _put(self, kind: str, now: int, account_id: int | None, **values: object) -> None:
        row = self._database.execute_sql("SELECT name FROM account WHERE id = ?", (account_id,)).fetchone()
        self._queue.put(kind, now, {"account": str(row[0]) if row else "", "at": now, **values})


class Stores:
    """Of one FreeRADIUS process. Raises UserError or peewee.PeeweeException where nothing can be asked at all."""

    def __init__(self, config: Config, box: SecretBox, accounting: bool, log: Log) -> None:
        self._config = config
        self._box = box
        self._accounting = accounting
        self._log = log
        self._single = not places.is_wanted(config)
        self._link = places.copy_link(config)
        self._queue: Queue | None = None
        self._found: Store | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._store = self._first()

    def _first(self) -> Store:
        try:
            if not self._single and not self._open_queue().is_empty():
                raise peewee.OperationalError("what happened here before waits to be told first")
            return self._central()
        except (peewee.PeeweeException, OSError) as error:
            own = None if self._single else self._own_copy()
            if own is None:
                raise
            self._log(f"the site's own copy is asked: {error}")
            self._look_out()
            return own

    def now(self) -> Store:
        """For one call. Raises peewee.PeeweeException and UserError."""
        return self._followed(self._store) if self._store.is_own_copy else self._store

    def lost(self, error: Exception) -> bool:
        """Whether another database is asked from now on, so that the call is worth another try."""
        if self._single or self._store.is_own_copy or not is_gone(error):
            return False
        own = self._own_copy()
        if own is None:
            return False
        before, self._store = self._store, own
        self._log(f"the central database can't be reached, the site's own copy is asked: {error}")
        before.close()
        self._look_out()
        return True

    def close(self) -> None:
        """After a failure: what is asked next opens it anew."""
        self._store.close()

    def stop(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
        for store in (self._store, self._found):
            if store is not None:
                store.close()
        if self._queue is not None:
            self._queue.close()

    def _central(self) -> Store:
        """Each commit waits for the disk in accounting; of SQLite raddb/durable.pl takes care."""
        durable = self._accounting and not self._single
        return Store(db.connect(self._config.database_url, BUSY_TIMEOUT_MS, durable, shared=True), self._config)

    def _open_queue(self) -> Queue:
        """An accounting packet is answered when it is on disk, a login waits for none."""
        if self._queue is None:
            path = places.queue_file(self._config)
            self._queue = Queue(path, durable=self._accounting, busy_timeout_ms=BUSY_TIMEOUT_MS, shared=True)
        return self._queue

    def _own_copy(self) -> CopyStore | None:
        copy = snapshot.current(self._link)
        if copy is None:
            return None
        try:
            return CopyStore(copy, self._config, self._box, self._open_queue(), self._log)
        except (peewee.PeeweeException, OSError) as error:
            self._log(f"the site's own copy can't be used: {error}")
            return None

    def _followed(self, store: Store) -> Store:
        """The central database once it is there and knows what happened here, else the newest copy.

        Until then addresses that were given here would be free there. But too old a copy helps no login.
        """
        found = self._found
        if found is not None and (self._open_queue().is_empty() or (not self._accounting and _is_too_old(store))):
            self._store, self._found = found, None
            self._log("the central database is asked again")
            store.close()
            return found
        if isinstance(store, CopyStore) and _target(self._link) not in (store.name, ""):
            newer = self._own_copy()
            if newer is not None:
                self._store = newer
                store.close()
        return self._store

    def _look_out(self) -> None:
        self._thread = threading.Thread(target=self._await_central, name="central database", daemon=True)
        self._thread.start()

    def _await_central(self) -> None:
        while not self._ending.wait(RETRY_S):
            try:
                store = self._central()
            except (peewee.PeeweeException, OSError):
                continue
            self._found = store
            return


def _is_too_old(store: Store) -> bool:
    return isinstance(store, CopyStore) and time.time() > store.good_until


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 (each call of a login asks)
    except OSError:
        return ""
