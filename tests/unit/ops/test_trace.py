"""A message's story."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay_app.ops.trace import stories, story
from relay_app.storage.journal import Attempt, Entry

AT = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC)
ATTEMPT = Attempt(
    at=AT + timedelta(seconds=2),
    seconds=1.25,
    outcome="refused",
    reply="550-5.7.60 Client does not have permissions\n550 5.7.60 to send as this sender",
    sentence="Outlook does not let this mailbox send as x@example.org.",
    action="Add the address to the mailbox.",
    cause="send-as-denied",
)
ENTRY = Entry(
    id="m-1",
    received=AT,
    device="gmail",
    mailbox="me@outlook.com",
    client="192.0.2.1",
    sender="x@example.org",
    recipients=("a@example.org", "b@example.org"),
    size=1234,
    message_id="<1@mail.gmail.com>",
    attempts=(ATTEMPT,),
)


def test_story():
    assert story(ENTRY).splitlines() == [
        "Message m-1",
        "  received    2027-01-15 08:00:00 UTC from gmail (192.0.2.1)",
        "  from        x@example.org through me@outlook.com",
        "  to          a@example.org, b@example.org",
        "  size        1234 octets",
        "  Message-ID  <1@mail.gmail.com>",
        "  attempt 1   2027-01-15 08:00:02 UTC, 1.2 s: refused",
        "    550-5.7.60 Client does not have permissions",
        "    550 5.7.60 to send as this sender",
        "    Outlook does not let this mailbox send as x@example.org.",
        "    Add the address to the mailbox.",
        "    (docs/errors.md: send-as-denied)",
        "  It was refused: it is not tried again.",
    ]


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        ("accepted", "Outlook has taken it."),
        ("deferred", "the sender was asked to try again"),
        ("uncertain", "Outlook may have it or not"),
        ("kept", "1.2 s: kept"),
    ],
)
def test_endings(outcome, ending):
    bare = replace(ATTEMPT, outcome=outcome, reply="", sentence="", action="", cause="")
    text = story(replace(ENTRY, attempts=(ATTEMPT, bare)))
    assert ending in text.splitlines()[-1]


def test_little_is_known():
    text = story(replace(ENTRY, sender="", message_id="", attempts=()))
    assert "  from        <> through me@outlook.com" in text
    assert "Message-ID" not in text
    assert text.endswith("no attempt is known.")


def test_many_recipients():
    many = tuple(f"r{number}@example.org" for number in range(12))
    assert "r9@example.org and 2 more" in story(replace(ENTRY, recipients=many))
    assert "more" not in story(replace(ENTRY, recipients=many[:10])).splitlines()[3]


def test_nothing_that_a_terminal_would_obey():
    text = story(
        replace(
            ENTRY,
            message_id="<\x1b[2J>",
            client="\x9b",
            attempts=(replace(ATTEMPT, reply="550 \x1b]0;x\x07"),),
        )
    )
    assert all(line.isprintable() for line in text.splitlines())
    assert "<?[2J>" in text


def test_stories_in_the_order_of_time():
    older = replace(ENTRY, id="m-0", received=AT - timedelta(hours=1))
    text = stories([ENTRY, older], "example.org")
    assert text.index("Message m-0") < text.index("Message m-1")


def test_nothing_found():
    text = stories([], "who\x1b@example.org")
    assert text.startswith("No message is known with the id, Message-ID or address who?@example.org.")
    assert "30 days" in text
