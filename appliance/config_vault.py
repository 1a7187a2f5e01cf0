"""The section [vault]: where FTP is spoken, and how what is kept is looked after."""

from dataclasses import dataclass
from pathlib import Path

from appliance.config_checks import EMAIL, address, between, certificate, ports, webhook


@dataclass(frozen=True)
class Vault:
    """`listen` "::" is every address of both families; `tls_port` 0 is no implicit FTPS.

    Data connections come in at `passive_first` to `passive_last`, at the `masquerade` address if a router translates.
    `certificate` and `key` (PEM files) replace the own ones. `replica` is where a second disk is mounted. The nightly
    backup of the appliance itself is encrypted to `recipients`, public keys; without one there is none.
    Alerts are told to `alert_mail`, an address, and `alert_webhook`, a URL that takes JSON.
    """

    listen: str = "::"
    port: int = 21
    tls_port: int = 990
    passive_first: int = 50_000
    passive_last: int = 50_199
    masquerade: str = ""
    certificate: Path | None = None
    key: Path | None = None
    max_sessions: int = 200
    sessions_per_address: int = 20
    idle_s: int = 300
    scrub_mb_s: int = 20
    replica: Path | None = None
    recipients: tuple[str, ...] = ()
    alert_mail: str = ""
    alert_webhook: str = ""

    def __post_init__(self) -> None:
        for key in ("listen", *(("masquerade",) if self.masquerade else ())):
            address(self, key)
        ports(self, "port", "passive_first", "passive_last")
        between(self, "tls_port", 0, 65_535)
        if self.port == self.tls_port:
            raise ValueError("port, tls_port: two different ports are needed")
        if self.passive_first > self.passive_last:
            raise ValueError("passive_first, passive_last: the first port comes after the last")
        if any(self.passive_first <= port <= self.passive_last for port in (self.port, self.tls_port)):
            raise ValueError("passive_first, passive_last: the range holds port or tls_port")
        certificate(self.certificate, self.key)
        for key, low, high in (
            ("max_sessions", 1, 2000),
            ("sessions_per_address", 1, 2000),
            ("idle_s", 10, 86_400),
            ("scrub_mb_s", 1, 10_000),
        ):
            between(self, key, low, high)
        for word in self.recipients:
            if not word.startswith("age1"):
                raise ValueError(f"recipients: {word[:80]!r} is no public key: it begins with age1")

        if self.alert_mail and not EMAIL.fullmatch(self.alert_mail):
            raise ValueError("alert_mail: an e-mail address such as noc@example.net is needed")
        if self.alert_webhook:
            try:
                webhook(self.alert_webhook)
            except ValueError as error:
                raise ValueError(f"alert_webhook: {error}") from None
