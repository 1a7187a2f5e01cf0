"""portal/nginx.py: the text for nginx, and that nginx itself takes it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance import web_server
from appliance.config import Config, parse
from appliance.errors import ConfigError
from portal.nginx import sites

CERTIFICATE = '[portal]\nhostname = "login.example.net"\ncertificate = "{0}/c.pem"\nkey = "{0}/k.pem"\n'


def render(config: Config) -> str:
    return web_server.render(config, sites(config))


def server(text: str, listen: str) -> str:
    """The server block with this `listen`."""
    blocks = re.split(r"\n    server \{", text)
    (block,) = [block for block in blocks if f"listen {listen}" in block]
    return block


def test_portal_listens_everywhere_and_knows_the_guests_address() -> None:
    text = render(parse('[paths]\nrun = "/run/gh"\n[portal]\nhttp_port = 8081'))
    assert "proxy_pass http://unix:/run/gh/portal/portal.sock;" in server(text, "8081 default_server;")
    assert "proxy_set_header X-Real-IP $remote_addr;" in text


def test_admin_listens_where_it_is_configured() -> None:
    text = render(parse('[paths]\nrun = "/run/gh"\n[admin]\nlisten = "192.0.2.1"\nport = 9000'))
    block = server(text, "192.0.2.1:9000 ssl default_server;")
    assert "ssl_certificate_key /run/gh/admin.pem;" in block  # passwords don't go over a network in plain
    assert "listen 127.0.0.1:8090 default_server;" in render(parse(""))
    assert "proxy_pass http://unix:/run/gh/admin/admin.sock;" in block
    assert "proxy_set_header" not in block  # one here would hide X-Real-IP and all others
    assert "limit_req zone" not in block


def test_no_tls_without_a_certificate() -> None:
    assert "ssl" not in render(parse(""))


def test_tls_with_a_certificate() -> None:
    block = server(render(parse(CERTIFICATE.format("/etc/tls"))), "8443 ssl")
    assert "ssl_certificate /etc/tls/c.pem;" in block
    assert "ssl_certificate_key /etc/tls/k.pem;" in block
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in block
    assert "limit_req zone" in block


@pytest.mark.parametrize("name", ["a b", "a;b", "$a", "{a}", "a'", "a:b"])
def test_paths_that_mean_something_to_nginx_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="nginx needs"):
        render(parse(f'[paths]\nrun = "/run/{name}"'))


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx isn't installed")
def test_nginx_takes_it(tmp_path: Path) -> None:
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    make += ["-subj", "/CN=login.example.net", "-keyout", f"{tmp_path}/k.pem", "-out", f"{tmp_path}/c.pem"]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / "web").mkdir()
    file = tmp_path / "nginx.conf"
    file.write_text(render(parse(f'[paths]\nrun = "{tmp_path}"\n{CERTIFICATE.format(tmp_path)}')))
    test = ["nginx", "-t", "-q", "-e", "stderr", "-c", str(file), "-p", f"{tmp_path}/web"]
    done = subprocess.run(test, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
