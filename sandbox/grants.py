"""What a person's sign-in gave an app: authorization codes, device codes and refresh tokens."""

import base64
import datetime as dt
import hashlib
import secrets
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox import aadsts
from sandbox.accounts import Account
from sandbox.apps import App
from sandbox.clock import Clock
from sandbox.limits import Limits

Entry = Mapping[str, Any]
"""Something that happened to a refresh token, as JSON: `replay` makes it happen again."""


@dataclass(slots=True)
class Consent:
    """An account let an app have these scopes (as asked for, resource included)."""

    account: Account
    client_id: str
    scopes: frozenset[str]
    nonce: str = ""


@dataclass(slots=True)
class RefreshToken:
    consent: Consent
    issued_at: float
    used_at: float
    revoked_at: float = 0.0
    value: str = field(default_factory=lambda: "0.A" + secrets.token_urlsafe(600), repr=False)


@dataclass(slots=True)
class Code:
    """An authorization code, waiting to be redeemed (RFC 6749 4.1.2, RFC 7636)."""

    consent: Consent
    redirect_uri: str
    challenge: str
    """The S256 `code_challenge`, or "" when the app did not use PKCE."""
    expires_at: float
    redeemed: bool = False


@dataclass(slots=True)
class Device:
    """A device that waits for a person to type its user code (RFC 8628)."""

    client_id: str
    tenant: str
    """The endpoint that it asked at: `common`, `consumers`, ..."""
    scopes: frozenset[str]
    expires_at: float
    user_code: str = field(default_factory=lambda: secrets.token_hex(5)[:9].upper())
    code: str = field(default_factory=lambda: secrets.token_urlsafe(60), repr=False)
    consent: Consent | None = None
    declined: bool = False


class Grants:
    """All codes and refresh tokens there are."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._refresh: dict[str, RefreshToken] = {}
        self._codes: dict[str, Code] = {}
        self._devices: dict[str, Device] = {}
        self._consents: dict[tuple[str, str], frozenset[str]] = {}
        self.record: Callable[[Entry], object] = lambda _entry: None
        """Told of everything that happens to a refresh token, before anybody is given it."""

    def remember(self, account: Account, client_id: str, scopes: frozenset[str]) -> None:
        """The person has agreed to these scopes, and need not be asked again."""
        self._consents[account.oid, client_id] = (
            self._consents.get((account.oid, client_id), frozenset()) | scopes
        )

    def remembers(self, account: Account, client_id: str, scopes: frozenset[str]) -> bool:
        return scopes <= self._consents.get((account.oid, client_id), frozenset())

    def forget_consents(self) -> None:
        """Everybody is asked again. Sign-ins stay good."""
        self._consents.clear()

    def issue_refresh(self, consent: Consent) -> str:
        """A new refresh token. Entra leaves older ones in force when it hands out a new one."""
        now = self._clock.now()
        token = RefreshToken(consent, issued_at=now, used_at=now)
        self._refresh[token.value] = token
        self.record(_issued(token))
        return token.value

    def refresh(self, value: str, app: App) -> Consent:
        """Look a refresh token up, as a grant does: that also keeps it alive.

        Raises:
            EntraError: unknown, another app's, revoked or too long idle.
        """
        token = self._refresh.get(value)
        if token is None or token.consent.client_id != app.client_id:
            raise aadsts.unknown_grant("refresh_token")
        if token.revoked_at:
            raise aadsts.revoked_grant(_stamp(token.issued_at), _stamp(token.revoked_at))
        now, limit = self._clock.now(), self._limits.refresh_token_idle_seconds
        if limit and now - token.used_at >= limit:
            raise aadsts.idle_refresh_token(_stamp(token.issued_at), int(now - token.used_at))
        token.used_at = now
        if self._limits.refresh_tokens_once:
            self.forget_refresh(value)
        return token.consent

    def forget_refresh(self, value: str) -> None:
        """Make one refresh token unknown (AADSTS70000 from now on)."""
        self._refresh.pop(value, None)
        self.record({"token": value, "forgotten": True})

    def revoke(self, account: Account, spared: Container[str] = ()) -> None:
        """End every sign-in of the account but those with the `spared` apps (AADSTS50173 from now on)."""
        for token in self._refresh.values():
            if token.consent.account is account and token.consent.client_id not in spared:
                token.revoked_at = self._clock.now()
                self.record(_revoked(token))

    def entries(self) -> Iterator[Entry]:
        """What must happen again for the refresh tokens to be as they are now."""
        for token in self._refresh.values():
            yield _issued(token)
            if token.revoked_at:
                yield _revoked(token)

    def replay(self, entry: Entry, accounts: Mapping[str, Account]) -> None:
        """Let an entry happen again. `accounts` by oid: what is of nobody there is over.

        Raises:
            KeyError, TypeError: it is no entry.
        """
        value = str(entry["token"])
        if "forgotten" in entry:
            self._refresh.pop(value, None)
        elif "revoked_at" in entry:
            if value in self._refresh:
                self._refresh[value].revoked_at = entry["revoked_at"]
        elif entry["oid"] in accounts:
            account, scopes = accounts[entry["oid"]], frozenset(entry["scopes"])
            consent = Consent(account, entry["client_id"], scopes, entry["nonce"])
            issued_at = entry["issued_at"]
            self._refresh[value] = RefreshToken(consent, issued_at, used_at=issued_at, value=value)

    def issue_code(self, consent: Consent, redirect_uri: str, challenge: str) -> str:
        value = "M.C5_" + secrets.token_urlsafe(40)
        expires_at = self._clock.now() + self._limits.code_seconds
        self._codes[value] = Code(consent, redirect_uri, challenge, expires_at)
        return value

    def redeem(self, value: str, app: App, redirect_uri: str, verifier: str) -> Consent:
        """Trade an authorization code in, once.

        Raises:
            EntraError: unknown, used, expired, for another redirect URI, or the PKCE verifier does not fit.
        """
        code = self._codes.get(value)
        if code is None or code.consent.client_id != app.client_id:
            raise aadsts.unknown_grant("code")
        if code.redeemed:
            raise aadsts.code_redeemed()
        if code.expires_at <= self._clock.now():
            raise aadsts.code_expired()
        if redirect_uri != code.redirect_uri:
            raise aadsts.wrong_redirect(redirect_uri, code.redirect_uri)
        if code.challenge and _s256(verifier) != code.challenge:
            raise aadsts.wrong_verifier()
        code.redeemed = True
        return code.consent

    def start_device(self, app: App, tenant: str, scopes: frozenset[str]) -> Device:
        device = Device(app.client_id, tenant, scopes, self._clock.now() + self._limits.device_code_seconds)
        self._devices[device.code] = device
        return device

    def device_by_user_code(self, user_code: str) -> Device:
        """Raises KeyError: nobody waits with this user code."""
        for device in self._devices.values():
            if device.user_code == user_code and device.expires_at > self._clock.now():
                return device
        raise KeyError(f"No device waits with the user code {user_code}.")

    def poll(self, value: str, app: App) -> Consent:
        """What a polling device is told (RFC 8628 3.5).

        Raises:
            EntraError: pending, declined, expired or unknown.
        """
        device = self._devices.get(value)
        if device is None or device.client_id != app.client_id:
            raise aadsts.bad_device_code()
        if device.expires_at <= self._clock.now():
            raise aadsts.device_code_expired()
        if device.declined:
            raise aadsts.authorization_declined()
        if device.consent is None:
            raise aadsts.authorization_pending()
        del self._devices[value]
        return device.consent


def _issued(token: RefreshToken) -> Entry:
    return {
        "token": token.value,
        "oid": token.consent.account.oid,
        "client_id": token.consent.client_id,
        "scopes": sorted(token.consent.scopes),
        "nonce": token.consent.nonce,
        "issued_at": token.issued_at,
    }


def _revoked(token: RefreshToken) -> Entry:
    return {"token": token.value, "revoked_at": token.revoked_at}


def _s256(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _stamp(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
