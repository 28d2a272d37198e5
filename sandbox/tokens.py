"""The tokens that Entra signs and Outlook verifies: JWTs (RFC 7519), RS256."""

import base64
import json
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from sandbox.accounts import Account
from sandbox.apps import App
from sandbox.clock import Clock

# Entra's access tokens have 1.5 to 2.5 kB, more than a usual SMTP command line (512 octets): so must ours.
_FILLER = 500


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a verified access token says. One of `scopes` and `roles` is empty."""

    audience: str
    user: str
    """`preferred_username`; "" in an app-only token."""
    client_id: str
    scopes: frozenset[str]
    roles: frozenset[str]


class BadToken(Exception):
    """An access token that is not ours, not intact or expired."""


class TokenMint:
    """Signs and verifies."""

    def __init__(self, clock: Clock, key: rsa.RSAPrivateKey, key_id: str) -> None:
        self._clock = clock
        self._key = key
        self._public = key.public_key()
        self._kid = key_id

    def keys(self) -> dict[str, Any]:
        """The JWKS document (RFC 7517)."""
        key = RSAAlgorithm.to_jwk(self._public, as_dict=True)
        return {"keys": [key | {"kid": self._kid, "use": "sig", "alg": "RS256"}]}

    def delegated_access(
        self, account: Account, app: App, audience: str, scopes: frozenset[str], lifetime: int
    ) -> str:
        """An access token with which the app acts as the person."""
        return self._sign(
            {
                "aud": audience,
                "iss": f"https://sts.windows.net/{account.tenant}/",
                "acr": "1",
                "appid": app.client_id,
                "appidacr": "0" if app.public else "1",
                "idtyp": "user",
                "oid": account.oid,
                "preferred_username": account.address,
                "scp": " ".join(sorted(scopes)),
                "sub": account.oid,
                "tid": account.tenant,
                "upn": account.address,
            },
            lifetime,
        )

    def app_access(self, app: App, tenant: str, audience: str, lifetime: int) -> str:
        """An access token with which the app acts for itself."""
        return self._sign(
            {
                "aud": audience,
                "iss": f"https://sts.windows.net/{tenant}/",
                "appid": app.client_id,
                "appidacr": "1",
                "idtyp": "app",
                "oid": str(uuid.uuid5(uuid.NAMESPACE_URL, app.client_id)),
                "roles": sorted(app.roles),
                "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, app.client_id)),
                "tid": tenant,
            },
            lifetime,
        )

    def id_token(self, account: Account, app: App, issuer: str, nonce: str, lifetime: int) -> str:
        """An ID token (OpenID Connect Core 2)."""
        claims: dict[str, Any] = {
            "aud": app.client_id,
            "iss": issuer,
            "name": account.address.partition("@")[0],
            "oid": account.oid,
            "preferred_username": account.address,
            "sub": account.oid,
            "tid": account.tenant,
        }
        if nonce:
            claims["nonce"] = nonce
        return self._sign(claims, lifetime, filler=0)

    def verify(self, token: str) -> Bearer:
        """Check signature and expiry and return the claims.

        Raises:
            BadToken: not to be believed. The text says why.
        """
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["RS256"],
                options={"verify_exp": False, "verify_aud": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as error:
            raise BadToken(str(error)) from error
        if claims["exp"] <= self._clock.now():
            raise BadToken("expired")
        return Bearer(
            audience=claims["aud"],
            user=claims.get("preferred_username", ""),
            client_id=claims.get("appid", ""),
            scopes=frozenset(claims.get("scp", "").split()),
            roles=frozenset(claims.get("roles", ())),
        )

    def _sign(self, claims: dict[str, Any], lifetime: int, *, filler: int = _FILLER) -> str:
        now = int(self._clock.now())
        stamped = claims | {
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "uti": secrets.token_urlsafe(16),
            "ver": "1.0",
        }
        if filler:
            stamped["xms_filler"] = secrets.token_urlsafe(filler)
        return jwt.encode(stamped, self._key, algorithm="RS256", headers={"kid": self._kid})


def client_info(account: Account) -> str:
    """The `client_info` of a token response: which account in which tenant, as MSAL wants it."""
    packed = json.dumps({"uid": account.oid, "utid": account.tenant}).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")
