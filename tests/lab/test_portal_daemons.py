"""dnsmasq, nginx and the portal for real, as unprivileged users; RADIUS and the gateway are played by the test."""

import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from pyrad import packet as codec

from appliance import web_server
from appliance.config import Config, load, parse
from portal import dhcp, nginx
from portal.protocol import Allow, Answer, Close, Logout, decode_request, encode
from tests.lab.guest import Guest, Response
from tests.lab.namespace import SPOOL, Namespace, cable, remove, run, wait_until
from tests.unit.test_radius_client import SECRET, FakeServer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

DNSMASQ, NGINX, PORTAL = 64_201, 64_202, 64_203  # user and group ids that nobody has
ROOT = Path(__file__).parents[2]
CAPABILITIES = {"net_bind_service": 10, "net_admin": 12}  # capability.h
HOME = "http://10.10.0.1:8080"


class FakeGateway(socketserver.ThreadingUnixStreamServer):
    """Lets in whoever it is told to."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), self.Handler)
        self.online: dict[IPv4Address, Allow] = {}
        path.chmod(0o666)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}).start()

    class Handler(socketserver.StreamRequestHandler):
        server: "FakeGateway"

        def handle(self) -> None:
            asked, online = decode_request(self.rfile.readline()), self.server.online
            if isinstance(asked, Allow):
                online[asked.ip] = asked
            if isinstance(asked, Logout):
                online.pop(asked.ip, None)
            assert not isinstance(asked, Close), "no guest may ask for that"
            session = online.get(asked.ip)
            answer = Answer(online=True, account=session.account) if session else Answer(online=False, ended=1)
            self.wfile.write(encode(answer))


class Machine:
    """A gateway machine with one guest, and everything that the portal needs."""

    def __init__(self, exits: ExitStack) -> None:
        self.directory = SPOOL / f"ghp{os.getpid()}"
        names = [f"ghp{os.getpid()}-gw", f"ghp{os.getpid()}-guest"]
        exits.callback(shutil.rmtree, self.directory, ignore_errors=True)
        exits.callback(remove, names)
        self.gw = Namespace(names[0], self.directory / "gw")
        self.guest = Guest(names[1], self.directory / "guest", "", self.gw)
        for namespace in (self.gw, self.guest):
            namespace.create()
            exits.callback(namespace.reap)
        self.radius = FakeServer(codec.AuthPacket)
        exits.callback(self.radius.close)
        self.radius.handler = self._check_password
        self.config = self._configure()
        self.plug_in()
        self.gateway = FakeGateway(self.run / "gateway" / "gateway.sock")
        exits.callback(self.gateway.server_close)
        exits.callback(self.gateway.shutdown)
        self.portal = self._start_portal(exits)
        self.dnsmasq = self._start_dnsmasq()
        self.nginx = self.start_nginx(self.config)

    @property
    def run(self) -> Path:
        return self.directory / "run"

    def _configure(self) -> Config:
        self.directory.chmod(0o755)
        for name, user in (("state/dnsmasq", DNSMASQ), ("state/portal", PORTAL), ("run/portal", PORTAL)):
            self._directory(name, user)
        for name in ("run/gateway", "run/web"):
            self._directory(name, NGINX)
        file = self.directory / "gatehouse.toml"
        file.write_text(
            f'[paths]\nstate = "{self.directory}/state"\nrun = "{self.directory}/run"\n'
            f'[gateway]\nlan = "lan0"\n[dhcp]\ndns = ["192.0.2.53"]\n'
            f"[radius]\nauthentication_port = {self.radius.port}\n"
        )
        (self.run / "gateway.secret").write_bytes(SECRET + b"\n")
        return load(file)

    def _directory(self, name: str, user: int) -> None:
        path = self.directory / name
        path.mkdir(parents=True)
        os.chown(path, user, user)

    def plug_in(self) -> None:
        """The device is made, anew if need be."""
        self.gw.run("ip", "link", "delete", "lan0", check=False)
        cable(self.gw, "lan0", self.guest, "eth0")
        self.gw.iproute("address", "add", "10.10.0.1/20", "dev", "lan0")

    def _check_password(self, request: Any) -> bytes:
        reply = request.CreateReply()
        if request.PwDecrypt(request[2][0]) != "right":
            reply.code = codec.AccessReject
        data: bytes = reply.ReplyPacket()
        return data

    def _start_portal(self, exits: ExitStack) -> subprocess.Popen[bytes]:
        """Beside the test, where the fake RADIUS is; its own address is a unix socket, which no namespace hides."""
        words = [sys.executable, "-m", "portal.web", "--config", str(self.config.file)]
        with (self.directory / "portal.log").open("ab") as log:
            # in nginx's group, so that the socket is 0660 and yet within nginx's reach
            child = subprocess.Popen([*as_user(PORTAL, NGINX), *words], cwd=ROOT, stdout=log, stderr=log)
        exits.callback(child.wait)
        exits.callback(child.kill)
        wait_until((self.run / "portal" / "portal.sock").exists, 15, "the portal's socket")
        return child

    def _start_dnsmasq(self) -> subprocess.Popen[str]:
        file = self.run / "dnsmasq.conf"
        file.write_text(dhcp.render(self.config))
        words = as_user(DNSMASQ, DNSMASQ, *CAPABILITIES)
        child = self.gw.popen(*words, "dnsmasq", f"--conf-file={file}", log="dnsmasq.log")
        self.gw.await_listener(53, 67, udp=True)
        return child

    def start_nginx(self, config: Config) -> subprocess.Popen[str]:
        web = config.paths.run / "web"
        file = web / "nginx.conf"
        file.write_text(web_server.render(config, nginx.sites(config)))
        words = ("nginx", "-e", "stderr", "-c", str(file), "-p", str(web))
        child = self.gw.popen(*as_user(NGINX, NGINX), *words, log="nginx.log")
        self.gw.await_listener(config.portal.http_port, config.admin.port)
        return child

    def log_in(self, password: str) -> Response:
        form = {"token": self.token(), "user": "anna", "password": password}
        return self.guest.curl(f"{HOME}/login", form=form)

    def token(self) -> str:
        match = re.search(r'name="token" value="(\w+)"', self.guest.curl(f"{HOME}/").body)
        assert match
        return match[1]


def as_user(user: int, group: int, *capabilities: str) -> list[str]:
    held = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    sets = [f"--inh-caps={held}", f"--ambient-caps={held}", f"--bounding-set={held}"]
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs", *sets]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with ExitStack() as exits:
        machine = Machine(exits)
        machine.guest.lease()
        exits.callback(machine.guest.leave)
        yield machine


@pytest.fixture(autouse=True)
def patience(machine: Machine) -> None:
    """nginx counts a guest's requests; a new one has forgotten those of the test before."""
    machine.nginx.send_signal(signal.SIGTERM)
    machine.nginx.wait(60)
    machine.nginx = machine.start_nginx(machine.config)


def status(pid: int, key: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return text.partition(f"\n{key}:")[2].partition("\n")[0].strip()


# -- dnsmasq


def test_guest_gets_an_address_and_the_portals_name(machine: Machine) -> None:
    lease = machine.guest.lease()
    assert (lease.router, lease.dns, lease.lease_s) == ("10.10.0.1", ("10.10.0.1",), 3600)
    assert lease.captive_portal == ""
    assert machine.guest.resolve("login.gatehouse.internal") == ["10.10.0.1"]
    found = dhcp.lease_of(dhcp.lease_file(machine.config), lease.ip)
    assert found is not None
    assert found.mac == machine.guest.run("cat", "/sys/class/net/eth0/address").stdout.strip()


def test_dnsmasq_has_two_capabilities_and_no_more(machine: Machine) -> None:
    pid = machine.dnsmasq.pid
    assert status(pid, "Uid").split() == [str(DNSMASQ)] * 4
    for which in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status(pid, which), 16) == sum(1 << bit for bit in CAPABILITIES.values())


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        pytest.param(f"ghp{os.getpid()}-guest", "a", "NXDOMAIN", id="guest"),  # what it calls itself
        ("wpad", "a", "NXDOMAIN"),
        ("2.0.10.10.in-addr.arpa", "ptr", "NXDOMAIN"),
        ("login.gatehouse.internal", "aaaa", "NOERROR"),
    ],
)
def test_names_that_nobody_is_asked_about(machine: Machine, name: str, kind: str, status: str) -> None:
    done = machine.guest.run("dig", "+time=1", "+tries=1", "@10.10.0.1", name, kind)
    assert f"status: {status}" in done.stdout
    assert "ANSWER: 0" in done.stdout


def test_dhcp_survives_the_device(machine: Machine) -> None:
    """As with a USB adapter that is pulled out and put back."""
    machine.guest.leave()
    machine.plug_in()
    assert machine.guest.lease().router == "10.10.0.1"
    assert machine.guest.resolve("login.gatehouse.internal") == ["10.10.0.1"]


# -- nginx


def test_nginx_has_no_capability(machine: Machine) -> None:
    assert status(machine.nginx.pid, "Uid").split() == [str(NGINX)] * 4
    assert {status(machine.nginx.pid, which) for which in ("CapEff", "CapBnd")} == {"0" * 16}


def test_phones_probe_leads_to_the_portal(machine: Machine) -> None:
    probe = machine.guest.curl(f"{HOME}/hotspot-detect.html", "-H", "Host: captive.apple.com")
    assert (probe.status, probe.headers["Location"]) == (302, "http://10.10.0.1/")
    assert probe.headers["Server"] == "nginx"


def test_address_cant_be_pretended(machine: Machine) -> None:
    """Another address has no lease, so the guest would see that page instead of the form."""
    headers = [word for name in ("X-Real-IP", "X-Forwarded-For") for word in ("-H", f"{name}: 10.10.15.9")]
    assert "<form" in machine.guest.curl(f"{HOME}/", *headers).body


@pytest.mark.parametrize("size", [5_000, 100_000])
def test_large_bodies_are_refused(machine: Machine, size: int) -> None:
    assert machine.guest.curl(f"{HOME}/login", form={"user": "a" * size}).status == 413


def test_flood_from_one_guest_is_refused(machine: Machine) -> None:
    flood = machine.guest.run("curl", "-s", "-w", "%{http_code}\n", f"{HOME}/nowhere?[1-80]").stdout
    assert "There is no such page" in flood
    assert "Too many requests at once" in flood
    assert {"404", "429"} == set(re.findall(r"(\d{3})$", flood, re.MULTILINE))


CROWD = """
import select, socket, sys
crowd = [socket.create_connection(("10.10.0.1", 8080)) for _ in range(30)]
for one in crowd:
    one.sendall(sys.argv[1].encode().decode("unicode_escape").encode())
answered = set()
while len(answered) < int(sys.argv[2]):
    answered.update(select.select([one for one in crowd if one not in answered], [], [], 9)[0])
print(*(one.recv(12).decode() for one in answered), flush=True)
sys.stdin.read()
"""
HEAD = r"POST /login HTTP/1.1\r\nHost: 10.10.0.1\r\nContent-Length: 9\r\n"


def crowd(machine: Machine, text: str, answers: int) -> tuple[str, str]:
    """30 connections of one guest that each send `text` and wait; a neighbour's answer meanwhile."""
    words = ("ip", "netns", "exec", machine.guest.name, sys.executable, "-c", CROWD, text, str(answers))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline().strip()
        done = machine.gw.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{HOME}/nowhere")
        child.kill()
    return line, done.stdout


def test_connections_of_one_guest_are_bounded(machine: Machine) -> None:
    line, neighbour = crowd(machine, HEAD + r"\r\n", answers=10)
    assert line == " ".join(["HTTP/1.1 429"] * 10)
    assert neighbour == "404"


def test_half_requests_hinder_nobody_else(machine: Machine) -> None:
    assert crowd(machine, HEAD, answers=0)[1] == "404"


def test_admin_pages_that_are_down_are_said_to_be(machine: Machine) -> None:
    page = machine.gw.run("curl", "-si", "http://127.0.0.1:8090/")
    assert page.stdout.startswith("HTTP/1.1 503")
    assert "Retry-After: 10" in page.stdout
    assert "admin pages are not working right now" in page.stdout


def test_tls_with_a_certificate(machine: Machine) -> None:
    """With a portal that is down: nginx alone answers."""
    web = machine.directory / "tls" / "web"
    web.mkdir(parents=True)
    key, certificate = web / "key.pem", web / "certificate.pem"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=login.example.net", "-keyout", str(key), "-out", str(certificate)),
    )
    for path in (web, key):
        os.chown(path, NGINX, NGINX)
    text = f'[paths]\nrun = "{web.parent}"\n[admin]\nport = 8091\n[portal]\nhostname = "login.example.net"\n'
    text += f'http_port = 8081\nhttps_port = 8444\ncertificate = "{certificate}"\nkey = "{key}"'
    child = machine.start_nginx(parse(text))
    url, options = "https://login.example.net:8444/", ("-k", "--resolve", "login.example.net:8444:10.10.0.1")
    page = machine.guest.curl(url, *options)
    assert page.status == 503
    assert "This page isn’t working right now" in page.body
    child.send_signal(signal.SIGQUIT)
    assert child.wait(60) == 0


# -- the whole way


def test_guest_logs_in_and_out(machine: Machine) -> None:
    refused = machine.log_in("wrong")
    assert refused.status == 403
    assert "Wrong name or password." in refused.body
    accepted = machine.log_in("right")
    assert (accepted.status, accepted.headers["Location"]) == (303, "/status")
    print(f"a login took {accepted.seconds * 1000:.1f} ms")
    page = machine.guest.curl(f"{HOME}/status")
    assert "You’re online" in page.body and "anna" in page.body
    assert machine.guest.curl(f"{HOME}/logout", form={"token": machine_token(page)}).status == 303
    assert "You’re logged out." in machine.guest.curl(f"{HOME}/").body


def machine_token(page: Response) -> str:
    match = re.search(r'name="token" value="(\w+)"', page.body)
    assert match
    return match[1]


def test_portals_key_and_socket_are_closed_to_others(machine: Machine) -> None:
    key = machine.config.paths.state / "portal" / "form.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert (machine.run / "portal" / "portal.sock").stat().st_mode & 0o777 == 0o660


def test_restarted_portal_takes_its_place_and_knows_open_forms(machine: Machine) -> None:
    token = machine.token()
    machine.portal.kill()
    machine.portal.wait()
    down = machine.guest.curl(f"{HOME}/")
    assert down.status == 503
    assert "This page isn’t working right now" in down.body
    with ExitStack() as exits:
        machine.portal = machine._start_portal(exits)
        wait_until(lambda: machine.guest.curl(f"{HOME}/").status == 200, 15, "the portal again")
        form = {"token": token, "user": "anna", "password": "wrong"}
        assert "Wrong name or password." in machine.guest.curl(f"{HOME}/login", form=form).body
