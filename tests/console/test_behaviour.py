"""What the pages do in a browser: with JavaScript, without it, and with a keyboard alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from relay_app.console.backend import SignInState
from relay_app.identity.tokens import State

Visitor = Callable[..., Page]


def test_a_sign_in_that_completes_is_noticed(site: Any, visitor: Visitor) -> None:
    page = visitor()
    page.goto(f"{site.url}/sign-in/me@outlook.com")
    page.get_by_role("button", name="Get a code").click()
    expect(page.locator(".code")).to_contain_text("ABCD1234")
    id = page.url.rsplit("/", 1)[1]
    site.backend.sign_ins[id] = replace(
        site.backend.sign_ins[id], state=SignInState.DONE, user="me@outlook.com"
    )
    expect(page.get_by_role("heading", name="Signed in")).to_be_visible()


def test_what_is_being_pasted_is_not_taken_away(site: Any, visitor: Visitor) -> None:
    page = visitor()
    page.clock.install()
    page.goto(f"{site.url}/sign-ins/here")
    page.locator("#address").fill("http://localhost:8025/sign-in/callback?co")
    page.locator("h1").click()  # the field has no focus any more
    with page.expect_response("**/sign-ins/here"):
        page.clock.run_for(3000)
    with page.expect_response("**/sign-ins/here"):
        page.clock.run_for(3000)
    assert page.locator("#address").input_value() == "http://localhost:8025/sign-in/callback?co"


def test_the_overview_stays_current(site: Any, visitor: Visitor) -> None:
    page = visitor()
    page.clock.install()
    page.goto(site.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Some mail cannot go out")
    views = site.backend.mailbox_views
    views["me@outlook.com"] = replace(
        views["me@outlook.com"], state=State.OK, sentence="", action="", code=""
    )
    site.backend.reasons = []
    page.clock.run_for(11_000)
    expect(page.get_by_role("heading", level=1)).to_have_text("Everything is ready to send")


def test_a_lost_connection_is_said_and_its_return_noticed(site: Any, visitor: Visitor) -> None:
    page = visitor()
    page.clock.install()
    page.goto(site.url)
    page.context.set_offline(True)
    page.clock.run_for(11_000)
    expect(page.get_by_role("status")).to_contain_text("No connection to the relay.")
    page.context.set_offline(False)
    page.clock.run_for(11_000)
    expect(page.get_by_role("status")).to_have_count(0)
    visitor.complaints.clear()  # the browser's own, about being offline


def test_a_session_that_ends_leads_to_the_login(site: Any, visitor: Visitor) -> None:
    page = visitor()
    page.clock.install()
    page.goto(site.url)
    page.context.clear_cookies()
    page.clock.run_for(11_000)
    page.wait_for_url("**/login?next=**")


@pytest.mark.parametrize("api", [True, False], ids=["clipboard", "older command"])
def test_copy(site: Any, visitor: Visitor, api: bool) -> None:
    page = visitor(permissions=["clipboard-read", "clipboard-write"])
    if not api:  # as on http://tower:8025
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(f"{site.url}/gmail")
    button = page.locator("[data-name=server] + button")
    assert button.inner_text().split() == ["Copy", "relay.example.org"]
    button.click()
    expect(button).to_contain_text("Copied")
    page.goto(f"{site.url}/messages")
    page.locator("#q").focus()
    page.keyboard.press("Control+V")
    assert page.locator("#q").input_value() == "relay.example.org"


def test_the_browsers_time_zone_is_used(site: Any, visitor: Visitor) -> None:
    page = visitor(timezone_id="Asia/Tokyo")
    page.context.clear_cookies(name="zone")
    page.goto(f"{site.url}/messages/3f9c2a7be1d04c58")
    expect(page.locator("time").first).to_have_text("21:00")
    expect(page.locator("footer")).to_contain_text("Times: JST")


def test_light_or_dark_can_be_chosen(site: Any, visitor: Visitor) -> None:
    page = visitor(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Dark").click()
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    dark = page.evaluate(background)
    assert dark != light
    page.emulate_media(color_scheme="dark")
    page.get_by_role("button", name="Automatic").click()
    expect(page.get_by_role("button", name="Automatic")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(background) == dark


def test_the_language_can_be_chosen_and_is_remembered(site: Any, visitor: Visitor) -> None:
    page = visitor()
    page.goto(f"{site.url}/messages?q=scanner")
    page.get_by_role("button", name="Deutsch").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Nachrichten")
    assert page.url == f"{site.url}/messages?q=scanner"
    page.get_by_role("link", name="Geräte").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Geräte")


def test_everything_can_be_done_without_javascript(site: Any, visitor: Visitor) -> None:
    page = visitor(java_script_enabled=False)
    page.get_by_role("link", name="Devices").click()
    page.get_by_role("link", name="Add a device").click()
    page.get_by_label("Name").fill("label-printer")
    page.get_by_role("button", name="Add the device").click()
    [password] = site.backend.passwords
    assert page.locator(".password code").inner_text() == password
    page.goto(f"{site.url}/devices/label-printer/revoke")
    page.get_by_role("button", name="Revoke it").click()
    assert "label-printer" not in site.backend.device_views
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("link", name="Sign in", exact=True).click()
    page.get_by_role("button", name="Go on in this browser").click()
    page.get_by_label("The address you ended up on").fill(
        "http://localhost:8025/sign-in/callback?code=x&state=y"
    )
    page.get_by_role("button", name="Complete the sign-in").click()
    expect(page.get_by_role("heading", name="Signed in")).to_be_visible()
    page.goto(f"{site.url}/gmail")
    page.get_by_label("Values for the device").select_option("scanner")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("[data-name=user]")).to_have_text("scanner")
    page.get_by_role("link", name="Messages").click()
    page.get_by_role("searchbox").fill("boss@")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="accounts-payable").click()
    expect(page.locator(".reply")).to_contain_text("SendAsDenied")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password of the console")).to_be_visible()


@pytest.mark.parametrize("path", ["/", "/devices/new", "/gmail?device=scanner", "/messages"])
def test_the_keyboards_focus_can_be_seen_wherever_it_goes(site: Any, visitor: Visitor, path: str) -> None:
    page = visitor()
    page.goto(site.url + path)
    seen = []
    for _ in range(200):
        page.keyboard.press("Tab")
        style = page.evaluate(
            """() => {
                const element = document.activeElement;
                if (element === document.body) return null;
                const style = getComputedStyle(element);
                const box = element.getBoundingClientRect();
                return [element.outerHTML.slice(0, 80), style.outlineStyle, parseFloat(style.outlineWidth),
                        box.width > 0 && box.bottom > 0 && box.top < innerHeight];
            }"""
        )
        if style is None:
            break
        seen.append(style)
    assert 8 < len(seen) < 200
    assert [each for each in seen if each[1] == "none" or each[2] < 2 or not each[3]] == []
    assert "button small" in seen[-1][0]  # the last of the page: Log out
