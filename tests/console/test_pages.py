"""Every page, in light and dark, on a phone and a desktop, in English and German.

`make screenshots` takes their pictures, too: look at them after a change of the design.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

SCREENS = os.environ.get("SCREENS")
"""Where the pictures go; without it none are taken."""
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 900}}
LOCALES = {"en": "en-GB", "de": "de-DE"}

PAGES = {
    "overview": "/",
    "sign-in": "/sign-in/me@outlook.com",
    "sign-in-nobody": "/sign-in/office@example.org",
    "sign-in-code": "/sign-ins/code",
    "sign-in-here": "/sign-ins/here",
    "sign-in-done": "/sign-ins/done",
    "sign-in-other": "/sign-ins/other",
    "sign-in-failed": "/sign-ins/failed",
    "gmail": "/gmail?device=scanner",
    "printers": "/gmail/printers",
    "unraid": "/gmail/unraid",
    "msmtp": "/gmail/msmtp",
    "programs": "/gmail/programs?device=scanner",
    "devices": "/devices",
    "device-new": "/devices/new",
    "device-revoke": "/devices/scanner/revoke",
    "messages": "/messages",
    "messages-none": "/messages?q=nobody@nowhere.example",
    "message": "/messages/3f9c2a7be1d04c58",
    "message-refused": "/messages/b1b2c3d4e5f60718",
    "message-new": "/messages/0f0e0d0c0b0a0908",
    "error": "/no/such/page",
}

Visitor = Callable[..., Page]


@pytest.mark.parametrize("language", LOCALES)
def test_every_page(site: Any, visitor: Visitor, axe: Path, language: str) -> None:
    page = visitor(locale=LOCALES[language], logged_in=False, bypass_csp=True)  # axe is a script of ours
    page.add_init_script(path=axe)
    look = Look(page, language)
    page.goto(f"{site.url}/login")
    look.at("login")
    site.log_in(page)
    for name, path in PAGES.items():
        page.goto(site.url + path)
        look.at(name)
    page.goto(f"{site.url}/devices/new")
    page.locator("#name").fill("scanner")
    with page.expect_navigation():  # a click alone would not wait for the new page and its style
        page.locator("main form button").click()
    look.at("device-new-problem")
    assert page.locator("#name").input_value() == "scanner"
    page.locator("#name").fill("label-printer")
    with page.expect_navigation():
        page.locator("main form button").click()
    look.at("device-created")
    assert look.problems == []
    visitor.complaints.clear()  # the browser reports the 4xx answers that were asked for


class Look:
    """Notes what is wrong with a page, and takes its pictures where they are asked for."""

    def __init__(self, page: Page, language: str) -> None:
        self._page = page
        self._language = language
        # axe takes its time: each language is looked at in one of the two extremes.
        self._axe = ("light", "desktop") if language == "en" else ("dark", "phone")
        self.problems: list[str] = []

    def at(self, name: str) -> None:
        page = self._page
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)
            root = "document.documentElement"
            width, room = page.evaluate(f"[{root}.scrollWidth, {root}.clientWidth]")
            if width > room:
                self.problems.append(f"{name}, {size}: {width - room} pixels too wide")
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                if SCREENS:
                    picture = Path(SCREENS, f"{size}-{theme}-{self._language}", f"{name}.png")
                    page.screenshot(path=picture, full_page=True)
                if (theme, size) == self._axe:
                    self._check(name)

    def _check(self, name: str) -> None:
        found = self._page.evaluate("axe.run({resultTypes: ['violations']})")
        self.problems += [
            f"{name}: {each['id']} ({each['impact']}): {each['help']}: "
            + json.dumps([node["html"] for node in each["nodes"]])
            for each in found["violations"]
            if each["impact"] in {"serious", "critical"}
        ]
