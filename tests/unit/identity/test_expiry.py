"""When a client secret or certificate ends, and what is said when."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest

from relay_app.identity.expiry import REMINDERS, credential_expires, reminder
from relay_app.settings import Flow, MailboxSettings

MAILBOX = MailboxSettings("me@outlook.com", Flow.AUTHORIZATION_CODE, "consumers", "app")
END = date(2027, 5, 31)


def test_the_end_of_a_secret_is_what_the_settings_say() -> None:
    assert credential_expires(MAILBOX) is None
    assert credential_expires(replace(MAILBOX, client_secret="s" * 12, secret_expires=END)) == END


def test_a_certificate_says_itself_when_it_ends(key_pair: tuple[Path, Path]) -> None:
    mailbox = replace(MAILBOX, client_cert=key_pair[0], client_key=key_pair[1], secret_expires=END)
    assert credential_expires(mailbox) == date(2030, 3, 1)


def test_a_certificate_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    assert credential_expires(replace(MAILBOX, client_cert=missing, client_key=missing)) is None


@pytest.mark.parametrize(
    ("days", "due"),
    [(400, None), (31, None), (30, 30), (15, 30), (14, 14), (8, 14), (7, 7), (2, 7), (1, 1), (0, 1), (-1, 0)],
)
def test_the_reminder_that_is_due(days: int, due: int | None) -> None:
    noon = datetime(END.year, END.month, END.day, 12, tzinfo=UTC) - timedelta(days=days)
    assert reminder(END, noon) == due


def test_each_reminder_comes_once_and_in_order() -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    told = [reminder(END, start + timedelta(hours=hours)) for hours in range(24 * 160)]
    changes = [each for before, each in pairwise(told) if each != before]
    assert changes == [*reversed(REMINDERS), 0]


def test_days_are_counted_in_utc() -> None:
    late = datetime(2027, 5, 31, 23, tzinfo=timezone(timedelta(hours=-5)))  # 04:00 UTC of the day after
    assert reminder(END, late) == 0
