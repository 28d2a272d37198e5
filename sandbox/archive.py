"""What of the world outlives the process: two files in the sandbox's directory, both private (0600).

`world.json` has the CA, the tenant, the key that tokens are signed with, the apps with their secrets, and
the accounts; it is replaced whole. `sign-ins.jsonl` has the refresh tokens: a line for each that was issued,
revoked or forgotten. Messages, counters, faults, limits, consents and the codes of a sign-in under way are
not kept.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sandbox import assertions
from sandbox.accounts import Account
from sandbox.apps import App, Secret
from sandbox.certificates import Certificates
from sandbox.grants import Entry
from sandbox.world import Origin, World

Json = dict[str, Any]


class ArchiveError(Exception):
    """A file cannot be understood; the text says which, and what to do."""


class Archive:
    """The directory, and the world that came out of it: the one kept there, or a new one."""

    def __init__(self, directory: Path, names: Sequence[str] = ()) -> None:
        """Read the directory, which is made if missing. `names` are further names of the servers.

        Raises:
            ArchiveError: what is there is not what this program wrote. It was left as it was.
            OSError: the directory cannot be read or written.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "world.json"
        self._sign_ins = directory / "sign-ins.jsonl"
        self.ca_file = directory / "ca.pem"
        """The CA's certificate alone, for everybody to read."""
        origin, ca = self._read()
        self._keys: Json = {
            "ca": {"certificate": _text(ca.cert_pem), "key": _text(ca.private_key_pem)},
            "signing_key": {"id": origin.key_id, "key": _private_pem(origin.signing_key)},
        }
        self.world = World(Certificates(ca, names), origin)
        self._take_up_sign_ins()
        self._written = ""
        self.keep()
        ca.cert_pem.write_to_path(self.ca_file)

    def keep(self) -> None:
        """Write what has changed in accounts and apps since they were written last."""
        described = {
            "tenant": self.world.tenant,
            "accounts": [asdict(account) for account in self.world.accounts.values()],
            "apps": [_app_described(app) for app in self.world.apps.values()],
        }
        text = json.dumps(self._keys | described, indent=1)
        if text != self._written:
            _replace(self._file, text.encode())
            self._written = text

    def _read(self) -> tuple[Origin, trustme.CA]:
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            return Origin.new(), trustme.CA(organization_name="Relay sandbox")
        with _understood(self._file):
            found = json.loads(text)
            ca = trustme.CA.from_pem(found["ca"]["certificate"].encode(), found["ca"]["key"].encode())
            return _origin(found), ca

    def _take_up_sign_ins(self) -> None:
        grants = self.world.grants
        accounts = {account.oid: account for account in self.world.accounts.values()}
        with _understood(self._sign_ins):
            for entry in self._entries():
                grants.replay(entry, accounts)
        # Written anew, without what is over.
        _replace(self._sign_ins, b"".join(_line(entry) for entry in grants.entries()))
        grants.record = self._append

    def _entries(self) -> Iterator[Entry]:
        with suppress(FileNotFoundError):
            for line in self._sign_ins.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):  # else the process died while it wrote, and told nobody of the token
                    yield json.loads(line)

    def _append(self, entry: Entry) -> None:
        with self._sign_ins.open("ab", buffering=0) as file:
            file.write(_line(entry))


def _origin(found: Json) -> Origin:
    key = load_pem_private_key(found["signing_key"]["key"].encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the signing key is not an RSA key")  # noqa: TRY004 - the file is wrong
    accounts = [Account(**account | {"aliases": tuple(account["aliases"])}) for account in found["accounts"]]
    return Origin(
        tenant=found["tenant"],
        signing_key=key,
        key_id=found["signing_key"]["id"],
        accounts=accounts,
        apps=[_app(app) for app in found["apps"]],
    )


def _app_described(app: App) -> Json:
    return asdict(replace(app, certificates=[])) | {
        "certificates": [each.public_bytes(Encoding.PEM).decode() for each in app.certificates],
        "delegated": sorted(app.delegated),
        "roles": sorted(app.roles),
    }


def _app(found: Json) -> App:
    return App(
        **found
        | {
            "secrets": [Secret(**secret) for secret in found["secrets"]],
            "certificates": [assertions.load(pem) for pem in found["certificates"]],
            "redirect_uris": tuple(found["redirect_uris"]),
            "delegated": frozenset(found["delegated"]),
            "roles": frozenset(found["roles"]),
            "mailboxes": tuple(found["mailboxes"]),
        }
    )


def _text(pem: trustme.Blob) -> str:
    return pem.bytes().decode()


def _private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _line(entry: Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _replace(path: Path, content: bytes) -> None:
    """Replace a file whole: a process that dies leaves the old one or the new one."""
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


@contextmanager
def _understood(file: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArchiveError(
            f"{file} is damaged, or of another version: {type(error).__name__}: {error}. To begin with a new "
            f"world, delete the directory {file.parent}; whatever was deployed against the old one must then "
            "be given the new CA and the new secrets"
        ) from error
