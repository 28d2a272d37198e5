"""Access tokens for one mailbox: in memory, renewed by one request at a time."""

import asyncio
import random
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Protocol

import structlog

from relay_app.errors import SignInNeeded, TokenError, VaultError

_MARGIN = 600.0
"""Seconds before its end at which a token is replaced. Outlook's high-volume endpoint refuses a token with
less than ten minutes to live (5.7.142), and MSAL hands out none with less than five."""
_MARGIN_FRACTION = 0.25
"""... but never more than this part of its life: a token may live for seconds only."""
_EXERCISE = 86400.0
"""A refresh token that is not used dies (90 days at Microsoft): use it at least this often, in seconds."""
_SHORTEST = 1.0
"""Seconds between two refreshes, however short-lived the tokens are."""
_PAUSE_LONGEST = 60.0
_PAUSE_SIGN_IN = 60.0
_PAUSE_APP = 10.0
"""A wrong app registration is mended by a person, who then tries again at once: do not keep them waiting."""
_KEEPER_LONGEST = 600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token for the upstream and the user name that goes with it in XOAUTH2."""

    value: str = field(repr=False)
    user: str
    """The account's primary sign-in name; an alias is refused with 535 5.7.3."""
    expires_at: float
    """Seconds since the epoch."""


class TokenSource(Protocol):
    """Where delivery gets tokens for one mailbox."""

    async def token(self) -> AccessToken:
        """Return a token that is valid now; from memory when possible.

        Raises:
            TokenError: none can be had.
        """
        ...

    async def renew(self, rejected: AccessToken) -> AccessToken:
        """Return a token other than `rejected`, which the upstream has refused.

        Raises:
            TokenError: none can be had.
        """
        ...


class TokenFlow(Protocol):
    """How a token is asked for."""

    def fetch(self, *, force: bool) -> AccessToken:
        """Return a token; with `force` a new one, even if one that should still be good is at hand.

        Blocks: called in a thread, one call after the other.

        Raises:
            TokenError: none can be had.
            VaultError: the sign-in cannot be read.
        """
        ...

    def changed(self) -> bool:
        """Whether a sign-in has been stored since the last `fetch`, by another process. Cheap; any thread."""
        ...


class State(Enum):
    """How a mailbox's tokens are doing, for the console and the log."""

    STARTING = "starting"
    OK = "ok"
    SIGN_IN_NEEDED = "sign-in needed"
    FAILING = "failing"


class MailboxTokens:
    """The tokens of one mailbox (a `TokenSource`). Belongs to one event loop.

    At most one request is on its way, and all who wait share its outcome. After a failure everybody gets the
    same error for a while. A token that is still valid is used, whatever became of its replacement.
    """

    def __init__(
        self,
        address: str,
        flow: TokenFlow,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        patience: float = 20.0,
    ) -> None:
        """`jitter` gives numbers from 0 to 1. `patience`: seconds that a mail waits for a token request."""
        self.address = address
        self.state = State.STARTING
        self.last_error: TokenError | None = None
        """Why the last request failed; None after a success."""
        self._flow = flow
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._patience = patience
        self._current: AccessToken | None = None
        self._request: asyncio.Task[AccessToken | TokenError] | None = None
        self._failures = 0
        self._pause_until = 0.0  # monotonic: until then everybody gets last_error
        self._due_at = (
            0.0  # when the keeper should act: wall clock after a success, monotonic after a failure
        )
        self._told: tuple[State, str, str] | None = None

    @property
    def expires_at(self) -> float | None:
        """When the token in memory ends, in seconds since the epoch; None if there is none."""
        return self._current.expires_at if self._current else None

    @property
    def user(self) -> str:
        """The XOAUTH2 user of the token in memory; "" if there is none."""
        return self._current.user if self._current else ""

    async def token(self) -> AccessToken:
        """Return a token that is valid now: from memory in microseconds, else after one request.

        Raises:
            TokenError: none can be had.
        """
        current = self._valid()
        return current if current is not None else await self.refresh()

    async def renew(self, rejected: AccessToken) -> AccessToken:
        """Return a token other than `rejected`, which the upstream has refused.

        Raises:
            TokenError: none can be had.
        """
        current = self._valid()
        if current is not None and current.value != rejected.value:
            return current
        token = await self.refresh()
        if token.value == rejected.value:
            raise TokenError(
                f"Microsoft gave the very token that Outlook had just refused for {self.address}.",
                action="Try again in a minute.",
                temporary=True,
            )
        return token

    async def refresh(self) -> AccessToken:
        """Ask for a new token, or wait for the request that is on its way; during a pause, fail at once.

        Raises:
            TokenError: none can be had, or the answer takes longer than a mail can wait.
        """
        if self._request is None:
            if self.last_error is not None and self._pausing():
                raise self.last_error.with_traceback(None)
            self._request = asyncio.create_task(self._ask())
        try:
            # The shield: a client that hangs up must not take the token away from those who still wait.
            # Not wait_for(): in Python 3.11 it loses a cancellation that comes together with the result.
            async with asyncio.timeout(self._patience):
                outcome = await asyncio.shield(self._request)
        except TimeoutError:
            raise TokenError(
                f"Microsoft has not answered the token request for {self.address} within "
                f"{self._patience:.0f} seconds.",
                action="It is tried again by itself; see that the relay can reach the Internet.",
                temporary=True,
            ) from None
        if isinstance(outcome, TokenError):
            raise outcome.with_traceback(None)
        return outcome

    async def retry(self) -> AccessToken:
        """Ask now, pause or not: a person says that what was wrong has been mended.

        Raises:
            TokenError: it has not.
        """
        self._pause_until = 0.0
        return await self.refresh()

    def due_in(self) -> float:
        """Seconds until the token should be refreshed (or, after a failure, asked for again); 0 is now."""
        if self._flow.changed():
            return 0.0
        now = self._clock() if self.last_error is None else self._monotonic()
        return max(0.0, self._due_at - now)

    def _valid(self) -> AccessToken | None:
        current = self._current
        return current if current is not None and current.expires_at > self._clock() else None

    def _pausing(self) -> bool:
        return self._monotonic() < self._pause_until and not self._flow.changed()

    async def _ask(self) -> AccessToken | TokenError:
        """Make one request. The outcome is returned, not raised: nobody may be left waiting for it."""
        # The first token may come from the vault, and so may one that another process has just signed in for.
        force = self._current is not None and not self._flow.changed()
        outcome: AccessToken | TokenError
        try:
            outcome = await _in_thread(lambda: self._flow.fetch(force=force), f"token {self.address}")
        except TokenError as error:
            outcome = error
        except VaultError as error:
            outcome = TokenError(str(error), temporary=False)
        except Exception as error:
            # Not its text, which may quote what the server sent.
            outcome = TokenError(
                f"The token request for {self.address} broke unexpectedly: {_where(error)}.",
                action="It is tried again by itself. Please report it as a bug.",
                temporary=True,
            )
        finally:
            self._request = None
        if isinstance(outcome, TokenError):
            self._failed(outcome)
        else:
            self._succeeded(outcome)
        return outcome

    def _succeeded(self, token: AccessToken) -> None:
        now = self._clock()
        life = token.expires_at - now
        margin = min(_MARGIN, life * _MARGIN_FRACTION)
        margin += margin / 2 * self._jitter()  # many mailboxes need not all refresh in the same second
        self._due_at = now + max(_SHORTEST, min(life - margin, _EXERCISE))
        self._current = token
        self.last_error = None
        self._failures = 0
        self._pause_until = 0.0
        self._tell(State.OK)

    def _failed(self, error: TokenError) -> None:
        now = self._monotonic()
        self._failures += 1
        doubled = 2.0 ** min(self._failures - 1, 10)
        if error.temporary:
            pause = min(doubled, _PAUSE_LONGEST) * (1 - self._jitter() / 2)
            pause = again = max(pause, error.retry_after)
        else:
            pause = _PAUSE_SIGN_IN if isinstance(error, SignInNeeded) else _PAUSE_APP
            again = min(_PAUSE_SIGN_IN * doubled, _KEEPER_LONGEST)
        self._pause_until = now + pause
        self._due_at = now + again
        self.last_error = error
        self._tell(State.SIGN_IN_NEEDED if isinstance(error, SignInNeeded) else State.FAILING, error.code)

    def _tell(self, state: State, detail: str = "") -> None:
        """Log a change of state, once."""
        before, self.state = self._told, state
        self._told = (state, detail, self.user)
        if self._told == before:
            return
        if state is not State.OK:
            log.warning(
                "tokens_failing" if state is State.FAILING else "sign_in_needed",
                mailbox=self.address,
                error=str(self.last_error),
                token_valid_until=_date(self.expires_at),
            )
            return
        log.info("tokens_ok", mailbox=self.address, user=self.user, expires=_date(self.expires_at))
        if self.user.lower() != self.address.lower():
            log.warning(
                "signed_in_as_another_user",
                mailbox=self.address,
                user=self.user,
                hint=f"Outlook must allow {self.user} to send as {self.address}; "
                "otherwise sign in with the mailbox's own account.",
            )


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


async def _in_thread(function: Callable[[], AccessToken], name: str) -> AccessToken:
    """Run blocking code in a daemon thread of its own.

    Not in an executor: a hung token endpoint would fill the default one, which verifies passwords, and an
    executor's threads are waited for when the program ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[AccessToken] = loop.create_future()

    def deliver(settle: Callable[[], None]) -> None:
        if not future.cancelled():
            settle()

    def work() -> None:
        settle: Callable[[], None]
        try:
            settle = partial(future.set_result, function())
        except Exception as error:
            settle = partial(future.set_exception, error)
        with suppress(RuntimeError):  # the loop was closed meanwhile: the program is ending
            loop.call_soon_threadsafe(deliver, settle)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


def _where(error: BaseException) -> str:
    """The type of an exception and where it was raised, without its text."""
    raised = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {raised.filename}:{raised.lineno}"
