"""The lab itself, with a stand-in router in place of the appliance."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import journey
from tests.lab.addresses import LAN, PROVIDER, WAN, WEB
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.namespace import Namespace, run, spool, traces, wait_until
from tests.lab.world import World

_TREE = Path(__file__).resolve().parents[2]
_API = "https://login.example.net/api"
_MASQUERADE = """
add table ip lab
add chain ip lab out { type nat hook postrouting priority 100; }
add rule ip lab out oifname wan0 masquerade
"""


@pytest.fixture(scope="module")
def router(world: World) -> Namespace:
    """DHCP and masquerading, so that guests reach the Internet without the appliance."""
    gw = world.gw
    gw.iproute("address", "add", str(LAN), "dev", "lan0")
    gw.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    gw.run("nft", _MASQUERADE)
    gw.popen(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file="),
        *(
            "--port=0",
            "--interface=lan0",
            "--bind-interfaces",
            "--no-ping",
            f"--dhcp-leasefile={world.directory}/leases",
        ),
        *("--dhcp-range=10.10.0.2,10.10.15.254,255.255.240.0,1h", f"--dhcp-option=6,{PROVIDER}"),
        *("--dhcp-authoritative", "--log-facility=-", "--log-dhcp", f"--dhcp-option=114,{_API}"),
    )
    gw.await_listener(67, udp=True)
    return gw


@pytest.fixture
def newcomer(world: World) -> Guest:
    """At the switch, without an address."""
    return world.guest()


@pytest.fixture
def online(router: Namespace, newcomer: Guest) -> Guest:
    newcomer.lease()
    return newcomer


def _host_network() -> list[str]:
    commands = ("ip address", "ip route show table all", "ip rule", "nft list ruleset", "sysctl net.ipv4")
    return [run(*command.split(), check=False).stdout for command in commands]


def test_lease_sets_address_route_and_resolver(router: Namespace, newcomer: Guest) -> None:
    lease = newcomer.lease()
    assert lease.ip in LAN.network
    assert newcomer.ip == lease.ip
    assert (lease.prefix, lease.server, lease.router) == (20, str(LAN.ip), str(LAN.ip))
    assert (lease.dns, lease.lease_s, lease.captive_portal) == ((str(PROVIDER),), 3600, _API)
    assert f"{lease.ip}/20" in newcomer.iproute("-4", "address", "show", "eth0")
    assert newcomer.mac in newcomer.iproute("link", "show", "eth0")
    assert newcomer.run("cat", "/etc/resolv.conf").stdout.split()[-1] == str(PROVIDER)


def test_release_gives_the_address_back(online: Guest, router: Namespace) -> None:
    released = f"DHCPRELEASE(lan0) {online.ip} {online.mac}"
    online.release()
    wait_until(lambda: released in (router.directory / "dnsmasq.log").read_text(), 5, "the release")
    assert online.iproute("-4", "address", "show", "eth0") == ""
    assert online.resolve("example.com") == []
    assert online.lease().ip in LAN.network


def test_a_guest_that_leaves_says_nothing(online: Guest, router: Namespace) -> None:
    online.leave()
    assert f"DHCPRELEASE(lan0) {online.ip} {online.mac}" not in (router.directory / "dnsmasq.log").read_text()
    assert f"{online.ip}/20" in online.iproute("-4", "address", "show", "eth0")


def test_no_lease_where_nobody_answers(world: World) -> None:
    alone = world.guest()
    world.lan.iproute("link", "set", f"g{alone.name.rsplit('-g')[-1]}", "nomaster")
    with pytest.raises(TimeoutError, match="a DHCP lease"):
        alone.lease(timeout_s=2)


def test_the_internet_names_the_address_it_saw(online: Guest) -> None:
    assert online.resolve("any.name.example") == [str(WEB)]
    response = online.curl("http://any.name.example/page")
    assert (response.status, response.body, response.error) == (200, str(WAN.ip), "")
    assert response.headers["content-type"] == "text/plain"


def test_curl_without_an_answer(online: Guest) -> None:
    response = online.curl("http://198.51.100.99/", timeout_s=1)
    assert response.status == 0
    assert response.error


def test_counters_of_the_internet(world: World, online: Guest) -> None:
    us = str(WAN.ip)
    online.run("sh", "-c", f"printf 123456 | socat -u - UDP:{WEB}:9; socat -u OPEN:/dev/null TCP:{WEB}:443")
    wait_until(lambda: world.counters()["udp_packets"].get(us), 5, "the datagram")
    wait_until(lambda: world.counters()["tls"].get(us), 5, "the connection")
    assert world.counters()["udp_octets"][us] == 6
    answers = online.run("sh", "-c", f"echo 5 100 | socat -t 1 - UDP:{WEB}:19")
    assert len(answers.stdout) == 500


def test_ip_octets_count_what_came(online: Guest) -> None:
    before = online.ip_octets()
    assert online.curl(f"http://{WEB}/big/1000000").status == 200
    after = online.ip_octets()
    assert 1_000_000 < after.received - before.received < 1_100_000
    assert 0 < after.sent - before.sent < 100_000


def test_iperf_measures_at_the_far_end(router: Namespace, online: Guest) -> None:
    limit = ["root", "tbf", "rate", "2mbit", "burst", "20k", "limit", "50k"]
    router.run("tc", "qdisc", "add", "dev", "lan0", *limit)
    try:
        assert 1e6 < online.iperf("down", 2, udp_bps=8_000_000) < 2.4e6
        assert 7e6 < online.iperf("up", 1, udp_bps=8_000_000) < 9e6
    finally:
        router.run("tc", "qdisc", "delete", "dev", "lan0", "root")
    assert online.iperf("down", 1) > 10e6
    assert online.iperf("up", 1) > 10e6


def test_a_thief_takes_address_and_mac(world: World, online: Guest) -> None:
    thief = world.guest()
    online.iproute("link", "set", "eth0", "down")
    thief.take_over(online.ip, online.mac)
    assert online.mac in thief.iproute("link", "show", "eth0")
    assert thief.curl(f"http://{WEB}/").body == str(WAN.ip)
    assert thief.ip == online.ip


@pytest.mark.parametrize("step", [journey.find_https_untouched, journey.find_nothing_passes])
def test_the_journey_sees_an_open_gateway(world: World, online: Guest, step: Callable[[Guest, World], str]) -> None:
    with pytest.raises(AssertionError):
        step(online, world)


def test_the_journey_sees_a_missing_portal(online: Guest) -> None:
    with pytest.raises(AssertionError, match="status 200"):
        journey.meet_portal(online)
    with pytest.raises(AssertionError, match=str(WAN.ip)):
        journey.surf_with_own_address(online)


def test_relay_makes_a_browser_the_guest(world: World, online: Guest) -> None:
    world.gw.popen(sys.executable, str(Path(__file__).with_name("internet.py")), str(LAN.ip))
    world.gw.await_listener(80)
    world.browser_relay(18_081, online)
    world.admin_relay(18_082, "127.0.0.1:80")
    for port, seen in ((18_081, str(online.ip)), (18_082, "127.0.0.1")):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            assert answer.read().decode() == seen


def test_the_hosts_network_is_untouched() -> None:
    before = _host_network()
    with _start("print('ready', flush=True); input()") as other:
        assert _host_network() == before
        other.communicate("\n", timeout=20)
    assert _host_network() == before


def test_service_users_run_a_tree_below_a_private_directory(world: World, tmp_path: Path) -> None:
    tree = tmp_path / "private" / "clone"
    tree.mkdir(parents=True)
    tree.parent.chmod(0o700)
    (tree / "standin.py").write_text("import os\nprint(os.getuid(), __file__)\n")
    as_nobody = ("-c", "import os; os.setgid(65534); os.setuid(65534); import standin")
    appliance = Appliance(world.gw, world.directory / "standin", tree)
    appliance.prepare()
    assert appliance.python(*as_nobody).split() == ["65534", f"{appliance.app}/standin.py"]
    assert list(appliance.app.iterdir()) == []  # mounted for that command alone
    (tree / "standin.py").unlink()


def test_no_systemd_of_this_machine_is_seen(world: World) -> None:
    appliance = Appliance(world.gw, world.directory / "alone")
    appliance.prepare()
    booted = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec "$@"'
    look = ("python3", "-c", "import pathlib; print(pathlib.Path('/run/systemd/system').is_dir())")
    assert world.gw.run("sh", "-c", booted, "sh", *look).stdout == "True\n"
    inside = appliance.words(*look[1:])
    assert world.gw.run("sh", "-c", booted, "sh", *inside).stdout == "False\n"


def test_configuration_is_merged(world: World) -> None:
    appliance = Appliance(world.gw, world.directory / "merged")
    extra = "[dhcp]\nlease_s = 120\n[portal]\nhttp_port = 81"
    appliance.prepare('[dhcp]\nlease_s = 600\ndns = ["198.51.100.1"]', extra)
    config = appliance.config()
    assert (config.dhcp.lease_s, config.dhcp.dns, config.portal.http_port) == (120, (PROVIDER,), 81)
    assert config.paths.state.is_relative_to("/var/tmp")


def test_one_world_a_process(world: World) -> None:
    with pytest.raises(RuntimeError, match="a world already"), World():
        pass
    assert world.directory.exists()


# How worlds end: each in a process of its own, with a guest in which one won't listen to signals.


def _start(body: str) -> subprocess.Popen[str]:
    script = f"""
import time
from tests.lab.world import World
with World() as world:
    guest = world.guest()
    (world.directory / "mnt").mkdir()
    mount = "mount --bind /usr " + str(world.directory / "mnt")
    guest.popen("sh", "-c", "trap '' TERM INT HUP; " + mount + "; while :; do sleep 1; done")
    world.admin_relay(18_083)
    {body}
"""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, cwd=_TREE, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate(timeout=120)
    return process


@pytest.fixture
def other(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    body = getattr(request, "param", "print('ready', flush=True); time.sleep(60)")
    with _start(body) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("other", ["print('ready', flush=True); 1 / 0"], indirect=True)
def test_an_exception_leaves_nothing(other: subprocess.Popen[str]) -> None:
    _, errors = other.communicate(timeout=120)
    assert "ZeroDivisionError" in errors
    assert traces(other.pid) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(other: subprocess.Popen[str], number: signal.Signals) -> None:
    assert traces(other.pid)
    other.send_signal(number)
    _, errors = other.communicate(timeout=120)
    assert errors.endswith("KeyboardInterrupt\n")
    assert traces(other.pid) == []


def test_more_signals_dont_break_the_removal(other: subprocess.Popen[str]) -> None:
    while other.poll() is None:
        other.send_signal(signal.SIGINT)
        other.send_signal(signal.SIGTERM)
        try:
            other.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert traces(other.pid) == []


def test_sweep_takes_the_dead_and_spares_the_living(world: World, other: subprocess.Popen[str]) -> None:
    assert f"gh{other.pid}-g1" not in _sweep_in_another_process()
    other.kill()
    other.wait()
    assert f"gh{other.pid}-g1" in _sweep_in_another_process()
    assert traces(other.pid) == []
    assert world.directory == spool(os.getpid())
    assert world.directory.exists()
    assert world.gw.run("true").returncode == 0


def _sweep_in_another_process() -> list[str]:
    code = "import json; from tests.lab.namespace import sweep; print(json.dumps(sweep()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=_TREE, capture_output=True, text=True, check=True)
    swept: list[str] = json.loads(done.stdout)
    return swept
