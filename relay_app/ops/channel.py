"""One way for alerts to reach somebody: a queue, a thread, and patience."""

import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from relay_app.ops.incidents import Message

_log = structlog.get_logger()

_CAPACITY = 100
_BACKOFF_FIRST, _BACKOFF_LONGEST = 30.0, 3600.0
_NAP = 60.0
"""Seconds that a thread sleeps at most: the wall clock may be set meanwhile."""


class Sender(Protocol):
    """How a message is sent."""

    label: str

    def send(self, message: Message) -> str:
        """Send, and return "" or why it did not work. May block for long; called in the channel's thread."""
        ...


class Channel:
    """Sends messages one after the other in a thread of its own, and tries again what did not work.

    A newer message about the same thing takes the place of one that still waits; beyond 100 the oldest goes.
    """

    def __init__(
        self, sender: Sender, *, clock: Callable[[], float], sent: Callable[[Message], None]
    ) -> None:
        """`sent` is told, in the channel's thread, which message has gone out."""
        self._sender = sender
        self._clock = clock
        self._sent = sent
        self._waiting: dict[str, Message] = {}
        self._retry_at = 0.0
        self._failures = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, message: Message) -> None:
        """Send this. Returns at once."""
        with self._changed:
            self._waiting.pop(message.key, None)
            self._waiting[message.key] = message
            if len(self._waiting) > _CAPACITY:
                del self._waiting[next(iter(self._waiting))]
                _log.warning("alert_dropped", channel=self._sender.label, reason="too many are waiting")
            if self._thread is None and not self._closed:
                # A daemon: a service that hangs must not keep the program from ending.
                self._thread = threading.Thread(target=self._run, name="alert channel", daemon=True)
                self._thread.start()
            self._changed.notify()

    def look(self) -> None:
        """The clock has moved."""
        with self._changed:
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Stop; wait at most `timeout` seconds for a message that is being sent."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while (message := self._next()) is not None:
            try:
                failure = self._sender.send(message)
            except Exception as error:  # a sender's bug must not silence the channel
                failure = type(error).__name__
            self._note(message, failure)

    def _next(self) -> Message | None:
        """Wait until a message may be sent; None: the channel is closed."""
        with self._changed:
            while not self._closed:
                pause = self._retry_at - self._clock()
                if self._waiting and pause <= 0:
                    return next(iter(self._waiting.values()))
                self._changed.wait(min(pause, _NAP) if self._waiting else None)
            return None

    def _note(self, message: Message, failure: str) -> None:
        with self._changed:
            if failure:
                self._failures += 1
                pause = min(_BACKOFF_FIRST * 2.0 ** min(self._failures - 1, 10), _BACKOFF_LONGEST)
                self._retry_at = self._clock() + pause
            else:
                recovered, self._failures, self._retry_at = bool(self._failures), 0, 0.0
                if self._waiting.get(message.key) is message:
                    del self._waiting[message.key]
        if not failure:
            if recovered:
                _log.info("alert_channel_recovered", channel=self._sender.label)
            self._sent(message)
        elif self._failures == 1:
            _log.warning(
                "alert_channel_failing",
                channel=self._sender.label,
                reason=failure,
                hint="smtp-relay alert test",
            )
