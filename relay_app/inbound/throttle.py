"""Guessing is slowed, then banned - for the one who guesses, not for the owner of the device.

Failed logins are counted for each pair of device and client network, and for each network. A device whose
password is being guessed from many networks only becomes slower for those who have never logged in to it:
locking the device would do the attacker's work. Whoever presented the right password lately from this
network (`devices` knows) is spared: never refused, and made to wait only while the network is banned. An
attacker in the owner's own network can then go on guessing, but no faster than his connections allow.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from relay_app.errors import SmtpRefusal

_FREE = 3  # failures that cost nothing: a person mistypes
_PAIR_LIMIT = 10  # failures of one device from one network before the pair is banned
_NETWORK_LIMIT = 30  # failures from one network, over all device names, before the network is banned
_DEVICE_SLOW = 50  # failures of one device, over all networks, before strangers wait longest
_BAN = 15 * 60.0  # seconds; doubled with each further ban, up to a day
_MAX_BAN = 24 * 3600.0
_MAX_DOUBLINGS = 7
_FORGET = 24 * 3600.0  # seconds without a failure or a ban after which all is forgotten
_MAX_DELAY = 8.0  # seconds
_MAX_RECORDS = 20_000  # bounds memory: the least recently used is dropped


@dataclass(slots=True)
class _Record:
    failures: int = 0
    bans: int = 0
    banned_until: float = 0.0
    last: float = 0.0


class Throttle:
    """Counts failed logins. `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: OrderedDict[Hashable, _Record] = OrderedDict()

    def delay(self, device: str, address: str, *, known: bool) -> float:
        """Return how many seconds to wait before looking at a password, right or wrong.

        `known`: this password was right lately, from this network.
        """
        if self._banned_for(device, address) > 0:
            return _MAX_DELAY
        if known:
            return 0.0
        if self._find(_device(device)).failures >= _DEVICE_SLOW:
            return _MAX_DELAY
        worst = max(self._find(_pair(device, address)).failures, self._find(_network(address)).failures // 3)
        return 0.0 if worst < _FREE else min(_MAX_DELAY, 2.0 ** (worst - _FREE))

    def check(self, device: str, address: str) -> None:
        """Refuse the banned.

        Raises:
            SmtpRefusal: 454, the network, or this device from this network, is banned. It ends by itself.
        """
        seconds = self._banned_for(device, address)
        if seconds > 0:
            minutes = int(seconds // 60) + 1
            unit = "minute" if minutes == 1 else "minutes"
            raise SmtpRefusal(
                454,
                "4.7.0",
                f"Too many failed logins from {address}. "
                f"Correct the password, then try again in {minutes} {unit}",
            )

    def failed(self, device: str, address: str) -> bool:
        """Note a wrong password. Returns True when this brought a ban."""
        self._count(_device(device), limit=None)
        pair = self._count(_pair(device, address), limit=_PAIR_LIMIT)
        everywhere = self._count(_network(address), limit=_NETWORK_LIMIT)
        return pair or everywhere

    def succeeded(self, device: str, address: str) -> None:
        """Note a right password: this device and network start afresh."""
        self._records.pop(_pair(device, address), None)

    def _banned_for(self, device: str, address: str) -> float:
        records = (self._find(_pair(device, address)), self._find(_network(address)))
        return max(record.banned_until for record in records) - self._clock()

    def _find(self, key: Hashable) -> _Record:
        record = self._records.get(key)
        if record is None or self._clock() - max(record.last, record.banned_until) > _FORGET:
            return _Record()
        return record

    def _count(self, key: Hashable, *, limit: int | None) -> bool:
        record = self._find(key)
        record.failures += 1
        record.last = now = self._clock()
        banned = limit is not None and record.failures >= limit
        if banned:
            record.banned_until = now + min(_MAX_BAN, _BAN * 2.0 ** min(record.bans, _MAX_DOUBLINGS))
            record.bans += 1
            record.failures = 0
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > _MAX_RECORDS:
            self._records.popitem(last=False)
        return banned


# The kinds of record. A client chooses the device's name: it must not pass for somebody's network.


def _device(name: str) -> Hashable:
    return "device", name


def _network(address: str) -> Hashable:
    return "network", network_of(address)


def _pair(device: str, address: str) -> Hashable:
    return "pair", device, network_of(address)


def network_of(address: str) -> str:
    """The part of an address that one person has to himself: an IPv4 address, an IPv6 /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
    return str(ip)
