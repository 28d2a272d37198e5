"""The vault: tokens at rest, encrypted."""

import base64
import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.fernet import Fernet, InvalidToken

from relay_app.errors import StoreError, VaultError

Stamp = str
"""What tells one version of an entry from every other. Has no order."""

_TEMPORARY = ".tmp-"
_LOCK = ".vault-lock"
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_BLOCK = 16
_FERNET_OVERHEAD = 1 + 8 + 16 + 32  # version, time, IV, HMAC: the Fernet specification's token format
_MAKE_KEY = "Make a key with:  openssl rand -base64 32 | tr '+/' '-_'"


class Blobs(Protocol):
    """Where a vault's entries are kept: named pieces of data, each replaced as a whole.

    Changes are atomic, durable on return, and safe between processes. Any method may block, and raises
    StoreError when the storage cannot be used.
    """

    def load(self, name: str) -> bytes | None:
        """What was stored under `name`, or None if nothing was."""
        ...

    def store(self, name: str, data: bytes) -> Stamp:
        """Put `data` under `name`, in place of what was there."""
        ...

    def store_if_unchanged(self, name: str, data: bytes, seen: Stamp | None) -> Stamp | None:
        """Like `store` if the version there is still `seen` (None: nothing was there), else None."""
        ...

    def rewrite(self, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]) -> None:
        """Give `change` everything, by name, and put what it returns in place of the old: all or nothing.

        Nothing is changed if `change` raises.
        """
        ...

    def remove(self, name: str) -> None:
        """Forget `name`; no error if there is nothing to forget."""
        ...

    def names(self) -> list[str]:
        """The names of all blobs, sorted."""
        ...

    def stamp(self, name: str) -> Stamp | None:
        """Which version is there; None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """How many entries were encrypted anew, and how many had the new key already."""

    changed: int
    kept: int


class Vault:
    """Entries encrypted with Fernet, kept in `Blobs`. The names of the entries are not encrypted.

    Entries are replaced whole and atomically: after a crash or on a full disk there is the old one or the new
    one. Several processes may use the same vault. Every method may block.
    """

    def __init__(self, blobs: Blobs, key: bytes) -> None:
        """`key` is what `key_from`, `read_key_file` or `create_key_file` returns. Nothing is read yet."""
        self._blobs = blobs
        self._fernet = Fernet(key)

    def load(self, name: str) -> bytes | None:
        """Return what was stored under `name`, or None if nothing was.

        Raises:
            VaultError: the entry cannot be read, is damaged, or was written with another key.
        """
        with _reading(name):
            token = self._blobs.load(name)
        if token is None:
            return None
        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise VaultError(
                f"Cannot open the vault's entry {name}: {_why_unreadable(token)} "
                "The entry was left as it was. Restore the right RELAY_VAULT_KEY (or the database from a "
                f"backup), or sign in again, which replaces the entry:  smtp-relay login {name}"
            ) from None

    def store(self, name: str, data: bytes) -> Stamp:
        """Put `data` under `name`, in place of what was there.

        Raises:
            VaultError: it could not be written; what was there is still there.
        """
        with _writing(name):
            return self._blobs.store(name, self._fernet.encrypt(data))

    def store_if_unchanged(self, name: str, data: bytes, seen: Stamp | None) -> Stamp | None:
        """Like `store`, but only if the entry is still the version `seen` (None: there was no entry).

        Returns None, with nothing written, if another process has stored or removed it meanwhile.
        """
        with _writing(name):
            return self._blobs.store_if_unchanged(name, self._fernet.encrypt(data), seen)

    def remove(self, name: str) -> None:
        """Forget `name`; no error if there is nothing to forget.

        Raises:
            VaultError: it could not be removed.
        """
        with _writing(name):
            self._blobs.remove(name)

    def names(self) -> list[str]:
        """The names of all entries, sorted.

        Raises:
            VaultError: they cannot be read.
        """
        try:
            return self._blobs.names()
        except StoreError as error:
            raise VaultError(f"Cannot read the vault. {error}") from error

    def stamp(self, name: str) -> Stamp | None:
        """Which version of the entry is stored; None if there is none.

        Raises:
            VaultError: the storage does not answer. What somebody has in memory is the best there is then.
        """
        with _reading(name):
            return self._blobs.stamp(name)

    def check(self) -> None:
        """Open every entry.

        Raises:
            VaultError: one line for each thing that is wrong.
        """
        problems = []
        for name in self.names():
            try:
                self.load(name)
            except VaultError as error:
                problems.append(str(error))
        if problems:
            raise VaultError("\n".join(problems))

    def rekey(self, key: bytes) -> Rekeyed:
        """Encrypt all entries with another key, which is this vault's from then on.

        All of them at once or, whatever happens, none. Those that have the new key already are left alone.
        The others become new versions, so that `store_if_unchanged` of another process does not undo it.

        Raises:
            VaultError: the storage cannot be used; or there are entries that neither key opens, one line for
                each. Nothing was changed.
        """
        done = Rekeyed(0, 0)

        def change(entries: Mapping[str, bytes]) -> Mapping[str, bytes]:
            nonlocal done
            changed = _reencrypted(entries, self._fernet, Fernet(key))
            done = Rekeyed(changed=len(changed), kept=len(entries) - len(changed))
            return changed

        try:
            self._blobs.rewrite(change)
        except StoreError as error:
            raise VaultError(f"Cannot change the vault's key. {error} Then run this again.") from error
        self._fernet = Fernet(key)
        return done


def key_from(text: str) -> bytes:
    """Read a vault key: a Fernet key, 32 random bytes in URL-safe base64 (44 characters).

    Raises:
        VaultError: it is something else. The text is not repeated in the message.
    """
    text = text.strip()
    if not _KEY.fullmatch(text):
        raise VaultError(
            "The vault key is not a Fernet key: that is 32 bytes in URL-safe base64, 44 characters with '=' "
            f"at the end, but this one has {len(text)} characters{_standard_base64(text)}. {_MAKE_KEY}"
        )
    return text.encode("ascii")


def read_key_file(path: Path) -> bytes:
    """Read a vault key from a file.

    Raises:
        VaultError: there is no such file, it cannot be read, or is not a key.
    """
    try:
        return key_from(path.read_text("ascii", errors="replace"))
    except OSError as error:
        raise VaultError(
            f"Cannot read {path}: {error.strerror}. Check the path, and that user {os.getuid()} may read it."
        ) from error
    except VaultError as error:
        raise VaultError(f"{path}: {error}") from None


def replace_key_file(path: Path, key: bytes) -> None:
    """Put another key into a key file (0600): at every moment there is the old one or the new one.

    Raises:
        VaultError: the file cannot be written; it is as it was.
    """
    with _writing_key(path), _turn(path.parent):
        _write_durably(path, key + b"\n")


def create_key_file(path: Path) -> bytes:
    """Make a key, write it to `path` (0600), and return it. A key file that is already there is used instead.

    Raises:
        VaultError: the file cannot be written, or what is there is not a key.
    """
    with _writing_key(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _turn(path.parent):
            if not path.exists():
                _write_durably(path, Fernet.generate_key() + b"\n")
            return read_key_file(path)


@contextmanager
def _writing_key(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VaultError(
            f"Cannot write {path}: {error.strerror}. What was stored before is untouched. "
            "See that the disk has room and that the relay's user may write to the directory."
        ) from error


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Hold the directory's lock. The kernel lets go of it when the process dies."""
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write_durably(path: Path, content: bytes) -> None:
    """Replace a file so that at every moment, power loss included, there is the old one or the new one."""
    descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)  # 0600 from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 (the temporary name is a str)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise VaultError(f"Cannot read the vault's entry {name}. {error}") from error


@contextmanager
def _writing(name: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise VaultError(
            f"Cannot write the vault's entry {name}. What was stored before is untouched. {error}"
        ) from error


def _reencrypted(entries: Mapping[str, bytes], old: Fernet, new: Fernet) -> dict[str, bytes]:
    """Those entries that are not under the new key yet, under the new key.

    Raises:
        VaultError: neither key opens an entry; one line for each.
    """
    changed: dict[str, bytes] = {}
    problems: list[str] = []
    for name, token in entries.items():
        if _opened(new, token) is not None:
            continue
        data = _opened(old, token)
        if data is None:
            problems.append(
                f"Neither the configured key nor the new one opens the vault's entry {name}: "
                f"{_why_unreadable(token)} Nothing was changed. Set RELAY_VAULT_KEY to the key that the "
                "entry was written with (or restore the database from a backup), or sign in again, which "
                f"replaces the entry (smtp-relay login {name}). Then run this again."
            )
        else:
            changed[name] = new.encrypt(data)
    if problems:
        raise VaultError("\n".join(problems))
    return changed


def _opened(fernet: Fernet, token: bytes) -> bytes | None:
    with suppress(InvalidToken):
        return fernet.decrypt(token)
    return None


def _why_unreadable(token: bytes) -> str:
    """Why Fernet refuses a token, as far as can be told without the key."""
    try:
        size = len(base64.b64decode(token, altchars=b"-_", validate=True))
    except ValueError:
        return "it is damaged (not a Fernet token)."
    ciphertext = size - _FERNET_OVERHEAD
    if ciphertext < _BLOCK or ciphertext % _BLOCK:
        return "it is damaged (cut short)."
    return "it was written with another key, or has been altered."


def _standard_base64(text: str) -> str:
    return " and '+' or '/' in it, which is the other base64 alphabet" if re.search(r"[+/]", text) else ""
