"""An island's queue into the central database: in order, and each entry once, whatever is killed or cut.

What an entry does and the position after it are one transaction. Entries leave the queue after that.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import peewee

from appliance.accounts.login_writes import LoginWrites
from appliance.accounts.lookup import Lookup
from appliance.accounts.pieces import sql_of
from appliance.accounts.sessions import UNREACHABLE, Sessions
from appliance.island.conflicts import Conflict, Conflicts
from appliance.island.notes import Notes
from appliance.island.queue import ADDRESS, DEVICE, FIRST, PACKET, Entry, Queue
from rlm_python.accounting import OF_A_SESSION, Packet, record

AT_ONCE = 50
LONGEST_S = 0.05  # no writer keeps others waiting for longer; at least one entry goes
_AGAIN = (*UNREACHABLE, peewee.InternalError)  # the latter also follows an error that was passed over
_LOCK = 0x67617465
_SQL = {
    # Of sites that deliver those about the same account, device or address take turns, in one order for all of them
    "turn": "SELECT pg_advisory_xact_lock(?, key)"
    " FROM (SELECT DISTINCT hashtext(name) AS key FROM unnest(?::text[]) AS name ORDER BY key) AS keys",
    "begin": "INSERT INTO island_position (site, queue, delivered, at) VALUES (?, ?, 0, ?) ON CONFLICT DO NOTHING",
    "position": "SELECT delivered, token FROM island_position WHERE site = ? AND queue = ?",
    "advance": "UPDATE island_position SET delivered = ?, token = ?, at = ? WHERE site = ? AND queue = ?",
}


class Delivery:
    """Of one site into `database`, which is open; raises peewee.PeeweeException, and may be called again then."""

    def __init__(self, database: peewee.Database, site: str, zone: ZoneInfo, hold_s: int) -> None:
        self._database = database
        self._site = site
        self._zone = zone
        self._hold_s = hold_s
        self._sql = {name: sql_of(database, text) for name, text in _SQL.items()}
        self._is_shared = not isinstance(database, peewee.SqliteDatabase)
        if self._is_shared:
            self._sql["position"] += " FOR UPDATE"  # two that deliver at once take turns

    def run(self, queue: Queue, now: int) -> int:
        """One transaction; how many entries it brought, 0 when none was left."""
        done = self._run(queue, now)
        if done is None:
            queue.begin_anew()  # what is told again changes nothing, what never was isn't lost
            done = self._run(queue, now)
        return done or 0

    def _run(self, queue: Queue, now: int) -> int | None:
        """None where the database knows this queue by what isn't in it."""
        sessions, name = Sessions(self._database), queue.name
        self._execute("begin", self._site, name, now)
        with sessions.transaction():
            position, token = self._execute("position", self._site, name).fetchone()
            if not queue.has_told(position, token):
                return None
            entries = queue.after(position, AT_ONCE)
            if self._is_shared:
                self._execute("turn", _LOCK, sorted({name for entry in entries for name in entry.names()}))
            done = self._bring(entries, sessions, now)
            if done:
                last = entries[done - 1]
                sessions.write_traffic()
                self._execute("advance", last.id, last.token, now, self._site, name)
        queue.drop(entries[done - 1].id if done else position)
        return done

    def _bring(self, entries: Sequence[Entry], sessions: Sessions, now: int) -> int:
        """How many of them were brought before it took too long."""
        until, done = time.monotonic() + LONGEST_S, 0
        conflicts = Conflicts(self._database, self._site, Lookup(self._database, self._zone, self._hold_s), now)
        used: dict[int, int] = {}  # account -> when last
        for entry in entries:
            try:
                with self._database.atomic():
                    self._effect(entry, sessions, conflicts, used)
            except _AGAIN:
                raise
            except (peewee.PeeweeException, KeyError, TypeError, ValueError) as error:  # it must not stop the others
                detail = f"{error}: {entry.kind} {entry.body}"
                conflicts.note(
                    Conflict("entry", f"{self._site} {entry.at} {entry.id}", None, entry.account(), entry.at, detail)
                )
            done += 1
            if time.monotonic() >= until:
                break
        for account_id, at in used.items():
            conflicts.quota(account_id, at)
        return done

    def _effect(self, entry: Entry, sessions: Sessions, conflicts: Conflicts, used: dict[int, int]) -> None:
        values = entry.values()
        if entry.kind != PACKET:
            notes = Notes(self._database, self._site, LoginWrites(self._database), conflicts)
            told: dict[str, Callable[..., None]] = {FIRST: notes.first, ADDRESS: notes.address, DEVICE: notes.device}
            told[entry.kind](**values)
            return
        packet = Packet._make(values.get(name) for name in Packet._fields)  # another version's may be more or fewer
        record(packet, sessions, self._zone, self._hold_s)
        account_id = sessions.account_id(packet.account, packet.mac) if packet.status in OF_A_SESSION else None
        if account_id is not None:
            used[account_id] = packet.at
            if packet.status == "Start":
                conflicts.simultaneous(account_id, packet.at)

    def _execute(self, name: str, *values: object) -> Any:
        return self._database.execute_sql(self._sql[name], values)
