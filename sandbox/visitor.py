"""A person at the relay's console, without a browser: follows its pages and signs a mailbox in."""

import re
from collections.abc import Callable
from html import unescape
from types import TracebackType
from typing import Self

import requests

from sandbox.client import SandboxError

_SECONDS = 30
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
_LINK = re.compile(r'<a class="button primary" href="([^"]+)" target="_blank"')


class Visitor:
    """One browser's worth of cookies, for a console without a password. `tell` hears of each request."""

    def __init__(self, console: str, ca: str, *, tell: Callable[[str], object] = lambda _line: None) -> None:
        """`console` is its address, such as http://localhost:8025; `ca` the sandbox's CA, a PEM file."""
        self._console = console
        self._tell = tell
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy on the way to this machine, and no other CA
        self._http.verify = ca

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def sign_in(self, mailbox: str) -> None:
        """Sign in with the link (authorization code), as the mailbox's own account, and agree to everything.

        Raises:
            SandboxError: a page cannot be had, or is not as expected.
        """
        choice = f"{self._console}/sign-in/{mailbox}"
        token = _found(_TOKEN, self._visit("GET", choice))
        begun = self._visit("POST", choice, {"csrf_token": token, "kind": "authorization_code"})
        microsoft = _found(_LINK, begun)
        # Redirects to the console's callback, with the code.
        ended = self._visit("POST", microsoft, {"account": mailbox, "decision": "accept"})
        if not ended.url.startswith(self._console) or _LINK.search(ended.text):
            raise SandboxError(f"The sign-in has not ended, but got to {_without_query(ended.url)}.")

    def _visit(self, method: str, url: str, form: dict[str, str] | None = None) -> requests.Response:
        self._tell(f"{method:4} {_without_query(url)}")
        try:
            answer = self._http.request(method, url, data=form, timeout=_SECONDS)
        except requests.RequestException as error:
            what = f"{_without_query(url)} cannot be opened: {type(error).__name__}."
            raise SandboxError(what) from error
        for step in [*answer.history, answer][1:]:
            self._tell(f"  -> {_without_query(step.url)}")
        if not answer.ok:
            raise SandboxError(f"{_without_query(answer.url)} was answered with HTTP {answer.status_code}.")
        return answer


def _without_query(url: str) -> str:
    """An address that can be shown: its parameters may be secrets."""
    path, query, _ = url.partition("?")
    return f"{path}{query and '?...'}"


def _found(pattern: re.Pattern[str], page: requests.Response) -> str:
    match = pattern.search(page.text)
    if match is None:
        raise SandboxError(f"The page {page.url} has not what a sign-in needs.")
    return unescape(match[1])
