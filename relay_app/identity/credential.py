"""What an app proves its identity with: a client secret, or a certificate and its private key.

Entra takes RSA keys (learn.microsoft.com/entra/identity-platform/certificate-credentials). `cryptography` is
imported when there is a certificate to read.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from relay_app.errors import TokenError
from relay_app.settings import MailboxSettings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

Credential = str | dict[str, str] | None
"""MSAL's `client_credential`; None for a public client."""


def credential(mailbox: MailboxSettings) -> Credential:
    """The credential of a mailbox's app. A certificate is read anew each time: it may have been renewed.

    Raises:
        TokenError: the certificate or the key cannot be read, or they are not a pair.
    """
    if mailbox.client_cert is None or mailbox.client_key is None:
        return mailbox.client_secret or None
    certificate = read_certificate(mailbox.client_cert)
    key = _read(mailbox.client_key, "private key")
    _check_pair(mailbox.client_cert, certificate, mailbox.client_key, key)
    return {"private_key": key, "public_certificate": _read(mailbox.client_cert, "certificate")}


def read_certificate(path: Path) -> "Certificate":
    """The first certificate of a PEM file.

    Raises:
        TokenError: there is none.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(_read(path, "certificate").encode())
    except ValueError:
        raise _unusable(path, "certificate", "it is not a certificate in PEM format") from None


def _check_pair(cert_path: Path, certificate: "Certificate", key_path: Path, key: str) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise _unusable(key_path, "private key", "it is protected by a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(key_path, "private key", "it is not a private key in PEM format") from None
    if not isinstance(private, RSAPrivateKey):
        raise _unusable(key_path, "private key", "it is not an RSA key, and Microsoft takes no other")
    if private.public_key() != certificate.public_key():
        raise _unusable(key_path, "private key", f"it does not belong to the certificate {cert_path}")


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text("ascii")
    except OSError as error:
        raise _unusable(path, what, f"it cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise _unusable(path, what, "it is not a text file in PEM format") from None


def _unusable(path: Path, what: str, why: str) -> TokenError:
    return TokenError(
        f"The app's {what} {path} cannot be used: {why}.",
        action="Correct RELAY_CLIENT_CERT and RELAY_CLIENT_KEY, or the files. The certificate must be one "
        "that the app's Certificates & secrets page lists.",
        temporary=False,
    )
