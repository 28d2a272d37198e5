"""smtp.office365.com:587, as a client sees it: the listener and its sessions."""

import asyncio
import logging

from sandbox.ports import bind
from sandbox.smtp_session import SmtpSession
from sandbox.wire import Wire
from sandbox.world import World

log = logging.getLogger("sandbox.outlook")


class Outlook:
    """Accepts connections and runs a session for each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sessions: dict[asyncio.Task[None], SmtpSession] = {}
        self._servers: list[asyncio.Server] = []

    async def start(self, host: str, port: int) -> int:
        """Listen on an address ("": localhost) and return the port."""
        loop = asyncio.get_running_loop()
        sockets = bind(host, port)
        for listener in sockets:
            server = await loop.create_server(lambda: Wire(self._open), sock=listener, backlog=512)
            self._servers.append(server)
        return int(sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        for server in self._servers:
            server.close()
        await self.disconnect()

    async def disconnect(self) -> None:
        """Cut every connection, whatever it is doing."""
        tasks = list(self._sessions)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close_idle(self, user: str = "", *, silent: bool = False) -> int:
        """Close the connections that wait for a command, as Outlook does after some minutes.

        Args:
            user: only those of this authenticated user.
            silent: without the 451 that Outlook says first.

        Returns:
            How many were closed.
        """
        idle = [
            session
            for session in self._sessions.values()
            if session.idle and (not user or session.record.user.casefold() == user.casefold())
        ]
        for session in idle:
            session.time_out(silent=silent)
        return len(idle)

    def _open(self, wire: Wire) -> None:
        session = SmtpSession(wire, self._world)
        task = asyncio.get_running_loop().create_task(session.run())
        self._sessions[task] = session
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        session = self._sessions.pop(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("connection %d failed: this is a bug", session.record.number, exc_info=error)
