"""The console's web server: waitress in a thread of its own.

Flask and what comes with it are imported with the first request: a relay whose console nobody opens does not
pay for it.
"""

import errno
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.trigger import trigger

from relay_app.console.backend import Backend
from relay_app.console.hosts import is_loopback
from relay_app.errors import ListenError
from relay_app.settings import Endpoint, Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = structlog.get_logger()

_LIMITS = {
    "threads": 4,
    "connection_limit": 100,
    "backlog": 64,
    "channel_timeout": 60,  # seconds without a request
    "cleanup_interval": 15,  # seconds between looks at that
    "max_request_header_size": 16 * 1024,
    "max_request_body_size": 128 * 1024,  # twice what the application takes: its refusal is the nicer one
    # Never a temporary file: a container may have no place for one.
    "inbuf_overflow": 256 * 1024,
    "outbuf_overflow": 16 * 1024 * 1024,
}
_POLL = 15.0  # seconds; what is to be done at once pulls the trigger
_PATIENCE = 5.0  # seconds that a stop waits for requests under way
_LAST_PATIENCE = 1.0  # seconds more for the threads


class Lazy:
    """A WSGI application that is built when the first request comes."""

    def __init__(self, build: Callable[[], "WSGIApplication"]) -> None:
        self._build = build
        self._built: WSGIApplication | None = None
        self._lock = threading.Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        with self._lock:
            if self._built is None:
                self._built = self._build()
        return self._built(environ, start_response)


class Console:
    """Serves a WSGI application on several addresses until it is stopped."""

    def __init__(
        self, application: "WSGIApplication", endpoints: Sequence[Endpoint], *, loopback_only: bool
    ) -> None:
        """`loopback_only`: listen on this machine's own addresses, whatever was asked for."""
        self._application = application
        self._endpoints = tuple(endpoints)
        self._loopback_only = loopback_only
        self._map: dict[int, Any] = {}
        self._stopping = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.addresses: tuple[Endpoint, ...] = ()
        """Where it listens, with the ports that the system chose."""

    @classmethod
    def of(cls, settings: Settings, backend: Backend) -> "Console":
        """The console of the settings. Without a password it is for this machine only."""

        def build() -> "WSGIApplication":
            from relay_app.console.application import create_app
            from relay_app.console.security import Access

            return create_app(backend, Access.of(settings))

        return cls(Lazy(build), settings.web_listen, loopback_only=not settings.web_password_hash)

    def start(self) -> None:
        """Listen on all addresses, or on none. With no address, do nothing.

        Raises:
            ListenError: an address cannot be listened on.
        """
        sockets = self._bind()
        if not sockets:
            return
        self.addresses = tuple(Endpoint(*each.getsockname()[:2]) for each in sockets)
        self._wakeup = trigger(self._map)
        # Forwarding headers stay: without a password, the application refuses what came through a proxy.
        # Nothing else reads them.
        self._server = create_server(
            self._application,
            map=self._map,
            sockets=sockets,
            ident=None,
            clear_untrusted_proxy_headers=False,
            log_socket_errors=False,
            **_LIMITS,
        )
        self._thread = threading.Thread(target=self._serve, name="console", daemon=True)
        self._thread.start()
        for address in self.addresses:
            _log.info("console_listening", address=str(address))

    def stop(self) -> None:
        """Accept nothing more, finish the requests under way, close everything. Blocks for some seconds."""
        if self._thread is None:
            return
        self._stopping.set()
        with self._closing:
            if not self._closed:
                self._wakeup.pull_trigger()
        self._thread.join()
        self._thread = None

    def _serve(self) -> None:
        try:
            while not self._stopping.is_set():
                wasyncore.loop(timeout=_POLL, use_poll=True, map=self._map, count=1)
            self._drain()
        except Exception:  # waitress catches what a connection can cause; the relay goes on without a console
            _log.exception("console_died", consequence="the console is gone until the relay is restarted")
        finally:
            self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=_LAST_PATIENCE)
            with self._closing:
                wasyncore.close_all(self._map, ignore_all=True)
                self._closed = True

    def _drain(self) -> None:
        """Close the listening sockets, let requests end and their answers be sent, for a while."""
        for each in tuple(self._map.values()):
            if getattr(each, "accepting", False):
                wasyncore.dispatcher.close(each)  # not its own close(): requests still need its trigger
        deadline = monotonic() + _PATIENCE
        while any(map(_is_busy, self._map.values())) and monotonic() < deadline:
            wasyncore.loop(timeout=0.05, use_poll=True, map=self._map, count=1)

    def _bind(self) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        for endpoint in self._narrowed():
            try:
                sockets.extend(_listen(endpoint))
            except OSError as error:
                for each in sockets:
                    each.close()
                raise ListenError(_explain(endpoint, error)) from error
        return sockets

    def _narrowed(self) -> Sequence[Endpoint]:
        if not self._loopback_only:
            return self._endpoints
        narrowed = dict.fromkeys(map(_on_loopback, self._endpoints))
        if tuple(narrowed) != self._endpoints:
            _log.warning(
                "console_loopback_only",
                address=[str(each) for each in narrowed],
                consequence="the console can be opened on this machine only. To reach it from others, set "
                "RELAY_WEB_PASSWORD_FILE",
            )
        return tuple(narrowed)


def _is_busy(entry: object) -> bool:
    """Whether this is a connection with a request or an answer under way."""
    return isinstance(entry, HTTPChannel) and bool(entry.requests or entry.total_outbufs_len)


def _on_loopback(endpoint: Endpoint) -> Endpoint:
    if is_loopback(endpoint.host) or endpoint.host == "localhost":
        return endpoint
    return Endpoint("::1" if ":" in endpoint.host else "127.0.0.1", endpoint.port)


def _listen(endpoint: Endpoint) -> Iterator[socket.socket]:
    """Bind to every address that the endpoint's host has.

    Raises:
        OSError: one of them cannot be bound to.
    """
    found = socket.getaddrinfo(
        endpoint.host or "0.0.0.0", endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, kind, protocol, _name, address in dict.fromkeys(found):
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind(address)
            # Linux binds two sockets with SO_REUSEADDR to one address as long as neither listens.
            bound.listen(_LIMITS["backlog"])
        except OSError:
            bound.close()
            raise
        yield bound


def _explain(endpoint: Endpoint, error: OSError) -> str:
    match error:
        case OSError(errno=errno.EADDRINUSE):
            why = "another program listens there. Find it with `ss -ltnp` and stop it, or choose another port"
        case OSError(errno=errno.EACCES):
            why = "ports below 1024 need a privilege. Choose a port above 1023"
        case OSError(errno=errno.EADDRNOTAVAIL):
            why = "this machine does not have that address. Use 0.0.0.0 for all"
        case socket.gaierror():
            why = "there is no such host. Use 0.0.0.0 for all addresses of this machine"
        case _:
            why = error.strerror or str(error)
    return f"cannot listen on {endpoint} for the console (RELAY_WEB_LISTEN): {why}"
