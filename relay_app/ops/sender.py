"""Sends messages through Apprise, to one URL. Never says anything that could be a secret of the URL."""

import logging
import re
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

from relay_app.ops.incidents import Message

if TYPE_CHECKING:
    from types import ModuleType

_SCHEMA = re.compile(r"([a-z][a-z0-9+.-]{0,19})://", re.IGNORECASE)
_STATUS = re.compile(r"\berror=(\d{3})\b")
_warnings: ContextVar[list[str] | None] = ContextVar("apprise_warnings", default=None)


class AppriseSender:
    """One Apprise URL. Blocks while it sends; Apprise is loaded with the first message."""

    def __init__(self, url: str, number: int) -> None:
        """`number`: its place in the settings, counted from 1."""
        self._url = url
        schema = _SCHEMA.match(url)
        self.label = f"{number} ({schema[1].lower()})" if schema else str(number)
        """How logs and reports call it: nothing but the place and the kind."""

    def send(self, message: Message) -> str:
        """Send, and return "" or why it did not work."""
        apprise = _load()
        channel = apprise.Apprise(asset=apprise.AppriseAsset(app_id="smtp-relay", service_timeout=0))
        collected: list[str] = []
        token = _warnings.set(collected)
        try:
            if not channel.add(self._url):
                return UNUSABLE
            sent = channel.notify(
                title=message.title, body=message.body, body_format=apprise.NotifyFormat.TEXT
            )
        except Exception as error:
            return f"{type(error).__name__} within Apprise"  # its text may quote the URL
        finally:
            _warnings.reset(token)
        return "" if sent else _reason(collected)


UNUSABLE = "Apprise does not understand this URL; see https://appriseit.com/services/ for how to write it"


def _reason(collected: list[str]) -> str:
    """What went wrong. Only the HTTP status is taken from Apprise's words: the rest may quote the URL."""
    for text in reversed(collected):
        if match := _STATUS.search(text):
            return f"the service answered with HTTP status {match[1]}"
    return "the service could not be reached, did not answer in time, or refused the message"


class _Collector(logging.Handler):
    """Keeps Apprise's warnings for whoever is sending, instead of logging them: they may quote URLs."""

    def emit(self, record: logging.LogRecord) -> None:
        collected = _warnings.get()
        if collected is not None:
            collected.append(record.getMessage())


@cache
def _load() -> "ModuleType":
    """Import Apprise (it takes a second) and make it quiet."""
    import apprise

    log = logging.getLogger("apprise")
    log.handlers[:] = [_Collector(logging.WARNING)]
    log.propagate = False
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # its warnings quote URLs
    return apprise
