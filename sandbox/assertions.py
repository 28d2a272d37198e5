"""Client assertions: an app proves with a certificate's key that it is the app (RFC 7523 2.2).

Source: `learn.microsoft.com/entra/identity-platform/certificate-credentials`.
"""

import base64
import binascii
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.types import Options

from sandbox import aadsts
from sandbox.apps import App

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SKEW = 300
"""Seconds that the app's clock may be wrong."""
_CHECKS: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "require": ["exp"],
}
"""Of the claims only that there is an end: PyJWT would check against the real clock."""


def load(pem: str) -> x509.Certificate:
    """Read the certificate that is registered for an app.

    Raises:
        ValueError: it is none, or its key is not RSA (Entra takes no other).
    """
    certificate = x509.load_pem_x509_certificate(pem.encode())
    if not isinstance(certificate.public_key(), rsa.RSAPublicKey):
        raise ValueError("Entra takes certificates with an RSA key only.")  # noqa: TRY004 - the value is wrong
    return certificate


def check(assertion: str, app: App, audiences: frozenset[str], now: float) -> None:
    """Verify an assertion. `audiences` are the token endpoint's names; `now` is in seconds since the epoch.

    Raises:
        EntraError: it does not prove anything.
    """
    try:
        header = jwt.get_unverified_header(assertion)
    except jwt.InvalidTokenError as error:
        raise aadsts.malformed_assertion() from error
    certificate = _find(app, header)
    if certificate is None:
        raise aadsts.bad_assertion(app.client_id, "The key was not found.")
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        claims: dict[str, Any] = jwt.decode(assertion, key, algorithms=["RS256", "PS256"], options=_CHECKS)
    except jwt.InvalidTokenError as error:
        raise aadsts.bad_assertion(app.client_id, "The signature does not fit the key.") from error
    if certificate.not_valid_after_utc.timestamp() <= now:
        raise aadsts.bad_assertion(app.client_id, "The key used is expired.")
    if not (claims.get("nbf", 0) - _SKEW <= now < claims["exp"] + _SKEW):
        raise aadsts.assertion_out_of_time(now)
    if claims.get("aud") not in audiences:
        raise aadsts.assertion_for_another()
    if not claims.get("iss") == claims.get("sub") == app.client_id:
        raise aadsts.assertion_of_another(app.client_id)


def _find(app: App, header: dict[str, Any]) -> x509.Certificate | None:
    """The registered certificate whose thumbprint the header names."""
    for field, algorithm in (("x5t#S256", hashes.SHA256()), ("x5t", hashes.SHA1())):
        if field in header:
            thumbprint = _decode(str(header[field]))
            return next((one for one in app.certificates if one.fingerprint(algorithm) == thumbprint), None)
    return None


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return b""
