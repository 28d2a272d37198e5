"""The vault: tokens at rest, encrypted."""

import base64
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from cryptography.fernet import Fernet, InvalidToken

from relay_app.errors import VaultError

Stamp = tuple[int, int, int]
"""What tells one version of an entry's file from the next: inode, time of change in ns, size in bytes."""

_SUFFIX = ".vault"
_TEMPORARY = ".tmp-"
_LOCK = ".vault-lock"
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_BLOCK = 16
_FERNET_OVERHEAD = 1 + 8 + 16 + 32  # version, time, IV, HMAC: the Fernet specification's token format
_MAKE_KEY = "Make a key with:  openssl rand -base64 32 | tr '+/' '-_'"


class Vault:
    """A directory (0700) with one Fernet-encrypted file (0600) per entry, named after the entry.

    Entries are replaced whole and atomically: after a crash or on a full disk there is the old one or the new
    one. Several processes may use the same vault; writers take turns (flock).
    """

    def __init__(self, directory: Path, key: bytes) -> None:
        """`key` is what `key_from` or `create_key_file` returns. Nothing is read or made yet."""
        self._directory = directory
        self._fernet = Fernet(key)

    def load(self, name: str) -> bytes | None:
        """Return what was stored under `name`, or None if nothing was.

        Raises:
            VaultError: the file cannot be read, is damaged, or was written with another key.
        """
        path = self._path(name)
        try:
            token = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise VaultError(
                f"Cannot read the vault file {path}: {error.strerror}. "
                "Give the relay's user read and write permission for it."
            ) from error
        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise VaultError(
                f"Cannot open the vault file {path}: {_why_unreadable(token)} The file was left as it is. "
                "Restore the right RELAY_VAULT_KEY (or the file itself from a backup), "
                "or delete the file and sign in again."
            ) from None

    def store(self, name: str, data: bytes) -> Stamp:
        """Put `data` under `name`, in place of what was there.

        Raises:
            VaultError: it could not be written; what was there is still there.
        """
        with self._writing(name) as path:
            return self._replace(path, data)

    def store_if_unchanged(self, name: str, data: bytes, seen: Stamp | None) -> Stamp | None:
        """Like `store`, but only if the entry is still the version `seen` (None: there was no entry).

        Returns None, with nothing written, if another process has stored or removed it meanwhile.
        """
        with self._writing(name) as path:
            if self.stamp(name) != seen:
                return None
            return self._replace(path, data)

    def remove(self, name: str) -> None:
        """Forget `name`; no error if there is nothing to forget."""
        with self._writing(name) as path:
            path.unlink(missing_ok=True)
            _sync_directory(self._directory)

    def names(self) -> list[str]:
        """The names of all entries, sorted."""
        return sorted(
            unquote(path.name.removesuffix(_SUFFIX)) for path in self._directory.glob(f"*{_SUFFIX}")
        )

    def stamp(self, name: str) -> Stamp | None:
        """Which version of the entry is on disk; None if there is none. Costs one stat()."""
        try:
            status = self._path(name).stat()
        except OSError:  # whatever the reason, load() is where it is told
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def check(self) -> None:
        """Make the directory if need be, see that it can be written, and open every entry.

        Raises:
            VaultError: one line for each thing that is wrong.
        """
        with self._writing("*"):
            # Only a writer that was killed leaves one behind: we hold the lock, so no writer is at work.
            for stale in self._directory.glob(f"{_TEMPORARY}*"):
                stale.unlink()
        problems = []
        for name in self.names():
            try:
                self.load(name)
            except VaultError as error:
                problems.append(str(error))
        if problems:
            raise VaultError("\n".join(problems))

    def _path(self, name: str) -> Path:
        # quote() leaves no "/" and turns a "." in front, which would hide the file, into an escape.
        file_name = quote(name, safe="@+")
        return self._directory / f"{re.sub(r'^[.]', '%2E', file_name)}{_SUFFIX}"

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """The path to write to, while no other process writes."""
        path = self._path(name)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._directory.stat().st_mode & 0o077:
                self._directory.chmod(0o700)
            with _turn(self._directory):
                yield path
        except OSError as error:
            raise _cannot_write(path, error) from error

    def _replace(self, path: Path, data: bytes) -> Stamp:
        _write_durably(path, self._fernet.encrypt(data))
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size


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


def create_key_file(path: Path) -> bytes:
    """Make a key, write it to `path` (0600), and return it. A key file that is already there is used instead.

    Raises:
        VaultError: the file cannot be written, or what is there is not a key.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _turn(path.parent):
            if not path.exists():
                _write_durably(path, Fernet.generate_key() + b"\n")
            return key_from(path.read_text("ascii", errors="replace"))
    except OSError as error:
        raise _cannot_write(path, error) from error
    except VaultError as error:
        raise VaultError(f"{path}: {error}") from None


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


def _cannot_write(path: Path, error: OSError) -> VaultError:
    return VaultError(
        f"Cannot write {path}: {error.strerror}. What was stored before is untouched. "
        "See that the disk has room and that the relay's user may write to the directory."
    )


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
