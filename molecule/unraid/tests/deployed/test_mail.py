"""Mail that is handed in at the tower's port arrives at Outlook."""

from __future__ import annotations

import smtplib

import pytest


def test_a_message_over_starttls_goes_out(goes_out, outlook) -> None:
    message = goes_out()
    assert message.sender == "office@example.org"
    assert message.recipients == ["somebody@example.net"]


def test_nobody_logs_in_before_starttls(relay) -> None:
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client.ehlo()
        assert "auth" not in client.esmtp_features


def test_a_wrong_password_is_refused(relay) -> None:
    with relay.session() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("office@example.org", "wrong")
