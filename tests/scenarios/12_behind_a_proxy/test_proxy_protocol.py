"""The listener for the edge takes the client's address from the PROXY protocol, and insists on it."""

import contextlib
import smtplib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from threading import Barrier

import pytest
from harness.certificates import Authority
from harness.clients import SECONDS, Account
from harness.letters import letter
from harness.planted import Planted
from harness.ports import free_port
from harness.relay import Relay

from sandbox.client import Control

EDGE = "198.51.100.1"


def _v1(source: str, target: str) -> bytes:
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {target} 40000 587\r\n".encode()


def _v2(source: str, target: str) -> bytes:
    """The binary form: signature, version and command, family, length, addresses, ports."""
    addresses = ip_address(source).packed + ip_address(target).packed + struct.pack("!HH", 40000, 587)
    family = 0x21 if ":" in source else 0x11
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, family, len(addresses)) + addresses


class _Proxied(smtplib.SMTP):
    """smtplib behind a proxy: the header goes out before anything else."""

    def __init__(self, account: Account, header: bytes) -> None:
        self._header = header
        super().__init__(account.host, account.port, timeout=SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = socket.create_connection((host, port), timeout)
        connection.sendall(self._header)
        return connection


@contextlib.contextmanager
def _connected(account: Account, header: bytes) -> Iterator[smtplib.SMTP]:
    """A session that has started TLS behind a proxy that sends this header."""
    with _Proxied(account, header) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(account.ca)))
        client.ehlo()
        yield client


@pytest.fixture(scope="module")
def relay(
    make_settings: Callable[[], dict[str, str]], authority: Authority, planted: Planted
) -> Iterator[Relay]:
    settings = make_settings() | {"RELAY_LISTEN_PROXY": f"127.0.0.1:{free_port()}"}
    relay = Relay(settings, authority.bundle, planted)
    yield relay
    relay.stop()


@pytest.mark.parametrize("header", [_v1, _v2], ids=["v1", "v2"])
@pytest.mark.parametrize(
    "addresses", [("192.0.2.7{}", EDGE), ("2001:db8::7{}", "2001:db8::1")], ids=["IPv4", "IPv6"]
)
def test_the_address_is_the_clients_own(
    relay: Relay,
    sandbox: Control,
    planted: Planted,
    header: Callable[[str, str], bytes],
    addresses: tuple[str, str],
) -> None:
    source, target = addresses[0].format(header.__name__[-1]), addresses[1]
    account = relay.account_at("RELAY_LISTEN_PROXY")
    mail = letter(planted, account.user)
    with _connected(account, header(source, target)) as client:
        client.login(account.user, account.password)
        client.sendmail(mail.sender, mail.recipients, mail.content)

    relay.wait_for_event("message", client=source, verdict="accepted")
    assert len(sandbox.messages()) == 1


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"EHLO edge.test\r\n",
        b"PROXY NONSENSE\r\n",
        b"PROXY TCP4 " + b"9" * 300 + b"\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\xff\xff\0\0",
    ],
    ids=["nothing", "SMTP at once", "nonsense", "too long", "unknown version"],
)
def test_nobody_is_served_without_a_header(relay: Relay, header: bytes) -> None:
    """No greeting, no reply: the connection just ends."""
    account = relay.account_at("RELAY_LISTEN_PROXY")
    with socket.create_connection((account.host, account.port), SECONDS) as connection:
        connection.sendall(header)
        if not header:
            connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000) == b""


def test_guessing_bans_the_client_and_not_the_proxy(relay: Relay, planted: Planted) -> None:
    """Ten wrong passwords are enough. They come all at once, for each one slows those that come after it."""
    account = relay.account_at("RELAY_LISTEN_PROXY")
    guesses = [planted.make("guess") for _ in range(12)]
    ready = Barrier(len(guesses), timeout=SECONDS)

    def log_in(password: str) -> int:
        with _connected(account, _v2("192.0.2.66", EDGE)) as client:
            ready.wait()
            client.user, client.password = account.user, password
            with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
                client.auth("PLAIN", client.auth_plain)
            return refusal.value.smtp_code

    with ThreadPoolExecutor(len(guesses)) as pool:
        assert sorted(pool.map(log_in, guesses)) == [454] * 2 + [535] * 10
    with _connected(account, _v2("192.0.2.67", EDGE)) as client:
        assert client.login(account.user, account.password)[0] == 235
