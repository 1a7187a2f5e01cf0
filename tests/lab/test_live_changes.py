"""What changes for who is online: edits, edges and used-up data reach the own gateway within seconds."""

import re
import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tests.lab import journey
from tests.lab.addresses import LAN
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.namespace import wait_until
from tests.lab.test_journey import add_account, is_online, log_in, passes
from tests.lab.world import World

ZONE = ZoneInfo("Europe/Prague")
IN_TIME_S = 2.0
SETTLE_S = 3.0  # for the clock of a busy machine, beside what is promised


def add(appliance: Appliance, name: str, *limits: str) -> None:
    """A plan and an account of one name."""
    appliance.cli("plan", "add", name, "--down", "20M", "--up", "5M", *limits)
    add_account(appliance, name, name)


def kernel_rates(appliance: Appliance, world: World) -> set[str]:
    """Rates of the classes towards guests, as tc writes them: 20Mbit."""
    device = appliance.config().gateway.lan
    return set(re.findall(r"rate (\S+) ceil", world.gw.run("tc", "class", "show", "dev", device).stdout))


def within(appliance: Appliance, world: World, rate: str) -> float:
    """Seconds until the kernel shapes to this rate."""
    began = time.monotonic()
    wait_until(
        lambda: rate in kernel_rates(appliance, world),
        15,
        f"a class of {rate}, there are {kernel_rates(appliance, world)}",
    )
    return time.monotonic() - began


def online(appliance: Appliance, account: str) -> None:
    """Accounting has told the server, so that it knows whom to change."""
    wait_until(
        lambda: any(not row["ended"] for row in appliance.json("session", "list", "--account", account)), 10, "Start"
    )


def test_an_edited_plan_changes_the_speed_of_who_is_online(appliance: Appliance, world: World, guest: Guest) -> None:
    add(appliance, "edited")
    log_in(guest, "edited")
    online(appliance, "edited")
    appliance.cli("plan", "set", "edited", "--down", "3M")
    assert within(appliance, world, "3Mbit") < IN_TIME_S + SETTLE_S
    assert is_online(guest)
    (change,) = appliance.json("session", "changes", "--all")[:1]
    assert (change["account"], change["kind"], change["reason"]) == ("edited", "coa", "speed")


def test_a_blocked_account_is_cut(appliance: Appliance, guest: Guest) -> None:
    add(appliance, "blocked")
    log_in(guest, "blocked")
    online(appliance, "blocked")
    appliance.cli("account", "set", "blocked", "--block")
    began = time.monotonic()
    wait_until(lambda: not passes(guest), 10, "the cut")
    assert time.monotonic() - began < IN_TIME_S + SETTLE_S
    wait_until(lambda: not appliance.json("session", "changes"), 10, "the proof by accounting")


def test_an_earlier_last_day_ends_the_session_on_time(appliance: Appliance, guest: Guest) -> None:
    add(appliance, "expiring")
    log_in(guest, "expiring")
    online(appliance, "expiring")
    end = datetime.now(ZONE).replace(microsecond=0) + timedelta(seconds=5)
    appliance.cli("account", "set", "expiring", "--valid-until", end.strftime("%Y-%m-%dT%H:%M:%S"))
    wait_until(lambda: not passes(guest), 15, "the cut")
    assert -1 <= (datetime.now(ZONE) - end).total_seconds() < IN_TIME_S + SETTLE_S


def test_used_up_data_slows_down_and_cuts_nobody(appliance: Appliance, world: World, guest: Guest) -> None:
    add(appliance, "heavy", "--quota", "4M/day", "--slow", "1M/512k")
    log_in(guest, "heavy")
    online(appliance, "heavy")
    guest.iperf("down", seconds=4)
    assert within(appliance, world, "1Mbit") < IN_TIME_S + SETTLE_S
    assert is_online(guest)


def test_a_window_brings_its_own_speed(appliance: Appliance, world: World, guest: Guest) -> None:
    start = (datetime.now(ZONE) + timedelta(seconds=70)).replace(second=0, microsecond=0)
    windows = f"daily 00:00-24:00, daily {start:%H:%M}-{start + timedelta(hours=1):%H:%M} @7M/2M"
    add(appliance, "night", "--windows", windows)
    log_in(guest, "night")
    online(appliance, "night")
    time.sleep(max(0.0, (start - datetime.now(ZONE)).total_seconds() - 5))
    assert "7Mbit" not in kernel_rates(appliance, world)
    time.sleep(max(0.0, (start - datetime.now(ZONE)).total_seconds()))
    assert within(appliance, world, "7Mbit") < IN_TIME_S + SETTLE_S


def test_jobs_killed_go_on_where_they_were(appliance: Appliance, world: World, guest: Guest) -> None:
    add(appliance, "killed")
    log_in(guest, "killed")
    online(appliance, "killed")
    appliance.kill("jobs")
    appliance.cli("plan", "set", "killed", "--down", "6M")
    within(appliance, world, "6Mbit")


def test_a_remembered_device_needs_no_second_login(appliance: Appliance, guest: Guest) -> None:
    add(appliance, "family", "--devices", "2")
    url = journey.find_portal(guest)
    form = journey.Form.on(guest.curl(url).body, url)
    typed = {form.types["text"]: "family", form.types["password"]: "correct horse", "remember": "1"}
    assert guest.curl(form.action, form={**form.fields, **typed}).status == 303
    online(appliance, "family")
    appliance.cli("session", "remove", "family")
    wait_until(lambda: not passes(guest), 10, "the cut")
    answer = guest.curl(journey.find_portal(guest))
    assert (answer.status, answer.redirect) == (303, f"http://{LAN.ip}/status")
    assert is_online(guest)
    journey.log_out(guest)
    assert "password" in journey.Form.on(guest.curl(url).body, url).types


def test_what_can_not_be_used_is_told_with_its_sender(appliance: Appliance, world: World) -> None:
    """FreeRADIUS itself is silent about it; the first look only remembers what was counted before."""
    time.sleep(11)
    port = appliance.config().radius.authentication_port
    junk = r"printf '\001\001\000\026aaaaaaaaaaaaaaaa\001\000'"  # an Access-Request whose attribute has no length
    world.gw.run("sh", "-c", f"{junk} | socat -u - UDP:127.0.0.1:{port}")
    line = "router gateway (127.0.0.1): 1 request that can't be used"
    wait_until(lambda: line in appliance.log("jobs"), 25, "a line")
