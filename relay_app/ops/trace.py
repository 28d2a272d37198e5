"""The story of a message, for `smtp-relay trace`: who handed it in, each attempt, what was said and why."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loading SQLAlchemy is the caller's business
    from relay_app.storage.journal import Attempt, Entry

_ENDINGS = {
    "accepted": "Outlook has taken it.",
    "refused": "It was refused: it is not tried again.",
    "deferred": "It could not be delivered yet: the sender was asked to try again.",
    "uncertain": "The connection was lost at the very end: Outlook may have it or not.",
}
_INDENT = "    "
_RECIPIENTS = 10
"""More than this many recipients are counted, not listed."""


def stories(entries: Sequence["Entry"], text: str) -> str:
    """All that was found for `text`, newest last, as lines of plain text."""
    if not entries:
        return (
            f"No message is known with the id, Message-ID or address {_plain(text)}.\n"
            "The journal goes back 30 days. What was refused before its content was sent is in the log only."
        )
    return "\n\n".join(story(entry) for entry in sorted(entries, key=lambda entry: entry.received))


def story(entry: "Entry") -> str:
    """One message."""
    lines = [
        f"Message {_plain(entry.id)}",
        f"  received    {_time(entry.received)} from {_plain(entry.device)} ({_plain(entry.client)})",
        f"  from        {_plain(entry.sender) or '<>'} through {_plain(entry.mailbox)}",
        f"  to          {_recipients(entry.recipients)}",
        f"  size        {entry.size} octets",
    ]
    if entry.message_id:
        lines.append(f"  Message-ID  {_plain(entry.message_id)}")
    for number, attempt in enumerate(entry.attempts, 1):
        lines += _attempt(number, attempt)
    ending = _ending(entry.attempts)
    return "\n".join([*lines, f"  {ending}"] if ending else lines)


def _attempt(number: int, attempt: "Attempt") -> list[str]:
    lines = [f"  attempt {number}   {_time(attempt.at)}, {attempt.seconds:.1f} s: {_plain(attempt.outcome)}"]
    if attempt.reply:
        lines += [f"{_INDENT}{_plain(line)}" for line in attempt.reply.splitlines()]
    lines += [f"{_INDENT}{_plain(text)}" for text in (attempt.sentence, attempt.action) if text]
    if attempt.cause:
        lines.append(f"{_INDENT}(docs/errors.md: {_plain(attempt.cause)})")
    return lines


def _ending(attempts: Sequence["Attempt"]) -> str:
    if not attempts:
        return "It is on its way, or the relay was stopped meanwhile: no attempt is known."
    return _ENDINGS.get(attempts[-1].outcome, "")


def _recipients(addresses: Sequence[str]) -> str:
    shown = ", ".join(_plain(address) for address in addresses[:_RECIPIENTS])
    more = len(addresses) - _RECIPIENTS
    return f"{shown} and {more} more" if more > 0 else shown


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _plain(text: str) -> str:
    """Nothing that a terminal would obey: some of it was said by strangers."""
    return "".join(_printable(text))


def _printable(text: str) -> Iterable[str]:
    return (character if character.isprintable() else "?" for character in text)
