"""Of appliances that share a database one does what is common, though they are of one image and their clocks differ."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import config, mail
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.dealers import keeper

pytestmark = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
AHEAD_S = 1000


class Noting(mail.Sender):
    """Notes when it had to send."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, SecretBox(bytes(32)))
        self.at: list[int] = []

    def run(self, now: int) -> None:
        self.at.append(now)


def site(toml: Path, key: str, host: str = "mail.example.net") -> Config:
    loaded = config.load(toml)
    sends = replace(loaded.mail, host=host, sender=host and f"wifi@{host}")
    return replace(loaded, site=replace(loaded.site, key=key), mail=sends)


@contextmanager
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = time.time
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: real() + AHEAD_S)
        yield


def test_one_appliance_sends_messages(toml: Path) -> None:
    north, south = site(toml, "north"), site(toml, "south")
    with closing(Noting(north)) as one, closing(Noting(south)) as other, core_db.connection_context():
        now = int(time.time())
        mail.send_unless_the_jobs_do(north, one, "dealers", now)
        for clock in (now, now + AHEAD_S):
            mail.send_unless_the_jobs_do(south, other, "dealers", clock)
        mail.send_unless_the_jobs_do(north, one, "admin", now)
        mail.send_unless_the_jobs_do(north, one, "dealers", now + AHEAD_S)
        assert (len(one.at), other.at) == (2, [])
        assert max(one.at) < now + AHEAD_S, "as the database's clock has it"


def test_an_appliance_without_a_mail_server_leaves_messages_to_the_others(toml: Path) -> None:
    north, south = site(toml, "north", host=""), site(toml, "south")
    with closing(Noting(north)) as one, closing(Noting(south)) as other, core_db.connection_context():
        mail.send_unless_the_jobs_do(north, one, "dealers", int(time.time()))
        mail.send_unless_the_jobs_do(south, other, "dealers", int(time.time()))
        assert (len(one.at), len(other.at)) == (0, 1)


def test_one_keeper_works_at_the_databases_time(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = keeper.Lead(site(toml, "north")), keeper.Lead(site(toml, "south"))
    with core_db.connection_context():
        began = time.time()
        assert one.time() is not None
        with ahead(monkeypatch):
            assert other.time() is None
            assert keeper.Lead(site(toml, "north")).time() is not None, "the same one after a restart"
            assert (one.time() or 0) < began + AHEAD_S
