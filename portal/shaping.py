"""HTB classes on the LAN device (download) and the WAN device (upload); those on the LAN device also count what
reached the guest, so every session has one there. On the WAN device only a limit needs one: nftables counts uploads.

The kernel finds a packet's class by its priority, which nftables sets, so there are no tc filters. Whose class isn't
there is in the device's default class.

The kernel looks at all classes of a device when one is made or removed (4 ms with 10,000), but not when one changes.
So the class of a session that ended stays, without its queue, for the next one: its counter goes on.
"""

import logging
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    nlmsg,
)
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import (
    RTM_NEWQDISC,
    RTM_NEWTCLASS,
    TC_H_ROOT,
)

from portal.classes import Class, Classes
from portal.models import FIRST_MINOR, LAST_MINOR, Amount
from portal.netlink import KernelRefusal, attribute

DEFAULT_MINOR, SHARED_MINOR = 1, 2
SPARE_CLASSES = 1000  # at most, on each device
DEFAULT_DOWN_BPS = 20_000_000  # of the LAN's default class: portal pages and DNS for all guests together
_ROOT = 0x10000  # 1:0
_UNLIMITED_BYTES_S = 2**32 - 1  # what the classic field of HTB can hold, 34 Gbit/s
_BURST_S = 0.01
_FRAME_BYTES = 1514
_QUEUE_S = 0.1
_QUEUE_BYTES = (70_000, 4_000_000)  # at least one aggregated packet (64 KiB), else TCP with GSO would starve
_ETHERNET = 1, 14  # ARPHRD_ETHER, bytes of its header
_SET = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
_BATCH = 100

log = logging.getLogger(__name__)


Rates = tuple[int, int, int]
"""Minor, download and upload in bit/s, 0 for no limit."""


class _Tc(nlmsg):  # type: ignore[misc]
    """struct tcmsg; pyroute2's own one computes rate tables that the kernel hasn't read since 3.8, in 0.8 ms,
    and replaces the parent of qdiscs that it doesn't know (bfifo) by the root."""

    prefix = "TCA_"
    fields = (
        ("family", "B"),
        ("pad1", "B"),
        ("pad2", "H"),
        ("index", "i"),
        ("handle", "I"),
        ("parent", "I"),
        ("info", "I"),
    )
    nla_map = (("TCA_UNSPEC", "none"), ("TCA_KIND", "asciiz"), ("TCA_OPTIONS", "cdata"))


@dataclass(frozen=True)
class _Device:
    name: str
    index: int
    header_bytes: int


class Shaper:
    """Both devices. After `prepare` classes of an earlier run are still there, with their counters; `reconcile` says
    whose they are."""

    def __init__(self, lan: str, wan: str) -> None:
        self._names = {"lan": lan, "wan": wan}
        self._classes = Classes()
        self._fq_codel = True
        self._used: dict[int, set[int]] = {}
        self._spare: dict[int, set[int]] = {}

    def open(self) -> None:
        """Raises KernelRefusal when a device is missing."""
        self._netlink = IPRoute()
        self._classes.open()
        self._lan, self._wan = (self._find(key, name) for key, name in self._names.items())

    def close(self) -> None:
        self._classes.close()
        self._netlink.close()

    def prepare(self) -> None:
        """Roots where there are none, and the default classes."""
        for device, default in ((self._lan, DEFAULT_MINOR), (self._wan, SHARED_MINOR)):
            if self._classes.root(device.index) != (_ROOT, "htb"):
                self._set_root(device, default)
            self._used[device.index], self._spare[device.index] = set(), set()
        self._fq_codel = self._has_fq_codel()
        self._netlink.nlm_request_batch(_class(self._wan, SHARED_MINOR, 0, self._leaf, new=False))

    def set_classes(self, rates: Iterable[Rates]) -> None:
        """Makes them or changes them; counters go on, also those of a spare one."""
        waiting = iter(rates)
        while some := list(islice(waiting, _BATCH)):
            down = self._messages(self._lan, [(minor, bps) for minor, bps, _ in some])
            up = self._messages(self._wan, [(m, bps) for m, _, bps in some if bps or self._exists(self._wan, m)])
            try:
                self._netlink.nlm_request_batch(down + up)
            except NetlinkError as error:
                raise KernelRefusal(f"the kernel refuses HTB class 1:{some[0][0]:x} or a later one: {error}") from None

    def release(self, minor: int) -> None:
        """What waits for the guest is dropped; the class stays for another session, unless there are plenty."""
        for device in (self._lan, self._wan):
            if minor in self._used[device.index]:
                self._used[device.index].discard(minor)
                self._put_aside(device, minor)

    def _messages(self, device: _Device, rates: Iterable[tuple[int, int]]) -> list[nlmsg]:
        used = self._used[device.index]
        made = [m for minor, bps in rates for m in _class(device, minor, bps, self._leaf, new=minor not in used)]
        used.update(minor for minor, _ in rates)
        self._spare[device.index].difference_update(used)
        return made

    def _exists(self, device: _Device, minor: int) -> bool:
        return minor in self._used[device.index] or minor in self._spare[device.index]

    def _put_aside(self, device: _Device, minor: int) -> None:
        spare = self._spare[device.index]
        if len(spare) < SPARE_CLASSES:
            self._classes.drop_queue(device.index, _ROOT | minor)
            spare.add(minor)
        else:
            self._classes.remove(device.index, _ROOT | minor)

    def received(self, minor: int) -> Amount:
        """What the guest got; nothing where there is no class."""
        found = self._classes.one(self._lan.index, _ROOT | minor)
        return self._amount(found) if found else Amount()

    def all_received(self) -> dict[int, Amount]:
        """By minor."""
        return {minor: self._amount(found) for minor, found in self._sessions(self._lan).items()}

    def reconcile(self, rates: Iterable[Rates]) -> list[Rates]:
        """Classes of an earlier run: puts those not wanted aside, gives the others their rates; returns the missing."""
        down, up = self._sessions(self._lan), self._sessions(self._wan)
        wanted = {rate[0]: rate for rate in rates}
        kept = {m for m in wanted.keys() & down.keys() if m in up or not wanted[m][2]}
        for device, present in ((self._lan, down), (self._wan, up)):
            self._used[device.index] = kept & present.keys()
            for minor in present.keys() - kept:
                self._put_aside(device, minor)
        self.set_classes(wanted[m] for m in kept if _differ(wanted[m], down[m], up.get(m)))
        return [rate for minor, rate in wanted.items() if minor not in kept]

    def _sessions(self, device: _Device) -> dict[int, Class]:
        classes = self._classes.all(device.index)
        return {one.minor: one for one in classes if FIRST_MINOR <= one.minor <= LAST_MINOR}

    def _amount(self, found: Class) -> Amount:
        """An aggregated frame was counted with the headers of all its parts."""
        return Amount(max(0, found.octets - self._lan.header_bytes * found.packets), found.packets)

    def _find(self, key: str, name: str) -> _Device:
        found = list(self._netlink.link_lookup(ifname=name))
        if not found:
            raise KernelRefusal(f"[gateway] {key}: there is no network device {name!r}")
        link = self._netlink.get_links(found[0])[0]
        kind, header_bytes = _ETHERNET
        return _Device(name, found[0], header_bytes if link["ifi_type"] == kind else 0)

    def _set_root(self, device: _Device, default: int) -> None:
        glob = struct.pack("=IIIII", 3, 10, default, 0, 0)  # tc_htb_glob: version, r2q, default class
        options = attribute(2, glob) + attribute(5, struct.pack("=I", 1000))  # TCA_HTB_INIT, _DIRECT_QLEN
        try:
            self._send(device, RTM_NEWQDISC, _SET, _ROOT, TC_H_ROOT, "htb", options)
        except NetlinkError as error:
            raise _refused(device, "an HTB queue (is sch_htb in this kernel?)", error) from None

    def _has_fq_codel(self) -> bool:
        default = DEFAULT_MINOR, DEFAULT_DOWN_BPS
        self._netlink.nlm_request_batch(_class(self._lan, *default, "bfifo", new=True))
        try:
            self._netlink.nlm_request_batch(_class(self._lan, *default, "fq_codel", new=True))
        except NetlinkError as error:
            log.info("no fq_codel in this kernel (%s): plain queues of %.1f s instead", error, _QUEUE_S)
            return False
        return True

    @property
    def _leaf(self) -> str:
        return "fq_codel" if self._fq_codel else "bfifo"

    def _send(self, device: _Device, command: int, flags: int, *rest: Any) -> None:
        self._netlink.nlm_request_batch([_message(device, command, flags, *rest)])


def _message(
    device: _Device,
    command: int,
    flags: int,
    handle: int = 0,
    parent: int = 0,
    kind: str = "",
    options: bytes = b"",
) -> nlmsg:
    message = _Tc()
    message["index"], message["handle"], message["parent"] = device.index, handle, parent
    if kind:
        message["attrs"] = [["TCA_KIND", kind], ["TCA_OPTIONS", options]]
    message["header"]["type"], message["header"]["flags"] = command, flags
    return message


def _class(device: _Device, minor: int, rate_bps: int, leaf: str, new: bool) -> list[nlmsg]:
    """The class and the queue in it."""
    handle = _ROOT | minor
    options = _fq_codel(rate_bps, new) if leaf == "fq_codel" else _bfifo(rate_bps)
    return [
        _message(device, RTM_NEWTCLASS, _SET, handle, _ROOT, "htb", _htb(rate_bps)),
        _message(device, RTM_NEWQDISC, _SET, 0, handle, leaf, options),
    ]


def _differ(wanted: Rates, down: Class, up: Class | None) -> bool:
    _, down_bps, up_bps = wanted
    return down.rate_bytes_s != _bytes_per_s(down_bps) or (up is not None and up.rate_bytes_s != _bytes_per_s(up_bps))


def _bytes_per_s(rate_bps: int) -> int:
    return min(rate_bps // 8, _UNLIMITED_BYTES_S) or _UNLIMITED_BYTES_S


def _htb(rate_bps: int) -> bytes:
    """TCA_HTB_PARMS with struct tc_htb_opt; linklayer 1 (Ethernet) spares the kernel the old rate tables."""
    rate = _bytes_per_s(rate_bps)
    burst_s = max(_BURST_S, 2 * _FRAME_BYTES / rate)
    ticks = int(burst_s * 1e9) >> 6  # PSCHED_SHIFT
    spec = struct.pack("=BBHhHI", 0, 1, 0, 0, 0, rate)
    quantum = min(max(rate // 100, _FRAME_BYTES), 60_000)
    return attribute(1, spec + spec + struct.pack("=IIIII", ticks, ticks, quantum, 0, 0))


def _bfifo(rate_bps: int) -> bytes:
    low, high = _QUEUE_BYTES
    return struct.pack("=I", min(max(int(_bytes_per_s(rate_bps) * _QUEUE_S), low), high))


def _fq_codel(rate_bps: int, new: bool) -> bytes:
    """Little memory; where a frame takes longer than CoDel's target of 5 ms, a longer target.

    The number of flows can be told only once: few for a new session, the kernel's own for what many share.
    """
    target_us = max(5_000, int(1.5 * _FRAME_BYTES / _bytes_per_s(rate_bps) * 1e6))
    values = {1: target_us, 2: 1000, 3: 100_000 + target_us, 4: 1, 9: 4 << 20}
    if new:
        values[5] = 16
    return b"".join(attribute(kind, struct.pack("=I", value)) for kind, value in values.items())


def _refused(device: _Device, what: str, error: NetlinkError) -> KernelRefusal:
    return KernelRefusal(f"{device.name}: the kernel refuses {what}: {error.args[-1]}")
