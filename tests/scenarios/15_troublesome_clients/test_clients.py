"""Clients that vanish, crawl or talk nonsense: they lose their own session, and nobody else's."""

import random
import select
import smtplib
import socket
import struct
from collections.abc import Callable

import pytest
from harness.clients import CLIENTS, SECONDS, Account, connected, signed_in
from harness.config import ConfiguredRelay, Device
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control


def _rest(connection: socket.socket) -> bytes:
    """All that still comes, until the relay closes the connection."""
    received = b""
    try:
        while chunk := connection.recv(4096):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def _still_serves(relay: Relay, planted: Planted) -> bool:
    return CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user), "PLAIN").status == 0


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed", "reset"])
def test_a_client_that_vanishes_in_data(
    relay: Relay, sandbox: Control, planted: Planted, abruptly: bool
) -> None:
    mail = letter(planted, relay.account.user, body=b"half a mess")
    with signed_in(relay.account) as client:
        client.mail(mail.sender)
        client.rcpt(mail.recipients[0])
        assert client.docmd("DATA")[0] == 354
        client.send(mail.content)
        if abruptly:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert _still_serves(relay, planted)
    assert len(sandbox.messages()) == 1


def test_nul_octets(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    """In a command they are an error, and the session goes on."""
    account = shared_relay.account
    with signed_in(account) as client:
        assert client.docmd("NO\0OP")[0] == 500
        assert client.docmd("MAIL", "FROM:<\0@example.org>")[0] // 100 == 5
        assert client.noop()[0] == 250
    assert _still_serves(shared_relay, planted)


def test_garbage_instead_of_smtp(shared_relay: Relay, planted: Planted) -> None:
    noise = random.Random(20261122)
    account = shared_relay.account
    for _ in range(10):
        with socket.create_connection((account.host, account.port), SECONDS) as connection:
            connection.sendall(noise.randbytes(3000) + b"\r\n")
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := connection.recv(4096):
                received += chunk
        assert received.startswith(b"220 ")
        assert all(line[:3].isdigit() for line in received.splitlines())
    assert _still_serves(shared_relay, planted)


def test_a_handshake_that_is_none(shared_relay: Relay, planted: Planted) -> None:
    account = shared_relay.account
    with smtplib.SMTP(account.host, account.port, timeout=SECONDS) as client:
        client.ehlo()
        assert client.docmd("STARTTLS")[0] == 220
        client.sock.sendall(b"this is no handshake\r\n" * 10)
        # Perhaps a TLS alert, then the end; never a reply of SMTP.
        assert b"250" not in _rest(client.sock)
    assert _still_serves(shared_relay, planted)


def test_commands_slipped_in_before_tls(shared_relay: Relay, planted: Planted) -> None:
    """What follows STARTTLS at once is not read as if it had been protected (CVE-2024-34083)."""
    account = shared_relay.account
    with smtplib.SMTP(account.host, account.port, timeout=SECONDS) as client:
        client.ehlo()
        client.sock.sendall(b"STARTTLS\r\nEHLO slipped.in\r\nNOOP\r\n")
        assert client.getreply()[0] in (220, 421, 501)
        assert b"250" not in _rest(client.sock)
    assert _still_serves(shared_relay, planted)


@pytest.fixture
def impatient(start_configured: Callable[..., ConfiguredRelay], planted: Planted) -> Account:
    """A device of a relay with limits so short that a test can wait for them."""
    crawler = Device("crawler", planted.make("password"))
    limits = {"login_timeout": 1.0, "command_timeout": 1.0, "data_timeout": 1.0, "transaction_timeout": 2.0}
    return start_configured(crawler, **limits).account(crawler)


def _crawl(connection: socket.socket, octets: bytes) -> bytes:
    """Send an octet at a time, with pauses shorter than any limit, until the relay speaks."""
    for octet in octets:
        connection.sendall(bytes([octet]))
        readable, _, _ = select.select([connection], [], [], 0.2)
        if readable:
            return connection.recv(4096)
    raise AssertionError("The relay has all the time in the world.")


def test_an_octet_now_and_then_before_the_login(impatient: Account) -> None:
    with socket.create_connection((impatient.host, impatient.port), SECONDS) as connection:
        assert connection.recv(4096).startswith(b"220 ")
        assert _crawl(connection, b"EHLO a.client.that.crawls").startswith(b"421 4.4.2 ")
        assert connection.recv(4096) == b""


def test_an_octet_now_and_then_in_a_message(impatient: Account, sandbox: Control, planted: Planted) -> None:
    """Never silent for long, and still out of time: the whole transaction is bounded, too."""
    with signed_in(impatient) as client:
        client.mail(sandbox.world().work)
        client.rcpt("somebody@example.net")
        assert client.docmd("DATA")[0] == 354
        assert _crawl(client.sock, b"Subject: slow\r\n\r\n").startswith(b"421 4.4.2 ")
    assert sandbox.messages() == []


def test_an_upload_without_end(
    start_configured: Callable[..., ConfiguredRelay], sandbox: Control, planted: Planted
) -> None:
    """A client that goes on long beyond the limit is cut off; until then it is read, and nothing is kept."""
    flood = Device("flood", planted.make("password"))
    configured = start_configured(flood, message_size=2**20)
    block = (b"x" * 98 + b"\r\n") * 1000
    with signed_in(configured.account(flood)) as client:
        client.mail(configured.mailbox)
        client.rcpt("somebody@example.net")
        assert client.docmd("DATA")[0] == 354
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe|EOF|closed"):
            client.sock.sendall(block * 300)
    assert sandbox.messages() == []
    with signed_in(configured.account(flood)) as client:
        assert client.noop()[0] == 250


def test_a_client_that_falls_silent(impatient: Account) -> None:
    with connected(impatient) as client:
        code, text = client.getreply()
    assert (code, text[:5]) == (421, b"4.4.2")
