"""What became of a delivery attempt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from relay_app.mail.reply import Reply


class Outcome(Enum):
    """The four ways a delivery attempt can end."""

    ACCEPTED = "accepted"
    """The upstream's final 2xx: the message is its responsibility now."""
    REFUSED = "refused"
    """A permanent refusal. Trying again would get the mailbox blocked (Outlook's 550 5.2.25x)."""
    DEFERRED = "deferred"
    """Nothing was delivered; trying again later may work."""
    UNCERTAIN = "uncertain"
    """The connection was lost after the final dot: the upstream may or may not have the message."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one delivery went, in seconds. Zero for what was not needed."""

    queue: float = 0.0
    """Waiting for one of the mailbox's connections."""
    token: float = 0.0
    """Getting an access token."""
    connect: float = 0.0
    """TCP, TLS, EHLO and AUTH."""
    upstream: float = 0.0
    """The mail transaction, from MAIL to the final reply."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one attempt, with the reason in plain words.

    `reply` is what the upstream said; when it said nothing (no connection, no token) it is ours, and
    `upstream` is False. `sentence` says why, `action` what to do; both are "" when there is nothing to add.
    `recipients` has the replies of the recipients that the upstream refused or deferred one by one.
    `key` names the reason, the same for all time: for the log and for docs/errors.md; "" when accepted.
    """

    outcome: Outcome
    reply: Reply
    sentence: str = ""
    action: str = ""
    upstream: bool = True
    recipients: Mapping[str, Reply] = field(default_factory=dict)
    key: str = ""
    timings: Timings = Timings()
