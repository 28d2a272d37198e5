"""Access tokens for one mailbox: in memory, renewed by one request at a time."""

import asyncio
import random
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Protocol, TypeVar

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
_LOOK_PATIENCE = 2.0
_LOOK_SHORTEST = 0.1
"""Seconds between two looks into the vault on behalf of mails that would be refused."""

_Result = TypeVar("_Result")

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
        """Whether a sign-in has been stored since the last `fetch`, by somebody else.

        False if that cannot be known: `fetch` is where it is told. May block: called in a thread.
        """
        ...


class State(Enum):
    """How a mailbox's tokens are doing, for the console and the log."""

    STARTING = "starting"
    OK = "ok"
    SIGN_IN_NEEDED = "sign-in needed"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a mailbox's tokens were doing at one moment. Holds no token; any thread may read it."""

    address: str
    state: State = State.STARTING
    user: str = ""
    """Who is signed in: the XOAUTH2 user. "" before the first token."""
    expires_at: float | None = None
    """When the token in memory ends; this and the next are seconds since the epoch."""
    next_refresh_at: float | None = None
    """When the keeper asks next; None: at once."""
    last_error: TokenError | None = None
    """Why the last request failed; None after a success."""

    @property
    def sentence(self) -> str:
        """What is wrong, in plain words; "" if nothing is."""
        return self.last_error.sentence if self.last_error else ""

    @property
    def action(self) -> str:
        """What to do about it."""
        return self.last_error.action if self.last_error else ""

    @property
    def code(self) -> str:
        """Microsoft's AADSTS code, or ""."""
        return self.last_error.code if self.last_error else ""


class MailboxTokens:
    """The tokens of one mailbox (a `TokenSource`). Belongs to one event loop, except `snapshot()`.

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
        self.on_change: Callable[[Snapshot], object] | None = None
        """Called on the event loop, soon after each change of state, user or error, for alerts."""
        self._flow = flow
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._patience = patience
        self._current: AccessToken | None = None
        self._request: asyncio.Task[AccessToken | TokenError] | None = None
        self._look: asyncio.Task[None] | None = None
        self._look_again_at = 0.0  # monotonic
        self._changed = False  # the vault has a sign-in that we have not used yet
        self._failures = 0
        # Times by the monotonic clock, which nobody sets; the wall clock's go into the snapshot.
        self._ends_at = 0.0
        self._due_at = 0.0
        self._pause_until = 0.0  # until then everybody gets last_error
        self._snapshot = Snapshot(address)

    def snapshot(self) -> Snapshot:
        """How things are. Of one piece, in any thread."""
        return self._snapshot

    @property
    def state(self) -> State:
        return self._snapshot.state

    @property
    def last_error(self) -> TokenError | None:
        """Why the last request failed; None after a success."""
        return self._snapshot.last_error

    @property
    def expires_at(self) -> float | None:
        """When the token in memory ends, in seconds since the epoch; None if there is none."""
        return self._snapshot.expires_at

    @property
    def user(self) -> str:
        """The XOAUTH2 user of the token in memory; "" if there is none."""
        return self._snapshot.user

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
        try:
            token = await self.refresh()
        except TokenError:
            if self._current == rejected:  # whatever it says of itself, it is of no use
                self._current = None
                self._snapshot = replace(self._snapshot, expires_at=None)
            raise
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
        if self._request is None and self._pausing():
            await self._look_for_a_sign_in()
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
        """Ask now, pause or not: a person has signed in, or says that what was wrong has been mended.

        A request that is on its way was made before that and is not taken for the answer.

        Raises:
            TokenError: it has not.
        """
        if self._request is not None:
            await asyncio.wait([self._request], timeout=self._patience)
        self._pause_until = 0.0
        return await self.refresh()

    def due_in(self) -> float:
        """Seconds until the token should be refreshed (or, after a failure, asked for again); 0 is now."""
        due_at = self._snapshot.next_refresh_at
        if self._changed or due_at is None:
            return 0.0
        due = self._due_at - self._monotonic()
        if self.last_error is None:
            # Whichever clock comes first: the monotonic one stands still while the machine sleeps, and the
            # other one can be set back.
            due = min(due, due_at - self._clock())
        return max(0.0, due)

    async def look(self) -> None:
        """Look into the vault for a sign-in that somebody else has stored: then `due_in` is 0, and no pause.

        In a thread, and one look at a time; gives up waiting after a while.
        """
        if self._request is not None:
            return  # it looks by itself
        look = self._look or asyncio.create_task(self._look_once())
        self._look = look
        await asyncio.wait([look], timeout=_LOOK_PATIENCE)
        if look.done():
            look.result()

    async def _look_once(self) -> None:
        try:
            changed = await _in_thread(self._flow.changed, f"look {self.address}")
            if changed and self._request is None:
                self._changed = True
                self._pause_until = 0.0
        finally:
            self._look_again_at = self._monotonic() + _LOOK_SHORTEST
            self._look = None

    async def _look_for_a_sign_in(self) -> None:
        """For a mail that is about to be refused."""
        if self._monotonic() >= self._look_again_at:
            with suppress(Exception):  # the mail gets last_error, which is what matters to it
                await self.look()

    def _valid(self) -> AccessToken | None:
        current = self._current
        if current is None or self._monotonic() >= self._ends_at:
            return None
        return current if current.expires_at > self._clock() else None

    def _pausing(self) -> bool:
        return self._monotonic() < self._pause_until

    async def _ask(self) -> AccessToken | TokenError:
        """Make one request. The outcome is returned, not raised: nobody may be left waiting for it."""
        had_one = self._current is not None
        outcome: AccessToken | TokenError

        def fetch() -> AccessToken:
            # The first token may come from the vault, and so may one of a sign-in that was just stored there.
            return self._flow.fetch(force=had_one and not self._flow.changed())

        self._changed = False
        try:
            outcome = await _in_thread(fetch, f"token {self.address}")
        except TokenError as error:
            outcome = error
        except VaultError as error:
            outcome = TokenError(str(error), temporary=False)
        except Exception as error:
            # Not its text, which may quote what the server sent.
            outcome = TokenError(
                f"The token request for {self.address} broke unexpectedly: {where(error)}.",
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
        due = max(_SHORTEST, min(life - margin, _EXERCISE))
        self._due_at = self._monotonic() + due
        self._ends_at = self._monotonic() + life
        self._current = token
        self._failures = 0
        self._pause_until = 0.0
        self._tell(Snapshot(self.address, State.OK, token.user, token.expires_at, now + due))

    def _failed(self, error: TokenError) -> None:
        self._failures += 1
        doubled = 2.0 ** min(self._failures - 1, 10)
        if error.temporary:
            pause = min(doubled, _PAUSE_LONGEST) * (1 - self._jitter() / 2)
            pause = again = max(pause, error.retry_after)
        else:
            pause = _PAUSE_SIGN_IN if isinstance(error, SignInNeeded) else _PAUSE_APP
            again = min(_PAUSE_SIGN_IN * doubled, _KEEPER_LONGEST)
        self._pause_until = self._monotonic() + pause
        self._due_at = self._monotonic() + again
        state = State.SIGN_IN_NEEDED if isinstance(error, SignInNeeded) else State.FAILING
        self._tell(Snapshot(self.address, state, self.user, self.expires_at, self._clock() + again, error))

    def _tell(self, now: Snapshot) -> None:
        """Take over how things are; log a change, and tell whoever waits for one, once."""
        before, self._snapshot = self._snapshot, now
        if (now.state, now.code, now.user) == (before.state, before.code, before.user):
            return
        if self.on_change is not None:
            asyncio.get_running_loop().call_soon(self.on_change, now)  # what it raises is the loop's to log
        if now.state is not State.OK:
            log.warning(
                "tokens_failing" if now.state is State.FAILING else "sign_in_needed",
                mailbox=self.address,
                error=str(now.last_error),
                token_valid_until=_date(now.expires_at),
            )
            return
        log.info("tokens_ok", mailbox=self.address, user=now.user, expires=_date(now.expires_at))
        if now.user.lower() != self.address.lower():
            log.warning(
                "signed_in_as_another_user",
                mailbox=self.address,
                user=now.user,
                hint=f"Outlook must allow {now.user} to send as {self.address}; "
                "otherwise sign in with the mailbox's own account.",
            )


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


async def _in_thread(function: Callable[[], _Result], name: str) -> _Result:
    """Run blocking code in a daemon thread of its own.

    Not in an executor: a hung token endpoint would fill the default one, which verifies passwords, and an
    executor's threads are waited for when the program ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

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


def where(error: BaseException) -> str:
    """The type of an exception and where it was raised, without its text."""
    raised = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {raised.filename}:{raised.lineno}"
