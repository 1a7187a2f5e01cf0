"""Whether the hotspot does its work right now, asked through the interfaces that others use."""

import http
import http.client
import ssl
from collections.abc import Iterator

from appliance.config import Config
from appliance.errors import Unavailable, UserError
from appliance.nas.raddb import PROCESSES
from appliance.nas.status import Watch
from portal.protocol import GatewayClient, Who

LOOPBACK = "127.0.0.1"
TIMEOUT_S = 10.0  # slow boxes, right after they have started


def problems(config: Config) -> Iterator[str]:
    """One line each."""
    yield from _radius(config)
    try:
        GatewayClient(config.paths.run / "gateway" / "gateway.sock", TIMEOUT_S).ask(Who(config.gateway.address.ip))
    except UserError as error:
        yield str(error)
    yield from _page("the login page", LOOPBACK, config.portal.http_port, tls=False)
    listen = LOOPBACK if config.admin.listen.is_unspecified else str(config.admin.listen)
    yield from _page("the admin page", listen, config.admin.port, tls=config.admin.tls)


def _radius(config: Config) -> Iterator[str]:
    try:
        watch = Watch(config)
    except UserError as error:
        yield str(error)
        return
    for process in PROCESSES:
        try:
            watch.of_process(process)
        except Unavailable as error:
            yield str(error)


def _page(title: str, address: str, port: int, tls: bool) -> Iterator[str]:
    """Any answer but nginx's own that nobody stands behind it."""
    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
    if tls:
        own = ssl._create_unverified_context()  # noqa: S323 (our own, on this machine)
        connection = http.client.HTTPSConnection(address, port, timeout=TIMEOUT_S, context=own)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        yield f"{title} doesn't answer on {address} port {port}: {error or type(error).__name__}"
        return
    finally:
        connection.close()
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        yield f"{title} on {address} port {port} says {status}"
