"""The real FreeRADIUS on a disk that can't be waited for."""

from functools import partial
from pathlib import Path

from appliance.accounts.models import Account
from appliance.db import sqlite_path
from tests.bench import slow_disk
from tests.lab.namespace import wait_until
from tests.lab.radius import RadiusServer, radius_server

LOGINS = 5


def test_no_login_waits_for_the_disk() -> None:
    """There is none it could wait for: each flush of its process fails. What it writes is there nevertheless."""
    with radius_server() as server:
        server.plan("home")
        server.start("accounting")
        server.environment = slow_disk.environment(server.folder, fails=True)
        server.environment["DISK_FAILS_BELOW"] = str(server.config.paths.state)
        server.start("authentication")
        for number in range(LOGINS):
            name, before = f"guest{number}", times_begun(server)
            server.account(name, "home", "secret")
            wait_until(partial(has_begun_anew, server, before), 10, "a new -wal")
            assert "Received Access-Accept" in server.radclient(f'User-Name = "{name}"\nUser-Password = "secret"')
            with server.core():
                assert Account.get(name=name).first_login_at


def has_begun_anew(server: RadiusServer, before: int) -> bool:
    return times_begun(server) > before


def times_begun(server: RadiusServer) -> int:
    """The "checkpoint sequence number" in the -wal's header (https://sqlite.org/fileformat2.html#walformat)."""
    with Path(f"{sqlite_path(server.config.database_url)}-wal").open("rb") as wal:
        return int.from_bytes(wal.read(16)[12:])
