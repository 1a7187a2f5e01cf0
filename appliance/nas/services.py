"""The two FreeRADIUS processes as services."""

from appliance.config import Config
from appliance.nas.raddb import PROCESSES
from appliance.service import Service


def command(config: Config, process: str, *more: str) -> list[str]:
    """radiusd(8) with our raddb; `more` are further options, such as -C to check only."""
    return [
        "/usr/sbin/freeradius",
        "-f",
        "-l",
        "stdout",
        "-d",
        str(config.paths.run / "raddb"),
        "-n",
        process,
        *more,
    ]


def _service(process: str) -> Service:
    return Service(
        name=f"radius-{process}",
        description=f"FreeRADIUS, {process}",
        user="freerad",
        groups=("gatehouse-core",),
        command=lambda config: command(config, process),
        environment=(("GATEHOUSE_RADIUS", process),),
        writes=lambda config: [config.paths.state / "core"],
    )


RADIUS = tuple(_service(process) for process in PROCESSES)
