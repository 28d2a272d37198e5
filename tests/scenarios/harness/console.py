"""The relay's console as a person uses it, and Microsoft's pages as the sandbox shows them."""

import re

import requests
from playwright.sync_api import Locator, Page, expect

from harness.browser import Visitor
from harness.programs import SECONDS_TO_START

expect.set_options(timeout=1000 * SECONDS_TO_START)

BY_CODE = "Get a code"
HERE = "Go on in this browser"


class Console:
    """One tab with the console in it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    def open(self, path: str = "/") -> None:
        """Type an address."""
        self.page.goto(self.url + path)

    def press(self, name: str) -> None:
        """Press the button, or follow the link, of this name."""
        both = self.page.get_by_role("button", name=name, exact=True)
        both.or_(self.page.get_by_role("link", name=name, exact=True)).click()

    def begin_sign_in(self, way: str) -> None:
        """From the overview to the page of a new sign-in. `way` is the button to press."""
        self.open()
        self.page.get_by_role("link", name=re.compile("^Sign in")).click()
        self.press(way)
        expect(self.page).to_have_url(re.compile("/sign-ins/"))

    def to_microsoft(self) -> Page:
        """Follow this sign-in's link, which opens in a new tab."""
        with self.page.expect_popup() as opened:
            self.link_to_microsoft.click()
        return opened.value

    @property
    def link_to_microsoft(self) -> Locator:
        return self.page.locator("#live a.button.primary")

    def paste(self, address: str) -> None:
        """Paste the address that another browser ended up on."""
        self.page.get_by_label("The address you ended up on").fill(address)
        self.press("Complete the sign-in")

    def says(self, text: str | re.Pattern[str]) -> None:
        """Wait until the page says this."""
        expect(self.page.locator("main")).to_contain_text(text)


def choose_account(tab: Page, account: str) -> None:
    """Microsoft's first page."""
    tab.locator(f'[data-address="{account}"]').click()


def agree(tab: Page, account: str) -> None:
    """Microsoft's pages for the browser, of somebody who has not agreed before."""
    choose_account(tab, account)
    tab.locator("#accept").click()


def type_code(tab: Page, code: str, account: str) -> None:
    """Microsoft's pages for a device, of somebody who has not agreed before."""
    tab.locator("#code").fill(code)
    tab.locator("#next").click()
    choose_account(tab, account)
    tab.locator("#continue").click()
    tab.locator("#accept").click()
    expect(tab.locator("#done")).to_be_visible()


def open_console(visitor: Visitor, url: str) -> Console:
    """A new tab, at the overview."""
    console = Console(visitor.tab(), url)
    console.open()
    return console


class Api:
    """The console's JSON, as a program asks for it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> str:
        """The body of an answer that must be a success."""
        return self._call("GET", path)

    def post(self, path: str) -> str:
        return self._call("POST", path)

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str) -> str:
        answer = self._http.request(method, self._url + path, timeout=SECONDS_TO_START)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.text
