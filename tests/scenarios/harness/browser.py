"""A real browser: Debian's Chromium, driven by Playwright, and all that it was answered."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, Playwright

from harness import programs

_ARGUMENTS = (
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SECONDS = 120.0
_OTHER_STATUS = "Failed to load resource"  # how Chromium complains of a 403 or 409, which may be meant


class Browser:
    """One Chromium."""

    def __init__(self, playwright: Playwright, directory: Path, *arguments: str) -> None:
        """`directory` is where the records of its visitors go; `arguments` are more of Chromium's own."""
        self._directory = directory
        self._visitors: list[Visitor] = []
        self._chromium = playwright.chromium.launch(
            executable_path=programs.find("chromium"), args=[*_ARGUMENTS, *arguments]
        )

    def visitor(self, **options: Any) -> "Visitor":
        """Somebody with no cookies yet. `options` are those of Playwright's `new_context`."""
        record = self._directory / f"visitor-{len(self._visitors)}.har"
        defaults = {
            "locale": "en-GB",
            "ignore_https_errors": True,
            "viewport": {"width": 1280, "height": 900},
        }
        context = self._chromium.new_context(
            **{**defaults, **options}, record_har_path=record, record_har_content="embed"
        )
        self._visitors.append(Visitor(context, record))
        return self._visitors[-1]

    def stop(self) -> None:
        """Close the windows of all visitors, and end it."""
        for visitor in self._visitors:
            visitor.leave()
        self._chromium.close()


class Visitor:
    """A person at the browser, with cookies of their own."""

    def __init__(self, context: BrowserContext, record: Path) -> None:
        self._context = context
        self._record = record
        self._left = False
        self.complaints: list[str] = []
        """What went wrong in the pages' scripts, or was kept from them by their policy (CSP)."""
        context.set_default_timeout(1000 * _SECONDS)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", lambda said: self._heard(said.type, said.text))

    def tab(self) -> Page:
        """A new tab."""
        return self._context.new_page()

    def leave(self) -> None:
        """Close all tabs."""
        if not self._left:
            self._left = True
            self._context.close()

    def answers(self, site: str) -> Sequence[str]:
        """What a site has answered (its address is `site`), status line, fields and body. Leaves first."""
        self.leave()
        entries = json.loads(self._record.read_text())["log"]["entries"]
        return [_text(each["response"]) for each in entries if each["request"]["url"].startswith(site)]

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error" and not text.startswith(_OTHER_STATUS):
            self.complaints.append(text)


def _text(response: dict[str, Any]) -> str:
    fields = [f"{each['name']}: {each['value']}" for each in response["headers"]]
    return "\n".join([str(response["status"]), *fields, "", response["content"].get("text", "")])
