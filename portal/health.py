"""Whether the hotspot does its work right now, asked through the interfaces that others use."""

from collections.abc import Iterator

from appliance.config import Config
from appliance.core import LOOPBACK, page
from appliance.errors import Unavailable, UserError
from appliance.nas.models import PROCESSES
from appliance.nas.status import Watch
from portal.protocol import GatewayClient, Who

TIMEOUT_S = 10.0  # slow boxes, right after they have started


def problems(config: Config) -> Iterator[str]:
    """One line each."""
    yield from _radius(config)
    if config.gateway.enabled:
        yield from _gateway(config)
    yield from page("the login page", LOOPBACK, config.portal.http_port, tls=False)


def _gateway(config: Config) -> Iterator[str]:
    try:
        GatewayClient(config.paths.run / "gateway" / "gateway.sock", TIMEOUT_S).ask(Who(config.gateway.address.ip))
    except UserError as error:
        yield str(error)


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
