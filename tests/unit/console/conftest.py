"""A relay that is not there, for the console: every value is a plain attribute that tests set."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from secrets import token_urlsafe
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from relay_app.console.application import create_app
from relay_app.console.backend import (
    AttemptView,
    Backend,
    DeviceView,
    HourCount,
    MailboxView,
    MessageView,
    NewDevice,
    Notice,
    RelayView,
    RequestError,
    SignInKind,
    SignInState,
    SignInView,
)
from relay_app.console.security import Access
from relay_app.identity.tokens import State
from relay_app.settings import HASHER, DeviceSettings, Flow, ForeignFrom

NOW = datetime(2030, 3, 4, 12, 0, tzinfo=UTC)


class FakeClock:
    """Seconds, which pass only when told to."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeBackend:
    """A `Backend` with one mailbox of each kind, two devices and two messages.

    `failure`, if set, is raised by every method. `calls` has the name of each method that was called.
    `passwords` has what was made for new devices, `hashes` their (invented) hashes. A hash may never be
    shown, a password only once.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.calls: list[str] = []
        self.relay_view = _relay()
        self.mailbox_views: dict[str, MailboxView] = {each.address: each for each in _mailboxes()}
        self.reasons: list[str] = []
        self.device_views: dict[str, DeviceView] = {each.name: each for each in _devices()}
        self.message_views: list[MessageView] = _messages()
        self.hour_counts: list[HourCount] = _hours()
        self.sign_ins: dict[str, SignInView] = {}
        self.metrics_text = b"# TYPE relay_up gauge\nrelay_up 1.0\n"
        self.passwords: list[str] = []
        self.hashes: list[str] = []
        self.answers: list[Mapping[str, str] | str] = []
        """What `redirected` and `pasted` were given: it has authorization codes."""

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure

    def relay(self) -> RelayView:
        self._called("relay")
        return self.relay_view

    def mailboxes(self) -> Sequence[MailboxView]:
        self._called("mailboxes")
        return tuple(self.mailbox_views.values())

    def ready(self) -> Sequence[str]:
        self._called("ready")
        return tuple(self.reasons)

    def devices(self) -> Sequence[DeviceView]:
        self._called("devices")
        return tuple(self.device_views.values())

    def create_device(
        self, *, name: str, mailbox: str, senders: Sequence[str], foreign_from: str, hourly_messages: int
    ) -> NewDevice:
        self._called("create_device")
        if name.lower() in {each.lower() for each in self.device_views}:
            raise RequestError(f"There is a device {name} already. Choose another name.")
        self._mailbox(mailbox)
        password, hashed = token_urlsafe(16), f"$argon2id$v=19$m=19456,t=2,p=1${token_urlsafe(16)}"
        self.passwords.append(password)
        self.hashes.append(hashed)
        self.device_views[name] = DeviceView(
            name, mailbox, tuple(senders), foreign_from, hourly_messages, configured=False, created=NOW
        )
        device = DeviceSettings(
            name, hashed, mailbox, tuple(senders), ForeignFrom(foreign_from), hourly_messages
        )
        return NewDevice(device, password)

    def revoke_device(self, name: str) -> None:
        self._called("revoke_device")
        device = self.device_views.get(name)
        if device is None:
            raise RequestError(f"There is no device {name}.")
        if device.configured:
            raise RequestError(f"{name} comes from the configuration. Remove it there.")
        del self.device_views[name]

    def recent(self, limit: int) -> Sequence[MessageView]:
        self._called("recent")
        return tuple(self.message_views[:limit])

    def find(self, text: str, limit: int) -> Sequence[MessageView]:
        self._called("find")
        return tuple(
            each
            for each in self.message_views
            if text in (each.id, each.message_id) or any(text in to for to in (*each.recipients, each.sender))
        )[:limit]

    def message(self, id: str) -> MessageView:
        self._called("message")
        for each in self.message_views:
            if each.id == id:
                return each
        raise RequestError(f"There is no message {id}.")

    def hours(self) -> Sequence[HourCount]:
        self._called("hours")
        return tuple(self.hour_counts)

    def begin_sign_in(self, mailbox: str, kind: SignInKind, redirect_uri: str) -> SignInView:
        self._called("begin_sign_in")
        if kind not in self._mailbox(mailbox).sign_in_kinds:
            raise RequestError(f"{mailbox} cannot be signed in this way.")
        view = SignInView(
            id=token_urlsafe(16),
            mailbox=mailbox,
            kind=kind,
            state=SignInState.WAITING,
            url="https://login.microsoftonline.com/consumers/oauth2/v2.0/authorize?client_id=x",
            redirect_uri=redirect_uri,
            expires=NOW + timedelta(minutes=15),
        )
        if kind is SignInKind.DEVICE_CODE:
            view = replace(view, url="https://www.microsoft.com/link", user_code="ABCD1234", redirect_uri="")
        self.sign_ins[view.id] = view
        return view

    def sign_in(self, id: str) -> SignInView:
        self._called("sign_in")
        if id not in self.sign_ins:
            raise RequestError("There is no such sign-in. Begin a new one.")
        return self.sign_ins[id]

    def redirected(self, parameters: Mapping[str, str]) -> SignInView:
        """`state` is the sign-in's id."""
        self._called("redirected")
        self.answers.append(dict(parameters))
        return self._complete(parameters.get("state", ""))

    def pasted(self, id: str, address: str) -> SignInView:
        self._called("pasted")
        self.answers.append(address)
        if "code=" not in address:
            raise RequestError("That address has no code. Paste the whole address you ended up on.")
        return self._complete(id)

    def confirm(self, id: str) -> SignInView:
        self._called("confirm")
        if not self.sign_in(id).confirmable:
            raise RequestError("There is nothing to confirm in this sign-in.")
        return self._complete(id)

    def retry(self, mailbox: str) -> MailboxView:
        self._called("retry")
        view = replace(self._mailbox(mailbox), state=State.OK, sentence="", action="", code="")
        self.mailbox_views[mailbox] = view
        return view

    def metrics(self) -> bytes:
        self._called("metrics")
        return self.metrics_text

    def _mailbox(self, address: str) -> MailboxView:
        if address not in self.mailbox_views:
            raise RequestError(f"There is no mailbox {address}.")
        return self.mailbox_views[address]

    def _complete(self, id: str) -> SignInView:
        if id not in self.sign_ins:
            raise RequestError("There is no such sign-in. Begin a new one.")
        self.sign_ins[id] = replace(self.sign_ins[id], state=SignInState.DONE, user=self.sign_ins[id].mailbox)
        return self.sign_ins[id]


def _relay() -> RelayView:
    return RelayView(
        version="0.1.0",
        hostname="relay.example.org",
        submission_port=587,
        tls_port=465,
        certificate_expires=NOW + timedelta(days=60),
        alerts=False,
        notices=(Notice("no-alerts", "Nobody is told when something is wrong: set RELAY_ALERT_URLS."),),
    )


def _mailboxes() -> list[MailboxView]:
    return [
        MailboxView(
            address="me@outlook.com",
            flow=Flow.AUTHORIZATION_CODE,
            state=State.SIGN_IN_NEEDED,
            sentence="The sign-in has ended: the password was changed.",
            action="Sign in again.",
            code="AADSTS50173",
            sign_in_kinds=(SignInKind.DEVICE_CODE, SignInKind.AUTHORIZATION_CODE),
        ),
        MailboxView(
            address="office@example.org",
            flow=Flow.CLIENT_CREDENTIALS,
            state=State.OK,
            user="office@example.org",
            token_expires=NOW + timedelta(minutes=55),
            next_refresh=NOW + timedelta(minutes=41),
            secret_expires=date(2030, 12, 24),
            connections_open=2,
            connections_busy=1,
        ),
    ]


def _devices() -> list[DeviceView]:
    return [
        DeviceView("me@outlook.com", "me@outlook.com", (), "refuse", 0, configured=True, last_seen=NOW),
        DeviceView(
            "scanner",
            "office@example.org",
            ("scanner@example.org", "*@reports.example.org"),
            "rewrite",
            100,
            configured=False,
            created=NOW - timedelta(days=3),
        ),
    ]


def _messages() -> list[MessageView]:
    accepted = AttemptView(NOW, 1.25, "accepted", "250 2.0.0 OK")
    deferred = AttemptView(
        NOW - timedelta(minutes=5),
        0.5,
        "deferred",
        "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
        "Outlook takes no more connections from this mailbox at the moment.",
        "Nothing: it is tried again.",
        "concurrent-connections",
    )
    return [
        MessageView(
            id="3f9c2a7be1d04c58",
            received=NOW,
            device="me@outlook.com",
            mailbox="me@outlook.com",
            client="192.0.2.7",
            sender="me@outlook.com",
            recipients=("friend@example.net", "other@example.com"),
            size=20_480,
            message_id="<one@example.org>",
            attempts=(replace(deferred), accepted),
        ),
        MessageView(
            id="77aa01c4de995b32",
            received=NOW - timedelta(hours=1),
            device="scanner",
            mailbox="office@example.org",
            client="2001:db8::17",
            sender="scanner@example.org",
            recipients=("nobody@example.net",),
            size=1_048_576,
            message_id="<two@example.org>",
            attempts=(
                AttemptView(
                    NOW - timedelta(hours=1),
                    0.7,
                    "refused",
                    "550 5.1.1 User unknown",
                    "There is no such recipient.",
                    "Correct the address.",
                    "no-such-recipient",
                ),
            ),
        ),
    ]


def _hours() -> list[HourCount]:
    start = NOW - timedelta(hours=23)
    return [
        HourCount(start + timedelta(hours=hour), {"accepted": hour, "refused": hour % 3} if hour else {})
        for hour in range(24)
    ]


class Browser:
    """A browser with cookies of its own, on one console."""

    def __init__(
        self, app: Flask, *, address: str = "192.0.2.9", host: str = "192.0.2.1:8025", scheme: str = "http"
    ) -> None:
        self.client: FlaskClient = app.test_client()
        self.environ = {"REMOTE_ADDR": address}
        self.base = f"{scheme}://{host}"
        self.headers = {"Referer": f"{self.base}/"}

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.request("GET", path, **headers)

    def request(self, method: str, path: str, data: object = None, **headers: str) -> TestResponse:
        """`headers`: with underscores for hyphens."""
        named = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(
            path, self.base, method=method, data=data, headers=named, environ_base=self.environ
        )

    @property
    def session(self) -> str:
        """The session cookie."""
        cookie = self.client.get_cookie("smtp_relay_session", self._domain)
        return cookie.value if cookie else ""

    @session.setter
    def session(self, value: str) -> None:
        self.client.set_cookie("smtp_relay_session", value, domain=self._domain)

    @property
    def _domain(self) -> str:
        return urlsplit(self.base).hostname or ""

    def token(self) -> str:
        """A CSRF token for this browser's session."""
        for path in ("/login", "/devices/new"):
            found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(path).text)
            if found:
                return found[1]
        raise AssertionError("no page has a CSRF token")

    def submit(self, path: str, **fields: str) -> TestResponse:
        """Send a form as a page of the console has it."""
        return self.request("POST", path, {"csrf_token": self.token(), **fields})

    def log_in(self, password: str, next: str = "/devices") -> TestResponse:
        return self.submit("/login", password=password, next=next)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def password() -> str:
    return token_urlsafe(12)


@pytest.fixture(scope="session")
def password_hash(password: str) -> str:
    return HASHER.hash(password)


@pytest.fixture
def access(password_hash: str) -> Access:
    """A console with a password and a token, known as relay.example.org and https://console.example.org."""
    return Access(password_hash, token_urlsafe(24), "relay.example.org", "https://console.example.org")


@pytest.fixture
def app(backend: FakeBackend, access: Access, clock: FakeClock) -> Flask:
    return create_app(backend, access, clock=clock)


@pytest.fixture
def new_browser() -> type[Browser]:
    """To make more of them."""
    return Browser


@pytest.fixture
def browser(app: Flask) -> Browser:
    """Not logged in."""
    return Browser(app)


@pytest.fixture
def owner(app: Flask, password: str) -> Browser:
    """Logged in."""
    browser = Browser(app)
    assert browser.log_in(password).status_code == 303
    return browser


@pytest.fixture
def local(backend: FakeBackend, clock: FakeClock) -> Browser:
    """On the machine of a console without a password."""
    return Browser(create_app(backend, Access(), clock=clock), address="127.0.0.1", host="localhost:8025")


_IS_ONE: type[Backend] = FakeBackend  # for mypy
