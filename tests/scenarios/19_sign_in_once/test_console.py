"""The console as such: its password, and its languages."""

import re
from collections.abc import Callable

import pytest
from harness.browser import Browser, Visitor
from harness.console import Console, open_console
from harness.planted import Planted
from harness.relay import Relay
from playwright.sync_api import expect

_PATHS = ("/", "/sign-in/{mailbox}", "/gmail", "/devices", "/messages")


def _log_in(console: Console, password: str) -> None:
    console.page.get_by_label("Password of the console").fill(password)
    console.press("Log in")


def test_password(
    start_relay: Callable[..., Relay], visitor: Visitor, console_url: str, planted: Planted
) -> None:
    """Nothing is shown without it, and nothing after logging out."""
    password = planted.make("console password")
    relay = start_relay(RELAY_WEB_PASSWORD=password)
    console = open_console(visitor, console_url)
    console.open("/devices")
    expect(console.page).to_have_url(re.compile("/login"))

    _log_in(console, "a wrong one")
    console.says("That password is wrong.")
    _log_in(console, password)
    expect(console.page).to_have_url(f"{console_url}/devices")
    console.says(relay.settings["USER_EMAIL"])

    console.press("Log out")
    expect(console.page).to_have_url(re.compile("/login"))
    console.open("/devices")
    expect(console.page).to_have_url(re.compile("/login"))
    assert [event["client"] for event in relay.events("console_login_failed")] == ["127.0.0.1"]


@pytest.fixture
def german(browser: Browser) -> Visitor:
    return browser.visitor(locale="de-DE")


def test_german(
    start_relay: Callable[..., Relay], german: Visitor, console_url: str, planted: Planted
) -> None:
    """The browser's language decides, until somebody chooses the other one."""
    relay = start_relay()
    console = open_console(german, console_url)
    pages = console.page.locator("header nav")
    console.says("Postfächer")
    console.says("Es kann keine Mail hinausgehen")
    for path in _PATHS:
        console.open(path.format(mailbox=relay.settings["USER_EMAIL"]))
        expect(console.page.locator("html")).to_have_attribute("lang", "de")
        expect(pages).to_contain_text("Geräte")
        expect(pages).not_to_contain_text("Devices")

    console.press("English")

    expect(console.page.locator("html")).to_have_attribute("lang", "en")
    expect(pages).to_contain_text("Devices")
    assert planted.found_in("\n".join(german.answers(console_url))) == []
    assert german.complaints == []
