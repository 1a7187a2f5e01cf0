"""Certificates as those see them who have to trust them."""

import socket
import ssl
from datetime import UTC, datetime
from ipaddress import IPv4Address

from cryptography import x509

TIMEOUT_S = 5.0
_NO_CHECK_TIME = 0x20_0000  # X509_V_FLAG_NO_CHECK_TIME: dates are told apart from who has signed
_WHY = {  # X509_verify_cert_error_string(3)
    18: "it has signed itself",
    19: "its authority isn't a public one",
    20: "its authority isn't a public one, or the chain between them is missing",
    21: "the chain to its authority is missing",
}


def shown(address: IPv4Address, port: int, name: str) -> x509.Certificate:
    """What the server shows to who asks for this name, good or not; raises OSError."""
    context = ssl._create_unverified_context()  # noqa: S323 (it is looked at, not trusted)
    with _connected(address, port, name, context) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")


def distrust(address: IPv4Address, port: int, name: str) -> str:
    """Why a phone trusts nobody who has signed it, whatever its name and dates; empty when it does. Raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        _connected(address, port, name, context).close()
    except ssl.SSLCertVerificationError as error:
        return _WHY.get(error.verify_code, error.verify_message)
    return ""


def _connected(address: IPv4Address, port: int, name: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    with socket.create_connection((str(address), port), TIMEOUT_S) as link:
        return context.wrap_socket(link, server_hostname=name)


def names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """RFC 9525, 6.3: a star stands for one label."""
    return any(name.lower() in (host, f"*.{host.partition('.')[2]}") for name in names(certificate))


def days_left(certificate: x509.Certificate) -> int:
    """Below 0 once it is over."""
    return (certificate.not_valid_after_utc - datetime.now(UTC)).days


def has_begun(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_before_utc <= datetime.now(UTC)
