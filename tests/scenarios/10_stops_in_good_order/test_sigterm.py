"""SIGTERM: no new connection, the message under way is finished and answered, exit status 0."""

import signal
import socket
import threading
from collections.abc import Callable

import pytest
from harness.clients import CLIENTS, Account, Sent, signed_in
from harness.config import ConfiguredRelay, Device
from harness.letters import letter
from harness.planted import Planted
from harness.programs import wait_until
from harness.relay import Relay

from sandbox.client import Control


def _accepts(account: Account) -> bool:
    try:
        socket.create_connection((account.host, account.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_while_the_client_uploads(relay: Relay, sandbox: Control, planted: Planted) -> None:
    mail = letter(planted, relay.account.user)
    with signed_in(relay.account) as client, signed_in(relay.account) as idle:
        client.mail(mail.sender)
        client.rcpt(mail.recipients[0])
        assert client.docmd("DATA")[0] == 354
        client.send(mail.content[:50])

        relay.signal(signal.SIGTERM)
        wait_until(lambda: not _accepts(relay.account), "the relay accepts no more connections")
        assert idle.getreply()[0] == 421

        client.send(mail.content[50:] + b".\r\n")
        assert client.getreply()[0] == 250
    relay.wait()
    assert len(sandbox.messages()) == 1


def test_while_outlook_is_slow(relay: Relay, sandbox: Control, planted: Planted) -> None:
    sandbox.fail_smtp("eod", stall=2.0)
    results: list[Sent] = []
    mail = letter(planted, relay.account.user)
    sending = threading.Thread(target=lambda: results.append(CLIENTS["curl"](relay.account, mail, "PLAIN")))
    sending.start()
    wait_until(lambda: sandbox.faults() == [], "Outlook has the whole message")

    relay.signal(signal.SIGTERM)
    relay.wait()

    sending.join()
    assert results[0].status == 0, results[0].transcript
    assert len(sandbox.messages()) == 1


def test_a_client_that_hangs_does_not_hold_it_up(
    start_configured: Callable[..., ConfiguredRelay], sandbox: Control, planted: Planted
) -> None:
    """It gets the time that `drain_timeout` says, and no more."""
    sluggard = Device("sluggard", planted.make("password"))
    configured = start_configured(sluggard, drain_timeout=0.5)
    with signed_in(configured.account(sluggard)) as client:
        client.mail(configured.mailbox)
        client.rcpt("somebody@example.net")
        assert client.docmd("DATA")[0] == 354

        configured.relay.signal(signal.SIGTERM)
        configured.relay.wait()

    assert configured.relay.events("stop_impatient") != []
    assert sandbox.messages() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_nothing_to_do(start_relay: Callable[..., Relay], number: signal.Signals) -> None:
    relay = start_relay()
    relay.signal(number)
    relay.wait()
