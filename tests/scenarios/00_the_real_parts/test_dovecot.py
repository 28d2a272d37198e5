"""Dovecot and smtp-sink do what the other scenarios take for granted."""

import secrets
import smtplib
import ssl

import pytest
from harness.certificates import Authority
from harness.dovecot import Dovecot
from harness.smtp_sink import SmtpSink

USER = "me@example.com"


def _xoauth2(client: smtplib.SMTP, token: str) -> tuple[int, bytes]:
    # The initial response, then the empty answer to the 334 that carries an error.
    answers = iter([f"user={USER}\x01auth=Bearer {token}\x01\x01", ""])
    return client.auth("XOAUTH2", lambda challenge=None: next(answers))


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.bundle))


def test_a_message_sent_with_a_good_token_arrives(
    dovecot: Dovecot, sink: SmtpSink, context: ssl.SSLContext
) -> None:
    with smtplib.SMTP(dovecot.host, dovecot.port, timeout=30) as client:
        client.starttls(context=context)
        client.ehlo()
        assert _xoauth2(client, dovecot.token(USER))[0] == 235
        client.sendmail(USER, ["a@example.net", "b@example.net"], "Subject: hello\r\n\r\n.dots\r\n..\r\n")

    [message] = sink.messages()
    assert message.sender == USER
    assert message.recipients == ("a@example.net", "b@example.net")
    assert message.content.endswith(b"Subject: hello\n\n.dots\n..\n")


@pytest.mark.parametrize("fault", ["another key", "expired", "another user"])
def test_a_bad_token_is_refused(
    dovecot: Dovecot, sink: SmtpSink, context: ssl.SSLContext, fault: str
) -> None:
    token = {
        "another key": dovecot.token(USER, key=secrets.token_bytes(32)),
        "expired": dovecot.token(USER, lifetime=-30),
        "another user": dovecot.token("somebody.else@example.com"),
    }[fault]
    with smtplib.SMTP(dovecot.host, dovecot.port, timeout=30) as client:
        client.starttls(context=context)
        client.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
            _xoauth2(client, token)
    assert refusal.value.smtp_code == 535
    assert sink.messages() == []
