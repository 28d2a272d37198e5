"""No mail without the right password, and no password without TLS."""

import smtplib
from dataclasses import replace

import pytest
from harness import programs
from harness.clients import CLIENTS, SECONDS, connected
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control


@pytest.mark.parametrize("client", CLIENTS)
def test_a_wrong_password_is_refused(relay: Relay, sandbox: Control, planted: Planted, client: str) -> None:
    account = replace(relay.account, password=planted.make("wrong password"))

    sent = CLIENTS[client](account, letter(planted, account.user), "PLAIN")

    assert sent.status != 0
    assert sent.replied(r"535[ -]5\.7\.8 "), sent.transcript
    assert sandbox.messages() == []
    [event] = relay.wait_for_event("login_refused")
    assert event["client"] == "127.0.0.1"


def test_an_unknown_user_hears_the_same(shared_relay: Relay, planted: Planted) -> None:
    replies = []
    for user in (shared_relay.account.user, "nobody@example.org"):
        with connected(shared_relay.account) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
                client.login(user, planted.make("wrong password"))
            replies.append((refusal.value.smtp_code, refusal.value.smtp_error))
    assert replies[0] == replies[1]


def test_no_password_before_tls(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    account = shared_relay.account
    with smtplib.SMTP(account.host, account.port, timeout=SECONDS) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN")[0] == 530
        assert client.docmd("AUTH", "LOGIN")[0] == 530
        assert client.docmd("MAIL", f"FROM:<{account.user}>")[0] == 530
    assert sandbox.messages() == []


def test_no_mail_before_login(shared_relay: Relay, sandbox: Control) -> None:
    account = shared_relay.account
    with connected(account) as client:
        assert client.docmd("MAIL", f"FROM:<{account.user}>")[0] == 530
        assert client.docmd("RCPT", "TO:<somebody@example.net>")[0] in (503, 530)
        assert client.docmd("DATA")[0] in (503, 530)
    assert sandbox.messages() == []


def test_tls_of_yesterday_is_refused(shared_relay: Relay) -> None:
    """TLS 1.1 gets no handshake; 1.2 does. openssl asks, for Python's ssl may no longer know 1.1."""
    account = shared_relay.account
    for version, works in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        arguments = ["s_client", "-connect", f"{account.host}:{account.port}", "-starttls", "smtp", version]
        arguments += ["-CAfile", str(account.ca), "-verify_return_error", "-cipher", "ALL:@SECLEVEL=0"]
        done = programs.run("openssl", *arguments, stdin=b"QUIT\r\n")
        assert (done.status == 0) is works, f"{version}: {done.output}"
