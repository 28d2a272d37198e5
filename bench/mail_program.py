"""A mail program: what every contestant is measured with, made of the standard library's smtplib."""

import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

_RECIPIENT = "recipient@example.com"


@dataclass(frozen=True, slots=True)
class Session:
    """One connection with one message: what the mail program's user waits for."""

    seconds: float
    """From before the connection is opened until QUIT is answered, or until the error."""
    error: str = ""
    """The reply's code, or how it broke; "" when the message was accepted."""


@dataclass(frozen=True, slots=True)
class MailProgram:
    """An account in a mail program: STARTTLS, login, one command at a time (smtplib does not pipeline)."""

    host: str
    port: int
    tls: ssl.SSLContext
    sender: str
    log_in: Callable[[smtplib.SMTP], object]

    @contextmanager
    def connection(self, timeout: float = 60.0) -> Iterator[smtplib.SMTP]:
        """Connect and log in; QUIT at the end. `timeout` is in seconds, for each wait."""
        with smtplib.SMTP(self.host, self.port, "client.example.org", timeout) as smtp:
            smtp.starttls(context=self.tls)
            smtp.ehlo()
            self.log_in(smtp)
            yield smtp

    def submit(self, smtp: smtplib.SMTP, content: bytes) -> None:
        """Send one message over a connection."""
        smtp.sendmail(self.sender, [_RECIPIENT], content)

    def session(self, content: bytes, timeout: float = 60.0) -> Session:
        """Send one message over a connection of its own."""
        error = ""
        started = perf_counter()
        try:
            with self.connection(timeout) as smtp:
                self.submit(smtp, content)
        except (smtplib.SMTPException, OSError) as failure:
            error = describe(failure)
        return Session(perf_counter() - started, error)


def describe(failure: smtplib.SMTPException | OSError) -> str:
    """Return a short name for a failure, the same for all of its kind."""
    if isinstance(failure, smtplib.SMTPRecipientsRefused):
        code, _ = next(iter(failure.recipients.values()))
        return f"reply {code}"
    if isinstance(failure, smtplib.SMTPResponseException):
        return f"reply {failure.smtp_code}"
    return "timed out" if "timed out" in str(failure) else type(failure).__name__
