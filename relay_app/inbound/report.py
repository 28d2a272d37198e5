"""What became of a message that a device handed in: for the journal, the metrics, the alerts."""

from dataclasses import dataclass
from datetime import datetime

from relay_app.delivery.verdict import Verdict
from relay_app.mail.submission import Envelope


@dataclass(frozen=True, slots=True)
class Report:
    """One message and its verdict. Never its content."""

    id: str
    received: datetime
    device: str
    mailbox: str
    client: str
    envelope: Envelope
    size: int
    message_id: str
    """With its brackets; "" if the relay refused the message before it read it."""
    verdict: Verdict
    """The relay's own refusals too: `upstream` is False, `key` is relay-refused."""
    seconds: float
    """From the end of the message to the verdict."""
