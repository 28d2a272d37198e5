"""One connection to Outlook: the I/O around a `Conversation`. No decisions about mail are made here."""

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from relay_app.delivery.conversation import (
    Broken,
    Closing,
    Conversation,
    Event,
    Finished,
    Rejected,
    SendContent,
)
from relay_app.delivery.replies import Stage, judge
from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.errors import RelayError
from relay_app.identity.tokens import AccessToken
from relay_app.mail.reply import Reply
from relay_app.mail.submission import Submission
from relay_app.mail.transparency import stuffed
from relay_app.settings import Endpoint

_PIECE = 64 * 1024
_WRITE = 192 * 1024
"""Octets: content is gathered until it has this size, then written. A smaller message leaves in one write."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds to wait at each stage: RFC 5321 4.5.3.2, but with a client that waits meanwhile."""

    connect: float = 30.0
    """TCP, over all addresses of the host; and again the TLS handshake."""
    command: float = 60.0
    """The greeting, and the reply to EHLO, STARTTLS, AUTH, RSET, MAIL and each RCPT."""
    data: float = 120.0
    """The reply to DATA (354)."""
    content: float = 120.0
    """No progress while the content is being written."""
    final: float = 300.0
    """The reply to the final dot."""
    check: float = 5.0
    """The reply to the NOOP that tries a connection before use."""
    quit: float = 5.0
    """The reply to QUIT, and the upstream's closing of the connection after it."""
    queue: float = 120.0
    """Waiting for one of the mailbox's connections."""

    def reply_to(self, command: str) -> float:
        """Return how long the reply to `command` may take; names as in `Conversation.awaiting`."""
        special = {"DATA": self.data, "the final dot": self.final, "NOOP": self.check, "QUIT": self.quit}
        return special.get(command, self.command)


class Undelivered(RelayError):
    """An attempt ended and nothing was delivered; `verdict` says why."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        super().__init__(str(verdict.reply))


class ConnectionLost(Undelivered):
    """The upstream closed the connection or said 421. If it was a reused one, a fresh one may do better."""


class SignInRefused(Undelivered):
    """AUTH was refused."""


def tls_context(cafile: Path | None = None) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name, with the system's trust or a PEM bundle."""
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def unreached(key: str, enhanced: str, text: str, action: str = "") -> Verdict:
    """Return the verdict on an attempt that the upstream had no say in; `text` is a sentence for people."""
    return Verdict(Outcome.DEFERRED, Reply(451, enhanced, text), action=action, upstream=False, key=key)


def uncertain(text: str) -> Verdict:
    """Return the verdict on an attempt that ended between the final dot and its reply."""
    return Verdict(
        Outcome.UNCERTAIN,
        Reply(451, "4.4.2", text),
        "The message had been sent completely, but Outlook did not confirm it: Outlook may have taken it.",
        "Look in the mailbox's Sent Items first: sending it again may deliver it twice.",
        upstream=False,
        key="unconfirmed",
    )


class Connection(asyncio.Protocol):
    """A connection to the upstream. One task uses it at a time."""

    def __init__(self, name: str, ehlo_name: str, deadlines: Deadlines) -> None:
        self.transactions = 0
        """How many were begun: more than none, and it may have gone stale in between."""
        self._name = name
        self._deadlines = deadlines
        self._conversation = Conversation(ehlo_name)
        self._events: deque[Event] = deque()
        self._lost: Exception | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def open(
        cls, endpoint: Endpoint, tls: ssl.SSLContext, ehlo_name: str, deadlines: Deadlines
    ) -> Self:
        """Connect, encrypt, and get ready for `sign_in`.

        Raises:
            Undelivered: the upstream cannot be reached, cannot be trusted, or does not want us.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadlines.connect):
                # Happy eyeballs (RFC 8305): a container with half an IPv6 must not wait for it.
                _, connection = await loop.create_connection(
                    lambda: cls(str(endpoint), ehlo_name, deadlines),
                    endpoint.host,
                    endpoint.port,
                    happy_eyeballs_delay=0.25,
                )
        except OSError as error:
            raise Undelivered(_unreachable(endpoint, error, deadlines)) from error
        try:
            await connection._next()
            await connection._encrypt(endpoint, tls)
            await connection._next()
        except BaseException:
            connection.abort()
            raise
        return connection

    async def sign_in(self, token: AccessToken) -> None:
        """AUTH XOAUTH2.

        Raises:
            SignInRefused: the upstream does not want this token, user or app.
            Undelivered: the connection failed.
        """
        self._conversation.sign_in(token.user, token.value)
        self._flush()
        await self._next()

    async def send(self, submission: Submission) -> Verdict:
        """Send one message.

        Raises:
            Undelivered: the connection failed while it was still certain that nothing was delivered.
        """
        self.transactions += 1
        self._events.extend(self._conversation.begin(submission))
        self._flush()
        try:
            event = await self._next()
            if isinstance(event, SendContent):
                await self._write_content(submission)
                event = await self._next()
        except Undelivered as failure:
            if self.content_sent:
                return uncertain(failure.verdict.reply.text)
            raise
        assert isinstance(event, Finished)
        return event.verdict

    async def check(self) -> bool:
        """Ask the upstream whether it still listens (NOOP)."""
        self._conversation.noop()
        self._flush()
        try:
            await self._next()
        except Undelivered:
            return False
        return True

    async def quit(self) -> None:
        """Say QUIT and let the upstream close the connection (RFC 5321 4.1.1.10); close it if it does not."""
        try:
            if self.usable:
                self._conversation.quit()
                self._flush()
                async with asyncio.timeout(self._deadlines.quit):
                    while not self._lost:
                        await self._change()
        except TimeoutError:
            pass  # said is said; the connection goes in any case
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    @property
    def usable(self) -> bool:
        """Signed in, idle, and not closed as far as we know."""
        return not self._lost and not self._transport.is_closing() and self._conversation.usable

    @property
    def content_sent(self) -> bool:
        """The final dot was handed over and not answered yet."""
        return self._conversation.content_sent

    # --- asyncio.Protocol --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport | None) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._events.extend(self._conversation.receive(data))
        self._flush()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._lost or exc or ConnectionResetError("closed by the server")
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # --- waiting and writing -----------------------------------------------------------------------------

    def _flush(self) -> None:
        if data := self._conversation.outgoing():
            self._transport.write(data)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def _change(self) -> None:
        """Wait until something has happened: a reply, a loss, room to write."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def _until(self, condition: Callable[[], bool], seconds: float, waiting_for: str) -> None:
        """Wait for `condition`, an event, or the end of the connection."""
        try:
            async with asyncio.timeout(seconds):
                while not (condition() or self._events or self._lost):
                    await self._change()
        except TimeoutError as error:
            text = f"{self._name} kept us waiting for {waiting_for} for more than {seconds:g} seconds"
            raise Undelivered(unreached("upstream-timeout", "4.4.2", text)) from error

    async def _next(self) -> Event:
        """Return the next event that leads on; those that end it all are raised."""
        conversation = self._conversation
        while not self._events:
            if self._lost:
                text = f"{self._name} closed the connection"
                raise ConnectionLost(unreached("connection-lost", "4.4.2", text)) from self._lost
            command, replies = conversation.awaiting, conversation.replies
            await self._until(
                lambda seen=replies: conversation.replies > seen,  # type: ignore[misc]
                self._deadlines.reply_to(command),
                "the greeting" if command == "the greeting" else f"the reply to {command}",
            )
        event = self._events.popleft()
        if isinstance(event, Closing):
            raise ConnectionLost(judge(event.reply, Stage.CONNECT))
        if isinstance(event, Broken):
            text = f"{self._name} does not speak SMTP: {event.reason}"
            raise ConnectionLost(unreached("protocol-error", "4.5.0", text))
        if isinstance(event, Rejected):
            raise (SignInRefused if event.stage is Stage.AUTH else Undelivered)(event.verdict)
        return event

    async def _encrypt(self, endpoint: Endpoint, tls: ssl.SSLContext) -> None:
        """Do the TLS handshake; the host name in the certificate must be the endpoint's."""
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport,
                self,
                tls,
                server_hostname=endpoint.host,
                ssl_handshake_timeout=self._deadlines.connect,
            )
        except ssl.SSLCertVerificationError as error:
            raise Undelivered(_untrusted(endpoint, error)) from error
        except OSError as error:  # ssl.SSLError is one
            text = f"The TLS handshake with {endpoint} failed"
            action = "Check whether a firewall or a virus scanner intercepts the connection."
            raise Undelivered(unreached("tls-failed", "4.7.5", text, action)) from error
        self.connection_made(transport)
        self._conversation.tls_started()
        self._flush()

    async def _write_content(self, submission: Submission) -> None:
        """Write the stuffed content and the final dot, a piece at a time, as fast as the upstream reads.

        Stops when a reply comes before the end: the upstream has given up on the message.
        """
        pieces: list[bytes] = []
        size = 0
        for piece in stuffed((submission.header, submission.body), _PIECE):
            pieces.append(piece)
            size += len(piece)
            if size >= _WRITE:
                if not await self._write(pieces):
                    return
                pieces.clear()
                size = 0
        if await self._room():
            pieces.append(self._conversation.end_content())
            self._transport.write(b"".join(pieces))

    async def _write(self, pieces: list[bytes]) -> bool:
        if not await self._room():
            return False
        self._transport.write(b"".join(pieces))
        await asyncio.sleep(0)  # a long message is not alone here
        return True

    async def _room(self) -> bool:
        """Wait for room to write; False if there is no point in writing any more."""
        await self._until(lambda: not self._paused, self._deadlines.content, "it to read the message")
        return not self._events and not self._lost


def _unreachable(endpoint: Endpoint, error: OSError, deadlines: Deadlines) -> Verdict:
    action = "Check the relay's network, its firewall and RELAY_UPSTREAM."
    if isinstance(error, socket.gaierror):
        return unreached("upstream-unknown", "4.4.3", f"The name {endpoint.host} cannot be resolved", action)
    if isinstance(error, TimeoutError):
        reason = f"no answer within {deadlines.connect:g} seconds"
    else:
        reason = os.strerror(error.errno) if error.errno else "every address failed"
    return unreached("upstream-unreachable", "4.4.1", f"{endpoint} cannot be reached: {reason}", action)


def _untrusted(endpoint: Endpoint, error: ssl.SSLCertVerificationError) -> Verdict:
    return unreached(
        "upstream-certificate",
        "4.7.5",
        f"The certificate of {endpoint} cannot be trusted: {error.verify_message}",
        "Check this machine's clock, RELAY_UPSTREAM_CA, and whether something intercepts the connection.",
    )
