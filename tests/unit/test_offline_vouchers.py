"""Codes that an island takes though it never heard of them: signed for one site, good until a day, hard to guess."""

import json
import time
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import config as configuration
from appliance import db
from appliance.accounts import sheets, vouchers
from appliance.accounts.database import open_core
from appliance.accounts.models import Account, Plan, VoucherBatch, core_db
from appliance.accounts.terms import ALPHABET
from appliance.crypto import load_box
from appliance.island import offline, snapshot
from appliance.island.delivery import Delivery
from appliance.island.models import IslandConflict
from appliance.island.offline import Admission, Terms
from appliance.island.queue import FIRST, Queue
from appliance.island.signing import ensure_key
from tests.unit.conftest import Gatehouse

ZONE = ZoneInfo("Europe/Prague")
KEY, OTHER = b"k" * 32, b"o" * 32
NOW = int(time.time())
LAST_DAY = date.today() + timedelta(days=400)
TERMS = st.builds(Terms, *(st.integers(0, most) for most in offline.MOST.values()))
postgresql = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)


@settings(max_examples=200, deadline=None)
@given(TERMS, st.integers(0, offline.LENGTH - 1), st.sampled_from(ALPHABET))
def test_what_is_read_is_what_was_signed_and_nothing_else_is(terms: Terms, place: int, other: str) -> None:
    code = offline.code(KEY, terms)
    assert len(code) == offline.LENGTH == 20
    assert offline.read(KEY, code) == terms
    assert offline.read(OTHER, code) is None  # another site's key
    changed = code[:place] + other + code[place + 1 :]
    assert offline.read(KEY, changed) == (terms if changed == code else None)
    swapped = code[:place] + code[place + 1 : place + 2] + code[place : place + 1] + code[place + 2 :]
    assert offline.read(KEY, swapped) == (terms if swapped == code else None)


@settings(max_examples=300, deadline=None)
@given(st.text(ALPHABET, min_size=offline.LENGTH, max_size=offline.LENGTH) | st.text(max_size=30))
def test_guesses_are_refused(text: str) -> None:
    assert offline.read(KEY, text) is None


def test_a_signature_of_forty_bits_and_no_field_beyond_its_own() -> None:
    assert offline.MAC_BITS >= 40
    with pytest.raises(ValueError, match="batch_id"):
        offline.code(KEY, Terms(1, 2**15, 1, 1))


@pytest.fixture
def site(toml: Path) -> Path:
    toml.write_text(toml.read_text().replace("[site]\n", '[site]\nkey = "north"\n'))
    return toml


def made(gatehouse: Gatehouse, batch: str = "kiosk", *more: str) -> list[str]:
    words = ("--plan", "week", "--count", "3", "--unused-until", f"{LAST_DAY}")
    assert gatehouse("voucher", "add", batch, *words, "--offline", *more)[0] == 0
    return [str(row["code"]) for row in json.loads(gatehouse("voucher", "list", batch, "--json")[1])]


@postgresql
class TestABatch:
    @pytest.fixture(autouse=True)
    def plan(self, gatehouse: Gatehouse, site: Path) -> None:
        assert gatehouse("plan", "add", "week", "--validity", "7d")[0] == 0

    def test_it_is_like_any_other(self, gatehouse: Gatehouse, site: Path) -> None:
        codes = made(gatehouse)
        loaded = configuration.load(site)
        with open_core(loaded):
            batch, account = VoucherBatch.get(), Account.get(name=codes[0])
            key = ensure_key(core_db.obj, "north", load_box(loaded.paths.state))
            day = offline.day_number(LAST_DAY)
            wanted = [Terms(account.plan.id, batch.id, serial, day) for serial in range(3)]
            assert [offline.read(key, code) for code in codes] == wanted
            assert load_box(loaded.paths.state).open(account.password) == codes[0]
            assert sheets.pdf(batch, codes, "a4", loaded).startswith(b"%PDF")
            other = ensure_key(core_db.obj, "south", load_box(loaded.paths.state))
            assert offline.read(other, codes[0]) is None

    def test_what_cant_be_made(self, gatehouse: Gatehouse, site: Path) -> None:
        words = ("voucher", "add", "kiosk", "--plan", "week", "--count", "3")
        assert "need a last day" in gatehouse(*words, "--offline")[2]
        until = ("--unused-until", f"{LAST_DAY}")
        assert "there is no site 'west'" in gatehouse(*words, *until, "--offline", "west")[2]
        late = ("--unused-until", "2099-01-01")
        assert "too far away" in gatehouse(*words, *late, "--offline")[2]

    def test_a_copy_that_has_never_heard_of_it_takes_it(self, gatehouse: Gatehouse, site: Path, tmp_path: Path) -> None:
        code, removed = made(gatehouse)[:2]
        loaded = configuration.load(site)
        box, copy = load_box(loaded.paths.state), db.connect(f"sqlite:///{tmp_path}/copy.db")
        with open_core(loaded):
            key, plan_id = ensure_key(core_db.obj, "north", box), Plan.get().id
            batch_id = VoucherBatch.get().id
        with copy.connection_context():
            db.migrate(copy, db.migrations("appliance.migrations"))
            copy.execute_sql(offline.NOTED)
            copy.execute_sql("INSERT INTO copied (batches) VALUES (?)", (batch_id - 1,))
            assert not Admission(copy, "north", box, ZONE).make_known(code, NOW)  # there is no key
            sealed = box.seal(key.hex())
            copy.execute_sql("INSERT INTO offline_key (site, secret, created_at) VALUES ('north', ?, 1)", (sealed,))
            admission = Admission(copy, "north", box, ZONE)
            assert not admission.make_known(code, NOW)  # nor such a plan
            copy.execute_sql("INSERT INTO plan (id, name) VALUES (?, 'week')", (plan_id,))
            over = offline.ends_at(Terms(1, 1, 1, offline.day_number(LAST_DAY)), ZONE)
            assert not admission.make_known(code, over)
            typed = vouchers.grouped(code).upper().replace(" ", " - ")
            assert admission.make_known(typed, over - 1)
            assert not admission.make_known(code, NOW)  # it is there now
            row = copy.execute_sql("SELECT name, plan_id, batch_id, enabled FROM account").fetchone()
            assert row == (code, plan_id, batch_id, 1)
            copy.execute_sql("UPDATE copied SET batches = ?", (batch_id,))
            assert not Admission(copy, "north", box, ZONE).make_known(removed, NOW)  # the copy has all that are left

    def test_what_was_removed_is_good_nowhere(self, gatehouse: Gatehouse, site: Path, tmp_path: Path) -> None:
        """Also a whole batch, of which no row is left, and after an island has told of it."""
        (code, *_), loaded = made(gatehouse, "offline-summer"), configuration.load(site)
        assert gatehouse("voucher", "remove", "offline-summer")[0] == 0
        box, link = load_box(loaded.paths.state), tmp_path / "core.db"
        with open_core(loaded):
            ensure_key(core_db.obj, "north", box)
            found = snapshot.take(core_db.obj, link, "north", ZONE, NOW)
            copy = db.connect(f"sqlite:///{found.path}")
            with copy.connection_context():
                assert not Admission(copy, "north", box, ZONE).make_known(code, NOW)
            queue = Queue(tmp_path / "queue.db")
            queue.put(FIRST, NOW, {"account": code, "at": NOW})
            Delivery(core_db.obj, "north", ZONE, 900).run(queue, NOW)
            queue.close()
            assert not Account.select().exists()
            assert IslandConflict.get().kind == "account"


def test_one_appliance_alone_has_none(gatehouse: Gatehouse, empty_url: str) -> None:
    if empty_url.startswith("sqlite"):
        gatehouse("plan", "add", "week")
        words = ("--plan", "week", "--count", "3", "--unused-until", f"{LAST_DAY}", "--offline")
        assert "sites that share a database" in gatehouse("voucher", "add", "kiosk", *words)[2]
