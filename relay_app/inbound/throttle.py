"""Guessing is slowed, then banned - for the one who guesses, not for the owner of the device.

Failed logins are counted for each pair of device and client address, and for each address. A device whose
password is being guessed from many addresses only becomes slower for those who have never logged in to it:
locking the device would do the attacker's work. Whoever presented the right password lately is not asked here
at all (`devices`).
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from relay_app.errors import SmtpRefusal

_FREE = 3  # failures that cost nothing: a person mistypes
_PAIR_LIMIT = 10  # failures of one device from one address before the pair is banned
_ADDRESS_LIMIT = 30  # failures from one address, over all device names, before the address is banned
_DEVICE_SLOW = 50  # failures of one device, over all addresses, before strangers wait longest
_BAN = 15 * 60.0  # seconds; doubled with each further ban, up to a day
_MAX_BAN = 24 * 3600.0
_FORGET = 24 * 3600.0  # seconds without a failure after which all is forgotten
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

    def admit(self, device: str, address: str) -> float:
        """Return how many seconds to wait before looking at a password.

        Raises:
            SmtpRefusal: the address, or the address for this device, is banned (454: it ends by itself).
        """
        now = self._clock()
        network = _network(address)
        pair = self._find((device, network))
        everywhere = self._find(network)
        until = max(pair.banned_until, everywhere.banned_until)
        if until > now:
            minutes = int((until - now) // 60) + 1
            unit = "minute" if minutes == 1 else "minutes"
            raise SmtpRefusal(
                454,
                "4.7.0",
                f"Too many failed logins from {address}. "
                f"Correct the password, then try again in {minutes} {unit}",
            )
        if self._find(device).failures >= _DEVICE_SLOW:
            return _MAX_DELAY
        worst = max(pair.failures, everywhere.failures // 3)
        return 0.0 if worst < _FREE else min(_MAX_DELAY, 2.0 ** (worst - _FREE))

    def failed(self, device: str, address: str) -> bool:
        """Note a wrong password. Returns True when this brought a ban."""
        network = _network(address)
        self._count(device, limit=None)
        pair = self._count((device, network), limit=_PAIR_LIMIT)
        everywhere = self._count(network, limit=_ADDRESS_LIMIT)
        return pair or everywhere

    def succeeded(self, device: str, address: str) -> None:
        """Note a right password: this device and address start afresh."""
        self._records.pop((device, _network(address)), None)

    def _find(self, key: Hashable) -> _Record:
        record = self._records.get(key)
        if record is None or self._clock() - record.last > _FORGET + record.bans * _BAN:
            return _Record()
        return record

    def _count(self, key: Hashable, *, limit: int | None) -> bool:
        record = self._find(key)
        record.failures += 1
        record.last = now = self._clock()
        banned = limit is not None and record.failures >= limit
        if banned:
            record.banned_until = now + min(_MAX_BAN, _BAN * 2.0**record.bans)
            record.bans += 1
            record.failures = 0
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > _MAX_RECORDS:
            self._records.popitem(last=False)
        return banned


def _network(address: str) -> str:
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
