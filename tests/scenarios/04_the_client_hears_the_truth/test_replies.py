"""What Outlook says reaches the client: a refusal as that refusal, trouble as a 451 with the reason."""

import smtplib
from collections.abc import Callable

import pytest
from harness.clients import CLIENTS, signed_in
from harness.letters import letter
from harness.planted import Planted
from harness.ports import free_port
from harness.relay import Relay

from sandbox.client import Control


def _refusal(relay: Relay, planted: Planted, *recipients: str) -> smtplib.SMTPResponseException:
    """Submit a message that will not be accepted, and return what the client heard after the dot."""
    mail = letter(planted, relay.account.user, *recipients)
    with signed_in(relay.account) as client, pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail(mail.sender, mail.recipients, mail.content)
    return refusal.value


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "eod"])
@pytest.mark.parametrize(
    ("upstream", "code", "ours"),
    [
        ("451 4.7.500 Server busy. Please try again later", 451, b"Send it again in a few minutes"),
        ("452 4.3.1 Insufficient system resources", 451, b"Send it again in a few minutes"),
        ("554 5.7.999 Some words of Outlook's", 554, b"Outlook refused the message"),
        ("550 5.7.508 Access denied, traffic refused", 550, b"Outlook refused the message"),
    ],
)
def test_a_reply_of_outlook(
    shared_relay: Relay, sandbox: Control, planted: Planted, stage: str, upstream: str, code: int, ours: bytes
) -> None:
    sandbox.fail_smtp(stage, reply=upstream)

    refusal = _refusal(shared_relay, planted)

    assert refusal.smtp_code == code
    assert upstream.split(" ", 2)[2].encode() in refusal.smtp_error
    assert ours in refusal.smtp_error
    assert sandbox.messages() == []


def test_a_sender_that_outlook_does_not_own(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    """The classic: 554 5.2.252 SendAsDenied, and beside it what to do."""
    upstream = "554 5.2.252 SendAsDenied; office@example.org not allowed to send as sales@example.org"
    sandbox.fail_smtp("eod", reply=upstream)

    refusal = _refusal(shared_relay, planted)

    assert refusal.smtp_code == 554
    assert b"SendAsDenied" in refusal.smtp_error
    assert b"alias" in refusal.smtp_error


def test_one_recipient_of_two_is_refused(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    """SMTP has one reply for the message, so a refusal of one recipient is not hidden behind a 250."""
    bad = "no.such.person@example.net"
    sandbox.fail_smtp(
        "rcpt", address=bad, reply="550 5.1.10 RecipientNotFound; not found by SMTP address lookup"
    )

    refusal = _refusal(shared_relay, planted, "good@example.net", bad)

    assert refusal.smtp_code // 100 == 5
    assert bad.encode() in refusal.smtp_error


def test_outlook_is_down(start_relay: Callable[..., Relay], sandbox: Control, planted: Planted) -> None:
    relay = start_relay(RELAY_UPSTREAM=f"127.0.0.1:{free_port()}")

    refusal = _refusal(relay, planted)

    assert refusal.smtp_code == 451
    assert b"127.0.0.1" in refusal.smtp_error
    [event] = relay.wait_for_event("message")
    assert event["verdict"] == "deferred"


@pytest.mark.parametrize("certificate", ["wrong_name", "self_signed", "expired"])
def test_outlook_shows_a_wrong_certificate(
    start_relay: Callable[..., Relay], sandbox: Control, planted: Planted, certificate: str
) -> None:
    """Nothing is sent to a server that cannot prove its name: no token, no mail."""
    sandbox.fail_smtp("starttls", certificate=certificate, times=0)
    relay = start_relay()

    refusal = _refusal(relay, planted)

    assert refusal.smtp_code == 451
    assert b"certificate" in refusal.smtp_error
    assert sandbox.counters().smtp.auth_attempts == 0

    sandbox.clear_faults()
    sent = CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user), "PLAIN")
    assert sent.status == 0, sent.transcript


def test_every_client_sees_the_reason(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    for client, send in CLIENTS.items():
        sandbox.fail_smtp("eod", reply="554 5.7.999 Some words of Outlook's")
        sent = send(shared_relay.account, letter(planted, shared_relay.account.user), "PLAIN")
        assert sent.status != 0, client
        assert sent.replied(r"554[ -]5\.7\.999 Some words of Outlook"), (client, sent.replies)
