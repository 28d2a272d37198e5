"""Apprise, for real, against a webhook; and what is never said about a URL."""

import logging
import secrets
import sys
import types

import pytest

from relay_app.ops import sender
from relay_app.ops.incidents import Message
from relay_app.ops.sender import UNUSABLE, AppriseSender

MESSAGE = Message("k", "Sign in again", "First line.\n\nSecond <line> & more.")


@pytest.fixture(autouse=True)
def _load_anew():
    sender._load.cache_clear()
    yield
    sender._load.cache_clear()


def test_sends(webhook):
    assert AppriseSender(webhook.url, 1).send(MESSAGE) == ""
    [got] = webhook.messages
    assert (got["title"], got["message"]) == (MESSAGE.title, MESSAGE.body)


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("ntfys://name:password@ntfy.example.org/topic", "1 (ntfys)"),
        ("HTTPS://discord.com/api/webhooks/1/token", "1 (https)"),
        ("no address, but a password", "1"),
        ("://", "1"),
    ],
)
def test_the_label_is_place_and_kind(url, label):
    assert AppriseSender(url, 1).label == label


def test_http_status(webhook):
    webhook.status = 401
    assert AppriseSender(webhook.url, 1).send(MESSAGE) == "the service answered with HTTP status 401"


def test_nobody_listens(webhook):
    webhook.close()
    url = webhook.url
    assert "could not be reached" in AppriseSender(url, 1).send(MESSAGE)


@pytest.mark.parametrize("url", ["nothing://at/all", "not a URL", "tgram://"])
def test_urls_that_apprise_does_not_know(url):
    assert AppriseSender(url, 1).send(MESSAGE) == UNUSABLE


def test_apprise_breaks(monkeypatch, webhook):
    password = secrets.token_hex(8)

    def notify(*_arguments, **_options):
        raise RuntimeError(password)

    apprise = sender._load()
    monkeypatch.setattr(apprise.Apprise, "notify", notify)
    assert AppriseSender(webhook.url, 1).send(MESSAGE) == "RuntimeError within Apprise"


def test_a_secret_of_the_url_is_never_said(webhook, caplog, capfd, monkeypatch):
    user, password, path, value = (secrets.token_hex(8) for _ in range(4))
    logging.captureWarnings(True)
    try:
        address = webhook.url.removeprefix("json://").removesuffix("/hook")
        urls = [
            f"json://{user}:{password}@{address}/{path}?+key={value}",
            f"json://{user}:{password}@127.0.0.1:1/{path}",
            f"nothing://{user}:{password}@host/{path}",
            f"tgram://{password}",
            f"mailto://{user}:{password}@127.0.0.1:1?from={path}",
            f"{password} {path}",
        ]
        webhook.status = 500
        with caplog.at_level(logging.WARNING):
            said = [one.label + one.send(MESSAGE) for one in map(AppriseSender, urls, range(1, 7))]
    finally:
        logging.captureWarnings(False)
    assert webhook.attempts == 1
    everything = "".join([*said, caplog.text, *capfd.readouterr()])
    for secret in (user, password, path, value):
        assert secret not in everything
    assert "HTTP status 500" in said[0]


@pytest.mark.parametrize("name", ["apprise", "urllib3.connectionpool"])
def test_warnings_that_may_quote_urls_are_not_logged(caplog, name):
    sender._load()
    logging.getLogger(name).warning("a URL")
    assert "a URL" not in caplog.text


def test_apprise_is_loaded_late(monkeypatch):
    fake = types.ModuleType("apprise")
    monkeypatch.setitem(sys.modules, "apprise", fake)
    AppriseSender("json://localhost", 1)
    assert sender._load() is fake  # only now
