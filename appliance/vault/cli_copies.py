"""`gatehouse vault replica`, `offer`, `withdraw`, `follow`, `unfollow`, `pull` and `bring-back`."""

import argparse
import grp
import os
import pwd
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.config import Config
from appliance.errors import UserError
from appliance.tables import show
from appliance.units import format_bytes, parse_bytes
from appliance.vault import access, catalog, following, offers, outliving, replica, returning, signing, sources
from appliance.vault.manifest import Broken, Manifest
from appliance.vault.models import Replica
from appliance.vault.peer import Peer
from appliance.vault.pieces import Folder

_NONE = "none"


def add_parsers(verbs: Any, verb: Callable[..., Any]) -> None:
    words = verb(verbs, "replica", _replica, "make the disk that is mounted there a second copy; state of all copies")
    words.add_argument("folder", type=Path, nargs="?")
    words.add_argument("--json", action="store_true")
    words = verb(verbs, "offer", _offer, "let another appliance keep a copy of all vaults; prints its token, once")
    words.add_argument("name", help="what the other one is called")
    words.add_argument("--networks", default="", metavar="NETWORK,…", help="only from there")
    words.add_argument("--kept", default="", metavar="COPY", help="the copy that is kept here, to bring it back")
    words = verb(verbs, "withdraw", _withdraw, "end an offer: its token is no longer good")
    words.add_argument("name")
    words = verb(verbs, "follow", _follow, "keep a copy of another appliance's vaults; asks for the token")
    words.add_argument("name", help="what the other one is called")
    words.add_argument("url", help="such as https://gate.example.net:8090")
    words.add_argument("--key", default="", help="of its vault, which its `offer` prints; else what it shows is taken")
    words.add_argument("--rate", type=int, default=0, metavar="BITS", help="per second at most; 0: no limit")
    words.add_argument("--quota", default=_NONE, metavar="BYTES", help="for the copy, such as 500G; none: the disk")
    words.add_argument(
        "--keep-days", type=int, metavar="N", help="so long after it was erased there it stays here; else for ever"
    )
    words = verb(verbs, "forget", _forget, "erase of a copy what its --keep-days are over for, also when that is most")
    words.add_argument("name")
    words = verb(verbs, "unfollow", _unfollow, "follow another appliance no more; its copy stays")
    words.add_argument("name")
    words.add_argument("--erase", action="store_true", help="erase the copy, too")
    words = verb(verbs, "pull", _pull, "go on with the copies of other appliances now; done every five minutes")
    words.add_argument("name", nargs="?")
    words.add_argument("--verify", action="store_true", help="and read all that the copy has")
    words = verb(verbs, "bring-back", _bring_back, "fill a fresh vault from a second copy")
    words.add_argument("origin", metavar="FOLDER|URL", help="of a second copy's disk, or of who keeps the copy")
    words.add_argument("--key", default="", help="of the appliance that keeps the copy")
    words.add_argument("--signer", default="", help="of the vault that it is a copy of; else the own one")


def _replica(args: argparse.Namespace, config: Config) -> str:
    if args.folder is not None:
        return _prepare(args.folder, config)
    with access.opened(config):
        rows = [*_disks(), *map(_source_row, sources.rows()), *map(_offer_row, offers.rows())]
    return show(rows, ("name", "place", "events", "pulled_at", "verified_at", "bad", "problem"), args.json)


def _prepare(folder: Path, config: Config) -> str:
    if os.geteuid() != 0:
        raise UserError("only root can do this: try again with sudo")
    owner = pwd.getpwnam(access.USER).pw_uid, grp.getgrnam(access.USER).gr_gid
    number = replica.prepare(folder, owner)
    wanted = config.vault.replica == folder
    more = "" if wanted else f'; put replica = "{folder}" under [vault] of {config.file}, then `gatehouse apply`'
    return f"second copy {number} is at {folder}{more}"


def _time(at_s: int | None) -> str | None:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%MZ}" if at_s else None


def _row(of: Any, kind: str, place: str, **more: object) -> dict[str, object]:
    times = {"pulled_at": _time(of.pulled_at), "verified_at": _time(of.verified_at)}
    return {"name": of.name, "kind": kind, "place": place, "events": of.head_n, **times, "bad": of.bad, **more}


def _disks() -> list[dict[str, object]]:
    found = Replica.select().order_by(Replica.name)
    return [_row(copy, "disk", copy.place, head=copy.head, problem=copy.problem) for copy in found]


def _source_row(source: Any) -> dict[str, object]:
    more = {"head": source.head, "bytes": source.bytes, "missing": source.missing, "key": source.key}
    more |= {"keep_days": source.keep_days, "quota": source.quota_bytes, "rate_bps": source.rate_bps}
    return _row(
        source, "source", f"here, of {source.url}", problem=source.broken or source.held or source.problem, **more
    )


def _offer_row(offer: Any) -> dict[str, object]:
    place = f"elsewhere, by {offer.used_from or 'nobody yet'}" + (f", of {offer.kept}" if offer.kept else "")
    behind = "it is behind" if offers.is_behind(offer, int(time.time())) else ""
    return _row(offer, "offer", place, problem=behind)


def _offer(args: argparse.Namespace, config: Config) -> str:
    if not config.admin.tls:
        raise UserError("the admin's pages are without TLS ([admin] tls): a copy isn't given in clear")
    store = access.opened_store(config)
    signer = ""
    if args.kept:
        said = signing.read(sources.place_of(store, args.kept))
        if said is None:
            raise UserError(f"there is no copy {args.kept!r} here that was ever whole")
        signer = f" --signer {said['key']}"
    token = offers.add(args.name, args.networks, args.kept)
    offers.sign(config, store, int(time.time()))
    key = signing.public(signing.key(store.state))
    url = f"https://{config.portal.hostname}:{config.admin.port}"
    there = f"bring-back {url} --key {key}{signer}" if args.kept else f"follow NAME {url} --key {key}"
    return f"token {token}\nthere: gatehouse vault {there}"


def _withdraw(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config):
        offers.remove(args.name)
    return f"the token of {args.name} is no longer good"


def _token() -> str:
    if sys.stdin.isatty():
        print("Token: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _follow(args: argparse.Namespace, config: Config) -> str:
    token, quota = _token(), None if args.quota == _NONE else parse_bytes(args.quota)
    if args.rate < 0:
        raise UserError("--rate: bits per second, or 0")
    with access.opened(config):
        limits = {"rate_bps": args.rate, "quota_bytes": quota, "keep_days": args.keep_days}
        key = sources.add(args.name, args.url, args.key, token, **limits)
    sure = "" if args.key else "\ncompare it with what `gatehouse vault offer` printed there"
    return f"{args.name} is followed from now on; its vault's key is {key}{sure}"


def _forget(args: argparse.Namespace, config: Config) -> str:
    return f"{outliving.erase(access.opened_store(config), sources.named(args.name), most=True)} contents were erased"


def _unfollow(args: argparse.Namespace, config: Config) -> str:
    place = sources.remove(access.opened_store(config), args.name, args.erase)
    return f"{args.name} is followed no more; its copy {'is erased' if args.erase else f'stays at {place}'}"


def _pull(args: argparse.Namespace, config: Config) -> str:
    store, now = access.opened_store(config), int(time.time())
    lines = []
    for source in [sources.named(args.name)] if args.name else sources.rows():
        count = sources.pull(store, source, now)
        line = f"{source.name}: {count} events came, {source.head_n} in all, {format_bytes(source.bytes)}B"
        if args.verify:
            bad = sources.verify(store, source, now, None, float("inf"))
            line += f"; {bad} contents are bad or missing" if bad else "; all contents are what they were"
        lines.append(line)
    return "\n".join(lines) or "no other appliance is followed"


def _bring_back(args: argparse.Namespace, config: Config) -> str:
    if args.origin.startswith("https:"):
        token, store = _token(), access.opened_store(config)
        own = signing.public(signing.key(store.state))
        if not args.key:
            raise UserError("--key: `gatehouse vault offer --kept` there prints it")
        peer = Peer(args.origin, args.key, token, args.signer or own)
        try:
            report = returning.bring_back(store, peer, following.Limits())
        finally:
            peer.close()
    else:
        store = access.opened_store(config)
        place = Path(args.origin) / catalog.DISK
        upto = _signed(place, args.signer or signing.public(signing.key(store.state)))
        report = returning.bring_back(store, Folder(place, upto), following.Limits())
    line = f"{report.events} events, {report.versions} versions; {report.missing} contents aren't in the copy"
    return f"{line}; whether all is right says `gatehouse vault verify`"


def _signed(place: Path, signer: str) -> int:
    """Up to which event. Raises UserError where the copy isn't what was signed."""
    try:
        said = signing.read(place)
        if said is None or not signing.is_by(signer, said):
            key = said["key"] if said else "nobody"
            raise UserError(f"{place}: it is signed by {key}, not by the vault that is expected: see --signer")
        with Manifest(place, write=False) as file:
            following.last_of(file, known=(said["n"], said["sha256"]))
        return int(said["n"])
    except (OSError, ValueError, KeyError, Broken) as error:
        raise UserError(f"{place}: it can't be read as a second copy: {error}") from None
