"""The RouterOS script that a technician pastes into a router; pure.

Menus and properties are those of MikroTik's manual (help.mikrotik.com/docs for RouterOS 7, wiki.mikrotik.com for 6).
Each command stands on a line of its own and may fail alone. What we add carries the comment `gatehouse`, or is found
by what it is for, so that pasting again finds it; nothing else of the router's configuration is touched.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from appliance.errors import UserError

MARK = "gatehouse"
_BACKUP, _NIGHT_MINUTES = "gatehouse-backup", 240  # from one to five in the morning
ROUTEROS = (6, 7)
SERVICES = ("hotspot", "pppoe", "dhcp", "wireless")
FLOW_FORMATS = ("ipfix", "9")
RADSEC_SECRET = "radsec"  # noqa: S105 (RFC 6614, 2.3: the same for everybody, TLS protects)
_RADIUS_SERVICE = {"pppoe": "ppp"}
_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.,:/-]*")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 !#%&'()*+,-./:;<=>@[]^_`{|}~")
_COMMENTED = f"comment={MARK}"


@dataclass(frozen=True)
class Tunnel:
    """The router's end of its WireGuard tunnel; without `private_key` the router has it already."""

    private_key: str | None
    address: str
    server_key: str
    endpoint: str
    port: int


@dataclass(frozen=True)
class Backup:
    """Where its backups go, by a log-in that can only bring new files; without `secret` they aren't encrypted."""

    port: int
    login: str
    password: str
    secret: str = ""


@dataclass(frozen=True)
class Script:
    """What the script is made of; secrets are in plain.

    `server` answers RADIUS, `portal` has the guest's pages. `radsec_certificate` is the router's own name for the
    certificate that it shows over TLS; without one it asks over UDP. Without `flows_port` no flows are sent to
    `flows_off_port` any more.
    """

    router: str
    routeros: int
    server: str
    portal: str
    secret: str
    portal_ports: str = "80,443"
    authentication_port: int = 1812
    accounting_port: int = 1813
    coa_port: int | None = 1700
    services: tuple[str, ...] = ("hotspot",)
    hotspot_profile: str = "hsprof1"
    dhcp_server: str = "dhcp1"
    mac_login: bool = True
    radsec_certificate: str | None = None
    radsec_port: int = 2083
    message_authenticator: bool = True
    ntp: str | None = None
    flows_port: int | None = None
    flows_version: str = "ipfix"
    flows_interfaces: str = ""
    flows_off_port: int | None = None
    tunnel: Tunnel | None = None
    backup: Backup | None = None


def render(script: Script) -> str:
    """Raises UserError for what this RouterOS can't do."""
    if script.routeros < 7 and script.tunnel:
        raise UserError("RouterOS 6 has no WireGuard: update the router, or take the tunnel away with --no-tunnel")
    if script.routeros < 7 and script.radsec_certificate:
        raise UserError("RadSec is for RouterOS 7 here: update the router, or switch it off with --no-radsec")
    parts = [_head(script)]
    for title in SECTIONS:
        if lines := section(script, title):
            parts.append("\n".join([f"# {title}", *lines]))
    return "\n\n".join([*parts, f':put "{MARK}: done"'])


def section(script: Script, title: str) -> tuple[str, ...]:
    """The commands of one part, for who has to mend only that."""
    return tuple(SECTIONS[title](script))


def quoted(text: str) -> str:
    """A string literal: what isn't plain is a hex escape, which both the terminal and an import understand.

    The manual, "Constant Escape Sequences": $ would be a variable, ? asks RouterOS 6 for help, a tab completes.
    """
    return '"' + "".join(c if c in _PLAIN else "".join(f"\\{byte:02X}" for byte in c.encode()) for c in text) + '"'


def _value(text: object) -> str:
    return str(text) if _BARE.fullmatch(str(text)) else quoted(str(text))


def _properties(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in values.items())


def _ours(menu: str, made: Mapping[str, object], values: Mapping[str, object], by: str = _COMMENTED) -> Iterator[str]:
    """An object of ours: added with the properties that it can't be without when it is missing, then set."""
    mark = {"comment": MARK} if by == _COMMENTED else {}
    yield f":if ([:len [{menu} find {by}]] = 0) do={{{menu} add {_properties({**mark, **made})}}}"
    yield f"{menu} set [find {by}] {_properties(values)}"


def _theirs(menu: str, name: str, values: Mapping[str, object], advice: str) -> Iterator[str]:
    """An object of the operator's, which has to be there."""
    yield from _warned(menu, name, advice)
    yield f"{menu} set [find name={quoted(name)}] {_properties(values)}"


def _warned(menu: str, name: str, advice: str) -> Iterator[str]:
    said = quoted(f"{MARK}: there is no {menu} {name}: {advice}")
    yield f":if ([:len [{menu} find name={quoted(name)}]] = 0) do={{:put {said}}}"


def _head(script: Script) -> str:
    lines = [
        f"# Gatehouse: router {script.router}, RouterOS {script.routeros}, served by {script.server}.",
        "# Paste it into a terminal of the router; pasting it twice does no harm. It holds secrets: keep it nowhere.",
    ]
    if script.tunnel and script.tunnel.private_key:
        lines.append("# The tunnel's key is shown only now. Run `gatehouse apply` before pasting it.")
    if script.routeros < 7 and script.message_authenticator:
        lines += [
            "# RouterOS 6 may send logins without Message-Authenticator, which get no answer. Update the router, or",
            f"# run `gatehouse nas set {script.router} --no-message-authenticator` and `gatehouse apply`.",
        ]
    return "\n".join(lines)


def _tunnel(script: Script) -> Iterator[str]:
    tunnel = script.tunnel
    if tunnel is None:
        return
    menu = "/interface wireguard"
    if tunnel.private_key:
        yield from _ours(menu, {"name": MARK}, {"private-key": tunnel.private_key})
    else:
        said = quoted(f"{MARK}: the key is missing here: print the script with --new-key")
        yield f":if ([:len [{menu} find {_COMMENTED}]] = 0) do={{:put {said}}}"
    peer = {
        "interface": MARK,
        "public-key": tunnel.server_key,
        "endpoint-address": tunnel.endpoint,
        "endpoint-port": tunnel.port,
        "allowed-address": f"{script.server}/32",
        "persistent-keepalive": "25s",
    }
    yield from _ours(f"{menu} peers", peer, peer)
    address = {"address": f"{tunnel.address}/32", "network": script.server, "interface": MARK}
    yield from _ours("/ip address", address, address)


def _radius(script: Script) -> Iterator[str]:
    values: dict[str, object] = {
        "service": ",".join(_RADIUS_SERVICE.get(service, service) for service in script.services),
        "address": script.server,
        "secret": script.secret,
        "authentication-port": script.authentication_port,
        "accounting-port": script.accounting_port,
        "timeout": "1s",
    }
    if script.tunnel:
        values["src-address"] = script.tunnel.address
    if script.routeros >= 7:
        values["protocol"] = "udp"
    if script.radsec_certificate:
        values |= _radsec(script.radsec_certificate, script.radsec_port)
        yield from _warned("/certificate", script.radsec_certificate, "import it first, or name it with --certificate")
    yield from _ours("/radius", {"address": script.server}, values)
    if script.routeros >= 7:  # since 7.15: parsed where it runs, so that an older one takes the rest
        command = f"/radius set [find {_COMMENTED}] require-message-auth=yes-for-request-resp"
        said = quoted(f"{MARK}: update RouterOS, it doesn't check Message-Authenticator (CVE-2024-3596)")
        yield f":do {{[[:parse {quoted(command)}]]}} on-error={{:put {said}}}"


def _radsec(certificate: str, port: int) -> dict[str, object]:
    return {
        "protocol": "radsec",
        "certificate": certificate,
        "secret": RADSEC_SECRET,
        "authentication-port": port,
        "accounting-port": port,
        "timeout": "3s",  # a connection may have to be made first
    }


def _incoming(script: Script) -> Iterator[str]:
    """RouterOS's own firewall drops what comes from outside: our rule goes before all others of the chain."""
    if script.coa_port is None:
        return
    yield f"/radius incoming set accept=yes port={script.coa_port}"
    menu, others = "/ip firewall filter", "find chain=input dynamic=no"
    rule = {"chain": "input", "protocol": "udp", "src-address": script.server, "dst-port": script.coa_port}
    add = f"{menu} add {_properties({'comment': MARK, **rule, 'action': 'accept'})}"
    yield (
        f":if (([:len [{menu} find {_COMMENTED}]] = 0) and ([:len [{menu} {others}]] > 0)) "
        f"do={{{add} place-before=[:pick [{menu} {others}] 0]}}"
    )
    yield f"{menu} set [find {_COMMENTED}] {_properties(rule)}"


def _hotspot(script: Script) -> Iterator[str]:
    if "hotspot" not in script.services:
        return
    values = {
        "use-radius": "yes",
        "radius-accounting": "yes",
        "radius-interim-update": "received",
        "login-by": "mac,mac-cookie,http-chap" if script.mac_login else "mac-cookie,http-chap",
    }
    if script.mac_login:
        values["mac-auth-mode"] = "mac-as-username-and-password"
    advice = "run /ip hotspot setup first, or name yours with --hotspot-profile"
    yield from _theirs("/ip hotspot profile", script.hotspot_profile, values, advice)
    garden = {"protocol": "tcp", "dst-address": script.portal, "dst-port": script.portal_ports}
    yield from _ours("/ip hotspot walled-garden ip", {"action": "accept", **garden}, garden)


def _pppoe(script: Script) -> Iterator[str]:
    if "pppoe" in script.services:
        yield "/ppp aaa set use-radius=yes accounting=yes"


def _dhcp(script: Script) -> Iterator[str]:
    if "dhcp" in script.services:
        advice = "make it first, or name yours with --dhcp-server"
        yield from _theirs("/ip dhcp-server", script.dhcp_server, {"use-radius": "yes"}, advice)


def _time(script: Script) -> Iterator[str]:
    if script.ntp is None:
        return
    if script.routeros < 7:
        yield f"/system ntp client set enabled=yes primary-ntp={script.ntp}"
        return
    yield "/system ntp client set enabled=yes"
    menu, server = "/system ntp client servers", f"address={script.ntp}"
    yield f":if ([:len [{menu} find {server}]] = 0) do={{{menu} add {server}}}"


def _flows(script: Script) -> Iterator[str]:
    """Traffic Flow sees packets as they are before source NAT, unless the operator has told it otherwise."""
    menu = "/ip traffic-flow target"
    if script.flows_port is None:
        if script.flows_off_port is not None:
            ours = f"find dst-address={script.server} port={script.flows_off_port}"
            alone = f"([:len [{menu} {ours}]] > 0) and ([:len [{menu} find]] = 1)"
            yield f":if ({alone}) do={{/ip traffic-flow set enabled=no}}"
            yield f"{menu} remove [{ours}]"
        return
    times = {"active-flow-timeout": "1m", "inactive-flow-timeout": "15s"}
    which = {"interfaces": script.flows_interfaces} if script.flows_interfaces else {}
    yield f"/ip traffic-flow set {_properties({'enabled': 'yes', **times, **which})}"
    target = {"dst-address": script.server}
    values: dict[str, object] = {"port": script.flows_port, "version": script.flows_version}
    values |= {"v9-template-refresh": 20, "v9-template-timeout": "1m"}
    if script.tunnel:
        values["src-address"] = script.tunnel.address
    yield from _ours(menu, {**target, **values}, values, by=f"dst-address={script.server}")


def _backups(script: Script) -> Iterator[str]:
    """Each night a binary backup and an export, by FTP (its fetch has no FTPS). Names have the time in them, as the
    log-in can't overwrite; an export doesn't show secrets."""
    if script.backup is None:
        return
    may = {"policy": "ftp,read,write,policy,test,password,sensitive"}
    by = f"name={_BACKUP}"
    values = {**may, "source": _backup_source(script, script.backup)}
    yield from _ours("/system script", {"name": _BACKUP, **values}, values, by=by)
    minute = zlib.crc32(script.router.encode()) % _NIGHT_MINUTES  # so that they don't all come at once
    event = {"interval": "1d", "on-event": f"/system script run {_BACKUP}", **may}
    start = {"start-time": f"{1 + minute // 60:02}:{minute % 60:02}:00"}
    yield from _ours("/system scheduler", {"name": _BACKUP, **start, **event}, {**start, **event}, by=by)


def _backup_source(script: Script, backup: Backup) -> str:
    how = f"encryption=aes-sha256 password={quoted(backup.secret)}" if backup.secret else "dont-encrypt=yes"
    hide = "" if script.routeros >= 7 else " hide-sensitive"
    where = _properties({"address": script.server, "port": backup.port, "user": backup.login})
    fetch = f"/tool fetch upload=yes mode=ftp {where} password={quoted(backup.password)}"
    folder = quoted(f"{script.router}/")
    failed = quoted(f"{MARK}: the backup couldn't be brought to {script.server}")
    return "\n".join(
        [
            ':local now ([/system clock get date] . "-" . [/system clock get time])',
            ':local stamp ""',
            ":for i from=0 to=([:len $now] - 1) do={",
            "  :local c [:pick $now $i]",
            '  :if (($c = "/") or ($c = ":")) do={:set c "-"}',
            "  :set stamp ($stamp . $c)",
            "}",
            f"/system backup save name={MARK} {how}",
            f"/export{hide} file={MARK}",
            ":delay 5s",
            ':foreach kind in={"backup";"rsc"} do={',
            f'  :do {{{fetch} src-path=({quoted(f"{MARK}.")} . $kind) dst-path=({folder} . $stamp . "." . $kind)}}'
            f" on-error={{:log error {failed}}}",
            f"  /file remove [find name=({quoted(f'{MARK}.')} . $kind)]",
            "}",
        ]
    )


SECTIONS: Mapping[str, Callable[[Script], Iterator[str]]] = {
    "The tunnel": _tunnel,
    "RADIUS": _radius,
    "Disconnect and CoA": _incoming,
    "Hotspot": _hotspot,
    "PPPoE": _pppoe,
    "DHCP": _dhcp,
    "Time": _time,
    "Flows": _flows,
    "Backups": _backups,
}
