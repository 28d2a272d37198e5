"""One sandbox for the whole folder, reset before each test, and clients for it."""

import base64
import contextlib
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator

import msal
import pytest
import requests

from sandbox.client import Control, SandboxProcess, World

OUTLOOK = "https://outlook.office.com/SMTP.Send"


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture
def control(sandbox: SandboxProcess) -> Control:
    """The sandbox as new; it may not have noticed yet that the last test hung up."""
    sandbox.control.disconnect()
    sandbox.control.reset()
    return sandbox.control


@pytest.fixture
def world(control: Control) -> World:
    return control.world()


@pytest.fixture(scope="session")
def trust(sandbox: SandboxProcess) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=sandbox.ca)


@pytest.fixture
def connect(
    sandbox: SandboxProcess, trust: ssl.SSLContext, control: Control
) -> Iterator[Callable[..., smtplib.SMTP]]:
    """Open SMTP connections (under TLS unless told otherwise), closed after the test."""
    with contextlib.ExitStack() as stack:

        def open_one(*, tls: bool = True) -> smtplib.SMTP:
            client = smtplib.SMTP(
                "localhost", sandbox.smtp_port, local_hostname="client.example.org", timeout=20
            )
            stack.callback(client.close)
            client.ehlo()
            if tls:
                client.starttls(context=trust)
                client.ehlo()
            return client

        yield open_one


@pytest.fixture
def token(control: Control, world: World) -> str:
    """An access token of the personal account."""
    return control.access_token(world.personal, world.client_id)


def xoauth2(user: str, token: str) -> Callable[[bytes | None], str]:
    """What smtplib calls: the response first, an empty line after an error challenge."""
    answers = iter([f"user={user}\x01auth=Bearer {token}\x01\x01", ""])
    return lambda _challenge=None: next(answers)


@pytest.fixture
def authenticate() -> Callable[..., tuple[int, bytes]]:
    """`authenticate(client, user, token, one_line=True)` does AUTH XOAUTH2; a refusal is raised."""

    def run(client: smtplib.SMTP, user: str, token: str, *, one_line: bool = True) -> tuple[int, bytes]:
        return client.auth("XOAUTH2", xoauth2(user, token), initial_response_ok=one_line)

    return run


@pytest.fixture
def login(
    connect: Callable[..., smtplib.SMTP],
    authenticate: Callable[..., tuple[int, bytes]],
    control: Control,
    world: World,
) -> Callable[..., smtplib.SMTP]:
    """Open a connection that is authenticated as the personal account, or as `user`."""

    def open_one(user: str = "") -> smtplib.SMTP:
        address = user or world.personal
        client = connect()
        authenticate(client, address, control.access_token(address, world.client_id))
        return client

    return open_one


@pytest.fixture
def wire(sandbox: SandboxProcess, trust: ssl.SSLContext, control: Control) -> Iterator[ssl.SSLSocket]:
    """A bare TLS connection after EHLO, STARTTLS and EHLO, for octets that no client library would send."""
    with socket.create_connection(("localhost", sandbox.smtp_port), timeout=20) as raw:
        raw.recv(4096)
        raw.sendall(b"EHLO wire\r\n")
        raw.recv(4096)
        raw.sendall(b"STARTTLS\r\n")
        raw.recv(4096)
        with trust.wrap_socket(raw, server_hostname="localhost") as secure:
            secure.sendall(b"EHLO wire\r\n")
            secure.recv(4096)
            yield secure


@pytest.fixture
def replies(wire: ssl.SSLSocket) -> Callable[[int], bytes]:
    """Read from `wire` until so many final reply lines have come."""

    def read(count: int) -> bytes:
        data = b""
        while sum(line[3:4] == b" " for line in data.split(b"\r\n")[:-1]) < count:
            more = wire.recv(65536)
            assert more, f"the server hung up after {data!r}"
            data += more
        return data

    return read


@pytest.fixture
def auth_line() -> Callable[[str, str], bytes]:
    """The AUTH command of a user with a token."""

    def build(user: str, token: str) -> bytes:
        response = base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode())
        return b"AUTH XOAUTH2 " + response + b"\r\n"

    return build


@pytest.fixture
def http(sandbox: SandboxProcess) -> Iterator[requests.Session]:
    """An HTTP client that trusts the sandbox's CA, whatever the environment says."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = sandbox.ca
        yield session


@pytest.fixture
def confidential(
    sandbox: SandboxProcess, world: World, http: requests.Session
) -> Callable[..., msal.ConfidentialClientApplication]:
    """MSAL for the confidential app at a tenant's authority."""

    def build(
        tenant: str = "common", *, client_id: str = "", secret: str = ""
    ) -> msal.ConfidentialClientApplication:
        return msal.ConfidentialClientApplication(
            client_id or world.client_id,
            client_credential=secret or world.client_secret,
            authority=f"{sandbox.authority}/{tenant}",
            http_client=http,
            instance_discovery=False,
        )

    return build


@pytest.fixture
def public(sandbox: SandboxProcess, world: World, http: requests.Session) -> msal.PublicClientApplication:
    """MSAL for the public app."""
    return msal.PublicClientApplication(
        world.public_client_id,
        authority=f"{sandbox.authority}/common",
        http_client=http,
        instance_discovery=False,
    )
