"""Totals since the start or the last reset."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class SmtpCounts:
    """What Outlook's SMTP server saw."""

    connections: int = 0
    connections_now: int = 0
    authenticated_peak: int = 0
    """The most authenticated connections at one time, all mailboxes together."""
    mailbox_peak: dict[str, int] = field(default_factory=dict)
    """The same for each mailbox, by its address in lower case."""
    auth_attempts: int = 0
    auth_failures: int = 0
    messages: int = 0
    messages_refused: int = 0
    """Refused at the end of DATA."""
    octets: int = 0
    """Content of the messages taken."""


@dataclass(slots=True)
class EntraCounts:
    """What Entra was asked."""

    discovery_requests: int = 0
    token_requests: int = 0
    tokens_granted: int = 0
    by_grant: dict[str, int] = field(default_factory=dict)
    """Token requests by `grant_type`."""
    in_flight: int = 0
    """Token requests that wait for an answer now."""
    in_flight_peak: int = 0


@dataclass(slots=True)
class Counters:
    """Both."""

    smtp: SmtpCounts
    entra: EntraCounts
