"""When an app's client secret or certificate ends, and which reminder of that is due."""

from datetime import UTC, date, datetime

from relay_app.errors import TokenError
from relay_app.identity.credential import read_certificate
from relay_app.settings import MailboxSettings

REMINDERS = (1, 7, 14, 30)
"""Days before the end, the last one first."""


def credential_expires(mailbox: MailboxSettings) -> date | None:
    """The last day (UTC) of the app's certificate, or of its client secret as far as a setting tells it.

    None: unknown, or there is no credential. A certificate that cannot be read is no error here: the next
    token request says so.
    """
    if mailbox.client_cert is None:
        return mailbox.secret_expires
    try:
        return read_certificate(mailbox.client_cert).not_valid_after_utc.date()
    except TokenError:
        return None


def reminder(expires: date, now: datetime) -> int | None:
    """Which reminder is due: 30, 14, 7 or 1 (so many days before the end, or fewer), or 0 after the last day.

    None: none yet. `now` has a time zone. It is a state, not an event: each number is to be told once.
    """
    left = (expires - now.astimezone(UTC).date()).days
    if left < 0:
        return 0
    return next((days for days in REMINDERS if left <= days), None)
