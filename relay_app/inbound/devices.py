"""Who is it: the devices and their passwords."""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import argon2

from relay_app.errors import SmtpRefusal
from relay_app.inbound.throttle import Throttle
from relay_app.settings import HASHER, DeviceSettings

_FRESH = 5 * 60.0  # seconds during which a verified password is taken without argon2
_KNOWN = 30 * 24 * 3600.0  # seconds during which its bearer is exempt from the throttle
_MAX_KNOWN = 10_000
_WORKERS = 2  # argon2 at once: each takes a core and its memory

_WRONG = "User name or password is wrong. Use the relay's device password here, not the one of the mailbox"


@dataclass(slots=True)
class _Proof:
    password_hash: str
    verified_at: float


class Devices:
    """Verifies credentials without blocking the event loop.

    A password that was right is remembered as a keyed hash (BLAKE2b, a key of this process), never as itself.
    For a few minutes it is accepted at once. For longer its bearer is spared the throttle: the guesses of
    others cannot lock the owner out.
    """

    def __init__(
        self, devices: Iterable[DeviceSettings], throttle: Throttle, clock: Callable[[], float]
    ) -> None:
        self._throttle = throttle
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._proofs: OrderedDict[bytes, _Proof] = OrderedDict()
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
        login = name.decode("utf-8", "replace").lower()
        device = self._by_name.get(login)
        digest = self._digest(login, password)
        proof = self._proofs.get(digest)
        if proof is not None and (
            device is None
            or proof.password_hash != device.password_hash
            or self._clock() - proof.verified_at > _KNOWN
        ):
            del self._proofs[digest]
            proof = None
        if device is not None and proof is not None and self._clock() - proof.verified_at < _FRESH:
            return device
        if proof is None:
            await asyncio.sleep(self._throttle.admit(login, address))
        stored = device.password_hash if device is not None else self._decoy
        matches = await asyncio.get_running_loop().run_in_executor(self._executor, _matches, stored, password)
        if not matches or device is None:
            self._throttle.failed(login, address)
            raise SmtpRefusal(535, "5.7.8", _WRONG)
        self._remember(digest, device)
        self._throttle.succeeded(login, address)
        return device

    def known(self, name: bytes) -> str:
        """The name of the device that a client claims to be, for the log; "unknown" if there is none."""
        device = self._by_name.get(name.decode("utf-8", "replace").lower())
        return device.name if device is not None else "unknown"

    def close(self) -> None:
        """Let the worker threads go."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _digest(self, login: str, password: bytes) -> bytes:
        name = login.encode()
        return hashlib.blake2b(b"%d:%b%b" % (len(name), name, password), key=self._key).digest()

    def _remember(self, digest: bytes, device: DeviceSettings) -> None:
        self._proofs[digest] = _Proof(device.password_hash, self._clock())
        self._proofs.move_to_end(digest)
        if len(self._proofs) > _MAX_KNOWN:
            self._proofs.popitem(last=False)


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
