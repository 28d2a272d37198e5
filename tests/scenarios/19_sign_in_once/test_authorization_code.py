"""Signing in with a link: on another machine, with mistakes, in two tabs at once, as somebody else."""

import re
from collections.abc import Callable

import pytest
from harness.browser import Visitor
from harness.clients import CLIENTS, Sent
from harness.console import HERE, Console, agree, choose_account, open_console
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay
from playwright.sync_api import Page

from sandbox.client import Control


@pytest.fixture
def relay(start_relay: Callable[..., Relay]) -> Relay:
    return start_relay()


@pytest.fixture
def mailbox(settings: dict[str, str]) -> str:
    return settings["USER_EMAIL"]


@pytest.fixture
def console(relay: Relay, visitor: Visitor, console_url: str) -> Console:
    """The page of a sign-in that has just begun."""
    return _begun(visitor, console_url)


def _begun(visitor: Visitor, url: str) -> Console:
    console = open_console(visitor, url)
    console.begin_sign_in(HERE)
    return console


def _link(console: Console) -> str:
    link = console.link_to_microsoft.get_attribute("href")
    assert link is not None
    return link


def _ends_up_on(tab: Page, link: str, mailbox: str) -> str:
    """The address in a browser that cannot get back to the console."""
    tab.goto(link)
    with tab.expect_event("requestfailed", lambda request: request.is_navigation_request()) as failed:
        agree(tab, mailbox)
    return str(failed.value.url)


def _send(relay: Relay, planted: Planted) -> Sent:
    return CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user), "PLAIN")


def _mail_flows(relay: Relay, planted: Planted) -> bool:
    return _send(relay, planted).status == 0


def test_on_another_machine_the_address_is_pasted(
    console: Console, visitor: Visitor, elsewhere: Visitor, relay: Relay, mailbox: str, planted: Planted
) -> None:
    """A wrong paste is explained, and the right one still works."""
    address = _ends_up_on(elsewhere.tab(), _link(console), mailbox)
    assert address.startswith(f"{console.url}/sign-in/callback?")
    state = re.compile("(?<=state=)[^&]+")
    other = state.findall(_link(_begun(visitor, console.url)))[0]

    for wrong, explained in (
        (mailbox, "not an address"),
        (_link(console), "Microsoft's sign-in page"),
        (f"{console.url}/sign-in/callback", "no code in it"),
        (address.partition("&state")[0], "cut off"),
        (state.sub(other, address), "another sign-in"),
        (state.sub("older", address), "older sign-in"),
    ):
        console.paste(wrong)
        console.says(explained)
    console.paste(address)

    console.says("Signed in")
    assert _mail_flows(relay, planted)


def test_consent_refused(console: Console, relay: Relay, mailbox: str, planted: Planted) -> None:
    tab = console.to_microsoft()
    choose_account(tab, mailbox)
    tab.locator("#cancel").click()

    for page in (Console(tab, console.url), console):
        page.says("That did not work")
        page.says("AADSTS65004")
    assert not _mail_flows(relay, planted)

    console.press("Start again")
    console.press(HERE)
    agree(console.to_microsoft(), mailbox)
    console.says("Signed in")
    assert _mail_flows(relay, planted)


def test_two_tabs_at_once(
    console: Console, visitor: Visitor, relay: Relay, mailbox: str, planted: Planted
) -> None:
    """Each ends as its own, in whichever order they are completed."""
    second = _begun(visitor, console.url)
    tabs = {each: each.to_microsoft() for each in (console, second)}

    agree(tabs[second], mailbox)
    second.says("Signed in")
    choose_account(tabs[console], mailbox)  # they have agreed in the other tab
    console.says("Signed in")

    assert _mail_flows(relay, planted)


def test_as_somebody_else(
    console: Console, relay: Relay, sandbox: Control, mailbox: str, planted: Planted
) -> None:
    """Nothing is stored before a person has said that it is meant. Outlook has the last word."""
    sandbox.add_account("partner@outlook.com", personal=True)
    agree(console.to_microsoft(), "partner@outlook.com")

    console.says("partner@outlook.com has signed in")
    console.says(f"the mailbox is {mailbox}")
    assert relay.events("signed_in") == []

    console.press("Use this account all the same")
    console.says("Signed in")
    assert "SendAsDenied" in _send(relay, planted).transcript
