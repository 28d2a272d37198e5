from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from relay_app.mail.submission import Envelope, Submission


def submission(body):
    return Submission(
        id="id1",
        device="scanner",
        mailbox="box@example.com",
        envelope=Envelope("box@example.com", ("a@example.net",)),
        header=b"Subject: planted\r\n",
        body=body,
        client="192.0.2.1",
        received_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_size_is_header_and_body(kind):
    assert submission(kind(b"\r\nplanted\r\n")).size == 18 + 11


def test_a_message_may_be_all_header():
    assert submission(b"").size == 18


def test_the_content_is_not_in_its_repr():
    text = repr(submission(b"\r\nplanted\r\n"))
    assert "planted" not in text
    assert "id1" in text


def test_submissions_do_not_change():
    with pytest.raises(FrozenInstanceError):
        submission(b"").body = b"other"


def test_envelopes_are_seven_bit_unless_said_otherwise():
    envelope = Envelope("", ())
    assert (envelope.body_8bit, envelope.smtputf8) == (False, False)
