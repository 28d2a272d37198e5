"""Only CRLF.CRLF ends a message: nobody hides a second one in a first (the CVE-2023-51764 family)."""

import pytest
from harness.clients import signed_in
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control

# What some server has taken for the end of a message: a dot between ends of line that are none.
ENDINGS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "NUL": b"\r\n\0.\r\n",
    "dot NUL": b"\r\n.\0\r\n",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_false_ending_ends_nothing(
    shared_relay: Relay, sandbox: Control, planted: Planted, ending: bytes
) -> None:
    user = shared_relay.account.user
    smuggled = (
        f"MAIL FROM:<{user}>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n"
        f"From: {user}\r\nSubject: smuggled\r\n\r\n"
    ).encode()
    mail = letter(planted, user, "friend@example.net")
    with signed_in(shared_relay.account) as client:
        client.mail(mail.sender)
        client.rcpt(mail.recipients[0])
        assert client.docmd("DATA")[0] == 354
        client.send(mail.content + b"one" + ending + smuggled + b"\r\n.\r\n")
        code, _ = client.getreply()
        # One reply, and the session is where it should be: nothing of the content was read as a command.
        assert client.noop() == (250, b"2.0.0 OK")

    messages = sandbox.messages()
    assert [recipient for message in messages for recipient in message.recipients] in (
        [],
        ["friend@example.net"],
    )
    assert code == (250 if messages else 550)
    for message in messages:
        stripped = message.content.replace(b"\r\n", b"")
        assert b"\r" not in stripped
        assert b"\n" not in stripped
        assert b"\0" not in stripped


@pytest.mark.parametrize("octet", [b"\n", b"\r", b"\0"], ids=["LF", "CR", "NUL"])
def test_what_some_server_would_take_for_a_line_ending_is_refused(
    shared_relay: Relay, sandbox: Control, planted: Planted, octet: bytes
) -> None:
    user = shared_relay.account.user
    mail = letter(planted, user)
    with signed_in(shared_relay.account) as client:
        client.mail(mail.sender)
        client.rcpt(mail.recipients[0])
        client.docmd("DATA")
        client.send(mail.content + b"one" + octet + b"two\r\n.\r\n")
        code, text = client.getreply()
    assert (code, text[:5]) == (550, b"5.6.0")
    assert sandbox.messages() == []


@pytest.mark.parametrize("octet", [b"\r", b"\0", b"\x7f"], ids=["CR", "NUL", "DEL"])
def test_no_command_hides_in_an_address(
    shared_relay: Relay, sandbox: Control, planted: Planted, octet: bytes
) -> None:
    mail = letter(planted, shared_relay.account.user)
    with signed_in(shared_relay.account) as client:
        client.mail(mail.sender)
        client.send(b"RCPT TO:<a" + octet + b"RCPT TO:<victim@example.net>\r\n")
        assert client.getreply()[0] in (500, 501, 553)
        assert client.rcpt("friend@example.net")[0] == 250
        assert client.data(mail.content)[0] == 250
    [message] = sandbox.messages()
    assert message.recipients == ["friend@example.net"]
