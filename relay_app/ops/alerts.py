"""Alerts: tell the owner what is wrong, through the channels in RELAY_ALERT_URLS.

Nothing here blocks its caller: a thread decides what is to be said, and each channel sends in one of its own.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from relay_app.ops.channel import Channel, Sender
from relay_app.ops.incidents import Incidents, IncidentStore, Message
from relay_app.ops.sender import AppriseSender

_log = structlog.get_logger()

_NAP = 60.0
"""Seconds that the thread sleeps at most: the wall clock may be set meanwhile."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """What became of a test message on one channel."""

    __test__ = False  # not for pytest
    channel: str
    """Its place in the settings and its kind, as `1 (ntfy)`: never the URL."""
    failure: str
    """"" when it was sent."""


class Alerting(Protocol):
    """What the rest of the relay sees. Any thread may call it; nothing blocks, nothing raises."""

    configured: bool
    """False: nobody is told anything."""

    def begin(
        self, key: str, title: str, body: str, *, settle: float = 0.0, stage: str = "", remind: bool = True
    ) -> None:
        """Something is wrong. To be said again and again while it lasts (at least after each start of the
        program: what is not said is not reminded of); see `Incidents.begin` for what the rest means."""
        ...

    def end(self, key: str, title: str, body: str) -> None:
        """It is over. Nothing is told if it was not known to be wrong."""
        ...

    def close(self, timeout: float = 1.0) -> None: ...


class NoAlerts:
    """When no channel is configured."""

    configured = False

    def begin(
        self, key: str, title: str, body: str, *, settle: float = 0.0, stage: str = "", remind: bool = True
    ) -> None:
        """Nobody is told."""

    def end(self, key: str, title: str, body: str) -> None:
        """Nobody is told."""

    def close(self, timeout: float = 1.0) -> None:
        """Nothing runs."""


class Alerts:
    """Incidents on their way to the channels."""

    configured = True

    def __init__(
        self,
        urls: Sequence[str],
        *,
        store: IncidentStore,
        origin: str,
        clock: Callable[[], float] = time.time,
        sender: Callable[[str, int], Sender] = AppriseSender,
    ) -> None:
        """`urls` are Apprise's; `origin` is named in each message: the relay's host name."""
        self._store = store
        self._origin = origin
        self._clock = clock
        self._incidents = self._load()
        self._changed = threading.Condition()
        self._unsaved = False
        self._unseen = True
        self._closed = False
        self._store_works = True
        self._channels = [
            Channel(sender(url, number), clock=clock, sent=self._heard) for number, url in enumerate(urls, 1)
        ]
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()

    def begin(
        self, key: str, title: str, body: str, *, settle: float = 0.0, stage: str = "", remind: bool = True
    ) -> None:
        with self._changed:
            before = self._incidents.next_due()
            self._incidents.begin(
                key, title, body, now=self._clock(), settle=settle, stage=stage, remind=remind
            )
            self._wake_if(self._incidents.next_due() < before)

    def end(self, key: str, title: str, body: str) -> None:
        with self._changed:
            before = self._incidents.next_due()
            self._incidents.end(key, title, body, now=self._clock())
            self._wake_if(self._incidents.next_due() != before)

    def open(self) -> list[str]:
        """The keys of what is wrong and has been told."""
        with self._changed:
            return self._incidents.open()

    def look(self) -> None:
        """The clock has moved."""
        with self._changed:
            self._wake_if(True)
        for channel in self._channels:
            channel.look()

    def close(self, timeout: float = 1.0) -> None:
        """Stop. `timeout`: seconds that the thread, and each channel, gets for what it is doing."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        for channel in self._channels:
            channel.close(timeout)

    def _wake_if(self, changed: bool) -> None:
        if changed:
            self._unseen = True
            self._changed.notify()

    def _heard(self, message: Message) -> None:
        """Called by a channel."""
        with self._changed:
            self._incidents.heard(message)
            self._unsaved = True
            self._wake_if(True)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._unseen or self._closed):
                    pause = min(self._incidents.next_due() - self._clock(), _NAP)
                    if pause <= 0 or not self._changed.wait(pause):
                        break
                self._unseen = False
                messages = [] if self._closed else self._incidents.due(self._clock())
                self._unsaved = self._unsaved or bool(messages)
                data = self._incidents.dump() if self._unsaved else None
                closed = self._closed
            for message in messages:
                self._tell(message)
            if data is not None:
                self._save(data)
            if closed:
                return

    def _tell(self, message: Message) -> None:
        body = f"{message.body}\n\nFrom the SMTP relay on {self._origin}."
        for channel in self._channels:
            channel.put(Message(message.key, message.title, body))

    def _load(self) -> Incidents:
        try:
            return Incidents(self._store.load())
        except Exception as error:  # whatever it is: mail is more important than alerts
            _log.warning(
                "alert_state_lost",
                error=type(error).__name__,
                consequence="what is still wrong is told again",
            )
            return Incidents()

    def _save(self, data: bytes) -> None:
        try:
            self._store.save(data)
        except Exception as error:  # tried again with the next change, or in a minute
            if self._store_works:
                _log.warning(
                    "alert_state_not_saved",
                    error=type(error).__name__,
                    consequence="after a restart, alerts are sent again",
                )
            self._store_works = False
            return
        self._store_works = True
        with self._changed:
            self._unsaved = self._unsaved and self._incidents.dump() != data


def send_test(
    urls: Sequence[str], *, origin: str, sender: Callable[[str, int], Sender] = AppriseSender
) -> list[TestResult]:
    """Send one message to each channel, for `smtp-relay alert test`. Blocks until the last one is through."""
    message = Message(
        "test",
        "Test: alerts of the SMTP relay reach you",
        f"Nothing is wrong. Somebody has run: smtp-relay alert test\n\nFrom the SMTP relay on {origin}.",
    )
    results = []
    for number, url in enumerate(urls, 1):
        one = sender(url, number)
        results.append(TestResult(one.label, one.send(message)))
    return results
