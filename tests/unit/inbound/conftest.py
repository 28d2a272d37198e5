"""A listener on loopback with a courier that only remembers, and a client that speaks in literal octets."""

import asyncio
import base64
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import argon2
import pytest
import structlog
import trustme
from structlog.testing import LogCapture

from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.inbound.devices import Devices
from relay_app.inbound.listener import Listener
from relay_app.inbound.report import Report
from relay_app.inbound.session import Mode, Session
from relay_app.inbound.throttle import Throttle
from relay_app.inbound.tls import Certificate
from relay_app.mail.reply import Reply
from relay_app.mail.submission import Submission
from relay_app.settings import DeviceSettings, Endpoint, Limits

HOSTNAME = "relay.example.org"
MAILBOX = "office@example.org"
ACCEPTED = Verdict(Outcome.ACCEPTED, Reply(250, "2.0.0", "Taken by the upstream"))
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
LETTER = (
    f"From: {MAILBOX}\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n".encode()
)

_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})([ -])([\x20-\x7e]*)\r\n")
_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3} .")


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that no event tells of. Bounded by pytest's timeout."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


class LoopClock:
    """The running event loop's time, which a test can move forward: all timers that are due then fire."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._real = loop.time
        self._ahead = 0.0
        loop.time = self  # type: ignore[method-assign]

    def __call__(self) -> float:
        return self._real() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class RecordingCourier:
    """Remembers submissions. `hold` makes it slow, `verdict` decides what it says; an exception is raised."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.verdict: Verdict | BaseException = ACCEPTED
        self.go_on = asyncio.Event()
        self.go_on.set()

    def hold(self) -> None:
        self.go_on.clear()

    async def deliver(self, submission: Submission) -> Verdict:
        self.submissions.append(submission)
        await self.go_on.wait()
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict

    @property
    def contents(self) -> list[bytes]:
        """Each message without the trace field that we put at its top."""
        trace = re.compile(rb"Received: from [^\r\n]*\r\n(?:\t[^\r\n]*\r\n)+")
        contents = []
        for submission in self.submissions:
            found = trace.match(submission.header)
            assert found is not None, submission.header
            contents.append(submission.header[found.end() :] + bytes(submission.body))
        return contents


class Client:
    """A client. Every reply is checked: printable ASCII, at most 512 octets, an enhanced status code."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, relay: "Relay") -> None:
        self.reader, self.writer, self.relay = reader, writer, relay

    async def reply(self, *, bare: bool = False) -> tuple[int, str]:
        """Read a reply. `bare`: it is the greeting or EHLO's, which have no enhanced code (RFC 2034 4)."""
        texts = []
        while True:
            line = await self.reader.readline()
            match = _REPLY_LINE.fullmatch(line)
            assert match, f"not a reply line: {line!r} after {texts}"
            assert len(line) <= 512
            text = match[3].decode()
            if not bare and match[1][:1] != b"3":
                enhanced = _ENHANCED.match(text)
                assert enhanced, line
                assert enhanced[1].encode() == match[1][:1], line
            texts.append(text)
            if match[2] == b" ":
                return int(match[1]), "\n".join(texts)

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def ask(self, line: bytes | str, *, bare: bool = False) -> tuple[int, str]:
        await self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply(bare=bare)

    async def ehlo(self) -> list[str]:
        code, text = await self.ask("EHLO client.example.net", bare=True)
        assert code == 250
        return text.split("\n")

    async def start_tls(self) -> None:
        assert (await self.ask("STARTTLS"))[0] == 220
        await self.writer.start_tls(self.relay.trust, server_hostname=HOSTNAME)

    async def log_in(self) -> None:
        await self.ehlo()
        if not isinstance(self.writer.get_extra_info("ssl_object"), ssl.SSLObject):
            await self.start_tls()
            await self.ehlo()
        code, text = await self.ask(self.relay.plain())
        assert code == 235, text

    async def begin(self, recipient: str = "friend@example.net", *parameters: str) -> None:
        assert (await self.ask(" ".join((f"MAIL FROM:<{MAILBOX}>", *parameters))))[0] == 250
        assert (await self.ask(f"RCPT TO:<{recipient}>"))[0] == 250

    async def data(self, wire: bytes) -> tuple[int, str]:
        """Send what goes on the wire after DATA, final dot included."""
        code, text = await self.ask("DATA")
        assert code == 354, text
        await self.send(wire)
        return await self.reply()

    async def submit(self, body: bytes = b"Hello\r\n") -> tuple[int, str]:
        await self.begin()
        return await self.data(LETTER + body + b".\r\n")

    async def rest(self) -> bytes:
        """What still comes until the relay closes the connection."""
        try:
            return await self.reader.read()
        except (ConnectionResetError, ssl.SSLError):
            return b""

    async def vanish(self) -> None:
        """Cut the connection without a word, and see that the relay has noticed."""
        session = self.relay.session
        self.writer.transport.abort()
        await until(lambda: session.transport is None)


@dataclass
class Relay:
    """A running listener and what it was built from."""

    listener: Listener
    courier: RecordingCourier
    devices: Devices
    device: DeviceSettings
    password: str
    trust: ssl.SSLContext
    clock: LoopClock
    clients: list[Client]
    reports: list[Report]
    logins: list[str]

    def __post_init__(self) -> None:
        self.ports = [socket.getsockname()[1] for s in self.listener._servers for socket in s.sockets]

    @property
    def sessions(self) -> set[Session]:
        return self.listener._sessions

    @property
    def session(self) -> Session:
        """The only session there is."""
        [session] = self.sessions
        return session

    until = staticmethod(until)

    def plain(self, name: str = MAILBOX, password: str | None = None) -> str:
        """AUTH PLAIN with an initial response; with the right password if none is given."""
        secret = self.password if password is None else password
        return "AUTH PLAIN " + base64.b64encode(f"\0{name}\0{secret}".encode()).decode()

    async def raw(self, port: int | None = None, **kwargs: object) -> Client:
        """Connect, and wait for nothing."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.ports[0], **kwargs)  # type: ignore[arg-type]
        self.clients.append(Client(reader, writer, self))
        return self.clients[-1]

    async def connect(self, port: int | None = None, **kwargs: object) -> Client:
        """Connect and be greeted."""
        client = await self.raw(port, **kwargs)
        assert await client.reply(bare=True) == (220, f"{HOSTNAME} ESMTP ready")
        return client

    async def logged_in(self) -> Client:
        client = await self.connect()
        await client.log_in()
        return client

    async def works(self) -> None:
        """A message still goes through."""
        before = len(self.courier.submissions)
        client = await self.logged_in()
        assert (await client.submit())[0] == 250
        assert len(self.courier.submissions) == before + 1
        assert (await client.ask("QUIT"))[0] == 221
        client.writer.close()


StartRelay = Callable[..., Awaitable[Relay]]


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    """What is logged, as structlog has it before rendering."""
    capture = LogCapture()
    structlog.reset_defaults()
    structlog.configure(processors=[capture])
    yield capture
    structlog.reset_defaults()


@pytest.fixture
def events(log: LogCapture) -> Callable[[str], list[dict[str, object]]]:
    """The logged events of a name."""
    return lambda name: [dict(entry) for entry in log.entries if entry["event"] == name]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def pair(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for HOSTNAME with its chain, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    return write_pair(directory, authority.issue_cert(HOSTNAME))


def write_pair(directory: Path, issued: trustme.LeafCert) -> tuple[Path, Path]:
    cert, key = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return cert, key


@pytest.fixture(scope="session")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """A client's TLS context that trusts `authority`, and nobody else: loading the system's takes long."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@pytest.fixture
async def clock() -> LoopClock:
    return LoopClock()


@pytest.fixture
async def start(
    pair: tuple[Path, Path], trust: ssl.SSLContext, clock: LoopClock
) -> AsyncIterator[StartRelay]:
    """Start a relay on 127.0.0.1. Keywords are `Limits`, except `modes`, `device` and `certificate`."""
    relays: list[Relay] = []

    async def start_one(
        *modes: Mode,
        device: dict[str, object] | None = None,
        certificate: Certificate | None = None,
        **limits: float,
    ) -> Relay:
        password = secrets.token_urlsafe(12)
        settings = {"name": MAILBOX, "password_hash": CHEAP.hash(password), "mailbox": MAILBOX}
        only = DeviceSettings(**{**settings, **(device or {})})  # type: ignore[arg-type]
        devices = Devices([only], Throttle(clock), clock)
        courier = RecordingCourier()
        reports: list[Report] = []
        logins: list[str] = []
        listener = Listener(
            hostname=HOSTNAME,
            limits=Limits(**limits),  # type: ignore[arg-type]
            certificate=certificate or Certificate(*pair),
            devices=devices,
            courier=courier,
            on_report=reports.append,
            on_login=logins.append,
        )
        await listener.start({mode: [Endpoint("127.0.0.1", 0)] for mode in modes or (Mode.STARTTLS,)})
        relays.append(Relay(listener, courier, devices, only, password, trust, clock, [], reports, logins))
        return relays[-1]

    yield start_one
    for relay in relays:
        relay.courier.go_on.set()
        for client in relay.clients:
            client.writer.close()
        for client in relay.clients:
            with suppress(OSError):  # ssl.SSLError is one
                await client.writer.wait_closed()
        await relay.listener.stop(10)
        relay.devices.close()
