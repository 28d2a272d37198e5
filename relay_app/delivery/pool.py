"""A mailbox's connections: few, warm, and checked before use."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay_app.delivery.outlook import Connection, Undelivered, unreached

MAX_CONNECTIONS = 3
"""Concurrent connections that Exchange Online allows for one mailbox, idle ones included
(learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements); beyond: 432 4.3.2."""

CHECK_AFTER = 30.0
"""Seconds of idleness after which a connection is tried with NOOP before use."""

CLOSE_AFTER = 180.0
"""Seconds of idleness after which a connection is closed: before the upstream does it, which waits for five
minutes at least (RFC 5321 4.5.3.2.7)."""


@dataclass(slots=True, eq=False)
class _Idle:
    connection: Connection
    since: float
    timer: asyncio.TimerHandle = field(init=False)


class Pool:
    """Lends connections, the one used last first: so the others grow old and are closed.

    Never more than `MAX_CONNECTIONS` are open. Who borrows holds a slot. A connection is opened only in a
    slot, when nothing is idle or in place of one that broke in that slot, and it is closed only in a slot: so
    those lent and those idle together never exceed the limit.
    """

    def __init__(
        self,
        *,
        queue_deadline: float,
        close_after: float = CLOSE_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.in_use = 0
        """Slots taken: connections lent, being opened or being closed."""
        self.waiting = 0
        """Borrowers that wait for a slot."""
        self._queue_deadline = queue_deadline
        self._close_after = close_after
        self._clock = clock
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)  # first come, first served
        self._idle: list[_Idle] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections open and not in use."""
        return sum(entry.connection.usable for entry in self._idle)

    async def acquire(self) -> None:
        """Take a slot; every one taken must be given back with `release`.

        Raises:
            Undelivered: none became free in time.
        """
        self.waiting += 1
        try:
            async with asyncio.timeout(self._queue_deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            text = f"All connections of the mailbox were busy for {self._queue_deadline:g} seconds"
            raise Undelivered(unreached("queue-timeout", "4.3.2", text)) from error
        finally:
            self.waiting -= 1
        self.in_use += 1

    async def connection(self, connect: Callable[[], Awaitable[Connection]]) -> Connection:
        """Return a warm connection, or what `connect` makes. The caller holds a slot."""
        while self._idle:
            entry = self._idle.pop()
            entry.timer.cancel()
            good = False
            try:
                good = await self._is_good(entry)
            finally:
                if not good:
                    entry.connection.abort()
            if good:
                return entry.connection
        return await connect()

    async def _is_good(self, entry: _Idle) -> bool:
        connection = entry.connection
        return connection.usable and (self._clock() - entry.since < CHECK_AFTER or await connection.check())

    def release(self, connection: Connection | None) -> None:
        """Give a slot back, and the connection in it if there is one."""
        if connection and connection.usable:
            entry = _Idle(connection, self._clock())
            delay = 0.0 if self._closed else self._close_after
            entry.timer = asyncio.get_running_loop().call_later(delay, self._expire, entry)
            self._idle.append(entry)
        elif connection:
            connection.abort()
        self._leave()

    async def close(self) -> None:
        """Say QUIT on the idle connections; those in use are closed when they are given back."""
        self._closed = True
        for entry in self._idle:
            self._expire(entry)
        await asyncio.gather(*self._closing)

    def _expire(self, entry: _Idle) -> None:
        task = asyncio.get_running_loop().create_task(self._quit(entry))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _quit(self, entry: _Idle) -> None:
        await self._slots.acquire()
        self.in_use += 1
        try:
            if entry in self._idle:  # and not borrowed since
                self._idle.remove(entry)
                entry.timer.cancel()
                await entry.connection.quit()
        finally:
            self._leave()

    def _leave(self) -> None:
        self.in_use -= 1
        self._slots.release()
