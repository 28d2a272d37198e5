"""Messages to submit, each with words that must appear in no log."""

import secrets

from harness.clients import Mail
from harness.planted import Planted


def letter(
    planted: Planted,
    sender: str,
    *recipients: str,
    header_from: str | None = None,
    fields: tuple[str, ...] = (),
    body: bytes = b"",
) -> Mail:
    """Build a plain message with CRLF line ends. `body` is added to a line that is this message's own."""
    recipients = recipients or ("somebody@example.net",)
    header = [
        f"From: {sender if header_from is None else header_from}",
        f"To: {', '.join(recipients[:3])}",
        f"Subject: {planted.make('subject')}",
        "Date: Mon, 02 Nov 2026 10:00:00 +0000",
        f"Message-ID: <{secrets.token_hex(12)}@client.test>",
        *fields,
        "",
        planted.make("body"),
        "",
    ]
    return Mail(sender, tuple(recipients), "\r\n".join(header).encode() + body)


def body_of(content: bytes) -> bytes:
    """What follows the header of a message, whichever way its lines end."""
    return content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
