"""The section [netflow]: what the collector listens to, and how much of it is kept."""

from dataclasses import dataclass

from appliance.config_checks import address, between, ports


@dataclass(frozen=True)
class Netflow:
    """`listen` "::" is every address of both families. Datagrams as they came are kept for hours, flows for days.

    `keep_gb` 0 is as much as the data disk holds. `buffer_mb` is the socket's, `spool_mb` what is kept on the system's
    disk while the data disk is away. `gateway` is whether the appliance's own gateway sends its guests' flows.
    """

    listen: str = "::"
    port: int = 2055
    gateway: bool = True
    keep_days: int = 180
    keep_gb: int = 0
    journal_hours: int = 48
    journal_gb: int = 4
    spool_mb: int = 512
    buffer_mb: int = 16

    def __post_init__(self) -> None:
        address(self, "listen")
        ports(self, "port")
        for key, low, high in (
            ("keep_days", 1, 3650),
            ("keep_gb", 0, 1_000_000),
            ("journal_hours", 1, 8760),
            ("journal_gb", 1, 100_000),
            ("spool_mb", 16, 100_000),
            ("buffer_mb", 1, 512),
        ):
            between(self, key, low, high)
