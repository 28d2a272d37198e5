"""A device that hands in one message after another while something is done to the relay."""

from __future__ import annotations

import secrets
import smtplib
import ssl
import threading
import time
from dataclasses import dataclass, field

PAUSE = 0.2  # seconds between two messages of one client
MOST = 1500  # messages of one client, so that it ends whatever happens


@dataclass
class Submitter:
    """It comes again when it is not let in. It trusts whatever certificate it is shown."""

    port: int
    login: str
    """also the sender"""
    password: str = field(repr=False)
    promised: list[str] = field(default_factory=list)
    """the subjects that were answered with 250"""
    moments: list[float] = field(default_factory=list)
    """when each of them was"""
    turned_away: list[float] = field(default_factory=list)
    """when it was not let in"""

    def run(self, enough: threading.Event) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for _ in range(MOST):
            if enough.wait(PAUSE):
                return
            subject = f"under load {secrets.token_hex(8)}"
            content = (
                f"From: {self.login}\r\nTo: somebody@example.net\r\nSubject: {subject}\r\n\r\nA test.\r\n"
            )
            try:
                with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as session:
                    session.starttls(context=context)
                    session.login(self.login, self.password)
                    session.sendmail(self.login, ["somebody@example.net"], content)
            except (OSError, smtplib.SMTPException):
                self.turned_away.append(time.monotonic())
            else:
                self.promised.append(subject)
                self.moments.append(time.monotonic())
