"""The listening sockets, and who is connected to them."""

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

import structlog

from relay_app.delivery.courier import Courier
from relay_app.errors import ListenError
from relay_app.inbound.devices import Devices
from relay_app.inbound.rate import HourlyRate
from relay_app.inbound.report import Report
from relay_app.inbound.session import Mode, Session
from relay_app.inbound.throttle import network_of
from relay_app.inbound.tls import Certificate
from relay_app.mail.reply import Reply
from relay_app.settings import Endpoint, Limits

_log = structlog.get_logger()

_BACKLOG = 256


class Listener:
    """Accepts connections on all endpoints and keeps count of them. See `session.Host`."""

    def __init__(
        self,
        *,
        hostname: str,
        limits: Limits,
        certificate: Certificate,
        devices: Devices,
        courier: Courier,
        on_report: Callable[[Report], None] = lambda _: None,
        on_login: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.hostname = hostname
        self.limits = limits
        self.certificate = certificate
        self.devices = devices
        self.courier = courier
        self.rate = HourlyRate(monotonic)
        self._on_report = on_report
        self._on_login = on_login
        self.draining = False
        self._servers: list[asyncio.Server] = []
        self._sessions: set[Session] = set()
        self._per_network: Counter[str] = Counter()
        self._deliveries: set[asyncio.Future[Reply]] = set()
        self._changed = asyncio.Event()

    async def start(self, endpoints: Mapping[Mode, Sequence[Endpoint]]) -> None:
        """Listen on all of them, or on none.

        Raises:
            ListenError: an address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        for mode, group in endpoints.items():
            for endpoint in group:
                try:
                    server = await loop.create_server(
                        partial(Session, self, mode),
                        endpoint.host or "0.0.0.0",
                        endpoint.port,
                        backlog=_BACKLOG,
                        reuse_address=True,
                    )
                except OSError as error:
                    self._close_servers()
                    raise ListenError(_explain(endpoint, error)) from error
                self._servers.append(server)
                for socket in server.sockets:
                    host, port = socket.getsockname()[:2]
                    _log.info("listening", address=str(Endpoint(host, port)), mode=mode.value)

    async def stop(self, patience: float) -> None:
        """Accept nothing more, let messages under way finish for up to `patience` seconds, then close."""
        self.draining = True
        self._close_servers()
        for session in tuple(self._sessions):
            session.drain()
        try:
            async with asyncio.timeout(patience):
                while self._sessions or self._deliveries:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("stop_impatient", sessions=len(self._sessions), deliveries=len(self._deliveries))
            for session in tuple(self._sessions):
                session.abort()
            for delivery in tuple(self._deliveries):
                delivery.cancel()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    def admit(self, session: Session) -> str:
        """Count a session in. Returns why it cannot be, or ""."""
        if len(self._sessions) >= self.limits.connections:
            return "Too many connections. Try again in a minute"
        network = network_of(session.address)
        if self._per_network[network] >= self.limits.connections_per_address:
            return "Too many connections from your address. Try again in a minute"
        self._sessions.add(session)
        self._per_network[network] += 1
        return ""

    def dismiss(self, session: Session) -> None:
        """Count a session out, if it was in."""
        if session in self._sessions:
            self._sessions.remove(session)
            network = network_of(session.address)
            self._per_network[network] -= 1
            if not self._per_network[network]:
                del self._per_network[network]
            self._changed.set()

    def observe(self, report: Report) -> None:
        """Tell whoever asked what became of a message."""
        self._on_report(report)

    def logged_in(self, device: str) -> None:
        """Tell whoever asked of a login; `device` is "" for one that was refused."""
        self._on_login(device)

    def finish(self, work: Coroutine[Any, Any, Reply]) -> asyncio.Future[Reply]:
        """Run `work` to its end, even if the session that began it is gone."""
        task = asyncio.ensure_future(work)
        self._deliveries.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Future[Reply]) -> None:
        self._deliveries.discard(task)
        self._changed.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("delivery_failed", exc_info=task.exception())

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()


def _explain(endpoint: Endpoint, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            why = "another program listens there. Find it with `ss -ltnp` and stop it, or choose another port"
        case errno.EACCES:
            why = (
                "ports below 1024 need a privilege. Set net.ipv4.ip_unprivileged_port_start=0, add "
                "CAP_NET_BIND_SERVICE, or choose a port above 1023"
            )
        case errno.EADDRNOTAVAIL | None:  # None: Python 3.13 and later
            why = "this machine does not have that address. Use 0.0.0.0 for all"
        case _:
            why = error.strerror or str(error)
    return f"cannot listen on {endpoint}: {why}"
