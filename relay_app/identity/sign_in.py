"""Signing a mailbox in: the human step, by device code (RFC 8628) or authorization code (RFC 6749 4.1, 7636).

Used from the console's threads and from the command line. What a sign-in gives is put into the vault, where
`DelegatedFlow` finds it: a running relay takes it by itself.

The redirect comes with `response_mode=query`, as an address that a person can paste. PKCE makes the code in
it worthless without the verifier, which never leaves this process, and it can be redeemed once.
"""

import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import structlog

from relay_app.errors import SignInError, TokenError, VaultError
from relay_app.identity.flows import DELEGATED_SCOPES, MsalFlow, entry_of, usernames
from relay_app.identity.tokens import where
from relay_app.identity.vault import Vault
from relay_app.settings import Flow, MailboxSettings

_LIFE = 900.0
"""Seconds for an authorization-code sign-in; a device code has a life of its own, 15 minutes too."""
_KEPT = 900.0
"""Seconds that a sign-in is remembered after its time, so that a page can still tell how it ended."""
_MOST = 8
"""Sign-ins of one mailbox that are remembered; one more displaces the oldest."""
_SHORTEST_INTERVAL = 1
_AGAIN = "Begin a new sign-in."
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_REDIRECT_PARAMETERS = frozenset({"code", "state", "error", "error_description"})
_QUOTES = "<>\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_LONGEST_ADDRESS = 32768

log = structlog.get_logger()


class SignInState(Enum):
    """How a sign-in that was begun is doing."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """A sign-in at one moment. Holds no code and no token, except what a person has to type or open."""

    id: str
    """Unguessable."""
    mailbox: str
    kind: Flow
    """DEVICE_CODE or AUTHORIZATION_CODE."""
    state: SignInState
    url: str
    """Where the person goes: the page where the device code is typed, or the authorization URL."""
    expires: datetime
    """UTC."""
    user_code: str = ""
    redirect_uri: str = ""
    user: str = ""
    """Who has signed in, as soon as it is known."""
    sentence: str = ""
    """Why it failed, in plain words; while it waits: what is in the way at the moment."""
    action: str = ""
    """What to do about it."""
    code: str = ""
    """Microsoft's AADSTS code, or ""."""
    confirmable: bool = False
    """It failed, but `SignIns.confirm` would store it: another account than the mailbox's has signed in."""


def kinds(mailbox: MailboxSettings) -> tuple[Flow, ...]:
    """The ways in which a mailbox can be signed in, the configured one first; none for client credentials.

    An app with a secret or a certificate has no device code (AADSTS700025; MSAL offers none either).
    """
    if not mailbox.flow.delegated:
        return ()
    if mailbox.client_secret or mailbox.client_cert:
        return (Flow.AUTHORIZATION_CODE,)
    other = Flow.AUTHORIZATION_CODE if mailbox.flow is Flow.DEVICE_CODE else Flow.DEVICE_CODE
    return mailbox.flow, other


class SignIns:
    """The sign-ins that were begun in this process. Every method blocks and may be called from any thread."""

    def __init__(
        self,
        mailboxes: Callable[[str], MailboxSettings | None],
        *,
        authority: str,
        ca: Path | None,
        vault: Vault,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        signed_in: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`mailboxes` finds one by its address (lower case). `clock` is monotonic, in seconds.

        `wait(event, seconds)` waits between two polls. `signed_in` is called with the mailbox's address, in
        the thread that has just stored its sign-in.
        """
        self._mailboxes = mailboxes
        self._authority = authority
        self._ca = ca
        self._vault = vault
        self._clock = clock
        self._wait = wait
        self._signed_in = signed_in
        self._lock = threading.Lock()  # for what follows and for each attempt's view; never held for long
        self._attempts: dict[str, _Attempt] = {}

    def begin_device(self, mailbox: str) -> PendingSignIn:
        """Ask for a device code and poll in the background until it is used, declined, cancelled or too old.

        Raises:
            SignInError: there is no such mailbox, or it cannot be signed in this way.
            TokenError: Microsoft gives no device code.
        """
        settings = self._mailbox(mailbox, Flow.DEVICE_CODE)
        dialogue = _Dialogue(settings, authority=self._authority, ca=self._ca)
        flow = dialogue.device()
        seconds = float(flow["expires_in"])
        attempt = self._remember(
            dialogue, flow, seconds, Flow.DEVICE_CODE, flow["verification_uri"], user_code=flow["user_code"]
        )
        name = f"sign-in {settings.address}"
        threading.Thread(target=self._poll, args=(attempt,), name=name, daemon=True).start()
        return attempt.view

    def begin_code(self, mailbox: str, redirect_uri: str) -> PendingSignIn:
        """Make an authorization URL; `redirected` or `pasted` completes the sign-in.

        Raises:
            SignInError: there is no such mailbox, it cannot be signed in this way, or Microsoft would not
                redirect to such an address.
            TokenError: Microsoft cannot be asked for its endpoints.
        """
        settings = self._mailbox(mailbox, Flow.AUTHORIZATION_CODE)
        _check_redirect(redirect_uri)
        dialogue = _Dialogue(settings, authority=self._authority, ca=self._ca)
        hint = next(iter(self._users_before(settings)), settings.address)
        flow = dialogue.authorization(redirect_uri, hint)
        return self._remember(
            dialogue, flow, _LIFE, Flow.AUTHORIZATION_CODE, flow["auth_uri"], redirect_uri=redirect_uri
        ).view

    def redirected(self, parameters: Mapping[str, str]) -> PendingSignIn:
        """Complete the sign-in that these query parameters of the redirect belong to.

        One that has ended already is returned as it ended, for the parameters work once. After network
        trouble it still waits, and the same parameters can be given again.

        Raises:
            SignInError: they belong to no sign-in of this process.
        """
        state = parameters.get("state", "")
        if not state:
            raise SignInError(f"The address says nothing of a sign-in (no state in it). {_AGAIN}")
        attempt = self._by_state(state)
        if attempt is None:
            raise SignInError(
                "The address belongs to a sign-in that is too old, or was begun elsewhere or before the "
                f"relay was restarted. {_AGAIN}"
            )
        return self._complete(attempt, parameters)

    def pasted(self, id: str, address: str) -> PendingSignIn:
        """Complete a sign-in with the whole address that the browser ended up on.

        Raises:
            SignInError: it is no such address, or another sign-in's; this one waits for the right one.
        """
        attempt = self._attempt(id)
        if attempt.view.state is not SignInState.WAITING:
            return attempt.view
        if attempt.view.kind is Flow.DEVICE_CODE:
            raise SignInError(
                f"There is nothing to paste in this sign-in. Open {attempt.view.url} and type "
                f"{attempt.view.user_code}."
            )
        parameters = _parameters(address)
        if not parameters.get("state"):
            raise SignInError("The address was cut off: it has no state in it. Copy all of it.")
        other = self._by_state(parameters["state"])
        if other is attempt:
            return self._complete(attempt, parameters)
        if other is None:
            whose = "is from an older sign-in"
        elif other.view.state is SignInState.WAITING:
            whose = f"belongs to another sign-in, of {other.view.mailbox}"
        else:
            whose = f"has been used already, for another sign-in of {other.view.mailbox}"
        raise SignInError(
            f"The address {whose}. Open this sign-in's link, and paste the address that you end up on then."
        )

    def confirm(self, id: str) -> PendingSignIn:
        """Store a sign-in although another account has signed in, or try again to store one.

        Raises:
            SignInError: there is nothing to confirm.
        """
        attempt = self._attempt(id)
        with attempt.turn:
            if attempt.view.state is SignInState.DONE:
                return attempt.view
            granted = attempt.granted
            if granted is None or not attempt.view.confirmable:
                raise SignInError(f"There is nothing to confirm in this sign-in. {_AGAIN}")
            self._store(attempt, granted)
            return attempt.view

    def status(self, id: str) -> PendingSignIn:
        """How a sign-in is doing.

        Raises:
            SignInError: it is not known, or no longer.
        """
        return self._attempt(id).view

    def cancel(self, id: str) -> PendingSignIn:
        """Give a sign-in up. One that has ended stays as it is.

        Raises:
            SignInError: it is not known, or no longer.
        """
        attempt = self._attempt(id)
        self._fail(attempt, "The sign-in was cancelled.", _AGAIN)
        return attempt.view

    def close(self) -> None:
        """Give all up: the program ends."""
        with self._lock:
            attempts = list(self._attempts.values())
        for attempt in attempts:
            self._fail(attempt, "The relay was stopped.", _AGAIN)

    # -- which sign-ins there are ---------------------------------------------------------------------------

    def _mailbox(self, address: str, kind: Flow) -> MailboxSettings:
        mailbox = self._mailboxes(address.strip().lower())
        if mailbox is None:
            raise SignInError(f"There is no mailbox {address}. Choose one that is configured.")
        possible = kinds(mailbox)
        if not possible:
            raise SignInError(f"Nobody signs in for {mailbox.address}: it uses client_credentials.")
        if kind not in possible:
            raise SignInError(
                f"{mailbox.address} cannot be signed in with a device code: its app has a secret or a "
                "certificate, and Microsoft gives device codes only to public clients. Use the link "
                "(authorization code)."
            )
        return mailbox

    def _remember(
        self,
        dialogue: "_Dialogue",
        flow: dict[str, Any],
        seconds: float,
        kind: Flow,
        url: str,
        *,
        user_code: str = "",
        redirect_uri: str = "",
    ) -> "_Attempt":
        view = PendingSignIn(
            id=secrets.token_urlsafe(24),
            mailbox=dialogue.mailbox.address,
            kind=kind,
            state=SignInState.WAITING,
            url=url,
            expires=datetime.now(UTC) + timedelta(seconds=seconds),
            user_code=user_code,
            redirect_uri=redirect_uri,
        )
        attempt = _Attempt(view, dialogue, flow, self._clock() + seconds)
        self._forget_old()
        with self._lock:
            of_mailbox = [each for each in self._attempts.values() if each.view.mailbox == view.mailbox]
            displaced = of_mailbox[: max(0, len(of_mailbox) + 1 - _MOST)]
            for each in displaced:
                del self._attempts[each.view.id]
            self._attempts[view.id] = attempt
        for each in displaced:
            self._fail(each, "Newer sign-ins of the mailbox were begun.", _AGAIN)
        return attempt

    def _forget_old(self) -> None:
        now = self._clock()
        with self._lock:
            attempts = list(self._attempts.values())
            for attempt in attempts:
                if now >= attempt.deadline + _KEPT:
                    del self._attempts[attempt.view.id]
        for attempt in attempts:
            if now >= attempt.deadline:
                self._expire(attempt)

    def _attempt(self, id: str) -> "_Attempt":
        self._forget_old()
        with self._lock:
            attempt = self._attempts.get(id)
        if attempt is None:
            raise SignInError(
                "This sign-in is not known: it is too old, newer ones have taken its place, or the relay was "
                f"restarted. {_AGAIN}"
            )
        return attempt

    def _by_state(self, state: str) -> "_Attempt | None":
        self._forget_old()
        with self._lock:
            return next((each for each in self._attempts.values() if each.state == state), None)

    # -- how they end ---------------------------------------------------------------------------------------

    def _poll(self, attempt: "_Attempt") -> None:
        """Ask again and again whether the person has agreed (RFC 8628 3.5). A thread of its own."""
        pause = 0.0
        while True:
            self._wait(attempt.ended, max(pause, attempt.flow["interval"]))
            if self._clock() >= attempt.deadline:
                self._expire(attempt)
            if attempt.ended.is_set():
                return
            with attempt.turn:
                pause = self._attempted(attempt, attempt.dialogue.poll)

    def _complete(self, attempt: "_Attempt", parameters: Mapping[str, str]) -> PendingSignIn:
        if not (parameters.get("code") or parameters.get("error")):
            raise SignInError(
                "The address has no answer of Microsoft's in it (no code). Finish the sign-in at Microsoft's "
                "page first."
            )
        with attempt.turn:  # the browser may send the same twice at once
            if attempt.view.state is SignInState.WAITING:
                self._attempted(attempt, partial(attempt.dialogue.redeem, parameters=parameters))
        return attempt.view

    def _attempted(self, attempt: "_Attempt", ask: "Callable[[dict[str, Any]], _Granted | None]") -> float:
        """Ask Microsoft; end the sign-in, or note what is in the way.

        Returns the seconds that Microsoft wants us to wait before we ask again.
        """
        try:
            granted = ask(attempt.flow)
        except TokenError as error:
            if not error.temporary:
                self._fail(attempt, error.sentence, error.action, error.code)
            else:  # no reason to begin anew: the code is still good
                self._change(attempt, sentence=error.sentence, action=error.action, code=error.code)
            return error.retry_after
        except Exception as error:
            # Not its text, which may quote what the server sent.
            what = f"The sign-in broke unexpectedly: {where(error)}."
            self._fail(attempt, what, "Please report it as a bug.")
            return 0.0
        self._change(attempt, sentence="", action="", code="")
        if granted is not None:
            self._check(attempt, granted)
        return 0.0

    def _check(self, attempt: "_Attempt", granted: "_Granted") -> None:
        """Store the sign-in if the right account has signed in.

        Another account can be right: the mailbox's address may be an alias of it, or a shared mailbox that it
        may send as. Nothing that Microsoft tells us decides that, so a person does, once; the same account is
        not asked about again. But mostly the browser was signed in with some other account, and each mail
        would be refused with SendAsDenied, until Outlook blocks that account.
        """
        mailbox, user = attempt.dialogue.mailbox, granted.user
        known = {mailbox.address.casefold(), *(name.casefold() for name in self._users_before(mailbox))}
        if user.casefold() in known:
            self._store(attempt, granted)
            return
        self._fail(
            attempt,
            f"{user} has signed in, but the mailbox is {mailbox.address}. The sign-in was not stored.",
            f"Sign in again and choose {mailbox.address}; a private window of the browser asks anew. If "
            f"{mailbox.address} is an alias of {user}, or a shared mailbox that {user} may send as, confirm "
            "this sign-in instead.",
            granted=granted,
        )

    def _store(self, attempt: "_Attempt", granted: "_Granted") -> None:
        mailbox = attempt.dialogue.mailbox
        if not attempt.open:
            return  # cancelled meanwhile
        try:
            self._vault.store(entry_of(mailbox), granted.cache)
        except VaultError as error:
            action = "When that is mended, confirm this sign-in: it is stored then."
            self._fail(attempt, str(error), action, granted=granted)
            return
        with self._lock:
            attempt.granted = None
            attempt.view = replace(
                attempt.view,
                state=SignInState.DONE,
                user=granted.user,
                sentence="",
                action="",
                code="",
                confirmable=False,
            )
            attempt.ended.set()
        log.info("signed_in", mailbox=mailbox.address, user=granted.user)
        self._signed_in(mailbox.address)

    def _users_before(self, mailbox: MailboxSettings) -> list[str]:
        """Who the sign-in in the vault is for. One that cannot be read is about to be replaced."""
        try:
            return usernames(self._vault.load(entry_of(mailbox)), entry_of(mailbox))
        except VaultError:
            return []

    def _expire(self, attempt: "_Attempt") -> None:
        self._fail(attempt, "The sign-in has expired: nobody completed it in time.", _AGAIN)

    def _fail(
        self,
        attempt: "_Attempt",
        sentence: str,
        action: str,
        code: str = "",
        *,
        granted: "_Granted | None" = None,
    ) -> None:
        """End a sign-in, unless it has ended. What was `granted` can be confirmed for a while."""
        changed = self._change(
            attempt,
            state=SignInState.FAILED,
            sentence=sentence,
            action=action,
            code=code,
            granted=granted,
            user=granted.user if granted else "",
            confirmable=granted is not None,
        )
        if changed:
            log.warning("sign_in_failed", mailbox=attempt.view.mailbox, error=sentence, code=code)

    def _change(self, attempt: "_Attempt", granted: "_Granted | None" = None, **changes: Any) -> bool:
        """Change what is shown of a sign-in, unless it has ended. Returns whether it had not."""
        with self._lock:
            if not attempt.open:
                return False
            attempt.granted = granted
            attempt.view = replace(attempt.view, **changes)
            if attempt.view.state is not SignInState.WAITING:
                attempt.ended.set()
            return True


@dataclass(frozen=True, slots=True)
class _Granted:
    """What a completed sign-in gave, not stored yet."""

    user: str
    cache: bytes = field(repr=False)
    """MSAL's token cache as JSON."""


@dataclass(slots=True, eq=False)
class _Attempt:
    """A sign-in of this process. `SignIns._lock` guards `view`, which other threads read as it is."""

    view: PendingSignIn
    dialogue: "_Dialogue"
    flow: dict[str, Any] = field(repr=False)
    """MSAL's: device code, or state, nonce and PKCE verifier."""
    deadline: float
    granted: _Granted | None = None
    """What can be confirmed."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while Microsoft is asked and while the outcome is stored."""
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def state(self) -> str:
        """What tells the redirect of this sign-in from others (RFC 6749 10.12); "" for a device code."""
        return str(self.flow.get("state", ""))

    @property
    def open(self) -> bool:
        """It waits: for the person at Microsoft's page, or for a confirmation."""
        return self.view.state is SignInState.WAITING or self.view.confirmable


class _Dialogue(MsalFlow):
    """What one sign-in has to say to Microsoft. Its token cache is its own."""

    @property
    def mailbox(self) -> MailboxSettings:
        return self._mailbox

    def device(self) -> dict[str, Any]:
        """Ask for a device code: MSAL's flow, with `user_code`, `verification_uri`, `expires_in`, `interval`.

        Raises:
            TokenError: there is none.
        """
        with self._asking():
            flow: dict[str, Any] = self._begin().initiate_device_flow(DELEGATED_SCOPES)
            if "user_code" not in flow:
                raise self._refused(flow)
        # RFC 8628 3.2: 5 when there is none. MSAL wants an int, and at 0 never returns.
        return flow | {"interval": max(int(flow.get("interval", 5)), _SHORTEST_INTERVAL)}

    def authorization(self, redirect_uri: str, login_hint: str) -> dict[str, Any]:
        """Make an authorization URL: MSAL's flow, with `auth_uri`, `state`, and what checks the answer.

        Raises:
            TokenError: Microsoft cannot be asked for its endpoints.
        """
        with self._asking():
            app = self._begin()
            # form_post, which MSAL recommends, leaves nothing that a person could paste.
            warnings.filterwarnings("ignore", "response_mode='form_post' is recommended", UserWarning)
            flow: dict[str, Any] = app.initiate_auth_code_flow(
                DELEGATED_SCOPES,
                redirect_uri=redirect_uri,
                login_hint=login_hint,
                prompt="select_account",  # or a browser takes the account that it is signed in with
                response_mode="query",
            )
        return flow

    def poll(self, flow: dict[str, Any]) -> _Granted | None:
        """Ask once whether the person has agreed; None: not yet.

        Raises:
            TokenError: they declined, or the code is too old; temporary: Microsoft cannot be asked.
        """
        flow.pop("latest_attempt_at", None)  # MSAL's wall clock is not ours to wait by
        with self._asking():
            answer = self._app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
            if answer.get("error") in ("authorization_pending", "slow_down"):
                return None  # MSAL has lengthened the interval (RFC 8628 3.5)
            return self._granted(answer)

    def redeem(self, flow: dict[str, Any], *, parameters: Mapping[str, str]) -> _Granted:
        """Trade in the code that the redirect brought; MSAL checks state, nonce and PKCE.

        Raises:
            TokenError: Microsoft or the person refuses; temporary: Microsoft cannot be asked, try again.
        """
        # Of what comes through the browser, only what is needed: not `client_info`, for one.
        response = {name: value for name, value in parameters.items() if name in _REDIRECT_PARAMETERS}
        with self._asking():
            try:
                answer = self._app.acquire_token_by_auth_code_flow(dict(flow), response)
            except RuntimeError:  # its text has both nonces
                raise TokenError(
                    "Microsoft's answer belongs to another sign-in (its nonce is not ours).",
                    action=_AGAIN,
                    temporary=False,
                ) from None
            return self._granted(answer)

    def _begin(self) -> Any:
        import msal

        return self._application(msal.SerializableTokenCache())

    def _granted(self, answer: Mapping[str, Any]) -> _Granted:
        if "access_token" not in answer:
            raise self._refused(answer)
        granted = _Granted(self._whose(self._app, answer), self._app.token_cache.serialize().encode())
        self._app = None  # nothing more is asked, and the tokens need not stay here
        return granted


def _check_redirect(uri: str) -> None:
    """Raises SignInError: Microsoft does not redirect to such an address."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # brackets that do not match
        parts = urlsplit("")
    local = parts.scheme == "http" and parts.hostname in _LOCAL
    if not (parts.hostname and (parts.scheme == "https" or local)) or parts.fragment:
        raise SignInError(
            f"Microsoft does not send anybody back to {uri}: it must be https://..., or http://localhost. "
            "Open the console at such an address, or paste the address after the sign-in."
        )


def _parameters(address: str) -> dict[str, str]:
    """The query parameters of an address that was copied by hand, perhaps in several lines or in quotes.

    Raises:
        SignInError: it is no address, or not one that Microsoft has sent a browser to after a sign-in.
    """
    text = re.sub(r"\s+", "", address[:_LONGEST_ADDRESS]).strip(_QUOTES)
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that do not match
        parts = urlsplit("")
    # A copied address may lack its scheme.
    if not parts.query and parts.scheme not in ("http", "https"):
        raise SignInError(
            "This is not an address. Copy everything in the browser's address bar after the sign-in; it "
            "begins with http and has code= in it."
        )
    parameters = dict(parse_qsl(parts.query))
    if "code_challenge" in parameters:
        raise SignInError(
            "This is the address of Microsoft's sign-in page. Open it, sign in, and paste the address that "
            "the browser shows then."
        )
    if not (parameters.get("code") or parameters.get("error")):
        raise SignInError(
            "The address has no code in it. Copy the one that the browser shows after the sign-in, when the "
            "page perhaps cannot be opened."
        )
    return parameters
