"""What the tests of alerts share: a webhook that Apprise posts to, a clock to move, a store in memory."""

import http.server
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

_PATIENCE = 10.0


class Webhook:
    """A server that takes what Apprise's json:// posts; it can be told to fail, or to hang."""

    def __init__(self) -> None:
        self.status = 200
        self.messages: list[dict[str, str]] = []
        self.attempts = 0
        self.open = threading.Event()
        """Not set: requests are taken and not answered."""
        self.open.set()
        self._changed = threading.Condition()
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook._count()
                webhook.open.wait(_PATIENCE)
                if webhook.status == 200:
                    webhook._take(body)
                try:
                    self.send_response(webhook.status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    pass  # the client has given up

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"json://127.0.0.1:{self._server.server_port}/hook"

    def _count(self) -> None:
        with self._changed:
            self.attempts += 1
            self._changed.notify_all()

    def _take(self, body: dict[str, str]) -> None:
        with self._changed:
            self.messages.append(body)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, _PATIENCE), (self.attempts, self.messages)

    def titles(self, count: int) -> list[str]:
        """The titles so far, once there are `count`."""
        self.wait_for(lambda: len(self.messages) >= count)
        return [message["title"] for message in self.messages]

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="session", autouse=True)
def _apprise() -> None:
    """Load Apprise and its plugins with its own warnings ignored: pgpy, an option of it, uses imghdr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        apprise.Apprise().add("json://localhost")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    yield server
    server.close()


@pytest.fixture
def another_webhook() -> Iterator[Webhook]:
    server = Webhook()
    yield server
    server.close()


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class MemoryStore:
    """An `IncidentStore`. `error` is raised instead, if there is one."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.error: Exception | None = None
        self.attempts = 0
        self._changed = threading.Condition()

    def load(self) -> bytes | None:
        if self.error:
            raise self.error
        return self.data

    def save(self, data: bytes) -> None:
        with self._changed:
            self.attempts += 1
            self._changed.notify_all()
            if self.error:
                raise self.error
            self.data = data

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, _PATIENCE), self.data


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """Loading Apprise makes loggers quiet for good: not for other tests."""
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
    before = [(log, log.handlers[:], log.propagate, log.level) for log in loggers]
    yield
    for log, handlers, propagate, level in before:
        log.handlers[:], log.propagate = handlers, propagate
        log.setLevel(level)
