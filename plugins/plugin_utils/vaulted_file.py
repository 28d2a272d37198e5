"""A YAML file of names and secret values, encrypted by Ansible's vault, on the controller."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import VaultLib, match_encrypt_secret

_NOTHING_TO_ENCRYPT_WITH = (
    "{path} is kept encrypted, but Ansible has no vault password. Put one into a file that only you can "
    "read, and name it: export ANSIBLE_VAULT_PASSWORD_FILE=~/.smtp-relay-vault (or vault_password_file in "
    "ansible.cfg)."
)
_CANNOT_DECRYPT = (
    "{path} was encrypted with another vault password than Ansible has now. It stays as it is. Give the "
    "right one (ANSIBLE_VAULT_PASSWORD_FILE), or, if it is lost, move the file away to have new secrets made."
)
_PLAIN = (
    "{path} is there, but is not encrypted. It stays as it is. If it holds the right secrets, run: "
    "ansible-vault encrypt {path}"
)
_NOT_FLAT = (
    "{path} is not one flat mapping of names to texts: {problem}. It stays as it is. Mend it with: "
    "ansible-vault edit {path}"
)


class VaultedFile:
    """One file. It is read and written whole."""

    def __init__(self, path: Path, vault: VaultLib) -> None:
        self._path = path
        self._vault = vault
        if not vault.secrets:
            raise AnsibleActionFail(_NOTHING_TO_ENCRYPT_WITH.format(path=path))
        # What a new file is encrypted with; a file that is there keeps its own.
        self._identity, self._secret = match_encrypt_secret(
            vault.secrets, encrypt_vault_id=constants.DEFAULT_VAULT_ENCRYPT_IDENTITY
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out between reading and writing. Makes the directory, for its owner alone."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> dict[str, str]:
        """Return what is in it; nothing if it is not there."""
        try:
            encrypted = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        if not VaultLib.is_encrypted(encrypted):
            raise AnsibleActionFail(_PLAIN.format(path=self._path))
        try:
            plain, self._identity, self._secret = self._vault.decrypt_and_get_vault_id(encrypted)
        except AnsibleError:
            raise AnsibleActionFail(_CANNOT_DECRYPT.format(path=self._path)) from None
        return self._parsed(bytes(plain))

    def write(self, values: Mapping[str, str]) -> None:
        """Replace it in one step, readable to its owner alone."""
        plain = yaml.safe_dump(dict(values), allow_unicode=True, explicit_start=True)
        identity = None if self._identity == constants.DEFAULT_VAULT_IDENTITY else self._identity
        encrypted = self._vault.encrypt(plain, self._secret, vault_id=identity)
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(encrypted)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _parsed(self, plain: bytes) -> dict[str, str]:
        try:
            values: Any = yaml.safe_load(plain)
        except yaml.YAMLError:  # its text would quote the secrets
            raise AnsibleActionFail(_NOT_FLAT.format(path=self._path, problem="it is no YAML")) from None
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise AnsibleActionFail(_NOT_FLAT.format(path=self._path, problem="there are no names in it"))
        for name, value in values.items():
            if not isinstance(name, str) or not isinstance(value, str):
                problem = f"{name} is no text (a number or a truth value needs quotes)"
                raise AnsibleActionFail(_NOT_FLAT.format(path=self._path, problem=problem))
        return values
