"""The console in a real browser, in front of a relay that is not there."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from secrets import token_urlsafe
from types import ModuleType
from typing import Any

import argon2
import pytest
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from relay_app.console import words
from relay_app.console.application import create_app
from relay_app.console.backend import (
    AttemptView,
    HourCount,
    MailboxView,
    MessageView,
    Notice,
    SignInKind,
    SignInState,
    SignInView,
)
from relay_app.console.security import Access
from relay_app.console.server import Console
from relay_app.delivery.replies import TABLE
from relay_app.identity.tokens import State
from relay_app.settings import Endpoint, Flow

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 900}
AXE_VERSION = "4.10.3"
ZONE = "Europe/Berlin"


def _fake() -> ModuleType:
    """The unit tests' relay that is not there: a conftest.py cannot be imported by name from elsewhere."""
    path = ROOT / "tests" / "unit" / "console" / "conftest.py"
    spec = importlib.util.spec_from_file_location("console_fake", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FAKE = _fake()
NOW = FAKE.NOW


class Site:
    """A running console, the relay behind it, and the way in."""

    def __init__(self, backend: Any, address: Endpoint, password: str) -> None:
        self.backend = backend
        self.url = f"http://{address}"
        self._password = password

    def log_in(self, page: Page) -> None:
        page.goto(f"{self.url}/login")
        page.get_by_label("Passwor").fill(self._password)
        page.locator("main button").click()
        page.wait_for_url(f"{self.url}/")


@pytest.fixture(scope="module")  # not longer: Playwright keeps its event loop, and async tests need theirs
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing. Run: sudo tests/system_packages.sh")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A console with a password, in front of a relay with something of everything."""
    monkeypatch.setattr(words, "now", lambda: NOW)
    backend = FAKE.FakeBackend()
    furnish(backend)
    password = token_urlsafe(12)
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    app: Flask = create_app(backend, Access(password_hash=cheap.hash(password), hostname="relay.example.org"))
    console = Console(app, [Endpoint("127.0.0.1", 0)], loopback_only=True)
    console.start()
    yield Site(backend, console.addresses[0], password)
    console.stop()


@pytest.fixture(scope="session")
def axe() -> Path:
    """axe-core's script, from npm when it is not there yet."""
    script = ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        install = ["npm", "install", "--no-save", "--no-audit", "--no-fund"]
        package = f"axe-core@{AXE_VERSION}"
        subprocess.run([*install, "--prefix", ROOT / "build" / "axe", package], check=True, timeout=300)
    return script


Visitor = Callable[..., Page]


@pytest.fixture
def visitor(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Makes browsers that are logged in; whatever goes wrong in their consoles fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def visit(*, logged_in: bool = True, **options: Any) -> Page:
        options = {"viewport": DESKTOP, "locale": "en-GB", "timezone_id": ZONE, **options}
        context = browser.new_context(**options)
        context.set_default_timeout(60_000)
        context.add_cookies([{"name": "zone", "value": ZONE, "url": site.url}])
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        if logged_in:
            site.log_in(page)
        return page

    visit.complaints = complaints  # type: ignore[attr-defined]
    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def furnish(backend: Any) -> None:
    """Something of everything: each state, each outcome, long names, sign-ins at every stage."""
    failing = MailboxView(
        address="notifications-and-reports@a-rather-long-company-name.example.com",
        flow=Flow.CLIENT_CREDENTIALS,
        state=State.FAILING,
        sentence="The client secret has expired.",
        action="In the Entra admin centre open App registrations > the app > Certificates & secrets, make a"
        " new client secret, and put its Value into CLIENT_SECRET.",
        code="AADSTS7000222",
        secret_expires=(NOW - timedelta(days=2)).date(),
    )
    backend.mailbox_views[failing.address] = failing
    backend.relay_view = replace(
        backend.relay_view,
        notices=(
            *backend.relay_view.notices,
            Notice("certificate-self-signed", "The certificate is self-signed. Gmail will not accept it."),
        ),
    )
    backend.reasons = ["me@outlook.com: The sign-in has ended: the password was changed."]
    backend.message_views = [*_messages(), *backend.message_views]
    backend.hour_counts = _hours()
    for view in _sign_ins():
        backend.sign_ins[view.id] = view


def _messages() -> list[MessageView]:
    row = next(row for row in TABLE if row.key == "send-as-denied")
    denied = AttemptView(
        NOW - timedelta(minutes=7),
        0.84,
        "refused",
        "554 5.2.252 SendAsDenied; scanner@example.org not allowed to send as boss@example.org; "
        "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
        row.sentence,
        row.action,
        row.key,
    )
    lost = AttemptView(
        NOW - timedelta(minutes=40),
        61.2,
        "uncertain",
        "451 4.4.2 The connection was lost after the final dot",
        "The message had been sent completely, but Outlook did not confirm it: Outlook may have taken it.",
        "Look in the mailbox's Sent Items first: sending it again may deliver it twice.",
        "unconfirmed",
    )
    busy = AttemptView(
        NOW - timedelta(minutes=3), 0.2, "deferred", "432 4.3.2 Concurrent connections limit exceeded",
        "The mailbox has more than the three connections that Outlook allows.",
        "Send again later. If it happens often, another program sends through the same mailbox.",
        "too-many-connections",
    )  # fmt: skip
    base = MessageView(
        id="a1b2c3d4e5f60718",
        received=NOW - timedelta(minutes=3),
        device="me@outlook.com",
        mailbox="me@outlook.com",
        client="209.85.218.43",
        sender="me@outlook.com",
        recipients=("anna.schmidt@example.net",),
        size=4_321,
        message_id="<CAF+9x7y8z@mail.example.com>",
        attempts=(busy,),
    )
    return [
        replace(base, id="0f0e0d0c0b0a0908", received=NOW, attempts=(), recipients=("just.now@example.net",)),
        base,
        replace(
            base,
            id="b1b2c3d4e5f60718",
            received=NOW - timedelta(minutes=7),
            device="scanner",
            mailbox="office@example.org",
            sender="boss@example.org",
            recipients=("accounts-payable-and-receivable@a-rather-long-company-name.example.com",),
            size=3_456_789,
            attempts=(denied,),
        ),
        replace(
            base, id="c1b2c3d4e5f60718", received=NOW - timedelta(minutes=40), attempts=(lost,), message_id=""
        ),
    ]


def _hours() -> list[HourCount]:
    start = NOW.replace(minute=0) - timedelta(hours=23)
    amounts = [0, 0, 0, 1, 0, 2, 5, 9, 14, 11, 8, 12, 16, 13, 9, 7, 10, 12, 6, 4, 3, 2, 4, 5]
    others = {
        7: ("deferred", 4),
        8: ("deferred", 2),
        12: ("refused", 3),
        16: ("uncertain", 2),
        17: ("refused", 1),
    }
    return [
        HourCount(
            start + timedelta(hours=hour),
            {"accepted": amount, **({others[hour][0]: others[hour][1]} if hour in others else {})},
        )
        for hour, amount in enumerate(amounts)
    ]


def _sign_ins() -> list[SignInView]:
    code = SignInView(
        id="code",
        mailbox="me@outlook.com",
        kind=SignInKind.DEVICE_CODE,
        state=SignInState.WAITING,
        url="https://www.microsoft.com/link",
        user_code="ABCD1234",
        expires=NOW + timedelta(minutes=15),
    )
    here = replace(
        code,
        id="here",
        kind=SignInKind.AUTHORIZATION_CODE,
        url="https://login.microsoftonline.com/consumers/oauth2/v2.0/authorize",
        user_code="",
        redirect_uri="http://localhost:8025/sign-in/callback",
    )
    failed = replace(
        here,
        id="failed",
        state=SignInState.FAILED,
        sentence="The app is a confidential client, and no client secret was sent.",
        action="Set CLIENT_SECRET; or, to use no secret, turn on Allow public client flows on the app's "
        "Authentication page.",
        code="AADSTS7000218",
    )
    done = replace(here, id="done", state=SignInState.DONE, user="me@outlook.com")
    other = replace(here, id="other", state=SignInState.DONE, user="somebody.else@outlook.com")
    return [code, here, failed, done, other]
