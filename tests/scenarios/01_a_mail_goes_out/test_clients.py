"""Whatever the client: a mail submitted with a password goes out through an XOAUTH2 server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from harness.certificates import Authority
from harness.clients import CLIENTS
from harness.dovecot import Dovecot
from harness.letters import body_of, letter
from harness.planted import Planted
from harness.relay import Relay, sign_in
from harness.smtp_sink import SmtpSink

from sandbox.client import Control, SandboxProcess

RECIPIENTS = ("first@example.net", "second@example.net")
# Dots that must be stuffed, octets beyond ASCII, and an empty line at the end.
BODY = b".\r\n..two\r\n.three dots\r\nGr\xc3\xbc\xc3\x9fe\r\n\r\n"


@pytest.fixture(scope="module")
def dovecot_relay(
    make_settings: Callable[[], dict[str, str]],
    _sandbox: SandboxProcess,
    dovecot: Dovecot,
    authority: Authority,
    planted: Planted,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Relay]:
    """A relay for a personal account that has signed in. Dovecot trusts the tokens of the sandbox's Entra."""
    world = _sandbox.control.world()
    keys = f"{_sandbox.authority}/common/discovery/v2.0/keys"
    dovecot.trust(requests.get(keys, verify=_sandbox.ca, timeout=30).json())
    trusted = tmp_path_factory.mktemp("trusted") / "both.pem"
    trusted.write_text(authority.bundle.read_text() + Path(_sandbox.ca).read_text())
    settings = make_settings() | {
        "USER_EMAIL": world.personal,
        "TENANT_ID": "consumers",
        "RELAY_FLOW": "authorization_code",
        "RELAY_UPSTREAM": dovecot.address,
        "RELAY_UPSTREAM_CA": str(trusted),
    }
    refresh_token = _sandbox.control.refresh_token(world.personal, world.client_id)
    sign_in(settings, planted.add("refresh token", refresh_token))
    relay = Relay(settings, authority.bundle, planted)
    yield relay
    relay.stop()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("client", CLIENTS)
def test_through_outlook(
    shared_relay: Relay, sandbox: Control, planted: Planted, client: str, mechanism: str
) -> None:
    account = shared_relay.account
    mail = letter(planted, account.user, *RECIPIENTS, body=BODY)

    sent = CLIENTS[client](account, mail, mechanism)

    assert sent.status == 0, sent.transcript
    [message] = sandbox.messages()
    assert message.user == account.user
    assert message.sender == account.user
    assert tuple(message.recipients) == RECIPIENTS
    assert body_of(message.content) == body_of(mail.content)
    assert message.content.startswith(b"Received: from ")
    # The client's last reply is Outlook's own, and names our id.
    assert sent.replied(r"250[ -]2\.0\.0 .*\(relay id \w+\)"), sent.replies


@pytest.mark.parametrize("client", CLIENTS)
def test_through_dovecot(dovecot_relay: Relay, sink: SmtpSink, planted: Planted, client: str) -> None:
    account = dovecot_relay.account
    mail = letter(planted, account.user, *RECIPIENTS, body=BODY)

    sent = CLIENTS[client](account, mail, "PLAIN")

    assert sent.status == 0, sent.transcript
    [message] = sink.messages()
    assert message.sender == account.user
    assert message.recipients == RECIPIENTS
    assert body_of(message.content) == body_of(mail.content)


def test_the_bytes_are_those_submitted(shared_relay: Relay, sandbox: Control, planted: Planted) -> None:
    """Everything but the `Received:` field at the top is what the client sent, byte for byte."""
    account = shared_relay.account
    every_octet = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
    mail = letter(planted, account.user, body=b"x" * 998 + b"\r\n" + every_octet + b"\r\n")

    assert CLIENTS["smtplib"](account, mail, "PLAIN").status == 0

    [message] = sandbox.messages()
    assert message.content.endswith(mail.content)
    added = message.content.removesuffix(mail.content)
    assert added.startswith(b"Received: from ")
    assert all(line.startswith(b"\t") for line in added.rstrip(b"\r\n").split(b"\r\n")[1:])


def test_each_message_has_its_line_in_the_log(relay: Relay, sandbox: Control, planted: Planted) -> None:
    account = relay.account
    mail = letter(planted, account.user, *RECIPIENTS)

    assert CLIENTS["smtplib"](account, mail, "PLAIN").status == 0

    [event] = relay.wait_for_event("message")
    assert event["device"] == account.user
    assert event["sender"] == account.user
    assert event["recipients"].split(",") == list(RECIPIENTS)
    assert event["verdict"] == "accepted"
    assert event["reply"].startswith("250 ")
    assert int(event["size"]) >= len(mail.content)
