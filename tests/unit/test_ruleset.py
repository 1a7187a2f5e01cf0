"""portal/ruleset.py: what nft itself says about the text; what it does to packets is in tests/lab."""

import json
import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.config import Config, Gateway
from appliance.nas import tunnel
from portal import ruleset
from portal.models import Session

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="nft needs root, even to check a file")

CONFIG = Config(gateway=Gateway(lan="lan.10", wan="ppp0", addresses=(IPv4Network("198.51.100.0/28"),)))


def session(number: int = 0, **more: Any) -> Session:
    words: dict[str, Any] = {
        "id": f"{number:016x}",
        "ip": IPv4Address("10.10.0.2") + number,
        "mac": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        "account": "anna",
        "session_class": "",
        "address": None,
        "minor": 0x10 + number,
        "down_bps": 0,
        "up_bps": 0,
        "idle_timeout_s": None,
        "quota_bytes": None,
        "interim_interval_s": 300,
        "started_boot_s": 0.0,
        "deadline_boot_s": None,
        "boot_id": "",
    }
    return Session(**{**words, **more})


ONE_TO_ONE = session(1, address=IPv4Address("198.51.100.3"))


class Nft:
    """A namespace of its own for nft."""

    def __init__(self) -> None:
        self.name = f"ghk{os.getpid()}-nft"
        subprocess.run(["ip", "netns", "add", self.name], check=True)

    def run(self, text: str, *words: str) -> str:
        """Raises AssertionError with nft's complaint."""
        command = ["ip", "netns", "exec", self.name, "nft", *(words or ("-f", "-"))]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def elements(self, kind: str, name: str) -> list[Any]:
        listed = json.loads(self.run("", "-j", "list", kind, *ruleset.TABLE.split(), name))
        found = next(item[kind] for item in listed["nftables"] if kind in item)
        return list(found.get("elem", []))

    def close(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=True)


@pytest.fixture(scope="module")
def nft() -> Iterator[Nft]:
    space = Nft()
    yield space
    space.close()


@pytest.fixture
def loaded(nft: Nft) -> Nft:
    nft.run(ruleset.render_anew(CONFIG, []))
    return nft


def test_the_table_is_accepted_with_and_without_public_addresses(nft: Nft) -> None:
    nft.run(ruleset.render(Config(), []), "-c", "-f", "-")
    nft.run(ruleset.render(CONFIG, [(session(), 5.5), (ONE_TO_ONE, None)]), "-c", "-f", "-")


def test_rendering_twice_leaves_the_same(loaded: Nft) -> None:
    online: list[ruleset.Online] = [(session(), None), (ONE_TO_ONE, None)]
    loaded.run(ruleset.render(CONFIG, online))
    first = loaded.run("", "list", "ruleset")
    loaded.run(ruleset.render(CONFIG, online))
    assert loaded.run("", "list", "ruleset") == first
    assert loaded.elements("map", "in") == [["198.51.100.3", "10.10.0.3"]]


def test_rendering_forgets_who_isnt_online_any_more(loaded: Nft) -> None:
    online: list[ruleset.Online] = [(session(), None), (ONE_TO_ONE, 60)]
    loaded.run(ruleset.render(CONFIG, online))
    loaded.run(ruleset.render(CONFIG, [], stale=[(session.ip, session.minor) for session, _ in online]))
    for name, (kind, _) in ruleset._SETS.items():
        assert loaded.elements(kind, name) == []


def test_another_configuration_replaces_the_rules(loaded: Nft) -> None:
    loaded.run(ruleset.render(Config(gateway=Gateway(lan="wlan9")), []))
    listed = loaded.run("", "list", "ruleset")
    assert "wlan9" in listed
    assert "lan.10" not in listed


def test_a_table_declared_in_another_way_is_replaced_anew(nft: Nft) -> None:
    nft.run(f"add table {ruleset.TABLE}\ndelete table {ruleset.TABLE}\nadd table {ruleset.TABLE}\n")
    nft.run(f"add set {ruleset.TABLE} auth {{ type ipv4_addr; }}\n")
    with pytest.raises(AssertionError):
        nft.run(ruleset.render(CONFIG, []))
    nft.run(ruleset.render_anew(CONFIG, []))


def test_adding_and_removing_leaves_the_others(loaded: Nft) -> None:
    before = loaded.run("", "list", "ruleset")
    loaded.run(ruleset.add(session(), None))
    between = loaded.run("", "list", "ruleset")
    loaded.run(ruleset.add(ONE_TO_ONE, 60))
    loaded.run(ruleset.remove(ONE_TO_ONE) + ruleset.forget(ONE_TO_ONE))
    assert loaded.run("", "list", "ruleset") == between
    loaded.run(ruleset.remove(session()) + ruleset.forget(session()))
    assert loaded.run("", "list", "ruleset") == before


def test_removing_what_has_timed_out_is_no_error(loaded: Nft) -> None:
    loaded.run(ruleset.remove(ONE_TO_ONE))
    loaded.run(ruleset.remove(ONE_TO_ONE))


def test_neither_a_new_time_nor_the_cut_nor_a_new_table_resets_the_counter(loaded: Nft) -> None:
    counted = "10.10.0.3 counter packets 7 bytes 7000 : 1:11"
    loaded.run(f"add element {ruleset.TABLE} up {{ {counted} }}")
    loaded.run(ruleset.add(ONE_TO_ONE, 10))
    loaded.run(ruleset.retime(ONE_TO_ONE, 100))
    loaded.run(ruleset.remove(ONE_TO_ONE))
    loaded.run(ruleset.render(CONFIG, [(ONE_TO_ONE, 60)]))
    assert counted in loaded.run("", "list", "map", *ruleset.TABLE.split(), "up")


def test_a_new_time_replaces_the_old_one_in_every_set(loaded: Nft) -> None:
    loaded.run(ruleset.add(ONE_TO_ONE, 10))
    loaded.run(ruleset.retime(ONE_TO_ONE, 100_000))
    for kind, name in (("set", "auth"), ("map", "down"), ("map", "out"), ("map", "in")):
        (element,) = loaded.elements(kind, name)
        timed = element["elem"] if kind == "set" else element[0]["elem"]
        assert timed["timeout"] == 100_000
    loaded.run(ruleset.retime(ONE_TO_ONE, None))
    assert "expires" not in loaded.run("", "list", "set", *ruleset.TABLE.split(), "auth")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(remaining_s=st.floats(0, 10**10))
@pytest.mark.parametrize("seconds", [0.0001, 1, 49.7 * 86_400, 50 * 86_400, 10**9])
def test_every_time_is_accepted_and_none_becomes_for_ever(loaded: Nft, seconds: float, remaining_s: float) -> None:
    for left_s in (seconds, remaining_s):
        text = ruleset.add(session(), left_s)
        assert "timeout 0d0s0ms" not in text
        loaded.run(text, "-c", "-f", "-")


def test_fullest_and_emptiest_minor(loaded: Nft) -> None:
    loaded.run(ruleset.add(session(0, minor=0x10), None) + ruleset.add(session(1, minor=0xFFFE), None))
    assert "1:fffe" in loaded.run("", "list", "map", *ruleset.TABLE.split(), "down")


def test_no_packet_passes_because_its_flow_is_established() -> None:
    """Only what comes back to a guest may ask for the state, and is looked up nevertheless."""
    forward = ruleset.render(CONFIG, []).partition("chain forward {\n")[2].partition("}")[0]
    accepting = [line for line in forward.splitlines() if line.endswith("accept")]
    assert len(accepting) == 3
    assert all("@up" in line or "@down" in line for line in accepting)


def test_a_tunnel_brings_radius_and_nothing_else(nft: Nft) -> None:
    nft.run(tunnel.rules(CONFIG))
    nft.run(tunnel.rules(CONFIG))  # once more does no harm
    chain = nft.run("", "list", "chain", *tunnel.TABLE.split(), "input")
    assert [line.strip() for line in chain.splitlines()[3:-2]] == [
        'iifname != "gatehouse" accept',
        "ct state established,related accept",
        "udp dport { 1812, 1813, 2055 } accept",
        "icmp type echo-request accept",
        "drop",
    ]
    chain = nft.run("", "list", "chain", *tunnel.TABLE.split(), "forward")
    assert 'iifname "gatehouse" drop' in chain and 'oifname "gatehouse" drop' in chain
    nft.run(tunnel.no_rules())
    assert "gatehouse-tunnel" not in nft.run("", "list", "tables")
