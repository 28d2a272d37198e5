"""From the first start to a sign-in that is lost and found: everything that an owner sees, in one story."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest
from harness.browser import Visitor
from harness.clients import CLIENTS, Account, Mail, Sent
from harness.console import BY_CODE, HERE, Api, Console, choose_account, open_console, type_code
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay
from harness.webhook import Webhook
from playwright.sync_api import expect

from sandbox.client import Control

_PASSWORD = re.compile(r"^[\w-]{16,}$")


@dataclass
class Owner:
    """Who owns the mailbox, at the console; and their mail."""

    relay: Relay
    console: Console
    sandbox: Control
    planted: Planted

    @property
    def mailbox(self) -> str:
        return self.relay.settings["USER_EMAIL"]

    def send(self, account: Account | None = None, mail: Mail | None = None) -> Sent:
        """Hand a message in with swaks, as the device of the settings unless it is said which."""
        mail = mail or letter(self.planted, self.mailbox)
        return CLIENTS["swaks"](account or self.relay.account, mail, "PLAIN")

    def mail_flows(self) -> None:
        before = len(self.sandbox.messages())
        sent = self.send()
        assert sent.status == 0, sent.transcript
        assert len(self.sandbox.messages()) == before + 1

    def mail_is_refused(self, *reasons: str) -> None:
        sent = self.send()
        assert sent.replied("451"), sent.transcript
        for reason in reasons:
            assert reason in sent.transcript

    # -- sign-ins -------------------------------------------------------------------------------------------

    def sign_in_by_code(self) -> None:
        """The page of the code is left alone in its tab, and notices by itself."""
        self.console.begin_sign_in(BY_CODE)
        code = self.console.page.locator("#live code.value").inner_text()
        type_code(self.console.to_microsoft(), code, self.mailbox)
        self.console.says("Signed in")
        self._is_ready()

    def sign_in_here(self) -> None:
        """Microsoft's tab comes back to the console, and the first tab notices, too."""
        self.console.begin_sign_in(HERE)
        tab = self.console.to_microsoft()
        choose_account(tab, self.mailbox)  # they have agreed before
        Console(tab, self.console.url).says("Signed in")
        assert "code=" not in tab.url
        self.console.says("Signed in")
        self._is_ready()

    def _is_ready(self) -> None:
        self.console.open()
        self.console.says("Everything is ready to send")

    def loses_the_sign_in(self) -> None:
        """Their password was changed: Outlook refuses the token, and Entra gives no other."""
        self.sandbox.revoke(self.mailbox)
        self.sandbox.fail_smtp("auth", reply="535 5.7.3 Authentication unsuccessful")
        self.sandbox.close_idle()

    # -- devices --------------------------------------------------------------------------------------------

    def adds_a_device(self, name: str) -> Account:
        """Its password is shown on this one page, even if that is loaded again."""
        page = self.console.page
        self.console.open("/devices")
        self.console.press("Add a device")
        page.get_by_label("Name").fill(name)
        self.console.press("Add the device")
        self.console.says("Device added")
        password = page.locator("section.password code").inner_text()
        assert _PASSWORD.match(password)
        page.reload()
        expect(page.locator("body")).not_to_contain_text(password)
        return replace(self.relay.account, user=name, password=password)

    def revokes_the_device(self, name: str) -> None:
        page = self.console.page
        self.console.open("/devices")
        page.locator("article", has_text=name).get_by_role("link", name="Revoke").click()
        self.console.press("Revoke it")
        self.console.says("Devices")
        expect(page.get_by_role("heading", name=name)).to_have_count(0)

    # -- messages -------------------------------------------------------------------------------------------

    def finds_the_message(self, mail: Mail, sent: Sent) -> None:
        """By recipient, Message-ID and id. Its story has Outlook's own words."""
        [(words, id)] = re.findall(r"(250 2\.0\.0 OK <\S+>) .*\(relay id (\w+)\)", sent.transcript)
        [message_id] = re.findall(rb"^Message-ID: (\S+)", mail.content, re.MULTILINE)
        for text in (mail.recipients[0], message_id.decode(), id):
            self.console.open("/messages")
            self.console.page.get_by_label("Search").fill(text)
            self.console.press("Search")
            self.console.page.locator("a.message").click()
            self.console.says(words)
            self.console.says(message_id.decode())
        self.console.says("accepted")


@pytest.fixture
def owner(
    start_relay: Callable[..., Relay],
    public_app: Mapping[str, str],
    visitor: Visitor,
    console_url: str,
    sandbox: Control,
    planted: Planted,
) -> Owner:
    return Owner(start_relay(**public_app), open_console(visitor, console_url), sandbox, planted)


def test_from_the_first_start_to_a_sign_in_lost_and_found(
    owner: Owner,
    visitor: Visitor,
    webhook: Webhook,
    api: Api,
    everything_told: Callable[[], str],
) -> None:
    owner.console.says("Mail cannot go out")
    owner.mail_is_refused("Nobody has signed in", "Sign in at the console")

    owner.sign_in_by_code()
    owner.mail_flows()

    scanner = owner.adds_a_device("scanner")
    mail = letter(owner.planted, owner.mailbox, "archive@example.net")
    sent = owner.send(scanner, mail)
    assert sent.status == 0, sent.transcript
    owner.revokes_the_device("scanner")
    assert owner.send(scanner).replied("535")

    owner.loses_the_sign_in()
    owner.mail_is_refused("AADSTS50173")
    owner.console.open()
    owner.console.says("Mail cannot go out")
    owner.console.says("AADSTS50173")
    alert = webhook.wait_for(lambda alert: alert.title == f"Sign {owner.mailbox} in again")
    assert owner.console.url in alert.message

    owner.sign_in_here()
    webhook.wait_for(lambda alert: alert.title == f"{owner.mailbox} is signed in again")
    owner.mail_flows()
    owner.finds_the_message(mail, sent)

    told = "\n".join([everything_told(), owner.relay.log, *visitor.answers(owner.console.url)])
    assert told.count(scanner.password) == 1
