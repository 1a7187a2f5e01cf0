"""The doctor's checks of routers: what FreeRADIUS knows and has counted of each, and whether it takes CoA."""

import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from ipaddress import ip_network
from typing import Any, NamedTuple

from appliance.accounts.models import LiveChange, Session
from appliance.accounts.refusals import DOCTOR
from appliance.config import TUNNEL_DEVICE, Config
from appliance.crypto import SecretBox, load_box
from appliance.doctor.findings import BAD, OK, WARN, Check, Finding
from appliance.doctor.machine import again
from appliance.errors import Unavailable, UserError
from appliance.nas import clients, coa, fields, raddb, setup, status, watch
from appliance.nas.models import GATEWAY, PROCESSES, Nas
from appliance.units import format_ago, format_duration

AT_ONCE = 32  # routers asked side by side: one that is away takes 3 s
TUNNEL_DOWN_S = 240  # a handshake is due after 120 s, and is tried for 90 (WireGuard's white paper, 6.1)
_TUNNEL_ANSWERS_S = 10
ASKED_FOR_S = 30.0
_DAY_S = 86_400
_READ = 10_000  # changes
_STUCK_S = 60  # a change that waits so long has been tried several times
_BLOCK = re.compile(r"^client (\S+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_PAIR = re.compile(r"^\t(\w+) = (\S+)", re.MULTILINE)


class Doubt(NamedTuple):
    """A finding of one router, before it has the router's name."""

    state: str
    sentence: str
    remedy: str = ""
    commands: tuple[str, ...] = ()


def every(config: Config) -> Iterator[Finding]:
    here = Nas.select().where(clients.served(config)).order_by(Nas.name)
    rows = [nas for nas in here if nas.kind != GATEWAY or config.gateway.enabled]
    findings = _of(config, rows)
    for nas in rows:
        yield from findings[nas.name]
    gone = {name.removesuffix("-radsec") for name in _known(config) or ()} - {*findings, clients.own_name(config)}
    for name in sorted(gone):
        sentence = "It was removed, but FreeRADIUS still answers it."
        yield Finding(f"router {name}", BAD, sentence, "Apply it.", ("gatehouse apply",))
    if not [nas for nas in rows if nas.kind != GATEWAY]:
        yield _alone(config)


def _alone(config: Config) -> Finding:
    if config.gateway.enabled:
        return Finding("routers", OK, "There are none but the appliance's own gateway.")
    return Finding("routers", WARN, "There are none, and the own gateway is off: nobody logs in.", "Add the first one.")


def one(config: Config, nas: Nas) -> list[Finding]:
    """Of the open core database."""
    return _of(config, [nas])[nas.name]


def _of(config: Config, rows: list[Nas]) -> dict[str, list[Finding]]:
    box, now = load_box(config.paths.state), int(time.time())
    found = {nas.name: [Finding(f"router {nas.name}", BAD, *_unusable(why))] for nas, why in _faults(rows, box)}
    rows = [nas for nas in rows if nas.name not in found]
    silent_s = config.radius.silent_s
    silence = watch.silent(watch.routers(silent_s, config.shows_gateways), silent_s, now)
    known = _known(config)
    counted = _counters(config, rows)
    told = _all_told(config, rows, box)
    for nas, reached in zip(rows, told, strict=True):
        doubts = [*_applied(nas, box, known), *_proves(config, nas), *_wrong(config, nas, counted.get(nas.name, {}))]
        doubts += [*reached, *_heard(config, nas, silence.get(nas.name), now)]
        found[nas.name] = [Finding(f"router {nas.name}", *doubt) for doubt in doubts] or [_well(nas)]
    return found


def _faults(rows: list[Nas], box: SecretBox) -> Iterator[tuple[Nas, str]]:
    return ((nas, why) for nas in rows if (why := fields.fault(nas, box)))


def _unusable(why: str) -> tuple[str, str]:
    return f"FreeRADIUS isn't told of it: {why}.", "Remove it and add it anew; find out who wrote that."


def _well(nas: Nas) -> Finding:
    takes = "takes no CoA, as it was told" if nas.coa == "none" else "takes CoA"
    return Finding(f"router {nas.name}", OK, f"It is known, proves its requests, and {takes}.")


def _known(config: Config) -> dict[str, dict[str, str]] | None:
    """By router what FreeRADIUS was started with; None where that can't be read."""
    try:
        text = (config.paths.run / "raddb" / "clients.conf").read_text(encoding="utf-8")
    except OSError:
        return None
    return {name: dict(_PAIR.findall(body)) for name, body in _BLOCK.findall(text)}


def is_applied(config: Config, nas: Nas) -> bool:
    """Whether FreeRADIUS knows it as it stands here, where this is the appliance that serves it."""
    if not Nas.select().where(Nas.id == nas.id, clients.served(config)).exists():
        return True
    box = load_box(config.paths.state)
    return not fields.fault(nas, box) and not list(_applied(nas, box, _known(config)))


def not_applied(config: Config, box: SecretBox) -> frozenset[str]:
    """What FreeRADIUS here is to be told of routers that it serves, a word each; it differs as they do."""
    known = _known(config)
    if known is None:
        return frozenset()
    rows = [nas for nas in Nas.select().where(clients.served(config)) if not fields.fault(nas, box)]
    gone = {name.removesuffix("-radsec") for name in known} - {nas.name for nas in rows}
    changed = {f"{nas.name} {bytes(nas.secret).hex()} {nas.address}" for nas in rows if list(_applied(nas, box, known))}
    return frozenset(gone | changed)


def _applied(nas: Nas, box: SecretBox, known: dict[str, dict[str, str]] | None) -> Iterator[Doubt]:
    if known is None:
        return
    wanted = {
        "ipaddr": clients.address(nas),
        "secret": box.open(nas.secret),
        "require_message_authenticator": "yes" if nas.require_message_authenticator else "no",
    }
    runs = known.get(nas.name, {})
    if any(runs.get(key) != value for key, value in wanted.items()):
        sentence = "FreeRADIUS doesn't know it yet as it stands here." if runs else "FreeRADIUS doesn't know it yet."
        yield Doubt(BAD, sentence, "Apply it.", ("gatehouse apply",))


def _proves(config: Config, nas: Nas) -> Iterator[Doubt]:
    if not nas.require_message_authenticator and not nas.radsec:
        lines = (f"gatehouse nas set {nas.name} --message-authenticator", "gatehouse apply")
        sentence = "Message-Authenticator isn't asked for: its logins can be forged (CVE-2024-3596)."
        remedy = "Update its firmware, then ask for it."
        yield Doubt(WARN, sentence, remedy, (*setup.remedy(config, nas, "RADIUS")[-1:], *lines))


def _counters(config: Config, rows: list[Nas]) -> dict[str, dict[str, status.Counters]]:
    """Of each router by process; nothing where FreeRADIUS doesn't answer, which another check says."""
    asked: dict[str, dict[str, status.Counters]] = {}
    try:
        asking = status.Watch(config, raddb.status_secret(config))
        for nas in rows:
            found = {process: asking.of_router(process, status.router(nas)) for process in PROCESSES}
            asked[nas.name] = {process: counters for process, counters in found.items() if counters is not None}
    except UserError:
        pass
    return asked


def wrong_secrets(config: Config, rows: list[Nas]) -> dict[str, int]:
    """By router since FreeRADIUS was started; a router that isn't in it can't be told."""
    return {name: sum(c.invalid for c in found.values()) for name, found in _counters(config, rows).items()}


def _wrong(config: Config, nas: Nas, counted: dict[str, status.Counters]) -> Iterator[Doubt]:
    if invalid := sum(counters.invalid for counters in counted.values()):
        sentence = f"{_packets(invalid)} came with a wrong secret since FreeRADIUS was started."
        remedy = f"Give it the right one: {setup.HIDDEN} stands for what is in `gatehouse nas script {nas.name}`."
        yield Doubt(BAD, sentence, remedy, _secret(nas))
    logins = counted.get("authentication")
    if logins is not None and logins.unusable and nas.require_message_authenticator:
        sentence = f"{_packets(logins.unusable)} were garbage, or came without Message-Authenticator: no answer."
        lines = setup.remedy(config, nas, "RADIUS")[-1:]
        yield Doubt(BAD, sentence, "Update its firmware and let it send Message-Authenticator.", lines)
    reports = counted.get("accounting")
    if reports is not None and reports.unusable:
        yield Doubt(WARN, f"{_packets(reports.unusable)} of accounting were garbage.", "Update its firmware.")


def _secret(nas: Nas) -> tuple[str, ...]:
    if nas.kind == GATEWAY:
        return ("gatehouse apply",)
    return (f"/radius set [find comment=gatehouse] secret={setup.HIDDEN}",) if nas.kind == "mikrotik" else ()


def _packets(count: int) -> str:
    return f"{count:,} packet" if count == 1 else f"{count:,} packets"


def _all_told(config: Config, rows: list[Nas], box: SecretBox) -> list[list[Doubt]]:
    """Those that there is no time for are named, so that hundreds of dead routers don't hide what else was found."""
    threads = ThreadPoolExecutor(AT_ONCE)
    asked = [threads.submit(_told, config, nas, box) for nas in rows]
    wait(asked, ASKED_FOR_S)
    threads.shutdown(wait=False, cancel_futures=True)
    late = Doubt(WARN, "There was no time to ask whether it takes CoA.", "Check it on its own page.")
    return [one.result() if one.done() and not one.cancelled() else [late] for one in asked]


def _told(config: Config, nas: Nas, box: SecretBox) -> list[Doubt]:
    """A Disconnect of a session that nobody has: a router that takes it says that it knows no such session."""
    if nas.coa == "none":
        return []
    if ip_network(nas.address).num_addresses > 1:
        lines = (f"gatehouse nas set {nas.name} --coa none",)
        sentence = f"It is a network ({nas.address}): changes of running sessions reach none of its routers."
        return [Doubt(WARN, sentence, "Add its routers one by one, or say that it takes none.", lines)]
    nobody = {"User-Name": DOCTOR, "Acct-Session-Id": secrets.token_hex(8)}
    try:
        coa.disconnect(str(nas.address), int(nas.coa_port), box.open(nas.secret), nobody)
    except Unavailable:
        sentence = f"It doesn't answer on UDP port {nas.coa_port}: Disconnect and CoA don't reach it."
        if nas.kind == GATEWAY:
            return [Doubt(BAD, sentence, "Start the gateway.", ("gatehouse apply",))]
        behind = "" if nas.tunnel_address else " Behind carrier NAT it needs a tunnel."
        remedy = f"Let it take them; the secret must be the same.{behind}"
        return [Doubt(BAD, sentence, remedy, setup.remedy(config, nas, "Disconnect and CoA"))]
    except UserError:
        pass  # it refuses, so it is there
    return []


def _heard(config: Config, nas: Nas, silence: watch.Silence | None, now: int) -> Iterator[Doubt]:
    if silence is not None:
        sentence = f"Its accounting is silent for {format_duration(now - silence.since)}"
        sentence += f", with {silence.open_sessions} sessions open." if silence.open_sessions else "."
        remedy = "See whether it runs and reaches this machine, and whether it accounts."
        yield Doubt(BAD, sentence, remedy, _look(config, nas))
    elif nas.seen_at is None and nas.kind != GATEWAY:
        remedy = "Paste its script into it, and log in there once."
        yield Doubt(WARN, "It was never heard of.", remedy, (f"gatehouse nas script {nas.name}",))


def _look(config: Config, nas: Nas) -> tuple[str, ...]:
    if nas.kind != "mikrotik":
        return ()
    try:
        ping = [f"/ping {setup.server(config, nas)} count=3"]
    except UserError:
        ping = []
    accounts = "/ip hotspot profile set [find use-radius=yes] radius-accounting=yes radius-interim-update=received"
    return (*ping, "/radius print where comment=gatehouse", accounts)


def changes(config: Config) -> Iterator[Finding]:
    """What running sessions were to be told, and weren't."""
    now = int(time.time())
    refused = _counted(LiveChange.state == "refused", LiveChange.created_at > now - _DAY_S)
    waits = LiveChange.ended_at.is_null() & (LiveChange.created_at < now - _STUCK_S)
    stuck = _counted(LiveChange.state == "pending", waits)
    for router, (count, note) in stuck.items():
        sentence = f"{_changes(count)} of running sessions can't be told to it{f': {note}' if note else ''}."
        yield Finding(f"router {router}", BAD, sentence, "Let it take CoA.", _incoming(config, router))
    for router, (count, note) in refused.items():
        sentence = f"It refused {_changes(count)} of running sessions since yesterday{f': {note}' if note else ''}."
        commands = (f"gatehouse nas set {router} --coa disconnect",)
        yield Finding(f"router {router}", WARN, sentence, "Where it takes only Disconnect, say so.", commands)
    if not refused and not stuck:
        yield Finding("running sessions", OK, "Every change of theirs has reached its router.")


def _incoming(config: Config, router: str) -> tuple[str, ...]:
    nas = Nas.get_or_none(Nas.name == router)
    return setup.remedy(config, nas, "Disconnect and CoA") if nas else ()


def _counted(*conditions: Any) -> dict[str, tuple[int, str]]:
    """By router the count, and the last word of one of them."""
    found: dict[str, tuple[int, str]] = {}
    rows: Any = LiveChange.select(LiveChange.note, Session.nas).join(Session).where(*conditions)
    for note, router in rows.limit(_READ).tuples():
        found[router] = (found.get(router, (0, ""))[0] + 1, note.rstrip("."))
    return found


def _changes(count: int) -> str:
    return "1 change" if count == 1 else f"{count:,} changes"


def tunnels(config: Config) -> Iterator[Finding]:
    """WireGuard shakes hands every two minutes while anything passes, and a keepalive always does."""
    rows = Nas.select().where(Nas.tunnel_key.is_null(False), clients.served(config)).order_by(Nas.name)
    if not config.tunnel.enabled or not rows:
        return
    asked = ("wg", "show", TUNNEL_DEVICE, "latest-handshakes")
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=_TUNNEL_ANSWERS_S)
    if done.returncode:
        sentence = f"Their device {TUNNEL_DEVICE} isn't there: {done.stderr.strip()}."
        yield Finding("tunnels", BAD, sentence, "Start their service.", again("tunnel"))
        return
    shaken = {key: int(at) for key, at in (line.split("\t") for line in done.stdout.splitlines())}
    for nas in rows:
        yield from _tunnel(config, nas, shaken.get(str(nas.tunnel_key)), int(time.time()))


def _tunnel(config: Config, nas: Nas, at: int | None, now: int) -> Iterator[Finding]:
    subject = f"router {nas.name}"
    if at is None:
        yield Finding(subject, BAD, "Its tunnel isn't set up here yet.", "Apply it.", ("gatehouse apply",))
    elif now - at > TUNNEL_DOWN_S:
        since = f"for {format_duration(now - at)}" if at else "yet"
        remedy = "Look at its way to the Internet; if it lost its key, print its script with --new-key."
        lines = (
            "/interface wireguard peers print where comment=gatehouse",
            f"gatehouse nas script {nas.name} --new-key",
        )
        yield Finding(subject, BAD, f"Its tunnel hasn't been heard {since}.", remedy, lines)
    else:
        yield Finding(subject, OK, f"Its tunnel was heard {format_ago(now - at)}.")


CHECKS = (
    Check("tunnels", tunnels, core=True, root=True),
    Check("routers", every, core=True, limit_s=45),
    Check("running sessions", changes, core=True),
)
