"""Large messages, long lists of recipients, and where they end."""

import hashlib

import pytest
from harness.clients import CLIENTS, Mail, signed_in
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control

MEGABYTE = 1024 * 1024
LINE = b"0123456789abcdef" * 4 + b"\r\n"


def _letter_of(size: int, relay: Relay, planted: Planted) -> Mail:
    mail = letter(planted, relay.account.user)
    missing = size - len(mail.content)
    return Mail(mail.sender, mail.recipients, mail.content + (LINE * (missing // len(LINE) + 1))[-missing:])


def test_35_megabytes_arrive_whole(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    """Gmail's 25 MB of attachments are 35 MB when encoded."""
    mail = _letter_of(35 * 1000 * 1000, shared_relay, planted)

    sent = CLIENTS["curl"](shared_relay.account, mail, "PLAIN")

    assert sent.status == 0, sent.transcript[-2000:]
    [message] = sandbox.messages()
    assert (
        hashlib.sha256(message.content[-len(mail.content) :]).digest()
        == hashlib.sha256(mail.content).digest()
    )


def test_the_limit_is_advertised_and_kept(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    with signed_in(shared_relay.account) as client:
        limit = int(client.esmtp_features["size"])
        assert limit >= 35 * 1000 * 1000
        code, text = client.mail(shared_relay.account.user, [f"SIZE={limit + 1}"])
        assert (code, text[:5]) == (552, b"5.3.4")
        # A client that does not say how much it sends hears it at the end, and may go on.
        mail = _letter_of(limit + 2 * MEGABYTE, shared_relay, planted)
        client.mail(mail.sender)
        client.rcpt(mail.recipients[0])
        code, text = client.data(mail.content)
        assert (code, text[:5]) == (552, b"5.3.4")
        assert client.noop()[0] == 250
    assert sandbox.messages() == []


def test_ten_thousand_recipients(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    """500 are taken and the others told to come in another message (RFC 5321 4.5.3.1.10)."""
    mail = letter(planted, shared_relay.account.user)
    with signed_in(shared_relay.account) as client:
        client.mail(mail.sender)
        codes = [client.rcpt(f"recipient{number}@example.net")[0] for number in range(10_000)]
        assert codes == [250] * 500 + [452] * 9500
        assert client.data(mail.content)[0] == 250
    [message] = sandbox.messages()
    assert message.recipients == [f"recipient{number}@example.net" for number in range(500)]


def test_an_empty_message(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    """Nothing but a From: is a message too; Date and Message-ID are added (RFC 6409 8.2, 8.3)."""
    user = shared_relay.account.user
    with signed_in(shared_relay.account) as client:
        client.sendmail(user, "somebody@example.net", f"From: {user}\r\n\r\n")
    [message] = sandbox.messages()
    fields = message.content.split(b"\r\n\r\n")[0].lower()
    assert b"\r\ndate: " in fields
    assert b"\r\nmessage-id: " in fields


@pytest.mark.parametrize("size", [998, 1000])
def test_lines_as_long_as_smtp_allows(
    shared_relay: Relay, sandbox: Control, planted: Planted, size: int
) -> None:
    """998 octets and CRLF are the limit (RFC 5322 2.1.1); what a client sends beyond arrives as it was."""
    mail = letter(planted, shared_relay.account.user, body=b"y" * size + b"\r\n")
    assert CLIENTS["smtplib"](shared_relay.account, mail, "PLAIN").status == 0
    [message] = sandbox.messages()
    assert message.content.endswith(b"\r\n" + b"y" * size + b"\r\n")
