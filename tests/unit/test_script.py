"""The RouterOS script, pasted into a stand-in for its terminal (routeros.py says what that is worth)."""

import copy
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import apply, config, modules
from appliance.accounts.database import open_core
from appliance.errors import UserError
from appliance.nas import reach, tunnel
from appliance.nas.models import Nas
from appliance.nas.script import SERVICES, Backup, Script, Tunnel, quoted, render
from appliance.vault.routeros import balanced
from collector.module import NETFLOW
from tests.unit.routeros import Refused, Router, literal, parse
from tests.unit.test_cli import Run, file, run  # noqa: F401 (fixtures)

KEY = "aN3kRROvmMcrFmF8pV5xe0uMiV3+0VYvBqK3zS8eC1w="
PLAIN = Script("attic", 7, "192.0.2.1", "192.0.2.1", "0123456789abcdef")
ALL = replace(
    PLAIN,
    services=SERVICES,
    ntp="192.0.2.123",
    flows_port=2055,
    server="10.99.0.1",
    tunnel=Tunnel(KEY, "10.99.0.2", KEY[::-1].replace("=", "") + "=", "192.0.2.1", 51820),
)
RADSEC = replace(PLAIN, radsec_certificate="router.crt_0")
SIX = replace(ALL, routeros=6, tunnel=None, server="192.0.2.1")


def fresh(version: tuple[int, int]) -> Router:
    """A router after /ip hotspot setup and a DHCP server, with a rule and a RADIUS server of the operator's own."""
    objects: dict[str, list[dict[str, str]]] = {
        "/ip hotspot profile": [{"name": "default"}, {"name": "hsprof1", "login-by": "cookie"}],
        "/ip dhcp-server": [{"name": "dhcp1"}, {"name": "dhcp2"}],
        "/ip firewall filter": [{"chain": "forward"}, {"chain": "input", "action": "drop"}],
        "/radius": [{"address": "203.0.113.9", "service": "login", "secret": "theirs"}],
    }
    return Router(version, objects)


BACKUP = Backup(21, "router-attic", 'pa"$s?', "")


@pytest.mark.parametrize(
    ("script", "version"),
    [
        (replace(PLAIN, backup=BACKUP), (7, 16)),
        (replace(SIX, backup=BACKUP), (6, 49)),
        (PLAIN, (7, 16)),
        (ALL, (7, 16)),
        (ALL, (7, 8)),
        (SIX, (6, 49)),
        (RADSEC, (7, 16)),
    ],
    ids=str,
)
def test_pasted_twice_it_is_the_same(script: Script, version: tuple[int, int]) -> None:
    router = fresh(version)
    router.paste(render(script))
    once = copy.deepcopy(router.objects)
    router.paste(render(script))
    assert router.objects == once
    changed = replace(script, server="192.0.2.99", secret="fedcba9876543210")
    router.paste(render(changed))
    assert [r["address"] for r in router.objects["/radius"]] == ["203.0.113.9", "192.0.2.99"]
    assert len(router.objects["/ip firewall filter"]) == 3


def test_what_the_operator_has_stays() -> None:
    before, router = fresh((7, 16)).objects, fresh((7, 16))
    router.paste(render(ALL))
    assert router.objects["/radius"][0] == before["/radius"][0]
    assert router.objects["/ip hotspot profile"][0] == before["/ip hotspot profile"][0]
    assert router.objects["/ip dhcp-server"][1] == before["/ip dhcp-server"][1]
    assert [r for r in router.objects["/ip firewall filter"] if "comment" not in r] == before["/ip firewall filter"]
    assert router.said == ["gatehouse: done"]


def test_everything_on_version_7() -> None:
    router = fresh((7, 16))
    router.paste(render(ALL))
    radius = router.objects["/radius"][1]
    assert radius == {
        "comment": "gatehouse",
        "service": "hotspot,ppp,dhcp,wireless",
        "address": "10.99.0.1",
        "secret": "0123456789abcdef",
        "authentication-port": "1812",
        "accounting-port": "1813",
        "timeout": "1s",
        "src-address": "10.99.0.2",
        "protocol": "udp",
        "require-message-auth": "yes-for-request-resp",
    }
    assert router.objects["/radius incoming"] == [{"accept": "yes", "port": "1700"}]
    rule = {"chain": "input", "protocol": "udp", "src-address": "10.99.0.1", "dst-port": "1700"}
    assert router.objects["/ip firewall filter"][1] == {"comment": "gatehouse", "action": "accept", **rule}
    assert router.objects["/ip firewall filter"][2]["action"] == "drop"
    assert router.objects["/ip hotspot profile"][1] == {
        "name": "hsprof1",
        "login-by": "mac,mac-cookie,http-chap",
        "mac-auth-mode": "mac-as-username-and-password",
        "use-radius": "yes",
        "radius-accounting": "yes",
        "radius-interim-update": "received",
    }
    (garden,) = router.objects["/ip hotspot walled-garden ip"]
    assert (garden["action"], garden["dst-address"], garden["dst-port"]) == ("accept", "192.0.2.1", "80,443")
    assert router.objects["/ppp aaa"] == [{"use-radius": "yes", "accounting": "yes"}]
    assert router.objects["/ip dhcp-server"][0]["use-radius"] == "yes"
    assert router.objects["/system ntp client servers"] == [{"address": "192.0.2.123"}]
    (flows,) = router.objects["/ip traffic-flow target"]
    assert flows == {
        "dst-address": "10.99.0.1",
        "port": "2055",
        "version": "ipfix",
        "v9-template-refresh": "20",
        "v9-template-timeout": "1m",
        "src-address": "10.99.0.2",
    }
    times = {"active-flow-timeout": "1m", "inactive-flow-timeout": "15s"}
    assert router.objects["/ip traffic-flow"] == [{"enabled": "yes", **times}]


def test_the_tunnel() -> None:
    assert ALL.tunnel
    router = fresh((7, 16))
    router.paste(render(ALL))
    assert router.objects["/interface wireguard"] == [{"comment": "gatehouse", "name": "gatehouse", "private-key": KEY}]
    (peer,) = router.objects["/interface wireguard peers"]
    assert peer == {
        "comment": "gatehouse",
        "interface": "gatehouse",
        "public-key": ALL.tunnel.server_key,
        "endpoint-address": "192.0.2.1",
        "endpoint-port": "51820",
        "allowed-address": "10.99.0.1/32",
        "persistent-keepalive": "25s",
    }
    (address,) = router.objects["/ip address"]
    assert (address["address"], address["network"]) == ("10.99.0.2/32", "10.99.0.1")
    again = replace(ALL, tunnel=replace(ALL.tunnel, private_key=None))
    router.paste(render(again))
    assert router.objects["/interface wireguard"][0]["private-key"] == KEY
    assert KEY not in render(again)
    other = fresh((7, 16))
    other.paste(render(again))
    assert "gatehouse: the key is missing here: print the script with --new-key" in other.said


def test_radsec_shows_the_routers_certificate() -> None:
    router = fresh((7, 16))
    router.paste(render(RADSEC))
    assert router.said[0] == (
        "gatehouse: there is no /certificate router.crt_0: import it first, or name it with --certificate"
    )
    radius = router.objects["/radius"][1]
    assert (radius["protocol"], radius["certificate"], radius["secret"]) == ("radsec", "router.crt_0", "radsec")
    assert {radius["authentication-port"], radius["accounting-port"]} == {"2083"}
    assert PLAIN.secret not in render(RADSEC)


def test_version_6() -> None:
    text = render(SIX)
    router = fresh((6, 49))
    router.paste(text)
    assert "require-message-auth" not in text
    assert "gatehouse nas set attic --no-message-authenticator" in text
    assert "--no-message-authenticator" not in render(replace(SIX, message_authenticator=False))
    assert router.objects["/system ntp client"] == [{"enabled": "yes", "primary-ntp": "192.0.2.123"}]
    with pytest.raises(Refused):
        fresh((6, 49)).paste(render(PLAIN))
    with pytest.raises(UserError, match="RouterOS 6 has no WireGuard"):
        render(replace(ALL, routeros=6))
    with pytest.raises(UserError, match="RadSec is for RouterOS 7"):
        render(replace(RADSEC, routeros=6))


def test_before_7_15_the_rest_is_taken_and_it_says_what_is_missing() -> None:
    router = fresh((7, 8))
    router.paste(render(PLAIN))
    assert router.said[0] == "gatehouse: update RouterOS, it doesn't check Message-Authenticator (CVE-2024-3596)"
    assert router.objects["/radius"][1]["secret"] == PLAIN.secret


def test_what_is_missing_on_the_router_is_said() -> None:
    router = Router((7, 16))
    router.paste(render(replace(PLAIN, services=("hotspot", "dhcp"))))
    assert router.said == [
        "gatehouse: there is no /ip hotspot profile hsprof1: run /ip hotspot setup first, "
        "or name yours with --hotspot-profile",
        "gatehouse: there is no /ip dhcp-server dhcp1: make it first, or name yours with --dhcp-server",
        "gatehouse: done",
    ]
    assert router.objects["/ip firewall filter"] == [], "without a rule everything is accepted"


def test_a_router_that_takes_no_coa_is_left_closed() -> None:
    text = render(replace(PLAIN, coa_port=None))
    assert "/radius incoming" not in text
    assert "/ip firewall" not in text


OFF = replace(PLAIN, flows_off_port=2055)
TARGET = {"dst-address": "192.0.2.1", "port": "2055"}


def test_a_router_that_is_switched_off_sends_no_flows_any_more() -> None:
    router = fresh((7, 16))
    router.paste(render(replace(PLAIN, flows_port=2055, flows_version="9", flows_interfaces="bridge,ether1")))
    assert router.objects["/ip traffic-flow"][0]["interfaces"] == "bridge,ether1"
    router.paste(render(OFF))
    assert (router.objects["/ip traffic-flow target"], router.objects["/ip traffic-flow"][0]["enabled"]) == ([], "no")
    router.objects["/ip traffic-flow"][0]["enabled"] = "yes"
    router.paste(render(OFF))
    assert router.objects["/ip traffic-flow"][0]["enabled"] == "yes", "done once, it is nothing of ours any more"


def test_flows_to_others_go_on() -> None:
    router, theirs = fresh((7, 16)), {"dst-address": "203.0.113.9", "port": "2055"}
    router.objects["/ip traffic-flow target"] = [theirs, dict(TARGET), TARGET | {"port": "9995"}]
    router.objects["/ip traffic-flow"] = [{"enabled": "yes"}]
    router.paste(render(OFF))
    assert router.objects["/ip traffic-flow target"] == [theirs, TARGET | {"port": "9995"}]
    assert router.objects["/ip traffic-flow"] == [{"enabled": "yes"}]


@given(st.text())
def test_any_text_comes_back_from_its_literal(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate can't come from a command line in UTF-8
    literals = quoted(text)
    assert literal(literals, 0) == (text, len(literals))
    assert re.fullmatch(r"[ -~]*", literals), "nothing that a terminal would act on"
    assert not set(literals[1:-1]) & set('"$?')


@settings(deadline=None)  # busy machines
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_name_breaks_out_of_its_place(secret: str, profile: str) -> None:
    router = fresh((7, 16))
    router.objects["/ip hotspot profile"].append({"name": profile})
    router.paste(render(replace(PLAIN, secret=secret, hotspot_profile=profile)))
    assert router.objects["/radius"][1]["secret"] == secret
    assert router.objects["/ip hotspot profile"][-1]["use-radius"] == "yes"
    assert len(router.objects["/ip hotspot profile"]) == 3


@pytest.mark.parametrize(
    "line",
    [
        ':put "a',
        ':put "a$b"',
        ':put "a\\q"',
        "/radius add address=1.2.3.4 secret=x]",
        "/radius add address=1.2.3.4 colour=red",
        "/radius add secret=x",
        "/radio add address=1.2.3.4",
        "/radius set secret=x",
        ":if ([:len [/radius find]] = 0) do={/radius add address=1.2.3.4",
        ":frob 1",
    ],
)
def test_the_stand_in_is_strict(line: str) -> None:
    with pytest.raises(Refused):
        Router((7, 16)).run(parse(line))


# The command


def _enable_tunnels(file: Path, more: str = "") -> None:  # noqa: F811
    file.write_text(file.read_text() + f"[radius]\n{more}\n[tunnel]\nenabled = true\n")


@pytest.mark.parametrize(("routeros", "secret"), [(7, ""), (7, 'k"$'), (6, "")])
def test_backups_are_brought_each_night(routeros: int, secret: str) -> None:
    router = fresh((7, 16) if routeros == 7 else (6, 49))
    router.objects["/system script"] = [{"name": "theirs", "source": ":put 1"}]
    named = replace(PLAIN, routeros=routeros, router='at"tic$', backup=replace(BACKUP, secret=secret))
    router.paste(render(named))
    theirs, ours = router.objects["/system script"]
    assert theirs == {"name": "theirs", "source": ":put 1"}
    lines = ours["source"].splitlines()
    assert balanced(ours["source"].replace("\n", " "))
    (fetch,) = [line for line in lines if "/tool fetch" in line]
    assert "upload=yes mode=ftp address=192.0.2.1 port=21 user=router-attic" in fetch
    assert f"password={quoted(BACKUP.password)}" in fetch
    assert f"dst-path=({quoted(named.router + '/')} . $stamp" in fetch
    assert (f"password={quoted(secret)}" in ours["source"]) == bool(secret)
    assert ("dont-encrypt=yes" in ours["source"]) == (not secret)
    assert ("hide-sensitive" in ours["source"]) == (routeros == 6)
    (event,) = router.objects["/system scheduler"]
    assert (event["interval"], event["on-event"]) == ("1d", "/system script run gatehouse-backup")
    assert "01:00:00" <= event["start-time"] < "05:00:00"
    assert {"ftp", "read", "write", "policy", "test", "sensitive"} <= set(ours["policy"].split(","))
    router.paste(render(replace(PLAIN, routeros=routeros)))
    assert len(router.objects["/system script"]) == 2, "a script without backups leaves them alone"


def test_a_script_is_printed_with_the_secret(run: Run) -> None:  # noqa: F811
    secret = run("nas", "add", "attic", "--address", "192.0.2.7")[1].splitlines()[0].split(": ")[1]
    status, out, _ = run("nas", "script", "attic", "--server", "192.0.2.1", "--services", "hotspot,pppoe")
    assert status == 0
    router = fresh((7, 16))
    router.paste(out)
    assert (router.objects["/radius"][1]["secret"], router.objects["/radius"][1]["service"]) == (secret, "hotspot,ppp")


def test_flows_are_sent_by_routers_that_are_switched_on(run: Run, file: Path) -> None:  # noqa: F811
    def targets() -> list[dict[str, str]]:
        router = fresh((7, 16))
        router.paste(run("nas", "script", "attic", "--server", "192.0.2.1")[1])
        return router.objects.get("/ip traffic-flow target", [])

    run(
        "nas", "add", "attic", "--address", "192.0.2.7", "--netflow", "on", "--netflow-from", "2001:db8::7,192.0.2.7/32"
    )
    (nas,) = json.loads(run("nas", "list", "--json")[1])
    assert (nas["netflow"], nas["netflow_from"]) == (True, ["2001:db8::7", "192.0.2.7"])
    assert targets() == [], "nobody listens"
    modules.set_enabled(config.load(file), NETFLOW, True)
    assert [target["port"] for target in targets()] == ["2055"]
    run("nas", "set", "attic", "--netflow", "off")
    assert targets() == []
    assert "flows come from: 'x' does not appear" in run("nas", "set", "attic", "--netflow-from", "x")[2]
    assert "16 addresses and networks are possible" in run("nas", "set", "attic", "--netflow-from", "::1 " * 17)[2]


def test_the_key_of_a_tunnel_is_printed_once(run: Run, file: Path) -> None:  # noqa: F811
    _enable_tunnels(file, 'public_address = "192.0.2.1"')
    assert run("nas", "add", "attic", "--tunnel")[0] == 0
    (nas,) = json.loads(run("nas", "list", "--json")[1])
    assert (nas["address"], nas["tunnel"]) == ("10.99.0.2", True)
    router = fresh((7, 16))
    router.paste(run("nas", "script", "attic")[1])
    key = router.objects["/interface wireguard"][0]["private-key"]
    assert "private-key" not in run("nas", "script", "attic")[1]
    text = run("nas", "script", "attic", "--new-key")[1]
    router.paste(text)
    assert router.objects["/interface wireguard"][0]["private-key"] != key
    own = tunnel.public_key(tunnel.server_key(file.parent / "state"))
    assert router.objects["/interface wireguard peers"][0]["public-key"] == own
    assert "the tunnel's key is shown only now" in text.lower()


def test_a_tunnel_can_be_taken_away_again(run: Run, file: Path) -> None:  # noqa: F811
    _enable_tunnels(file)
    run("nas", "add", "attic", "--address", "192.0.2.7")
    assert run("nas", "set", "attic", "--tunnel")[0] == 0
    assert json.loads(run("nas", "list", "--json")[1])[0]["address"] == "10.99.0.2"
    assert "an address is needed" in run("nas", "set", "attic", "--no-tunnel")[2]
    assert "leave the address out" in run("nas", "set", "attic", "--address", "192.0.2.8")[2]
    assert run("nas", "set", "attic", "--no-tunnel", "--address", "192.0.2.8")[0] == 0
    (nas,) = json.loads(run("nas", "list", "--json")[1])
    assert (nas["address"], nas["tunnel"]) == ("192.0.2.8", False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nas", "add", "x"), "an address is needed: where do its requests come from"),
        (("nas", "add", "x", "--tunnel"), "tunnels are off: set enabled = true below [tunnel] in "),
        (("nas", "set", "hall", "--tunnel"), "other kinds can't have one"),
        (("nas", "add", "x", "--kind", "other", "--tunnel"), "other kinds can't have one"),
        (("nas", "script", "nope"), "there is no nas 'nope'"),
        (("nas", "script", "hall"), "router hall is of kind chilli: only RouterOS takes such a script"),
        (("nas", "script", "attic", "--services", "hotspot,pop"), "--services: there is no 'pop'; there are: hotspot"),
        (("nas", "script", "attic", "--new-key"), "router attic has no tunnel"),
        (("nas", "script", "attic", "--traffic-flow", "0", "--server", "192.0.2.1"), "a port is between 1 and 65535"),
        (("nas", "script", "near"), "the address at which router near reaches this machine can't be known: give"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, words: tuple[str, ...], said: str) -> None:  # noqa: F811
    run("nas", "add", "attic", "--address", "192.0.2.7")
    run("nas", "add", "near", "--address", "127.0.0.9")
    run("nas", "add", "hall", "--address", "192.0.2.8", "--kind", "chilli")
    status, out, error = run(*words)
    assert (status, out) == (1, "")
    assert said in error
    assert "\n" not in error


def test_a_tunnels_end_is_not_guessed(
    run: Run,  # noqa: F811
    file: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _enable_tunnels(file)
    run("nas", "add", "attic", "--tunnel")
    monkeypatch.setattr(reach, "_source", lambda target: None)
    assert (
        "can't be known: give --server ADDRESS, or set public_address below [radius]"
        in run("nas", "script", "attic")[2]
    )
    assert run("nas", "script", "attic", "--server", "192.0.2.1")[0] == 0


def test_other_kinds_take_coa_where_the_rfc_says(run: Run) -> None:  # noqa: F811
    run("nas", "add", "hall", "--address", "192.0.2.8", "--kind", "chilli", "--coa", "disconnect", "--radsec")
    (nas,) = json.loads(run("nas", "list", "--json")[1])
    assert (nas["kind"], nas["coa"], nas["coa_port"], nas["radsec"]) == ("chilli", "disconnect", 3799, True)
    run("nas", "set", "hall", "--coa", "none", "--no-radsec")
    (nas,) = json.loads(run("nas", "list", "--json")[1])
    assert (nas["coa"], nas["coa_port"], nas["radsec"]) == ("none", 3799, False)
    assert run("nas", "list")[1].splitlines()[1].split()[-2:] == ["never", "no"]


def test_status_and_list_name_a_silent_router(run: Run, file: Path) -> None:  # noqa: F811
    run("nas", "add", "attic", "--address", "192.0.2.7")
    run("nas", "add", "barn", "--address", "192.0.2.8")
    now = int(time.time())
    with open_core(config.load(file)):
        Nas.update(seen_at=now - 90_000).where(Nas.name == "attic").execute()
        Nas.update(seen_at=now - 200).where(Nas.name == "barn").execute()
    lines = run("nas", "list")[1].splitlines()
    assert lines[0].split()[-2:] == ["SEEN", "SILENT"]
    assert [line.split()[-4:] for line in lines[1:]] == [["no", "1d", "ago", "yes"], ["no", "3m", "ago", "no"]]
    rows = json.loads(run("nas", "list", "--json")[1])
    assert [(row["seen_at"], row["silent"]) for row in rows] == [(now - 90_000, True), (now - 200, False)]
    said = run("status")[1].splitlines()[-1]
    assert re.fullmatch(r"router attic is silent: not heard for 1d1h(\d+s)?", said)
    assert isinstance(json.loads(run("status", "--json")[1]), list)
    (file.parent / "state/core/core.db").unlink()
    assert run("status")[0] == 0


def test_status_needs_no_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Others than root can't even look whether it is there."""

    def refused(*_: object) -> None:
        raise PermissionError("core.db")

    monkeypatch.setattr(apply, "open_core_or_copy", refused)
    assert run("status")[0] == 0
