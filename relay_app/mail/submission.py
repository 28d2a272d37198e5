"""One message as a device handed it in."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Envelope:
    """The SMTP envelope (RFC 5321 2.3.1). Addresses without angle brackets."""

    sender: str
    recipients: tuple[str, ...]
    body_8bit: bool = False
    """The client declared BODY=8BITMIME (RFC 6152)."""
    smtputf8: bool = False
    """The client declared SMTPUTF8 (RFC 6531)."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A message on its way: who handed it in, its envelope, its content. Immutable, and never logged whole.

    The content is kept in two pieces so that adding a header field does not copy 35 MB. Neither piece is
    dot-stuffed; every line ends in CRLF.
    """

    id: str
    """Ours: in the log, in the `Received:` field and in the reply to the client."""
    device: str
    mailbox: str
    envelope: Envelope
    header: bytes = field(repr=False)
    """All header fields, up to but without the empty line that ends them."""
    body: bytes | bytearray | memoryview = field(repr=False)
    """What follows the header: the empty line and the body. Empty if the message is all header."""
    client: str
    """The client's real address, for the log."""
    received_at: datetime
    message_id: str = ""
    """The `Message-ID:`, with its brackets."""

    @property
    def size(self) -> int:
        """Octets of content, as the upstream will see them before dot-stuffing."""
        return len(self.header) + len(self.body)
