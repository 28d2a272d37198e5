"""Mail goes out, for those who may."""

from __future__ import annotations

import smtplib

WORK = "office@example.org"
RECIPIENT = "somebody@example.net"


def test_a_message_arrives_at_outlook(goes_out) -> None:
    taken = goes_out()
    assert taken.user == WORK
    assert taken.sender == WORK
    assert taken.recipients == [RECIPIENT]
    assert taken.tls.startswith("TLSv1.")


def test_a_password_that_was_written_down_is_good_too(goes_out) -> None:
    assert goes_out("nas", "planted-device-password").user == WORK


def test_a_wrong_password_is_refused(relay) -> None:
    sent = relay.submit(password="wrong")
    assert sent.status != 0
    assert sent.replied("535 5.7.8")


def test_nothing_is_taken_without_a_password(relay) -> None:
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client.ehlo()
        assert not client.has_extn("auth"), "before TLS"
        code, _ = client.mail(WORK)
        assert code == 530


def test_the_console_knows_the_messages(relay, goes_out) -> None:
    goes_out()
    newest = relay.api("messages?limit=1")["messages"][0]
    assert newest["sender"] == WORK
    assert newest["attempts"][-1]["outcome"] == "accepted"
