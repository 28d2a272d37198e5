"""Guessing the console's password is slowed, for the one who guesses.

Attempts are counted for each guesser: the network that a request comes from, or the browser if it has logged
in before. So an owner who shares an address with a guesser, as behind a reverse proxy, still gets in from a
browser that is known. Nothing sleeps: who is too early is told how long to wait, and is not listened to.
"""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_FREE = 3  # wrong passwords that cost nothing: a person mistypes
_LONGEST = 300.0  # seconds between two attempts
_FORGET = 3600.0  # seconds without an attempt after which all is forgotten
_MAX_RECORDS = 10_000  # bounds memory: the least recently used is dropped


@dataclass(slots=True)
class _Record:
    attempts: int = 0
    next: float = 0.0


class Throttle:
    """Counts attempts to log in. `clock` gives seconds and never goes back. Any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._lock = threading.Lock()

    def attempt(self, guesser: str) -> float:
        """Count an attempt, before it is looked at: several at once must not be one.

        Returns 0.0, or the seconds to wait before the next; then nothing was counted.
        """
        with self._lock:
            now = self._clock()
            record = self._records.get(guesser, _Record())
            if now < record.next:
                return record.next - now
            if now - record.next > _FORGET:
                record = _Record()
            record.attempts += 1
            record.next = now + _delay(record.attempts)
            self._records[guesser] = record
            self._records.move_to_end(guesser)
            if len(self._records) > _MAX_RECORDS:
                self._records.popitem(last=False)
            return 0.0

    def succeeded(self, guesser: str) -> None:
        """The attempt had the right password: start afresh."""
        with self._lock:
            self._records.pop(guesser, None)


def _delay(attempts: int) -> float:
    """0, 0, 1, 2, 4 ... 300 seconds."""
    return 0.0 if attempts < _FREE else min(_LONGEST, 2.0 ** min(attempts - _FREE, 20))


def network_of(address: str) -> str:
    """The part of an address that one person has to himself: an IPv4 address, an IPv6 /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
