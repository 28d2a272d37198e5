"""One connection's octets: an asyncio protocol that a coroutine reads from and writes to."""

import asyncio
import socket
import ssl
from collections.abc import Callable

_SMALL_WINDOW = 16 * 1024


class ConnectionLost(Exception):
    """The client is gone, or we have cut it off."""


class Wire(asyncio.Protocol):
    """Collects what arrives in `buffer`, which the reader empties from the front."""

    def __init__(self, opened: Callable[["Wire"], None]) -> None:
        self.buffer = bytearray()
        self._opened = opened
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._wake()

    def eof_received(self) -> bool:
        self._closed = True
        self._wake()
        return False  # close our side too

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._closed = True
        self._wake()

    @property
    def peer(self) -> str:
        host, port = self._transport.get_extra_info("peername", ("?", 0))[:2]
        return f"{host}:{port}"

    @property
    def tls(self) -> str:
        """The TLS version, or "" in the clear."""
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return tls.version() or "" if tls else ""

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def more(self) -> None:
        """Wait until something more has arrived.

        Raises:
            ConnectionLost: nothing will.
        """
        if self._closed:
            raise ConnectionLost
        before = len(self.buffer)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._closed and len(self.buffer) == before:
            raise ConnectionLost

    async def trickle(self, octets_per_second: int) -> None:
        """Like `more`, but let the network fill up meanwhile, as a reader that is slow does."""
        self._transport.resume_reading()
        before = len(self.buffer)
        await self.more()
        self._transport.pause_reading()
        await asyncio.sleep((len(self.buffer) - before) / octets_per_second)

    def narrow(self) -> None:
        """Ask for a small receive window, so that a slow reader is felt soon."""
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW)

    def read_on(self) -> None:
        """After `trickle`: take everything again as it comes."""
        self._transport.resume_reading()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Turn the connection into TLS, as the server.

        What a client sent after STARTTLS in the clear is thrown away: it must not count as said under TLS
        (RFC 3207 4.2, CVE-2011-0411).

        Raises:
            ConnectionLost: the handshake failed.
        """
        self.buffer.clear()
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self._transport, self, context, server_side=True)
        except (OSError, ssl.SSLError, asyncio.CancelledError) as error:
            self.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ConnectionLost from error
        if transport is None:  # lost while the handshake's last octets were handled
            raise ConnectionLost
        self._transport = transport

    def close(self) -> None:
        """Close after what was written has gone out."""
        self._closed = True
        self._transport.close()
        self._wake()

    def abort(self) -> None:
        """Cut the connection, whatever is still under way."""
        self._closed = True
        self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
