"""The portal's servers in nginx's configuration."""

from collections.abc import Iterator

from appliance import web_server
from appliance.config import Config

# Longer than the portal may take for a login: two tries of RADIUS and one of the gateway.
PORTAL_ANSWERS_WITHIN_S = 15


def sites(config: Config) -> Iterator[str]:
    """One without TLS, and one with it where the certificate is given."""
    yield _portal(config, f"listen {config.portal.http_port} default_server;\n")
    if config.portal.certificate and config.portal.key:
        tls = web_server.tls(config.portal.certificate, config.portal.key)
        yield _portal(config, f"listen {config.portal.https_port} ssl default_server;\n{tls}")


def _portal(config: Config, listen: str) -> str:
    socket = web_server.path(config.paths.run / "portal" / "portal.sock")
    body = f"""
limit_conn connections 20;
limit_req zone=requests burst=40 nodelay;

location / {{
    proxy_pass http://unix:{socket};
    proxy_read_timeout {PORTAL_ANSWERS_WITHIN_S}s;
}}

error_page 502 504 =503 @down;
error_page 429 @busy;
"""
    down = web_server.static("@down", 503, "This page is not working right now")
    return web_server.server(listen + body + down + web_server.static("@busy", 429, "Too many requests at once"))
