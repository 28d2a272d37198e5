"""A scripted upstream on loopback, real TLS and all, and what a test needs to talk to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import trustme

from relay_app.delivery.outlook import Deadlines, tls_context
from relay_app.delivery.upstream import Upstream
from relay_app.identity.tokens import AccessToken
from relay_app.mail.submission import Envelope, Submission
from relay_app.settings import Endpoint, Flow, MailboxSettings

EHLO = b"250-upstream greets you\r\n250-PIPELINING\r\n250-SIZE 157286400\r\n250-8BITMIME\r\n"
PLAIN_EHLO = EHLO + b"250 STARTTLS\r\n"
TLS_EHLO = EHLO + b"250-AUTH LOGIN XOAUTH2\r\n250 SMTPUTF8\r\n"
FINAL = b"250 2.0.0 OK <1@upstream>\r\n"


class Wire:
    """The server's end of one connection, as a script sees it. What it reads it keeps."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.flights: list[bytes] = []
        """What the client sent, one entry for each time it was read until it made sense."""
        self.tls = tls

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, end: bytes = b"\r\n") -> bytes:
        """Read one flight: everything up to `end`, or what there is when the client closes."""
        data = b""
        while not data.endswith(end):
            piece = await self.reader.read(1 << 20)
            if not piece:
                raise ConnectionResetError
            data += piece
        self.flights.append(data)
        return data

    async def start_tls(self) -> None:
        await self.say(b"220 2.0.0 go ahead\r\n")
        await self.writer.start_tls(self.tls)

    async def greet(self) -> None:
        """Greeting to the second EHLO's reply."""
        await self.say(b"220 upstream ready\r\n")
        await self.hear()
        await self.say(PLAIN_EHLO)
        await self.hear()
        await self.start_tls()
        await self.hear()
        await self.say(TLS_EHLO)

    async def let_in(self) -> None:
        """Greeting to the 235."""
        await self.greet()
        await self.hear()
        await self.say(b"235 2.7.0 Authentication successful\r\n")

    async def envelope(self, recipients: int = 1) -> None:
        """MAIL, RCPT, DATA in one flight, all accepted."""
        await self.hear(b"DATA\r\n")
        await self.say(b"250 2.1.0 ok\r\n" + b"250 2.1.5 ok\r\n" * recipients + b"354 go on\r\n")

    async def message(self, reply: bytes = FINAL, recipients: int = 1) -> bytes:
        """One whole transaction; return the content as it was written, with the final dot."""
        await self.envelope(recipients)
        content = await self.hear(b"\r\n.\r\n")
        await self.say(reply)
        return content

    def drop(self) -> None:
        self.writer.transport.abort()

    async def until_closed(self) -> bytes:
        """Read to the end; answer a QUIT."""
        rest = b""
        with suppress(ConnectionError):
            while piece := await self.reader.read(1 << 20):
                rest += piece
                if rest.endswith(b"QUIT\r\n"):
                    await self.say(b"221 2.0.0 bye\r\n")
                    self.writer.close()
        return rest


Script = Callable[[Wire], Awaitable[object]]


@dataclass
class Server:
    """Plays one script after another, one for each connection; the last one again and again."""

    endpoint: Endpoint
    cafile: str
    scripts: list[Script] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    finished: asyncio.Queue[object] = field(default_factory=asyncio.Queue)
    """What each script returned, in the order in which they ended."""


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="session")
def cafile(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def serve(authority: trustme.CA, cafile: str):
    """Start a server that plays the given scripts: `async with serve(script, ...) as server`."""

    @asynccontextmanager
    async def start(*scripts: Script, certificate_for: str = "localhost") -> AsyncIterator[Server]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(certificate_for, key_type=trustme.KeyType.ECDSA).configure_cert(tls)
        tasks: set[asyncio.Task[None]] = set()

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            script = server.scripts.pop(0) if len(server.scripts) > 1 else server.scripts[0]
            wire = Wire(reader, writer, tls)
            server.wires.append(wire)
            server.open += 1
            server.most_open = max(server.most_open, server.open)
            result: object = None
            try:
                result = await script(wire)
            except (ConnectionError, ssl.SSLError) as error:
                result = error
            finally:
                server.open -= 1
                writer.transport.abort()
                server.finished.put_nowait(result)

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(play(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        listener = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        server = Server(Endpoint("localhost", port), cafile, list(scripts))
        try:
            yield server
        finally:
            listener.close()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await listener.wait_closed()

    return start


class Tokens:
    """A token source that numbers its tokens."""

    def __init__(self) -> None:
        self.issued = 1
        self.rejected: list[AccessToken] = []
        self.error: Exception | None = None

    async def token(self) -> AccessToken:
        if self.error:
            raise self.error
        return AccessToken(f"token-{self.issued}", "user@example.org", 4e9)

    async def renew(self, rejected: AccessToken) -> AccessToken:
        self.rejected.append(rejected)
        self.issued += 1
        return await self.token()


@pytest.fixture
def until():
    """Wait for a condition that the event loop will bring about."""

    async def wait(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)

    return wait


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def upstream(tokens: Tokens):
    """Return an `Upstream` for a server; `upstream(server, final=0.1)` sets deadlines."""

    def make(server: Server, **deadlines: float) -> Upstream:
        mailbox = MailboxSettings("user@example.org", Flow.CLIENT_CREDENTIALS, "example.org", "id")
        return Upstream(
            mailbox,
            server.endpoint,
            tls=tls_context(server.cafile),
            ehlo_name="relay.example.org",
            tokens=tokens,
            deadlines=Deadlines(**deadlines),
        )

    return make


@pytest.fixture
def submission():
    """Return a submission; what is not given is ordinary."""

    def make(
        body: bytes = b"\r\nHello\r\n",
        header: bytes = b"Subject: hi\r\n",
        sender: str = "user@example.org",
        recipients: tuple[str, ...] = ("a@example.net",),
        body_8bit: bool = False,
        smtputf8: bool = False,
        number: int = 1,
    ) -> Submission:
        return Submission(
            id=f"id{number}",
            device="scanner",
            mailbox="user@example.org",
            envelope=Envelope(sender, recipients, body_8bit, smtputf8),
            header=header,
            body=body,
            client="192.0.2.1",
            received_at=datetime(2026, 1, 1, tzinfo=UTC),
        )

    return make
