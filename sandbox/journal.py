"""What Outlook's SMTP server saw: connections, commands and the messages it took."""

import asyncio
import base64
import hashlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sandbox.counts import SmtpCounts
from sandbox.limits import Limits

_CONNECTIONS_KEPT = 1000
_EXCHANGES_KEPT = 1000


@dataclass(slots=True)
class Connection:
    """One client connection, while it lasts and after."""

    number: int
    peer: str
    opened_at: float
    closed_at: float | None = None
    ehlo: str = ""
    tls: str = ""
    """The TLS version, such as TLSv1.3; "" in the clear."""
    user: str = ""
    messages: int = 0
    round_trips: int = 0
    """Replies written at once count as one: pipelined commands share a round trip. The greeting is none."""
    exchanges: deque[list[str]] = field(default_factory=lambda: deque(maxlen=_EXCHANGES_KEPT))
    """The commands of each round trip. Credentials are left out; content is shown as its size."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "peer": self.peer,
            "opened_at": self.opened_at,
            "closed_at": self.closed_at,
            "ehlo": self.ehlo,
            "tls": self.tls,
            "user": self.user,
            "messages": self.messages,
            "round_trips": self.round_trips,
            "exchanges": list(self.exchanges),
        }


@dataclass(slots=True)
class Message:
    """A message that the server took: with everything that a test may want to compare."""

    number: int
    connection: int
    ehlo: str
    user: str
    tls: str
    received_at: float
    mail: str
    """The MAIL command as sent, parameters included."""
    rcpt: list[str]
    """The RCPT commands that were accepted, as sent."""
    sender: str
    recipients: list[str]
    size: int
    reply: str
    """What the client was told (or would have been told, had the connection not been cut)."""
    content: bytes | None
    sha256: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON; the content in base64, None when it was not kept."""
        content = self.content
        return {
            "number": self.number,
            "connection": self.connection,
            "ehlo": self.ehlo,
            "user": self.user,
            "tls": self.tls,
            "received_at": self.received_at,
            "mail": self.mail,
            "rcpt": self.rcpt,
            "sender": self.sender,
            "recipients": self.recipients,
            "size": self.size,
            "reply": self.reply,
            "content": None if content is None else base64.b64encode(content).decode(),
            "sha256": self.sha256 if content is None else hashlib.sha256(content).hexdigest(),
        }


class Journal:
    """Keeps the last messages and connections, within the bounds that the limits set."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = asyncio.Condition()
        self._messages: deque[Message] = deque()
        self._octets = 0
        self._connections: deque[Connection] = deque(maxlen=_CONNECTIONS_KEPT)
        self._last_connection = 0
        self._last_message = 0
        self.counts = SmtpCounts()

    def open(self, peer: str, now: float) -> Connection:
        self._last_connection += 1
        self.counts.connections += 1
        self.counts.connections_now += 1
        connection = Connection(self._last_connection, peer, now)
        self._connections.append(connection)
        return connection

    def close(self, connection: Connection, now: float) -> None:
        connection.closed_at = now
        self.counts.connections_now -= 1

    def authenticated(self, mailbox: str, of_mailbox: int, of_all: int) -> None:
        """So many connections are authenticated now."""
        peaks = self.counts.mailbox_peak
        peaks[mailbox] = max(peaks.get(mailbox, 0), of_mailbox)
        self.counts.authenticated_peak = max(self.counts.authenticated_peak, of_all)

    def next_message(self) -> int:
        self._last_message += 1
        return self._last_message

    async def add(self, message: Message) -> None:
        """Record a message that was taken."""
        self.counts.messages += 1
        self.counts.octets += message.size
        if self._limits.keep != "content":
            _reduce(message, self._limits.keep)
        self._messages.append(message)
        self._octets += len(message.content or b"")
        self._trim()
        async with self._changed:
            self._changed.notify_all()

    async def messages(self, *, count: int = 0, seconds: float = 0) -> list[Message]:
        """All that is kept, oldest first, once `count` have been taken in all or `seconds` have passed."""
        if self.counts.messages < count:
            async with self._changed:
                with suppress(TimeoutError):  # the caller sees how many there are
                    await asyncio.wait_for(
                        self._changed.wait_for(lambda: self.counts.messages >= count), seconds
                    )
        return list(self._messages)

    def connections(self) -> list[Connection]:
        return list(self._connections)

    def reset(self) -> None:
        """Forget messages, closed connections and counts; open connections stay."""
        self._messages.clear()
        self._octets = 0
        open_now = [connection for connection in self._connections if connection.closed_at is None]
        self._connections.clear()
        self._connections.extend(open_now)
        self.counts = SmtpCounts(connections_now=self.counts.connections_now)

    def _trim(self) -> None:
        while len(self._messages) > self._limits.keep_messages:
            self._octets -= len(self._messages.popleft().content or b"")
        if self._octets > self._limits.keep_octets:
            for message in self._messages:
                if message.content is not None:
                    self._octets -= len(message.content)
                    _reduce(message, "digest")
                if self._octets <= self._limits.keep_octets:
                    break


def _reduce(message: Message, keep: str) -> None:
    if keep == "digest" and message.content is not None:
        message.sha256 = hashlib.sha256(message.content).hexdigest()
    message.content = None
