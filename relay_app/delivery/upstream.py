"""One mailbox's way to Outlook: its token, its connections, and what to try twice."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import structlog

from relay_app.delivery.outlook import (
    Connection,
    ConnectionLost,
    Deadlines,
    SignInRefused,
    Undelivered,
    uncertain,
    unreached,
)
from relay_app.delivery.pool import Pool
from relay_app.delivery.verdict import Outcome, Timings, Verdict
from relay_app.errors import SignInNeeded, TokenError
from relay_app.identity.tokens import AccessToken, TokenSource
from relay_app.mail.submission import Submission
from relay_app.settings import Endpoint, MailboxSettings

_log = structlog.get_logger()


@dataclass(slots=True)
class _Attempt:
    """One submission's attempt: the connection it holds, and where its time goes."""

    clock: Callable[[], float]
    connection: Connection | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measured(self, what: str) -> Iterator[None]:
        started = self.clock()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + self.clock() - started


class Upstream:
    """Sends one mailbox's submissions over its own connections, signed in with its own tokens."""

    def __init__(
        self,
        mailbox: MailboxSettings,
        endpoint: Endpoint,
        *,
        tls: ssl.SSLContext,
        ehlo_name: str,
        tokens: TokenSource,
        deadlines: Deadlines | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mailbox = mailbox
        self._endpoint = endpoint
        self._tls = tls
        self._ehlo_name = ehlo_name
        self._tokens = tokens
        self._deadlines = deadlines or Deadlines()
        self._clock = clock
        self.pool = Pool(queue_deadline=self._deadlines.queue, clock=clock)

    async def send(self, submission: Submission) -> Verdict:
        """Send one message. Never raises: whatever goes wrong is a verdict."""
        attempt = _Attempt(self._clock)
        try:
            verdict = await self._send(submission, attempt)
        except Undelivered as failure:
            verdict = failure.verdict
        except TokenError as error:
            verdict = _no_token(error)
        except Exception:
            _log.exception("delivery_failed", id=submission.id, mailbox=self.mailbox.address)
            if attempt.connection and attempt.connection.content_sent:
                verdict = uncertain("The relay had an internal error; its log has the details")
            else:
                text = "The relay had an internal error; its log has the details"
                verdict = unreached("internal-error", "4.3.0", text, "Send it again later.")
        return replace(verdict, timings=Timings(**attempt.seconds))

    async def close(self) -> None:
        """Close the idle connections with QUIT."""
        await self.pool.close()

    async def _send(self, submission: Submission, attempt: _Attempt) -> Verdict:
        with attempt.measured("queue"):
            await self.pool.acquire()
        try:
            attempt.connection = await self.pool.connection(lambda: self._connect(attempt))
            try:
                return await self._transact(submission, attempt.connection, attempt)
            except ConnectionLost as lost:
                if attempt.connection.transactions == 1:
                    raise
                # It went stale while it was idle. Nothing was delivered, so a fresh one may try, once.
                _log.info("stale_connection", mailbox=self.mailbox.address, reply=str(lost.verdict.reply))
                attempt.connection.abort()
            attempt.connection = await self._connect(attempt)
            return await self._transact(submission, attempt.connection, attempt)
        finally:
            self.pool.release(attempt.connection)

    async def _transact(self, submission: Submission, connection: Connection, attempt: _Attempt) -> Verdict:
        with attempt.measured("upstream"):
            return await connection.send(submission)

    async def _connect(self, attempt: _Attempt) -> Connection:
        """Return a connection that is signed in; a refused token is renewed once."""
        with attempt.measured("token"):
            token = await self._tokens.token()
        try:
            return await self._open(token, attempt)
        except SignInRefused as refused:
            # One that is REFUSED is a matter of configuration: no other token mends it.
            if refused.verdict.reply.code != 535 or refused.verdict.outcome is Outcome.REFUSED:
                raise
            _log.warning("token_refused", mailbox=self.mailbox.address, reply=str(refused.verdict.reply))
        with attempt.measured("token"):
            token = await self._tokens.renew(token)
        return await self._open(token, attempt)

    async def _open(self, token: AccessToken, attempt: _Attempt) -> Connection:
        with attempt.measured("connect"):
            connection = await Connection.open(self._endpoint, self._tls, self._ehlo_name, self._deadlines)
            try:
                await connection.sign_in(token)
            except BaseException:
                connection.abort()
                raise
        return connection


def _no_token(error: TokenError) -> Verdict:
    """The mail must not come back because a sign-in is lost: deferred, even when only a person can help."""
    text = f"{error.sentence} ({error.code})" if error.code else error.sentence
    key = "sign-in-needed" if isinstance(error, SignInNeeded) else "no-token"
    return unreached(key, "4.7.0", text, error.action)
