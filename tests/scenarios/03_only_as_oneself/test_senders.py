"""A device sends as its mailbox and as the senders it was given; nobody else's name gets through."""

import email.policy
import smtplib
from collections.abc import Callable

import pytest
from harness.clients import CLIENTS, signed_in
from harness.config import ConfiguredRelay, Device
from harness.letters import body_of, letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control

STRANGER = "boss@example.com"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_foreign_envelope_sender_is_refused(
    shared_relay: Relay, sandbox: Control, planted: Planted, client: str
) -> None:
    """Already at MAIL, whatever the From: field would have said."""
    account = shared_relay.account
    sent = CLIENTS[client](account, letter(planted, STRANGER, header_from=account.user), "PLAIN")

    assert sent.status != 0
    assert sent.replied(r"550[ -]5\.7\.1 "), sent.transcript
    assert not sent.replied("354"), sent.transcript
    assert sandbox.messages() == []


@pytest.mark.parametrize(
    "header_from",
    [
        STRANGER,
        f"The Boss <{STRANGER}>",
        f'"office@example.org" <{STRANGER}>',
        f"office@example.org, {STRANGER}",
        f"{STRANGER}\r\nFrom: office@example.org",
    ],
    ids=["bare", "with a name", "own address as name", "two authors", "two fields"],
)
def test_a_foreign_from_field_is_refused(
    shared_relay: Relay, sandbox: Control, planted: Planted, header_from: str
) -> None:
    account = shared_relay.account
    mail = letter(planted, account.user, header_from=header_from)
    with signed_in(account) as client, pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail(mail.sender, mail.recipients, mail.content)
    assert refusal.value.smtp_code // 100 == 5
    assert sandbox.messages() == []


def test_a_device_may_use_the_senders_it_was_given(
    start_configured: Callable[..., ConfiguredRelay], sandbox: Control, planted: Planted
) -> None:
    sandbox.limits(sender_check=False)
    senders = ("sales@example.org", "*@branch.example.org")
    scanner = Device("scanner", planted.make("password"), senders)
    account = start_configured(scanner).account(scanner)

    for sender, allowed in (
        ("sales@example.org", True),
        ("Sales@Example.ORG", True),
        ("anyone@branch.example.org", True),
        ("anyone@deeper.branch.example.org", False),
        ("office@example.org", True),
        ("others@example.org", False),
    ):
        sent = CLIENTS["smtplib"](account, letter(planted, sender), "PLAIN")
        assert (sent.status == 0) is allowed, (sender, sent.replies)
    assert len(sandbox.messages()) == 4


def test_a_foreign_from_field_can_be_rewritten(
    start_configured: Callable[..., ConfiguredRelay], sandbox: Control, planted: Planted
) -> None:
    """The mailbox's own address goes in front, and answers still reach the original one."""
    nas = Device("nas", planted.make("password"), foreign_from="rewrite")
    account = start_configured(nas).account(nas)

    mail = letter(planted, "office@example.org", header_from=f'"The NAS" <{STRANGER}>')
    sent = CLIENTS["smtplib"](account, mail, "PLAIN")

    assert sent.status == 0, sent.transcript
    [message] = sandbox.messages()
    parsed = email.message_from_bytes(message.content, policy=email.policy.default)
    [author] = parsed["From"].addresses
    assert author.addr_spec == "office@example.org"
    assert author.display_name == "The NAS"
    assert [address.addr_spec for address in parsed["Reply-To"].addresses] == [STRANGER]
    assert body_of(message.content) == body_of(mail.content)
