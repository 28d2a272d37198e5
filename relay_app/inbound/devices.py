"""Who is it: the devices and their passwords."""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakValueDictionary

import argon2

from relay_app.errors import SmtpRefusal
from relay_app.inbound.throttle import Throttle, network_of
from relay_app.settings import HASHER, DeviceSettings

_FRESH = 5 * 60.0  # seconds during which a verified password is taken without argon2
_KNOWN = 30 * 24 * 3600.0  # seconds during which its bearer is spared the throttle, in the same network
_MAX_PROOFS = 10_000
_MAX_NAME = 255  # octets, RFC 4616 2: also what the throttle may have to remember of a stranger
_WORKERS = 2  # argon2 at once: each takes a core and its memory

_WRONG = "User name or password is wrong. Use the relay's device password here, not the one of the mailbox"


@dataclass(frozen=True, slots=True)
class _Proof:
    password_hash: str
    verified_at: float


class Devices:
    """Verifies credentials without blocking the event loop.

    A password that was right is remembered as a keyed hash (BLAKE2b, a key of this process), never as itself.
    For a few minutes it is accepted without argon2. For longer, but only from the network that it came from,
    its bearer is spared the throttle: the guesses of others cannot lock the owner out. Not from everywhere,
    because that would answer a banned client's guesses.
    """

    def __init__(
        self, devices: Iterable[DeviceSettings], throttle: Throttle, clock: Callable[[], float]
    ) -> None:
        self._throttle = throttle
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._proofs: OrderedDict[tuple[bytes, str], _Proof] = OrderedDict()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="argon2")
        self.replace(devices)

    def replace(self, devices: Iterable[DeviceSettings]) -> None:
        """Take a new list of devices. A changed password ends what was remembered of the old one."""
        self._by_name = {device.name.lower(): device for device in devices}
        self._decoy = _decoy(next(iter(self._by_name.values()), None))

    async def verify(self, name: bytes, password: bytes, address: str) -> DeviceSettings:
        """Return the device that these credentials belong to. `address` is the client's real address.

        An unknown name costs the same time and gets the same answer as a wrong password.

        Raises:
            SmtpRefusal: 535 wrong credentials; 454 too many failures, with how long to wait.
        """
        login = _login(name)
        network = network_of(address)
        digest = self._digest(login, password)
        anywhere, here = (digest, ""), (digest, network)
        device = self._by_name.get(login)
        known = self._proven(here, device, _KNOWN)
        delay = self._throttle.delay(login, address, known=known)
        if device is not None and known and not delay and self._proven(anywhere, device, _FRESH):
            return device
        await asyncio.sleep(delay)
        # One at a time from a network: else any number of guesses would pass before the first has failed.
        async with self._turns.setdefault(network, asyncio.Lock()):
            device = self._by_name.get(login)
            if not self._proven(here, device, _KNOWN):
                self._throttle.check(login, address)
            if device is None or not self._proven(anywhere, device, _FRESH):
                device = await self._check_password(device, login, password, address)
                self._remember(anywhere, device)
            self._remember(here, device)
        self._throttle.succeeded(login, address)
        return device

    def current(self, device: DeviceSettings) -> DeviceSettings | None:
        """The present settings of a device that has logged in; None if it, or its password, is no more."""
        current = self._by_name.get(device.name.lower())
        return current if current is not None and current.password_hash == device.password_hash else None

    def known(self, name: bytes) -> str:
        """The name of the device that a client claims to be, for the log; "unknown" if there is none."""
        device = self._by_name.get(_login(name))
        return device.name if device is not None else "unknown"

    def close(self) -> None:
        """Let the worker threads go."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _check_password(
        self, device: DeviceSettings | None, login: str, password: bytes, address: str
    ) -> DeviceSettings:
        stored = device.password_hash if device is not None else self._decoy
        loop = asyncio.get_running_loop()
        try:
            matches = await loop.run_in_executor(self._executor, _matches, stored, password)
        except asyncio.CancelledError:
            self._throttle.failed(login, address)  # who leaves before the answer: it cost us argon2 too
            raise
        if not matches or device is None:
            self._throttle.failed(login, address)
            raise SmtpRefusal(535, "5.7.8", _WRONG)
        return device

    def _digest(self, login: str, password: bytes) -> bytes:
        name = login.encode()
        return hashlib.blake2b(b"%d:%b%b" % (len(name), name, password), key=self._key).digest()

    def _proven(self, key: tuple[bytes, str], device: DeviceSettings | None, seconds: float) -> bool:
        """True if the device's present password was verified at most so many seconds ago."""
        proof = self._proofs.get(key)
        if proof is None or device is None or proof.password_hash != device.password_hash:
            return False
        return self._clock() - proof.verified_at < seconds

    def _remember(self, key: tuple[bytes, str], device: DeviceSettings) -> None:
        self._proofs[key] = _Proof(device.password_hash, self._clock())
        self._proofs.move_to_end(key)
        if len(self._proofs) > _MAX_PROOFS:
            self._proofs.popitem(last=False)


def _login(name: bytes) -> str:
    """The key of a device: its name without regard to case. A longer name than any device has is cut."""
    return name[:_MAX_NAME].decode("utf-8", "replace").lower()


def _matches(stored: str, password: bytes) -> bool:
    try:
        return HASHER.verify(stored, password)
    except argon2.exceptions.VerifyMismatchError:
        return False


def _decoy(model: DeviceSettings | None) -> str:
    """A hash that nothing matches, as expensive as the devices' own."""
    hasher = HASHER
    if model is not None:
        hasher = argon2.PasswordHasher.from_parameters(argon2.extract_parameters(model.password_hash))
    return hasher.hash(secrets.token_bytes(32))
