"""How a mailbox's tokens are asked for: one MSAL application per mailbox, made when first needed.

Everything here blocks and runs in a worker thread. `msal` and `requests` are imported there, not at start:
the relay listens before it needs a token.
"""

import json
import logging
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from relay_app.errors import SignInNeeded, TokenError, VaultError
from relay_app.identity.aadsts import SIGN_IN, aadsts_code, token_error
from relay_app.identity.credential import Credential, credential
from relay_app.identity.tokens import AccessToken, MailboxTokens, TokenFlow
from relay_app.identity.vault import Stamp, Vault
from relay_app.settings import MailboxSettings

if TYPE_CHECKING:
    from requests import Response

APP_SCOPES = ["https://outlook.office365.com/.default"]
"""For client_credentials (learn.microsoft.com/exchange/client-developer/legacy-protocols/
how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth)."""
DELEGATED_SCOPES = ["https://outlook.office.com/SMTP.Send"]
"""Personal accounts do not know outlook.office365.com. MSAL adds offline_access, openid and profile."""

_TIMEOUT = (10.0, 30.0)
"""Seconds to connect (to each address) and between two reads."""
_LONGEST_WAIT = 3600.0
_DEFAULT_LIFE = 600
"""Seconds, for an answer without `expires_in` (RFC 6749 5.1 allows that); as MSAL assumes."""
_SHARED_TENANTS = frozenset({"common", "organizations", "consumers"})
_WAIT = "It is tried again by itself."

log = structlog.get_logger()


class HttpClient:
    """What MSAL speaks HTTP through: `requests` with timeouts and our CA. Remembers what came back last."""

    def __init__(self, ca: Path | None) -> None:
        """`ca`: a PEM bundle to trust instead of the system's."""
        import requests

        self._session = requests.Session()
        # Given with each request: the session's own loses against REQUESTS_CA_BUNDLE in the environment.
        self._verify = str(ca) if ca else _system_trust()
        self.status = 0
        self.retry_after = 0.0

    def get(self, url: str, **kwargs: Any) -> "Response":
        return self._note(self._session.get(url, timeout=_TIMEOUT, verify=self._verify, **kwargs))

    def post(self, url: str, **kwargs: Any) -> "Response":
        # A redirect followed would take the secret with it (307) or lose it (302): the endpoint has none.
        return self._note(
            self._session.post(url, timeout=_TIMEOUT, verify=self._verify, allow_redirects=False, **kwargs)
        )

    def close(self) -> None:
        """Drop idle connections; the next request makes new ones."""
        self._session.close()

    def forget(self) -> None:
        """Forget what came back last."""
        self.status = 0
        self.retry_after = 0.0

    def _note(self, response: "Response") -> "Response":
        self.status = response.status_code
        seconds = response.headers.get("Retry-After", "")
        # RFC 9110 10.2.3 allows a date as well; Entra sends seconds.
        self.retry_after = min(float(seconds), _LONGEST_WAIT) if seconds.isdecimal() else 0.0
        return response


class MsalFlow:
    """What all flows share: the lazily made application, its HTTP client, and errors in plain words."""

    def __init__(self, mailbox: MailboxSettings, *, authority: str, ca: Path | None) -> None:
        self._mailbox = mailbox
        self._authority = f"{authority.rstrip('/')}/{mailbox.tenant}"
        self._ca = ca
        self._lock = threading.Lock()  # one call after the other
        self._http: HttpClient | None = None
        self._http_cache: dict[str, Any] = {}
        self._app: Any = None
        self._app_credential: Credential = None

    def _application(self, token_cache: Any = None) -> Any:
        """The long-lived MSAL application. Making it asks the authority for its endpoints.

        A certificate that was renewed on disk makes a new one.

        Raises:
            TokenError: the app's certificate cannot be used.
        """
        wanted = credential(self._mailbox)
        if self._app is None or wanted != self._app_credential:
            self._app, self._app_credential = self._new_application(wanted, token_cache), wanted
        return self._app

    def _new_application(self, app_credential: Credential, token_cache: Any = None) -> Any:
        import msal

        # MSAL logs nothing that its results do not tell; but an answer that is not JSON it logs whole.
        logging.getLogger("msal").setLevel(logging.CRITICAL)
        if self._http is None:
            self._http = HttpClient(self._ca)
        kind = msal.ConfidentialClientApplication if app_credential else msal.PublicClientApplication
        return kind(
            self._mailbox.client_id,
            client_credential=app_credential,
            authority=self._authority,
            instance_discovery=False,  # it would ask login.microsoftonline.com about any other authority
            http_client=self._http,
            http_cache=self._http_cache,
            token_cache=token_cache,
        )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Let one call at a time talk to Microsoft, and turn whatever it raises into a TokenError."""
        with self._lock:
            import msal
            import requests

            # MSAL repeats a 400 for 60 s, and a 429 or 5xx for up to an hour, without asking. How often to
            # ask is for `MailboxTokens` to decide; who has just mended the app must not wait for a cache.
            self._http_cache.clear()
            if self._http is not None:
                self._http.forget()
            try:
                yield
            except requests.exceptions.SSLError as error:
                raise self._temporary(
                    "its certificate cannot be verified"
                    if "CERTIFICATE_VERIFY" in str(error)
                    else "TLS failed",
                    "Check the clock of this machine, and RELAY_UPSTREAM_CA if a proxy inspects TLS. "
                    + _WAIT,
                ) from None
            except requests.exceptions.Timeout:
                raise self._temporary("no answer in time") from None
            except requests.exceptions.ConnectionError:
                raise self._temporary("no connection") from None
            except requests.exceptions.RequestException as error:
                raise self._temporary(f"the answer broke off ({type(error).__name__})") from None
            except msal.exceptions.MsalServiceError:
                raise self._temporary(f"it answered with HTTP status {self._status}", _WAIT) from None
            except OSError as error:  # requests, about the CA bundle
                raise TokenError(
                    f"The CA bundle {self._ca} cannot be used: {error}.",
                    action="Correct RELAY_UPSTREAM_CA.",
                    temporary=False,
                ) from None
            except (ValueError, RuntimeError, LookupError) as error:
                raise self._not_understood(error) from None
            finally:
                if self._http is not None:
                    # In an hour, when the next request is due, the connection would be dead.
                    self._http.close()

    @property
    def _status(self) -> int:
        return self._http.status if self._http else 0

    def _temporary(
        self, why: str, action: str = "See that the relay can reach the Internet. " + _WAIT
    ) -> TokenError:
        return TokenError(
            f"Microsoft's sign-in service {self._authority} cannot be used: {why}.",
            action=action,
            temporary=True,
            retry_after=self._http.retry_after if self._http else 0.0,
        )

    def _not_understood(self, error: Exception) -> TokenError:
        """MSAL gave up on an answer; about a 4xx, the answer's body is in the exception's context."""
        code = aadsts_code(f"{error} {error.__context__}")
        if code:
            answer = {"error": "invalid_request", "error_description": code}
            return token_error(answer, self._mailbox, status=self._status)
        if not self._status:  # MSAL did not even ask
            return TokenError(
                f"The sign-in service's address cannot be used: {self._authority}.",
                action="Correct RELAY_AUTHORITY (https://...) or TENANT_ID.",
                temporary=False,
            )
        return self._temporary(
            f"it answered with HTTP status {self._status}, and not in the way a sign-in service does",
            "A proxy or a captive portal may be in between. " + _WAIT,
        )

    def _access_token(self, answer: Mapping[str, Any], user: str, asked_at: float) -> AccessToken:
        """Read MSAL's answer.

        Raises:
            TokenError: it is an error.
        """
        if "access_token" not in answer:
            raise self._refused(answer)
        life = int(answer.get("expires_in", _DEFAULT_LIFE))
        return AccessToken(str(answer["access_token"]), user, asked_at + life)

    def _refused(self, answer: Mapping[str, Any]) -> TokenError:
        """An error answer of Microsoft's as an exception."""
        retry_after = self._http.retry_after if self._http else 0.0
        return token_error(answer, self._mailbox, status=self._status, retry_after=retry_after)

    def _whose(self, app: Any, answer: Mapping[str, Any]) -> str:
        """Who has just signed in: `preferred_username` of the ID token, which XOAUTH2 needs as the user.

        Raises:
            TokenError: that is not said, or there is no refresh token to go on with.
        """
        account = next(iter(app.get_accounts()), None)
        if not account or not account["username"] or "refresh_token" not in answer:
            raise TokenError(
                "Microsoft did not say whose refresh token this is, or gave none to go on with.",
                action="It must have been obtained with the scopes openid, profile and offline_access.",
                temporary=False,
            )
        return str(account["username"])


class ClientCredentialsFlow(MsalFlow):
    """The app signs in as itself: Microsoft 365 only, nobody's consent but an administrator's."""

    def fetch(self, *, force: bool) -> AccessToken:
        """See `TokenFlow.fetch`."""
        self._check_settings()
        with self._asking():
            asked_at = time.time()
            app = self._application()
            if force:
                app.remove_tokens_for_client()  # acquire_token_for_client() has no force_refresh
            answer = app.acquire_token_for_client(APP_SCOPES)
        return self._access_token(answer, self._mailbox.address, asked_at)

    def changed(self) -> bool:
        """See `TokenFlow.changed`. There is no sign-in that could change."""
        return False

    def _check_settings(self) -> None:
        """Say at once what Microsoft would say in its own way."""
        if self._mailbox.tenant.lower() in _SHARED_TENANTS:
            answer = {"error": "invalid_request", "error_description": "AADSTS9001023"}
            raise token_error(answer, self._mailbox, status=400)
        if not (self._mailbox.client_secret or self._mailbox.client_cert):
            answer = {"error": "invalid_client", "error_description": "AADSTS7000216"}
            raise token_error(answer, self._mailbox, status=401)


class DelegatedFlow(MsalFlow):
    """A person has signed in; MSAL's token cache, with the refresh token, lives in the vault.

    A sign-in that another process stores (`smtp-relay login`) is noticed and used from then on.
    """

    def __init__(self, mailbox: MailboxSettings, *, authority: str, ca: Path | None, vault: Vault) -> None:
        super().__init__(mailbox, authority=authority, ca=ca)
        self._vault = vault
        self._entry = entry_of(mailbox)
        self._cache: Any = None
        self._loaded = False
        self._seen: Stamp | None = None

    def fetch(self, *, force: bool) -> AccessToken:
        """See `TokenFlow.fetch`."""
        with self._asking():
            asked_at = time.time()
            cache = self._load()
            if not list(cache.search(cache.CredentialType.ACCOUNT)):
                raise self._not_signed_in()  # before anything is asked: the network may be down as well
            app = self._application(cache)
            # An account of another authority, or a refresh token of another app, is as good as none.
            for account in app.get_accounts()[:1]:
                answer = app.acquire_token_silent_with_error(DELEGATED_SCOPES, account, force_refresh=force)
                if answer:
                    self._save()
                    return self._access_token(answer, account["username"] or self._mailbox.address, asked_at)
            raise self._not_signed_in()

    def changed(self) -> bool:
        """See `TokenFlow.changed`."""
        try:
            return self._vault.stamp(self._entry) != self._seen
        except VaultError:
            return False

    def redeem(self, refresh_token: str) -> AccessToken:
        """Sign in with a refresh token obtained elsewhere for the same app, and store the sign-in.

        Raises:
            TokenError: Microsoft does not take it, or does not say whose it is. Nothing has been changed.
            VaultError: it could not be stored.
        """
        with self._asking():
            import msal

            asked_at = time.time()
            cache = msal.SerializableTokenCache()
            proof = credential(self._mailbox)
            app = self._new_application(proof, cache)
            answer = app.acquire_token_by_refresh_token(refresh_token, DELEGATED_SCOPES)
            token = self._access_token(answer, "", asked_at)
            user = self._whose(app, answer)
            self._seen = self._vault.store(self._entry, cache.serialize().encode())
            self._cache, self._app, self._app_credential, self._loaded = cache, app, proof, True
        return AccessToken(token.value, user, token.expires_at)

    def _load(self) -> Any:
        """Take the sign-in from the vault, unless the one in memory is the one in the vault.

        Returns MSAL's token cache; the same object each time, as the application holds on to it.
        """
        try:
            stamp = self._vault.stamp(self._entry)
        except VaultError:
            if not self._loaded:
                raise
            return self._cache  # while the storage is away, the sign-in in memory is as good
        if self._loaded and stamp == self._seen:
            return self._cache
        import msal

        if self._cache is None:
            self._cache = msal.SerializableTokenCache()
        # Noted first: if the file changes between this and the reading, it is read once more next time.
        self._loaded, self._seen = False, stamp
        stored = self._vault.load(self._entry)
        self._cache.deserialize(None if stored is None else _token_cache_json(stored, self._entry))
        self._loaded = True
        return self._cache

    def _save(self) -> None:
        """Store what MSAL has learnt: Microsoft replaces the refresh token now and then."""
        if not self._cache.has_state_changed:
            return
        state = self._cache.serialize().encode()
        try:
            stamp = self._vault.store_if_unchanged(self._entry, state, self._seen)
        except VaultError as error:
            # No reason to keep mail waiting: we have a token, and the refresh token on disk still works, as
            # Microsoft does not revoke it when it gives a new one.
            self._cache.has_state_changed = True  # store it next time
            log.warning("sign_in_not_stored", mailbox=self._mailbox.address, error=str(error))
            return
        if stamp is not None:  # else another process has stored a newer sign-in: changed() says so
            self._seen = stamp

    def _not_signed_in(self) -> SignInNeeded:
        return SignInNeeded(
            f"Nobody has signed in for {self._mailbox.address} with the app {self._mailbox.client_id} yet.",
            action=SIGN_IN.format(mailbox=self._mailbox.address),
        )


def tokens_for(mailbox: MailboxSettings, *, authority: str, ca: Path | None, vault: Vault) -> MailboxTokens:
    """Make the tokens of a mailbox. Nothing is asked of Microsoft before the first token is.

    `authority` is the sign-in service without a tenant; `ca` a PEM bundle to trust instead of the system's.
    """
    flow: TokenFlow
    if mailbox.flow.delegated:
        flow = DelegatedFlow(mailbox, authority=authority, ca=ca, vault=vault)
    else:
        flow = ClientCredentialsFlow(mailbox, authority=authority, ca=ca)
    return MailboxTokens(mailbox.address, flow)


def entry_of(mailbox: MailboxSettings) -> str:
    """The name of the vault's entry with a mailbox's sign-in: MSAL's token cache as JSON."""
    return mailbox.address.lower()


def usernames(stored: bytes | None, entry: str) -> list[str]:
    """Who the sign-in is for that the vault has under `entry`.

    Raises:
        VaultError: it is not a sign-in.
    """
    accounts = json.loads(_token_cache_json(stored, entry)).get("Account", {}) if stored else {}
    return [str(account["username"]) for account in accounts.values() if account.get("username")]


def _token_cache_json(stored: bytes, entry: str) -> str:
    try:
        if isinstance(json.loads(stored), dict):
            return stored.decode()
    except ValueError:
        pass
    raise VaultError(
        f"The vault's entry {entry} is not a sign-in. Sign in again; that replaces it.  "
        f"{SIGN_IN.format(mailbox=entry)}"
    )


def _system_trust() -> str | bool:
    """Where the system keeps the certificates it trusts, as OpenSSL sees it; True: those of `certifi`."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return paths.cafile
    return paths.capath if paths.capath and any(Path(paths.capath).iterdir()) else True
