"""A channel's patience: order, retries, what takes another's place."""

import threading
import time

import pytest
import structlog

from relay_app.ops.channel import Channel
from relay_app.ops.incidents import Message

PATIENCE = 20.0


def until(condition):
    """Wait for what nobody announces."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


class Sender:
    """Takes messages; `failure` and `error` make it fail, `gate` makes it hang."""

    label = "1 (fake)"

    def __init__(self):
        self.failure, self.error, self.sent, self.attempts = "", None, [], 0
        self.gate = threading.Event()
        self.gate.set()
        self.changed = threading.Condition()

    def send(self, message):
        with self.changed:
            self.attempts += 1
            self.changed.notify_all()
        self.gate.wait(PATIENCE)
        if self.error:
            raise self.error
        return self.failure

    def note(self, message):
        with self.changed:
            self.sent.append(message.title)
            self.changed.notify_all()

    def wait_for(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE), (self.attempts, self.sent)


@pytest.fixture
def sender():
    return Sender()


@pytest.fixture
def channel(sender, clock):
    made = Channel(sender, clock=clock, sent=sender.note)
    yield made
    sender.gate.set()
    made.close(PATIENCE)


@pytest.fixture
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


def retried(sender, channel, clock, seconds, attempts):
    """Move the clock and see that by then so many attempts were made."""
    clock.now += seconds
    channel.look()
    sender.wait_for(lambda: sender.attempts == attempts)


def test_in_order(channel, sender):
    for number in range(3):
        channel.put(Message(f"k{number}", f"{number}", ""))
    sender.wait_for(lambda: len(sender.sent) == 3)
    assert sender.sent == ["0", "1", "2"]


def settled(channel, failures):
    """Wait until the channel has taken note of so many failures."""
    until(lambda: channel._failures == failures)


def test_retries_with_back_off(channel, sender, clock, logs):
    sender.failure = "the service answered with HTTP status 500"
    channel.put(Message("k", "title", ""))
    sender.wait_for(lambda: sender.attempts == 1)
    pauses = []
    for attempt in range(1, 10):
        settled(channel, attempt)
        pauses.append(channel._retry_at - clock.now)
        retried(sender, channel, clock, pauses[-1], attempt + 1)
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    settled(channel, 10)
    sender.failure = ""
    clock.now += 3600
    channel.look()
    sender.wait_for(lambda: sender.sent == ["title"])
    assert [entry["event"] for entry in logs] == ["alert_channel_failing", "alert_channel_recovered"]
    assert logs[0]["channel"] == "1 (fake)"
    assert logs[0]["reason"] == "the service answered with HTTP status 500"


def test_does_not_retry_too_soon(channel, sender, clock):
    sender.failure = "no"
    channel.put(Message("a", "a", ""))
    sender.wait_for(lambda: sender.attempts == 1)
    settled(channel, 1)
    clock.now += 29
    channel.put(Message("b", "b", ""))
    channel.look()
    channel.close(PATIENCE)
    assert sender.attempts == 1


def test_a_newer_message_takes_the_place_of_one_that_waits(channel, sender):
    sender.gate.clear()
    channel.put(Message("busy", "busy", ""))
    sender.wait_for(lambda: sender.attempts == 1)
    channel.put(Message("k", "begins", ""))
    channel.put(Message("other", "other", ""))
    channel.put(Message("k", "is over", ""))
    sender.gate.set()
    sender.wait_for(lambda: len(sender.sent) == 3)
    assert sender.sent == ["busy", "other", "is over"]


def test_a_newer_message_while_the_old_one_is_sent(channel, sender):
    sender.gate.clear()
    channel.put(Message("k", "begins", ""))
    sender.wait_for(lambda: sender.attempts == 1)
    channel.put(Message("k", "is over", ""))
    sender.gate.set()
    sender.wait_for(lambda: len(sender.sent) == 2)
    assert sender.sent == ["begins", "is over"]


def test_bounded(channel, sender, logs):
    sender.gate.clear()
    channel.put(Message("busy", "busy", ""))
    sender.wait_for(lambda: sender.attempts == 1)
    for number in range(102):
        channel.put(Message(f"k{number}", f"{number}", ""))
    sender.gate.set()
    sender.wait_for(lambda: sender.sent[-1:] == ["101"])
    assert sender.sent[:2] == ["busy", "2"]
    assert [entry["event"] for entry in logs] == ["alert_dropped"] * 3


def test_a_sender_that_breaks(channel, sender, clock, logs):
    sender.error = ValueError("with a secret")
    channel.put(Message("k", "title", ""))
    sender.wait_for(lambda: sender.attempts == 1)
    settled(channel, 1)
    sender.error = None
    clock.now += 30
    channel.look()
    sender.wait_for(lambda: sender.sent == ["title"])
    assert logs[0]["reason"] == "ValueError"
    assert "with a secret" not in str(logs)


def test_close_does_not_wait_for_what_hangs(channel, sender):
    sender.gate.clear()
    channel.put(Message("k", "title", ""))
    sender.wait_for(lambda: sender.attempts == 1)
    channel.close(0)
    assert sender.sent == []


def test_closed_before_anything(clock, sender):
    channel = Channel(sender, clock=clock, sent=sender.note)
    channel.close(PATIENCE)
    channel.put(Message("k", "title", ""))
    assert channel._thread is None
