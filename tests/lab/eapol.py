"""A WPA-Enterprise phone behind its access point: eapol_test(8) of wpa_supplicant against our RADIUS server."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.radius import ROUTER, RadiusServer

MAC = "02:00:00:00:0e:a9"
OUTER = "anonymous@example.net"


@dataclass(frozen=True)
class Outcome:
    """`accept`: attribute numbers and values of the last Access-Accept, as eapol_test prints them.

    `success` says that the phone is content too: it proved the server, and its keys are those of the access point.
    """

    success: bool
    accept: list[tuple[int, str]]
    printed: str

    def values(self, number: int) -> list[str]:
        return [value for found, value in self.accept if found == number]

    def of_vendor(self, vendor: int, number: int) -> list[bytes]:
        """Values of a vendor's attribute (RFC 2865, 5.26)."""
        octets = [bytes.fromhex(value) for value in self.values(26)]
        return [o[6:] for o in octets if int.from_bytes(o[:4], "big") == vendor and o[4] == number]


def login(
    server: RadiusServer,
    user: str,
    password: str,
    method: str = "PEAP",
    phase2: str = "auth=MSCHAPV2",
    again: int = 0,
    **network: str,
) -> Outcome:
    """One login, and `again` more that try to resume its TLS session; `network`: more of wpa_supplicant.conf(5)."""
    ca = server.folder / "ca-on-the-phone.pem"
    if not ca.exists():
        ca.write_text(server.authority())
    lines = {
        "key_mgmt": "WPA-EAP",
        "eap": method,
        "identity": f'"{user}"',
        "anonymous_identity": f'"{OUTER}"',
        "password": f'"{password}"',
        "phase2": f'"{phase2}"',
        "ca_cert": f'"{ca}"',
        "domain_match": f'"{server.config.portal.hostname}"',
    } | network
    file = server.folder / "eapol.conf"
    file.write_text("network={\n" + "".join(f"{key}={value}\n" for key, value in lines.items()) + "}\n")
    return _run(server, file, again)


def _run(server: RadiusServer, file: Path, again: int) -> Outcome:
    words = ["eapol_test", "-c", str(file), "-a", "127.0.0.1", "-p", str(server.config.radius.authentication_port)]
    words += ["-s", server.secret, "-A", ROUTER, "-M", MAC, "-t", "15", "-r", str(again)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    _, mark, accept = done.stdout.rpartition("code=2 (Access-Accept)")
    accept = accept.partition("STA ")[0] if mark else ""
    found = re.findall(r"Attribute (\d+) \([^)]*\) length=\d+\n +Value: '?(.*?)'?\n", accept)
    return Outcome(done.returncode == 0, [(int(number), value) for number, value in found], done.stdout)
