"""What the relay opens before it starts: certificate, database, vault, trust."""

import errno
import os
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from relay_app.delivery.outlook import tls_context
from relay_app.errors import RelayError, SettingsError, VaultError
from relay_app.identity.credential import credential
from relay_app.identity.vault import (
    Rekeyed,
    Vault,
    create_key_file,
    key_from,
    read_key_file,
    replace_key_file,
)
from relay_app.inbound.tls import Certificate, self_signed
from relay_app.settings import Settings
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.engine import parse
from relay_app.storage.store import Store

_log = structlog.get_logger()
_Opened = TypeVar("_Opened")


@dataclass(frozen=True, slots=True)
class Resources:
    """What was opened. `store` is to be closed."""

    certificate: Certificate
    store: Store
    vault: Vault
    upstream_tls: ssl.SSLContext


class _Problems(list[str]):
    """What goes wrong in one attempt after the other, a sentence for each."""

    def attempt(self, open_one: Callable[[], _Opened]) -> _Opened | None:
        """What `open_one` returns, or None if that went wrong."""
        try:
            return open_one()
        except RelayError as error:
            self.extend(each for each in str(error).splitlines() if each not in self)
        return None


def open_all(settings: Settings) -> Resources:
    """Open what the settings name, and report every problem at once.

    Raises:
        SettingsError: something of it cannot be used; nothing stays open.
    """
    problems = _Problems()
    attempt = problems.attempt
    data_dir = attempt(lambda: _check_data_dir(settings))
    tls = attempt(lambda: _upstream_tls(settings))
    # What would only say once more that the data directory cannot be used is not tried.
    certificate = attempt(lambda: _certificate(settings)) if data_dir or settings.tls_cert else None
    store = None
    if data_dir or settings.store_url:
        store = attempt(lambda: Store.open(settings.store_url, settings.data_dir))
    vault = attempt(lambda: _vault(settings, store)) if store and (data_dir or settings.vault_key) else None
    if vault:
        attempt(vault.check)
    if problems or certificate is None or store is None or vault is None or tls is None:
        if store is not None:
            store.close()
        raise SettingsError(problems)
    return Resources(certificate, store, vault, tls)


def check_files(settings: Settings) -> None:
    """Read what the settings name, and report every problem at once. Nothing is made, opened or asked.

    What the relay makes itself if it is missing is no problem, nor is the data directory.

    Raises:
        SettingsError: something of it cannot be used.
    """
    problems = _Problems()
    problems.attempt(lambda: _upstream_tls(settings))
    if settings.tls_cert and settings.tls_key:
        problems.attempt(partial(Certificate, settings.tls_cert, settings.tls_key))
    problems.attempt(lambda: parse(settings.store_url, settings.data_dir))
    problems.attempt(lambda: _check_vault_key(settings))
    for mailbox in settings.mailboxes:
        problems.attempt(partial(credential, mailbox))
    if problems:
        raise SettingsError(problems)


def rekey_vault(settings: Settings, new_key_file: Path) -> Rekeyed:
    """Encrypt the vault with the key in a file: all of it, or none.

    A key that the relay keeps in its data directory is replaced there, too. One that the settings name is
    left to whoever manages them.

    Raises:
        SettingsError, StoreError, VaultError
    """
    new_key = read_key_file(new_key_file)
    store, vault = open_vault(settings)
    try:
        done = vault.rekey(new_key)
    finally:
        store.close()
    if not settings.vault_key:
        try:
            replace_key_file(_key_file(settings), new_key)
        except VaultError as error:
            raise VaultError(
                f"{error} The vault's entries have the new key already. Run this again when that is mended."
            ) from error
    return done


def open_vault(settings: Settings) -> tuple[Store, Vault]:
    """Open the database and the vault in it, for a command beside the relay. The store is to be closed.

    Entries that cannot be read are no error here: to sign in again is what replaces them.

    Raises:
        SettingsError, StoreError, VaultError
    """
    _check_data_dir(settings)
    store = Store.open(settings.store_url, settings.data_dir)
    try:
        return store, _vault(settings, store)
    except BaseException:
        store.close()
        raise


def _check_data_dir(settings: Settings) -> Path:
    path = settings.data_dir
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise SettingsError(
            [
                f"RELAY_DATA_DIR: cannot write in {path}: {error.strerror}. {_remedy(error, path)}, "
                "or choose another directory"
            ]
        ) from error
    return path


def _remedy(error: OSError, path: Path) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "Make room on that disk"
        case errno.EROFS:
            return "It is mounted read-only: mount it for writing"
        case _:
            return f"Give it to user {os.getuid()}: chown {os.getuid()} {path}"


def _certificate(settings: Settings) -> Certificate:
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None or key is None:
        cert, key = self_signed(settings.data_dir / "tls", settings.hostname, datetime.now(UTC))
        _log.warning(
            "certificate_self_signed",
            file=str(cert),
            consequence="Gmail will refuse to connect. Set RELAY_TLS_CERT and RELAY_TLS_KEY to a certificate "
            f"for {settings.hostname} from a public authority",
        )
    return Certificate(cert, key)


def _vault(settings: Settings, store: Store) -> Vault:
    if settings.vault_key:
        key = key_from(settings.vault_key)
    else:
        file = _key_file(settings)
        key = create_key_file(file)
        _log.warning(
            "vault_key_beside_vault",
            file=str(file),
            consequence="whoever can read the data directory can read the tokens. Set RELAY_VAULT_KEY_FILE "
            "to a copy of this file that is kept elsewhere",
        )
    return Vault(StoredBlobs(store), key)


def _check_vault_key(settings: Settings) -> None:
    if settings.vault_key:
        key_from(settings.vault_key)
    elif os.access(_key_file(settings), os.F_OK):
        read_key_file(_key_file(settings))


def _key_file(settings: Settings) -> Path:
    """Where the relay keeps the key when the settings do not name one."""
    return settings.data_dir / "vault.key"


def _upstream_tls(settings: Settings) -> ssl.SSLContext:
    try:
        return tls_context(settings.upstream_ca)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            [f"RELAY_UPSTREAM_CA: {settings.upstream_ca} has no PEM certificates: {error}"]
        ) from error
