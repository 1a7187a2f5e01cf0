"""The doctor's checks of the hotspot: what phones see, and what that stands on."""

import re
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from appliance.accounts.refusals import DOCTOR
from appliance.config import Config
from appliance.config_portal import MIKROTIK_PAGE
from appliance.core import LOOPBACK
from appliance.crypto import load_box, new_password
from appliance.doctor import tls
from appliance.doctor.findings import BAD, OK, WARN, Check, Finding
from appliance.doctor.machine import again
from appliance.errors import Unavailable
from appliance.nas import clients, raddb, status
from appliance.nas.models import PROCESSES
from portal import asking, dhcp, nft, phones, ruleset
from portal.radius import RadiusClient

DUE_DAYS = 14
FEW_SHARE = 10  # a warning when less than a tenth of the addresses is free
CERTIFICATE = "portal certificate"
_NOBODY = "02:00:00:00:00:00"  # a locally administered address that no device has
_HTTPS = re.compile(r"dport (\{[^}]*)?\b(443|https)\b.*\b(dnat|redirect)\b")
_DHCP_PORT = f":{67:04X} "  # as /proc/net/udp has it


def certificate(config: Config) -> Iterator[Finding]:
    """What phones are shown, not what lies in the file; and then whether the file would still do."""
    host = config.portal.hostname
    if config.portal.certificate is None:
        yield Finding(CERTIFICATE, OK, "There is none: the login page is on HTTP, which every phone opens.")
        return
    yield from _files(config)
    try:
        seen = tls.shown(_here(config), config.portal.https_port, host)
        distrust = tls.distrust(_here(config), config.portal.https_port, host)
    except OSError as error:
        sentence = f"Port {config.portal.https_port} shows none: {error.strerror or error}."
        yield Finding(CERTIFICATE, BAD, sentence, "Start the web server.", again("web"))
        return
    troubles = list(_troubles(seen, host, distrust))
    yield from troubles
    if not troubles:
        sentence = f"It is of {host}, publicly valid, for {tls.days_left(seen)} days."
        yield Finding(CERTIFICATE, OK, sentence)
    yield from _shown_is_old(config, seen)


def _here(config: Config) -> IPv4Address:
    """Where this machine itself finds the login page."""
    return config.gateway.address.ip if config.gateway.enabled else IPv4Address(LOOPBACK)


def _troubles(seen: x509.Certificate, host: str, distrust: str) -> Iterator[Finding]:
    new = "Get a certificate of that name from a public authority; name it and its key below [portal]."
    without = "Get one from a public authority, or take certificate and key out of [portal]."
    if not tls.is_for(seen, host):
        said = f"It is of {', '.join(tls.names(seen)) or 'no name'}, not of {host}."
        yield Finding(CERTIFICATE, BAD, said, new, (f'hostname = "{host}"',))
    days = tls.days_left(seen)
    if days < 0:
        yield Finding(CERTIFICATE, BAD, f"It expired {-days} days ago.", "Renew it.", again("web")[-1:])
    elif not tls.has_begun(seen):
        yield Finding(CERTIFICATE, BAD, "It isn't valid yet.", "See the clock.")
    elif days < DUE_DAYS:
        yield Finding(CERTIFICATE, WARN, f"It expires in {days} days.", "Renew it.", again("web")[-1:])
    if distrust:
        yield Finding(CERTIFICATE, BAD, f"Phones don't trust it: {distrust}.", without)


def _files(config: Config) -> Iterator[Finding]:
    """Whether the key is the certificate's; only who may read both can tell."""
    try:
        given = x509.load_pem_x509_certificate((config.portal.certificate or Path()).read_bytes())
        key = serialization.load_pem_private_key((config.portal.key or Path()).read_bytes(), None)
    except PermissionError:
        return
    except (OSError, ValueError, TypeError) as error:
        remedy = "PEM files are needed, the key without a password."
        yield Finding(CERTIFICATE, BAD, f"Its files can't be read: {error}.", remedy)
        return
    if key.public_key() != given.public_key():
        sentence = (
            f"{config.portal.key} isn't the key of {config.portal.certificate}: the web server won't start again."
        )
        yield Finding(CERTIFICATE, BAD, sentence, "Put the right key there.", ("gatehouse check",))


def _shown_is_old(config: Config, seen: x509.Certificate) -> Iterator[Finding]:
    try:
        given = x509.load_pem_x509_certificate((config.portal.certificate or Path()).read_bytes())
    except (OSError, ValueError):
        return
    if given.serial_number != seen.serial_number:
        sentence = "The web server still shows an older one than lies in the file."
        yield Finding(CERTIFICATE, WARN, sentence, "Start it anew.", again("web"))


def is_public(config: Config) -> bool:
    """Whether phones trust what they are shown."""
    address, port, host = config.gateway.address.ip, config.portal.https_port, config.portal.hostname
    if config.portal.certificate is None:
        return False
    try:
        return not list(_troubles(tls.shown(address, port, host), host, tls.distrust(address, port, host)))
    except OSError:
        return False


def option_114(config: Config) -> Iterator[Finding]:
    """Told exactly when it can be trusted: a phone that is told, and doesn't trust, may show no login page at all."""
    subject, told, public = "DHCP option 114", _tells(config), is_public(config)
    if told and not public:
        remedy = "Mend the certificate, or take certificate and key out of [portal]."
        sentence = "Phones are told an address for the portal whose certificate they don't trust."
        yield Finding(subject, BAD, sentence, remedy, ("gatehouse apply",))
    elif public and not told:
        sentence = "The certificate is good, but phones aren't told of the portal's API."
        yield Finding(subject, WARN, sentence, "Apply the configuration.", ("gatehouse apply",))
    else:
        yield Finding(subject, OK, "Phones are told of the portal's API." if told else "It isn't sent, and needn't be.")


def _tells(config: Config) -> bool:
    """By the file that dnsmasq was started with, where it may be read."""
    try:
        return "dhcp-option=114," in (config.paths.run / "dnsmasq.conf").read_text(encoding="utf-8")
    except OSError:
        return config.portal.certificate is not None


def names(config: Config) -> Iterator[Finding]:
    server, host = config.gateway.address.ip, config.portal.hostname
    try:
        found = asking.resolve(server, host)
    except OSError as error:
        sentence = f"It doesn't answer at {server}: {error}. Guests find no page, and get no address."
        yield Finding("name server", BAD, sentence, "Start it.", again("dnsmasq"))
        return
    if found != [server]:
        yield Finding(
            "name server", BAD, f"{host} leads to {found[0]}, not to {server}.", "Apply.", ("gatehouse apply",)
        )
    failed = {}
    for name in dict.fromkeys(phone.host for phone in phones.PHONES):
        try:
            asking.resolve(server, name)
        except OSError as error:
            failed[name] = str(error)
    if failed:
        name, why = next(iter(failed.items()))
        asked = ", ".join(str(address) for address in config.dhcp.dns) or "those of /etc/resolv.conf"
        remedy = f"The servers it asks ({asked}) don't help: reach them, or name others below [dhcp]."
        sentence = f"It can't find {len(failed)} of the names that phones ask first, such as {name}: {why}."
        yield Finding("name server", BAD, sentence, remedy, ('dns = ["192.0.2.53"]', "gatehouse apply"))
    elif found == [server]:
        yield Finding("name server", OK, f"It finds {host} and the names that phones ask first.")


def garden(config: Config) -> Iterator[Finding]:
    """Of the walled garden's names; one that only has names below it has no address itself."""
    server, failed = config.gateway.address.ip, {}
    for host in config.portal.garden_hosts:
        try:
            asking.resolve(server, host)
        except OSError as error:
            failed[host] = str(error)
    for host, why in failed.items():
        sentence = f"{host} has no address ({why}): guests reach it only if there are names below it."
        yield Finding("walled garden", WARN, sentence, "Correct it below [portal] walled_garden.", ("gatehouse apply",))
    if config.portal.garden_hosts and not failed:
        yield Finding("walled garden", OK, f"All {len(config.portal.garden_hosts)} of its names have addresses.")


def garden_set(config: Config) -> Iterator[Finding]:
    """dnsmasq is to put what it answers into nftables' set, and guests get through to nothing else."""
    for host in config.portal.garden_hosts:
        try:
            found = asking.resolve(config.gateway.address.ip, host)
        except OSError:
            continue  # said above
        text = nft.listed("set", ruleset.TABLE, "garden")
        if not any(lets_through(text, address) for address in found):
            sentence = f"{host} has addresses, but none is let through: the set `garden` isn't filled."
            yield Finding("walled garden", BAD, sentence, "Start both anew.", again("gateway", "dnsmasq"))


def lets_through(text: str, address: IPv4Address) -> bool:
    """By a set as nft(8) lists it."""
    return bool(re.search(rf"(?<![\d.]){re.escape(str(address))}(?![\d.])", text))


def addresses(config: Config) -> Iterator[Finding]:
    subject = "addresses for guests"
    if _DHCP_PORT not in Path("/proc/net/udp").read_text(encoding="ascii"):
        yield Finding(subject, BAD, "Nobody gives any: there is no DHCP server.", "Start it.", again("dnsmasq"))
    else:
        yield _taken(config, subject, time.time())


def _taken(config: Config, subject: str, now: float) -> Finding:
    first, last = config.dhcp_range
    size = min(int(last) - int(first) + 1, dhcp.MAX_LEASES)
    leases = dhcp.read_leases(dhcp.content(dhcp.lease_file(config)).decode(errors="replace"))
    taken = sum(first <= lease.ip <= last and (not lease.expires_at or lease.expires_at > now) for lease in leases)
    sentence = f"{taken:,} of {size:,} are taken."
    if taken * FEW_SHARE <= size * (FEW_SHARE - 1):
        return Finding(subject, OK, sentence)
    remedy = "Give them for a shorter time below [dhcp], or make the network larger below [gateway]."
    wider = f"{config.gateway.address.ip}/{max(config.gateway.address.network.prefixlen - 1, 8)}"
    commands = (f"lease_s = {max(config.dhcp.lease_s // 2, 120)}", f'address = "{wider}"', "gatehouse apply")
    full = taken >= size
    more = " New guests get no address." if full else ""
    return Finding(subject, BAD if full else WARN, sentence + more, remedy, commands)


def radius(config: Config) -> Iterator[Finding]:
    """Status-Server of both processes, and a login that has to be refused, by the gateway's own secret."""
    watch, down = status.Watch(config, raddb.status_secret(config)), False
    for process in PROCESSES:
        try:
            watch.of_process(process)
        except Unavailable as error:
            down = True
            yield Finding(f"RADIUS {process}", BAD, f"{error}.", "Start it.", again(f"radius-{process}"))
    if down:
        return
    try:
        client = RadiusClient(config, _gateway_secret(config).encode())
        client.authenticate(DOCTOR, new_password(), _here(config), _NOBODY)
    except Unavailable:
        sentence = "It runs, but doesn't answer the gateway: their secrets differ."
        yield Finding("RADIUS", BAD, sentence, "Render both anew.", ("gatehouse apply",))
        return
    yield Finding("RADIUS", OK, "It answers, knows the gateway's secret, and proves its answers.")


def _gateway_secret(config: Config) -> str:
    """What the portal uses, where it may be read."""
    try:
        return (config.paths.run / "gateway.secret").read_text(encoding="ascii").strip()
    except OSError:
        row = clients.own_gateway(config)
        return load_box(config.paths.state).open(row.secret) if row else ""


def phones_certificate(config: Config) -> Iterator[Finding]:
    """Of WPA-Enterprise."""
    subject, path = "WPA-Enterprise certificate", config.paths.run / "raddb" / "eap.pem"
    try:
        seen = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        yield Finding(subject, BAD, f"{path} can't be read: {error}.", "Render it anew.", ("gatehouse apply",))
        return
    days = tls.days_left(seen)
    if days < DUE_DAYS:
        own = config.radius.certificate is None
        remedy = "Apply: that makes a new one." if own else "Renew the files named below [radius], then apply."
        said = f"It expired {-days} days ago: no phone logs in." if days < 0 else f"It expires in {days} days."
        yield Finding(subject, BAD if days < 0 else WARN, said, remedy, ("gatehouse apply",))
    else:
        yield Finding(subject, OK, f"It is valid for {days} days.")


def network(config: Config) -> Iterator[Finding]:
    """The two devices, and whether the kernel passes anything on between them."""
    for what, device in (("LAN", config.gateway.lan), ("WAN", config.gateway.wan)):
        folder = Path("/sys/class/net", device)
        if not folder.exists():
            commands = ("ip -brief link", f'{what.lower()} = "NAME"', "gatehouse apply")
            yield Finding(
                f"{what} {device}", BAD, "There is no such device.", "Name the right one below [gateway].", commands
            )
        elif (state := (folder / "operstate").read_text(encoding="ascii").strip()) not in ("up", "unknown"):
            yield Finding(
                f"{what} {device}", BAD, f"It is {state}.", "Look at its cable.", (f"ip link set {device} up",)
            )
        else:
            yield Finding(f"{what} {device}", OK, "It is up.")
    if Path("/proc/sys/net/ipv4/ip_forward").read_text(encoding="ascii").strip() != "1":
        sentence = "The kernel passes nothing on: guests that are online reach nothing."
        yield Finding("forwarding", BAD, sentence, "Start the gateway anew: it switches it on.", again("gateway"))


def rules(config: Config) -> Iterator[Finding]:
    """That nftables leads a guest to the portal, and lets nobody else pass."""
    yield judged(
        config, nft.listed("chain", ruleset.TABLE, "prerouting"), nft.listed("chain", ruleset.TABLE, "forward")
    )


def judged(config: Config, early: str, forward: str) -> Finding:
    """By the two chains as nft(8) lists them."""
    address, anew = config.gateway.address.ip, again("gateway")
    if f"dnat ip to {address}:{config.portal.http_port}" not in early or "policy drop" not in forward:
        sentence = "nftables doesn't lead guests to the login page: the gateway's rules are missing or were changed."
        return Finding("rules", BAD, sentence, "Start the gateway anew: it writes them.", anew)
    if any(_HTTPS.search(line) and f"daddr {address}" not in line for line in early.splitlines()):
        sentence = (
            "nftables leads HTTPS of guests elsewhere: Android's second question and every page see a wrong name."
        )
        return Finding("rules", BAD, sentence, "Start the gateway anew: it leaves port 443 alone.", anew)
    return Finding("rules", OK, "nftables leads a guest's port 80 to the login page, and lets nobody else pass.")


def router_page(config: Config) -> Iterator[Finding]:
    """What guests of routers are sent to; without what a router hands over it only says so."""
    subject, port = "login page for routers", config.portal.http_port
    try:
        reply = asking.get(_here(config), port, config.portal.hostname, MIKROTIK_PAGE)
    except OSError as error:
        sentence = f"Nobody answers on port {port}: {error.strerror or error}."
        yield Finding(subject, BAD, sentence, "Start the web server.", again("web"))
        return
    if reply.status >= 500:
        sentence = f"It says {reply.status}: the portal behind the web server doesn't answer."
        yield Finding(subject, BAD, sentence, "Start the portal.", again("portal"))
    else:
        yield Finding(subject, OK, f"It answers on port {port} at {MIKROTIK_PAGE}.")


def _own(config: Config) -> bool:
    return config.gateway.enabled


CHECKS = (
    Check("phones", phones.play, limit_s=40, wanted=_own),
    Check("login page for routers", router_page, wanted=lambda config: not _own(config)),
    Check(CERTIFICATE, certificate),
    Check("DHCP option 114", option_114, wanted=_own),
    Check("name server", names, limit_s=30, wanted=_own),
    Check("walled garden", garden, limit_s=40, wanted=_own),
    Check("walled garden's addresses", garden_set, root=True, limit_s=40, wanted=_own),
    Check("addresses for guests", addresses, wanted=_own),
    Check("network devices", network, wanted=_own),
    Check("rules", rules, root=True, wanted=_own),
    Check("RADIUS", radius, core=True),
    Check("WPA-Enterprise certificate", phones_certificate),
)
