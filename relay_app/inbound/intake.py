"""What a client has sent and the session has not yet read: lines and messages, out of one buffer.

aiosmtpd reads with `asyncio.StreamReader`, line by line: 35 ms of CPU for a megabyte, and every octet copied
several times. A submission is mostly one large message, so here the end of the message is looked for as its
octets arrive, and the buffer itself becomes the message.
"""

import asyncio
from collections.abc import Callable

from relay_app.errors import RelayError

_END_OF_DATA = b"\r\n.\r\n"
_HIGH_WATER = 64 * 1024  # octets unread before the client is made to wait
_DISCARD_FACTOR = 4  # an oversized message is read to its end up to this many times the limit


class ConnectionGoneError(RelayError):
    """The client closed the connection, or it broke."""


class LineTooLongError(RelayError):
    """A line exceeded its limit; it has been read to its end and dropped."""


class MessageTooLargeError(RelayError):
    """A message exceeded its limit and has been dropped. `finished`: its end was reached."""

    def __init__(self, *, finished: bool) -> None:
        self.finished = finished
        super().__init__("message too large")


class Intake:
    """The octets of one connection, fed by its protocol, read by its session. One reader at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._transport: asyncio.ReadTransport | None = None
        self._paused = False
        self._ended = False
        self._collecting = False
        self._ready: Callable[[], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._fed_at = 0.0

    def attach(self, transport: asyncio.ReadTransport) -> None:
        """Set the transport that is paused when the client sends faster than the session reads."""
        self._resume()
        self._transport = transport

    def feed(self, data: bytes) -> None:
        """Take what the transport received."""
        self._buffer += data
        self._fed_at = self._loop.time()
        self._wake()
        if not self._collecting and not self._paused and len(self._buffer) > _HIGH_WATER:
            self._pause()

    def end(self) -> None:
        """Note that nothing more will come. What is already here can still be read."""
        self._ended = True
        self._wake()

    @property
    def pending(self) -> bool:
        """True when there are octets that nobody has read."""
        return bool(self._buffer)

    @property
    def has_line(self) -> bool:
        """True when a whole line has arrived already."""
        return b"\n" in self._buffer

    def interrupt(self, error: Exception) -> None:
        """Make the wait under way, if any, raise `error`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def clear(self) -> None:
        """Forget what is unread: nothing sent before TLS may count after it (RFC 3207 4.2)."""
        self._buffer.clear()

    async def line(self, limit: int, timeout: float) -> bytes:
        """Return the next line without its line ending. CRLF ends it, or a bare LF.

        The whole line must arrive within `timeout` seconds: to send an octet now and then is to be idle.

        Raises:
            LineTooLongError: more than `limit` octets, line ending included.
            ConnectionGoneError, TimeoutError
        """
        scanned = dropped = 0

        def complete() -> bool:
            nonlocal scanned, dropped
            if self._buffer.find(b"\n", scanned) >= 0:
                return True
            scanned = len(self._buffer)
            if scanned > limit:
                dropped += scanned
                self._buffer.clear()
                scanned = 0
            return False

        await self._until(complete, timeout=timeout)
        end = self._buffer.index(b"\n", scanned) + 1
        line = bytes(self._buffer[:end])
        self._consume(end)
        if dropped or end > limit:
            raise LineTooLongError(f"more than {limit} octets")
        return line.removesuffix(b"\n").removesuffix(b"\r")

    async def message(self, limit: int, *, idle: float, timeout: float) -> bytearray:
        """Return the content that follows DATA, still dot-stuffed, without the final dot line.

        Only CRLF.CRLF ends it (RFC 5321 4.1.1.4): no bare CR or LF is taken for a line ending. The buffer is
        handed over, not copied. `idle` bounds the silence between octets, `timeout` the whole; in seconds.

        Raises:
            MessageTooLargeError: more than `limit` octets; they are read and dropped, within reason.
            ConnectionGoneError, TimeoutError
        """
        scanned = dropped = 0
        end = -1  # where the final dot line begins

        def complete() -> bool:
            nonlocal scanned, dropped, end
            if not dropped and self._buffer.startswith(b".\r\n"):
                end = 0
                return True
            found = self._buffer.find(_END_OF_DATA, scanned)
            if found >= 0:
                end = found + 2
                return True
            scanned = max(0, len(self._buffer) - len(_END_OF_DATA) + 1)
            if dropped or scanned > limit:
                dropped += scanned
                del self._buffer[:scanned]
                scanned = 0
            return dropped > limit * _DISCARD_FACTOR

        self._collecting = True
        try:
            await self._until(complete, timeout=timeout, idle=idle)
        finally:
            self._collecting = False
        if dropped or end > limit:
            self._consume(max(end, 0) + 3)
            raise MessageTooLargeError(finished=end >= 0)
        message, self._buffer = self._buffer, self._buffer[end + 3 :]
        del message[end:]
        self._relieve()
        return message

    # What aiosmtpd.proxy_protocol reads with.

    async def readexactly(self, n: int) -> bytes:
        """Return exactly `n` octets, as `asyncio.StreamReader.readexactly`."""
        await self._until(lambda: len(self._buffer) >= n)
        return self._take(n)

    async def readuntil(self, until_chars: bytes = b"\n") -> bytes:
        """Return what comes up to and with `until_chars`, as `asyncio.StreamReader.readuntil`."""
        limit = 256  # a PROXY v1 line has at most 107 octets
        await self._until(lambda: until_chars in self._buffer or len(self._buffer) > limit)
        end = self._buffer.find(until_chars)
        if end < 0:
            raise LineTooLongError(f"more than {limit} octets")
        return self._take(end + len(until_chars))

    async def read(self, num_bytes: int) -> bytes:
        """Return between 1 and `num_bytes` octets, as `asyncio.StreamReader.read`."""
        await self._until(lambda: bool(self._buffer))
        return self._take(min(num_bytes, len(self._buffer)))

    async def _until(
        self, ready: Callable[[], bool], *, timeout: float | None = None, idle: float | None = None
    ) -> None:
        """Wait until `ready()`, which is asked after each arrival and may drop octets."""
        if ready():
            return
        if self._ended:
            raise ConnectionGoneError("connection closed by the client")
        self._resume()
        self._ready = ready
        self._waiter = self._loop.create_future()
        self._fed_at = started = self._loop.time()
        timer: asyncio.TimerHandle | None = None

        def tick() -> None:
            nonlocal timer
            ends = min(
                started + timeout if timeout is not None else float("inf"),
                self._fed_at + idle if idle is not None else float("inf"),
            )
            if ends <= self._loop.time():
                self.interrupt(TimeoutError())
            else:
                timer = self._loop.call_at(ends, tick)

        if timeout is not None or idle is not None:
            tick()
        try:
            await self._waiter
        finally:
            self._waiter = self._ready = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is None or self._waiter.done() or self._ready is None:
            return
        if self._ready():
            self._waiter.set_result(None)
        elif self._ended:
            self.interrupt(ConnectionGoneError("connection closed by the client"))

    def _take(self, n: int) -> bytes:
        taken = bytes(self._buffer[:n])
        self._consume(n)
        return taken

    def _consume(self, n: int) -> None:
        del self._buffer[:n]
        self._relieve()

    def _pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def _relieve(self) -> None:
        if len(self._buffer) <= _HIGH_WATER:
            self._resume()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False
