"""nginx before all pages: TLS, slow clients, limits. It runs without any capability; modules add their own servers.

Start it as `nginx -e stderr -c FILE -p DIRECTORY`: without `-e` it complains about /var/log/nginx.
"""

import html
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.config import Config
from appliance.errors import ConfigError

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def render(config: Config, sites: Iterable[str]) -> str:
    """The text of nginx.conf; `sites` are the modules' server blocks. Raises ConfigError for paths it can't write."""
    web = path(config.paths.run / "web")
    return _MAIN.format(web=web, servers=_indent("\n\n".join([*sites, _admin(config)])))


_MAIN = """\
daemon off;
worker_processes 2;
worker_rlimit_nofile 16384;
pid {web}/nginx.pid;
error_log stderr warn;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    server_tokens off;
    default_type text/html;
    charset utf-8;

    client_body_temp_path {web}/body;
    proxy_temp_path {web}/proxy;
    fastcgi_temp_path {web}/fastcgi;
    uwsgi_temp_path {web}/uwsgi;
    scgi_temp_path {web}/scgi;

    client_header_timeout 10s;
    client_body_timeout 10s;
    send_timeout 10s;
    keepalive_timeout 5s;
    reset_timedout_connection on;
    client_max_body_size 8k;

    limit_conn_zone $binary_remote_addr zone=connections:4m;
    limit_req_zone $binary_remote_addr zone=requests:4m rate=10r/s;
    limit_conn_status 429;
    limit_req_status 429;

    proxy_http_version 1.1;
    proxy_connect_timeout 2s;
    proxy_max_temp_file_size 0;
    proxy_set_header Connection "";
    # All of them here: one in a location would hide these.
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host "";
    proxy_set_header Forwarded "";

{servers}
}}
"""


def tls(certificate: Path, key: Path) -> str:
    return f"""ssl_certificate {path(certificate)};
ssl_certificate_key {path(key)};
ssl_protocols TLSv1.2 TLSv1.3;
ssl_session_cache shared:tls:2m;
ssl_session_tickets off;
"""


def _admin(config: Config) -> str:
    socket = path(config.paths.run / "admin" / "admin.sock")
    own = config.paths.run / "admin.pem"
    listen = f"listen {config.admin.listen}:{config.admin.port} {'ssl ' if config.admin.tls else ''}default_server;\n"
    body = f"""{listen}{tls(own, own) if config.admin.tls else ""}client_max_body_size 10m;

location / {{
    proxy_pass http://unix:{socket};
    proxy_read_timeout 60s;
}}

error_page 502 504 =503 @down;
"""
    sentence = "The admin pages are not working right now. Please try again in a moment."
    return server(body + static("@down", 503, {"en": sentence}, again_s=5))


def challenges(config: Config) -> str:
    """What a public authority reads to see that a name is ours; nothing else, as it stands towards the Internet."""
    folder = path(config.paths.run / "acme")
    return server(f"""listen {config.acme.port} default_server;
limit_conn connections 20;

location / {{
    return 404;
}}
location /.well-known/acme-challenge/ {{
    alias {folder}/;
    default_type text/plain;
}}
""")


def server(body: str) -> str:
    return f"server {{\n{_indent(body)}\n}}"


def _indent(text: str) -> str:
    return textwrap.indent(text.strip(), "    ")


def path(file: Path) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9_./+@-]*", str(file)):
        raise ConfigError(f"{file}: nginx needs an absolute path of letters, digits, '_', '.', '/', '+', '@' and '-'")
    return str(file)


def static(name: str, status: int, sentences: Mapping[str, str], again_s: int = 0) -> str:
    """A page that stands when nothing else does, in each language by its code; the style is the browser's own.

    The browser asks anew after `again_s`, where that is given.
    """
    title, *_ = sentences.values()
    again = f'<meta http-equiv="refresh" content="{again_s}">' if again_s else ""
    headers = "".join(f'    add_header {key} "{value}" always;\n' for key, value in SECURITY_HEADERS.items())
    page = (
        '<!doctype html><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"{again}<title>{_safe(title)}</title>"
        + "".join(f'<p lang="{code}">{_safe(sentence)}</p>' for code, sentence in sentences.items())
    )
    headers += "    add_header Retry-After 10 always;\n"
    return f"\nlocation {name} {{\n{headers}    return {status} '{page}';\n}}\n"


def _safe(sentence: str) -> str:
    """In HTML, and there in nginx's quotes, where `$` would begin a variable."""
    return html.escape(sentence).replace("$", "&#36;").replace("\\", "&#92;")
