"""A clock and a flow that tests set by hand; Entra as the sandbox plays it, and one with odd answers."""

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest
import trustme

from relay_app.identity.tokens import AccessToken
from sandbox.client import SandboxProcess


class FakeClock:
    """Seconds since the epoch, and a monotonic clock: both move only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.running = 5000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.running

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.running += seconds


class FakeFlow:
    """Answers with `life`-long tokens, or with `error`. `closed` holds requests back until `open()`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.user = "me@outlook.com"
        self.life = 3600.0
        self.error: Exception | None = None
        self.same = False
        self.vault_changed = False
        self.asked: list[bool] = []
        """`force` of each request."""
        self._gate = threading.Event()
        self._gate.set()

    def close(self) -> None:
        self._gate.clear()

    def open(self) -> None:
        self._gate.set()

    def fetch(self, *, force: bool) -> AccessToken:
        self.asked.append(force)
        self.vault_changed = False
        assert self._gate.wait(30)
        if self.error is not None:
            raise self.error
        number = 0 if self.same else len(self.asked)
        return AccessToken(f"token-{number}", self.user, self.clock.now + self.life)

    def changed(self) -> bool:
        return self.vault_changed


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def flow(clock: FakeClock) -> FakeFlow:
    return FakeFlow(clock)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], object]:
    """Wait until a condition holds; the test's own time limit is the end of it."""

    async def wait(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 (any condition, set by any thread)
            await asyncio.sleep(0.001)

    return wait


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess) -> SandboxProcess:
    """Entra, with no faults and all counters at 0."""
    sandbox_process.control.reset()
    return sandbox_process


class OddEntra:
    """A token endpoint over HTTPS that gives exactly the answers it is told to; discovery always works."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.ca = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        """Status, header fields and body of the token answers to come."""
        self.paths: list[str] = []
        """What was posted to."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.authority = f"https://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        odd = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                root = f"{odd.authority}/consumers"
                endpoints = {"authorization_endpoint": f"{root}/authorize", "token_endpoint": f"{root}/token"}
                self._send(200, {}, json.dumps(endpoints).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                odd.paths.append(self.path)
                self._send(*odd.answers.pop(0))

            def _send(self, status: int, fields: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **fields}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing to standard error."""

        return Handler


@pytest.fixture
def odd_entra(tmp_path: Path) -> Iterator[OddEntra]:
    with OddEntra(tmp_path) as server:
        yield server
