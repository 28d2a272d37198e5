"""A clock and a flow that tests set by hand; Entra as the sandbox plays it, and one with odd answers."""

import asyncio
import json
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from relay_app.identity.tokens import AccessToken
from relay_app.identity.vault import Vault
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
        self.look_error: Exception | None = None
        self.asked: list[bool] = []
        """`force` of each request."""
        self.looked_in: list[threading.Thread] = []
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
        self.looked_in.append(threading.current_thread())
        if self.look_error is not None:
            raise self.look_error
        return self.vault_changed


class MemoryBlobs:
    """A vault's storage in memory."""

    def __init__(self) -> None:
        self.content: dict[str, tuple[str, bytes]] = {}
        """Name -> stamp and data."""
        self.error: Exception | None = None
        """What every use of the storage raises."""

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def load(self, name: str) -> bytes | None:
        self._check()
        return self.content[name][1] if name in self.content else None

    def store(self, name: str, data: bytes) -> str:
        self._check()
        self.content[name] = secrets.token_hex(), data
        return self.content[name][0]

    def store_if_unchanged(self, name: str, data: bytes, seen: str | None) -> str | None:
        return self.store(name, data) if self.stamp(name) == seen else None

    def rewrite(self, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]) -> None:
        self._check()
        for name, data in change({name: data for name, (_, data) in self.content.items()}).items():
            self.store(name, data)

    def remove(self, name: str) -> None:
        self._check()
        self.content.pop(name, None)

    def names(self) -> list[str]:
        self._check()
        return sorted(self.content)

    def stamp(self, name: str) -> str | None:
        self._check()
        return self.content[name][0] if name in self.content else None


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def vault(blobs: MemoryBlobs) -> Vault:
    return Vault(blobs, Fernet.generate_key())


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


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """The same for a test without an event loop."""

    def wait(condition: Callable[[], bool]) -> None:
        tick = threading.Event()
        while not condition():
            tick.wait(0.001)

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
        self.posted: list[str] = []
        """The bodies."""
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
                endpoints = {
                    "authorization_endpoint": f"{root}/authorize",
                    "token_endpoint": f"{root}/token",
                    "device_authorization_endpoint": f"{root}/devicecode",
                }
                self._send(200, {}, json.dumps(endpoints).encode())

            def do_POST(self) -> None:
                odd.posted.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
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


@pytest.fixture(scope="session")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for an app and its private key (RSA), PEM files. It ends on 1 March 2030."""
    return make_pair(tmp_path_factory.mktemp("pair"), rsa.generate_private_key(65537, 2048))


def make_pair(
    directory: Path, key: Any, *, ends: datetime = datetime(2030, 3, 1, 12, tzinfo=UTC)
) -> tuple[Path, Path]:
    """Write `cert.pem` and `key.pem`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    cert_path, key_path = directory / "cert.pem", directory / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert_path, key_path


@pytest.fixture
def pair_for() -> Callable[..., tuple[Path, Path]]:
    return make_pair
